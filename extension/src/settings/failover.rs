//! Settings of slots that outlive their server: what a standby copies, and whom a primary waits for.
//!
//! # Invariants
//! 1. They are defined on every major. Where the server itself does the work (18) they change nothing and say so.
//! 2. A list that is not one is refused with 22023 when it is read, never when it is used.

use crate::error::Report;
use crate::pg::compat::slot::OWN_SLOT_SYNC;
use crate::pg::guc::{CheckedText, LIST, define_checked_text};
use pgrx::PgSqlErrorCode;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use spock_core::failover::filter::{FILTER_HINT, Filters, split_list};
use spock_core::failover::hold_back;
use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::rc::Rc;
use std::time::Duration;

/// `spock.missing_standby_slots`: what a listed standby slot that does not exist counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum MissingStandbySlots {
    /// One that has confirmed nothing: output waits for it.
    #[name = c"wait"]
    Wait,
    /// Not listed.
    #[name = c"ignore"]
    Ignore,
}

static SYNCHRONIZE_SLOT_NAMES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"name_like:%%"));
static DROP_EXTRA_SLOTS: GucSetting<bool> = GucSetting::<bool>::new(true);
static PRIMARY_DSN: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static STANDBY_SLOT_NAMES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static STANDBY_SLOTS_MIN_CONFIRMED: GucSetting<i32> = GucSetting::<i32>::new(-1);
static MISSING_STANDBY_SLOTS: GucSetting<MissingStandbySlots> =
    GucSetting::<MissingStandbySlots>::new(MissingStandbySlots::Wait);
static NAPTIME: GucSetting<i32> = GucSetting::<i32>::new(1_000);
static FEEDBACK_NAPTIME: GucSetting<i32> = GucSetting::<i32>::new(10_000);

/// `spock.synchronize_slot_names`
struct SlotFilters;

impl CheckedText for SlotFilters {
    fn check(text: &str) -> Result<(), Report> {
        Filters::parse(text).map(|_| ()).map_err(|error| {
            Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("invalid value for \"spock.synchronize_slot_names\": {error}"),
            )
            .hint(FILTER_HINT)
        })
    }

    fn assign(_text: &str) {}
}

thread_local! {
    static STANDBY_SLOTS: RefCell<Option<Rc<[CString]>>> = const { RefCell::new(None) };
}

/// `spock.pg_standby_slot_names`
struct StandbySlots;

impl StandbySlots {
    fn read(text: &str) -> Option<Vec<CString>> {
        split_list(text)?.into_iter().map(|name| CString::new(name).ok()).collect()
    }
}

impl CheckedText for StandbySlots {
    fn check(text: &str) -> Result<(), Report> {
        Self::read(text).map(|_| ()).ok_or_else(|| {
            Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "invalid value for \"spock.pg_standby_slot_names\": the list is not well formed",
            )
            .hint("Give names of replication slots, separated by commas.")
        })
    }

    fn assign(text: &str) {
        let names = Self::read(text).filter(|names| !names.is_empty());
        STANDBY_SLOTS.set(names.map(Into::into));
    }
}

/// Which slots of the primary a standby copies.
pub fn synchronized_slots() -> Filters {
    let text = SYNCHRONIZE_SLOT_NAMES.get();
    text.and_then(|text| Filters::parse(&text.to_string_lossy()).ok()).unwrap_or_default()
}

/// Whether copies are dropped whose slots are gone on the primary.
pub fn drop_extra_slots() -> bool {
    DROP_EXTRA_SLOTS.get()
}

/// How the worker reaches the primary; `None`: as the server does.
pub fn primary_dsn() -> Option<String> {
    PRIMARY_DSN.get().map(|dsn| dsn.to_string_lossy().into_owned()).filter(|dsn| !dsn.trim().is_empty())
}

/// Slots that must have what is sent to subscribers. `None`, at the price of a look at a pointer: nobody is waited for.
pub fn standby_slots() -> Option<Rc<[CString]>> {
    if !OWN_SLOT_SYNC {
        return None;
    }
    STANDBY_SLOTS.with_borrow(Clone::clone)
}

