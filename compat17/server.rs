//! Server facts of PostgreSQL 17.

/// The major that this file is for.
pub const MAJOR: u32 = 17;
