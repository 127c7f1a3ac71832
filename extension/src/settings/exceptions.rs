//! Settings for remote transactions that cannot be applied. What they mean is in `spock_core::exceptions`.
//!
//! # Invariants
//! 1. The default of `spock.exception_behaviour` loses nothing.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use spock_core::exceptions::{Logging, Mode};

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

/// What happens to a remote transaction that cannot be applied.
pub fn exception_behaviour() -> Mode {
    match BEHAVIOUR.get() {
        ExceptionBehaviour::Discard => Mode::Discard,
        ExceptionBehaviour::TransDiscard => Mode::TransDiscard,
        ExceptionBehaviour::SubDisable => Mode::SubDisable,
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

/// Delay before a transaction that failed by itself is tried again, in milliseconds.
pub fn restart_delay_on_exception_ms() -> u32 {
    RESTART_DELAY.get().unsigned_abs()
}

/// Defines them.
pub(super) fn define() {
    GucRegistry::define_enum_guc(
        c"spock.exception_behaviour",
        c"What happens to a remote transaction that cannot be applied.",
        c"sub_disable stops the subscription at that transaction, so that nothing is lost.",
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
        c"Memory for a transaction that is tried again after an error in the C edition.",
        c"Nothing depends on it here: the provider sends the transaction again.",
        &REPLAY_QUEUE_SIZE,
        0,
        2_097_151,
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
