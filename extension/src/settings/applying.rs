//! Settings of applying and of its records: which uniqueness is looked at, what is logged.
//!
//! # Invariants
//! 1. A setting without an effect says so in its description.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

/// `spock.apply_change_logging`: whether applied changes are written to the server log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum ChangeLogging {
    /// They are not.
    #[name = c"none"]
    None,
    /// With the key of the row.
    #[name = c"key_only"]
    KeyOnly,
    /// With all values.
    #[name = c"verbose"]
    Verbose,
}

/// `spock.log_verbosity`: which debug messages of ours are written to the log whatever `log_min_messages` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, PostgresGucEnum)]
pub enum LogVerbosity {
    /// None.
    #[name = c"normal"]
    Normal,
    /// One line for each applied transaction.
    #[name = c"debug1"]
    Debug1,
    /// And one for each table that is opened.
    #[name = c"debug2"]
    Debug2,
}

static CHANGE_LOGGING: GucSetting<ChangeLogging> = GucSetting::<ChangeLogging>::new(ChangeLogging::None);
static LOG_VERBOSITY: GucSetting<LogVerbosity> = GucSetting::<LogVerbosity>::new(LogVerbosity::Normal);
static READ_RETRY_COUNT: GucSetting<i32> = GucSetting::<i32>::new(5);
static CHECK_ALL_UNIQUE: GucSetting<bool> = GucSetting::<bool>::new(false);
static OUTPUT_DELAY: GucSetting<i32> = GucSetting::<i32>::new(0);

/// Whether and how applied changes are logged.
pub fn change_logging() -> ChangeLogging {
    CHANGE_LOGGING.get()
}

/// Which debug messages of ours are always written.
pub fn log_verbosity() -> LogVerbosity {
    LOG_VERBOSITY.get()
}

/// Whether an INSERT that finds no row by its identity looks for one by the table's other unique indexes.
pub fn check_all_unique_indexes() -> bool {
    CHECK_ALL_UNIQUE.get()
}

/// How long a sender waits before it sends the end of a transaction, in milliseconds. For tests.
pub fn output_delay_ms() -> u32 {
    OUTPUT_DELAY.get().unsigned_abs()
}

/// Defines them.
pub(super) fn define() {
    GucRegistry::define_enum_guc(
        c"spock.apply_change_logging",
        c"Whether applied changes are written to the server log.",
        c"key_only writes the key of each row, verbose all its values.",
        &CHANGE_LOGGING,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"spock.log_verbosity",
        c"Debug messages of the extension that are always written to the server log.",
        c"",
        &LOG_VERBOSITY,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"spock.check_all_uc_indexes",
        c"An INSERT whose key is free is an update of the row that it meets in another unique index.",
        c"Off: the later one of the two rows stays, and the other one is displaced.",
        &CHECK_ALL_UNIQUE,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"spock.read_retry_count",
        c"How often a row that is to be changed is looked for again in the C edition.",
        c"Nothing depends on it here: a row counts as missing only when a second look with a later snapshot misses it too.",
        &READ_RETRY_COUNT,
        0,
        100,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"spock.output_delay",
        c"How long a sender waits before it sends the end of a transaction. For tests.",
        c"",
        &OUTPUT_DELAY,
        0,
        60_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
}
