//! Replication slots of this server: looking at them, and making, moving and dropping copies on a standby.
//!
//! # Invariants
//! 1. Slots are looked at by name under the server's lock on them, never by their place in its array: the size of an
//!    element differs between minor releases.
//! 2. A slot that is acquired is given back by Drop, and after an ERROR by [`attempt`], once the transaction is rolled back
//!    and no lock of the server is held.
//! 3. What a slot needs is on disk before the server may remove more.

use super::attempt::{self, Caught};
use super::compat::slot as compat;
use super::process;
use crate::error::Report;
use core::ffi::{CStr, c_char, c_int};
use core::ptr::null_mut;
use pgrx::{PgSqlErrorCode, pg_sys};
use spock_core::failover::hold_back::Listed;
use spock_core::failover::standby::Positions;
use spock_core::types::{Lsn, Xid};
use std::ffi::CString;

/// Places among the server's fixed locks, the same in 15 to 18.
const PROC_ARRAY_LOCK: usize = 4;
const SLOT_ALLOCATION_LOCK: usize = 36;
const SLOT_CONTROL_LOCK: usize = 37;

/// One of the server's locks. On ERROR: Drop does nothing, the abort that follows releases it.
struct ServerLock(*mut pg_sys::LWLock);

impl ServerLock {
    fn take(place: usize, mode: pg_sys::LWLockMode::Type) -> Self {
        // SAFETY: the array of fixed locks exists in every process; the guards of this file do not nest on one lock.
        unsafe {
            let lock = &raw mut (*pg_sys::MainLWLockArray.add(place)).lock;
            pg_sys::LWLockAcquire(lock, mode);
            Self(lock)
        }
    }
}

impl Drop for ServerLock {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: taken by `take`.
            unsafe { pg_sys::LWLockRelease(self.0) }
        }
    }
}

/// Runs `look` with the slot's mutex held. `look` only reads or writes fields.
///
/// # Safety
/// A live slot.
pub(super) unsafe fn with_mutex<R>(
    slot: *mut pg_sys::ReplicationSlot,
    look: impl FnOnce(*mut pg_sys::ReplicationSlot) -> R,
) -> R {
    // SAFETY: by contract; nothing between the two calls can raise.
    unsafe {
        pg_sys::SpinLockAcquire(&raw mut (*slot).mutex);
        let result = look(slot);
        pg_sys::SpinLockRelease(&raw mut (*slot).mutex);
        result
    }
}

/// Looks at the slot `name` if it is there.
pub(super) fn look_at<R>(name: &CStr, look: impl FnOnce(*mut pg_sys::ReplicationSlot) -> R) -> Option<R> {
    let _lock = ServerLock::take(SLOT_CONTROL_LOCK, pg_sys::LWLockMode::LW_SHARED);
    // SAFETY: under the lock, slots neither come nor go.
    unsafe {
        let slot = pg_sys::SearchNamedReplicationSlot(name.as_ptr(), false);
        (!slot.is_null()).then(|| with_mutex(slot, look))
    }
}

/// How far the slot `name` has confirmed: what a standby has on disk, or what a subscriber has.
pub fn position(name: &CStr) -> Listed {
    look_at(name, |slot| {
        // SAFETY: live, its mutex is held.
        unsafe {
            let data = &(*slot).data;
            if compat::is_invalidated(slot) {
                Listed::Missing
            } else if data.database == pg_sys::InvalidOid {
                Listed::At(Lsn::new(data.restart_lsn))
            } else {
                Listed::At(Lsn::new(data.confirmed_flush))
            }
        }
    })
    .unwrap_or(Listed::Missing)
}

/// Whether this process serves a replication connection.
pub fn is_walsender() -> bool {
    // SAFETY: reads a global of this process.
    unsafe { pg_sys::am_walsender }
}

/// Name of the slot that this process uses.
pub fn acquired_name() -> Option<CString> {
    // SAFETY: null or the slot that this process acquired; its name does not change meanwhile.
    unsafe {
        let slot = pg_sys::MyReplicationSlot;
        (!slot.is_null()).then(|| CStr::from_ptr((*slot).data.name.data.as_ptr()).to_owned())
    }
}

