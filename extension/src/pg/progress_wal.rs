//! The WAL record that makes progress survive a crash together with the rows.
//!
//! Commit records carry the node id as origin, so recovery advances the wrong replication origin and the one that is
//! named like the slot falls back to its last checkpoint. Therefore a small record goes in front of each commit
//! ([`super::resource_manager`]). Recovery remembers the last one of each origin and advances the origin once it is
//! known that the transaction has committed: at the next record of that origin, which repeats the position, or when
//! recovery ends.
//!
//! # Invariants
//! 1. No checkpoint starts between the record and its commit record: the delay flag that the commit itself uses is set.
//! 2. Redo moves origins forward only, and never for a transaction that did not commit.
//! 3. A record that is older than the origin's creation or drop is forgotten: numbers are reused.

use super::compat::executor as compat;
use super::origin::OriginNumber;
use super::resource_manager;
use core::ffi::c_void;
use pgrx::{pg_guard, pg_sys};
use spock_core::types::Lsn;
use std::cell::{Cell, RefCell};
use std::sync::OnceLock;

/// What a record means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Transaction `xid` is about to commit and covers the stream up to `end`; `base` was reached before it.
    Commit,
    /// `base` is reached.
    Settled,
    /// The origin was just created, or is being dropped: what was remembered under its number must not move it.
    Forget,
}

/// Body of a record, in host byte order: xid 4, origin 2, kind 2, base 8, end 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    xid: u32,
    origin: u16,
    kind: Kind,
    base: u64,
    end: u64,
}

impl Record {
    const SIZE: usize = 24;

    fn write(&self) -> [u8; Self::SIZE] {
        let kind: u16 = match self.kind {
            Kind::Commit => 0,
            Kind::Settled => 1,
            Kind::Forget => 2,
        };
        let mut bytes = [0; Self::SIZE];
        bytes[0..4].copy_from_slice(&self.xid.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.origin.to_ne_bytes());
        bytes[6..8].copy_from_slice(&kind.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.base.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.end.to_ne_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::SIZE }>()?;
        let kind = match u16::from_ne_bytes([bytes[6], bytes[7]]) {
            0 => Kind::Commit,
            1 => Kind::Settled,
            2 => Kind::Forget,
            _ => return None,
        };
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        Some(Self {
            xid: u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            origin: u16::from_ne_bytes([bytes[4], bytes[5]]),
            kind,
            base: word(8),
            end: word(16),
        })
    }

    fn insert(&self) {
        let bytes = self.write();
        // SAFETY: the record is built and inserted before `bytes` ends. An ERROR in between resets the construction.
        unsafe {
            pg_sys::XLogBeginInsert();
            compat::register_wal_data(&bytes);
            pg_sys::XLogInsert(resource_manager::ID, resource_manager::INFO_PROGRESS);
        }
    }
}

thread_local! {
    /// What the transaction that commits next reaches: origin, base, end.
    static ANNOUNCED: Cell<Option<(OriginNumber, u64, u64)>> = const { Cell::new(None) };
    static CALLBACK_REGISTERED: Cell<bool> = const { Cell::new(false) };
    /// Recovery only: transactions whose fate is not known yet, one for each origin.
    static PENDING: RefCell<Vec<Record>> = const { RefCell::new(Vec::new()) };
}

/// Makes the current transaction carry the progress of `origin` from `base` to `end` when it commits.
/// Dropped when it aborts.
pub fn announce(origin: OriginNumber, base: u64, end: u64) {
    if !CALLBACK_REGISTERED.replace(true) {
        // SAFETY: once for each process; the callback is a function of this library.
        unsafe { pg_sys::RegisterXactCallback(Some(on_transaction_end), core::ptr::null_mut()) }
    }
    ANNOUNCED.set(Some((origin, base, end)));
}

