//! Finding the row of a [`Target`]: by its key index, or by comparing all columns.
//!
//! # Invariants
//! 1. A row is reported missing only after a snapshot taken later than the search has not seen it either: a search
//!    with a dirty snapshot alone can miss a row that moves while it is updated.
//! 2. A row that another transaction is changing is waited for, and looked for again.

use super::compat::executor as compat;
use super::heap::Target;
use super::in_flight::wait_for_end;
use super::relation::{Column, ColumnNumber, KeyIndex, Table};
use super::tuple::{OwnedContext, Slot, Value, lookup_function};
use super::unguarded::raw::init_dirty;
use super::unguarded::{guarded, raw};
use crate::error::Report;
use pgrx::{PgSqlErrorCode, pg_sys};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The row is in [`Target::local`].
    Row,
    /// No live row.
    Missing,
}

/// Equality of one column, for searches without an index.
pub struct ColumnEquality {
    number: ColumnNumber,
    /// `None`: the type has no equality. That matters only when a row is looked for.
    function: Option<pg_sys::FmgrInfo>,
    name: String,
    collation: pg_sys::Oid,
}

impl ColumnEquality {
    /// The default equality of the column's type. Memory in `cx`.
    pub fn lookup(column: &Column, cx: &OwnedContext) -> Self {
        // SAFETY: returns an entry that lives as long as the process.
        let function = unsafe {
            let entry = pg_sys::lookup_type_cache(
                pg_sys::Oid::from_u32(column.type_oid),
                pg_sys::TYPECACHE_EQ_OPR_FINFO as i32,
            );
            (*entry).eq_opr_finfo.fn_oid
        };
        Self {
            number: column.number,
            function: (function != pg_sys::InvalidOid).then(|| lookup_function(function, cx)),
            name: column.name.to_string_lossy().into_owned(),
            collation: column.collation,
        }
    }

    fn same(&mut self, a: Value, b: Value) -> bool {
        if a.null || b.null {
            return a.null && b.null;
        }
        let Some(function) = &mut self.function else {
            Report::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
                format!("could not identify an equality operator for column \"{}\"", self.name),
            )
            .raise()
        };
        // SAFETY: both values are of the column's type.
        unsafe { pg_sys::FunctionCall2Coll(function, self.collation, a.datum, b.datum) }.value() != 0
    }
}

/// A search by index that is kept open for the transaction.
pub(super) struct KeyScan {
    pub(super) index: pg_sys::Relation,
    scan: pg_sys::IndexScanDesc,
    snapshot: *mut pg_sys::SnapshotData,
    pub(super) keys: Vec<pg_sys::ScanKeyData>,
    columns: Vec<ColumnNumber>,
}

impl KeyScan {
    /// Opens the index of `key`.
    ///
    /// # Safety
    /// In a transaction, with a context current that lives as long as the result.
    pub(super) unsafe fn open(table: &Table, key: &KeyIndex) -> Self {
        let count = key.columns.len();
        let mut keys = vec![pg_sys::ScanKeyData::default(); count];
        let (entries, equality, table, oid) = (keys.as_mut_slice(), key.equality.as_slice(), table.raw(), key.oid);
        // SAFETY: the index belongs to the locked table. The snapshot struct lives in the executor state's context. Inside are
        // borrowed slices and plain values.
        let (index, snapshot, scan) = unsafe {
            guarded(move || {
                let index = raw::index_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
                let snapshot = raw::palloc0(size_of::<pg_sys::SnapshotData>()).cast();
                init_dirty(snapshot);
                for (i, (entry, &(function, collation))) in entries.iter_mut().zip(equality).enumerate() {
                    raw::ScanKeyInit(
                        entry,
                        (i + 1) as pg_sys::AttrNumber,
                        pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                        function,
                        pg_sys::Datum::from(0),
                    );
                    entry.sk_collation = collation;
                }
                (index, snapshot, compat::begin_index_scan(table, index, snapshot, count as i32))
            })
        };
        KeyScan { index, scan, snapshot, keys, columns: key.columns.clone() }
    }

    /// What [`KeyScan::close`] closes, for who closes it among other things.
    pub(super) fn parts(&self) -> (pg_sys::IndexScanDesc, pg_sys::Relation) {
        (self.scan, self.index)
    }

    /// Looks for the key of `row` from here on. False: a part of it is NULL, which no identity allows.
    pub(super) fn aim(&mut self, row: &Slot) -> bool {
        for (key, column) in self.keys.iter_mut().zip(&self.columns) {
            let value = row.get(*column);
            if value.null {
                return false;
            }
            key.sk_argument = value.datum;
        }
        true
    }

