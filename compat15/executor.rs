//! Executor, table access and replication origins on PostgreSQL 15.

use crate::pg::unguarded::raw;
use pgrx::pg_sys;

// Without a guard of their own: whoever calls what uses them is inside one, see `pg::unguarded`.
unsafe extern "C-unwind" {
    fn ExecInitRangeTable(estate: *mut pg_sys::EState, entries: *mut pg_sys::List);
    fn index_beginscan(
        table: pg_sys::Relation,
        index: pg_sys::Relation,
        snapshot: pg_sys::Snapshot,
        nkeys: core::ffi::c_int,
        norderbys: core::ffi::c_int,
    ) -> pg_sys::IndexScanDesc;
    #[link_name = "table_tuple_update__pgrx_cshim"]
    fn table_tuple_update(
        rel: pg_sys::Relation,
        otid: pg_sys::ItemPointer,
        slot: *mut pg_sys::TupleTableSlot,
        cid: pg_sys::CommandId,
        snapshot: pg_sys::Snapshot,
        crosscheck: pg_sys::Snapshot,
        wait: bool,
        tmfd: *mut pg_sys::TM_FailureData,
        lockmode: *mut pg_sys::LockTupleMode::Type,
        update_indexes: *mut bool,
    ) -> pg_sys::TM_Result::Type;
}

/// One attribute of a row type. `index` counts from 0.
///
/// # Safety
/// `desc` is a live row type with more than `index` attributes.
pub unsafe fn attribute(desc: pg_sys::TupleDesc, index: usize) -> pg_sys::Form_pg_attribute {
    // SAFETY: passed on to the caller.
    unsafe { (*desc).attrs.as_mut_ptr().add(index) }
}

/// The executor's range table with one entry, the target of the writes.
///
/// # Safety
/// Inside one guard. Both are alive; called once for each executor state.
pub unsafe fn init_range_table(
    estate: *mut pg_sys::EState,
    entry: *mut pg_sys::RangeTblEntry,
    written: *mut pg_sys::Bitmapset,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        (*entry).updatedCols = written;
        ExecInitRangeTable(estate, raw::lappend(core::ptr::null_mut(), entry.cast()));
    }
}

/// Index entries of a row just stored in `slot`. With `no_error`, a possible duplicate sets `conflict`.
///
/// # Safety
/// As the server function: indexes are open, `slot` holds the row's position.
pub unsafe fn insert_index_entries(
    rel: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
    update: bool,
    no_error: bool,
    conflict: *mut bool,
    _only_summarizing: bool,
) -> *mut pg_sys::List {
    // SAFETY: passed on to the caller.
    unsafe { pg_sys::ExecInsertIndexTuples(rel, slot, estate, update, no_error, conflict, core::ptr::null_mut()) }
}

/// Whether `slot` could be stored as far as the index in `only` goes; if not, where the row is that holds its value.
///
/// # Safety
/// As the server function: indexes are open and described for speculative insertion.
pub unsafe fn check_index_constraints(
    rel: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
    holder: pg_sys::ItemPointer,
    only: *mut pg_sys::List,
) -> bool {
    // SAFETY: passed on to the caller.
    unsafe { pg_sys::ExecCheckIndexConstraints(rel, slot, estate, holder, only) }
}

/// Replaces a row version. The last two values: index entries are needed, and only those of summarizing indexes.
///
/// # Safety
/// Inside one guard. As the server function.
pub unsafe fn update_tuple(
    table: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    slot: *mut pg_sys::TupleTableSlot,
    cid: pg_sys::CommandId,
    failure: *mut pg_sys::TM_FailureData,
) -> (pg_sys::TM_Result::Type, bool, bool) {
    let mut mode = pg_sys::LockTupleMode::LockTupleExclusive;
    let mut indexes = false;
    // SAFETY: passed on to the caller.
    let result = unsafe {
        table_tuple_update(
            table,
            tid,
            slot,
            cid,
            core::ptr::null_mut(),
            core::ptr::null_mut(),
            true,
            failure,
            &mut mode,
            &mut indexes,
        )
    };
    (result, indexes, false)
}

