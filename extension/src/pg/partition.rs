//! Which partition of a local table a row belongs to.
//!
//! # Invariants
//! 1. A router lives in one transaction, and keeps the table and the partitions that it found locked to its end.

use super::relation::{ColumnNumber, Table, TableId};
use super::scope::TransactionMemory;
use super::tuple::Slot;
use pgrx::pg_sys;

/// Finds partitions of one open partitioned table.
///
/// On ERROR: Drop does nothing. Abort closes relations and frees the executor's memory.
pub struct Router {
    /// A row of the table, in memory.
    pub row: Slot,
    table: Table,
    estate: *mut pg_sys::EState,
    command: *mut pg_sys::ModifyTableState,
    result: *mut pg_sys::ResultRelInfo,
    routing: *mut pg_sys::PartitionTupleRouting,
    // Freed last.
    _memory: TransactionMemory,
}

impl Router {
    /// For `table`, which is partitioned.
    pub fn new(table: Table) -> Self {
        let memory = TransactionMemory::new(c"spock partitions");
        // SAFETY: inside a transaction, in memory of which everything is allocated. The nodes are those that the executor makes
        // for a command without a plan; a range table index of zero says that there is no range table.
        unsafe {
            let previous = pg_sys::MemoryContextSwitchTo(memory.raw());
            let row = Slot::for_values(&table);
            let estate = pg_sys::CreateExecutorState();
            pg_sys::MemoryContextSwitchTo((*estate).es_query_cxt);
            let result: *mut pg_sys::ResultRelInfo = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
            (*result).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(result, table.raw(), 0, core::ptr::null_mut(), 0);
            let command: *mut pg_sys::ModifyTableState = pg_sys::palloc0(size_of::<pg_sys::ModifyTableState>()).cast();
            (*command).ps.type_ = pg_sys::NodeTag::T_ModifyTableState;
            (*command).ps.state = estate;
            (*command).operation = pg_sys::CmdType::CMD_INSERT;
            (*command).resultRelInfo = result;
            (*command).rootResultRelInfo = result;
            let routing = pg_sys::ExecSetupPartitionTupleRouting(estate, table.raw());
            (*command).mt_partition_tuple_routing = routing;
            pg_sys::MemoryContextSwitchTo(previous);
            Self { row, table, estate, command, result, routing, _memory: memory }
        }
    }

    /// After a rollback of the subtransaction that it was made in: nothing is left to close.
    pub fn abandon(self) {
        core::mem::forget(self);
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The leaf partition for the row in `row`. Raises 23514 when there is none.
    pub fn find(&mut self) -> TableId {
        // SAFETY: everything was made by `new` for this table, of which `row` holds a row. What the last row left in the
        // context of rows is not used any more.
        unsafe {
            if !(*self.estate).es_per_tuple_exprcontext.is_null() {
                pg_sys::ReScanExprContext((*self.estate).es_per_tuple_exprcontext);
            }
            let leaf = pg_sys::ExecFindPartition(self.command, self.result, self.routing, self.row.raw(), self.estate);
            TableId((*(*leaf).ri_RelationDesc).rd_id)
        }
    }

    /// Whether the table itself is partitioned by one of `columns`, or by an expression over one.
    pub fn spreads_by(&self, columns: &[ColumnNumber]) -> bool {
        // SAFETY: a set of column numbers as the server counts them, in the current context; the table is open.
        unsafe {
            let mut set = core::ptr::null_mut();
            for column in columns {
                set = pg_sys::bms_add_member(set, i32::from(column.0) - pg_sys::FirstLowInvalidHeapAttributeNumber);
            }
            let mut in_expression = false;
            pg_sys::has_partition_attrs(self.table.raw(), set, &mut in_expression)
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: made by `new`, released once; locks stay to the end of the transaction.
        unsafe {
            pg_sys::ExecCleanupTupleRouting(self.command, self.routing);
            pg_sys::ExecResetTupleTable((*self.estate).es_tupleTable, false);
            pg_sys::FreeExecutorState(self.estate);
        }
    }
}

/// The partitions of every level of an open table, locked AccessExclusive to the end of the transaction.
pub fn partitions_exclusive(table: &Table) -> Vec<TableId> {
    let mode = pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: a list of oids, the table itself first, in the current context.
    unsafe {
        let list = pg_sys::find_all_inheritors(table.id().0, mode, core::ptr::null_mut());
        let count = usize::try_from((*list).length).unwrap_or(0);
        (1..count).map(|n| TableId((*(*list).elements.add(n)).oid_value)).collect()
    }
}
