//! Wanted against running: starts what is wanted and not there, again and again with growing pauses, ends what is not
//! wanted. Used by the supervisor for managers and by each manager for apply workers.
//!
//! # Invariants
//! 1. One call decides everything from the wishes and the shared table; nothing is remembered here but the postmaster's
//!    handles, so a keeper that starts anew takes over what its predecessor left.
//! 2. It never waits. It returns when it wants to be called again at the latest.

use crate::error::Report;
use crate::pg::process::{self, WorkerHandle, WorkerSpec, WorkerState};
use crate::pg::raise::{self, Level};
use crate::settings;
use crate::worker::registry::{self, Ended, Record, Role, Ticket, WorkerStatus};
use core::ffi::CStr;
use pgrx::PgSqlErrorCode;
use spock_core::backoff::Backoff;
use spock_core::names::shorten;
use spock_core::types::{PgTime, SubId};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// A worker that did its work for so long has recovered: the next failure is a new one. Longer than the longest pause, so
/// that a worker which fails right after each pause does not count as recovered.
const STABLE_RUN: Duration = Duration::from_secs(90);
/// A worker that ended well before it had run so long is paused like a failed one, so that it cannot spin.
const SHORT_RUN: Duration = Duration::from_secs(1);
/// A worker that has not attached after so long, and whose handle a former keeper took with it, is asked for again.
const START_LIMIT: Duration = Duration::from_secs(10);
/// The pause before the first try after a failure: most are over as soon as they are seen.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The pause after the postmaster had no worker left, or the table no row.
const NO_WORKER_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Bytes of a table's name in the name of a sync worker.
const SYNC_TABLE_LEN: usize = 27;

/// A worker that should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Oid of its database.
    pub database: u32,
    /// Its subscription; `None` for a manager.
    pub subscription: Option<SubId>,
    /// The table that it copies, for a sync worker.
    pub table: Option<WantedTable>,
}

/// A table that a sync worker is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTable {
    /// Hash of its quoted name.
    pub hash: u32,
    /// Its name without schema, for people.
    pub name: String,
}

/// Keeps workers of one role running.
pub struct Keeper {
    role: Role,
    starting_max: usize,
    handles: HashMap<usize, (Ticket, WorkerHandle)>,
}

impl Keeper {
    /// A keeper of `role` that has at most `starting_max` workers under way that do not run yet.
    pub fn new(role: Role, starting_max: usize) -> Self {
        Self { role, starting_max, handles: HashMap::new() }
    }

    /// Starts what is wanted, as far as it is due. `records`: the rows of this keeper's role, just read. Returns the time
    /// until something is due, at most `longest`.
    pub fn keep(&mut self, wanted: &[Wanted], records: &[Record], longest: Duration) -> Duration {
        let now = process::now();
        let mut next = longest;
        let under_way = |record: &&Record| {
            record.status == WorkerStatus::Starting || (record.pid != 0 && record.status == WorkerStatus::Connecting)
        };
        let mut starting = records.iter().filter(under_way).count();
        for want in wanted {
            let record = records.iter().find(|record| want.is(record));
            let due_in = match record {
                Some(record) if record.pid != 0 => {
                    self.handles.remove(&record.index);
                    continue;
                }
                Some(record) if record.status == WorkerStatus::Starting => {
                    self.check_start(record, now);
                    continue;
                }
                Some(record) => due_in(record, now),
                None => Duration::ZERO,
            };
            if !due_in.is_zero() {
                next = next.min(due_in);
            } else if starting >= self.starting_max {
                // One of those under way wakes us when it is done.
            } else if self.start(want) {
                starting += 1;
            } else {
                // The next one would fail for the same reason.
                next = next.min(NO_WORKER_PAUSE);
                break;
            }
        }
        next
    }

