//! A stored boolean expression over the columns of one table, compiled once and asked for many rows.
//!
//! # Invariants
//! 1. Everything it keeps lives in the context given at [`Predicate::compile`]; the owner forgets the predicate before it
//!    deletes that context.
//! 2. Asking leaves the memory context and the stack of snapshots as they were.

use super::compat::decoding as compat;
use super::decoding::{TableRef, TupleRef};
use super::memory::OwnedContext;
use pgrx::pg_sys;
use std::ffi::CString;

/// A compiled row filter.
pub struct Predicate {
    state: *mut pg_sys::ExprState,
    context: *mut pg_sys::ExprContext,
    slot: *mut pg_sys::TupleTableSlot,
}

/// The snapshot of the transaction that is being decoded, active while an expression runs: functions may ask for one, and
/// TOAST fetches of 18 and later insist. It sees catalogs only, so an expression cannot read user tables.
///
/// On ERROR: Drop does nothing. Abort pops the snapshot stack.
struct DecodingSnapshot;

impl DecodingSnapshot {
    fn push() -> Self {
        // SAFETY: inside the transaction of a decoding callback, where the transaction snapshot is the historic one.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) }
        Self
    }
}

impl Drop for DecodingSnapshot {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: `push` put exactly one snapshot on the stack, and scopes nest.
            unsafe { pg_sys::PopActiveSnapshot() }
        }
    }
}

impl Predicate {
    /// Compiles a serialized expression (`pg_node_tree`) over `table` (range table entry 1) that yields a boolean.
    pub fn compile(node_tree: &str, table: TableRef<'_>, home: OwnedContext) -> Self {
        let text = CString::new(node_tree).unwrap_or_default();
        let _snapshot = DecodingSnapshot::push();
        let _scope = home.enter();
        // SAFETY: inside a transaction, in a context that outlives the predicate. The tree was written by the server for
        // this table; the descriptor is copied, so later changes of the table do not reach the compiled state.
        unsafe {
            let node = pg_sys::stringToNode(text.as_ptr()).cast::<pg_sys::Node>();
            let node = compat::with_generated_columns(node, table.raw());
            let estate = pg_sys::CreateExecutorState();
            let state = pg_sys::ExecPrepareExpr(node.cast(), estate);
            let context = pg_sys::MakePerTupleExprContext(estate);
            let descriptor = pg_sys::CreateTupleDescCopyConstr(table.descriptor());
            let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsHeapTuple);
            Self { state, context, slot }
        }
    }

    /// Whether the expression is true for this row; NULL is not true. Errors of the expression are raised.
    pub fn holds(&mut self, tuple: TupleRef<'_>) -> bool {
        let _snapshot = DecodingSnapshot::push();
        let mut null = true;
        // SAFETY: all three live in the predicate's context; the tuple is a row of its table and outlives the call, after
        // which the slot forgets it.
        unsafe {
            pg_sys::MemoryContextReset((*self.context).ecxt_per_tuple_memory);
            pg_sys::ExecStoreHeapTuple(tuple.raw(), self.slot, false);
            (*self.context).ecxt_scantuple = self.slot;
            let result = pg_sys::ExecEvalExprSwitchContext(self.state, self.context, &mut null);
            pg_sys::ExecClearTuple(self.slot);
            !null && result.value() as u8 != 0
        }
    }
}
