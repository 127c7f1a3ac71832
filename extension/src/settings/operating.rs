//! Settings of a node's operation beside applying: who may write, holding workers, keeping history.
//!
//! # Invariants
//! 1. A setting that other nodes' tools read has the name, the range and the default of the C edition.

use core::ffi::CStr;
use pgrx::PgSqlErrorCode;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use std::ffi::CString;

use crate::error::Report;
use crate::pg::conn::parse_extra_options;
use crate::pg::guc::{CheckedString, define_checked_string};

/// What tells connections apart.
const NOT_EXTRA: [&str; 5] = ["dbname", "replication", "client_encoding", "application_name", "service"];

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
static CHANNEL_COUNTERS: GucSetting<bool> = GucSetting::<bool>::new(true);
static STATS_MAX_ENTRIES: GucSetting<i32> = GucSetting::<i32>::new(-1);
static SYNC_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(0);
static EXTRA_CONNECTION_OPTIONS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static TOMBSTONE_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(86_400);
static PAUSE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10);

/// After how many days conflicts are forgotten. 0: never.
pub fn resolutions_retention_days() -> u32 {
    RESOLUTIONS_RETENTION.get().unsigned_abs()
}

/// Whether rows are counted by subscription and table. Fixed when a session begins.
pub fn channel_counters() -> bool {
    CHANNEL_COUNTERS.get()
}

/// Tables that are counted at most. `None`: as many as the number of workers suggests.
pub fn stats_max_entries() -> Option<usize> {
    usize::try_from(STATS_MAX_ENTRIES.get()).ok()
}

/// How long functions wait for a synchronization, in seconds. 0: for ever.
pub fn sync_timeout_s() -> u32 {
    SYNC_TIMEOUT.get().unsigned_abs()
}

/// Connection parameters for every connection to a node, below those of its DSN.
pub fn extra_connection_options() -> CString {
    EXTRA_CONNECTION_OPTIONS.get().unwrap_or_default()
}

/// How long removed keys are remembered, in seconds. 0: until the transactions that ran at the time have ended.
pub fn tombstone_retention_s() -> u32 {
    TOMBSTONE_RETENTION.get().unsigned_abs()
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
    define_statistics();
    GucRegistry::define_int_guc(
        c"spock.sync_timeout",
        c"How long spock.sub_wait_for_sync and spock.table_wait_for_sync wait.",
        c"0: for ever.",
        &SYNC_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
    define_checked_string::<ExtraOptions>(
        c"spock.extra_connection_options",
        c"Connection parameters for every connection to a node.",
        c"As keyword=value pairs of libpq. What the DSN of a node says itself comes first.",
        &EXTRA_CONNECTION_OPTIONS,
        GucContext::Sighup,
        // It may tell where secrets are.
        GucFlags::SUPERUSER_ONLY,
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
        c"spock.tombstone_retention",
        c"How long removed keys, and when rows were written, are remembered while another node is not known to have all of it.",
        c"Vacuum keeps dead rows so long, and commit times. A change of that node that is older than a deletion and comes later than \
          this brings the row back, and one that is older than a frozen row wins against it. For nodes that never say what they \
          have, those of the C edition and those that are not read directly, it is five minutes at most.",
        &TOMBSTONE_RETENTION,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
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

fn define_statistics() {
    GucRegistry::define_bool_guc(
        c"spock.channel_counters",
        c"Counts rows that are sent and applied, by table.",
        c"See spock.channel_table_stats.",
        &CHANNEL_COUNTERS,
        GucContext::Backend,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"spock.stats_max_entries",
        c"Tables of all databases and subscriptions that are counted at most.",
        c"-1: 1000 for each of max_worker_processes.",
        &STATS_MAX_ENTRIES,
        -1,
        i32::MAX,
        GucContext::Postmaster,
        GucFlags::default(),
    );
}

/// `spock.extra_connection_options`
struct ExtraOptions;

impl CheckedString for ExtraOptions {
    fn check(value: &CStr) -> Result<(), Report> {
        let invalid = |message: String| Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message);
        let name = "spock.extra_connection_options";
        let Some(options) = parse_extra_options(value) else {
            return Err(invalid(format!("the value of \"{name}\" is not a list of connection parameters")).hint(
                "Give keyword=value pairs that libpq knows, for example: sslmode=require tcp_user_timeout=30000.",
            ));
        };
        if options.iter().any(|(keyword, _)| keyword.contains("password") || keyword.contains("secret")) {
            return Err(invalid(format!("passwords cannot be set in \"{name}\""))
                .hint("The server writes changed settings to its log. Name a file with passfile=... instead."));
        }
        let forbidden = options.iter().map(|(keyword, _)| keyword.as_str()).find(|keyword| NOT_EXTRA.contains(keyword));
        match forbidden {
            Some(keyword) => Err(invalid(format!("\"{keyword}\" cannot be set in \"{name}\""))
                .hint("It says which connection it is, and that is not the same for all of them.")),
            None => Ok(()),
        }
    }
}
