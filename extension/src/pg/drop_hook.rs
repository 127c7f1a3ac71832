//! Tells us that a table, one of its columns, a sequence, or an object that a row filter can use is about to be dropped, and
//! whether the statement said CASCADE.
//!
//! # Invariants
//! 1. Only drops that a user asked for are told: not what the server drops for itself, nor temporary tables.
//! 2. Once a relation of our own schema goes, the rest of that statement is not told: the extension is being dropped.
//! 3. Hooks that others have installed before are called.

use core::ffi::{CStr, c_int, c_void};
use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;

use super::touched::{self, Address};

/// What becomes of that which depends on a dropped object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependents {
    /// They forbid the drop.
    Restrict,
    /// They go, too.
    Cascade,
}

/// Which catalog of the server an object is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A table or sequence, or a column of a table.
    Relation,
    /// A function.
    Function,
    /// An operator.
    Operator,
    /// A type.
    Type,
    /// A collation.
    Collation,
}

impl Class {
    fn of(catalog: pg_sys::Oid) -> Option<Self> {
        [
            (pg_sys::RelationRelationId, Self::Relation),
            (pg_sys::ProcedureRelationId, Self::Function),
            (pg_sys::OperatorRelationId, Self::Operator),
            (pg_sys::TypeRelationId, Self::Type),
            (pg_sys::CollationRelationId, Self::Collation),
        ]
        .into_iter()
        .find(|(oid, _)| oid.to_u32() == catalog.to_u32())
        .map(|(_, class)| class)
    }
}

/// What goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Kind of object.
    pub class: Class,
    /// Its OID.
    pub object: u32,
    /// Column number of a dropped column; 0: the whole object.
    pub part: i32,
}

/// Called for each object before it goes. May raise to forbid it.
pub type OnDrop = fn(Dropped, Dependents);

/// What is known of the utility statement that runs.
#[derive(Clone, Copy)]
struct Statement {
    dependents: Dependents,
    ours_go: bool,
}

/// Outside of a DROP statement nobody could have said CASCADE, so a drop must not be forbidden there.
const NO_STATEMENT: Statement = Statement { dependents: Dependents::Cascade, ours_go: false };

thread_local! {
    static STATEMENT: Cell<Statement> = const { Cell::new(NO_STATEMENT) };
    static ON_DROP: Cell<Option<OnDrop>> = const { Cell::new(None) };
    static NEXT_ACCESS: Cell<pg_sys::object_access_hook_type> = const { Cell::new(None) };
}

/// Puts the outer statement back.
///
/// On ERROR: still runs. It sets one cell of this process.
pub(super) struct Within(Option<Statement>);

impl Within {
    /// Notes what `statement` says.
    ///
    /// # Safety
    /// `statement` is the planned statement that the server is about to run.
    pub(super) unsafe fn enter(statement: *mut pg_sys::PlannedStmt) -> Self {
        // SAFETY: the caller's promise.
        let dependents = unsafe { dependents_of(statement) };
        Self(dependents.map(|dependents| STATEMENT.replace(Statement { dependents, ours_go: false })))
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        if let Some(outer) = self.0 {
            STATEMENT.set(outer);
        }
    }
}

/// Installs the hook. Once, while the library is loaded.
pub fn install(on_drop: OnDrop) {
    ON_DROP.set(Some(on_drop));
    // SAFETY: a hook variable is set while the postmaster loads libraries, before any other code of this process runs.
    unsafe {
        NEXT_ACCESS.set(pg_sys::object_access_hook);
        pg_sys::object_access_hook = Some(object_access);
    }
}

/// The behaviour that a statement names.
///
/// # Safety
/// `statement` is the planned statement that the server is about to run.
unsafe fn dependents_of(statement: *mut pg_sys::PlannedStmt) -> Option<Dependents> {
    // SAFETY: a utility statement's node is of the type that its tag says.
    let behaviour = unsafe {
        let node = (*statement).utilityStmt;
        match (*node).type_ {
            pg_sys::NodeTag::T_DropStmt => (*node.cast::<pg_sys::DropStmt>()).behavior,
            pg_sys::NodeTag::T_AlterTableStmt => column_behaviour((*node.cast::<pg_sys::AlterTableStmt>()).cmds)?,
            pg_sys::NodeTag::T_DropOwnedStmt => (*node.cast::<pg_sys::DropOwnedStmt>()).behavior,
            _ => return None,
        }
    };
    Some(if behaviour == pg_sys::DropBehavior::DROP_CASCADE { Dependents::Cascade } else { Dependents::Restrict })
}

