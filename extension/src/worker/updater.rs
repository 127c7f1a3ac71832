//! Brings the extension's objects in a database to the version of the library, before the manager looks at anything.
//!
//! # Invariants
//! 1. No apply worker of the database runs meanwhile, and none is started before the versions are equal: the manager ends
//!    with the error and is started again with growing pauses.
//! 2. It is one transaction: scripts run whole or not at all.
//! 3. Managers run on primaries only, so nothing is updated on a standby.

use crate::catalog::extension;
use crate::error::Report;
use crate::pg::attempt::attempt;
use crate::pg::latch;
use crate::pg::process;
use crate::pg::raise::{self, Level};
use crate::pg::scope::Txn;
use crate::pg::server::{self, VERSION};
use crate::worker::registry::{self, Role};
use core::ffi::CStr;
use pgrx::PgSqlErrorCode;
use std::time::Duration;

/// How long one lock is waited for. Sessions that read our tables hold theirs for moments; longer means that somebody is in
/// a transaction, and waiting in line for an exclusive lock would keep everybody else out.
const LOCK_WAIT_MAX: &str = "5s";
/// What the configuration may say about schema changes of users is not for this one: it is neither refused nor sent to
/// subscribers, which update themselves.
const OFF_MEANWHILE: [&CStr; 3] =
    [c"spock.deny_all_ddl", c"spock.enable_ddl_replication", c"default_transaction_read_only"];
/// Between two looks whether the last apply worker has left.
const WORKERS_POLL: Duration = Duration::from_millis(50);

/// Updates the extension when its version is not the library's. `lock_timeout` is what the caller wants afterwards.
pub fn bring_up_to_date(database: u32, lock_timeout: &str) -> Result<(), Report> {
    let Some((name, from)) = attempt(outdated).map_err(|caught| caught.report)?? else { return Ok(()) };
    end_apply_workers(database);
    process::pin_setting(c"lock_timeout", LOCK_WAIT_MAX);
    for setting in OFF_MEANWHILE.into_iter().filter(|setting| server::setting(&setting.to_string_lossy()).is_some()) {
        process::pin_setting(setting, "off");
    }
    note(format!("updating extension \"spock\" in database \"{name}\" from version {from} to {VERSION}"));
    match attempt(update).map_err(|caught| caught.report).and_then(|done| done) {
        Ok(()) => {
            note(format!("updated extension \"spock\" in database \"{name}\" from version {from} to {VERSION}"));
            process::pin_setting(c"lock_timeout", lock_timeout);
            Ok(())
        }
        Err(why) => Err(failed(&name, &from, &why)),
    }
}

fn note(message: String) {
    raise::log(Level::Log, &Report::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message));
}

fn failed(database: &str, from: &str, why: &Report) -> Report {
    let detail = why.detail.as_deref().map(|detail| format!(" {detail}")).unwrap_or_default();
    Report::new(
        why.code,
        format!("could not update extension \"spock\" in database \"{database}\" from version {from} to {VERSION}"),
    )
    .detail(format!("{}.{detail}", why.message))
    .hint("Replication in this database waits for the update, which is tried again. \"ALTER EXTENSION spock UPDATE\" does the same by hand.")
}

/// The database's name and the installed version, when that is not the library's.
fn outdated() -> Result<Option<(String, String)>, Report> {
    let txn = Txn::begin();
    let installed = extension::installed_version()?;
    let name = server::database_name();
    txn.commit();
    Ok(installed.filter(|version| version != VERSION).map(|version| (name, version)))
}

fn update() -> Result<(), Report> {
    let txn = Txn::begin();
    extension::lock();
    // Somebody may have been faster.
    if extension::installed_version()?.is_some_and(|version| version != VERSION) {
        extension::update_to(VERSION)?;
    }
    txn.commit();
    Ok(())
}

/// Workers that an earlier manager left.
fn end_apply_workers(database: u32) {
    loop {
        let running = registry::records(Role::Apply, Some(database)).into_iter().filter(|record| record.pid != 0);
        let running: Vec<usize> = running.map(|record| record.index).collect();
        if running.is_empty() {
            return;
        }
        running.into_iter().for_each(registry::stop);
        latch::wait(WORKERS_POLL);
    }
}
