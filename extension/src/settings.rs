//! Every setting: name, unit, default, range, reason; typed getters. Read by everybody, written by the server.
//!
//! # Invariants
//! 1. Names, types, units, contexts, ranges and defaults are those of the C edition; a default differs only where a value
//!    would lose data (`spock.exception_behaviour`).
//! 2. Only settings that do something are defined, and those of the C edition that have nothing to do here say so in their
//!    description. A misspelt one is noticed: the prefix is reserved.

mod applying;
mod ddl;
mod exceptions;
pub mod failover;
mod operating;

pub use applying::{
    ChangeLogging, LogVerbosity, change_logging, check_all_unique_indexes, log_verbosity, output_delay_ms,
};
pub use operating::{
    ReadOnly, channel_counters, extra_connection_options, pause_timeout_s, readonly, refuses_writes,
    resolutions_retention_days, stats_max_entries, sync_timeout_s, tombstone_retention_s,
};

pub use ddl::{
    allow_ddl_from_functions, ddl_lock, ddl_lock_timeout, deny_all_ddl, enable_ddl_replication, include_ddl_repset,
    queue_retention_s, quiet, repair_mode, restores_structure, set_repair_mode,
};
pub use exceptions::{
    exception_behaviour, exception_logging, park_bounds, replay_queue_bytes, restart_delay_on_exception_ms,
};

use pgrx::PgSqlErrorCode;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use std::ffi::CString;

use crate::error::Report;
use crate::pg::guc::{CheckedEnum, define_checked_enum, reserve_prefix};
use crate::pg::server;

/// `spock.conflict_resolution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum ConflictResolution {
    /// The later commit wins; equal times are decided by the nodes' tiebreakers.
    #[name = c"last_update_wins"]
    LastUpdateWins,
}

impl CheckedEnum for ConflictResolution {
    fn check(self) -> Result<(), Report> {
        if server::start_settings().commit_timestamps {
            return Ok(());
        }
        Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "\"spock.conflict_resolution\" needs \"track_commit_timestamp\" to be on",
        )
        .hint("Put \"track_commit_timestamp = on\" into postgresql.conf and restart the server."))
    }
}

/// `spock.conflict_log_level`: the server's message levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum ConflictLogLevel {
    #[name = c"debug5"]
    Debug5,
    #[name = c"debug4"]
    Debug4,
    #[name = c"debug3"]
    Debug3,
    #[name = c"debug2"]
    Debug2,
    #[name = c"debug"]
    #[hidden = true]
    Debug,
    #[name = c"debug1"]
    Debug1,
    #[name = c"info"]
    Info,
    #[name = c"notice"]
    Notice,
    #[name = c"warning"]
    Warning,
    #[name = c"error"]
    Error,
    #[name = c"log"]
    Log,
    #[name = c"fatal"]
    Fatal,
    #[name = c"panic"]
    Panic,
}

/// `spock.log_origin_change`: whether an UPDATE or DELETE of a row that another origin wrote last is reported as a conflict
/// although the remote change wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum LogOriginChange {
    /// Never.
    #[name = c"none"]
    None,
    /// When the local row came from another remote node.
    #[name = c"remote_only_differs"]
    RemoteOnlyDiffers,
    /// As above, and when the row was written here after the subscription was made.
    #[name = c"since_sub_creation"]
    SinceSubCreation,
}

static CONFLICT_RESOLUTION: GucSetting<ConflictResolution> =
    GucSetting::<ConflictResolution>::new(ConflictResolution::LastUpdateWins);
static CONFLICT_LOG_LEVEL: GucSetting<ConflictLogLevel> = GucSetting::<ConflictLogLevel>::new(ConflictLogLevel::Log);
static LOG_ORIGIN_CHANGE: GucSetting<LogOriginChange> = GucSetting::<LogOriginChange>::new(LogOriginChange::None);
static SAVE_RESOLUTIONS: GucSetting<bool> = GucSetting::<bool>::new(false);
static SYNCHRONOUS_COMMIT: GucSetting<bool> = GucSetting::<bool>::new(false);
static RESTART_DELAY_DEFAULT: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static APPLY_IDLE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(300);
static MAX_SYNC_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);
static MAXIMUM_CLOCK_SKEW: GucSetting<i32> = GucSetting::<i32>::new(1_000);
static TEMP_DIRECTORY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static FAULT_POINT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static COUNTRY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"??"));

/// At which level a conflict is written to the log.
pub fn conflict_log_level() -> ConflictLogLevel {
    CONFLICT_LOG_LEVEL.get()
}

/// Which changes of origin are reported.
pub fn log_origin_change() -> LogOriginChange {
    LOG_ORIGIN_CHANGE.get()
}

/// Whether conflicts are written to `spock.resolutions`.
pub fn save_resolutions() -> bool {
    SAVE_RESOLUTIONS.get()
}

