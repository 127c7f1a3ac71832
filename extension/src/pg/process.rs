//! This process and others: background workers, signals, exit and transaction callbacks.
//!
//! # Invariants
//! 1. SIGTERM is the server's own handler, so that lock waits, I/O waits and queries end at once with FATAL 57P01; ours
//!    only notes before it that somebody asked, so that such an end counts as a clean stop.
//! 2. `proc_exit` runs no Drop. What must happen at exit is registered: before the server rolls back
//!    ([`at_exit_before_rollback`]) or after everything else of ours is released ([`at_exit`]).

use crate::pg::compat::process::set_signal_handler;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicBool, Ordering};
use pgrx::{pg_guard, pg_sys};
use spock_core::types::PgTime;
use std::cell::RefCell;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

static TERMINATE_ASKED: AtomicBool = AtomicBool::new(false);

/// Whether this process got SIGTERM.
pub fn terminate_asked() -> bool {
    TERMINATE_ASKED.load(Ordering::Relaxed)
}

unsafe extern "C-unwind" {
    // The address of the server's handler itself: the name in `pg_sys` is a wrapper of another type.
    fn die(signal: c_int);
    #[link_name = "SignalHandlerForConfigReload"]
    fn config_reload(signal: c_int);
}

/// Only what a signal handler may do: an atomic store and the server's own handler.
unsafe extern "C-unwind" fn on_terminate(signal: c_int) {
    TERMINATE_ASKED.store(true, Ordering::Relaxed);
    // SAFETY: the server's handler, with the argument that it was meant to get.
    unsafe { die(signal) }
}

/// Signals of a background worker. Call it first.
pub fn install_signal_handlers() {
    set_signal_handler(libc::SIGTERM, on_terminate);
    set_signal_handler(libc::SIGHUP, config_reload);
    // SAFETY: handlers are in place.
    unsafe { pg_sys::BackgroundWorkerUnblockSignals() }
}

/// The process id of this process.
pub fn own_pid() -> i32 {
    // SAFETY: set at the start of each process.
    unsafe { pg_sys::MyProcPid }
}

