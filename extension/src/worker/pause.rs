//! Holding apply workers between transactions, while another node makes a slot here and reads how far we are with our own
//! providers.
//!
//! ```text
//! session:  put a hold for the database -> count it -> wait until no worker of it applies -> ... -> take the hold away
//! worker:   say "applying" -> look at the count -> none: apply, then say "outside"
//!                                               -> a hold of this database: say "parked", wait, and try again
//! ```
//! The worker writes before it reads and the session counts before it looks, both in one total order: either the worker sees
//! the hold, or the session sees the worker. No worker is taken for quiet that is about to begin.
//!
//! # Invariants
//! 1. A database is held as long as any session holds it. A session gives up its own hold only, and does so when it ends.
//! 2. A worker says "outside" or "parked" only while nothing of a remote transaction is done or being done.
//! 3. A hold that has become too old no longer holds. The worker that passes it marks it as broken, so its owner can know.

use crate::error::Report;
use crate::pg::latch;
use crate::pg::process;
use crate::pg::raise::{Level, log};
use crate::pg::shmem::{SharedTable, shareable};
use crate::settings;
use crate::worker::registry::{self, Role};
use core::sync::atomic::{AtomicU32, Ordering};
use pgrx::PgSqlErrorCode;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Sessions that may hold workers at the same time: one for each node that joins.
const HOLDS_MAX: usize = 64;
/// Time between two looks of a session at workers that are still applying.
const APPLYING_POLL: Duration = Duration::from_millis(2);
/// Longest time in which a parked worker does not look whether it is still held.
pub const PARKED_POLL: Duration = Duration::from_millis(250);

shareable! {
    struct Hold {
        database: u32,
        /// The session; 0: a free place.
        pid: i32,
        /// Until when, in microseconds of the server's clock.
        until: i64,
        /// A worker has gone on although the session had not released it.
        broken: u32,
        unused: u32,
    }
}

const FREE: Hold = Hold { database: 0, pid: 0, until: 0, broken: 0, unused: 0 };

static HOLDS: SharedTable<Hold> = SharedTable::new(c"spock_pause", || HOLDS_MAX, |_| {});

/// The first cell counts the holds; then one for each row of the registry, with what its worker says.
static CELLS: SharedTable<AtomicU32> = SharedTable::new(c"spock_pause_cells", || 1 + registry::row_count(), |_| {});

const OUTSIDE: u32 = 0;
const APPLYING: u32 = 1;
const PARKED: u32 = 2;

thread_local! {
    static RELEASES_AT_EXIT: Cell<bool> = const { Cell::new(false) };
}

/// Asks for the shared memory. Only while the server preloads libraries.
pub fn reserve() {
    HOLDS.reserve();
    CELLS.reserve();
}

fn says(index: usize, what: u32) {
    if let Some(cell) = CELLS.cells().get(1 + index) {
        cell.store(what, Ordering::SeqCst);
    }
}

fn recount(holds: &[Hold]) {
    let count = holds.iter().filter(|hold| hold.pid != 0).count();
    if let Some(cell) = CELLS.cells().first() {
        cell.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::SeqCst);
    }
}

/// A row of the registry gets a new worker, which applies nothing yet.
pub fn starts(index: usize) {
    says(index, OUTSIDE);
}

/// An apply worker is about to apply a transaction. `false`: it is held; wait for the latch, at most [`PARKED_POLL`], and ask
/// again.
pub fn may_begin() -> bool {
    let Some(index) = registry::own_index() else { return true };
    says(index, APPLYING);
    if CELLS.cells().first().is_none_or(|count| count.load(Ordering::SeqCst) == 0) || !is_held() {
        return true;
    }
    says(index, PARKED);
    false
}

/// What was begun is committed, or nothing was.
pub fn ended() {
    if let Some(index) = registry::own_index() {
        says(index, OUTSIDE);
    }
}

