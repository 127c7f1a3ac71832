//! Rows of an UPDATE whose out-of-line values did not change: WAL has no such value in the new row, but may have it in the
//! old one.
//!
//! # Invariants
//! 1. A row made here borrows values of both rows and lives no longer than the change they belong to.

use super::decoding::{TableRef, TupleRef};
use super::types::is_on_disk;
use core::marker::PhantomData;
use pgrx::pg_sys;

/// A row of a table, taken apart.
pub(super) struct Values {
    pub(super) datums: Vec<pg_sys::Datum>,
    pub(super) nulls: Vec<bool>,
}

impl Values {
    pub(super) fn of(tuple: TupleRef<'_>, table: TableRef<'_>) -> Self {
        let width = table.width();
        let mut values = Self { datums: vec![pg_sys::Datum::from(0); width], nulls: vec![true; width] };
        // SAFETY: the tuple is a row of the table; both arrays have an entry for each of its columns.
        unsafe {
            pg_sys::heap_deform_tuple(
                tuple.raw(),
                table.descriptor(),
                values.datums.as_mut_ptr(),
                values.nulls.as_mut_ptr(),
            );
        }
        values
    }

    /// Whether the value in that place, from 0, is not in WAL.
    pub(super) fn lacks(&self, table: TableRef<'_>, at: usize) -> bool {
        !self.nulls[at] && table.is_varlena(at) && is_on_disk(self.datums[at])
    }
}

/// Whether every value of the row is at hand.
pub fn is_whole(tuple: TupleRef<'_>, table: TableRef<'_>) -> bool {
    let values = Values::of(tuple, table);
    (0..table.width()).all(|at| !values.lacks(table, at))
}

/// A new row that has been completed with values of the old one.
///
/// On ERROR: Drop does nothing. The context of the change is freed.
pub struct Completed<'t> {
    raw: pg_sys::HeapTuple,
    change: PhantomData<&'t ()>,
}

impl<'t> Completed<'t> {
    /// `None`: nothing is lacking in `new`.
    pub fn of(new: TupleRef<'t>, old: TupleRef<'t>, table: TableRef<'t>) -> Option<Self> {
        let mut values = Values::of(new, table);
        let lacking: Vec<usize> = (0..table.width()).filter(|&at| values.lacks(table, at)).collect();
        if lacking.is_empty() {
            return None;
        }
        let before = Values::of(old, table);
        for at in lacking {
            if !before.nulls[at] && !before.lacks(table, at) {
                values.datums[at] = before.datums[at];
            }
        }
        // SAFETY: the descriptor of the table and an entry for each of its columns; values are copied, pointers to values
        // that decoding put together point into the change, which outlives this row.
        let raw = unsafe {
            pg_sys::heap_form_tuple(table.descriptor(), values.datums.as_mut_ptr(), values.nulls.as_mut_ptr())
        };
        Some(Self { raw, change: PhantomData })
    }

    /// The row.
    pub fn row(&self) -> TupleRef<'_> {
        TupleRef::borrowed(self.raw)
    }
}

impl Drop for Completed<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made by `of`, freed once.
            unsafe { pg_sys::heap_freetuple(self.raw) }
        }
    }
}
