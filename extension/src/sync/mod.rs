//! Copying what was there before a stream began.
//!
//! `provider` asks the provider (slot with snapshot, tables, columns), `copy` brings the rows of one table here.
//!
//! # Invariants
//! 1. Slot, snapshot and origin stand at one LSN: what committed before it is copied, what committed after it is streamed.
//! 2. Copied rows carry the provider's node id as origin and 1970-01-01 as commit time ([`copy::stamp`]).
//! 3. Rows, and the state that says that they are here, are one commit.

pub mod copy;
pub mod provider;
