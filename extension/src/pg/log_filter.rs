//! Statements of users can hold passwords: the connection strings of `node_create` and `sub_create`, and roles that are made on
//! all nodes. They are the users' own, but the server repeats them in its log and in `pg_stat_activity`.
//!
//! # Invariants
//! 1. Nothing behind [`secret_at`] gets into the log, nor to the client that the message is for.
//! 2. The hook allocates nothing and cannot fail: texts only become shorter, where they are.
//! 3. Hooks that others have installed before are called, after ours.

use core::ffi::{CStr, c_char};
use pgrx::{pg_guard, pg_sys};
use spock_core::redact::secret_at;
use std::cell::Cell;

thread_local! {
    static NEXT: Cell<pg_sys::emit_log_hook_type> = const { Cell::new(None) };
}

/// Installs the hook. Once, while the library is loaded.
pub fn install() {
    // SAFETY: a hook variable is set while the postmaster loads libraries, before any other code of this process runs.
    unsafe {
        NEXT.set(pg_sys::emit_log_hook);
        pg_sys::emit_log_hook = Some(emit_log);
    }
}

/// What the client has sent, up to its first secret; `None`: it has none.
fn statement_shown() -> Option<&'static CStr> {
    // SAFETY: null, or the text of the message that this process works on, NUL-terminated. The copy outlives the caller's use:
    // it is in the context of that message.
    unsafe {
        let text = pg_sys::debug_query_string;
        if text.is_null() {
            return None;
        }
        let bytes = CStr::from_ptr(text).to_bytes();
        let at = secret_at(bytes)?;
        Some(CStr::from_ptr(pg_sys::pnstrdup(text, at)))
    }
}

/// Shows the running statement without its secrets in `pg_stat_activity`, also after it has ended.
pub fn hide_statement() {
    if let Some(shown) = statement_shown() {
        // SAFETY: copies the text into this process's entry.
        unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, shown.as_ptr()) }
    }
}

/// Ends `text` where its first secret begins.
///
/// # Safety
/// `text` is null, or NUL-terminated and writable.
unsafe fn cut(text: *mut c_char) {
    if text.is_null() {
        return;
    }
    // SAFETY: as promised; the end lies inside the text.
    unsafe {
        if let Some(at) = secret_at(CStr::from_ptr(text).to_bytes()) {
            *text.add(at) = 0;
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn emit_log(report: *mut pg_sys::ErrorData) {
    // SAFETY: the server passes the report that it is about to write; its texts are copies of its own. `debug_query_string` is
    // null or NUL-terminated.
    unsafe {
        let texts = [
            (*report).message,
            (*report).detail,
            (*report).detail_log,
            (*report).hint,
            (*report).context,
            (*report).internalquery,
        ];
        for text in texts {
            cut(text);
        }
        let statement = pg_sys::debug_query_string;
        if !statement.is_null() && secret_at(CStr::from_ptr(statement).to_bytes()).is_some() {
            (*report).hide_stmt = true;
        }
        if let Some(next) = NEXT.get() {
            pg_sys::ffi::pg_guard_ffi_boundary(|| next(report));
        }
    }
}
