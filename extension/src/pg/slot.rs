//! Replication slots of this server, as a session uses them.

use super::compat::server as compat;
use pgrx::{PgSqlErrorCode, pg_sys};
use spock_core::types::Lsn;
use std::ffi::CString;

use crate::error::Report;

pub use compat::KNOWS_FAILOVER_SLOTS;

/// A slot that this session holds, so that nobody else moves it or removes the WAL behind it.
///
/// On ERROR: still released. The server would do so only at the end of the statement, and an exception block may come first.
pub struct HeldSlot(());

impl HeldSlot {
    /// Takes a logical slot. Raises 42704 when there is none of that name and 55006 when it is in use.
    pub fn take(name: &str) -> Result<Self, Report> {
        let text = CString::new(name).unwrap_or_default();
        // SAFETY: a session that runs a function holds no slot.
        unsafe { compat::acquire_slot(&text) }
        let held = Self(());
        // SAFETY: taken above.
        let physical = unsafe { (*pg_sys::MyReplicationSlot).data.database == pg_sys::InvalidOid };
        if physical {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("replication slot \"{name}\" is a physical slot"),
            ));
        }
        Ok(held)
    }

    /// The oldest WAL that it keeps. `None`: it has not reserved any yet.
    pub fn restart_lsn(&self) -> Option<Lsn> {
        // SAFETY: this process holds the slot, and nobody else changes it.
        Lsn::new(unsafe { (*pg_sys::MyReplicationSlot).data.restart_lsn })
    }
}

impl Drop for HeldSlot {
    fn drop(&mut self) {
        // SAFETY: releases what this process holds, if the server has not done so.
        unsafe {
            if !pg_sys::MyReplicationSlot.is_null() {
                pg_sys::ReplicationSlotRelease();
            }
        }
    }
}

/// Lets a slot follow to standbys, on disk too. From 17 on; raises what is wrong with it.
pub fn set_failover(name: &str) {
    let text = CString::new(name).unwrap_or_default();
    // The server releases it, unless it raises.
    let _released = HeldSlot(());
    // SAFETY: a session that runs a function holds no slot.
    unsafe { compat::set_slot_failover(&text) }
}

/// Whether this server follows another one.
pub fn in_recovery() -> bool {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// End of the last commit of this session, else where WAL is being written now.
pub fn last_written() -> Option<Lsn> {
    // SAFETY: a variable of this process, and shared memory of the server.
    let end = unsafe {
        if pg_sys::XactLastCommitEnd != 0 { pg_sys::XactLastCommitEnd } else { pg_sys::GetXLogInsertRecPtr() }
    };
    Lsn::new(end)
}
