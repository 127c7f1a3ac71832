//! One guard around many server functions: for what every row and every small transaction needs, where a guard for each call
//! costs as much as the call.
//!
//! # Invariants
//! 1. A function of [`raw`] is called only inside [`guarded`]: an ERROR jumps to that guard, over all frames in between.
//! 2. So what runs inside owns nothing with a destructor (checked for what the closure holds and returns), calls no guarded
//!    function, and does not panic.

use pgrx::pg_sys;

/// Runs `calls` with one guard around all of it. An ERROR unwinds from here.
///
/// # Safety
/// On the main thread; `calls` keeps the invariants above.
#[inline]
pub(super) unsafe fn guarded<T, F: FnOnce() -> T>(calls: F) -> T {
    const {
        assert!(
            !core::mem::needs_drop::<F>() && !core::mem::needs_drop::<T>(),
            "an ERROR would jump over a destructor"
        );
    }
    // SAFETY: passed on to the caller; an ERROR arrives here and unwinds as a panic.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(calls) }
}

/// The functions themselves, declared as the server's headers do.
pub(super) mod raw {
    use core::ffi::{c_char, c_int, c_void};
    use pgrx::pg_sys::{
        AttrNumber, Bitmapset, CmdType, CommandId, Datum, EState, IndexScanDesc, ItemPointer, List, MemoryContext, Oid,
        RegProcedure, Relation, ResultRelInfo, ScanDirection, ScanKey, Size, Snapshot, SnapshotData, StrategyNumber,
        TimestampTz, TransactionId, TupleDesc, TupleTableSlot, TupleTableSlotOps,
    };

    unsafe extern "C-unwind" {
        // Memory and lists.
        pub fn AllocSetContextCreateInternal(
            parent: MemoryContext,
            name: *const c_char,
            min: Size,
            init: Size,
            max: Size,
        ) -> MemoryContext;
        pub fn MemoryContextReset(context: MemoryContext);
        pub fn MemoryContextDelete(context: MemoryContext);
        pub fn palloc0(size: Size) -> *mut c_void;
        pub fn lappend(list: *mut List, datum: *mut c_void) -> *mut List;
        pub fn bms_add_member(a: *mut Bitmapset, x: c_int) -> *mut Bitmapset;

        // Transactions, commands, snapshots.
        pub fn StartTransactionCommand();
        pub fn SetCurrentStatementStartTimestamp();
        pub fn GetTransactionSnapshot() -> Snapshot;
        pub fn PushActiveSnapshot(snapshot: Snapshot);
        pub fn ActiveSnapshotSet() -> bool;
        pub fn UpdateActiveSnapshotCommandId();
        pub fn GetCurrentCommandId(used: bool) -> CommandId;
        pub fn CommandCounterIncrement();
        pub fn TransactionIdIsCurrentTransactionId(xid: TransactionId) -> bool;
        pub fn TransactionIdGetCommitTsData(xid: TransactionId, ts: *mut TimestampTz, nodeid: *mut u16) -> bool;

        // Slots.
        pub fn MakeSingleTupleTableSlot(desc: TupleDesc, ops: *const TupleTableSlotOps) -> *mut TupleTableSlot;
        pub fn ExecDropSingleTupleTableSlot(slot: *mut TupleTableSlot);
        #[link_name = "ExecClearTuple__pgrx_cshim"]
        pub fn ExecClearTuple(slot: *mut TupleTableSlot) -> *mut TupleTableSlot;

        // Tables and indexes.
        pub fn table_slot_callbacks(relation: Relation) -> *const TupleTableSlotOps;
        pub fn relation_close(relation: Relation, lockmode: c_int);
        #[link_name = "table_tuple_insert__pgrx_cshim"]
        pub fn table_tuple_insert(
            rel: Relation,
            slot: *mut TupleTableSlot,
            cid: CommandId,
            options: c_int,
            bistate: *mut pgrx::pg_sys::BulkInsertStateData,
        );
        #[link_name = "table_tuple_delete__pgrx_cshim"]
        pub fn table_tuple_delete(
            rel: Relation,
            tid: ItemPointer,
            cid: CommandId,
            snapshot: Snapshot,
            crosscheck: Snapshot,
            wait: bool,
            tmfd: *mut pgrx::pg_sys::TM_FailureData,
            changing_part: bool,
        ) -> pgrx::pg_sys::TM_Result::Type;
        pub fn index_open(relation: Oid, lockmode: c_int) -> Relation;
        pub fn index_close(relation: Relation, lockmode: c_int);
        pub fn index_rescan(scan: IndexScanDesc, keys: ScanKey, nkeys: c_int, orderbys: ScanKey, norderbys: c_int);
        pub fn index_getnext_slot(
            scan: IndexScanDesc,
            direction: ScanDirection::Type,
            slot: *mut TupleTableSlot,
        ) -> bool;
        pub fn index_endscan(scan: IndexScanDesc);
        pub fn ScanKeyInit(
            entry: ScanKey,
            attribute: AttrNumber,
            strategy: StrategyNumber,
            procedure: RegProcedure,
            argument: Datum,
        );

        // The executor.
        pub fn CreateExecutorState() -> *mut EState;
        pub fn FreeExecutorState(estate: *mut EState);
        pub fn InitResultRelInfo(
            result: *mut ResultRelInfo,
            relation: Relation,
            rtindex: pgrx::pg_sys::Index,
            partition_root: *mut ResultRelInfo,
            instrument_options: c_int,
        );
        pub fn ExecCloseIndices(result: *mut ResultRelInfo);
        pub fn ExecResetTupleTable(table: *mut List, should_free: bool);
        pub fn ExecComputeStoredGenerated(
            result: *mut ResultRelInfo,
            estate: *mut EState,
            slot: *mut TupleTableSlot,
            cmdtype: CmdType::Type,
        );
        pub fn ExecConstraints(result: *mut ResultRelInfo, slot: *mut TupleTableSlot, estate: *mut EState);
        pub fn ExecPartitionCheck(
            result: *mut ResultRelInfo,
            slot: *mut TupleTableSlot,
            estate: *mut EState,
            emit_error: bool,
        ) -> bool;
    }

    /// As the server's `InitDirtySnapshot`.
    ///
    /// # Safety
    /// The struct is ours, and no scan is between two rows of it.
    pub unsafe fn init_dirty(snapshot: *mut SnapshotData) {
        // SAFETY: a struct without owned parts.
        unsafe {
            (*snapshot).snapshot_type = pgrx::pg_sys::SnapshotType::SNAPSHOT_DIRTY;
            (*snapshot).xmin = pgrx::pg_sys::InvalidTransactionId;
            (*snapshot).xmax = pgrx::pg_sys::InvalidTransactionId;
            (*snapshot).speculativeToken = 0;
        }
    }
}
