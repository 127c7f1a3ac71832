//! Locks that are held for less than a transaction.

use pgrx::pg_sys;

/// A lock on a relation that is taken only if nobody stands in the way, and given back when dropped.
///
/// On ERROR: Drop does nothing. Abort releases the lock.
#[must_use]
pub struct TryLock(Option<pg_sys::Oid>);

const AGAINST_WRITES: pg_sys::LOCKMODE = pg_sys::ShareRowExclusiveLock as pg_sys::LOCKMODE;

impl TryLock {
    /// Keeps writers (of a sequence: whoever draws from it) out while it lives.
    pub fn against_writes(relation: u32) -> Self {
        let oid = pg_sys::Oid::from(relation);
        // SAFETY: a heavyweight lock inside a transaction, by number: the relation need not exist.
        Self(unsafe { pg_sys::ConditionalLockRelationOid(oid, AGAINST_WRITES) }.then_some(oid))
    }
}

impl TryLock {
    /// Whether nobody stood in the way.
    pub fn is_held(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for TryLock {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(oid) = self.0 {
            // SAFETY: held since `against_writes`; other locks of this transaction on the relation stay.
            unsafe { pg_sys::UnlockRelationOid(oid, AGAINST_WRITES) }
        }
    }
}
