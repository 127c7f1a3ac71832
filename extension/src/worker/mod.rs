//! The processes: a supervisor for the server, a manager for each database with a local node, an apply worker for each
//! enabled subscription; the shared table of who runs; counters that outlive a process.
//!
//! ```text
//! postmaster -> spock supervisor -> spock manager <db> -> spock apply <db>:<sub> -> apply::run
//!                     ^ topology changed      ^ subscription changed      ^ SIGTERM: start again or end
//!                     +------------------ registry (shared memory) ------+---- sql::* at COMMIT
//! ```
//!
//! # Invariants
//! 1. On a standby only `failover` runs; the other workers start at promotion.
//! 2. Whoever starts a worker keeps looking at its row: a worker that ends is started again as long as the catalogs want
//!    it, first at once, then with growing pauses. No other code starts or restarts one.
//! 3. Every wait ends on SIGTERM. A worker that was asked to end is a clean end.
//!
//! # Not here
//! What is applied and how (`apply`). Catalog rows (`catalog`).

pub mod announcements;
pub mod apply;
mod at_start;
pub mod displaced;
pub mod failover;
pub mod failure;
pub mod keeper;
pub mod manager;
pub mod pause;
pub mod progress;
pub mod progress_file;
mod prune;
pub mod registry;
pub mod skew;
pub mod supervisor;
mod times;
pub mod tombstones;
pub mod updater;

use crate::error::Report;
use crate::pg::attempt::attempt;
use crate::pg::authority::extension_installed;
use crate::pg::compat::slot::OWN_SLOT_SYNC;
use crate::pg::process::{self, WorkerSpec};
use crate::pg::raise::{self, Level};
use crate::pg::scope::Txn;
use std::time::Duration;

/// The postmaster starts the supervisor again so long after it ended. Short: after one backend crashed, all replication
/// waits for this.
const SUPERVISOR_RESTART: Duration = Duration::from_secs(1);

/// Whether the extension is not installed in this process's database any more. Outside a transaction.
pub fn without_extension() -> bool {
    let look = || {
        let txn = Txn::begin();
        let there = extension_installed();
        txn.commit();
        there
    };
    attempt(look).is_ok_and(|there| !there)
}

/// Logs what a pass over this database failed with, unless that was because the extension was dropped meanwhile: its tables
/// are missed by nobody.
pub fn complain(report: &Report) {
    if !without_extension() {
        raise::log(Level::Warning, report);
    }
}

/// Reserves shared memory and registers the supervisor. Only while the server preloads libraries.
pub fn init() {
    if process::is_binary_upgrade() {
        return;
    }
    registry::reserve();
    progress::reserve();
    announcements::reserve();
    crate::counters::reserve();
    crate::conflict::statistics::reserve();
    pause::reserve();
    failover::state::reserve();
    skew::reserve();
    tombstones::init();
    times::reserve();
    at_start::reserve();
    displaced::init();
    WorkerSpec {
        name: "spock supervisor",
        entry: c"spock_supervisor_main",
        argument: 0,
        on_standby: false,
        restart_after: Some(SUPERVISOR_RESTART),
    }
    .register_static();
    if OWN_SLOT_SYNC {
        failover::register();
    }
}