    /// Ends the search.
    ///
    /// # Safety
    /// In the transaction that opened it.
    pub(super) unsafe fn close(self) {
        // SAFETY: opened by `open`, closed once; the lock stays until the transaction ends.
        unsafe {
            pg_sys::index_endscan(self.scan);
            pg_sys::index_close(self.index, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }
}

impl Target {
    /// Finds the row with the key of `remote`. Waits for transactions that are changing it. `None`: no key index, or
    /// a key column is NULL, which no identity allows.
    pub fn find_by_key(&mut self) -> Option<Found> {
        self.key_scan()?;
        if !self.key.as_mut()?.aim(&self.remote) {
            return Some(Found::Missing);
        }
        loop {
            if let Some(wait_for) = self.probe_key()? {
                if wait_for == pg_sys::InvalidTransactionId {
                    return Some(Found::Row);
                }
                wait_for_end(wait_for.into_inner());
                continue;
            }
            // Nothing seen: certain only when a later snapshot sees nothing either.
            if !self.live_by_key()? {
                return Some(Found::Missing);
            }
            pgrx::check_for_interrupts!();
        }
    }

    /// One pass with the dirty snapshot. Inner value: transaction to wait for, or none.
    #[allow(clippy::option_option, reason = "no key index, no row, a row with or without a writer")]
    fn probe_key(&mut self) -> Option<Option<pg_sys::TransactionId>> {
        let scan = self.key.as_mut()?;
        let count = i32::try_from(scan.keys.len()).unwrap_or(0);
        let (snapshot, keys, local, estate) = (scan.snapshot, scan.keys.as_mut_ptr(), self.local.raw(), self.estate);
        let scan = scan.scan;
        // SAFETY: the scan is open; keys and snapshot live as long as it. The second rescan releases the index page,
        // while the slot keeps its own pin on the row. The access method may allocate state of the scan on the way (btree
        // does when it first meets a dead entry), so the context is the scan's, not that of the current message.
        let (hit, in_progress) = unsafe {
            guarded(move || {
                let previous = pg_sys::MemoryContextSwitchTo((*estate).es_query_cxt);
                init_dirty(snapshot);
                raw::index_rescan(scan, keys, count, core::ptr::null_mut(), 0);
                let hit = raw::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, local);
                let in_progress = being_changed_by(snapshot);
                raw::index_rescan(scan, keys, count, core::ptr::null_mut(), 0);
                pg_sys::MemoryContextSwitchTo(previous);
                (hit, in_progress)
            })
        };
        Some(hit.then_some(in_progress))
    }

    /// Whether a snapshot taken now sees a row with the key.
    fn live_by_key(&mut self) -> Option<bool> {
        let scan = self.key.as_mut()?;
        let count = i32::try_from(scan.keys.len()).unwrap_or(0);
        // SAFETY: a scan of its own, closed here; the snapshot is registered while it is open.
        unsafe {
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let (table, index) = (self.table.raw(), scan.index);
            let fresh = guarded(move || compat::begin_index_scan(table, index, snapshot, count));
            pg_sys::index_rescan(fresh, scan.keys.as_mut_ptr(), count, core::ptr::null_mut(), 0);
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            let live = pg_sys::index_getnext_slot(fresh, forward, self.local.raw());
            self.local.clear();
            pg_sys::index_endscan(fresh);
            pg_sys::UnregisterSnapshot(snapshot);
            Some(live)
        }
    }

    /// Finds a row that equals `remote` in all of `columns`, by reading the whole table.
    pub fn find_by_scan(&mut self, columns: &mut [ColumnEquality]) -> Found {
        loop {
            let mut dirty = pg_sys::SnapshotData::default();
            // SAFETY: the snapshot struct outlives the scan that uses it.
            unsafe { init_dirty(&mut dirty) };
            if self.scan_for(columns, &mut dirty) {
                let wait_for = being_changed_by(&dirty);
                if wait_for == pg_sys::InvalidTransactionId {
                    return Found::Row;
                }
                wait_for_end(wait_for.into_inner());
                continue;
            }
            // SAFETY: registered while the scan uses it.
            let live = unsafe {
                let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
                let live = self.scan_for(columns, snapshot);
                self.local.clear();
                pg_sys::UnregisterSnapshot(snapshot);
                live
            };
            if !live {
                return Found::Missing;
            }
        }
    }

    fn scan_for(&mut self, columns: &mut [ColumnEquality], snapshot: pg_sys::Snapshot) -> bool {
        // SAFETY: the scan is closed before this returns; the slot keeps its own pin on the row.
        unsafe {
            let scan = pg_sys::table_beginscan(self.table.raw(), snapshot, 0, core::ptr::null_mut());
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            let mut hit = false;
            while pg_sys::table_scan_getnextslot(scan, forward, self.local.raw()) {
                pgrx::check_for_interrupts!();
                hit = columns.iter_mut().all(|c| {
                    let (a, b) = (self.local.get(c.number), self.remote.get(c.number));
                    c.same(a, b)
                });
                if hit {
                    break;
                }
            }
            pg_sys::table_endscan(scan);
            hit
        }
    }
}

/// The running transaction that is changing the row which the dirty snapshot has just seen.
fn being_changed_by(snapshot: *const pg_sys::SnapshotData) -> pg_sys::TransactionId {
    // SAFETY: the visibility check leaves both fields set.
    unsafe { if (*snapshot).xmin != pg_sys::InvalidTransactionId { (*snapshot).xmin } else { (*snapshot).xmax } }
}