/// Oid of the database that this process is connected to. 0: none.
pub fn own_database() -> u32 {
    // SAFETY: set when the process connects.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

/// The data directory of this server.
pub fn data_directory() -> PathBuf {
    // SAFETY: set once when the server starts, before it loads libraries.
    let directory = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    PathBuf::from(OsStr::from_bytes(directory.to_bytes()))
}

/// The number that `initdb` gave this server's data directory.
pub fn system_identifier() -> u64 {
    // SAFETY: reads shared memory that exists before ours.
    unsafe { pg_sys::GetSystemIdentifier() }
}

/// The current time.
pub fn now() -> PgTime {
    // SAFETY: reads the clock.
    PgTime::from_micros(unsafe { pg_sys::GetCurrentTimestamp() })
}

/// Sets the latch of the process `pid`, if it is still there.
pub fn wake(pid: i32) {
    // SAFETY: the entry stays valid memory even if the process ends now; a latch that is set for nothing is harmless.
    unsafe {
        let process = pg_sys::BackendPidGetProc(pid);
        if !process.is_null() {
            pg_sys::SetLatch(&raw mut (*process).procLatch);
        }
    }
}

/// Sends SIGTERM to a process of this server. The caller knows from a locked table that it is one.
pub fn terminate(pid: i32) {
    // SAFETY: a positive pid; a process that is gone by now makes the call fail, which is fine.
    unsafe {
        if pid > 0 {
            libc::kill(pid, libc::SIGTERM);
        }
    }
}

/// Ends this process now, without an error. Exit callbacks run, destructors do not.
pub fn exit(code: i32) -> ! {
    // SAFETY: ends the process; in some majors the binding does not say that it never returns.
    #[allow(unreachable_code, clippy::diverging_sub_expression)]
    unsafe {
        pg_sys::proc_exit(code);
        unreachable!("proc_exit does not return")
    }
}

thread_local! {
    static BEFORE_ROLLBACK: RefCell<Vec<fn()>> = const { RefCell::new(Vec::new()) };
    static AFTER_RELEASE: RefCell<Vec<fn()>> = const { RefCell::new(Vec::new()) };
}

/// `action` runs when this process ends, before the server rolls back an open transaction. Register it after connecting
/// to a database. It may not raise.
pub fn at_exit_before_rollback(action: fn()) {
    let first = BEFORE_ROLLBACK.with_borrow_mut(|actions| {
        actions.push(action);
        actions.len() == 1
    });
    if first {
        // SAFETY: a plain function that stays loaded.
        unsafe { pg_sys::before_shmem_exit(Some(run_before_rollback), pg_sys::Datum::from(0)) }
    }
}

/// `action` runs when this process ends, after rollback and after whatever was set up later has been released. Shared
/// memory and locks still work. It may not raise.
pub fn at_exit(action: fn()) {
    let first = AFTER_RELEASE.with_borrow_mut(|actions| {
        actions.push(action);
        actions.len() == 1
    });
    if first {
        // SAFETY: a plain function that stays loaded.
        unsafe { pg_sys::on_shmem_exit(Some(run_after_release), pg_sys::Datum::from(0)) }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn run_before_rollback(_code: c_int, _arg: pg_sys::Datum) {
    for action in BEFORE_ROLLBACK.with_borrow_mut(core::mem::take) {
        action();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn run_after_release(_code: c_int, _arg: pg_sys::Datum) {
    for action in AFTER_RELEASE.with_borrow_mut(core::mem::take) {
        action();
    }
}

/// What a transaction of this backend came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxnEnd {
    /// Committed; other backends see it already.
    Commit,
    /// Rolled back.
    Abort,
}

thread_local! {
    static TXN_END: RefCell<Vec<fn(TxnEnd)>> = const { RefCell::new(Vec::new()) };
}

/// `action` runs at the end of every top-level transaction of this process from now on; PREPARE TRANSACTION is not an end.
/// It may not raise. Register each action once per process.
pub fn at_transaction_end(action: fn(TxnEnd)) {
    let first = TXN_END.with_borrow_mut(|actions| {
        actions.push(action);
        actions.len() == 1
    });
    if first {
        // SAFETY: a plain function that stays loaded.
        unsafe { pg_sys::RegisterXactCallback(Some(on_transaction_event), core::ptr::null_mut()) }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction_event(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    let end = match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT => TxnEnd::Commit,
        pg_sys::XactEvent::XACT_EVENT_ABORT => TxnEnd::Abort,
        _ => return,
    };
    let actions = TXN_END.with_borrow(Clone::clone);
    for action in actions {
        action(end);
    }
}

/// A background worker to be started.
pub struct WorkerSpec<'a> {
    /// Name and type in `pg_stat_activity`, at most 95 bytes.
    pub name: &'a str,
    /// The exported function to run.
    pub entry: &'static CStr,
    /// Passed to it.
    pub argument: u64,
    /// Start it as soon as a standby can be read, not only at promotion.
    pub on_standby: bool,
    /// Start it again so long after a crash. `None`: whoever registered it decides.
    pub restart_after: Option<Duration>,
}

fn copy_name(target: &mut [c_char], text: &[u8]) {
    let room = target.len() - 1;
    for (place, byte) in target.iter_mut().zip(text.iter().take(room)) {
        *place = byte.cast_signed() as c_char;
    }
}

impl WorkerSpec<'_> {
    fn raw(&self) -> pg_sys::BackgroundWorker {
        let mut worker = pg_sys::BackgroundWorker {
            bgw_flags: (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as c_int,
            bgw_start_time: if self.on_standby {
                pg_sys::BgWorkerStartTime::BgWorkerStart_ConsistentState
            } else {
                // Never on a standby; at promotion.
                pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished
            },
            bgw_restart_time: self.restart_after.map_or(pg_sys::BGW_NEVER_RESTART, |after| after.as_secs() as c_int),
            bgw_main_arg: pg_sys::Datum::from(self.argument),
            bgw_notify_pid: if self.restart_after.is_some() { 0 } else { own_pid() },
            ..Default::default()
        };
        copy_name(&mut worker.bgw_name, self.name.as_bytes());
        copy_name(&mut worker.bgw_type, self.name.as_bytes());
        copy_name(&mut worker.bgw_library_name, b"spock");
        copy_name(&mut worker.bgw_function_name, self.entry.to_bytes());
        worker
    }

    /// Registers it with the postmaster while the server preloads libraries.
    pub fn register_static(&self) {
        let mut worker = self.raw();
        // SAFETY: the structure is copied.
        unsafe { pg_sys::RegisterBackgroundWorker(&mut worker) }
    }

    /// Asks the postmaster to start it now and to wake this process when it starts and ends. `None`: all
    /// `max_worker_processes` are in use.
    pub fn start(&self) -> Option<WorkerHandle> {
        let mut worker = self.raw();
        let mut handle = core::ptr::null_mut();
        // SAFETY: the structure is copied; the handle is allocated in the process's top context, as it outlives
        // transactions.
        unsafe {
            let previous = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = pg_sys::TopMemoryContext;
            let registered = pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle);
            pg_sys::CurrentMemoryContext = previous;
            registered.then(|| WorkerHandle(handle))
        }
    }
}

/// A worker that this process asked for. Drop frees the handle, not the worker.
pub struct WorkerHandle(*mut pg_sys::BackgroundWorkerHandle);

/// How far a worker that we asked for is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// The postmaster has not started it yet.
    Pending,
    /// It runs.
    Running,
    /// It ended, or could not be started.
    Ended,
}

impl WorkerHandle {
    /// Asks the postmaster.
    pub fn state(&self) -> WorkerState {
        let mut pid = 0;
        // SAFETY: the handle is live.
        match unsafe { pg_sys::GetBackgroundWorkerPid(self.0, &mut pid) } {
            pg_sys::BgwHandleStatus::BGWH_STARTED => WorkerState::Running,
            pg_sys::BgwHandleStatus::BGWH_NOT_YET_STARTED => WorkerState::Pending,
            _ => WorkerState::Ended,
        }
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        // SAFETY: allocated by the server with palloc, freed once; freeing cannot raise.
        unsafe { pg_sys::pfree(self.0.cast()) }
    }
}

/// Connects this worker to a database as the bootstrap superuser. Leaves with FATAL when the database is gone.
pub fn connect_to_database(database: u32) {
    // SAFETY: once per worker, before any other database access.
    unsafe { pg_sys::BackgroundWorkerInitializeConnectionByOid(pg_sys::Oid::from(database), pg_sys::InvalidOid, 0) }
}

/// Connects this worker to the shared catalogs only.
pub fn connect_to_shared_catalogs() {
    // SAFETY: once per worker, before any other database access; null names mean no database and the bootstrap user.
    unsafe { pg_sys::BackgroundWorkerInitializeConnection(core::ptr::null(), core::ptr::null(), 0) }
}

/// Sets a setting of this session so that no configuration file can override it.
pub fn pin_setting(name: &CStr, value: &str) {
    let value = CString::new(value).unwrap_or_default();
    // SAFETY: both strings are terminated and copied by the server; an ERROR unwinds.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        )
    }
}

/// Writes this session's counters to the shared statistics. Outside a transaction. Unless `idle`, at most once a second;
/// an idle process has no later occasion.
pub fn flush_statistics(idle: bool) {
    // SAFETY: outside a transaction, as the server's own workers do.
    unsafe { pg_sys::pgstat_report_stat(idle) };
}

/// Forgets the origin that a commit or abort of this session would carry. Run before the server's own rollback at exit,
/// so that the rollback cannot move the origin.
pub fn clear_session_origin() {
    // SAFETY: plain variables of this process.
    unsafe {
        pg_sys::replorigin_session_origin = 0;
        pg_sys::replorigin_session_origin_lsn = 0;
        pg_sys::replorigin_session_origin_timestamp = 0;
    }
}

/// `max_replication_slots` of this server.
pub fn max_replication_slots() -> usize {
    // SAFETY: a setting that is fixed when the server starts.
    usize::try_from(unsafe { pg_sys::max_replication_slots }).unwrap_or_default()
}

/// The server is being upgraded by `pg_upgrade`, which must not see workers.
pub fn is_binary_upgrade() -> bool {
    // SAFETY: fixed at server start.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// Databases that one may connect to: oid and name. Needs an open transaction.
pub fn connectable_databases() -> Vec<(u32, String)> {
    let mut found = Vec::new();
    each_database(|row| {
        // -2 marks a database whose DROP was interrupted.
        if row.datallowconn && row.datconnlimit != -2 {
            found.push((row.oid.to_u32(), pgrx::name_data_to_str(&row.datname).to_owned()));
        }
    });
    found
}

/// Oid of the database `name`. Needs an open transaction.
pub fn database_by_name(name: &str) -> Option<u32> {
    let mut found = None;
    each_database(|row| {
        if pgrx::name_data_to_str(&row.datname) == name {
            found = Some(row.oid.to_u32());
        }
    });
    found
}

/// Looks at all databases, without an index: a process without a database may not be able to open one.
fn each_database(mut see: impl FnMut(&pg_sys::FormData_pg_database)) {
    // SAFETY: inside a transaction; the relation and the scan are closed below, or by abort after an ERROR. Rows of
    // pg_database have the fixed part that the struct describes.
    unsafe {
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as c_int);
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            core::ptr::null_mut(),
            0,
            core::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            see(&*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>());
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as c_int);
    }
}
