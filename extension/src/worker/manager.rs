//! One process per database with a local node: keeps an apply worker for each enabled subscription of that node, and sync
//! workers for tables that are to be copied.
//!
//! # Invariants
//! 1. What runs follows the catalogs: they are read again after every change that a backend announces, whenever a worker
//!    ends, and every few seconds anyway.
//! 2. The catalogs are read under the lock on `spock.local_node` that every change of subscriptions takes, so that no
//!    worker is started from a row that a transaction is just changing. Nothing else happens while the lock is held.
//! 3. The pass over sequences and the daily clean-up are transactions of their own; what fails in them is logged and tried
//!    again at the next.
//! 4. Nothing is read before the extension's objects are of the library's version ([`updater`]).
//! 5. Without extension or local node nothing of this database runs: workers are ended and the manager leaves.

use crate::catalog::{deltas, resolutions, topology};
use crate::error::Report;
use crate::pg::attempt::attempt;
use crate::pg::latch;
use crate::pg::process;
use crate::pg::raise;
use crate::pg::scope::Txn;
use crate::sequences;
use crate::settings;
use crate::sync;
use crate::worker::announcements::{self, Announcer};
use crate::worker::keeper::{Keeper, Wanted};
use crate::worker::prune::Pruning;
use crate::worker::registry::{self, Ended, Role, Ticket, WorkerStatus};
use crate::worker::times;
use crate::worker::tombstones::Upkeep;
use crate::worker::updater;
use pgrx::PgSqlErrorCode;
use spock_core::types::SubId;
use std::time::{Duration, Instant};

/// The catalogs are read at least this often: a prepared transaction announces nothing.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(5);

/// How long to wait for a lock on our catalogs. Below the server's default `deadlock_timeout`: when a command such as DROP
/// EXTENSION and this process want each other's tables, this process steps back and the command goes on.
const LOCK_WAIT_MAX: &str = "300ms";
/// How often sequences in replication sets are looked at. An announcement runs 1000 values or more ahead of use.
const SEQUENCE_PASS_INTERVAL: Duration = Duration::from_secs(5);
/// The same, while a sequence is used faster than its announcements grow.
const SEQUENCE_PASS_INTERVAL_BUSY: Duration = Duration::from_secs(1);
/// How often old conflicts are deleted; for the first time when the manager starts.
const CLEAN_UP_INTERVAL: Duration = Duration::from_hours(24);
/// Pause after stepping back.
const STEP_BACK: Duration = Duration::from_millis(200);

/// The process's life. Returns never.
pub fn main(argument: u64) {
    let Some((database, _)) = registry::attach(Ticket::from_argument(argument)) else { process::exit(0) };
    process::connect_to_database(database);
    process::pin_setting(c"application_name", &format!("spock manager {database}"));
    process::pin_setting(c"search_path", "");
    process::pin_setting(c"default_transaction_read_only", "off");
    process::pin_setting(c"lock_timeout", LOCK_WAIT_MAX);
    match attempt(|| run(database)) {
        Ok(Ok(())) => {
            registry::ending(Ended::Clean);
            process::exit(0)
        }
        Ok(Err(report)) => fail(&report),
        Err(caught) => fail(&caught.report),
    }
}

fn fail(report: &Report) -> ! {
    registry::report_error(report);
    crate::worker::complain(report);
    registry::ending(Ended::Failed);
    process::exit(1)
}

/// Subscriptions of the local node.
struct Wishes {
    enabled: Vec<SubId>,
    disabled: Vec<SubId>,
    /// Tables to copy, by enabled subscription.
    tables: Vec<Vec<Wanted>>,
    /// Nodes that the catalog knows.
    members: usize,
}

impl Wishes {
    fn receives(&self) -> bool {
        !self.enabled.is_empty() || !self.disabled.is_empty()
    }
}

fn run(database: u32) -> Result<(), Report> {
    updater::bring_up_to_date(database, LOCK_WAIT_MAX)?;
    let mut keeper = Keeper::new(Role::Apply, usize::MAX);
    let mut sync_keeper = Keeper::new(Role::Sync, usize::MAX);
    let mut sequence_pass_due = Instant::now();
    let mut clean_up_due = Instant::now();
    let mut pruning = Pruning::default();
    let mut tombstones = Upkeep::new(database);
    let mut times = times::Upkeep::new(database);
    let mut announcer = Announcer::default();
    loop {
        latch::reload_if_asked();
        let read = match attempt(|| read_wishes(database)) {
            Ok(read) => read?,
            Err(caught) if caught.report.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {
                latch::wait(STEP_BACK);
                continue;
            }
            Err(caught) => return Err(caught.report),
        };
        let Some(wishes) = read else {
            for role in [Role::Apply, Role::Sync] {
                for record in registry::records(role, Some(database)) {
                    registry::stop(record.index);
                }
            }
            tombstones.tick(false, 0);
            times.tick(false);
            return Ok(());
        };
        registry::report_status(WorkerStatus::Running);
        let records = registry::records(Role::Apply, Some(database));
        for record in &records {
            let is = |sub: &SubId| record.subscription == Some(*sub);
            if wishes.enabled.iter().any(is) {
                continue;
            }
            registry::stop(record.index);
            if !wishes.disabled.iter().any(is) {
                registry::forget(record.index);
                record.subscription.into_iter().for_each(|sub| announcements::forget(database, sub));
            }
        }
        let wanted: Vec<Wanted> =
            wishes.enabled.iter().map(|&sub| Wanted { database, subscription: Some(sub), table: None }).collect();
        let longest =
            LOOK_AGAIN_MAX.min(Duration::from_millis(u64::from(settings::restart_delay_default_ms().max(100))));
        let pause = keeper.keep(&wanted, &records, longest);
        let pause = pause.min(keep_sync_workers(&mut sync_keeper, database, &wishes, longest));
        if sequence_pass_due <= Instant::now() {
            sequence_pass_due = Instant::now() + pass_over_sequences();
            prune(&mut pruning);
        }
        if clean_up_due <= Instant::now() {
            clean_up_due = Instant::now() + CLEAN_UP_INTERVAL;
            clean_up();
        }
        let pause = tombstones.tick(wishes.receives(), wishes.members).map_or(pause, |soon| pause.min(soon));
        let pause = times.tick(wishes.receives()).map_or(pause, |soon| pause.min(soon));
        registry::report_look();
        let pause = pause.min(announcer.tick());
        latch::wait(pause.min(sequence_pass_due.saturating_duration_since(Instant::now())));
    }
}