/// A logical slot as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// It goes with the process that made it.
    pub temporary: bool,
    /// The process that uses it. 0: none.
    pub user_pid: i32,
    /// It lost what it needs.
    pub lost: bool,
    /// Oid of its database.
    pub database: u32,
    /// Its output plugin.
    pub plugin: String,
    /// The oldest transaction whose catalog rows it needs.
    pub catalog_xmin: Option<Xid>,
    /// Where decoding starts.
    pub restart: Option<Lsn>,
    /// What its subscriber has confirmed.
    pub confirmed: Option<Lsn>,
}

/// Names of all slots, physical ones too.
fn names() -> Vec<CString> {
    // SAFETY: a setting that is fixed when the server starts.
    let places = unsafe { pg_sys::max_replication_slots };
    let mut name = pg_sys::NameData::default();
    (0..places)
        .filter_map(|place| {
            // SAFETY: fills the name of the slot at a place below the limit, if there is one.
            unsafe {
                pg_sys::ReplicationSlotName(place, &mut name).then(|| CStr::from_ptr(name.data.as_ptr()).to_owned())
            }
        })
        .collect()
}

fn text(name: &pg_sys::NameData) -> String {
    // SAFETY: a name ends with NUL.
    unsafe { CStr::from_ptr(name.data.as_ptr()) }.to_string_lossy().into_owned()
}

/// All logical slots.
pub fn logical_slots() -> Vec<Found> {
    let mut found = Vec::new();
    for name in names() {
        // The raw parts are copied under the mutex; allocation comes afterwards.
        let seen = look_at(&name, |slot| {
            // SAFETY: live, its mutex is held.
            unsafe { ((*slot).data, (*slot).active_pid, compat::is_invalidated(slot)) }
        });
        let Some((data, user_pid, lost)) = seen else { continue };
        if data.database == pg_sys::InvalidOid {
            continue;
        }
        found.push(Found {
            name: name.to_string_lossy().into_owned(),
            temporary: data.persistency != pg_sys::ReplicationSlotPersistency::RS_PERSISTENT,
            user_pid,
            lost,
            database: data.database.to_u32(),
            plugin: text(&data.plugin),
            catalog_xmin: Some(data.catalog_xmin.into_inner()).filter(|xid| *xid != 0).map(Xid),
            restart: Lsn::new(data.restart_lsn),
            confirmed: Lsn::new(data.confirmed_flush),
        });
    }
    found
}

/// The logical slot `name`.
pub fn find(name: &str) -> Option<Found> {
    logical_slots().into_iter().find(|slot| slot.name == name)
}

/// Whether decoding can start at once at `restart`: the state of the transactions there is on disk.
pub fn has_snapshot(restart: Lsn) -> bool {
    let name = format!("{:X}-{:X}.snap", restart.get() >> 32, restart.get() & 0xffff_ffff);
    process::data_directory().join("pg_logical/snapshots").join(name).exists()
}

/// Runs `work` as [`attempt::attempt`] does; a slot that an ERROR left acquired is given back.
pub fn attempt<R>(work: impl FnOnce() -> R) -> Result<R, Caught> {
    let result = attempt::attempt(work);
    if result.is_err() {
        // SAFETY: the transaction is rolled back, so no lock of the server is held.
        unsafe {
            if !pg_sys::MyReplicationSlot.is_null() {
                pg_sys::ReplicationSlotRelease();
            }
        }
    }
    result
}

/// Oid of the database `name`, locked against DROP DATABASE, and its replay, until the transaction ends. `None`: there is
/// none.
pub fn lock_database(name: &str) -> Option<u32> {
    let oid = process::database_by_name(name)?;
    // SAFETY: inside a transaction; a lock on an object that may be gone is harmless.
    unsafe {
        pg_sys::LockSharedObject(
            pg_sys::DatabaseRelationId,
            pg_sys::Oid::from(oid),
            0,
            pg_sys::AccessShareLock as c_int,
        );
    }
    (process::database_by_name(name) == Some(oid)).then_some(oid)
}

/// Drops a slot that no other process uses.
pub fn drop(name: &str) {
    let name = CString::new(name).unwrap_or_default();
    // SAFETY: no slot is acquired; an ERROR unwinds.
    unsafe { pg_sys::ReplicationSlotDrop(name.as_ptr(), true) }
}

/// A slot that this process uses.
///
/// On ERROR: Drop does nothing, [`attempt`] gives the slot back.
#[must_use]
pub struct Acquired(*mut pg_sys::ReplicationSlot);

impl Acquired {
    fn current() -> Self {
        // SAFETY: set by the call before.
        Self(unsafe { pg_sys::MyReplicationSlot })
    }

