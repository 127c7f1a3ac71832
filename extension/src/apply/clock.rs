//! Commit times that respect causality: a local change made after a remote one was applied must be later than it.
//! A patched server's commit clock does that; on a stock server the commit waits for the local clock, up to a limit. Beyond it what a
//! session makes of such a row is the older version, here too late to be told: that is warned about.

use crate::error::Report;
use crate::pg::latch;
use crate::pg::raise::{Level, log};
use crate::pg::server;
use crate::pg::session;
use crate::settings;
use pgrx::PgSqlErrorCode;
use spock_core::types::PgTime;
use std::cell::Cell;
use std::time::Duration;

/// One warning about a clock that is behind in this time, in microseconds: the cause lasts, and each commit would repeat it.
const WARNING_INTERVAL_US: i64 = 60_000_000;

thread_local! {
    static WARNED_AT: Cell<Option<i64>> = const { Cell::new(None) };
    /// Commits of this worker that did not wait because the clocks are too far apart.
    static NOT_AWAITED: Cell<u64> = const { Cell::new(0) };
}

/// Called before a commit that applied something which was committed at `remote` elsewhere.
pub fn before_commit(remote: PgTime) {
    if server::set_remote_stop_timestamp(remote) {
        return;
    }
    let ahead_us = remote.micros().saturating_sub(session::now());
    if ahead_us < 0 {
        return;
    }
    let limit_us = i64::from(settings::maximum_clock_skew_ms()) * 1000;
    if ahead_us > limit_us {
        warn(ahead_us);
        return;
    }
    while session::now() <= remote.micros() {
        let left = u64::try_from(remote.micros() - session::now()).unwrap_or(0) + 1;
        latch::wait(Duration::from_micros(left));
    }
}

fn warn(ahead_us: i64) {
    let now = session::now();
    let count = NOT_AWAITED.get().saturating_add(1);
    NOT_AWAITED.set(count);
    if WARNED_AT.get().is_some_and(|at| now - at < WARNING_INTERVAL_US && now >= at) {
        return;
    }
    WARNED_AT.set(Some(now));
    log(
        Level::Warning,
        &Report::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("the clock of the node where a change was made is {} ms ahead of ours", ahead_us / 1000),
        )
        .detail(format!(
            "What a session changes here in such a row counts as older than the row until our clock is past it: other nodes \
             keep the row, and differ from this one. Transactions of this kind since the worker started: {count}."
        ))
        .hint("Synchronise the clocks of all nodes, or raise \"spock.maximum_clock_skew\"."),
    );
}
