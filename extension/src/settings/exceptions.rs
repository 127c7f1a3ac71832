//! Settings for remote transactions that cannot be applied. What they mean is in `spock_core::exceptions`.
//!
//! # Invariants
//! 1. The default of `spock.exception_behaviour` loses nothing.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use spock_core::exceptions::{Logging, Mode};
use spock_core::park::order::Bounds;

/// `spock.exception_behaviour`: what happens when a remote transaction cannot be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum ExceptionBehaviour {
    /// Leave out the rows that fail.
    #[name = c"discard"]
    Discard,
    /// Leave out the whole transaction.
    #[name = c"transdiscard"]
    TransDiscard,
    /// Stop the subscription. Nothing is lost.
    #[name = c"sub_disable"]
    SubDisable,
    /// Put the transaction aside, and with it later ones that touch the same keys.
    #[name = c"park"]
    Park,
}

/// `spock.exception_logging`: what of a failed transaction is written to `spock.exception_log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum ExceptionLogging {
    /// Only that the subscription was disabled.
    #[name = c"none"]
    None,
    /// Operations that were left out.
    #[name = c"discard"]
    Discard,
    /// And statements that were executed.
    #[name = c"all"]
    All,
}

static BEHAVIOUR: GucSetting<ExceptionBehaviour> =
    GucSetting::<ExceptionBehaviour>::new(ExceptionBehaviour::SubDisable);
static LOGGING: GucSetting<ExceptionLogging> = GucSetting::<ExceptionLogging>::new(ExceptionLogging::All);
static REPLAY_QUEUE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(4);
static RESTART_DELAY: GucSetting<i32> = GucSetting::<i32>::new(0);
static PARK_MAX_TRANSACTIONS: GucSetting<i32> = GucSetting::<i32>::new(1000);
static PARK_MAX_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1024);

const MIB: u64 = 1 << 20;

/// What happens to a remote transaction that cannot be applied.
pub fn exception_behaviour() -> Mode {
    match BEHAVIOUR.get() {
        ExceptionBehaviour::Discard => Mode::Discard,
        ExceptionBehaviour::TransDiscard => Mode::TransDiscard,
        ExceptionBehaviour::SubDisable => Mode::SubDisable,
        ExceptionBehaviour::Park => Mode::Park,
    }
}

/// What of it is written to `spock.exception_log`.
pub fn exception_logging() -> Logging {
    match LOGGING.get() {
        ExceptionLogging::None => Logging::None,
        ExceptionLogging::Discard => Logging::Discard,
        ExceptionLogging::All => Logging::All,
    }
}

/// Bytes of a transaction that are kept in memory until it is known whether it touches what is parked; `None`: all of it.
pub fn replay_queue_bytes() -> Option<u64> {
    let size = u64::from(REPLAY_QUEUE_SIZE.get().unsigned_abs());
    (size > 0).then_some(size * MIB)
}

/// The most that may be parked for one subscription.
pub fn park_bounds() -> Bounds {
    Bounds {
        transactions: u64::from(PARK_MAX_TRANSACTIONS.get().unsigned_abs()),
        bytes: u64::from(PARK_MAX_SIZE.get().unsigned_abs()) * MIB,
    }
}

/// Delay before a transaction that failed by itself is tried again, in milliseconds.
pub fn restart_delay_on_exception_ms() -> u32 {
    RESTART_DELAY.get().unsigned_abs()
}

/// Defines them.
pub(super) fn define() {
    GucRegistry::define_enum_guc(
        c"spock.exception_behaviour",
        c"What happens to a remote transaction that cannot be applied.",
        c"sub_disable stops the subscription at that transaction; park puts it aside. Both lose nothing.",
        &BEHAVIOUR,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"spock.exception_logging",
        c"What of a remote transaction that cannot be applied is written to spock.exception_log.",
        c"What is left out without a row there is named in a warning in the server log.",
        &LOGGING,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"spock.exception_replay_queue_size",
        c"Memory for a transaction until it is known whether it touches what is parked.",
        c"A larger one is applied as it comes, and sent again if it must wait. 0: no limit. Used while something is parked.",
        &REPLAY_QUEUE_SIZE,
        0,
        2_097_151,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"spock.park_max_transactions",
        c"How many transactions of a subscription may be parked.",
        c"The subscription is disabled when another one is to be parked.",
        &PARK_MAX_TRANSACTIONS,
        1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"spock.park_max_size",
        c"How much may be parked for a subscription.",
        c"The subscription is disabled when a transaction does not fit.",
        &PARK_MAX_SIZE,
        1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"spock.restart_delay_on_exception",
        c"Delay before a remote transaction that failed is tried again.",
        c"The pauses between tries of the same kind grow by themselves.",
        &RESTART_DELAY,
        0,
        i32::MAX,
        GucContext::Postmaster,
        GucFlags::UNIT_MS,
    );
}
