//! One process per enabled subscription, and one per table that is being copied: attaches, connects to its database, loads the
//! subscription, hands over to `apply::run` or `sync::table::run`, and turns how that ended into a row that the manager acts on.
//!
//! # Invariants
//! 1. The row is attached before the subscription is read, so a change that commits after the read finds this process and
//!    ends it.
//! 2. At exit the session's origin is cleared before the server rolls back: a rollback cannot move the origin.
//! 3. Settings that change what applying means are pinned; configuration files cannot override them.

use crate::apply::{self, Exit};
use crate::catalog::topology::{self, Subscription};
use crate::error::Report;
use crate::pg::attempt::attempt;
use crate::pg::process;
use crate::pg::raise::{self, Level};
use crate::pg::scope::Txn;
use crate::pg::server;
use crate::settings;
use crate::sync;
use crate::worker;
use crate::worker::registry::{self, Ended, Ticket, WorkerStatus};
use core::ffi::CStr;
use spock_core::types::SubId;

/// Settings of the session that applies. Rows are written as they were at the origin: no trigger or rule of ours unless
/// marked for replicas; no timeout, format or path of this server's users changes the outcome.
const PINNED: [(&CStr, &str); 9] = [
    (c"session_replication_role", "replica"),
    (c"check_function_bodies", "off"),
    (c"search_path", ""),
    (c"default_transaction_isolation", "read committed"),
    (c"default_transaction_read_only", "off"),
    (c"statement_timeout", "0"),
    (c"lock_timeout", "0"),
    (c"idle_in_transaction_session_timeout", "0"),
    (c"datestyle", "ISO"),
];

/// The process's life. Returns never.
pub fn apply_main(argument: u64) {
    live(argument, "apply", apply::run)
}

/// The life of a sync worker. Returns never.
pub fn sync_main(argument: u64) {
    live(argument, "sync", |subscription| sync::table::run(subscription, registry::own_table()))
}

fn live(argument: u64, kind: &str, work: fn(&Subscription) -> Exit) {
    let Some((database, Some(sub))) = registry::attach(Ticket::from_argument(argument)) else { process::exit(0) };
    process::connect_to_database(database);
    process::at_exit_before_rollback(process::clear_session_origin);
    process::pin_setting(c"application_name", &format!("spock {kind} {database}:{}", sub.get()));
    process::pin_setting(c"synchronous_commit", if settings::synchronous_commit() { "local" } else { "off" });
    for (name, value) in PINNED {
        process::pin_setting(name, value);
    }
    // From 17 on.
    if server::setting("transaction_timeout").is_some() {
        process::pin_setting(c"transaction_timeout", "0");
    }
    let mut name = format!("subscription {}", sub.get());
    let exit = match attempt(|| run(sub, &mut name, work)) {
        Ok(Ok(exit)) => exit,
        Ok(Err(report)) => Exit::Retry(report),
        Err(caught) => Exit::Retry(caught.report),
    };
    match exit {
        Exit::Clean | Exit::Disabled => {
            registry::ending(Ended::Clean);
            process::exit(0)
        }
        // What its tables were needed for is not wanted any more.
        Exit::Retry(_) | Exit::Again(_) if worker::without_extension() => {
            registry::ending(Ended::Clean);
            process::exit(0)
        }
        Exit::Retry(report) => fail(&name, report, Ended::Failed),
        Exit::Again(report) => fail(&name, report, Ended::Exception),
    }
}

fn fail(name: &str, report: Report, how: Ended) -> ! {
    registry::report_error(&report);
    let shown = Report { message: format!("{name}: {}", report.message), ..report };
    raise::log(Level::Warning, &shown);
    registry::ending(how);
    process::exit(1)
}

fn run(sub: SubId, name: &mut String, work: fn(&Subscription) -> Exit) -> Result<Exit, Report> {
    registry::report_status(WorkerStatus::Connecting);
    let Some(subscription) = load(sub)?.filter(|subscription| subscription.enabled) else {
        // Dropped or disabled between the manager's look and ours.
        return Ok(Exit::Clean);
    };
    *name = format!("subscription \"{}\"", subscription.name);
    Ok(work(&subscription))
}

fn load(sub: SubId) -> Result<Option<Subscription>, Report> {
    let txn = Txn::begin();
    let found = if topology::extension_installed() { topology::subscription(sub)? } else { None };
    txn.commit();
    Ok(found)
}