/// Keeps a worker for each wanted table. A worker ends by itself when its table is done; one whose subscription is switched
/// off or gone is ended. Returns the time until something is due.
fn keep_sync_workers(keeper: &mut Keeper, database: u32, wishes: &Wishes, longest: Duration) -> Duration {
    let records = registry::records(Role::Sync, Some(database));
    for record in &records {
        if record.pid != 0 && !record.subscription.is_some_and(|sub| wishes.enabled.contains(&sub)) {
            registry::stop(record.index);
        }
        if record.pid == 0 && !wishes.tables.iter().flatten().any(|table| table.is(record)) {
            registry::stop(record.index);
            registry::forget(record.index);
        }
    }
    let most = settings::max_sync_workers_per_subscription();
    let now: Vec<Wanted> = wishes.tables.iter().flat_map(|tables| tables.iter().take(most)).cloned().collect();
    keeper.keep(&now, &registry::records(Role::Sync, Some(database)), longest)
}

/// Tells subscribers of sequences that have moved on. Returns when to look again.
fn pass_over_sequences() -> Duration {
    let looked = attempt(|| {
        let txn = Txn::begin();
        let soon = sequences::pass()?;
        txn.commit();
        Ok(soon)
    });
    match looked {
        Ok(Ok(true)) => SEQUENCE_PASS_INTERVAL_BUSY,
        Ok(Ok(false)) => SEQUENCE_PASS_INTERVAL,
        Ok(Err(report)) => {
            crate::worker::complain(&report);
            SEQUENCE_PASS_INTERVAL
        }
        Err(caught) => {
            if caught.report.code != PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE {
                crate::worker::complain(&caught.report);
            }
            SEQUENCE_PASS_INTERVAL
        }
    }
}

/// Deletes the history of conflicts beyond `spock.resolutions_retention_days`, and versions of rows that nobody compares any more.
fn clean_up() {
    let days = settings::resolutions_retention_days().cast_signed();
    let deleted = attempt(|| {
        let txn = Txn::begin();
        let deleted = resolutions::delete_older_than(days)?;
        deltas::forget_versions(settings::tombstone_retention_s())?;
        txn.commit();
        Ok::<_, Report>(deleted)
    });
    match deleted {
        Ok(Ok(0)) => {}
        Ok(Ok(count)) => raise::log_line(format!("{count} conflicts older than {days} days were deleted")),
        Ok(Err(report)) => crate::worker::complain(&report),
        Err(caught) => crate::worker::complain(&caught.report),
    }
}

/// Removes rows of the queue that nobody needs any more.
fn prune(pruning: &mut Pruning) {
    let pruned = attempt(|| {
        let txn = Txn::begin();
        pruning.pass()?;
        txn.commit();
        Ok(())
    });
    match pruned {
        Ok(Ok(())) => {}
        Ok(Err(report)) => crate::worker::complain(&report),
        Err(caught) if caught.report.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {}
        Err(caught) => crate::worker::complain(&caught.report),
    }
}

/// What should run. `None`: the extension or the local node is gone.
fn read_wishes(database: u32) -> Result<Option<Wishes>, Report> {
    let txn = Txn::begin();
    let wishes = if topology::extension_installed() {
        match topology::local_node_locked() {
            Ok(local) => {
                let subscriptions = topology::subscriptions_of(local.node.id)?;
                let of = |enabled: bool| {
                    subscriptions.iter().filter(|sub| sub.enabled == enabled).map(|sub| sub.id).collect()
                };
                let mut tables = Vec::new();
                for sub in subscriptions.iter().filter(|sub| sub.enabled) {
                    tables.push(sync::wanted(database, sub)?);
                }
                let members = topology::nodes()?.len();
                Some(Wishes { enabled: of(true), disabled: of(false), tables, members })
            }
            Err(report) if report.code == PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE => None,
            Err(report) => return Err(report),
        }
    } else {
        None
    };
    txn.commit();
    Ok(wishes)
}
