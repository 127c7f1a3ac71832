//! What transactions have written down about a key in a table of ours, whether they have ended or not. A statement sees the first
//! only.

use super::catalog_scan::relation_oid;
use super::unguarded::raw::init_dirty;
use pgrx::pg_sys;

/// A table with an index of its own over columns 1 (oid of a relation) and 2 (hash of a key).
#[derive(Debug, Clone, Copy)]
pub struct KeyTable {
    /// Name, in the schema `spock`.
    pub name: &'static str,
    /// Of the index.
    pub index: &'static str,
    /// Rows where this column is NULL are not counted.
    pub counted: pg_sys::AttrNumber,
}

/// What is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noted {
    /// A transaction of another process that has not ended has written some of it.
    pub running: Option<u32>,
    /// Rows of transactions that have ended, and of the current one.
    pub rows: usize,
}

/// What is written down of the key with that hash.
///
/// On ERROR: relation and scan are released by the abort that follows; the arrays here have no destructors.
pub fn noted(table: KeyTable, relation: u32, hash: i64) -> Noted {
    let (Some(oid), Some(index)) = (relation_oid("spock", table.name), relation_oid("spock", table.index)) else {
        return Noted::default();
    };
    let mut keys = [pg_sys::ScanKeyData::default(); 2];
    let mut dirty = pg_sys::SnapshotData::default();
    let mut noted = Noted::default();
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: inside a transaction. Keys and snapshot live until the scan ends; the functions are built in; the scan is closed here.
    // Each row that the scan returns leaves its running writer in the snapshot, or none.
    unsafe {
        init_dirty(&mut dirty);
        let values = [(pg_sys::F_OIDEQ, pg_sys::Datum::from(relation)), (pg_sys::F_INT8EQ, pg_sys::Datum::from(hash))];
        for ((key, (function, value)), column) in keys.iter_mut().zip(values).zip(1..) {
            let equal = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
            pg_sys::ScanKeyInit(key, column, equal, pg_sys::Oid::from_u32(function), value);
        }
        let rows = pg_sys::table_open(oid, lock);
        let scan = pg_sys::systable_beginscan(rows, index, true, &mut dirty, 2, keys.as_mut_ptr());
        loop {
            let row = pg_sys::systable_getnext(scan);
            if row.is_null() {
                break;
            }
            if dirty.xmin != pg_sys::InvalidTransactionId {
                noted.running = Some(dirty.xmin.into_inner());
            } else if !pg_sys::heap_attisnull(row, table.counted.into(), core::ptr::null_mut()) {
                noted.rows += 1;
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(rows, pg_sys::NoLock as pg_sys::LOCKMODE);
    }
    noted
}

/// Waits until the transaction has ended. Can be cancelled; a deadlock is an ERROR.
pub fn wait_for_end(xid: u32) {
    let none = core::ptr::null_mut();
    // SAFETY: inside a transaction that holds no buffer.
    unsafe {
        let xid = pg_sys::TransactionId::from_inner(xid);
        pg_sys::XactLockTableWait(xid, none, none.cast(), pg_sys::XLTW_Oper::XLTW_None);
    }
}
