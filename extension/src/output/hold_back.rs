//! Waiting, before a transaction goes to a subscriber, until the listed standby slots have it on disk: a standby that takes
//! over is then never behind the subscribers. How far that is decides `spock_core::failover::hold_back`.
//!
//! # Invariants
//! 1. Without a list a transaction costs one look at a pointer.
//! 2. A wait answers the client's and the server's questions: keepalives go out, replies are read, settings are read again,
//!    a cancel or the server's stop ends it.
//! 3. The list is evaluated at each look: nothing of an earlier list is remembered but positions that are confirmed.

use crate::error::Report;
use crate::pg::decoding::Stream;
use crate::pg::{latch, raise, slots, standby};
use crate::settings::failover as settings;
use core::ffi::CStr;
use pgrx::PgSqlErrorCode;
use spock_core::failover::hold_back::{Limit, Listed, limit};
use spock_core::types::Lsn;
use std::ffi::CString;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// First pause between two looks: a standby that keeps up confirms within a millisecond or two.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
/// Longest pause: nobody tells us that a standby has confirmed.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Between two warnings about the same obstacle.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Without a supervisor for so long the server is stopping: the postmaster starts a new one after a second. A sender that
/// went on waiting would keep the server from stopping.
const STOP_AFTER: Duration = Duration::from_secs(3);

static SUPERVISOR_RUNS: OnceLock<fn() -> bool> = OnceLock::new();

/// `ask` tells whether our supervisor runs. Called once, while the library is loaded.
pub fn watch_supervisor(ask: fn() -> bool) {
    SUPERVISOR_RUNS.get_or_init(|| ask);
}

fn server_runs() -> bool {
    SUPERVISOR_RUNS.get().is_none_or(|ask| ask())
}

/// What one sender knows about the standbys.
#[derive(Default)]
pub struct HoldBack {
    /// The slot that we send from.
    own: Option<CString>,
    /// Enough standby slots have confirmed up to here.
    passed: Option<Lsn>,
    warned_at: Option<Instant>,
}

impl HoldBack {
    /// For the sender of this process.
    pub fn new() -> Self {
        Self { own: slots::acquired_name(), ..Self::default() }
    }

    /// Returns when the record that is being decoded may go out.
    #[inline]
    pub fn wait(&mut self, stream: &mut Stream<'_>) -> Result<(), Report> {
        match settings::standby_slots() {
            None => Ok(()),
            Some(listed) => self.wait_for(stream, &listed),
        }
    }

    #[cold]
    fn wait_for(&mut self, stream: &mut Stream<'_>, listed: &[CString]) -> Result<(), Report> {
        let Some(end) = stream.record_end() else { return Ok(()) };
        if !slots::is_walsender() || self.passed.is_some_and(|passed| end <= passed) || standby::in_recovery() {
            return Ok(());
        }
        let mut pause = PAUSE_FIRST;
        let mut without_supervisor: Option<Instant> = None;
        let mut changed;
        let mut listed = listed;
        loop {
            if self.look(listed, end) {
                return Ok(());
            }
            if server_runs() {
                without_supervisor = None;
            } else if without_supervisor.get_or_insert_with(Instant::now).elapsed() > STOP_AFTER {
                return Err(stopping());
            }
            stream.progress(false);
            latch::wait(pause);
            pause = (pause * 2).min(PAUSE_MAX);
            latch::reload_if_asked();
            match settings::standby_slots() {
                None => return Ok(()),
                Some(now) => changed = now,
            }
            listed = &changed;
        }
    }

    /// Whether enough of the listed slots have confirmed `end`.
    fn look(&mut self, listed: &[CString], end: Lsn) -> bool {
        if self.own.as_ref().is_some_and(|own| listed.contains(own)) {
            // Waiting for ourselves would never end.
            return true;
        }
        let seen: Vec<Listed> = listed.iter().map(|name| slots::position(name)).collect();
        for (name, slot) in listed.iter().zip(&seen) {
            if *slot == Listed::Missing {
                self.warn_missing(name);
            }
        }
        let limit = limit(&seen, settings::standby_slots_min_confirmed(), settings::missing_standby_slots());
        if let Limit::UpTo(passed) = limit {
            self.passed = passed;
        }
        limit.lets_out(end)
    }

    fn warn_missing(&mut self, name: &CStr) {
        if self.warned_at.is_some_and(|at| at.elapsed() < WARNING_INTERVAL) {
            return;
        }
        self.warned_at = Some(Instant::now());
        let name = name.to_string_lossy();
        let report = Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("replication slot \"{name}\" of \"spock.pg_standby_slot_names\" does not exist or is invalidated"),
        );
        raise::log(
            raise::Level::Warning,
            &report.hint(
                "Make the slot, take it off the list, or let \"spock.missing_standby_slots\" or \
                 \"spock.standby_slots_min_confirmed\" say that it need not confirm.",
            ),
        );
    }
}

fn stopping() -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN,
        "the server stops while a transaction waits for standby slots to confirm it",
    )
    .hint("The subscriber gets it when the server runs again.")
}
