//! Sees every utility statement before and after it runs.
//!
//! # Invariants
//! 1. A watcher sees a statement before anything of it has happened, and what it leaves to be done afterwards is done only if
//!    the statement succeeded.
//! 2. Hooks that others have installed before are called.

use core::ffi::{CStr, c_char};
use pgrx::{pg_guard, pg_sys};
use spock_core::ddl::Place;
use std::cell::Cell;

use super::drop_hook::Within;
use super::readonly;
use super::script::cut;

/// A utility statement that is about to run.
pub struct Utility {
    pub(super) planned: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    context: pg_sys::ProcessUtilityContext::Type,
}

/// What is to be done after a statement.
pub type After = Box<dyn FnOnce()>;

/// Called for each statement. May raise to forbid it.
pub type Watcher = fn(&Utility) -> Option<After>;

thread_local! {
    static WATCHER: Cell<Option<Watcher>> = const { Cell::new(None) };
    static NEXT: Cell<pg_sys::ProcessUtility_hook_type> = const { Cell::new(None) };
}

/// Installs the hook. Once, while the library is loaded.
pub fn install(watcher: Watcher) {
    WATCHER.set(Some(watcher));
    // SAFETY: a hook variable is set while the postmaster loads libraries, before any other code of this process runs.
    unsafe {
        NEXT.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

impl Utility {
    /// Whether it defines something: the server's log class `ddl`.
    pub fn is_definition(&self) -> bool {
        // SAFETY: a planned statement of the server.
        unsafe { pg_sys::GetCommandLogLevel(self.planned.cast()) == pg_sys::LogStmtLevel::LOGSTMT_DDL }
    }

    /// The name of its command, such as `CREATE TABLE`.
    pub fn tag(&self) -> String {
        // SAFETY: a planned statement of the server; the name is static.
        unsafe { CStr::from_ptr(pg_sys::GetCommandTagName(pg_sys::CreateCommandTag(self.planned.cast()))) }
            .to_string_lossy()
            .into_owned()
    }

    /// Its own text.
    pub fn text(&self) -> String {
        // SAFETY: the server passes the text that the statement was read from, NUL-terminated.
        let (whole, start, length) = unsafe {
            (CStr::from_ptr(self.query).to_string_lossy(), (*self.planned).stmt_location, (*self.planned).stmt_len)
        };
        cut(&whole, start, length).trim_end_matches(';').trim_end().to_owned()
    }

    /// Whether it is `DROP EXTENSION name` without CASCADE.
    pub fn drops_extension(&self, name: &CStr) -> bool {
        // SAFETY: a planned statement of the server; a utility statement's node is of the type that its tag says, and the objects
        // of DROP EXTENSION are names.
        unsafe {
            let node = (*self.planned).utilityStmt;
            if (*node).type_ != pg_sys::NodeTag::T_DropStmt {
                return false;
            }
            let drop = &*node.cast::<pg_sys::DropStmt>();
            let plain = drop.behavior != pg_sys::DropBehavior::DROP_CASCADE;
            if drop.removeType != pg_sys::ObjectType::OBJECT_EXTENSION || !plain || drop.objects.is_null() {
                return false;
            }
            let count = usize::try_from((*drop.objects).length).unwrap_or(0);
            (0..count).any(|n| {
                let object = (*(*drop.objects).elements.add(n)).ptr_value.cast::<pg_sys::String>();
                CStr::from_ptr((*object).sval) == name
            })
        }
    }

    /// Where it runs.
    pub fn place(&self) -> Place {
        match self.context {
            pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL => Place::TopLevel,
            pg_sys::ProcessUtilityContext::PROCESS_UTILITY_SUBCOMMAND => Place::Part,
            _ => Place::Function,
        }
    }
}

/// Whether the script of an extension runs.
pub fn in_extension_script() -> bool {
    // SAFETY: a global of this backend.
    unsafe { pg_sys::creating_extension }
}

/// Makes what a statement has done visible to those that follow in this transaction.
pub fn statement_done() {
    // SAFETY: between two commands of a transaction.
    unsafe { pg_sys::CommandCounterIncrement() }
}

#[pg_guard]
#[expect(clippy::too_many_arguments, reason = "the server's signature")]
unsafe extern "C-unwind" fn process_utility(
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // A statement of the extended protocol can have been analysed in an earlier transaction.
    readonly::impose();
    let utility = Utility { planned: statement, query, context };
    let after = WATCHER.get().and_then(|watcher| watcher(&utility));
    // SAFETY: the arguments are passed on as they came; the next hook is a function pointer, so it gets a boundary.
    unsafe {
        let _within = Within::enter(statement);
        match NEXT.get() {
            Some(next) => pg_sys::ffi::pg_guard_ffi_boundary(|| {
                next(statement, query, read_only_tree, context, params, environment, receiver, completion);
            }),
            None => pg_sys::standard_ProcessUtility(
                statement,
                query,
                read_only_tree,
                context,
                params,
                environment,
                receiver,
                completion,
            ),
        }
    }
    if let Some(after) = after {
        after();
    }
}
