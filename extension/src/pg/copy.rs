//! The server's own COPY FROM inside this process, with rows that a peer sends: parsing, defaults, triggers, partition
//! routing, batches and `pg_stat_progress_copy` are the server's.
//!
//! # Invariants
//! 1. One copy at a time in a process: the server's callback carries no argument, so the source is a variable of the process,
//!    set only while [`copy_in`] runs and taken away on ERROR, too.
//! 2. An error of the peer is raised from inside the callback: the copy never mistakes it for the end of the rows.

use super::conn::CopyOut;
use super::libpq::CopyBuffer;
use super::relation::Table;
use super::scope::ActiveSnapshot;
use super::session::OwnerScope;
use crate::error::Report;
use core::ffi::{CStr, c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr::null_mut;
use pgrx::{pg_guard, pg_sys};
use spock_core::copy::CopyFormat;
use std::cell::Cell;
use std::ffi::CString;

/// The encoding in which a peer sends its rows to an ordinary connection of ours.
const WIRE_ENCODING: &CStr = c"UTF8";

/// What the peer has sent and the server has not read yet.
struct Source<'c> {
    copy: CopyOut<'c>,
    piece: Option<CopyBuffer>,
    used: usize,
}

impl Source<'_> {
    /// Fills `room` with what is there, waiting only until there are `wanted` bytes or the rows are at their end.
    fn read(&mut self, room: &mut [MaybeUninit<u8>], wanted: usize) -> usize {
        let mut filled = 0;
        loop {
            if let Some(piece) = &self.piece {
                let left = piece.bytes().get(self.used..).unwrap_or_default();
                let count = left.len().min(room.len() - filled);
                room[filled..filled + count].write_copy_of_slice(&left[..count]);
                filled += count;
                self.used += count;
                if count == left.len() {
                    self.piece = None;
                }
            }
            if filled == room.len() {
                return filled;
            }
            let next = if filled < wanted { self.copy.next() } else { self.copy.next_ready() };
            match next {
                Ok(Some(piece)) => (self.piece, self.used) = (Some(piece), 0),
                Ok(None) => return filled,
                Err(error) => Report::from(error).raise(),
            }
        }
    }
}

thread_local! {
    static SOURCE: Cell<*mut Source<'static>> = const { Cell::new(null_mut()) };
}

/// Sets the source of the running copy. Drop takes it away, on ERROR too, and cannot raise.
struct SourceScope;

impl SourceScope {
    fn enter(source: &mut Source<'_>) -> Self {
        SOURCE.set((&raw mut *source).cast());
        Self
    }
}

impl Drop for SourceScope {
    fn drop(&mut self) {
        SOURCE.set(null_mut());
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn read_source(room: *mut c_void, wanted: c_int, size: c_int) -> c_int {
    let source = SOURCE.get();
    if source.is_null() || size <= 0 {
        return 0;
    }
    // SAFETY: the source outlives the scope that set it, and nobody else refers to it while the server's COPY runs. The
    // server gives `size` bytes of room, which need not hold anything yet.
    let (source, room) =
        unsafe { (&mut *source, core::slice::from_raw_parts_mut(room.cast::<MaybeUninit<u8>>(), size as usize)) };
    let filled = source.read(room, usize::try_from(wanted).unwrap_or(0).max(1));
    c_int::try_from(filled).unwrap_or(0)
}

/// Copies what `copy` brings into `columns` of `table`, with the rights of the table's owner. Columns are named in the
/// database's encoding; none: all that can be written. Returns the number of rows. Raises what the server or the peer raises.
/// Inside an open transaction; the rows are part of it.
pub fn copy_in(table: &Table, columns: &[CString], format: CopyFormat, copy: CopyOut<'_>) -> u64 {
    let mut source = Source { copy, piece: None, used: 0 };
    let _owner = OwnerScope::enter(table);
    let _snapshot = ActiveSnapshot::push();
    let _source = SourceScope::enter(&mut source);
    let format = match format {
        CopyFormat::Text => c"text",
        CopyFormat::Binary => c"binary",
    };
    // SAFETY: inside a transaction with an active snapshot; the table is open and locked for writing. All nodes live in the
    // current context, which outlives the copy. On ERROR the abort frees what the copy holds.
    unsafe {
        let names = columns.iter().fold(null_mut(), |list, name| pg_sys::lappend(list, string_node(name)));
        let options = [(c"format", format), (c"encoding", WIRE_ENCODING)].into_iter().fold(
            null_mut(),
            |list, (name, value): (&CStr, &CStr)| {
                let option = pg_sys::makeDefElem(pg_sys::pstrdup(name.as_ptr()), string_node(value).cast(), -1);
                pg_sys::lappend(list, option.cast())
            },
        );
        let state = pg_sys::make_parsestate(null_mut());
        pg_sys::addRangeTableEntryForRelation(
            state,
            table.raw(),
            pg_sys::RowExclusiveLock as c_int,
            null_mut(),
            false,
            false,
        );
        let copy = pg_sys::BeginCopyFrom(
            state,
            table.raw(),
            null_mut(),
            core::ptr::null(),
            false,
            Some(read_source),
            names,
            options,
        );
        let rows = pg_sys::CopyFrom(copy);
        pg_sys::EndCopyFrom(copy);
        pg_sys::free_parsestate(state);
        rows
    }
}

/// # Safety
/// The copy lives in the current memory context.
unsafe fn string_node(text: &CStr) -> *mut c_void {
    // SAFETY: a copy of a terminated string.
    unsafe { pg_sys::makeString(pg_sys::pstrdup(text.as_ptr())).cast() }
}
