//! Writing one table within one transaction: insert, update, delete, with
//! triggers, constraints and index entries as the executor would do it, but without a plan and without building the
//! executor's state for each row.
//!
//! # Invariants
//! 1. [`Target::insert`] never raises a unique violation unless asked to, and [`Target::update`] never: a possible duplicate is
//!    taken back and reported, without waiting and without a subtransaction.
//! 2. Triggers that cannot fire (`session_replication_role = replica`) cost nothing.

use super::compat::executor as compat;
use super::message;
use super::relation::{ColumnNumber, KeyIndex, Table};
use super::scope::TransactionMemory;
use super::search::KeyScan;
use super::tuple::{OwnedContext, Slot, Value};
use super::unguarded::{guarded, raw};
use crate::error::Report;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::mem::ManuallyDrop;
use std::rc::Rc;

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The row is there, or a trigger suppressed it.
    Done,
    /// A unique index may hold the key already. Nothing was inserted.
    Duplicate,
}

/// What became of an update or delete of the row that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Done, or suppressed by a trigger.
    Done,
    /// Another transaction changed the row meanwhile: find it again.
    Changed,
    /// A unique index may hold a value of the new row already. The old row is gone, the new one is not there.
    Duplicate,
}

/// What must be done around each row, from the table's triggers and columns.
#[derive(Debug, Clone, Copy, Default)]
struct Duties {
    before_insert: bool,
    before_update: bool,
    before_delete: bool,
    after_insert: bool,
    after_update: bool,
    after_delete: bool,
    stored_generated: bool,
    constraints: bool,
    partition: bool,
}

/// One table being written in the current transaction.
///
/// On ERROR: Drop does nothing. Abort closes relations and scans and frees the executor's memory.
pub struct Target {
    // What is dropped by hand is closed by Drop, all of it in one guard.
    /// The row from the wire, in local columns.
    pub remote: ManuallyDrop<Slot>,
    /// The row that was found.
    pub local: ManuallyDrop<Slot>,
    /// The row to be written in place of `local`.
    pub merged: ManuallyDrop<Slot>,
    /// The unique index that the current row has met another one in, if it is not the key's.
    pub met_in: Option<String>,
    pub(super) table: ManuallyDrop<Table>,
    pub(super) estate: *mut pg_sys::EState,
    pub(super) result: *mut pg_sys::ResultRelInfo,
    /// Whether the indexes of `result` are open: most UPDATEs leave them alone.
    indexes_open: bool,
    epq: *mut pg_sys::EPQState,
    /// What finds rows, opened when the first one is looked for: most inserts look for none.
    pub(super) key: Option<KeyScan>,
    pub(super) key_index: Option<Rc<KeyIndex>>,
    duties: Duties,
    defaults: Vec<(ColumnNumber, *mut pg_sys::ExprState)>,
    memory: ManuallyDrop<TransactionMemory>,
}

/// What [`Target::prepare`] makes of a table.
#[derive(Clone, Copy)]
struct Parts {
    memory: pg_sys::MemoryContext,
    estate: *mut pg_sys::EState,
    result: *mut pg_sys::ResultRelInfo,
    epq: *mut pg_sys::EPQState,
    remote: *mut pg_sys::TupleTableSlot,
    local: *mut pg_sys::TupleTableSlot,
    merged: *mut pg_sys::TupleTableSlot,
}

/// Default expressions of columns that the provider does not have. Kept across transactions.
pub struct Defaults {
    expressions: Vec<(ColumnNumber, *mut pg_sys::Expr)>,
    _memory: OwnedContext,
}

impl Defaults {
    /// Plans the defaults of `columns` of the open table.
    pub fn plan(table: &Table, columns: &[ColumnNumber]) -> Self {
        let memory = OwnedContext::new(c"spock column defaults");
        let mut expressions = Vec::new();
        // SAFETY: the planned expression is copied into memory that lives as long as the result.
        unsafe {
            for &number in columns {
                let expression = pg_sys::build_column_default(table.raw(), i32::from(number.0));
                if expression.is_null() {
                    continue;
                }
                let planned = pg_sys::expression_planner(expression.cast());
                let previous = pg_sys::MemoryContextSwitchTo(memory.raw());
                let kept = pg_sys::copyObjectImpl(planned.cast());
                pg_sys::MemoryContextSwitchTo(previous);
                expressions.push((number, kept.cast()));
            }
        }
        Self { expressions, _memory: memory }
    }
}

