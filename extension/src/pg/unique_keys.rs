//! Which columns of a table cannot have one value in two rows.

use super::relation::{ColumnNumber, Table};
use pgrx::pg_sys;

/// Unique indexes of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UniqueKeys {
    /// Columns of each; the index that finds rows comes first.
    pub keys: Vec<Vec<ColumnNumber>>,
    /// There are some that the values of columns do not decide: of expressions, exclusion constraints, of a collation that
    /// takes different texts for equal.
    pub opaque: bool,
}

impl Table {
    /// Its unique indexes, deferrable and partial ones too.
    pub fn unique_keys(&self) -> UniqueKeys {
        let first = self.key_index().map(|key| key.columns);
        let mut found = UniqueKeys { keys: first.into_iter().collect(), opaque: false };
        // SAFETY: the table is open and locked, so its indexes stay; each is opened, looked at and closed.
        unsafe {
            let list = pg_sys::RelationGetIndexList(self.raw());
            let count = if list.is_null() { 0 } else { usize::try_from((*list).length).unwrap_or(0) };
            for n in 0..count {
                let oid = (*(*list).elements.add(n)).oid_value;
                let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
                let facts = &*(*index).rd_index;
                if facts.indisexclusion && !facts.indisunique {
                    found.opaque = true;
                } else if facts.indisunique {
                    match plain_columns(index) {
                        Some(columns) if found.keys.contains(&columns) => {}
                        Some(columns) => found.keys.push(columns),
                        None => found.opaque = true,
                    }
                }
                pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
            }
            pg_sys::list_free(list);
        }
        found
    }
}

/// The key columns, if equal values of them have equal bytes as far as the collation goes.
///
/// # Safety
/// `index` is open.
unsafe fn plain_columns(index: pg_sys::Relation) -> Option<Vec<ColumnNumber>> {
    // SAFETY: an open index has its catalog rows, and arrays with one entry for each key column.
    unsafe {
        let count = usize::try_from((*(*index).rd_index).indnkeyatts).unwrap_or(0);
        let numbers = (*(*index).rd_index).indkey.values.as_ptr();
        let mut columns = Vec::with_capacity(count);
        for n in 0..count {
            let (number, collation) = (*numbers.add(n), *(*index).rd_indcollation.add(n));
            if number <= 0 || collation != pg_sys::InvalidOid && !pg_sys::get_collation_isdeterministic(collation) {
                return None;
            }
            columns.push(ColumnNumber(number));
        }
        Some(columns)
    }
}
