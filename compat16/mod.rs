//! What is particular to PostgreSQL 16. Chosen by `extension/src/pg/compat.rs`; paths in here are absolute (`crate::…`).

pub mod decoding;
pub mod executor;
pub mod process;
pub mod server;
pub mod slot;
pub mod statistics;
