//! Logical decoding messages: bytes in the WAL that our output plugin finds again.

use spock_core::types::Lsn;

use crate::pg::compat::server::log_logical_message;
use pgrx::pg_sys;

/// Prefix by which the output plugin knows our messages.
const PREFIX: &core::ffi::CStr = c"Spock";

/// Prefix of announcements, which only some peers get.
const ANNOUNCEMENT: &core::ffi::CStr = c"spock_applied";

/// Prefix of what is said around a DELETE of a displaced row: `spock_core::wire::row::DISPLACED_PREFIX`.
const DISPLACED: &core::ffi::CStr = c"spock_displaced";

/// A displaced row is deleted from here on, or is no more: decoded at its place among the changes of the current transaction.
pub fn write_displacing(begins: bool) {
    // SAFETY: the pointers are valid for the call; the record is written by the server, which raises on failure.
    unsafe { log_logical_message(DISPLACED, &[u8::from(begins)], true) };
}

/// Writes an announcement outside transactions and waits until it is on disk, and with it all that was written before. Returns
/// the end of its record.
pub fn write_announcement(payload: &[u8]) -> Option<Lsn> {
    // SAFETY: the pointers are valid for the call; the record is written by the server, which raises on failure.
    let end = unsafe {
        let end = log_logical_message(ANNOUNCEMENT, payload, false);
        pg_sys::XLogFlush(end);
        end
    };
    Lsn::new(end)
}

/// Writes a message that is decoded at its place among the changes of the current transaction, if that commits. Returns the end
/// of its record.
pub fn write_in_transaction(payload: &[u8]) -> Option<Lsn> {
    // SAFETY: the pointers are valid for the call; the record is written by the server, which raises on failure.
    Lsn::new(unsafe { log_logical_message(PREFIX, payload, true) })
}

/// Writes a message and waits until it is on disk. Returns the end of its record. A transactional message is decoded at
/// the commit of the current transaction, another one at its own place.
pub fn write_flushed(payload: &[u8], transactional: bool) -> Option<Lsn> {
    // SAFETY: the pointers are valid for the call; the record is written by the server, which raises on failure.
    let end = unsafe {
        let end = log_logical_message(PREFIX, payload, transactional);
        pg_sys::XLogFlush(end);
        end
    };
    Lsn::new(end)
}
