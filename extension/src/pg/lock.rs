//! Locks that are held for less than a transaction, and one that is held for all of it.

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

    /// It ends with the transaction.
    pub fn until_commit(mut self) {
        self.0 = None;
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

/// Takes an advisory lock of this database with two numbers, if nobody holds it, until the end of the top-level transaction:
/// rolling back to a savepoint does not give it back. `false`: somebody holds it.
pub fn try_advisory_lock((first, second): (i32, i32)) -> bool {
    /// What `pg_advisory_lock(int, int)` marks its locks with.
    const TWO_NUMBERS: u16 = 2;
    let tag = pg_sys::LOCKTAG {
        // SAFETY: a global of this backend, set when it connects.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: first.cast_unsigned(),
        locktag_field3: second.cast_unsigned(),
        locktag_field4: TWO_NUMBERS,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    };
    let _top = TopOwner::enter();
    // SAFETY: a tag of this server's layout, inside a transaction; never waits.
    let got = unsafe { pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as pg_sys::LOCKMODE, false, true) };
    got != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// What is taken belongs to the top-level transaction while this lives.
///
/// On ERROR: still runs. It sets one global of this backend to what it was.
struct TopOwner(pg_sys::ResourceOwner);

impl TopOwner {
    fn enter() -> Self {
        // SAFETY: globals of this backend, inside a transaction.
        unsafe {
            let before = pg_sys::CurrentResourceOwner;
            pg_sys::CurrentResourceOwner = pg_sys::TopTransactionResourceOwner;
            Self(before)
        }
    }
}

impl Drop for TopOwner {
    fn drop(&mut self) {
        // SAFETY: the owner that was current; scopes nest, so it is live.
        unsafe { pg_sys::CurrentResourceOwner = self.0 }
    }
}
