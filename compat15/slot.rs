//! Replication slots on PostgreSQL 15.

use core::ffi::CStr;
use pgrx::pg_sys;

/// This library copies slots to standbys and holds output back for them.
pub const OWN_SLOT_SYNC: bool = true;

/// Up to 16 a decoding context asks for a connection to the slot's database, also when nothing is sent.
pub const FAST_FORWARD_NEEDS_DATABASE: bool = true;

/// C: ReplicationSlotCreate(name, db_specific, persistency, two_phase). Makes a slot and acquires it: a logical one that goes with the
/// process, or a physical one that stays.
///
/// # Safety
/// A process without an acquired slot.
pub unsafe fn create(name: &CStr, logical: bool) {
    use pg_sys::ReplicationSlotPersistency::{RS_PERSISTENT, RS_TEMPORARY};
    let persistency = if logical { RS_TEMPORARY } else { RS_PERSISTENT };
    // SAFETY: the caller's promise; an ERROR unwinds.
    unsafe { pg_sys::ReplicationSlotCreate(name.as_ptr(), logical, persistency, false) }
}

/// Whether the slot lost what it needs: invalidated_at up to 15, a cause later.
///
/// # Safety
/// A live slot whose mutex is held.
pub unsafe fn is_invalidated(slot: *const pg_sys::ReplicationSlot) -> bool {
    // SAFETY: by contract.
    unsafe { (*slot).data.invalidated_at != 0 }
}

/// Gives the slot the option FAILOVER, known from 17 on.
///
/// # Safety
/// A live slot whose mutex is held.
pub unsafe fn set_failover(_slot: *mut pg_sys::ReplicationSlot, _failover: bool) {}