impl Target {
    /// Prepares writing `table`. `written` are the columns that updates may change. Lives in the current transaction.
    pub fn prepare(table: Table, key: Option<&Rc<KeyIndex>>, written: &[ColumnNumber], defaults: &Defaults) -> Self {
        let relation = table.raw();
        let duties = duties(&table);
        // SAFETY: inside a transaction. Everything is allocated in memory of ours or the executor state's, and the slots pin the
        // descriptor of a table that stays open as long as they. Inside the guard are a borrowed slice and plain values.
        unsafe {
            let parts = guarded(move || open_parts(relation, written));
            let Parts { memory, estate, result, epq, remote, local, merged } = parts;
            let previous = pg_sys::MemoryContextSwitchTo((*estate).es_query_cxt);
            if duties.before_update || duties.before_delete {
                compat::init_epq(epq, estate);
            }
            let defaults = defaults
                .expressions
                .iter()
                .map(|&(number, expression)| (number, pg_sys::ExecInitExpr(expression, core::ptr::null_mut())))
                .collect();
            pg_sys::MemoryContextSwitchTo(previous);
            Self {
                remote: ManuallyDrop::new(Slot::from_raw(remote)),
                local: ManuallyDrop::new(Slot::from_raw(local)),
                merged: ManuallyDrop::new(Slot::from_raw(merged)),
                met_in: None,
                table: ManuallyDrop::new(table),
                estate,
                result,
                indexes_open: false,
                epq,
                key: None,
                key_index: key.cloned(),
                duties,
                defaults,
                memory: ManuallyDrop::new(TransactionMemory::from_raw(memory)),
            }
        }
    }

