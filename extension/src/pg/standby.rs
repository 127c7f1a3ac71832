//! What a server knows about being a standby: recovery, the way to its primary, how far WAL has come.

use crate::pg::server;
use pgrx::pg_sys;
use spock_core::types::Lsn;

/// Whether the server is recovering or a standby.
pub fn in_recovery() -> bool {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// How far WAL is replayed. `None`: nothing yet.
pub fn replayed() -> Option<Lsn> {
    // SAFETY: reads shared memory; no timeline is asked for.
    Lsn::new(unsafe { pg_sys::GetXLogReplayRecPtr(core::ptr::null_mut()) })
}

/// Whether WAL is being received.
pub fn is_receiving() -> bool {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::WalRcvStreaming() }
}

/// Whether the primary hears which rows are needed here.
pub fn sends_feedback() -> bool {
    // SAFETY: reads a setting of this process.
    unsafe { pg_sys::hot_standby_feedback }
}

/// Name of this standby's slot on the primary.
pub fn primary_slot_name() -> Option<String> {
    server::setting("primary_slot_name").filter(|name| !name.is_empty())
}

/// How the server reaches the primary. May hold a password.
pub fn primary_conninfo() -> Option<String> {
    server::setting("primary_conninfo").filter(|conninfo| !conninfo.trim().is_empty())
}

/// Whether the server copies slots itself.
pub fn copies_slots_natively() -> bool {
    server::setting("sync_replication_slots").is_some_and(|value| value == "on")
}
