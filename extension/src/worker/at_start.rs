//! What the slot of the tombstones kept when the server started is kept until every database has said what it needs of it: the
//! manager of one may run long before that of another.
//!
//! # Invariants
//! 1. From the start of the supervisor on, before any manager, until the last of the databases that were there then has been
//!    looked at, vacuum does not get past what the slot brought.
//! 2. Where the slot was missing, a database that has been sent something before keeps what vacuum has left.
//! 3. A database that cannot be looked at holds that up for as long as removed keys are remembered, no longer.

use crate::pg::horizon::{self, FullXid};
use crate::pg::shmem::{SharedTable, shareable};
use crate::settings;
use crate::worker::registry::Record;
use crate::worker::{times, tombstones};
use std::collections::HashSet;
use std::time::{Duration, Instant};

shareable! {
    /// From which transactions on; 0: nothing is kept for this reason.
    struct Brought {
        rows: u64,
        times: u64,
        /// The slot was missing.
        missing: u64,
    }
}

static BROUGHT: SharedTable<Brought> = SharedTable::new(c"spock_brought", || 1, |_| {});

/// Asks for the shared memory. Only while the server preloads libraries.
pub fn reserve() {
    BROUGHT.reserve();
}

fn brought(which: impl Fn(&Brought) -> u64) -> Option<u64> {
    BROUGHT.read().first().map(which).filter(|from| *from != 0)
}

/// From which transaction on dead rows are kept for databases that have not been looked at.
pub fn rows_from() -> Option<u64> {
    brought(|brought| brought.rows)
}

/// The same for commit times.
pub fn times_from() -> Option<u64> {
    brought(|brought| brought.times)
}

/// From where on a database that has been sent something before has to keep what is still there, since the slot was missing: this
/// server was a standby, or was copied. `None`: the slot was there, or every database has been looked at.
pub fn missed_from() -> Option<FullXid> {
    brought(|brought| brought.missing).map(|_| horizon::long_ago())
}

/// Whether something is.
pub fn keeps() -> bool {
    rows_from().is_some() || times_from().is_some()
}

/// The supervisor's part.
pub struct Unheard {
    databases: HashSet<u32>,
    since: Instant,
}

impl Unheard {
    /// Before the first manager is started.
    pub fn begin(databases: &[u32]) -> Self {
        let from = |xid: Option<FullXid>| xid.map_or(0, |xid| xid.0);
        let kept = Brought {
            rows: from(horizon::held_from()),
            times: from(horizon::times_kept_from()),
            missing: u64::from(!horizon::exists()),
        };
        if let Some(brought) = BROUGHT.write().first_mut() {
            *brought = kept;
        }
        Self { databases: databases.iter().copied().collect(), since: Instant::now() }
    }

    /// `without_node` are those whose managers have found none, `managers` the others'.
    pub fn look(&mut self, databases: &[u32], without_node: &HashSet<u32>, managers: &[Record]) {
        if !keeps() && missed_from().is_none() {
            return;
        }
        self.databases.retain(|database| {
            databases.contains(database)
                && !without_node.contains(database)
                && !managers.iter().any(|manager| manager.database == *database && manager.has_looked)
        });
        let longest = Duration::from_secs(u64::from(settings::tombstone_retention_s()));
        if self.databases.is_empty() || self.since.elapsed() >= longest {
            if let Some(brought) = BROUGHT.write().first_mut() {
                *brought = Brought { rows: 0, times: 0, missing: 0 };
            }
            tombstones::impose_again();
            times::impose_again();
        }
    }
}