    /// How many indexes there are, all of them open from here on.
    pub(super) fn open_indexes(&mut self) -> i32 {
        // SAFETY: the table is open and locked; what is allocated lives as long as the executor state.
        unsafe {
            if !self.indexes_open {
                self.indexes_open = true;
                if (*(*self.table.raw()).rd_rel).relhasindex {
                    let previous = pg_sys::MemoryContextSwitchTo((*self.estate).es_query_cxt);
                    pg_sys::ExecOpenIndices(self.result, false);
                    pg_sys::MemoryContextSwitchTo(previous);
                }
            }
            (*self.result).ri_NumIndices
        }
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The open search by key, opened if need be. `None`: the table has no key.
    pub(super) fn key_scan(&mut self) -> Option<&mut KeyScan> {
        if self.key.is_none() {
            let index = self.key_index.as_ref()?;
            // SAFETY: inside the transaction of this target; the executor state's context lives as long as the search.
            self.key = Some(unsafe {
                let previous = pg_sys::MemoryContextSwitchTo((*self.estate).es_query_cxt);
                let scan = KeyScan::open(&self.table, index);
                pg_sys::MemoryContextSwitchTo(previous);
                scan
            });
        }
        self.key.as_mut()
    }

    /// After a rollback of the subtransaction that it was prepared in: nothing is left to close.
    pub fn abandon(mut self) {
        drop((core::mem::take(&mut self.defaults), self.key.take(), self.key_index.take(), self.met_in.take()));
        core::mem::forget(self);
    }

    /// Makes the row in `merged` the one in `remote`.
    pub fn remote_from_merged(&mut self) {
        self.remote.start_from(&self.merged);
        self.remote.copy_values();
        self.remote.finish();
    }

    /// Whether a BEFORE INSERT trigger fires: it must not see a row that turns out to exist.
    pub fn inserts_fire_before(&self) -> bool {
        self.duties.before_insert
    }

    /// Sets the columns that the provider does not have in `remote` to their defaults. The slot is being built.
    pub fn fill_defaults(&mut self) {
        for &(number, expression) in &self.defaults {
            let mut null = false;
            // SAFETY: the expression was initialised in this executor state and has no inputs. The value lives in the
            // memory of the current row, which is reset when the next row starts.
            let datum = unsafe {
                let econtext = per_tuple(self.estate);
                pg_sys::ExecEvalExprSwitchContext(expression, econtext, &mut null)
            };
            self.remote.set(number, Value { datum, null });
        }
    }

    /// Frees what the previous row left behind. Called before each row.
    pub fn next_row(&mut self) {
        self.met_in = None;
        let (slots, estate) = ([self.merged.raw(), self.remote.raw(), self.local.raw()], self.estate);
        // SAFETY: nothing refers to the previous row any more: slots are cleared before the memory that they point to.
        unsafe {
            guarded(move || {
                for slot in slots {
                    raw::ExecClearTuple(slot);
                }
                let econtext = (*estate).es_per_tuple_exprcontext;
                if !econtext.is_null() {
                    raw::MemoryContextReset((*econtext).ecxt_per_tuple_memory);
                }
            });
        }
    }

    /// Inserts `remote`. With `raise`, a unique violation is an error as usual; without, it is [`Inserted::Duplicate`].
    pub fn insert(&mut self, raise: bool) -> Inserted {
        let slot = self.remote.raw();
        // SAFETY: the slot holds a complete row of the table; executor state, result relation and indexes are open.
        unsafe {
            self.command_begins(self.duties.after_insert);
            if self.duties.before_insert && !pg_sys::ExecBRInsertTriggers(self.estate, self.result, slot) {
                self.end_after(self.duties.after_insert);
                return Inserted::Done;
            }
            let writing = self.writing();
            guarded(move || {
                writing.check(slot, pg_sys::CmdType::CMD_INSERT);
                raw::table_tuple_insert(writing.table, slot, writing.command(), 0, core::ptr::null_mut());
            });
            let mut conflict = false;
            let mut recheck = core::ptr::null_mut();
            if self.open_indexes() > 0 {
                recheck =
                    compat::insert_index_entries(self.result, slot, self.estate, false, !raise, &mut conflict, false);
            }
            if conflict {
                self.end_after(self.duties.after_insert);
                self.take_back(slot);
                return Inserted::Duplicate;
            }
            if self.duties.after_insert {
                pg_sys::ExecARInsertTriggers(self.estate, self.result, slot, recheck, core::ptr::null_mut());
            }
            self.end_after(self.duties.after_insert);
        }
        Inserted::Done
    }

    /// Removes the row that this command has just inserted.
    unsafe fn take_back(&mut self, slot: *mut pg_sys::TupleTableSlot) {
        // A row of the current command is invisible to it: step over.
        next_command();
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: the slot holds the position of a row that only this transaction can have touched.
        let result = unsafe {
            pg_sys::table_tuple_delete(
                self.table.raw(),
                &mut (*slot).tts_tid,
                pg_sys::GetCurrentCommandId(true),
                core::ptr::null_mut(),
                core::ptr::null_mut(),
                true,
                &mut failure,
                false,
            )
        };
        assert_eq!(result, pg_sys::TM_Result::TM_Ok, "a row of this transaction can be removed");
        next_command();
    }

    /// Replaces the row in `local` by the row in `merged`.
    pub fn update(&mut self) -> Written {
        let slot = self.merged.raw();
        // SAFETY: `local` holds a row of the table with its position, `merged` a complete row.
        unsafe {
            let mut tid = (*self.local.raw()).tts_tid;
            if self.duties.before_update && !self.lock(&mut tid) {
                return Written::Changed;
            }
            self.command_begins(self.duties.after_update);
            if self.duties.before_update && !compat::before_update(self.estate, self.epq, self.result, &mut tid, slot) {
                self.end_after(self.duties.after_update);
                return Written::Done;
            }
            let writing = self.writing();
            let place = &raw mut tid;
            let (result, indexes, summarizing) = guarded(move || {
                writing.check(slot, pg_sys::CmdType::CMD_UPDATE);
                let mut failure = pg_sys::TM_FailureData::default();
                compat::update_tuple(writing.table, place, slot, writing.command(), &mut failure)
            });
            if !succeeded(result) {
                self.end_after(self.duties.after_update);
                return Written::Changed;
            }
            let mut recheck = core::ptr::null_mut();
            let mut conflict = false;
            if indexes && self.open_indexes() > 0 {
                let (estate, found) = (self.estate, &raw mut conflict);
                recheck = compat::insert_index_entries(self.result, slot, estate, true, true, found, summarizing);
            }
            if conflict {
                self.end_after(self.duties.after_update);
                self.take_back(slot);
                return Written::Duplicate;
            }
            if self.duties.after_update {
                let none = core::ptr::null_mut();
                pg_sys::ExecARUpdateTriggers(
                    self.estate,
                    self.result,
                    none,
                    none,
                    &mut tid,
                    core::ptr::null_mut(),
                    slot,
                    recheck,
                    core::ptr::null_mut(),
                    false,
                );
            }
            self.end_after(self.duties.after_update);
        }
        Written::Done
    }

    /// Deletes the row in `local`.
    pub fn delete(&mut self) -> Written {
        self.delete_as(false)
    }

    /// The same; nodes that this one hands its changes on to do not take it for a removal. What triggers delete, they do.
    pub fn displace(&mut self) -> Written {
        self.delete_as(true)
    }

    fn delete_as(&mut self, displaced: bool) -> Written {
        // SAFETY: `local` holds a row of the table with its position.
        unsafe {
            let mut tid = (*self.local.raw()).tts_tid;
            if self.duties.before_delete && !self.lock(&mut tid) {
                return Written::Changed;
            }
            self.command_begins(self.duties.after_delete);
            if self.duties.before_delete && !compat::before_delete(self.estate, self.epq, self.result, &mut tid) {
                self.end_after(self.duties.after_delete);
                return Written::Done;
            }
            let writing = self.writing();
            let place = &raw mut tid;
            if displaced {
                message::write_displacing(true);
            }
            let result = guarded(move || {
                let mut failure = pg_sys::TM_FailureData::default();
                let none = core::ptr::null_mut();
                raw::table_tuple_delete(writing.table, place, writing.command(), none, none, true, &mut failure, false)
            });
            if displaced {
                message::write_displacing(false);
            }
            if !succeeded(result) {
                self.end_after(self.duties.after_delete);
                return Written::Changed;
            }
            if self.duties.after_delete {
                let none = core::ptr::null_mut();
                pg_sys::ExecARDeleteTriggers(self.estate, self.result, &mut tid, none, core::ptr::null_mut(), false);
            }
            self.end_after(self.duties.after_delete);
        }
        Written::Done
    }

    /// Locks the row for a change. False: it changed meanwhile.
    unsafe fn lock(&mut self, tid: &mut pg_sys::ItemPointerData) -> bool {
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: `local` is a slot of the table; it is filled again with the same row.
        let result = unsafe {
            pg_sys::table_tuple_lock(
                self.table.raw(),
                tid,
                pg_sys::GetActiveSnapshot(),
                self.local.raw(),
                pg_sys::GetCurrentCommandId(false),
                pg_sys::LockTupleMode::LockTupleExclusive,
                pg_sys::LockWaitPolicy::LockWaitBlock,
                0,
                &mut failure,
            )
        };
        succeeded(result)
    }

    /// Before each row: AFTER triggers are queued from here on. Where triggers fire before the row is written, its command is the
    /// one that is current now.
    unsafe fn command_begins(&mut self, after: bool) {
        // SAFETY: inside a transaction; `end_after` closes what this opens.
        unsafe {
            if self.duties.any_before() {
                (*self.estate).es_output_cid = pg_sys::GetCurrentCommandId(true);
            }
            if after {
                pg_sys::AfterTriggerBeginQuery();
            }
        }
    }

    fn writing(&self) -> Writing {
        Writing { table: self.table.raw(), estate: self.estate, result: self.result, duties: self.duties }
    }

    /// Fires the AFTER triggers queued for this row.
    unsafe fn end_after(&mut self, queued: bool) {
        if queued {
            // SAFETY: closes what the same row opened.
            unsafe { pg_sys::AfterTriggerEndQuery(self.estate) }
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let key = self.key.as_ref().map(KeyScan::parts);
        let slots = [self.local.raw(), self.remote.raw(), self.merged.raw()];
        let (table, memory) = (self.table.raw(), self.memory.raw());
        let (estate, result, indexes) = (self.estate, self.result, self.indexes_open);
        // SAFETY: everything was opened by `prepare` and later, and is closed once: first what refers to other things. Slots let
        // go of the row type before the table is closed. Locks stay until the transaction ends.
        unsafe {
            if self.duties.before_update || self.duties.before_delete {
                self.local.clear();
                pg_sys::EvalPlanQualEnd(self.epq);
            }
            guarded(move || {
                for slot in slots {
                    raw::ExecDropSingleTupleTableSlot(slot);
                }
                if let Some((scan, index)) = key {
                    raw::index_endscan(scan);
                    raw::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
                }
                if indexes {
                    raw::ExecCloseIndices(result);
                }
                raw::ExecResetTupleTable((*estate).es_tupleTable, false);
                raw::FreeExecutorState(estate);
                raw::relation_close(table, pg_sys::NoLock as pg_sys::LOCKMODE);
                raw::MemoryContextDelete(memory);
            });
        }
    }
}

/// What a row is written with: plain values, for the inside of a guard.
#[derive(Clone, Copy)]
struct Writing {
    table: pg_sys::Relation,
    estate: *mut pg_sys::EState,
    result: *mut pg_sys::ResultRelInfo,
    duties: Duties,
}

impl Writing {
    /// Generated columns and constraints of the row to be written.
    ///
    /// # Safety
    /// Inside one guard; a complete row of the table.
    unsafe fn check(&self, slot: *mut pg_sys::TupleTableSlot, command: pg_sys::CmdType::Type) {
        // SAFETY: passed on to the caller.
        unsafe {
            if self.duties.stored_generated {
                raw::ExecComputeStoredGenerated(self.result, self.estate, slot, command);
            }
            if self.duties.constraints {
                raw::ExecConstraints(self.result, slot, self.estate);
            }
            if self.duties.partition {
                raw::ExecPartitionCheck(self.result, slot, self.estate, true);
            }
            (*slot).tts_tableOid = (*self.table).rd_id;
        }
    }

    /// The command that writes the row.
    ///
    /// # Safety
    /// Inside one guard, within a transaction.
    unsafe fn command(&self) -> pg_sys::CommandId {
        // SAFETY: passed on to the caller. What BEFORE triggers have done since does not count.
        unsafe {
            if !self.duties.any_before() {
                (*self.estate).es_output_cid = raw::GetCurrentCommandId(true);
            }
            (*self.estate).es_output_cid
        }
    }
}

impl Duties {
    fn any_before(self) -> bool {
        self.before_insert || self.before_update || self.before_delete
    }
}

/// Makes what was written so far visible to what follows in this transaction.
pub fn next_command() {
    // SAFETY: inside a transaction with our snapshot on top of the stack.
    unsafe {
        guarded(|| {
            raw::CommandCounterIncrement();
            if raw::ActiveSnapshotSet() {
                raw::UpdateActiveSnapshotCommandId();
            }
        });
    }
}

unsafe fn per_tuple(estate: *mut pg_sys::EState) -> *mut pg_sys::ExprContext {
    // SAFETY: a live executor state.
    unsafe {
        let existing = (*estate).es_per_tuple_exprcontext;
        if existing.is_null() { pg_sys::MakePerTupleExprContext(estate) } else { existing }
    }
}

/// Opens what [`Target`] needs of a table.
///
/// # Safety
/// Inside one guard and a transaction, with the open table.
unsafe fn open_parts(relation: pg_sys::Relation, written: &[ColumnNumber]) -> Parts {
    // SAFETY: what is made lives in a context of the innermost transaction, or in that of the executor state.
    unsafe {
        let memory = raw::AllocSetContextCreateInternal(
            pg_sys::CurTransactionContext,
            c"spock open table".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        let previous = pg_sys::MemoryContextSwitchTo(memory);
        let estate = raw::CreateExecutorState();
        // Slots outlive the executor state by a moment: they are not in its context.
        let values = &raw const pg_sys::TTSOpsVirtual;
        let descriptor = (*relation).rd_att;
        let remote = raw::MakeSingleTupleTableSlot(descriptor, values);
        let local = raw::MakeSingleTupleTableSlot(descriptor, raw::table_slot_callbacks(relation));
        let merged = raw::MakeSingleTupleTableSlot(descriptor, values);
        pg_sys::MemoryContextSwitchTo((*estate).es_query_cxt);
        let result = open_result(estate, relation, written);
        let epq = raw::palloc0(size_of::<pg_sys::EPQState>()).cast();
        pg_sys::MemoryContextSwitchTo(previous);
        Parts { memory, estate, result, epq, remote, local, merged }
    }
}

unsafe fn open_result(
    estate: *mut pg_sys::EState,
    relation: pg_sys::Relation,
    written: &[ColumnNumber],
) -> *mut pg_sys::ResultRelInfo {
    // SAFETY: called inside a guard with the executor state's context current, in which all of this lives.
    unsafe {
        let entry = raw::palloc0(size_of::<pg_sys::RangeTblEntry>()).cast::<pg_sys::RangeTblEntry>();
        (*entry).type_ = pg_sys::NodeTag::T_RangeTblEntry;
        (*entry).rtekind = pg_sys::RTEKind::RTE_RELATION;
        (*entry).relid = (*relation).rd_id;
        (*entry).relkind = (*(*relation).rd_rel).relkind;
        (*entry).rellockmode = pg_sys::AccessShareLock as i32;
        let mut columns = core::ptr::null_mut();
        for number in written {
            let bit = i32::from(number.0) - pg_sys::FirstLowInvalidHeapAttributeNumber;
            columns = raw::bms_add_member(columns, bit);
        }
        compat::init_range_table(estate, entry, columns);
        let result = raw::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast::<pg_sys::ResultRelInfo>();
        (*result).type_ = pg_sys::NodeTag::T_ResultRelInfo;
        raw::InitResultRelInfo(result, relation, 1, core::ptr::null_mut(), 0);
        (*estate).es_opened_result_relations = raw::lappend((*estate).es_opened_result_relations, result.cast());
        result
    }
}

/// Which work the table asks for. Only triggers that fire in replica role count.
fn duties(table: &Table) -> Duties {
    let mut duties = Duties::default();
    // SAFETY: an open table; its trigger and constraint descriptions stay as long as it is locked and open.
    unsafe {
        let relation = table.raw();
        duties.partition = (*(*relation).rd_rel).relispartition;
        let constraints = (*table.descriptor()).constr;
        if !constraints.is_null() {
            duties.constraints = true;
            duties.stored_generated = (*constraints).has_generated_stored;
        }
        let triggers = (*relation).trigdesc;
        if triggers.is_null() {
            return duties;
        }
        for i in 0..usize::try_from((*triggers).numtriggers).unwrap_or(0) {
            let trigger = &*(*triggers).triggers.add(i);
            let fires =
                matches!(trigger.tgenabled as u8, pg_sys::TRIGGER_FIRES_ALWAYS | pg_sys::TRIGGER_FIRES_ON_REPLICA);
            let kind = trigger.tgtype as u32;
            if !fires || kind & pg_sys::TRIGGER_TYPE_ROW == 0 {
                continue;
            }
            let before = kind & pg_sys::TRIGGER_TYPE_BEFORE != 0;
            let insert = kind & pg_sys::TRIGGER_TYPE_INSERT != 0;
            let update = kind & pg_sys::TRIGGER_TYPE_UPDATE != 0;
            let delete = kind & pg_sys::TRIGGER_TYPE_DELETE != 0;
            duties.before_insert |= before && insert;
            duties.before_update |= before && update;
            duties.before_delete |= before && delete;
            duties.after_insert |= !before && insert;
            duties.after_update |= !before && update;
            duties.after_delete |= !before && delete;
        }
    }
    duties
}

/// Raises when a trigger of this transaction changed the row under us: there is no sensible continuation.
fn succeeded(result: pg_sys::TM_Result::Type) -> bool {
    match result {
        pg_sys::TM_Result::TM_Ok => true,
        pg_sys::TM_Result::TM_SelfModified | pg_sys::TM_Result::TM_Invisible => Report::new(
            PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
            "row to be changed was already modified by an operation triggered by the current command",
        )
        .raise(),
        _ => false,
    }
}

/// Empties `tables` as their owners. None may be open elsewhere in this process. Raises 42501 for the server's own catalogs,
/// which what is called here would empty as any other table.
pub fn truncate(tables: &[Table], restart_sequences: bool) {
    if tables.iter().any(|table| table.id().get() < pg_sys::FirstNormalObjectId) {
        Report::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, "a table of the server itself cannot be emptied")
            .raise();
    }
    // SAFETY: the tables are open and locked AccessExclusive; the lists live in the current context.
    unsafe {
        let (mut rels, mut oids, mut logged) = (core::ptr::null_mut(), core::ptr::null_mut(), core::ptr::null_mut());
        for table in tables {
            let oid = (*table.raw()).rd_id;
            rels = pg_sys::lappend(rels, table.raw().cast());
            oids = pg_sys::lappend_oid(oids, oid);
            let permanent = (*(*table.raw()).rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_PERMANENT;
            if permanent && pg_sys::wal_level >= pg_sys::WalLevel::WAL_LEVEL_LOGICAL as i32 {
                logged = pg_sys::lappend_oid(logged, oid);
            }
        }
        compat::truncate(rels, oids, logged, restart_sequences);
    }
}