/// How many of them; below zero: all.
pub fn standby_slots_min_confirmed() -> i32 {
    STANDBY_SLOTS_MIN_CONFIRMED.get()
}

/// What those of them count as that do not exist.
pub fn missing_standby_slots() -> hold_back::Missing {
    match MISSING_STANDBY_SLOTS.get() {
        MissingStandbySlots::Wait => hold_back::Missing::Wait,
        MissingStandbySlots::Ignore => hold_back::Missing::Ignore,
    }
}

/// Pause between two rounds of a standby's worker.
pub fn naptime() -> Duration {
    Duration::from_millis(NAPTIME.get().unsigned_abs().into())
}

/// Pause while the worker can do nothing until settings change or the primary comes back.
pub fn feedback_naptime() -> Duration {
    Duration::from_millis(FEEDBACK_NAPTIME.get().unsigned_abs().into())
}

/// The long description: where the setting counts.
const fn where_it_counts(own: &'static CStr, native: &'static CStr) -> &'static CStr {
    if OWN_SLOT_SYNC { own } else { native }
}

const SYNC_IS_NATIVE: &CStr = c"No effect on this version of PostgreSQL: use \"sync_replication_slots\".";
const HOLD_BACK_IS_NATIVE: &CStr = c"No effect on this version of PostgreSQL: use \"synchronized_standby_slots\".";

/// Defines them.
pub(super) fn define() {
    define_standby();
    define_primary();
}

fn define_standby() {
    define_checked_text::<SlotFilters>(
        c"spock.synchronize_slot_names",
        c"Logical slots of the primary that a standby keeps a copy of.",
        where_it_counts(c"A list of name:NAME, name_like:PATTERN and plugin:NAME.", SYNC_IS_NATIVE),
        &SYNCHRONIZE_SLOT_NAMES,
        LIST,
    );
    GucRegistry::define_bool_guc(
        c"spock.drop_extra_slots",
        c"A standby drops the copy of a slot that is gone on the primary.",
        where_it_counts(c"Slots that synchronization did not make are never dropped.", SYNC_IS_NATIVE),
        &DROP_EXTRA_SLOTS,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"spock.primary_dsn",
        c"Connection string with which a standby reads the primary's slots.",
        where_it_counts(c"Empty: \"primary_conninfo\", with the database postgres.", SYNC_IS_NATIVE),
        &PRIMARY_DSN,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"spock.failover_slots_naptime",
        c"Time between two looks of a standby at the primary's slots.",
        where_it_counts(c"", SYNC_IS_NATIVE),
        &NAPTIME,
        1,
        3_600_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"spock.failover_slots_feedback_naptime",
        c"Time between two looks while slots cannot be synchronized.",
        where_it_counts(c"For example because \"hot_standby_feedback\" is off or the primary is away.", SYNC_IS_NATIVE),
        &FEEDBACK_NAPTIME,
        1,
        3_600_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
}

fn define_primary() {
    define_checked_text::<StandbySlots>(
        c"spock.pg_standby_slot_names",
        c"Replication slots that must have confirmed a transaction before subscribers get it.",
        where_it_counts(c"Usually the slots of the standbys that may replace this server.", HOLD_BACK_IS_NATIVE),
        &STANDBY_SLOT_NAMES,
        LIST,
    );
    GucRegistry::define_int_guc(
        c"spock.standby_slots_min_confirmed",
        c"How many of \"spock.pg_standby_slot_names\" must have confirmed.",
        where_it_counts(c"-1 means all of them, 0 none.", HOLD_BACK_IS_NATIVE),
        &STANDBY_SLOTS_MIN_CONFIRMED,
        -1,
        100,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"spock.missing_standby_slots",
        c"What happens while a slot of \"spock.pg_standby_slot_names\" does not exist.",
        where_it_counts(c"wait: output waits for it. ignore: it counts as not listed.", HOLD_BACK_IS_NATIVE),
        &MISSING_STANDBY_SLOTS,
        GucContext::Sighup,
        GucFlags::default(),
    );
}