    /// The slot `name`, which no other process uses.
    pub fn open(name: &str) -> Self {
        let name = CString::new(name).unwrap_or_default();
        // SAFETY: no slot is acquired.
        unsafe { super::compat::server::acquire_slot(&name) }
        Self::current()
    }

    /// A new temporary slot that keeps WAL from `from` on, or from the oldest that is sure to be here, and the catalog rows
    /// that are still here.
    pub fn create(name: &str, plugin: &str, database: u32, from: Lsn) -> Self {
        let name = CString::new(name).unwrap_or_default();
        let plugin = CString::new(plugin).unwrap_or_default();
        // SAFETY: no slot is acquired.
        unsafe { compat::create(&name, true) }
        let this = Self::current();
        let mut plugin_name = pg_sys::NameData::default();
        // SAFETY: cuts what is longer than a name.
        unsafe { pg_sys::namestrcpy(&mut plugin_name, plugin.as_ptr()) };
        this.change(|data| {
            data.database = pg_sys::Oid::from(database);
            data.plugin = plugin_name;
        });
        this.reserve_wal(from);
        this.reserve_rows();
        this
    }

    fn change(&self, change: impl FnOnce(&mut pg_sys::ReplicationSlotPersistentData)) {
        // SAFETY: the slot is acquired; its mutex is held while the fields change.
        unsafe { with_mutex(self.0, |slot| change(&mut (*slot).data)) }
    }

    fn reserve_wal(&self, from: Lsn) {
        // Keeps a checkpoint from removing WAL between our look and our reservation.
        let _lock = ServerLock::take(SLOT_ALLOCATION_LOCK, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let kept = names().into_iter().filter_map(|name| {
            // SAFETY: live, its mutex is held.
            look_at(&name, |slot| unsafe { (*slot).data.restart_lsn }).filter(|lsn| *lsn != 0)
        });
        // SAFETY: reads shared memory.
        let redo = unsafe { pg_sys::GetRedoRecPtr() };
        let safe = kept.fold(redo, u64::min);
        let start = from.get().max(safe);
        self.change(|data| data.restart_lsn = start);
        // SAFETY: no slot lock is held; the removed segment is read after the reservation is known.
        let removed = unsafe {
            pg_sys::ReplicationSlotsComputeRequiredLSN();
            pg_sys::XLogGetLastRemovedSegno() >= start / pg_sys::wal_segment_size as u64
        };
        if removed {
            Report::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "WAL that a new replication slot needs was removed meanwhile",
            )
            .raise()
        }
    }

    fn reserve_rows(&self) {
        {
            let _lock = ServerLock::take(PROC_ARRAY_LOCK, pg_sys::LWLockMode::LW_EXCLUSIVE);
            // SAFETY: the lock that the function asks for is held.
            let xmin = unsafe { pg_sys::GetOldestSafeDecodingTransactionId(true) };
            // SAFETY: the slot is acquired.
            unsafe {
                with_mutex(self.0, |slot| {
                    (*slot).data.catalog_xmin = xmin;
                    (*slot).effective_catalog_xmin = xmin;
                });
            }
        }
        // On a standby rows go by replay only, and the primary hears of this with the next feedback: until the primary's
        // slot has come past it, the slot is unproven anyway.
        // SAFETY: no lock is held.
        unsafe { pg_sys::ReplicationSlotsComputeRequiredXmin(false) }
    }

    /// Takes over positions, none of which lies behind those that the slot has.
    pub fn copy(&self, positions: Positions) {
        self.change(|data| {
            data.restart_lsn = positions.restart.get();
            data.confirmed_flush = positions.confirmed.get();
            data.catalog_xmin = pg_sys::TransactionId::from(positions.catalog_xmin.0);
        });
        // SAFETY: the slot is acquired. Only once the new xmin is on disk may the server remove older rows.
        unsafe {
            pg_sys::ReplicationSlotMarkDirty();
            pg_sys::ReplicationSlotSave();
            with_mutex(self.0, |slot| {
                (*slot).effective_catalog_xmin = pg_sys::TransactionId::from(positions.catalog_xmin.0);
            });
            pg_sys::ReplicationSlotsComputeRequiredXmin(false);
            pg_sys::ReplicationSlotsComputeRequiredLSN();
        }
    }

