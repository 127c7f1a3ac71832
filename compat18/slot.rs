//! Replication slots on PostgreSQL 18.

use core::ffi::CStr;
use pgrx::pg_sys;

/// The server copies slots to standbys and holds output back for them; this library does not.
pub const OWN_SLOT_SYNC: bool = false;

/// From 17 on a context that sends nothing needs no connection to the slot's database.
pub const FAST_FORWARD_NEEDS_DATABASE: bool = false;

/// C: ReplicationSlotCreate(name, db_specific, persistency, two_phase, failover, synced: both new in 17). Makes a slot and acquires it: a logical one that goes with the
/// process, or a physical one that stays.
///
/// # Safety
/// A process without an acquired slot.
pub unsafe fn create(name: &CStr, logical: bool) {
    use pg_sys::ReplicationSlotPersistency::{RS_PERSISTENT, RS_TEMPORARY};
    let persistency = if logical { RS_TEMPORARY } else { RS_PERSISTENT };
    // SAFETY: the caller's promise; an ERROR unwinds.
    unsafe { pg_sys::ReplicationSlotCreate(name.as_ptr(), logical, persistency, false, false, false) }
}

/// Whether the slot lost what it needs: invalidated_at up to 15, a cause later.
///
/// # Safety
/// A live slot whose mutex is held.
pub unsafe fn is_invalidated(slot: *const pg_sys::ReplicationSlot) -> bool {
    // SAFETY: by contract.
    unsafe { (*slot).data.invalidated != pg_sys::ReplicationSlotInvalidationCause::RS_INVAL_NONE }
}

/// Gives the slot the option FAILOVER, known from 17 on.
///
/// # Safety
/// A live slot whose mutex is held.
pub unsafe fn set_failover(slot: *mut pg_sys::ReplicationSlot, failover: bool) {
    // SAFETY: by contract.
    unsafe { (*slot).data.failover = failover }
}
