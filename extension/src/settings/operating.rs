//! Settings of a node's operation beside applying: holding workers, keeping history.
//!
//! # Invariants
//! 1. A setting that other nodes' tools read has the name, the range and the default of the C edition.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

static RESOLUTIONS_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(100);
static PAUSE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10);

/// After how many days conflicts are forgotten. 0: never.
pub fn resolutions_retention_days() -> u32 {
    RESOLUTIONS_RETENTION.get().unsigned_abs()
}

/// How long `spock.pause_apply_workers` waits for workers and then holds them, in seconds, 1 or more.
pub fn pause_timeout_s() -> u32 {
    PAUSE_TIMEOUT.get().unsigned_abs()
}

/// Defines them.
pub(super) fn define() {
    GucRegistry::define_int_guc(
        c"spock.resolutions_retention_days",
        c"Days after which rows of spock.resolutions are deleted, once a day.",
        c"0 keeps them.",
        &RESOLUTIONS_RETENTION,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"spock.pause_timeout",
        c"How long spock.pause_apply_workers waits for apply workers, and how long they then stay held.",
        c"",
        &PAUSE_TIMEOUT,
        1,
        2_147_483,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
}
