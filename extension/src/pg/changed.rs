//! Tables whose rows the running transaction may have changed, among those that somebody watches.
//! Told once it has committed.
//!
//! # Invariants
//! 1. Too much may be told, never too little: a statement counts by what its plan may do. Of a prepared transaction it is told
//!    when it is prepared, not when it commits.
//! 2. A session pays one question to the watcher for each table that a statement changes.

use core::ffi::c_void;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};

/// Who is told, and of what.
#[derive(Clone, Copy)]
pub struct Watcher {
    /// Whether changes of that table are of interest.
    pub watches: fn(u32) -> bool,
    /// These tables were changed, and the changes are visible.
    pub on_changed: fn(&[u32]),
}

thread_local! {
    static NOTED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    static WATCHER: Cell<Option<Watcher>> = const { Cell::new(None) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Says who watches. Once, while the library is loaded.
pub fn install(watcher: Watcher) {
    WATCHER.set(Some(watcher));
}

/// The running transaction changes rows of `table`.
pub fn note(table: u32) {
    if !WATCHER.get().is_some_and(|watcher| (watcher.watches)(table)) {
        return;
    }
    NOTED.with_borrow_mut(|noted| {
        if !noted.contains(&table) {
            noted.push(table);
        }
    });
    if !REGISTERED.replace(true) {
        // SAFETY: a plain function that stays loaded.
        unsafe { pg_sys::RegisterXactCallback(Some(on_transaction_event), core::ptr::null_mut()) }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction_event(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT | pg_sys::XactEvent::XACT_EVENT_PREPARE => {
            let noted = NOTED.with_borrow_mut(core::mem::take);
            if let (Some(watcher), false) = (WATCHER.get(), noted.is_empty()) {
                (watcher.on_changed)(&noted);
            }
        }
        pg_sys::XactEvent::XACT_EVENT_ABORT => NOTED.with_borrow_mut(Vec::clear),
        _ => {}
    }
}
