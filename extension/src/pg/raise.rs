//! Raising and logging with all the fields of a report, at the place where it happens, so that the server's error
//! context lines are still there.

use crate::error::Report;
use crate::settings::{self, LogVerbosity};
use core::ffi::{c_char, c_int};
use pgrx::pg_sys;
use std::ffi::CString;

/// Where a message that is not an ERROR goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Only with `log_min_messages` at debug1 or below, or with `spock.log_verbosity`.
    Debug,
    /// The same for debug2.
    Trace,
    /// Only with `log_min_messages` at debug3 or below.
    Debug3,
    /// The same for debug4.
    Debug4,
    /// The same for debug5.
    Debug5,
    /// Server log; administrators are interested.
    Log,
    /// Client, whatever it asked for.
    Info,
    /// Client.
    Notice,
    /// Client and server log: something is wrong but work goes on.
    Warning,
}

impl Level {
    fn raw(self) -> c_int {
        (match self {
            Self::Debug if settings::log_verbosity() >= LogVerbosity::Debug1 => pg_sys::LOG,
            Self::Debug => pg_sys::DEBUG1,
            Self::Trace if settings::log_verbosity() >= LogVerbosity::Debug2 => pg_sys::LOG,
            Self::Trace => pg_sys::DEBUG2,
            Self::Debug3 => pg_sys::DEBUG3,
            Self::Debug4 => pg_sys::DEBUG4,
            Self::Debug5 => pg_sys::DEBUG5,
            Self::Log => pg_sys::LOG,
            Self::Info => pg_sys::INFO,
            Self::Notice => pg_sys::NOTICE,
            Self::Warning => pg_sys::WARNING,
        }) as c_int
    }
}

// pgrx hides these on purpose, because they must not be called outside a boundary: here they are inside one.
unsafe extern "C-unwind" {
    fn errstart(elevel: c_int, domain: *const c_char) -> bool;
    fn errcode(sqlerrcode: c_int) -> c_int;
    fn errmsg_internal(fmt: *const c_char, ...) -> c_int;
    fn errdetail_internal(fmt: *const c_char, ...) -> c_int;
    fn errhint(fmt: *const c_char, ...) -> c_int;
    fn errfinish(filename: *const c_char, lineno: c_int, funcname: *const c_char);
}

fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\\0")).unwrap_or_default()
}

fn emit(level: c_int, report: &Report) {
    let message = c_string(&report.message);
    let detail = report.detail.as_deref().map(c_string);
    let hint = report.hint.as_deref().map(c_string);
    let (message, detail, hint) = (&message, &detail, &hint);
    let code = report.code as c_int;
    // SAFETY: the closure only borrows; nothing in it has a destructor, so the longjmp of an ERROR crosses no frame that
    // owns anything. The boundary turns it into an unwinding panic, which drops the strings above.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            if errstart(level, core::ptr::null()) {
                errcode(code);
                errmsg_internal(c"%s".as_ptr(), message.as_ptr());
                if let Some(detail) = detail {
                    errdetail_internal(c"%s".as_ptr(), detail.as_ptr());
                }
                if let Some(hint) = hint {
                    errhint(c"%s".as_ptr(), hint.as_ptr());
                }
                errfinish(c"spock".as_ptr(), 0, c"".as_ptr());
            }
        })
    }
}

/// Raises `report` as an ERROR of the server: unwinds to the nearest guard with all fields and context lines.
pub fn raise(report: &Report) -> ! {
    emit(pg_sys::PGERROR as c_int, report);
    unreachable!("an ERROR does not return")
}

/// Writes `report` at `level` and returns.
pub fn log(level: Level, report: &Report) {
    emit(level.raw(), report);
}

/// Writes a debug message, if anybody wants it: only then `message` is made.
pub fn debug(level: Level, message: impl FnOnce() -> String) {
    // SAFETY: compares the level with settings.
    if unsafe { pg_sys::message_level_is_interesting(level.raw()) } {
        log(level, &Report::new(pgrx::PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message()));
    }
}

/// Writes one line to the server log.
pub fn log_line(message: impl Into<String>) {
    log(Level::Log, &Report::new(pgrx::PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message));
}

/// Writes one warning.
pub fn warn(message: impl Into<String>) {
    log(Level::Warning, &Report::new(pgrx::PgSqlErrorCode::ERRCODE_WARNING, message));
}
