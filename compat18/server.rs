//! Server facts of PostgreSQL 18.

/// The major that this file is for.
pub const MAJOR: u32 = 18;
