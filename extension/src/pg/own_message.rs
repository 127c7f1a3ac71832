//! Messages in the WAL that nobody but this extension can have written.
//!
//! Any user may write a logical message under any prefix (`pg_logical_emit_message`). What the output plugin acts upon therefore
//! stands in records of our own resource manager, which no SQL function writes:
//!
//! ```text
//! write ─► record of resource manager 144 ─► decode: body and a secret of this process ─► reorder buffer ─► plugin: open
//! ```
//! The reorder buffer hands messages on by prefix and bytes alone, and mixes ours with everybody's. The secret in front of the
//! body, made when a process decodes its first record, tells them apart.

use super::compat::decoding as compat;
use super::compat::executor::register_wal_data;
use super::process;
use super::resource_manager;
use crate::error::Report;
use core::ffi::CStr;
use pgrx::{PgSqlErrorCode, pg_sys};
use spock_core::wire::own_message::OwnMessage;
use std::cell::OnceCell;

/// The database that a record is of, in host byte order, stands in front of the message.
const DATABASE: usize = 4;

/// Under this prefix the reorder buffer has them.
const PREFIX: &CStr = c"spock_own";

/// Bytes of the secret.
const SECRET: usize = 16;

/// Writes a message. Returns the end of its record, which is not flushed.
pub fn write(message: OwnMessage<'_>) -> pg_sys::XLogRecPtr {
    let record = [&process::own_database().to_ne_bytes()[..], &message.to_bytes()].concat();
    // SAFETY: the record is built and inserted before its bytes end. An ERROR in between resets the construction, and unwinds
    // through this frame, which drops them.
    unsafe {
        if message.is_transactional() {
            // The record belongs to the transaction by this number.
            pg_sys::GetCurrentTransactionId();
        }
        pg_sys::XLogBeginInsert();
        register_wal_data(&record);
        pg_sys::XLogInsert(resource_manager::ID, resource_manager::INFO_MESSAGE)
    }
}

/// Hands the message in a record of ours to the reorder buffer, as the server does with a logical message. Only where our plugin
/// decodes: others do not know what to make of it.
///
/// # Safety
/// The server decodes the record in `buffer`, of which `body` are the bytes.
pub unsafe fn decode(ctx: *mut pg_sys::LogicalDecodingContext, buffer: *mut pg_sys::XLogRecordBuffer, body: &[u8]) {
    let Some((database, bytes)) = body.split_first_chunk::<DATABASE>() else { return };
    let Some(message) = OwnMessage::read(bytes) else { return };
    // SAFETY: by contract both structs are live, and the slot is held. The reorder buffer copies what it keeps. An ERROR unwinds
    // through this frame and drops the copy of the message.
    unsafe {
        let (builder, at) = ((*ctx).snapshot_builder, (*buffer).origptr);
        let slot = &(*(*ctx).slot).data;
        let ours = matches!(CStr::from_ptr(slot.plugin.data.as_ptr()).to_bytes(), b"spock_output" | b"spock");
        if (*ctx).fast_forward || !ours || slot.database.to_u32() != u32::from_ne_bytes(*database) {
            return;
        }
        let state = pg_sys::SnapBuildCurrentState(builder);
        if state < pg_sys::SnapBuildState::SNAPBUILD_FULL_SNAPSHOT {
            return;
        }
        let xid = (*(*(*buffer).record).record).header.xl_xid;
        let transactional = message.is_transactional();
        let wanted = match transactional {
            true => pg_sys::SnapBuildProcessChange(builder, xid, at),
            false => {
                state == pg_sys::SnapBuildState::SNAPBUILD_CONSISTENT && !pg_sys::SnapBuildXactNeedsSkip(builder, at)
            }
        };
        if !wanted {
            return;
        }
        let snapshot = match transactional {
            true => core::ptr::null_mut(),
            false => compat::snapshot(builder, xid),
        };
        let kept = [&secret()[..], bytes].concat();
        pg_sys::ReorderBufferQueueMessage(
            (*ctx).reorder,
            xid,
            snapshot,
            (*buffer).endptr,
            transactional,
            PREFIX.as_ptr(),
            kept.len(),
            kept.as_ptr().cast(),
        );
    }
}

/// A record for people.
pub fn describe(body: &[u8]) -> Option<String> {
    let (database, bytes) = body.split_first_chunk::<DATABASE>()?;
    let message = OwnMessage::read(bytes)?;
    Some(format!("database {} {message:?}", u32::from_ne_bytes(*database)))
}

/// The message of ours in what the reorder buffer hands to the plugin; `None`: somebody else's.
pub fn open<'m>(prefix: &CStr, payload: &'m [u8]) -> Option<OwnMessage<'m>> {
    let (mark, bytes) = payload.split_first_chunk::<SECRET>().filter(|_| prefix == PREFIX)?;
    (*mark == secret()).then(|| OwnMessage::read(bytes)).flatten()
}

/// Of this process.
fn secret() -> [u8; SECRET] {
    thread_local! {
        static OWN: OnceCell<[u8; SECRET]> = const { OnceCell::new() };
    }
    OWN.with(|own| *own.get_or_init(random))
}

fn random() -> [u8; SECRET] {
    let mut bytes = [0; SECRET];
    // SAFETY: writes as many bytes as the array has.
    if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), SECRET) } {
        let code = PgSqlErrorCode::ERRCODE_INTERNAL_ERROR;
        Report::new(code, "the system has no random numbers for logical decoding").raise();
    }
    bytes
}