/// How ALTER TABLE drops columns; `None`: it drops none. CASCADE of one column speaks for all.
///
/// # Safety
/// `commands` is the list of commands of an ALTER TABLE statement.
unsafe fn column_behaviour(commands: *mut pg_sys::List) -> Option<pg_sys::DropBehavior::Type> {
    if commands.is_null() {
        return None;
    }
    // SAFETY: a list of nodes with that many elements; those of ALTER TABLE are commands.
    unsafe {
        let count = usize::try_from((*commands).length).unwrap_or(0);
        let drops = (0..count)
            .map(|n| &*(*(*commands).elements.add(n)).ptr_value.cast::<pg_sys::AlterTableCmd>())
            .filter(|command| command.subtype == pg_sys::AlterTableType::AT_DropColumn)
            .map(|command| command.behavior);
        drops.reduce(|one, other| if one == pg_sys::DropBehavior::DROP_CASCADE { one } else { other })
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    part: c_int,
    argument: *mut c_void,
) {
    // SAFETY: the arguments are passed on as they came; the next hook gets a boundary; for OAT_DROP the argument is an ObjectAccessDrop.
    unsafe {
        if let Some(next) = NEXT_ACCESS.get() {
            pg_sys::ffi::pg_guard_ffi_boundary(|| next(access, class, object, part, argument));
        }
        let address = Address { class, object, part };
        match access {
            pg_sys::ObjectAccessType::OAT_POST_CREATE => {
                if !(*argument.cast::<pg_sys::ObjectAccessPostCreate>()).is_internal {
                    touched::note(address);
                }
                return;
            }
            pg_sys::ObjectAccessType::OAT_POST_ALTER => {
                if !(*argument.cast::<pg_sys::ObjectAccessPostAlter>()).is_internal {
                    touched::note(address);
                }
                return;
            }
            pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE => {
                // The one thing that a client can ask for without a statement is the call of a function.
                super::readonly::impose();
                return;
            }
            pg_sys::ObjectAccessType::OAT_TRUNCATE => {
                super::deletes::truncates(object);
                return;
            }
            pg_sys::ObjectAccessType::OAT_DROP => {}
            _ => return,
        }
        let flags = (*argument.cast::<pg_sys::ObjectAccessDrop>()).dropflags;
        if flags & pg_sys::PERFORM_DELETION_INTERNAL as c_int != 0 {
            return;
        }
        touched::note_drop(address);
        let Some(class) = Class::of(class) else { return };
        object_goes(Dropped { class, object: object.to_u32(), part });
    }
}

/// # Safety
/// Inside the transaction that is about to drop it.
unsafe fn object_goes(dropped: Dropped) {
    let mut statement = STATEMENT.get();
    // SAFETY: a look-up in the system caches.
    if statement.ours_go || unsafe { pg_sys::get_extension_oid(c"spock".as_ptr(), true) } == pg_sys::InvalidOid {
        return;
    }
    if dropped.class != Class::Relation {
        if let Some(on_drop) = ON_DROP.get() {
            on_drop(dropped, statement.dependents);
        }
        return;
    }
    let relation = pg_sys::Oid::from(dropped.object);
    // SAFETY: look-ups in the system caches; the relation is still there.
    let (ours, kind, persistence) = unsafe {
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        let ours = !schema.is_null() && CStr::from_ptr(schema) == c"spock";
        (ours, pg_sys::get_rel_relkind(relation) as u8, pg_sys::get_rel_persistence(relation) as u8)
    };
    if ours {
        statement.ours_go = true;
        STATEMENT.set(statement);
        return;
    }
    if let Some(on_drop) = ON_DROP.get()
        && matches!(kind, b'r' | b'p' | b'S')
        && persistence != b't'
    {
        on_drop(dropped, statement.dependents);
    }
}
