//! Is a table the same here and on another node, which rows are not, and making them so. The statements and the decisions
//! are `spock_core::compare`.
//!
//! # Invariants
//! 1. A table is read as the caller here; on the peer, which the subscription's connection string leads to, only what a role
//!    of the caller's name may read there.
//! 2. A row is reported when it differs at a cut: everything that either side had when the row was first read has been
//!    applied on the other side before it is read again.
//! 3. Nothing here grows with the table: buckets and rows come in portions of a fixed size.
//! 4. A repaired row carries the time and origin of the version that won, in a transaction that is not sent on.

pub mod cut;
mod find;
mod plan;
pub mod repair;
mod side;
pub mod write;

pub use find::{Found, find};
pub use plan::{Plan, digest_shape};
pub use side::{Here, Side};
