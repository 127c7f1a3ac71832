//! Catching an ERROR: the only place that does. Whoever catches also cleans up: a transaction or subtransaction is rolled
//! back before the caller sees the error.

use crate::error::Report;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder};
use std::panic::AssertUnwindSafe;

/// An ERROR that was caught, with what the server knew about it.
#[derive(Debug, Clone)]
pub struct Caught {
    /// SQLSTATE, message, detail, hint.
    pub report: Report,
}

impl Caught {
    fn from_server(error: &CaughtError) -> Self {
        let data = match error {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
            CaughtError::RustPanic { ereport, .. } => ereport,
        };
        let mut report = Report::new(data.sql_error_code(), data.message());
        report.detail = data.detail().map(str::to_owned);
        report.hint = data.hint().map(str::to_owned);
        Self { report }
    }

    /// An operator ended this process or cancelled the statement: never to be swallowed.
    pub fn is_shutdown(&self) -> bool {
        matches!(self.report.code, PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN | PgSqlErrorCode::ERRCODE_QUERY_CANCELED)
    }
}

fn flush(error: &CaughtError) {
    if matches!(error, CaughtError::PostgresError(_)) {
        // SAFETY: a server error was caught and is on the server's error stack; its contents were copied above.
        unsafe { pg_sys::FlushErrorState() }
    }
}

/// Runs `work` in a worker. On ERROR the current transaction, if any, is rolled back and the error is returned.
pub fn attempt<R>(work: impl FnOnce() -> R) -> Result<R, Caught> {
    // SAFETY: reads a global of this backend.
    let context = unsafe { pg_sys::CurrentMemoryContext };
    PgTryBuilder::new(AssertUnwindSafe(|| Ok(work())))
        .catch_others(move |error: CaughtError| {
            // SAFETY: the context was current before `work` and is not inside the transaction that failed.
            unsafe { pg_sys::CurrentMemoryContext = context }
            let caught = Caught::from_server(&error);
            flush(&error);
            // SAFETY: outside a transaction this does nothing; inside it rolls back.
            unsafe { pg_sys::AbortCurrentTransaction() }
            // SAFETY: as above; abort may have switched it.
            unsafe { pg_sys::CurrentMemoryContext = context }
            Err(caught)
        })
        .execute()
}

/// Runs `work` in an internal subtransaction of the open transaction. On ERROR only the subtransaction is rolled back.
pub fn attempt_nested<R>(work: impl FnOnce() -> R) -> Result<R, Caught> {
    // SAFETY: reads globals of this backend.
    let (context, owner) = unsafe { (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner) };
    // SAFETY: inside a transaction; the context is put back because starting a subtransaction switches it.
    unsafe {
        pg_sys::BeginInternalSubTransaction(core::ptr::null());
        pg_sys::CurrentMemoryContext = context;
    }
    // SAFETY: reads the state of this backend.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    PgTryBuilder::new(AssertUnwindSafe(move || {
        let value = work();
        // SAFETY: the subtransaction begun above is the innermost one: scopes nest.
        unsafe {
            pg_sys::ReleaseCurrentSubTransaction();
            pg_sys::CurrentMemoryContext = context;
            pg_sys::CurrentResourceOwner = owner;
        }
        Ok(value)
    }))
    .catch_others(move |error: CaughtError| {
        // SAFETY: the outer context is alive: it belongs to the outer transaction or the process.
        unsafe { pg_sys::CurrentMemoryContext = context }
        let caught = Caught::from_server(&error);
        flush(&error);
        // SAFETY: rolls back the subtransaction begun above, and before it what the error has left open inside.
        unsafe {
            while pg_sys::GetCurrentTransactionNestLevel() > level {
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
            }
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            pg_sys::CurrentMemoryContext = context;
            pg_sys::CurrentResourceOwner = owner;
        }
        Err(caught)
    })
    .execute()
}