/// Whether a session holds the workers of this database. Marks holds that are too old, and says so once for each.
fn is_held() -> bool {
    let (database, now) = (process::own_database(), process::now().micros());
    let mut held = false;
    let mut broken = Vec::new();
    for hold in HOLDS.write().iter_mut().filter(|hold| hold.pid != 0 && hold.database == database) {
        if hold.until > now {
            held = true;
        } else if hold.broken == 0 {
            hold.broken = 1;
            broken.push(hold.pid);
        }
    }
    for pid in broken {
        log(
            Level::Warning,
            &Report::new(
                PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
                format!("apply workers go on although process {pid} has not released them in time"),
            )
            .hint("See \"spock.pause_timeout\"."),
        );
    }
    held
}

/// Workers of this database that apply transactions: place in the registry and process.
fn workers() -> impl Iterator<Item = (usize, i32)> {
    let of = |role| registry::records(role, Some(process::own_database()));
    of(Role::Apply)
        .into_iter()
        .chain(of(Role::Sync))
        .filter(|record| record.pid != 0)
        .map(|record| (record.index, record.pid))
}

fn applying() -> usize {
    let cells = CELLS.cells();
    let applies = |index: usize| cells.get(1 + index).is_some_and(|cell| cell.load(Ordering::SeqCst) == APPLYING);
    workers().filter(|(index, _)| applies(*index)).count()
}

/// Puts or prolongs the hold of this session.
fn put(until: i64) -> Result<(), Report> {
    let pid = process::own_pid();
    let mut holds = HOLDS.write();
    let place = holds.iter().position(|hold| hold.pid == pid).or_else(|| holds.iter().position(|hold| hold.pid == 0));
    let Some(place) = place else {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            format!("{HOLDS_MAX} sessions hold apply workers already"),
        ));
    };
    holds[place] = Hold { database: process::own_database(), pid, until, ..FREE };
    recount(&holds);
    Ok(())
}

/// Takes the hold of this session away. `None`: there was none; else whether it had held until now.
fn take() -> Option<bool> {
    let pid = process::own_pid();
    let mut holds = HOLDS.write();
    let hold = holds.iter_mut().find(|hold| hold.pid == pid)?;
    let held = hold.broken == 0;
    *hold = FREE;
    recount(&holds);
    Some(held)
}

/// The session ends: nothing waits for it any longer. Parked workers find out by themselves.
fn release_at_exit() {
    take();
}

/// Takes the hold away when the wait for the workers fails.
///
/// On ERROR: runs, because the hold is not part of the transaction. Leaving the process runs [`release_at_exit`] instead.
struct Attempt {
    succeeded: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.succeeded {
            resume();
        }
    }
}

/// Holds the apply workers of this database between two transactions, for `spock.pause_timeout` from when all are quiet.
/// Again in a session that holds them: for that time from now on. 55P03 when one does not become quiet in that time.
pub fn pause() -> Result<(), Report> {
    let limit = Duration::from_secs(u64::from(settings::pause_timeout_s()));
    let until = |factor: i64| {
        let micros = i64::try_from(limit.as_micros()).unwrap_or(i64::MAX);
        process::now().micros().saturating_add(micros.saturating_mul(factor))
    };
    if !RELEASES_AT_EXIT.replace(true) {
        process::at_exit(release_at_exit);
    }
    // While we wait for the last worker the first ones must not go on.
    put(until(2))?;
    let mut attempt = Attempt { succeeded: false };
    let started = Instant::now();
    loop {
        let busy = applying();
        if busy == 0 {
            break;
        }
        if started.elapsed() >= limit {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
                format!("{busy} apply workers did not come to the end of a transaction within {} s", limit.as_secs()),
            )
            .hint("Raise \"spock.pause_timeout\", or try again when the transaction that they apply has ended."));
        }
        latch::wait(APPLYING_POLL);
        latch::check_interrupts();
    }
    put(until(1))?;
    attempt.succeeded = true;
    Ok(())
}

/// Releases what this session holds. `None`: it held nothing; else whether no worker had gone on before.
pub fn resume() -> Option<bool> {
    let held = take()?;
    for (_, pid) in workers() {
        process::wake(pid);
    }
    Some(held)
}

/// Whether this session holds the workers of this database, and none has gone on since.
pub fn holds() -> bool {
    let (database, pid) = (process::own_database(), process::own_pid());
    HOLDS.read().iter().any(|hold| hold.pid == pid && hold.database == database && hold.broken == 0)
}
