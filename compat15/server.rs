//! Server facts of PostgreSQL 15.

/// The major that this file is for.
pub const MAJOR: u32 = 15;