    /// Decodes up to `upto`, which is replayed, sends nothing, and confirms it; the other positions follow. Returns whether
    /// decoding is complete there. `database` is the slot's.
    pub fn decode(&self, database: u32, upto: Lsn) -> bool {
        let _quiet = QuietLog::begin();
        // SAFETY: the slot is acquired and the context is used in this function only; inside a transaction, whose resource
        // owner is put back because decoding may switch it. An ERROR unwinds; the abort frees the context.
        unsafe {
            let owner = pg_sys::CurrentResourceOwner;
            let context = self.context(database);
            let reader = (*context).reader;
            let _segment = OpenSegment(reader);
            pg_sys::XLogBeginRead(reader, (*self.0).data.restart_lsn);
            while (*reader).EndRecPtr < upto.get() {
                let mut problem: *mut c_char = null_mut();
                let record = pg_sys::XLogReadRecord(reader, &mut problem);
                if !problem.is_null() {
                    unreadable(CStr::from_ptr(problem)).raise();
                }
                if !record.is_null() {
                    pg_sys::LogicalDecodingProcessRecord(context, reader);
                }
                pgrx::check_for_interrupts!();
            }
            let complete = pg_sys::DecodingContextReady(context);
            pg_sys::CurrentResourceOwner = owner;
            pg_sys::LogicalConfirmReceivedLocation(upto.get());
            pg_sys::ReplicationSlotMarkDirty();
            pg_sys::FreeDecodingContext(context);
            complete
        }
    }

    /// # Safety
    /// Inside a transaction.
    unsafe fn context(&self, database: u32) -> *mut pg_sys::LogicalDecodingContext {
        let mut routine = pg_sys::XLogReaderRoutine {
            page_read: Some(read_local_xlog_page),
            segment_open: Some(wal_segment_open),
            segment_close: Some(wal_segment_close),
        };
        let _database = compat::FAST_FORWARD_NEEDS_DATABASE.then(|| InDatabase::begin(database));
        // SAFETY: the routine is copied; no output plugin is loaded for a context that sends nothing.
        unsafe { pg_sys::CreateDecodingContext(0, null_mut(), true, &mut routine, None, None, None) }
    }

    /// The slot stays from now on, also after this process and the server end.
    pub fn persist(&self, failover: bool) {
        // SAFETY: the slot is acquired; its mutex is held while the field changes.
        unsafe {
            with_mutex(self.0, |slot| compat::set_failover(slot, failover));
            pg_sys::ReplicationSlotPersist();
        }
    }
}

impl Drop for Acquired {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: acquired by us; a temporary one stays ours.
            unsafe { pg_sys::ReplicationSlotRelease() }
        }
    }
}

fn unreadable(problem: &CStr) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        format!("could not read WAL to move a replication slot: {}", problem.to_string_lossy()),
    )
}

// The addresses of the server's functions themselves: the names in `pg_sys` are wrappers of another type.
unsafe extern "C-unwind" {
    fn read_local_xlog_page(
        state: *mut pg_sys::XLogReaderState,
        page: pg_sys::XLogRecPtr,
        length: c_int,
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

/// The WAL file that a reader has open. On ERROR: Drop closes it, because nobody else would, and closing cannot raise; the
/// reader is still there, the abort frees it later. Else the reader does so itself when it is freed.
struct OpenSegment(*mut pg_sys::XLogReaderState);

impl Drop for OpenSegment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // SAFETY: see above.
            unsafe {
                if (*self.0).seg.ws_file >= 0 {
                    libc::close((*self.0).seg.ws_file);
                }
            }
        }
    }
}

/// Decoding says where it starts each time, which is news for a subscriber's stream only. Drop always runs: a plain variable.
struct QuietLog(c_int);

impl QuietLog {
    fn begin() -> Self {
        // SAFETY: a setting of this process; ERRORs are still raised, and whoever catches one logs it.
        unsafe { Self(core::ptr::replace(&raw mut pg_sys::log_min_messages, pg_sys::FATAL as c_int)) }
    }
}

impl Drop for QuietLog {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { pg_sys::log_min_messages = self.0 }
    }
}

/// Lets a context be made for a slot of a database that this process is not connected to. Later majors do not ask.
/// Drop always runs: a plain variable.
struct InDatabase(pg_sys::Oid);

impl InDatabase {
    fn begin(database: u32) -> Self {
        // SAFETY: a variable of this process, which is connected to no database and reads none while this lives.
        unsafe { Self(core::ptr::replace(&raw mut pg_sys::MyDatabaseId, pg_sys::Oid::from(database))) }
    }
}

impl Drop for InDatabase {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { pg_sys::MyDatabaseId = self.0 }
    }
}
