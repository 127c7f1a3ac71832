//! Replication origins and commit timestamps: where a change came from, and how far a stream has been applied.
//!
//! # Invariants
//! 1. The session's origin is the one that is named like the slot; what commit records carry is the node id of the node
//!    where the change was made.
//! 2. An abort never moves the origin: the position is set only around a commit ([`CommitPosition`]), and cleared on
//!    every way out, process exit included.

use super::compat::executor as compat;
use super::unguarded::{guarded, raw};
use core::num::NonZeroU16;
use pgrx::{pg_guard, pg_sys};
use spock_core::types::Lsn;
use std::cell::Cell;
use std::ffi::CString;

/// Local number of a replication origin. Means nothing on another node: send the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginNumber(NonZeroU16);

impl OriginNumber {
    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }

    fn from_raw(raw: u16) -> Option<Self> {
        NonZeroU16::new(raw).map(Self)
    }
}

fn c_name(name: &str) -> CString {
    CString::new(name.replace('\0', "")).unwrap_or_default()
}

/// Finds an origin by name. Needs a transaction.
pub fn by_name(name: &str) -> Option<OriginNumber> {
    // SAFETY: the server copies the name; with missing_ok it returns zero.
    OriginNumber::from_raw(unsafe { pg_sys::replorigin_by_name(c_name(name).as_ptr(), true) })
}

/// Up to where in the other node's WAL something of the origin has committed here, durable or not. From any process.
pub fn committed_position(number: OriginNumber) -> Option<Lsn> {
    // SAFETY: reads shared memory under its locks; zero where nothing is known. Nothing to drop.
    Lsn::new(unsafe { pg_sys::replorigin_get_progress(number.get(), false) })
}

/// Creates the origin, or takes the one that exists, and sets its position, backwards too. Part of the current
/// transaction.
pub fn create_at(name: &str, position: u64) -> Option<OriginNumber> {
    let number = match by_name(name) {
        Some(number) => number,
        // SAFETY: the server copies the name; raises when no number is free.
        None => OriginNumber::from_raw(unsafe { pg_sys::replorigin_create(c_name(name).as_ptr()) })?,
    };
    super::progress_wal::forget(number);
    // SAFETY: raises when another process uses the origin. The lock keeps it from being dropped meanwhile.
    unsafe {
        pg_sys::LockRelationOid(
            pg_sys::Oid::from_u32(pg_sys::ReplicationOriginRelationId.to_u32()),
            pg_sys::RowExclusiveLock as pg_sys::LOCKMODE,
        );
        pg_sys::replorigin_advance(number.get(), position, 0, true, true);
    }
    Some(number)
}

thread_local! {
    static EXIT_REGISTERED: Cell<bool> = const { Cell::new(false) };
    static BOUND: Cell<bool> = const { Cell::new(false) };
}

/// Gives back the origin that an ERROR has left bound to this process. Whoever catches the error and goes on calls it.
pub fn release() {
    clear_stamp();
    if BOUND.replace(false) {
        // SAFETY: a session origin is set up and nobody uses it any more.
        unsafe { pg_sys::replorigin_session_reset() }
    }
}

/// This process as the only writer of one origin. Lives as long as the process applies.
///
/// On ERROR: stays bound, as an ERROR must not be met by another one; [`release`] ends that. The server also releases it when
/// the process exits.
pub struct Session {
    number: OriginNumber,
}

impl Session {
    /// Binds this process to the origin. Raises when another process holds it.
    pub fn open(number: OriginNumber) -> Self {
        if !EXIT_REGISTERED.replace(true) {
            // SAFETY: runs before the server aborts the open transaction of a process that exits.
            unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::from(0)) }
        }
        compat::setup_session_origin(number.get());
        BOUND.set(true);
        Self { number }
    }

    /// Number of the origin.
    pub fn number(&self) -> OriginNumber {
        self.number
    }

    /// Position up to which the stream has been applied, 0: nothing yet.
    pub fn position(&self) -> u64 {
        // SAFETY: the session origin is set up; without flush it only reads.
        unsafe { pg_sys::replorigin_session_get_progress(false) }
    }

    /// The same, once what was applied up to it is durable: a stream that starts here confirms it at once, and a crash must not
    /// take it back.
    pub fn durable_position(&self) -> u64 {
        // SAFETY: the session origin is set up; it reads, and flushes the WAL up to the origin's last commit. Nothing to drop.
        unsafe { pg_sys::replorigin_session_get_progress(true) }
    }

    /// Moves the position in memory, for transactions that wrote nothing. Forward only.
    pub fn advance(&self, to: u64) {
        // SAFETY: the session origin is set up.
        unsafe { pg_sys::replorigin_session_advance(to, 0) }
    }

    /// Changes of the current transaction come from node `node` with commit time `time` (microseconds since 2000).
    pub fn stamp(&self, node: u16, time: i64) {
        // SAFETY: globals of this backend. The position stays unset, so that an abort moves nothing.
        unsafe {
            pg_sys::replorigin_session_origin = node;
            pg_sys::replorigin_session_origin_timestamp = time;
            pg_sys::replorigin_session_origin_lsn = 0;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        clear_stamp();
        if !std::thread::panicking() {
            release();
        }
    }
}

