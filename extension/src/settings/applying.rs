//! Settings of applying and of its records: which uniqueness is looked at, what is logged, what is kept after an error.
//!
//! # Invariants
//! 1. A value that could not do what it says is refused with a hint, never taken in silence.

use pgrx::PgSqlErrorCode;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

use crate::error::Report;
use crate::pg::guc::{CheckedEnum, FixedNumber, define_checked_enum, define_fixed_number};

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

/// `spock.exception_logging`: what of a failed transaction is written to `spock.exception_log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum ExceptionLogging {
    /// Only that the subscription was disabled.
    #[name = c"none"]
    None,
    /// Operations that were left out.
    #[name = c"discard"]
    Discard,
    /// All that is known.
    #[name = c"all"]
    All,
}

impl CheckedEnum for ExceptionLogging {
    fn check(self) -> Result<(), Report> {
        let value = match self {
            Self::All => return Ok(()),
            Self::None => "none",
            Self::Discard => "discard",
        };
        Err(Report::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("\"spock.exception_logging\" = \"{value}\" is not supported in this version"),
        )
        .hint("A subscription that is disabled is always recorded in spock.exception_log, and nothing else is."))
    }
}

/// `spock.read_retry_count`
struct ReadRetryCount;

impl FixedNumber for ReadRetryCount {
    const NAME: &str = "spock.read_retry_count";
    const VALUE: i32 = 5;
    const HINT: &str = "A row counts as missing only when a second look with a later snapshot misses it too; looking more often \
                        finds nothing else.";
}

/// `spock.exception_replay_queue_size`, in MB
struct ReplayQueueSize;

impl FixedNumber for ReplayQueueSize {
    const NAME: &str = "spock.exception_replay_queue_size";
    const VALUE: i32 = 4;
    const HINT: &str = "Nothing is queued: the provider sends a transaction that failed again.";
}

static CHANGE_LOGGING: GucSetting<ChangeLogging> = GucSetting::<ChangeLogging>::new(ChangeLogging::None);
static LOG_VERBOSITY: GucSetting<LogVerbosity> = GucSetting::<LogVerbosity>::new(LogVerbosity::Normal);
static EXCEPTION_LOGGING: GucSetting<ExceptionLogging> = GucSetting::<ExceptionLogging>::new(ExceptionLogging::All);
static READ_RETRY_COUNT: GucSetting<i32> = GucSetting::<i32>::new(ReadRetryCount::VALUE);
static REPLAY_QUEUE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(ReplayQueueSize::VALUE);
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
    define_checked_enum(
        c"spock.exception_logging",
        c"What of a remote transaction that cannot be applied is written to spock.exception_log.",
        c"",
        &EXCEPTION_LOGGING,
        GucContext::Sighup,
    );
    GucRegistry::define_bool_guc(
        c"spock.check_all_uc_indexes",
        c"An INSERT whose key is free is an update of the row that it meets in another unique index.",
        c"Off: such an INSERT is an error.",
        &CHECK_ALL_UNIQUE,
        GucContext::Sighup,
        GucFlags::default(),
    );
    define_fixed_number::<ReadRetryCount>(
        c"spock.read_retry_count",
        c"How often a row that is to be changed is looked for.",
        &READ_RETRY_COUNT,
        (0, 100),
        GucContext::Sighup,
        GucFlags::default(),
    );
    define_fixed_number::<ReplayQueueSize>(
        c"spock.exception_replay_queue_size",
        c"Memory for a transaction that is tried again after an error.",
        &REPLAY_QUEUE_SIZE,
        (0, 2_097_151),
        GucContext::Sighup,
        GucFlags::UNIT_MB,
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
