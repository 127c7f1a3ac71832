//! Settings of a node's operation beside applying: who may write, holding workers, keeping history.
//!
//! # Invariants
//! 1. A setting that other nodes' tools read has the name, the range and the default of the C edition.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

/// `spock.readonly`: who may not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum ReadOnly {
    /// Everybody may.
    #[name = c"off"]
    Off,
    /// Users that are not superusers may not.
    #[name = c"local"]
    Local,
    /// The name that 5.0 had for `local`.
    #[name = c"user"]
    #[hidden = true]
    User,
    /// They may not, and changes of other nodes are not applied.
    #[name = c"all"]
    All,
}

static READ_ONLY: GucSetting<ReadOnly> = GucSetting::<ReadOnly>::new(ReadOnly::Off);
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

/// Who may not write now. Never [`ReadOnly::User`].
pub fn readonly() -> ReadOnly {
    match READ_ONLY.get() {
        ReadOnly::User => ReadOnly::Local,
        mode => mode,
    }
}

/// Whether users that are not superusers may not write.
pub fn refuses_writes() -> bool {
    READ_ONLY.get() != ReadOnly::Off
}

/// Defines them.
pub(super) fn define() {
    GucRegistry::define_enum_guc(
        c"spock.readonly",
        c"Who may not write in this server.",
        c"local: transactions of users that are not superusers are read-only. all: changes of other nodes wait, too.",
        &READ_ONLY,
        GucContext::Suset,
        GucFlags::default(),
    );
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
