//! Logical messages: bytes in the WAL that the output plugin finds again. What it acts upon is no logical message, but
//! [`super::own_message`].

use super::own_message;
use crate::pg::compat::server::log_logical_message;
use pgrx::pg_sys;
use spock_core::types::Lsn;
use spock_core::wire::own_message::OwnMessage;

/// Prefix by which the output plugin knows our logical messages, and peers of the C edition theirs.
const PREFIX: &core::ffi::CStr = c"Spock";

/// A displaced row is deleted from here on, or is no more: decoded at its place among the changes of the current transaction.
pub fn write_displacing(begins: bool) {
    own_message::write(OwnMessage::Displacing(begins));
}

/// Writes an announcement outside transactions and waits until it is on disk, and with it all that was written before.
pub fn write_announcement(body: &[u8]) {
    let end = own_message::write(OwnMessage::Announcement(body));
    // SAFETY: waits for a record that was inserted.
    unsafe { pg_sys::XLogFlush(end) }
}

/// What follows in the current transaction is for this node alone, or is not any more. Returns the end of the record.
pub fn write_repairing(begins: bool) -> Option<Lsn> {
    Lsn::new(own_message::write(OwnMessage::Repairing(begins)))
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
