//! The shared table of workers: who should run, who runs, how the last one ended and when the next try is due. Managers and
//! the supervisor write wishes, each worker writes its own row, SQL functions read.
//!
//! # Invariants
//! 1. A row belongs to one role in one database (and one subscription). It outlives the process, so that attempts, the
//!    time of the next try and the last error stay visible while nothing runs.
//! 2. A worker may take a row only with the generation that it was started with. Whoever changes the wish raises the
//!    generation, so a late worker leaves quietly.
//! 3. `pid` is set from attach until everything of the worker is released: as long as it is set, signalling it is safe,
//!    and once it is 0 the worker's transaction is rolled back and its replication origin is free.
//! 4. The last error never holds a secret and is cut to [`ERROR_BYTES_MAX`].
//! 5. What a row says of a transaction that failed is there until that transaction has passed, or the subscription changes:
//!    both are a reason to try it anew. A server that starts has forgotten it, and tries it anew, too.

mod changes;
mod handover;
mod parked;

pub use changes::{Change, Changed, signal_at_commit, take_changed};
pub use handover::{
    apply_position, attend, caught_up, has_attended, has_caught_up, offer_snapshot, own_table, set_position, snapshot,
    take_attention, wake_appliers, wake_manager,
};

pub use parked::{replay_answered, replay_asked, replay_done, request_replay, take_parked_attention};

use crate::error::Report;
use crate::pg::latch;
use crate::pg::process;
use crate::pg::shmem::{self, SharedTable, shareable};
use crate::worker::failure::{Failure, Remembered};
use crate::worker::pause;
use spock_core::types::{PgTime, SubId};
use std::cell::Cell;
use std::time::Duration;

/// What a worker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One per server: starts managers.
    Supervisor,
    /// One per database with a local node: starts apply workers.
    Manager,
    /// One per enabled subscription.
    Apply,
    /// One for a table that is being copied.
    Sync,
}

/// How far a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerStatus {
    /// Asked for; has not attached yet.
    Starting,
    /// Attached; loads its subscription and connects.
    Connecting,
    /// Sets up replication for the first time.
    Initializing,
    /// Does its work; an apply worker streams.
    Running,
    /// Ended and is not wanted now.
    Stopped,
    /// Ended with an error; the next try comes at `retry_at`.
    Failed,
    /// An apply worker that is held between two transactions.
    Paused,
}

impl WorkerStatus {
    /// As views show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Connecting => "connecting",
            Self::Initializing => "initializing",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Paused => "paused",
        }
    }
}

/// One row for people and SQL functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// What it is for.
    pub role: Role,
    /// Oid of its database; 0 for the supervisor.
    pub database: u32,
    /// Its subscription, for an apply or sync worker.
    pub subscription: Option<SubId>,
    /// Hash of its table's name, for a sync worker.
    pub table: Option<u32>,
    /// Process id while it is attached.
    pub pid: Option<i32>,
    /// How far it is.
    pub status: WorkerStatus,
    /// When the running or last process attached.
    pub started_at: Option<PgTime>,
    /// Tries since it last ran well.
    pub attempts: u32,
    /// When the next try is due.
    pub retry_at: Option<PgTime>,
    /// What ended it last, without secrets.
    pub last_error: Option<String>,
}

/// Bytes kept of the name of a snapshot, the server's have about 20, and of a word of as many behind it.
const SNAPSHOT_BYTES_MAX: usize = 64;
/// Bytes kept of an error text.
pub const ERROR_BYTES_MAX: usize = 480;
/// Rows beyond `max_worker_processes`: subscriptions that wait because all workers are taken are still shown.
const ROWS_MIN: usize = 64;
/// The supervisor's row.
const SUPERVISOR: usize = 0;
/// Databases whose topology changed and that the supervisor has not looked at; more than these mean "look at all".
const CHANGED_DATABASES_MAX: usize = 32;

