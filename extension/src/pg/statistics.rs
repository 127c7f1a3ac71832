//! Counters of objects of this database in the server's own statistics, where it keeps such for extensions (18 and later).

use super::compat::statistics as compat;
use spock_core::types::PgTime;

/// Counters and the time when they were set to zero last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// In the order of their kinds.
    pub counts: [u64; 7],
    /// `None`: never.
    pub reset_at: Option<PgTime>,
}

/// Whether this server keeps them. If not, nothing below does anything.
pub const fn are_kept() -> bool {
    compat::KEEPS
}

/// Makes our kind of statistics known. While the server preloads libraries.
pub fn register() {
    // SAFETY: called from the library's initialization.
    unsafe { compat::register() }
}

/// Adds to the counters of an object. They show once the process reports its statistics.
pub fn add(object: u32, added: &[u64; 7]) {
    // SAFETY: workers and sessions are connected to a database.
    unsafe { compat::add(object.into(), added) }
}

/// What is known of an object.
pub fn fetch(object: u32) -> Totals {
    // SAFETY: called by SQL functions, inside a transaction.
    let found = unsafe { compat::fetch(object.into()) };
    found.map_or_else(Totals::default, |(counts, reset_at)| Totals {
        counts,
        reset_at: (reset_at != 0).then(|| PgTime::from_micros(reset_at)),
    })
}

/// Sets the counters of an object to zero.
pub fn reset(object: u32) {
    // SAFETY: as above.
    unsafe { compat::reset(object.into()) }
}

/// Forgets an object when the open transaction commits.
pub fn drop_at_commit(object: u32) {
    // SAFETY: as above.
    unsafe { compat::drop_at_commit(object.into()) }
}
