//! Actions that cannot be rolled back, put off until the transaction is about to commit: dropping a slot here or on another
//! node, ending a worker.
//!
//! # Invariants
//! 1. An action runs after all statements and deferred triggers of the top-level transaction, before its commit record. It
//!    may still read and write tables, and its ERROR rolls the transaction back.
//! 2. A rolled back transaction runs none. A rolled back savepoint takes none away: an action looks for itself whether what
//!    it was put off for still holds.
//! 3. PREPARE TRANSACTION is refused while an action waits, because nobody would run it.

use crate::error::Report;
use core::ffi::c_void;
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};
use std::cell::RefCell;

type Action = Box<dyn FnOnce() -> Result<(), Report>>;

/// What waits in this process, and whether the server knows our callback.
struct Waiting {
    registered: bool,
    actions: Vec<Action>,
}

thread_local! {
    static WAITING: RefCell<Waiting> = const { RefCell::new(Waiting { registered: false, actions: Vec::new() }) };
}

/// Runs `action` right before the current top-level transaction commits.
pub fn before_commit(action: impl FnOnce() -> Result<(), Report> + 'static) {
    let first = WAITING.with_borrow_mut(|waiting| {
        waiting.actions.push(Box::new(action));
        !core::mem::replace(&mut waiting.registered, true)
    });
    if first {
        // SAFETY: a plain function that stays loaded.
        unsafe { pg_sys::RegisterXactCallback(Some(on_transaction_event), core::ptr::null_mut()) }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction_event(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    let take = || WAITING.with_borrow_mut(|waiting| core::mem::take(&mut waiting.actions));
    match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT => {
            for action in take() {
                if let Err(report) = action() {
                    report.raise();
                }
            }
        }
        pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE if !take().is_empty() => {
            Report::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                "cannot prepare a transaction that has dropped a node or subscription, or changed the schema of the cluster",
            )
            .detail("What must happen right before its commit would not.")
            .raise();
        }
        pg_sys::XactEvent::XACT_EVENT_ABORT => drop(take()),
        _ => {}
    }
}