shareable! {
    struct Row {
        role: u32,
        generation: u32,
        database: u32,
        subscription: u32,
        pid: i32,
        status: u32,
        ended: u32,
        attempts: u32,
        started_at: i64,
        running_at: i64,
        ended_at: i64,
        retry_at: i64,
        asked_at: i64,
        error_len: u32,
        changed_all: u32,
        /// Of a sync worker: hash of its table's name.
        table: u32,
        /// Of an apply worker: the states of tables have changed. Of a sync worker: it has caught up.
        attention: u32,
        /// Of an apply worker: parked transactions have gone.
        parked_changed: u32,
        /// Of an apply worker: how often it was asked to apply what is parked, and up to where it has answered.
        replay_asked: u32,
        replay_done: u32,
        /// Of a manager: it has said what is to be kept for its database.
        has_looked: u32,
        /// Which one it was asked for; 0: all.
        replay_id: i64,
        /// Of an apply worker: how far it is in the provider's WAL, while tables are being copied.
        position: u64,
        /// Of an apply worker: the snapshot under which tables are copied, NUL-terminated.
        snapshot: [u8; SNAPSHOT_BYTES_MAX],
        error: [u8; ERROR_BYTES_MAX],
        /// Only in the supervisor's row.
        changed: [u32; CHANGED_DATABASES_MAX],
        /// The remote transaction that failed by itself.
        failed: Remembered,
    }
}

static WORKERS: SharedTable<Row> = SharedTable::new(c"spock_workers", row_count, |rows| {
    // A fresh start: the supervisor looks at every database.
    if let Some(row) = rows.get_mut(SUPERVISOR) {
        row.role = ROLE_SUPERVISOR;
        row.status = status_code(WorkerStatus::Starting);
        row.changed_all = 1;
    }
});

/// Number of rows.
pub fn row_count() -> usize {
    ROWS_MIN.max(4 * shmem::max_worker_processes())
}

const ROLE_FREE: u32 = 0;
const ROLE_SUPERVISOR: u32 = 1;
const ROLE_MANAGER: u32 = 2;
const ROLE_APPLY: u32 = 3;
const ROLE_SYNC: u32 = 4;

const fn role_code(role: Role) -> u32 {
    match role {
        Role::Supervisor => ROLE_SUPERVISOR,
        Role::Manager => ROLE_MANAGER,
        Role::Apply => ROLE_APPLY,
        Role::Sync => ROLE_SYNC,
    }
}

fn role_of(code: u32) -> Option<Role> {
    match code {
        ROLE_SUPERVISOR => Some(Role::Supervisor),
        ROLE_MANAGER => Some(Role::Manager),
        ROLE_APPLY => Some(Role::Apply),
        ROLE_SYNC => Some(Role::Sync),
        _ => None,
    }
}

const STATUSES: [WorkerStatus; 7] = [
    WorkerStatus::Starting,
    WorkerStatus::Connecting,
    WorkerStatus::Initializing,
    WorkerStatus::Running,
    WorkerStatus::Stopped,
    WorkerStatus::Failed,
    WorkerStatus::Paused,
];

const fn status_code(status: WorkerStatus) -> u32 {
    status as u32
}

fn status_of(code: u32) -> WorkerStatus {
    STATUSES.get(code as usize).copied().unwrap_or(WorkerStatus::Stopped)
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It runs, or never ran.
    Not,
    /// It had nothing more to do.
    Clean,
    /// Somebody asked it to end.
    Asked,
    /// An error.
    Failed,
    /// A remote transaction failed by itself, and the next attempt is another one.
    Exception,
}

const ENDS: [Ended; 5] = [Ended::Not, Ended::Clean, Ended::Asked, Ended::Failed, Ended::Exception];

/// What whoever starts workers needs to know of one row.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// Its place in the table.
    pub index: usize,
    /// Its database.
    pub database: u32,
    /// Its subscription; `None` for a manager.
    pub subscription: Option<SubId>,
    /// Hash of its table's name, 0: not a sync worker.
    pub table: u32,
    /// Attached process, 0: none.
    pub pid: i32,
    /// How far it is.
    pub status: WorkerStatus,
    /// How the last process ended.
    pub ended: Ended,
    /// Tries since it last ran well.
    pub attempts: u32,
    /// Microseconds that the last process did its work; `None`: it never got there.
    pub ran_us: Option<i64>,
    /// When the next try is due; `None`: nobody has decided yet.
    pub retry_at: Option<PgTime>,
    /// When the last try was asked for.
    pub asked_at: Option<PgTime>,
    /// A manager that has said what is to be kept for its database.
    pub has_looked: bool,
}

/// The right to attach to a row: index and generation, passed as the worker's argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    index: u32,
    generation: u32,
}

