//! Transactions of ordinary users that may not write: before a statement is analysed, started or carried out, its transaction
//! is made a read-only one, and the server itself refuses what such a transaction may not do.
//!
//! # Invariants
//! 1. A transaction that was made read-only stays so to its end: no function that runs as somebody else escapes, and the
//!    next transaction begins as the session's own settings say.
//! 2. Exempt is who *is* a superuser, by login or SET ROLE. A function that runs as a superuser makes nobody exempt, one that
//!    runs as somebody else takes nobody's exemption.
//! 3. Hooks that others have installed before are called.
//!
//! The same hook shows each started statement to [`deletes`]; utility statements come by [`super::utility`].

use super::deletes;
use core::ffi::c_int;
use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;

thread_local! {
    static IS_ASKED: Cell<Option<fn() -> bool>> = const { Cell::new(None) };
    static NEXT_ANALYZE: Cell<pg_sys::post_parse_analyze_hook_type> = const { Cell::new(None) };
    static NEXT_START: Cell<pg_sys::ExecutorStart_hook_type> = const { Cell::new(None) };
}

/// Installs the hooks. Once, while the library is loaded. `is_asked` is asked before every statement.
pub fn install(is_asked: fn() -> bool) {
    IS_ASKED.set(Some(is_asked));
    // SAFETY: hook variables are set while the postmaster loads libraries, before any other code of this process runs.
    unsafe {
        NEXT_ANALYZE.set(pg_sys::post_parse_analyze_hook);
        pg_sys::post_parse_analyze_hook = Some(post_parse_analyze);
        NEXT_START.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(executor_start);
    }
}

/// Makes the open transaction read-only, if that is asked for and the user is not exempt.
pub(super) fn impose() {
    if !IS_ASKED.get().is_some_and(|is_asked| is_asked()) {
        return;
    }
    // SAFETY: looks at variables of this process and, inside a transaction, at the system caches. The variable is what the
    // server's own setting sets; the server puts it back when the transaction ends.
    unsafe {
        if pg_sys::IsTransactionState() && !pg_sys::XactReadOnly && !pg_sys::superuser_arg(pg_sys::GetOuterUserId()) {
            pg_sys::XactReadOnly = true;
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn post_parse_analyze(
    state: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: *mut pg_sys::JumbleState,
) {
    if let Some(next) = NEXT_ANALYZE.get() {
        // SAFETY: the arguments are passed on as they came; a function pointer gets a boundary.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| next(state, query, jumble)) }
    }
    impose();
}

#[pg_guard]
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    impose();
    // SAFETY: as above.
    unsafe {
        match NEXT_START.get() {
            Some(next) => {
                pg_sys::ffi::pg_guard_ffi_boundary(|| next(query, flags));
            }
            None => {
                pg_sys::standard_ExecutorStart(query, flags);
            }
        }
        deletes::look(query, flags);
    }
}
