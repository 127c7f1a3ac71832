//! Which tables the running transaction removes keys from: by DELETE, by an UPDATE of the identity, by TRUNCATE. Told before
//! the transaction commits.
//!
//! # Invariants
//! 1. Too much may be told, never too little: a statement counts by what its plan may do, also if it removes nothing or is
//!    rolled back to a savepoint.
//! 2. A session that removes nothing pays one look at its plan for each statement.

use super::changed;
use super::script::elements;
use core::ffi::{CStr, c_int, c_void};
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};

/// What a transaction has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Oid of the table.
    pub table: u32,
    /// All rows, of which no dead ones stay.
    pub truncated: bool,
    /// A key that had no row, which was written down elsewhere.
    pub remembered: bool,
}

/// Called before a transaction that removed keys commits, or is prepared.
pub type OnRemoved = fn(&[Removed]);

thread_local! {
    static NOTED: RefCell<Vec<Removed>> = const { RefCell::new(Vec::new()) };
    static ON_REMOVED: Cell<Option<OnRemoved>> = const { Cell::new(None) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Says who is told. Once, while the library is loaded.
pub fn install(on_removed: OnRemoved) {
    ON_REMOVED.set(Some(on_removed));
}

/// The running transaction removes a key, or all of them.
pub fn note(removed: Removed) {
    NOTED.with_borrow_mut(|noted| match noted.iter_mut().find(|one| one.table == removed.table) {
        Some(known) => {
            known.truncated |= removed.truncated;
            known.remembered |= removed.remembered;
        }
        None => noted.push(removed),
    });
    if !REGISTERED.replace(true) {
        // SAFETY: a plain function that stays loaded.
        unsafe { pg_sys::RegisterXactCallback(Some(on_transaction_event), core::ptr::null_mut()) }
    }
}

/// The server empties a table for somebody.
pub(super) fn truncates(table: pg_sys::Oid) {
    if is_of_users(table) {
        note(Removed { table: table.to_u32(), truncated: true, remembered: false });
        changed::note(table.to_u32());
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction_event(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    let take = || NOTED.with_borrow_mut(core::mem::take);
    match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT | pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE => {
            let noted = take();
            if let (Some(on_removed), false) = (ON_REMOVED.get(), noted.is_empty()) {
                on_removed(&noted);
            }
        }
        pg_sys::XactEvent::XACT_EVENT_ABORT => drop(take()),
        _ => {}
    }
}

/// Neither a table of the server nor one of ours, which each node keeps for itself.
fn is_of_users(table: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the system caches; a name is NUL-terminated.
    table.to_u32() >= pg_sys::FirstNormalObjectId
        && unsafe {
            let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(table));
            schema.is_null() || CStr::from_ptr(schema) != c"spock"
        }
}

/// Notes what a statement may remove. Called once its plan is initialised.
///
/// # Safety
/// `query` was started.
pub(super) unsafe fn look(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: a started query has its plan and its executor state.
    unsafe {
        let planned = (*query).plannedstmt;
        if (*planned).resultRelations.is_null() || flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as c_int != 0 {
            return;
        }
        let estate = (*query).estate;
        look_at_plan(estate, (*planned).planTree);
        if (*planned).hasModifyingCTE {
            for plan in elements((*planned).subplans) {
                look_at_plan(estate, plan.cast());
            }
        }
    }
}

/// Plans that write are on top of the statement or of a subplan, never below.
unsafe fn look_at_plan(estate: *mut pg_sys::EState, plan: *mut pg_sys::Plan) {
    // SAFETY: a plan of the started query; a node is of the type that its tag says.
    unsafe {
        if plan.is_null() || (*plan).type_ != pg_sys::NodeTag::T_ModifyTable {
            return;
        }
        let plan = plan.cast::<pg_sys::ModifyTable>();
        for (place, index) in numbers((*plan).resultRelations).enumerate() {
            let relation = *(*estate).es_relations.add(index as usize - 1);
            if relation.is_null() {
                continue;
            }
            if (*(*relation).rd_rel).relpersistence as u8 != pg_sys::RELPERSISTENCE_PERMANENT {
                continue;
            }
            changed::note((*relation).rd_id.to_u32());
            let removes = match (*plan).operation {
                pg_sys::CmdType::CMD_DELETE | pg_sys::CmdType::CMD_MERGE => true,
                pg_sys::CmdType::CMD_UPDATE => {
                    let columns = elements((*plan).updateColnosLists).nth(place);
                    columns.is_some_and(|columns| changes_identity(relation, columns.cast()))
                }
                // ON CONFLICT DO UPDATE.
                _ => changes_identity(relation, (*plan).onConflictCols),
            };
            if removes && is_of_users((*relation).rd_id) {
                note(Removed { table: (*relation).rd_id.to_u32(), ..Removed::default() });
            }
        }
    }
}

/// # Safety
/// An open table; the list holds column numbers of it.
unsafe fn changes_identity(relation: pg_sys::Relation, columns: *mut pg_sys::List) -> bool {
    if columns.is_null() {
        return false;
    }
    // SAFETY: the caller's promise. The set is a copy of what the relation keeps.
    unsafe {
        let kind = pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_IDENTITY_KEY;
        let identity = pg_sys::RelationGetIndexAttrBitmap(relation, kind);
        let first = pg_sys::FirstLowInvalidHeapAttributeNumber;
        let changes = numbers(columns).any(|column| pg_sys::bms_is_member(column - first, identity));
        pg_sys::bms_free(identity);
        changes
    }
}

/// # Safety
/// A list of integers, or null.
unsafe fn numbers(list: *mut pg_sys::List) -> impl Iterator<Item = c_int> {
    // SAFETY: the caller's promise, here and below.
    let length = if list.is_null() { 0 } else { unsafe { (*list).length } };
    // SAFETY: as above.
    (0..length).map(move |n| unsafe { (*(*list).elements.add(n as usize)).int_value })
}
