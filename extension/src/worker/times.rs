//! Commit times of rows are kept until nothing older than the rows can come any more: a row of which nobody knows when it was
//! written loses against any change.
//!
//! The server forgets times once vacuum has frozen all tables of all databases past them. So a slot keeps it from freezing past
//! the oldest time that may be needed: in the catalogs, which is enough, and where it costs little (`pg::horizon`).
//!
//! ```text
//! manager: enough transactions since the last time ─► sample ─► all others have it ─► times before the sample may go
//! ```
//!
//! # Invariants
//! 1. In a database with subscriptions, times of transactions that may be needed are kept, through restarts too.
//! 2. For a node that does not say how far it is they are kept as long as removed keys are.

use crate::error::Report;
use crate::pg::attempt::attempt;
use crate::pg::horizon::{self, FullXid};
use crate::pg::shmem::{self, SharedTable, shareable};
use crate::worker::announcements::{self, Sample, Verdict};
use crate::worker::at_start;
use crate::worker::registry;
use crate::worker::tombstones;
use pgrx::PgSqlErrorCode;
use spock_core::merge::stability::Cause;
use std::time::{Duration, Instant};

/// So many transactions are let come together. What they leave dead in catalogs stays as long.
const TRANSACTIONS: u64 = 20_000;
/// Between two looks whether there are as many.
const REST: Duration = Duration::from_secs(5);
/// Between two looks whether the others are as far.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

shareable! {
    /// From which transaction on times are kept for a database. 0 as the database: the place is free.
    struct Kept {
        database: u32,
        unused: u32,
        from: u64,
    }
}

const FREE: Kept = Kept { database: 0, unused: 0, from: 0 };

static KEPT: SharedTable<Kept> = SharedTable::new(c"spock_kept_times", shmem::max_worker_processes, |_| {});

/// Asks for the shared memory. Only while the server preloads libraries.
pub fn reserve() {
    KEPT.reserve();
}

/// The slot keeps what the databases need together.
fn impose(kept: &[Kept]) {
    let needed = kept.iter().filter(|kept| kept.database != 0).map(|kept| kept.from);
    horizon::keep_times(needed.chain(at_start::times_from()).min().map(FullXid));
}

/// After what was kept since the start is not any more.
pub fn impose_again() {
    impose(&KEPT.write());
}

/// Databases that are not there any more need nothing.
pub fn forget_dropped(databases: &[u32]) {
    let gone = |kept: &Kept| kept.database != 0 && !databases.contains(&kept.database);
    if !KEPT.read().iter().any(gone) {
        return;
    }
    let mut all = KEPT.write();
    all.iter_mut().filter(|kept| gone(kept)).for_each(|kept| *kept = FREE);
    impose(&all);
}

/// Waiting for the other nodes to be as far as this one was.
struct Wait {
    before: FullXid,
    since: Instant,
    sample: Sample,
}

/// The manager's part.
pub struct Upkeep {
    database: u32,
    wait: Option<Wait>,
    next_at: Instant,
    /// That there is no place was said.
    said: bool,
}

impl Upkeep {
    /// For the manager of `database`.
    pub fn new(database: u32) -> Self {
        Self { database, wait: None, next_at: Instant::now(), said: false }
    }

    /// One look. Says when to look again; `None`: when a session wakes the manager.
    pub fn tick(&mut self, has_subscriptions: bool) -> Option<Duration> {
        if !has_subscriptions {
            self.wait = None;
            self.set(None);
            return None;
        }
        let now = Instant::now();
        if now < self.next_at {
            return Some(self.next_at - now);
        }
        let Some(from) = self.kept_from() else {
            self.next_at = now + REST;
            if !core::mem::replace(&mut self.said, true) {
                crate::worker::complain(&Report::new(
                    PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                    "commit times of this database are not kept: there are more databases than places for them",
                ));
            }
            return Some(REST);
        };
        match attempt(|| self.step(from)) {
            Ok(Ok(())) => {}
            Ok(Err(report)) => crate::worker::complain(&report),
            Err(caught) if caught.report.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {}
            Err(caught) => crate::worker::complain(&caught.report),
        }
        let pause = if self.wait.is_some() { LOOK_INTERVAL } else { REST };
        self.next_at = now + pause;
        Some(pause)
    }

    fn step(&mut self, from: FullXid) -> Result<(), Report> {
        let over = match &mut self.wait {
            Some(wait) => is_over(wait)?.then_some(wait.before),
            None => {
                if horizon::next_xid().0.saturating_sub(from.0) >= TRANSACTIONS {
                    let before = horizon::oldest_running();
                    announcements::set_holding(true);
                    self.wait = Some(Wait { before, since: Instant::now(), sample: announcements::sample()? });
                }
                None
            }
        };
        if over.is_some() {
            self.wait = None;
            self.set(over);
        }
        Ok(())
    }

    /// From where on times are kept. What the slot brought from before a restart goes on. `None`: there is no place.
    fn kept_from(&self) -> Option<FullXid> {
        if let Some(kept) = KEPT.read().iter().find(|kept| kept.database == self.database) {
            // The slot may have been made meanwhile.
            if horizon::times_kept_from().is_none() {
                impose(&KEPT.read());
            }
            return Some(FullXid(kept.from));
        }
        let kept = horizon::times_kept_from().or_else(tombstones::missed_from);
        let from = kept.unwrap_or_else(horizon::oldest_running);
        self.set(Some(from)).then_some(from)
    }

    fn set(&self, from: Option<FullXid>) -> bool {
        let mut all = KEPT.write();
        let known = all.iter().position(|kept| kept.database == self.database);
        let place = match (known, from) {
            (None, None) => return true,
            (Some(place), _) => Some(place),
            (None, Some(_)) => all.iter().position(|kept| kept.database == 0),
        };
        let Some(place) = place else { return false };
        all[place] = from.map_or(FREE, |from| Kept { database: self.database, unused: 0, from: from.0 });
        impose(&all);
        drop(all);
        // It writes to disk what is kept, or makes the slot.
        registry::wake_supervisor();
        true
    }
}

/// Whether nobody can send anything older, or has had all the time that is given.
fn is_over(wait: &mut Wait) -> Result<bool, Report> {
    // Who keeps tombstones may have cleared it.
    announcements::set_holding(true);
    let verdict = announcements::verdict(&wait.sample)?;
    if matches!(verdict, Verdict::Unknown(_, Cause::NotSampled)) {
        // Its stream had just begun then. A later sample covers the earlier one.
        wait.sample = announcements::sample()?;
    }
    Ok(wait.since.elapsed() >= verdict.longest())
}
