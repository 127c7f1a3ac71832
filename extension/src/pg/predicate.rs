//! A stored boolean expression over the columns of one table, compiled once and asked for many rows.
//!
//! # Invariants
//! 1. Everything it keeps lives in the context given at [`Predicate::compile`]; the owner forgets the predicate before it
//!    deletes that context.
//! 2. A value that did not change and is stored out of line is not looked at: the table as it is now may have lost it.
//! 3. Asking leaves the memory context and the stack of snapshots as they were.
//! 4. The functions that it calls are users', and can have another body than when the filter was set: they run as the table's owner,
//!    never as the role that reads the stream.

use super::compat::decoding as compat;
use super::decoding::{TableRef, TupleRef};
use super::memory::OwnedContext;
use super::session::OwnerScope;
use super::types::is_on_disk;
use pgrx::pg_sys;
use std::ffi::CString;

/// A compiled row filter.
pub struct Predicate {
    state: *mut pg_sys::ExprState,
    context: *mut pg_sys::ExprContext,
    slot: *mut pg_sys::TupleTableSlot,
    /// Columns that it reads and whose values can be stored out of line, by number.
    out_of_line: Vec<u16>,
    /// The table's owner. Another one makes another predicate: the table is invalidated then.
    owner: pg_sys::Oid,
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
    /// Compiles a serialized expression (`pg_node_tree`) over `table` (range table entry 1) that yields a boolean and reads
    /// `columns`.
    pub fn compile(node_tree: &str, columns: &[u16], table: TableRef<'_>, home: OwnedContext) -> Self {
        let width = table.width();
        let in_table = |number: &u16| (1..=width).contains(&usize::from(*number));
        let out_of_line: Vec<u16> = columns
            .iter()
            .copied()
            .filter(|number| in_table(number) && table.is_varlena(usize::from(*number) - 1))
            .collect();
        let text = CString::new(node_tree).unwrap_or_default();
        let _snapshot = DecodingSnapshot::push();
        let owner = table.owner();
        let _owner = OwnerScope::enter_as(owner);
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
            Self { state, context, slot, out_of_line, owner }
        }
    }

    /// Whether the expression is true for this row; NULL is not true. `None`: WAL lacks a value that it needs. Errors of the
    /// expression are raised.
    pub fn holds(&mut self, tuple: TupleRef<'_>) -> Option<bool> {
        let _snapshot = DecodingSnapshot::push();
        let _owner = OwnerScope::enter_as(self.owner);
        let mut null = true;
        // SAFETY: all three live in the predicate's context; the tuple is a row of its table and outlives the call, after
        // which the slot forgets it.
        unsafe {
            pg_sys::MemoryContextReset((*self.context).ecxt_per_tuple_memory);
            pg_sys::ExecStoreHeapTuple(tuple.raw(), self.slot, false);
            if self.out_of_line.iter().any(|&number| lacks(self.slot, number)) {
                pg_sys::ExecClearTuple(self.slot);
                return None;
            }
            (*self.context).ecxt_scantuple = self.slot;
            let result = pg_sys::ExecEvalExprSwitchContext(self.state, self.context, &mut null);
            pg_sys::ExecClearTuple(self.slot);
            Some(!null && result.value() as u8 != 0)
        }
    }
}

/// # Safety
/// `slot` holds a row of a table that has a column of that number, of a type of variable length.
unsafe fn lacks(slot: *mut pg_sys::TupleTableSlot, number: u16) -> bool {
    let at = usize::from(number);
    // SAFETY: asks for the values up to that column, which fills the arrays that far.
    unsafe {
        if usize::from((*slot).tts_nvalid.unsigned_abs()) < at {
            pg_sys::slot_getsomeattrs_int(slot, number.into());
        }
        !*(*slot).tts_isnull.add(at - 1) && is_on_disk(*(*slot).tts_values.add(at - 1))
    }
}