thread_local! {
    /// What the open transaction is stamped with by [`stamp_transaction`].
    static STAMP: Cell<Option<(u16, i64)>> = const { Cell::new(None) };
    static END_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Name of the origin that transactions which repair rows are bound to: one for each database.
pub fn origin_name_of_repairs() -> String {
    format!("spock_repair_{}", super::server::database_oid())
}

/// Makes the open transaction one of node `node` with commit time `time` (microseconds since 2000), in a process that does
/// not apply a stream. The process is bound to `number` until the transaction ends. False: it has another stamp already.
pub fn stamp_transaction(number: OriginNumber, node: u16, time: i64) -> bool {
    if let Some(stamp) = STAMP.get() {
        return stamp == (node, time);
    }
    if !END_REGISTERED.replace(true) {
        super::process::at_transaction_end(|_| {
            if STAMP.take().is_some() {
                release();
            }
        });
    }
    // The end of the transaction, either way, releases it.
    let session = core::mem::ManuallyDrop::new(Session::open(number));
    STAMP.set(Some((node, time)));
    session.stamp(node, time);
    true
}

/// Whether the open transaction counts as one of another node, or of a row's own version.
pub fn is_stamped() -> bool {
    // SAFETY: a global of this backend.
    unsafe { pg_sys::replorigin_session_origin != pg_sys::InvalidRepOriginId as pg_sys::RepOriginId }
}

/// Changes are local again. Cannot fail.
pub fn clear_stamp() {
    // SAFETY: globals of this backend.
    unsafe {
        pg_sys::replorigin_session_origin = pg_sys::InvalidRepOriginId as pg_sys::RepOriginId;
        pg_sys::replorigin_session_origin_timestamp = 0;
        pg_sys::replorigin_session_origin_lsn = 0;
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: i32, _argument: pg_sys::Datum) {
    clear_stamp();
}

/// The commit made while this lives carries the end position of the remote transaction.
///
/// On ERROR: still clears the position, before anybody aborts: an abort with a position would move the origin.
pub struct CommitPosition(());

impl CommitPosition {
    /// Sets the position for the commit that follows.
    pub fn set(end: u64) -> Self {
        // SAFETY: a global of this backend.
        unsafe { pg_sys::replorigin_session_origin_lsn = end }
        Self(())
    }
}

impl Drop for CommitPosition {
    fn drop(&mut self) {
        // SAFETY: a global of this backend.
        unsafe { pg_sys::replorigin_session_origin_lsn = 0 }
    }
}

/// What is known of the transaction that wrote a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// The open transaction, or a part of it.
    Own,
    /// Committed at that time (microseconds since 2000), of that origin.
    Committed(i64, u16),
    /// Nothing is kept any more.
    Forgotten,
}

/// Looks it up, in one go: each row that is in the way of another is asked about.
pub fn writer(xid: u32) -> Writer {
    let xid = pg_sys::TransactionId::from_inner(xid);
    // SAFETY: a variable of this server; the look-up fills both outputs when it finds the transaction.
    unsafe {
        guarded(move || {
            if raw::TransactionIdIsCurrentTransactionId(xid) {
                return Writer::Own;
            }
            let (mut time, mut origin) = (0, 0);
            if pg_sys::track_commit_timestamp && raw::TransactionIdGetCommitTsData(xid, &mut time, &mut origin) {
                Writer::Committed(time, origin)
            } else {
                Writer::Forgotten
            }
        })
    }
}

/// Commit time (microseconds since 2000) and origin of a transaction that has committed. `None`: not kept any more.
pub fn commit_data(xid: u32) -> Option<(i64, u16)> {
    match writer(xid) {
        Writer::Committed(time, origin) => Some((time, origin)),
        Writer::Own | Writer::Forgotten => None,
    }
}
