//! Measures the provider's clock: asks for a sign of life in the feedback, and reads the clock in the answer.
//! Between `apply::receive` (frames), `spock_core::skew` (what a measurement says) and `worker::skew` (what is shown).
//!
//! # Invariants
//! 1. At most one question is on its way, asked when everything that had arrived was read: what lies in a socket would be taken for
//!    the answer.
//! 2. Nothing is done for a frame that is no sign of life, and at most one measurement in a second.

use crate::error::Report;
use crate::pg::raise::{Level, log, log_line};
use crate::pg::{process, server, session};
use crate::settings;
use crate::worker::skew;
use pgrx::PgSqlErrorCode;
use spock_core::skew::{Notice, Sample, Skew};
use spock_core::types::{NodeId, PgTime};
use std::time::{Duration, Instant};

/// So many measurements come quickly: the first ones of a stream wait for other things, too.
const FIRST: u32 = 4;
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// Between two later ones: a step of a clock is noticed within this time.
const INTERVAL: Duration = Duration::from_secs(10);

/// The clock of one stream's provider.
pub(super) struct ProviderClock<'s> {
    node: NodeId,
    name: &'s str,
    asked: Option<PgTime>,
    asked_at: Instant,
    measured: u32,
    doubtful: Option<Skew>,
}

impl<'s> ProviderClock<'s> {
    pub(super) fn new(node: NodeId, name: &'s str) -> Self {
        Self { node, name, asked: None, asked_at: Instant::now(), measured: 0, doubtful: None }
    }

    /// Whether it is time to ask. Nothing more can be read from the stream now.
    pub(super) fn is_due(&self) -> bool {
        let interval = if self.measured < FIRST || self.doubtful.is_some() { FIRST_INTERVAL } else { INTERVAL };
        self.asked.is_none() && self.asked_at.elapsed() >= interval
    }

    /// A sign of life was asked for.
    pub(super) fn asks(&mut self) {
        if self.asked.is_none() {
            self.asked = Some(PgTime::from_micros(session::now()));
            self.asked_at = Instant::now();
        }
    }

    /// A sign of life came, written at `answered` by the provider's clock.
    pub(super) fn answers(&mut self, answered: PgTime) {
        let Some(asked) = self.asked.take() else { return };
        let sample = Sample { asked, answered, received: PgTime::from_micros(session::now()) };
        let Some(new) = sample.skew() else { return };
        self.measured = self.measured.saturating_add(1);
        let limit_ms = settings::maximum_clock_skew_ms();
        let limit_us = i64::from(limit_ms) * 1000;
        let (estimate, notice) = skew::measured(process::own_database(), self.node, new, self.doubtful, limit_us);
        self.doubtful = estimate.doubtful;
        match notice {
            Notice::Nothing => {}
            Notice::Exceeded => {
                let known = estimate.known.unwrap_or(new);
                log(Level::Warning, &self.exceeded(known, limit_ms));
            }
            Notice::Within => log_line(format!("the clock of node \"{}\" and ours are together again", self.name)),
        }
    }

    fn exceeded(&self, known: Skew, limit_ms: u32) -> Report {
        let side = if known.offset_us > 0 { "ahead of" } else { "behind" };
        let apart_ms = known.offset_us.unsigned_abs() / 1000;
        let message = format!("the clock of node \"{}\" is {apart_ms} ms {side} ours", self.name);
        Report::new(PgSqlErrorCode::ERRCODE_WARNING, message)
            .detail(format!(
                "Measured to within {} ms; \"spock.maximum_clock_skew\" is {limit_ms} ms. {}",
                known.uncertainty_us.unsigned_abs().div_ceil(1000),
                consequence()
            ))
            .hint("Synchronise the clocks of all nodes; the view spock.clock_skew shows them.")
    }
}

/// What it means to users. A stock server cannot make a session's commit later than what it follows.
fn consequence() -> &'static str {
    if server::has_commit_clock() {
        "Nodes end equal all the same, but of two changes of a row, made on two nodes one soon after the other, the earlier may win."
    } else {
        "On the node that is behind, a change of a row that has just come from the other one can count as older than the row: other \
         nodes keep the row, and differ from that node."
    }
}
