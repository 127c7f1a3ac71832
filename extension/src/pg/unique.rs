//! Finding the row that an INSERT meets in another unique index than the one that identifies rows.
//!
//! # Invariants
//! 1. Only indexes that the server itself enforces at once are looked at: unique, valid, not deferrable, whole columns of the
//!    whole table. A row that an index on expressions or on a part of the table objects to is not found.

use super::heap::Target;
use super::relation::{KeyIndex, read_key};
use super::search::{Found, KeyScan};
use pgrx::pg_sys;

impl Target {
    /// Looks for the row of `remote` by every other unique index, in the order of their OIDs; the first hit counts and is in
    /// `local`. A key with a NULL in it meets nothing.
    pub fn find_by_other_unique(&mut self) -> Found {
        for key in self.other_unique() {
            // SAFETY: inside the transaction of this target; the search is closed below, or by the abort after an ERROR. It
            // lives in the transaction's context, as that of the key does.
            let scan = unsafe {
                let previous = pg_sys::MemoryContextSwitchTo((*self.estate).es_query_cxt);
                let scan = KeyScan::open(&self.table, &key);
                pg_sys::MemoryContextSwitchTo(previous);
                scan
            };
            let own = self.key.replace(scan);
            let found = self.find_by_key();
            if let Some(scan) = std::mem::replace(&mut self.key, own) {
                // SAFETY: opened above, closed once.
                unsafe { scan.close() }
            }
            if found == Some(Found::Row) {
                return Found::Row;
            }
        }
        Found::Missing
    }

    fn other_unique(&self) -> Vec<KeyIndex> {
        let own = self.key_index.as_ref().map(|key| key.oid);
        let mut found = Vec::new();
        // SAFETY: the table is open and locked, so its indexes stay; each is opened, looked at and closed.
        unsafe {
            let list = pg_sys::RelationGetIndexList(self.table.raw());
            let count = if list.is_null() { 0 } else { usize::try_from((*list).length).unwrap_or(0) };
            for n in 0..count {
                let oid = (*(*list).elements.add(n)).oid_value;
                if Some(oid) == own {
                    continue;
                }
                let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
                let facts = &*(*index).rd_index;
                let whole = pg_sys::RelationGetIndexPredicate(index).is_null();
                if facts.indisunique && facts.indisvalid && facts.indimmediate && whole {
                    // Expressions give none.
                    found.extend(read_key(index, oid));
                }
                pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
            }
        }
        found
    }
}
