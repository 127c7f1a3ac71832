//! Server facts of PostgreSQL 16.

/// The major that this file is for.
pub const MAJOR: u32 = 16;
