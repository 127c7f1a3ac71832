//! Server facts of PostgreSQL 16.

use core::ffi::CStr;
use pgrx::pg_sys;

/// The major that this file is for.
pub const MAJOR: u32 = 16;

/// C: LogLogicalMessage(prefix, message, size, transactional[, flush: new in 17]). Returns the end of the record.
///
/// # Safety
/// Inside a transaction of a backend that may write WAL.
pub unsafe fn log_logical_message(prefix: &CStr, payload: &[u8], transactional: bool) -> pg_sys::XLogRecPtr {
    // SAFETY: the caller's promise; the server copies the bytes before it returns.
    unsafe { pg_sys::LogLogicalMessage(prefix.as_ptr(), payload.as_ptr().cast(), payload.len(), transactional) }
}
