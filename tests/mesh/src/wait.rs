//! The only place that waits: probe, pause shortly, probe again, until a deadline.
//!
//! **Invariant:** nobody else pauses. A test that wants to wait says for what, and gets an error when it does not come.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::MeshError;

/// First pause between two probes. Most things that tests wait for happen within a few milliseconds.
const PAUSE_MS_MIN: u64 = 5;
/// Longest pause between two probes: short against any deadline, long enough not to load the machine.
const PAUSE_MS_MAX: u64 = 100;

/// Pause between two probes where the time of the event itself is measured: well below what is measured.
const CLOSE_PAUSE_MS: u64 = 2;

/// A point in time after which waiting is a failure.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    started: Instant,
    limit: Duration,
}

impl Deadline {
    /// `seconds` from now.
    pub fn in_seconds(seconds: u64) -> Self {
        Self { started: Instant::now(), limit: Duration::from_secs(seconds) }
    }

    /// What a story gives any one event: generous for a two-core machine with other things to do, short enough for a person.
    pub fn story() -> Self {
        Self::in_seconds(120)
    }

    /// Time passed since the deadline was set.
    pub fn waited(&self) -> Duration {
        self.started.elapsed()
    }

    /// Is it over?
    pub fn passed(&self) -> bool {
        self.waited() >= self.limit
    }
}

/// What a probe found.
#[derive(Debug)]
pub enum Probe<T> {
    /// The awaited thing happened.
    Ready(T),
    /// Not yet; the words go into the error when the deadline passes.
    NotYet(String),
}

/// Calls `probe` until it is ready, it fails, or `deadline` passes. `what` completes "waited for".
pub fn wait_until<T>(
    deadline: Deadline,
    what: &str,
    probe: impl FnMut() -> Result<Probe<T>, MeshError>,
) -> Result<T, MeshError> {
    wait_between(PAUSE_MS_MIN, PAUSE_MS_MAX, deadline, what, probe)
}

/// As [`wait_until`], with short pauses: for measuring when something happens.
pub fn wait_closely<T>(
    deadline: Deadline,
    what: &str,
    probe: impl FnMut() -> Result<Probe<T>, MeshError>,
) -> Result<T, MeshError> {
    wait_between(CLOSE_PAUSE_MS, CLOSE_PAUSE_MS, deadline, what, probe)
}

/// Pauses until `after` has passed since `started`, or `stop` says so: for loads and plans that keep a pace.
pub fn until(started: Instant, after: Duration, stop: &dyn Fn() -> bool) {
    while let Some(left) = after.checked_sub(started.elapsed())
        && !left.is_zero()
        && !stop()
    {
        thread::park_timeout(left.min(Duration::from_millis(PAUSE_MS_MAX)));
    }
}

fn wait_between<T>(
    first_ms: u64,
    longest_ms: u64,
    deadline: Deadline,
    what: &str,
    mut probe: impl FnMut() -> Result<Probe<T>, MeshError>,
) -> Result<T, MeshError> {
    let mut pause_ms = first_ms;
    loop {
        // Asked before the probe: something that became ready during the last pause still counts.
        let over = deadline.passed();
        match probe()? {
            Probe::Ready(value) => return Ok(value),
            Probe::NotYet(last) if over => {
                return Err(MeshError::Deadline { what: what.to_owned(), waited: deadline.waited(), last });
            }
            Probe::NotYet(_) => {
                thread::park_timeout(Duration::from_millis(pause_ms));
                pause_ms = (pause_ms * 2).min(longest_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_becomes_ready_ends_the_wait() {
        let mut calls = 0;
        let got = wait_until(Deadline::in_seconds(10), "three calls", || {
            calls += 1;
            Ok(if calls == 3 { Probe::Ready(calls) } else { Probe::NotYet(format!("{calls} calls")) })
        });
        assert_eq!(got.expect("ready"), 3);
    }

    #[test]
    fn a_pace_is_kept_and_can_be_stopped() {
        let started = Instant::now();
        until(started, Duration::from_millis(20), &|| false);
        assert!(started.elapsed() >= Duration::from_millis(20));
        until(started, Duration::from_secs(3600), &|| true);
        assert!(started.elapsed() < Duration::from_secs(600));
    }

    #[test]
    fn a_passed_deadline_says_what_was_seen_last() {
        let error = wait_until::<()>(Deadline::in_seconds(0), "rain", || Ok(Probe::NotYet("sun".into())));
        let text = error.expect_err("never ready").to_string();
        assert!(text.contains("rain") && text.contains("sun"), "{text}");
    }
}
