//! Statistics of our own in the server's collector: from PostgreSQL 18 on, so not on 15.

use pgrx::pg_sys;

/// The server keeps statistics of extensions.
pub const KEEPS: bool = false;

/// What is kept of one object.
pub type Totals = ([u64; 7], pg_sys::TimestampTz);

/// Nothing to register.
///
/// # Safety
/// None.
pub unsafe fn register() {}

/// Not kept here: callers look at [`KEEPS`].
///
/// # Safety
/// None.
pub unsafe fn add(_object: u64, _added: &[u64; 7]) {}

/// Nothing is kept here.
///
/// # Safety
/// None.
pub unsafe fn fetch(_object: u64) -> Option<Totals> {
    None
}

/// Nothing is kept here.
///
/// # Safety
/// None.
pub unsafe fn reset(_object: u64) {}

/// Nothing is kept here.
///
/// # Safety
/// None.
pub unsafe fn drop_at_commit(_object: u64) {}
