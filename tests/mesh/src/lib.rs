//! Clusters of real servers: the stories, the regress runner and `cargo xtask demo` all stand on this crate.
//!
//! From the bottom up: [`prefix`] knows an installation and which account may run it, [`process`] starts and ends
//! children, [`node`] is one server with its data directory, [`cluster`] is several in one temporary directory,
//! [`topology`] says `spock.*` to them, [`mesh`] turns that into the verbs of a story, [`demo`] into a show, [`bench`] into a
//! comparison, [`chaos`] into a trial by faults, [`manual`] plays the user manual.
//!
//! **Invariants.** Every server runs as an unprivileged account, listens on a socket in a directory of its own (and on
//! loopback when asked to), and dies with the process that started it. Every wait goes through [`wait::wait_until`] and
//! has a deadline. Functions return [`MeshError`]; only the story verbs (`mesh`, `story`, `writer`) panic, and then a
//! bundle with all logs is left behind.

pub mod account;
pub mod bench;
pub mod bundle;
pub mod chaos;
pub mod cluster;
pub mod demo;
pub mod error;
pub mod former;
pub mod log;
pub mod manual;
pub mod mesh;
pub mod node;
pub mod pgbench;
pub mod prefix;
pub mod process;
pub mod regress;
pub mod session;
pub mod story;
pub mod topology;
pub mod wait;
pub mod writer;

pub use cluster::{Cluster, ClusterOptions};
pub use demo::{DemoOptions, DemoReport, NodeReport};
pub use error::MeshError;
pub use mesh::Mesh;
pub use node::{Node, Stop};
pub use prefix::{Major, Prefix, ServerKind};
pub use session::{Rows, SqlError};
pub use wait::Deadline;
