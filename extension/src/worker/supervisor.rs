//! One process per server: finds the databases that may hold a node and keeps a manager in each.
//!
//! # Invariants
//! 1. A database without extension or node costs one short-lived manager after each start of the supervisor, and one more
//!    when its topology changes; never one per round.
//! 2. It is connected to no database and reads only `pg_database`.

use crate::conflict::statistics;
use crate::pg::attempt::attempt;
use crate::pg::horizon;
use crate::pg::latch;
use crate::pg::process;
use crate::pg::raise::{self, Level};
use crate::pg::scope::Txn;
use crate::worker::at_start::{self, Unheard};
use crate::worker::keeper::{Keeper, Wanted};
use crate::worker::progress;
use crate::worker::registry::{self, Changed, Ended, Role, WorkerStatus};
use crate::worker::times;
use crate::worker::tombstones;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Databases are listed again at least this often: a new one may be a copy of one with a node.
const RESCAN: Duration = Duration::from_secs(60);
/// Managers under way at a time, so that a server with many databases does not need as many workers when it starts.
const STARTING_MAX: usize = 2;

/// Apply workers get the same signal as the supervisor when the server stops and leave within milliseconds. Waiting
/// longer would only delay a stop.
const LAST_WORKERS_MAX: Duration = Duration::from_millis(500);

/// The process's life. Returns never.
pub fn main() {
    registry::attach_supervisor();
    process::at_exit(save_progress);
    process::connect_to_shared_catalogs();
    process::pin_setting(c"application_name", "spock supervisor");
    registry::report_status(WorkerStatus::Running);
    if let Err(caught) = attempt(run) {
        registry::report_error(&caught.report);
        raise::log(Level::Warning, &caught.report);
    }
    registry::ending(Ended::Failed);
    process::exit(1)
}

fn run() {
    let mut keeper = Keeper::new(Role::Manager, STARTING_MAX);
    let mut without_node: HashSet<u32> = HashSet::new();
    let mut dead_rows = None;
    let mut unheard = Unheard::begin(&connectable());
    registry::take_changed();
    loop {
        latch::reload_if_asked();
        match registry::take_changed() {
            Changed::All => without_node.clear(),
            Changed::Some(databases) => databases.iter().for_each(|database| {
                without_node.remove(database);
            }),
        }
        let databases = connectable();
        without_node.retain(|database| databases.contains(database));
        for record in registry::records(Role::Manager, None).iter().filter(|record| record.pid == 0) {
            let gone = !databases.contains(&record.database);
            if record.ended == Ended::Clean {
                without_node.insert(record.database);
            }
            if gone || record.ended == Ended::Clean {
                registry::forget(record.index);
            }
        }
        let wanted = databases.iter().filter(|database| !without_node.contains(database));
        let wanted: Vec<Wanted> =
            wanted.map(|&database| Wanted { database, subscription: None, table: None }).collect();
        let pause = keeper.keep(&wanted, &registry::records(Role::Manager, None), RESCAN);
        unheard.look(&databases, &without_node, &registry::records(Role::Manager, None));
        keep_dead_rows(&mut dead_rows, &databases);
        latch::wait(pause);
    }
}

/// Makes the slot that keeps dead rows once a database wants it, and drops it when none does. Trouble with it is told and
/// does not keep managers from being started.
fn keep_dead_rows(slot: &mut Option<horizon::Keeper>, databases: &[u32]) {
    tombstones::forget_dropped(databases);
    times::forget_dropped(databases);
    let wanted = tombstones::wanted() || at_start::keeps();
    let held = slot.take();
    let result = attempt(|| match (held, wanted) {
        (None, true) => {
            let mut slot = horizon::Keeper::open();
            // Asked for before there was a slot.
            tombstones::impose_again();
            times::impose_again();
            slot.write_down();
            Some(slot)
        }
        (Some(mut slot), true) => {
            slot.write_down();
            Some(slot)
        }
        (Some(slot), false) => {
            slot.drop_slot();
            None
        }
        (None, false) => None,
    });
    match result {
        Ok(kept) => *slot = kept,
        Err(caught) => raise::log(
            Level::Warning,
            &caught.report.hint(
                "Deleted keys are not remembered without the slot \"spock_tombstones\". Allow one more of \
                 \"max_replication_slots\".",
            ),
        ),
    }
}

/// At a clean end, after the last apply worker: progress survives a restart of the server.
fn save_progress() {
    if !process::terminate_asked() {
        return;
    }
    let started = Instant::now();
    while started.elapsed() < LAST_WORKERS_MAX
        && registry::records(Role::Apply, None).iter().any(|record| record.pid != 0)
    {
        // Latches are of no use in a process that is leaving, and nobody signals the end of the last worker.
        std::thread::sleep(Duration::from_millis(5));
    }
    if let Err(error) = progress::save() {
        raise::warn(format!("could not write spock/resource.dat: {error}"));
    }
    statistics::save();
}

fn connectable() -> Vec<u32> {
    let txn = Txn::begin();
    let databases = process::connectable_databases();
    txn.commit();
    databases.into_iter().map(|(oid, _)| oid).collect()
}