/// Whether apply workers wait for their commits to reach the disk. Off: the provider is told only of what has.
pub fn synchronous_commit() -> bool {
    SYNCHRONOUS_COMMIT.get()
}

/// First delay before a failed worker starts again, in milliseconds, 1 or more. Later ones grow.
pub fn restart_delay_default_ms() -> u32 {
    RESTART_DELAY_DEFAULT.get().unsigned_abs()
}

/// After how many seconds without a word from the provider the connection counts as lost. 0: never.
pub fn apply_idle_timeout_s() -> u32 {
    APPLY_IDLE_TIMEOUT.get().unsigned_abs()
}

/// Where the structure of a provider is kept while it is copied. `None`: in the data directory.
pub fn temp_directory() -> Option<std::path::PathBuf> {
    let value = TEMP_DIRECTORY.get()?;
    (!value.is_empty()).then(|| value.to_string_lossy().into_owned().into())
}

/// The fault point that is armed, see `pg::fault`.
pub fn fault_point() -> Option<CString> {
    FAULT_POINT.get()
}

/// How many tables of one subscription are copied at a time, 1 to 1024.
pub fn max_sync_workers_per_subscription() -> usize {
    MAX_SYNC_WORKERS.get().unsigned_abs() as usize
}

/// By how much the clocks of two nodes may be apart, in milliseconds, 0 to 600,000. Beyond it a warning is written. On a server
/// without the commit clock also how long a commit waits for the local clock to pass the remote commit time.
pub fn maximum_clock_skew_ms() -> u32 {
    MAXIMUM_CLOCK_SKEW.get().unsigned_abs()
}

/// Defines all of them. Called once, while the library is loaded.
pub fn define() {
    define_conflicts();
    define_workers();
    applying::define();
    operating::define();
    ddl::define();
    exceptions::define();
    GucRegistry::define_string_guc(
        c"spock.temp_directory",
        c"Where the structure of a provider is kept while it is copied.",
        c"Empty: in a private directory below the data directory, where it survives a crash.",
        &TEMP_DIRECTORY,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"spock.fault_point",
        c"Name of the place in the code where the server crashes. For tests.",
        c"",
        &FAULT_POINT,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY | GucFlags::NO_SHOW_ALL,
    );
    failover::define();
    GucRegistry::define_string_guc(
        c"spock.country",
        c"Country of this server, as spock.get_country() answers.",
        c"Two letters by custom. Independent of the country of the node.",
        &COUNTRY,
        GucContext::Sighup,
        GucFlags::default(),
    );
    reserve_prefix(c"spock");
}

fn define_conflicts() {
    define_checked_enum(
        c"spock.conflict_resolution",
        c"How conflicts between nodes are decided.",
        c"last_update_wins compares commit times, so it needs track_commit_timestamp.",
        &CONFLICT_RESOLUTION,
        GucContext::Suset,
    );
    GucRegistry::define_enum_guc(
        c"spock.conflict_log_level",
        c"Level at which conflicts are written to the server log.",
        c"",
        &CONFLICT_LOG_LEVEL,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"spock.log_origin_change",
        c"Which changes of a row's origin are reported although they are no conflict.",
        c"",
        &LOG_ORIGIN_CHANGE,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"spock.save_resolutions",
        c"Writes every conflict to the table spock.resolutions.",
        c"",
        &SAVE_RESOLUTIONS,
        GucContext::Sighup,
        GucFlags::default(),
    );
}

fn define_workers() {
    GucRegistry::define_bool_guc(
        c"spock.synchronous_commit",
        c"Apply workers wait for their commits to reach the local disk.",
        c"Off is safe: a provider is told only of what has reached the disk.",
        &SYNCHRONOUS_COMMIT,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"spock.restart_delay_default",
        c"First delay before a failed worker starts again.",
        c"Later delays grow up to a minute.",
        &RESTART_DELAY_DEFAULT,
        1,
        i32::MAX,
        GucContext::Postmaster,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"spock.apply_idle_timeout",
        c"Time without a word from the provider after which the connection counts as lost.",
        c"Where an answer may take longer, as while tables are copied, the provider's server is then asked whether it lives. 0 turns it off.",
        &APPLY_IDLE_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"spock.max_sync_workers_per_subscription",
        c"How many tables of a subscription are copied at a time.",
        c"Each needs one of max_worker_processes here and a sender on the provider.",
        &MAX_SYNC_WORKERS,
        1,
        1024,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"spock.maximum_clock_skew",
        c"By how much the clocks of two nodes may be apart before a warning is written.",
        c"On servers without the commit clock also how long a commit waits for the local clock to pass the remote commit time.",
        &MAXIMUM_CLOCK_SKEW,
        0,
        600_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
}