/// Prepares the state that row triggers need, without a plan.
///
/// # Safety
/// Both are alive.
pub unsafe fn init_epq(epq: *mut pg_sys::EPQState, estate: *mut pg_sys::EState) {
    // SAFETY: passed on to the caller.
    unsafe { pg_sys::EvalPlanQualInit(epq, estate, core::ptr::null_mut(), core::ptr::null_mut(), -1) }
}

/// BEFORE ROW UPDATE triggers. False: the change is suppressed.
///
/// # Safety
/// As the server function.
pub unsafe fn before_update(
    estate: *mut pg_sys::EState,
    epq: *mut pg_sys::EPQState,
    rel: *mut pg_sys::ResultRelInfo,
    tid: pg_sys::ItemPointer,
    slot: *mut pg_sys::TupleTableSlot,
) -> bool {
    // SAFETY: passed on to the caller.
    unsafe { pg_sys::ExecBRUpdateTriggers(estate, epq, rel, tid, core::ptr::null_mut(), slot, core::ptr::null_mut()) }
}

/// BEFORE ROW DELETE triggers. False: the change is suppressed.
///
/// # Safety
/// As the server function.
pub unsafe fn before_delete(
    estate: *mut pg_sys::EState,
    epq: *mut pg_sys::EPQState,
    rel: *mut pg_sys::ResultRelInfo,
    tid: pg_sys::ItemPointer,
) -> bool {
    // SAFETY: passed on to the caller.
    unsafe { pg_sys::ExecBRDeleteTriggers(estate, epq, rel, tid, core::ptr::null_mut(), core::ptr::null_mut()) }
}

/// Starts an index scan with `keys` scan keys.
///
/// # Safety
/// Inside one guard. The relations are open, the snapshot lives as long as the scan.
pub unsafe fn begin_index_scan(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    keys: i32,
) -> pg_sys::IndexScanDesc {
    // SAFETY: passed on to the caller.
    unsafe { index_beginscan(table, index, snapshot, keys, 0) }
}

/// Empties the tables. Truncate triggers that fire here run as the worker: 15 cannot switch to the owners.
///
/// # Safety
/// The lists hold open relations, their oids, and the oids of those that are logically logged.
pub unsafe fn truncate(
    rels: *mut pg_sys::List,
    oids: *mut pg_sys::List,
    logged: *mut pg_sys::List,
    restart_sequences: bool,
) {
    // SAFETY: passed on to the caller.
    unsafe { pg_sys::ExecuteTruncateGuts(rels, oids, logged, pg_sys::DropBehavior::DROP_RESTRICT, restart_sequences) }
}

/// Binds this process to a replication origin.
pub fn setup_session_origin(number: pg_sys::RepOriginId) {
    // SAFETY: raises when the origin is in use; changes backend-local state otherwise.
    unsafe { pg_sys::replorigin_session_setup(number) }
}

/// Adds bytes to the WAL record that is being built.
///
/// # Safety
/// The bytes live until the record is inserted.
pub unsafe fn register_wal_data(bytes: &[u8]) {
    // SAFETY: passed on to the caller.
    unsafe { pg_sys::XLogRegisterData(bytes.as_ptr().cast_mut().cast(), bytes.len() as i32) }
}

/// Registers a resource manager.
///
/// # Safety
/// `rmgr` is static.
pub unsafe fn register_rmgr(id: pg_sys::RmgrId, rmgr: *const pg_sys::RmgrData) {
    // SAFETY: passed on to the caller.
    unsafe { pg_sys::RegisterCustomRmgr(id, rmgr.cast_mut()) }
}

/// Privileges on the table of a query are asked for `user`, whoever runs it.
///
/// # Safety
/// The query was analysed just now and names one table.
pub unsafe fn check_as(query: *mut pg_sys::Query, user: pg_sys::Oid) {
    // SAFETY: the caller's promise: each list has one element.
    unsafe {
        let entry = (*(*(*query).rtable).elements).ptr_value.cast::<pg_sys::RangeTblEntry>();
        (*entry).checkAsUser = user;
    }
}

/// Runs a started query to its end.
///
/// # Safety
/// The query was started and not run yet.
pub unsafe fn run_to_end(query: *mut pg_sys::QueryDesc) {
    // SAFETY: passed on to the caller.
    unsafe { pg_sys::ExecutorRun(query, pg_sys::ScanDirection::ForwardScanDirection, 0, true) }
}