impl Ticket {
    /// As a worker's argument.
    pub fn to_argument(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Its row.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// From a worker's argument.
    pub fn from_argument(argument: u64) -> Self {
        Self { index: argument as u32, generation: (argument >> 32) as u32 }
    }
}

fn time(micros: i64) -> Option<PgTime> {
    (micros != 0).then(|| PgTime::from_micros(micros))
}

impl Row {
    fn is(&self, role: Role, database: u32, subscription: u32) -> bool {
        self.is_for(role, database, subscription, 0)
    }

    fn is_for(&self, role: Role, database: u32, subscription: u32, table: u32) -> bool {
        self.role == role_code(role)
            && self.database == database
            && self.subscription == subscription
            && self.table == table
    }

    fn error_text(&self) -> Option<String> {
        let bytes = self.error.get(..self.error_len as usize).unwrap_or_default();
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
    }

    fn set_error(&mut self, report: &Report) {
        let text = match &report.detail {
            Some(detail) => format!("{} ({detail})", report.message),
            None => report.message.clone(),
        };
        let mut end = text.len().min(ERROR_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.error[..end].copy_from_slice(&text.as_bytes()[..end]);
        self.error_len = end as u32;
    }

    /// The next attempt is the first one again, and does not wait.
    fn forget_failure(&mut self) {
        self.failed = Remembered::NOTHING;
        if self.ended == Ended::Exception as u32 {
            self.ended = Ended::Asked as u32;
        }
    }

    fn view(&self) -> Option<WorkerView> {
        Some(WorkerView {
            role: role_of(self.role)?,
            database: self.database,
            subscription: SubId::new(self.subscription),
            table: (self.table != 0).then_some(self.table),
            pid: (self.pid != 0).then_some(self.pid),
            status: status_of(self.status),
            started_at: time(self.started_at),
            attempts: self.attempts,
            retry_at: time(self.retry_at),
            last_error: self.error_text(),
        })
    }

    fn record(&self, index: usize) -> Record {
        Record {
            index,
            database: self.database,
            subscription: SubId::new(self.subscription),
            table: self.table,
            pid: self.pid,
            status: status_of(self.status),
            ended: ENDS.get(self.ended as usize).copied().unwrap_or(Ended::Not),
            attempts: self.attempts,
            ran_us: (self.running_at != 0).then(|| self.ended_at - self.running_at),
            retry_at: time(self.retry_at),
            asked_at: time(self.asked_at),
            has_looked: self.has_looked != 0,
        }
    }
}

/// Asks for the shared memory. Only while the server preloads libraries.
pub fn reserve() {
    WORKERS.reserve();
}

/// Whether the library was preloaded: without that there are no workers.
pub fn exists() -> bool {
    WORKERS.exists()
}

/// Whether the supervisor runs: not for a moment after a crash, and not while the server stops.
pub fn supervisor_runs() -> bool {
    WORKERS.read().get(SUPERVISOR).is_some_and(|row| row.pid != 0)
}

/// Lets the supervisor look again.
pub fn wake_supervisor() {
    if let Some(pid) = WORKERS.read().get(SUPERVISOR).map(|row| row.pid).filter(|pid| *pid != 0) {
        process::wake(pid);
    }
}

/// All rows.
pub fn workers() -> Vec<WorkerView> {
    WORKERS.read().iter().filter_map(Row::view).collect()
}

/// The row of a subscription's apply worker. `None`: never asked for.
pub fn apply_worker(database: u32, sub: SubId) -> Option<WorkerView> {
    WORKERS.read().iter().find(|row| row.is(Role::Apply, database, sub.get())).and_then(Row::view)
}

/// Rows of `role` in `database`, or in all databases.
pub fn records(role: Role, database: Option<u32>) -> Vec<Record> {
    let wanted = |row: &Row| row.role == role_code(role) && database.is_none_or(|database| row.database == database);
    let rows = WORKERS.read();
    rows.iter().enumerate().filter(|(_, row)| wanted(row)).map(|(index, row)| row.record(index)).collect()
}

/// Takes a row for a worker about to be started: its old row, a free one, or the oldest that is not wanted any more.
/// `table` is the hash of a sync worker's table, 0 for others. `None`: the table is full of wanted ones.
pub fn prepare(role: Role, database: u32, sub: Option<SubId>, table: u32) -> Option<Ticket> {
    let sub = sub.map_or(0, SubId::get);
    let now = process::now().micros();
    let mut rows = WORKERS.write();
    let place = rows.iter().position(|row| row.is_for(role, database, sub, table));
    let place = place.or_else(|| rows.iter().position(|row| row.role == ROLE_FREE)).or_else(|| {
        let idle = |row: &&(usize, &Row)| row.1.pid == 0 && row.1.status == status_code(WorkerStatus::Stopped);
        rows.iter()
            .enumerate()
            .skip(1)
            .collect::<Vec<_>>()
            .iter()
            .filter(idle)
            .min_by_key(|(_, row)| row.ended_at)
            .map(|(place, _)| *place)
    })?;
    let row = &mut rows[place];
    if row.pid != 0 {
        return None;
    }
    if !row.is_for(role, database, sub, table) {
        *row = Row { role: role_code(role), database, subscription: sub, table, generation: row.generation, ..EMPTY };
    }
    row.generation = row.generation.wrapping_add(1);
    row.status = status_code(WorkerStatus::Starting);
    row.ended = Ended::Not as u32;
    row.asked_at = now;
    row.retry_at = 0;
    Some(Ticket { index: place as u32, generation: row.generation })
}

const EMPTY: Row = Row {
    role: ROLE_FREE,
    generation: 0,
    database: 0,
    subscription: 0,
    pid: 0,
    status: 0,
    ended: 0,
    attempts: 0,
    started_at: 0,
    running_at: 0,
    ended_at: 0,
    retry_at: 0,
    asked_at: 0,
    error_len: 0,
    changed_all: 0,
    table: 0,
    attention: 0,
    parked_changed: 0,
    replay_asked: 0,
    replay_done: 0,
    has_looked: 0,
    replay_id: 0,
    position: 0,
    snapshot: [0; SNAPSHOT_BYTES_MAX],
    error: [0; ERROR_BYTES_MAX],
    changed: [0; CHANGED_DATABASES_MAX],
    failed: Remembered::NOTHING,
};

/// Records that a worker could not be started at all.
pub fn start_failed(ticket: Ticket, why: &Report) {
    let now = process::now().micros();
    let mut rows = WORKERS.write();
    let Some(row) = rows.get_mut(ticket.index as usize) else { return };
    if row.generation == ticket.generation && row.pid == 0 {
        row.generation = row.generation.wrapping_add(1);
        row.status = status_code(WorkerStatus::Failed);
        row.ended = Ended::Failed as u32;
        row.ended_at = now;
        row.running_at = 0;
        row.set_error(why);
    }
}

/// Writes down when the next try of an ended worker is due and the number of tries so far.
pub fn schedule(index: usize, retry_at: PgTime, attempts: u32) {
    let mut rows = WORKERS.write();
    if let Some(row) = rows.get_mut(index).filter(|row| row.pid == 0) {
        row.retry_at = retry_at.micros();
        row.attempts = attempts;
    }
}

/// The worker of this row is not wanted: ends it if it runs, keeps one that was asked for from attaching. Its last error
/// stays readable.
pub fn stop(index: usize) {
    let mut rows = WORKERS.write();
    let Some(row) = rows.get_mut(index) else { return };
    if row.pid != 0 {
        process::terminate(row.pid);
    } else if row.status != status_code(WorkerStatus::Stopped) {
        row.generation = row.generation.wrapping_add(1);
        row.status = status_code(WorkerStatus::Stopped);
        row.retry_at = 0;
        row.attempts = 0;
        row.forget_failure();
    }
}

/// Forgets a row whose subscription or database is gone.
pub fn forget(index: usize) {
    let mut rows = WORKERS.write();
    if let Some(row) = rows.get_mut(index).filter(|row| row.pid == 0) {
        *row = Row { generation: row.generation.wrapping_add(1), ..EMPTY };
    }
}

thread_local! {
    static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    static OWN_END: Cell<Option<Ended>> = const { Cell::new(None) };
}

/// Takes the supervisor's row for this process.
pub fn attach_supervisor() {
    let generation = WORKERS.read().get(SUPERVISOR).map_or(0, |row| row.generation);
    attach(Ticket { index: SUPERVISOR as u32, generation });
}

/// Takes the row of `ticket` for this process and gives it back at exit. Returns database and subscription. `None`: not
/// wanted any more, leave. The table's hash of a sync worker is told by [`own_table`].
pub fn attach(ticket: Ticket) -> Option<(u32, Option<SubId>)> {
    let now = process::now().micros();
    let found = {
        let mut rows = WORKERS.write();
        let row = rows.get_mut(ticket.index as usize)?;
        if row.generation != ticket.generation || row.pid != 0 || row.role == ROLE_FREE {
            return None;
        }
        pause::starts(ticket.index());
        row.pid = process::own_pid();
        row.status = status_code(WorkerStatus::Connecting);
        row.started_at = now;
        row.running_at = 0;
        row.retry_at = 0;
        row.ended = Ended::Not as u32;
        row.attention = 0;
        row.position = 0;
        row.snapshot = [0; SNAPSHOT_BYTES_MAX];
        (row.database, SubId::new(row.subscription))
    };
    OWN.set(Some(ticket.index as usize));
    process::at_exit(detach);
    Some(found)
}

/// The row of this process, if it is a worker.
pub fn own_index() -> Option<usize> {
    OWN.get()
}

/// How this process is going to end, if not by somebody's request.
pub fn ending(how: Ended) {
    OWN_END.set(Some(how));
}

/// Gives the row back. Runs after everything else of the worker was released.
fn detach() {
    let Some(index) = OWN.take() else { return };
    let asked = process::terminate_asked();
    let how = OWN_END.take().unwrap_or(if asked { Ended::Asked } else { Ended::Failed });
    let now = process::now().micros();
    let mut rows = WORKERS.write();
    let Some(row) = rows.get_mut(index) else { return };
    row.pid = 0;
    row.ended = how as u32;
    row.ended_at = now;
    let failed = matches!(how, Ended::Failed | Ended::Exception);
    row.status = status_code(if failed { WorkerStatus::Failed } else { WorkerStatus::Stopped });
}

fn with_own(change: impl FnOnce(&mut Row)) {
    let Some(index) = OWN.get() else { return };
    if let Some(row) = WORKERS.write().get_mut(index) {
        change(row);
    }
}

/// How far this worker is. Outside a worker it does nothing.
pub fn report_status(status: WorkerStatus) {
    with_own(|row| {
        if status == WorkerStatus::Running && row.running_at == 0 {
            row.running_at = process::now().micros();
            row.error_len = 0;
        }
        row.status = status_code(status);
    });
}

/// This manager has said what is to be kept for its database.
pub fn report_look() {
    let mut first = false;
    with_own(|row| first = core::mem::replace(&mut row.has_looked, 1) == 0);
    if first {
        wake_supervisor();
    }
}

/// What went wrong in this worker: kept for views, without secrets, cut to a bounded length.
pub fn report_error(report: &Report) {
    with_own(|row| row.set_error(report));
}

/// The transaction of this worker's stream that failed and has not passed yet.
pub fn failure() -> Option<Failure> {
    WORKERS.read().get(OWN.get()?)?.failed.read()
}

/// Remembers it, or forgets with `None`.
pub fn remember_failure(failure: Option<&Failure>) {
    with_own(|row| row.failed = failure.map_or(Remembered::NOTHING, Remembered::of));
}

fn is_sync_of(row: &Row, database: u32, sub: SubId) -> bool {
    row.role == ROLE_SYNC && row.database == database && row.subscription == sub.get()
}

/// Time between two looks at a worker that was told to end. Its exit does not wake us.
const TERMINATE_POLL: Duration = Duration::from_millis(10);

/// Ends the workers of a subscription and waits until their transactions are rolled back and their origins are free. A
/// worker that was asked for but has not attached will not attach. The caller keeps the manager from starting another one,
/// by the lock on `spock.local_node`. Interruptible; a worker ends at its next wait, so this takes milliseconds.
pub fn terminate_workers_and_wait(database: u32, sub: SubId) {
    terminate_and_wait(|row| row.is(Role::Apply, database, sub.get()) || is_sync_of(row, database, sub));
}

/// [`terminate_workers_and_wait`] for the sync workers only. New ones can follow unless the states of tables forbid it.
pub fn terminate_sync_and_wait(database: u32, sub: SubId) {
    terminate_and_wait(|row| is_sync_of(row, database, sub));
}

fn terminate_and_wait(which: impl Fn(&Row) -> bool) {
    let mut signalled: Vec<i32> = Vec::new();
    loop {
        let mut alive = false;
        for row in WORKERS.write().iter_mut().filter(|row| which(row)) {
            if row.pid == 0 {
                row.generation = row.generation.wrapping_add(1);
                row.status = status_code(WorkerStatus::Stopped);
                continue;
            }
            alive = true;
            if !signalled.contains(&row.pid) {
                process::terminate(row.pid);
                signalled.push(row.pid);
            }
        }
        if !alive {
            return;
        }
        latch::wait(TERMINATE_POLL);
    }
}
