//! Rows of our own tables as Rust structs; no policy. Everybody reads them; `sql` and the workers write them.
//!
//! # Invariants
//! 1. A function here needs an open transaction; it takes its own snapshot and its own rights ([`query`]).
//! 2. Column numbers and names are those of the C edition: the tables of an existing database are read as they are.

pub mod deltas;
pub mod dependency;
pub mod displaced;
pub mod dsn;
pub mod exceptions;
pub mod extension;
pub mod parked;
pub mod query;
pub mod queue;
pub mod relations;
pub mod repset;
pub mod resolutions;
pub mod rests;
pub mod sequence;
pub mod slots;
pub mod sync;
pub mod tombstones;
pub mod topology;
