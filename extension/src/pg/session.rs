//! The apply worker's session: settings that must not come from configuration, the user that code of table owners runs
//! as, the clock, and how far WAL is safe on disk.

use super::relation::Table;
use pgrx::pg_sys;
use spock_core::types::{Lsn, PgTime};
use std::ffi::CStr;

/// Microseconds since 2000-01-01 00:00 UTC, by the local clock.
pub fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// A time as the server writes it, in the session's time zone.
pub fn time_text(time: PgTime) -> String {
    // SAFETY: returns a NUL-terminated text in a static buffer, copied at once.
    unsafe { CStr::from_ptr(pg_sys::timestamptz_to_str(time.micros())) }.to_string_lossy().into_owned()
}

/// WAL up to here is on disk.
pub fn flushed_lsn() -> u64 {
    // SAFETY: outside recovery; the timeline is not asked for.
    unsafe { pg_sys::GetFlushRecPtr(core::ptr::null_mut()) }
}

/// WAL up to here cannot be lost with this server: it is on disk, and where synchronous standbys are set, enough of them have
/// it on theirs. One of them may take this server's place.
pub fn safe_lsn() -> u64 {
    let flushed = flushed_lsn();
    // SAFETY: a setting of this process, null or a string; shared memory that the server has set up. The position is one
    // aligned word that only grows.
    unsafe {
        if pg_sys::SyncRepStandbyNames.is_null() || *pg_sys::SyncRepStandbyNames == 0 || pg_sys::max_wal_senders == 0 {
            return flushed;
        }
        let confirmed = (&raw const (*pg_sys::WalSndCtl).lsn[pg_sys::SYNC_REP_WAIT_FLUSH as usize]).read_volatile();
        flushed.min(confirmed)
    }
}

/// Where the next WAL record goes: all that is in the WAL lies before.
pub fn insert_position() -> Option<Lsn> {
    // SAFETY: outside recovery; reads shared memory.
    Lsn::new(unsafe { pg_sys::GetXLogInsertRecPtr() })
}

/// Makes the commit of the open transaction wait until it is on disk, whatever `synchronous_commit` says.
pub fn force_sync_commit() {
    // SAFETY: sets a flag of the open transaction.
    unsafe { pg_sys::ForceSyncCommit() }
}

/// End of the commit record that this process wrote last, 0: none.
pub fn last_commit_end() -> u64 {
    // SAFETY: a global of this backend.
    unsafe { pg_sys::XactLastCommitEnd }
}

/// The xid of the open transaction, if it has one.
pub fn current_xid() -> Option<u32> {
    // SAFETY: reads the state of this backend.
    let xid = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    (xid != pg_sys::InvalidTransactionId).then_some(xid.into_inner())
}

/// Gives the open transaction an xid, so that its commit is written to WAL though it changes nothing.
pub fn assign_xid() {
    // SAFETY: inside a transaction.
    unsafe { pg_sys::GetTopTransactionId() };
}

/// Notes that a command starts now, for activity views and `statement_timestamp()`.
pub fn statement_starts() {
    // SAFETY: sets a global of this backend.
    unsafe { pg_sys::SetCurrentStatementStartTimestamp() }
}

/// Code of a table's owner (triggers, defaults, index expressions) runs with the owner's rights.
/// Stays switched while rows of tables of one owner follow each other.
///
/// On ERROR: Drop does nothing. Abort puts back user and settings.
pub struct OwnerScope {
    owner: pg_sys::Oid,
    user: pg_sys::Oid,
    context: i32,
    nest: i32,
}

impl OwnerScope {
    /// Switches to the owner of `table`. `None`: the owner is who we are already.
    pub fn enter(table: &Table) -> Option<Self> {
        Self::enter_as(table.owner())
    }

    /// Switches to a table's owner. `None`: that is who we are already.
    pub(super) fn enter_as(owner: pg_sys::Oid) -> Option<Self> {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: reads and sets state of this backend. A superuser cannot be kept from anything: no restriction.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            if owner == user {
                return None;
            }
            let restricted =
                if pg_sys::superuser_arg(owner) { 0 } else { pg_sys::SECURITY_RESTRICTED_OPERATION as i32 };
            pg_sys::SetUserIdAndSecContext(owner, context | restricted);
            Some(Self { owner, user, context, nest: pg_sys::NewGUCNestLevel() })
        }
    }

    /// Whether this scope already is what `table` needs.
    pub fn serves(&self, table: &Table) -> bool {
        self.owner == table.owner()
    }
}

impl Drop for OwnerScope {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: undoes exactly what `enter` did; scopes nest.
        unsafe {
            pg_sys::AtEOXact_GUC(false, self.nest);
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
    }
}

/// Cancels every other transaction of the server, in all databases: a statement that runs ends with 40001, a session that is
/// idle inside a transaction ends.
pub fn cancel_other_transactions() {
    // SAFETY: the list is the server's copy, in the current context, without this process; a transaction that is over by
    // now is not found any more.
    unsafe {
        let mut count: core::ffi::c_int = 0;
        let found = pg_sys::GetCurrentVirtualXIDs(pg_sys::InvalidTransactionId, false, true, 0, &mut count);
        for place in 0..usize::try_from(count).unwrap_or_default() {
            pg_sys::CancelVirtualTransaction(
                *found.add(place),
                pg_sys::ProcSignalReason::PROCSIG_RECOVERY_CONFLICT_SNAPSHOT,
            );
        }
    }
}
