//! Rows that a row cannot be beside: those that hold one of its values in a unique index other than the key's.
//!
//! # Invariants
//! 1. Unique indexes of every kind are looked at: of expressions, of a part of the table, with NULLS NOT DISTINCT. Deferrable
//!    ones and exclusion constraints are not.
//! 2. Transactions that are writing such a row are waited for.

use super::compat::executor as compat;
use super::heap::Target;
use pgrx::pg_sys;
use std::ffi::CStr;

impl Target {
    /// Looks for a row that `remote` collides with, in the indexes from number `from` on. It is then in `local`. Returns the
    /// number and the name of the index. There is no row with the key of `remote`. `None` leaves `local` as it was.
    pub fn next_collision(&mut self, from: usize) -> Option<(usize, String)> {
        let own = self.key_index.as_ref().map(|key| key.oid);
        // SAFETY: indexes and executor state are open; the slot holds a complete row of the table. What is added to an index's
        // description lives as long as that.
        unsafe {
            let indexes = self.open_indexes();
            let result = self.result;
            for n in from..usize::try_from(indexes).unwrap_or(0) {
                let index = *(*result).ri_IndexRelationDescs.add(n);
                if index.is_null() {
                    continue;
                }
                let facts = &*(*index).rd_index;
                if !facts.indisunique || !facts.indimmediate || !facts.indisready || Some((*index).rd_id) == own {
                    continue;
                }
                if let Some(mut tid) = self.holder(n, index) {
                    let all = &raw mut pg_sys::SnapshotAnyData;
                    let name = CStr::from_ptr((*(*index).rd_rel).relname.data.as_ptr()).to_string_lossy().into_owned();
                    if pg_sys::table_tuple_fetch_row_version(self.table.raw(), &mut tid, all, self.local.raw()) {
                        return Some((n, name));
                    }
                }
            }
        }
        None
    }

    /// # Safety
    /// `index` is the open unique index number `n`.
    unsafe fn holder(&mut self, n: usize, index: pg_sys::Relation) -> Option<pg_sys::ItemPointerData> {
        // SAFETY: the caller's promise. The list lives in the memory of the current message.
        unsafe {
            let info = *(*self.result).ri_IndexRelationInfo.add(n);
            if (*info).ii_UniqueOps.is_null() {
                let previous = pg_sys::MemoryContextSwitchTo((*self.estate).es_query_cxt);
                pg_sys::BuildSpeculativeIndexInfo(index, info);
                pg_sys::MemoryContextSwitchTo(previous);
            }
            let only = pg_sys::lappend_oid(core::ptr::null_mut(), (*index).rd_id);
            let mut tid = pg_sys::ItemPointerData::default();
            let free = compat::check_index_constraints(self.result, self.remote.raw(), self.estate, &mut tid, only);
            pg_sys::list_free(only);
            (!free).then_some(tid)
        }
    }
}
