//! Notes of what changed in the catalogs, for caches that are keyed by table.
//!
//! # Invariants
//! 1. The server's callbacks only take a note; caches look at the notes when nothing of theirs is in use.
//! 2. The notes are bounded: many of them become "everything".

use core::cell::RefCell;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// More notes than this are as good as "everything": building the few cached entries again costs less than the list.
const NOTES_MAX: usize = 1024;

#[derive(Default)]
struct Notes {
    registered: bool,
    everything: bool,
    tables: Vec<u32>,
}

thread_local! {
    // One backend, one thread: the server calls back on the thread that reads.
    static NOTES: RefCell<Notes> = const { RefCell::new(Notes { registered: false, everything: false, tables: Vec::new() }) };
}

/// What changed since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Any table may have changed.
    Everything,
    /// These tables changed.
    Tables(Vec<u32>),
}

/// Starts taking notes; forgets what was noted before. Callbacks stay registered for the life of the process.
pub fn watch() {
    let first = NOTES.with_borrow_mut(|notes| {
        notes.everything = false;
        notes.tables.clear();
        !core::mem::replace(&mut notes.registered, true)
    });
    if first {
        // SAFETY: registers functions of this library, which is never unloaded.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
            pg_sys::CacheRegisterSyscacheCallback(
                pg_sys::SysCacheIdentifier::NAMESPACEOID as _,
                Some(schema_changed),
                pg_sys::Datum::from(0),
            );
        }
    }
}

/// The notes since the last call; `None` when there are none.
#[inline]
pub fn take() -> Option<Changed> {
    NOTES.with_borrow_mut(|notes| {
        if notes.everything {
            notes.everything = false;
            notes.tables.clear();
            return Some(Changed::Everything);
        }
        (!notes.tables.is_empty()).then(|| Changed::Tables(core::mem::take(&mut notes.tables)))
    })
}

fn note(table: Option<u32>) {
    NOTES.with_borrow_mut(|notes| match table {
        Some(oid) if notes.tables.len() < NOTES_MAX => {
            if !notes.everything {
                notes.tables.push(oid);
            }
        }
        _ => {
            notes.everything = true;
            notes.tables.clear();
        }
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, oid: pg_sys::Oid) {
    note((oid != pg_sys::InvalidOid).then(|| oid.to_u32()));
}

#[pg_guard]
unsafe extern "C-unwind" fn schema_changed(_argument: pg_sys::Datum, _cache: core::ffi::c_int, _hash: u32) {
    note(None);
}
