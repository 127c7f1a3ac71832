//! Server facts of PostgreSQL 15.

use core::ffi::CStr;
use pgrx::pg_sys;

/// The major that this file is for.
pub const MAJOR: u32 = 15;

/// C: LogLogicalMessage(prefix, message, size, transactional[, flush: new in 17]). Returns the end of the record.
///
/// # Safety
/// Inside a transaction of a backend that may write WAL.
pub unsafe fn log_logical_message(prefix: &CStr, payload: &[u8], transactional: bool) -> pg_sys::XLogRecPtr {
    // SAFETY: the caller's promise; the server copies the bytes before it returns.
    unsafe { pg_sys::LogLogicalMessage(prefix.as_ptr(), payload.as_ptr().cast(), payload.len(), transactional) }
}

/// C: ReplicationSlotAcquire(name, nowait[, error_if_invalid: new in 18]). Raises when there is no such slot or it is in use.
///
/// # Safety
/// This process holds no slot.
pub unsafe fn acquire_slot(name: &CStr) {
    // SAFETY: the caller's promise.
    unsafe { pg_sys::ReplicationSlotAcquire(name.as_ptr(), true) }
}

/// Slots that follow to a standby are new in 17.
pub const KNOWS_FAILOVER_SLOTS: bool = false;

/// Nothing to set here. Never called.
///
/// # Safety
/// None.
pub unsafe fn set_slot_failover(_name: &CStr) {}

/// C: is_member_of_role(member, role); from 16 on member_can_set_role.
pub fn can_set_role(member: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system caches, inside a transaction.
    unsafe { pg_sys::is_member_of_role(member, role) }
}