/// Writes that `reached` is durable knowledge. Called when the stream is idle, so that a standby does not wait for the
/// next transaction.
pub fn settle(origin: OriginNumber, reached: u64) {
    Record { xid: 0, origin: origin.get(), kind: Kind::Settled, base: reached, end: reached }.insert();
}

/// Writes that `origin` was created or is dropped in this transaction: recovery forgets what it remembered under the
/// number, which may be given out again.
pub fn forget(origin: OriginNumber) {
    Record { xid: 0, origin: origin.get(), kind: Kind::Forget, base: 0, end: 0 }.insert();
}

/// The server calls it at each step of a transaction's end.
#[pg_guard]
unsafe extern "C-unwind" fn on_transaction_end(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT => before_commit(),
        pg_sys::XactEvent::XACT_EVENT_COMMIT | pg_sys::XactEvent::XACT_EVENT_ABORT => ANNOUNCED.set(None),
        _ => {}
    }
}

fn before_commit() {
    // SAFETY: reads the state of this backend.
    let xid = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    if xid == pg_sys::InvalidTransactionId {
        return;
    }
    if let Some((origin, base, end)) = ANNOUNCED.take() {
        if !asserts_enabled() {
            // SAFETY: our own entry; the commit that follows at once sets the same flag and clears it, and so does abort.
            unsafe { (*pg_sys::MyProc).delayChkptFlags |= pg_sys::DELAY_CHKPT_START as i32 }
        }
        Record { xid: xid.into_inner(), origin: origin.get(), kind: Kind::Commit, base, end }.insert();
    }
}

/// Servers built with assertions insist that the flag is not set when a commit starts. They then rely on `base` of the
/// next record: a checkpoint would have to start and end between two adjacent WAL records to hurt.
fn asserts_enabled() -> bool {
    static ENABLED: OnceLock<bool> = OnceLock::new();
    *ENABLED.get_or_init(ask_asserts)
}

fn ask_asserts() -> bool {
    // SAFETY: a preset parameter that always exists; the text belongs to the server.
    let value = unsafe { pg_sys::GetConfigOption(c"debug_assertions".as_ptr(), true, false) };
    // SAFETY: null or NUL-terminated.
    !value.is_null() && unsafe { core::ffi::CStr::from_ptr(value) } == c"on"
}

/// Recovery meets a record.
pub fn redo(body: &[u8]) {
    let Some(record) = Record::read(body) else { return };
    let earlier = PENDING.with_borrow_mut(|list| {
        let at = list.iter().position(|p| p.origin == record.origin);
        at.map(|at| list.swap_remove(at))
    });
    match record.kind {
        Kind::Forget => {}
        Kind::Settled => advance(record.origin, record.base),
        Kind::Commit => {
            if let Some(earlier) = earlier {
                decide(earlier);
            }
            advance(record.origin, record.base);
            PENDING.with_borrow_mut(|list| list.push(record));
        }
    }
}

/// Recovery has read all WAL.
pub fn recovered() {
    for record in PENDING.take() {
        decide(record);
    }
}

fn decide(record: Record) {
    // SAFETY: reads the commit log.
    if unsafe { pg_sys::TransactionIdDidCommit(pg_sys::TransactionId::from_inner(record.xid)) } {
        advance(record.origin, record.end);
    }
}

fn advance(origin: u16, to: u64) {
    if to == 0 {
        return;
    }
    // SAFETY: recovery only: nobody holds the origin; forward only, and nothing is logged.
    unsafe { pg_sys::replorigin_advance(origin, to, 0, false, false) }
}

/// A record for people.
pub fn describe(body: &[u8]) -> Option<String> {
    let record = Record::read(body)?;
    let (base, end) = (Lsn::new(record.base), Lsn::new(record.end));
    let text = |lsn: Option<Lsn>| lsn.map_or_else(|| "0/0".into(), |lsn| lsn.to_string());
    Some(format!("{:?} xid {} origin {} base {} end {}", record.kind, record.xid, record.origin, text(base), text(end)))
}
