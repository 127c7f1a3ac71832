//! Reading this server's own WAL for commits.
//!
//! # Invariants
//! 1. It never waits for WAL: it reads to what was on disk when it began.
//! 2. It can be cancelled between any two records.

use super::latch::check_interrupts;
use super::session::flushed_lsn;
use core::ffi::{CStr, c_char, c_int};
use pgrx::{PgSqlErrorCode, pg_sys};
use spock_core::types::{Lsn, PgTime};

use crate::error::Report;

// The addresses of the server's own functions: those in `pg_sys` are wrappers for calls from Rust.
unsafe extern "C-unwind" {
    fn read_local_xlog_page_no_wait(
        state: *mut pg_sys::XLogReaderState,
        page: pg_sys::XLogRecPtr,
        wanted: c_int,
        record: pg_sys::XLogRecPtr,
        buffer: *mut c_char,
    ) -> c_int;
    fn wal_segment_open(
        state: *mut pg_sys::XLogReaderState,
        segment: pg_sys::XLogSegNo,
        timeline: *mut pg_sys::TimeLineID,
    );
    fn wal_segment_close(state: *mut pg_sys::XLogReaderState);
}

/// A reader of WAL records from some position on.
///
/// On ERROR: Drop still runs, because no resource owner knows the open segment. It closes a file and frees memory of a
/// context that abort has not reset yet.
struct Reader {
    state: *mut pg_sys::XLogReaderState,
    /// Where the server says that it has come to the end. Boxed: the reader keeps its address.
    private: Box<pg_sys::ReadLocalXLogPageNoWaitPrivate>,
}

impl Reader {
    fn starting_at(position: Lsn) -> Self {
        let mut private = Box::<pg_sys::ReadLocalXLogPageNoWaitPrivate>::default();
        let mut routine = pg_sys::XLogReaderRoutine {
            page_read: Some(read_local_xlog_page_no_wait),
            segment_open: Some(wal_segment_open),
            segment_close: Some(wal_segment_close),
        };
        // SAFETY: the routine is copied; the private data outlives the reader, which is freed first.
        let state = unsafe {
            let private: *mut pg_sys::ReadLocalXLogPageNoWaitPrivate = &mut *private;
            let state =
                pg_sys::XLogReaderAllocate(pg_sys::wal_segment_size, core::ptr::null(), &mut routine, private.cast());
            if !state.is_null() {
                pg_sys::XLogBeginRead(state, position.get());
            }
            state
        };
        Self { state, private }
    }

    /// The next record's end, and its commit time if it is a commit that was made here. `None`: the end of WAL.
    fn next(&mut self) -> Result<Option<(u64, Option<PgTime>)>, Report> {
        let mut message: *mut c_char = core::ptr::null_mut();
        if self.state.is_null() {
            return Err(Report::new(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, "out of memory while reading WAL"));
        }
        // SAFETY: a live reader; its callbacks are the server's own. The record lives in the reader until the next call.
        unsafe {
            let record = pg_sys::XLogReadRecord(self.state, &mut message);
            if record.is_null() {
                if self.private.end_of_wal || message.is_null() {
                    return Ok(None);
                }
                return Err(Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "could not read WAL")
                    .detail(CStr::from_ptr(message).to_string_lossy()));
            }
            let decoded = (*self.state).record;
            Ok(Some(((*self.state).EndRecPtr, local_commit_time(decoded))))
        }
    }
}

/// The time of a commit (also of a prepared transaction) that carries no replication origin.
///
/// # Safety
/// `record` is a decoded record of the reader.
unsafe fn local_commit_time(record: *mut pg_sys::DecodedXLogRecord) -> Option<PgTime> {
    // SAFETY: by contract; the main data of a commit record is what the server's own parser takes.
    unsafe {
        let info = (*record).header.xl_info;
        let kind = u32::from(info) & pg_sys::XLOG_XACT_OPMASK;
        let commit = u32::from((*record).header.xl_rmid) == pg_sys::RmgrIds::RM_XACT_ID
            && (kind == pg_sys::XLOG_XACT_COMMIT || kind == pg_sys::XLOG_XACT_COMMIT_PREPARED);
        if !commit || (*record).record_origin != pg_sys::InvalidRepOriginId as pg_sys::RepOriginId {
            return None;
        }
        let mut parsed = pg_sys::xl_xact_parsed_commit::default();
        pg_sys::ParseCommitRecord(info, (*record).main_data.cast(), &mut parsed);
        Some(PgTime::from_micros(parsed.xact_time))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.state.is_null() {
            // SAFETY: ours, freed once, before the private data.
            unsafe { pg_sys::XLogReaderFree(self.state) }
        }
    }
}

/// End of the last commit made on this server, at or before `time`, among those from `start` on: up to the first later one.
/// `None`: there is none in what is on disk now.
pub fn last_local_commit_until(start: Lsn, time: PgTime) -> Result<Option<Lsn>, Report> {
    let end = flushed_lsn();
    let mut reader = Reader::starting_at(start);
    let mut found = None;
    while let Some((record_end, commit)) = reader.next()? {
        if record_end > end {
            break;
        }
        check_interrupts();
        match commit {
            Some(committed) if committed > time => break,
            Some(_) => found = Lsn::new(record_end),
            None => {}
        }
    }
    Ok(found)
}
