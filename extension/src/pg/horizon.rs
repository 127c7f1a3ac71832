//! What vacuum may not remove: a physical slot without WAL whose xmin keeps dead rows and whose catalog xmin keeps commit times, and
//! the transactions that they are measured in.
//!
//! # Invariants
//! 1. The slot's effective xmin, in memory, is what holds. On disk lies an xmin that is not newer, so that after a crash as
//!    much is held as before it, or more.
//! 2. A transaction that needs a row which it deleted asks for it before it commits: until then its own id keeps the row.

use super::compat::slot as compat;
use super::slots::{look_at, with_mutex};
use core::ffi::CStr;
use pgrx::pg_sys;

/// Name of the slot. One serves the whole server.
const SLOT: &CStr = c"spock_tombstones";

/// The id of a transaction with its epoch: they never come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FullXid(pub u64);

impl FullXid {
    /// The full id of `xid`, which is not in the future.
    pub(super) fn of(xid: pg_sys::TransactionId) -> Self {
        let next = next_xid().0;
        let behind = (next as u32).wrapping_sub(xid.into_inner());
        Self(next - u64::from(behind))
    }

    fn short(self) -> pg_sys::TransactionId {
        pg_sys::TransactionId::from_inner(self.0 as u32)
    }
}

/// The full id of a transaction of which there is a trace, so that it is not in the future.
pub fn full_id(xid: u32) -> FullXid {
    FullXid::of(pg_sys::TransactionId::from_inner(xid))
}

/// The id that the next transaction gets.
pub fn next_xid() -> FullXid {
    // SAFETY: reads shared memory under its lock.
    FullXid(unsafe { pg_sys::ReadNextFullTransactionId() }.value)
}

/// So many transactions back, dead rows may still be there that nobody has kept: hours of a busy server. What vacuum has taken
/// already costs nothing.
const LOOK_BACK: u64 = 50_000_000;

/// A transaction before all those whose dead rows are worth keeping where the slot is missing: on a standby that was promoted.
pub fn long_ago() -> FullXid {
    FullXid(next_xid().0.saturating_sub(LOOK_BACK).max(u64::from(pg_sys::FirstNormalTransactionId.into_inner())))
}

/// The oldest transaction that is still running; when none is, the next one.
pub fn oldest_running() -> FullXid {
    // SAFETY: reads shared memory under its lock. Not on a standby.
    FullXid::of(unsafe { pg_sys::GetOldestActiveTransactionId() })
}

/// The transaction of this process that has not committed, if it has an id.
pub fn own_xid() -> Option<FullXid> {
    // SAFETY: reads state of this process; assigns nothing.
    let xid = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    (xid != pg_sys::InvalidTransactionId).then(|| FullXid::of(xid))
}

/// Whether the slot is there.
pub fn exists() -> bool {
    look_at(SLOT, |_| ()).is_some()
}

/// From which transaction on dead rows are kept. `None`: the slot keeps none.
pub fn held_from() -> Option<FullXid> {
    // SAFETY: live, its mutex is held.
    let xmin = look_at(SLOT, |slot| unsafe { (*slot).effective_xmin })?;
    (xmin != pg_sys::InvalidTransactionId).then(|| FullXid::of(xmin))
}

/// Keeps rows that were deleted by `from` or later; `None`: keeps nothing. False: there is no slot.
pub fn hold(from: Option<FullXid>) -> bool {
    let xmin = from.map_or(pg_sys::InvalidTransactionId, FullXid::short);
    // SAFETY: live, its mutex is held.
    let found = look_at(SLOT, |slot| unsafe { (*slot).effective_xmin = xmin }).is_some();
    if found {
        // SAFETY: no lock of slots is held.
        unsafe { pg_sys::ReplicationSlotsComputeRequiredXmin(false) }
    }
    found
}

/// From which transaction on commit times are kept. `None`: the slot keeps none.
pub fn times_kept_from() -> Option<FullXid> {
    // SAFETY: live, its mutex is held.
    let xmin = look_at(SLOT, |slot| unsafe { (*slot).effective_catalog_xmin })?;
    (xmin != pg_sys::InvalidTransactionId).then(|| FullXid::of(xmin))
}

/// Keeps catalogs from being frozen past `from`: the server then knows all later commit times. `None`: keeps none. Nothing happens
/// where there is no slot.
pub fn keep_times(from: Option<FullXid>) {
    let xmin = from.map_or(pg_sys::InvalidTransactionId, FullXid::short);
    // SAFETY: live, its mutex is held.
    if look_at(SLOT, |slot| unsafe { (*slot).effective_catalog_xmin = xmin }).is_some() {
        // SAFETY: no lock of slots is held.
        unsafe { pg_sys::ReplicationSlotsComputeRequiredXmin(false) }
    }
}

/// The slot in the hands of this process, which others see as the one that uses it.
///
/// On ERROR: stays acquired; the server gives it back when the process exits.
pub struct Keeper {
    /// From where on rows are kept, and times.
    on_disk: (FullXid, Option<FullXid>),
}

impl Keeper {
    /// Takes the slot, and makes it if need be. Raises when no place is left or another process uses it.
    pub fn open() -> Self {
        // SAFETY: this process has no slot acquired.
        unsafe {
            if exists() {
                super::compat::server::acquire_slot(SLOT);
            } else {
                compat::create(SLOT, false);
            }
        }
        let mut keeper = Self { on_disk: (FullXid(0), None) };
        keeper.write_down();
        keeper
    }

    /// Writes to disk what is held now, or that all from now on would be.
    pub fn write_down(&mut self) {
        // Running transactions are older than those that will ask for a hold.
        self.write((held_from().unwrap_or_else(oldest_running), times_kept_from()));
    }

    fn write(&mut self, wanted: (FullXid, Option<FullXid>)) {
        if wanted == self.on_disk {
            return;
        }
        let xmin = wanted.0.short();
        let catalog_xmin = wanted.1.map_or(pg_sys::InvalidTransactionId, FullXid::short);
        // SAFETY: the slot is acquired by this process; its mutex is held while the field changes.
        unsafe {
            with_mutex(pg_sys::MyReplicationSlot, |slot| {
                (*slot).data.xmin = xmin;
                (*slot).data.catalog_xmin = catalog_xmin;
            });
            pg_sys::ReplicationSlotMarkDirty();
            pg_sys::ReplicationSlotSave();
        }
        self.on_disk = wanted;
    }

    /// Drops the slot.
    pub fn drop_slot(self) {
        // SAFETY: the slot is acquired by this process; an ERROR unwinds.
        unsafe {
            pg_sys::ReplicationSlotRelease();
            pg_sys::ReplicationSlotDrop(SLOT.as_ptr(), true);
        }
    }
}