    /// A worker that was asked for and has not attached: did it die on the way?
    fn check_start(&mut self, record: &Record, now: PgTime) {
        let ended = match self.handles.get(&record.index) {
            Some((ticket, handle)) if handle.state() == WorkerState::Ended => Some(*ticket),
            Some(_) => None,
            None => {
                let asked = record.asked_at.map_or(0, |at| at.micros());
                if now.micros() - asked > micros(START_LIMIT) {
                    registry::stop(record.index);
                }
                None
            }
        };
        if let Some(ticket) = ended {
            self.handles.remove(&record.index);
            let why =
                Report::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES, "worker ended before it could attach")
                    .hint("The server log has the reason.");
            registry::start_failed(ticket, &why);
        }
    }

    /// Asks the postmaster for a worker. False: not possible now; its row has the reason.
    fn start(&mut self, want: &Wanted) -> bool {
        let Some(ticket) = registry::prepare(self.role, want.database, want.subscription, want.hash()) else {
            return false;
        };
        let (name, entry) = want.name_and_entry();
        let spec =
            WorkerSpec { name: &name, entry, argument: ticket.to_argument(), on_standby: false, restart_after: None };
        match spec.start() {
            Some(handle) => {
                self.handles.insert(ticket.index(), (ticket, handle));
                true
            }
            None => {
                let why = Report::new(PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, format!("no background worker is free for \"{name}\""))
                    .hint("Raise max_worker_processes and restart the server. Spock needs one for the server, one for each database with a node, one for each subscription and one for each table that is being copied.");
                raise::log(Level::Warning, &why);
                registry::start_failed(ticket, &why);
                false
            }
        }
    }
}

impl Wanted {
    fn hash(&self) -> u32 {
        self.table.as_ref().map_or(0, |table| table.hash)
    }

    /// Whether `record` is that worker's row.
    pub fn is(&self, record: &Record) -> bool {
        record.database == self.database && record.subscription == self.subscription && record.table == self.hash()
    }

    /// Name of the process and its entry point. Monitoring knows these names from the C edition.
    fn name_and_entry(&self) -> (String, &'static CStr) {
        let database = self.database;
        match (self.subscription, &self.table) {
            (None, _) => (format!("spock manager {database}"), c"spock_manager_main"),
            (Some(sub), None) => (format!("spock apply {database}:{}", sub.get()), c"spock_apply_main"),
            (Some(sub), Some(table)) => {
                let name = shorten(table.name.as_bytes(), SYNC_TABLE_LEN);
                let name = String::from_utf8_lossy(&name);
                (format!("spock sync {name:>SYNC_TABLE_LEN$} {database}:{}", sub.get()), c"spock_sync_main")
            }
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Time until a worker that ended is due again. Decides and writes it down when nobody has.
fn due_in(record: &Record, now: PgTime) -> Duration {
    if let Some(retry_at) = record.retry_at {
        return Duration::from_micros(u64::try_from(retry_at.micros() - now.micros()).unwrap_or_default());
    }
    let (attempts, pause) = pause(record);
    registry::schedule(record.index, PgTime::from_micros(now.micros() + micros(pause)), attempts);
    pause
}

/// Tries so far and the pause before the next one.
fn pause(record: &Record) -> (u32, Duration) {
    let ran = record.ran_us.unwrap_or(0);
    let attempts = match record.ended {
        Ended::Not | Ended::Asked => return (0, Duration::ZERO),
        // The attempts that may follow each other like this are few: `spock_core::exceptions` sees to it.
        Ended::Exception => {
            return (record.attempts, Duration::from_millis(u64::from(settings::restart_delay_on_exception_ms())));
        }
        Ended::Clean if ran >= micros(SHORT_RUN) => return (0, Duration::ZERO),
        Ended::Failed if ran >= micros(STABLE_RUN) => 1,
        Ended::Clean | Ended::Failed => record.attempts.saturating_add(1),
    };
    if attempts <= 1 {
        return (attempts, FIRST_PAUSE);
    }
    let backoff =
        Backoff { first: Duration::from_millis(u64::from(settings::restart_delay_default_ms())), limit: PAUSE_MAX };
    let jitter = (RandomState::new().build_hasher().finish() % 1001) as u32;
    (attempts, backoff.wait(attempts - 1, jitter))
}
