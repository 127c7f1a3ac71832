//! Settings of schema changes, and of what a transaction hides from replication.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::time::Duration;

use crate::pg::guc::set_internal_for_transaction;

static REPAIR_MODE: GucSetting<bool> = GucSetting::<bool>::new(false);
static ENABLE: GucSetting<bool> = GucSetting::<bool>::new(false);
static INCLUDE_REPSET: GucSetting<bool> = GucSetting::<bool>::new(false);
static FROM_FUNCTIONS: GucSetting<bool> = GucSetting::<bool>::new(false);
static DENY_ALL: GucSetting<bool> = GucSetting::<bool>::new(false);
static QUIET: GucSetting<bool> = GucSetting::<bool>::new(false);
static RESTORE: GucSetting<bool> = GucSetting::<bool>::new(false);
static LOCK: GucSetting<bool> = GucSetting::<bool>::new(true);
static LOCK_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);
static QUEUE_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(300);

/// Whether what this transaction does is hidden from subscribers.
pub fn repair_mode() -> bool {
    REPAIR_MODE.get()
}

/// Notes for the rest of the transaction whether its changes are hidden from subscribers.
pub fn set_repair_mode(on: bool) {
    set_internal_for_transaction(c"spock.replication_repair_mode", if on { c"on" } else { c"off" });
}

/// Whether statements that define something are replicated by themselves.
pub fn enable_ddl_replication() -> bool {
    ENABLE.get()
}

/// Whether replication sets follow the tables that such statements make and alter.
pub fn include_ddl_repset() -> bool {
    INCLUDE_REPSET.get()
}

/// Whether statements inside functions are replicated, too.
pub fn allow_ddl_from_functions() -> bool {
    FROM_FUNCTIONS.get()
}

/// Whether all statements that define something are refused.
pub fn deny_all_ddl() -> bool {
    DENY_ALL.get()
}

/// Whether what is said about replicated statements goes to the log only.
pub fn quiet() -> bool {
    QUIET.get()
}

/// Whether the session restores a structure that came from another node.
pub fn restores_structure() -> bool {
    RESTORE.get()
}

/// Whether statements that are replicated are serialised among all nodes.
pub fn ddl_lock() -> bool {
    LOCK.get()
}

/// How long such a statement waits for its turn. `None`: as long as it takes.
pub fn ddl_lock_timeout() -> Option<Duration> {
    Some(LOCK_TIMEOUT.get().unsigned_abs()).filter(|ms| *ms > 0).map(|ms| Duration::from_millis(ms.into()))
}

/// How long rows of the queue are kept at least, in seconds.
pub fn queue_retention_s() -> u32 {
    QUEUE_RETENTION.get().unsigned_abs()
}

/// Defines them.
pub(super) fn define() {
    let switch = |name, short, long, setting, context| {
        GucRegistry::define_bool_guc(name, short, long, setting, context, GucFlags::default());
    };
    switch(
        c"spock.replication_repair_mode",
        c"Shows whether what this transaction does is hidden from subscribers.",
        c"spock.repair_mode() sets it to the end of the transaction.",
        &REPAIR_MODE,
        GucContext::Internal,
    );
    switch(
        c"spock.enable_ddl_replication",
        c"Statements that define something are replicated by themselves.",
        c"They go to subscribers of the replication set default_insert_only.",
        &ENABLE,
        GucContext::Userset,
    );
    switch(
        c"spock.include_ddl_repset",
        c"Tables that replicated statements make or alter are put into the built-in replication sets.",
        c"",
        &INCLUDE_REPSET,
        GucContext::Userset,
    );
    switch(
        c"spock.allow_ddl_from_functions",
        c"Statements inside functions, procedures and DO blocks are replicated, too.",
        c"",
        &FROM_FUNCTIONS,
        GucContext::Userset,
    );
    switch(
        c"spock.deny_all_ddl",
        c"Refuses every statement that defines something.",
        c"Replicated statements are refused as well.",
        &DENY_ALL,
        GucContext::Suset,
    );
    switch(
        c"spock.enable_quiet_mode",
        c"What is said about replicated statements goes to the server log, not to clients.",
        c"",
        &QUIET,
        GucContext::Sighup,
    );
    switch(
        c"spock.subscription_schema_restore",
        c"The session restores a structure that came from another node: its statements are not replicated.",
        c"",
        &RESTORE,
        GucContext::Userset,
    );
    define_lock();
    GucRegistry::define_int_guc(
        c"spock.queue_retention",
        c"How long rows of spock.queue are kept at least.",
        c"After that they go when every subscriber has them.",
        &QUEUE_RETENTION,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
}

fn define_lock() {
    GucRegistry::define_bool_guc(
        c"spock.ddl_lock",
        c"Statements that are replicated run on one node of the cluster at a time, after those of the others have arrived.",
        c"Holds where this node has subscriptions and subscribers. Every provider must be reachable.",
        &LOCK,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"spock.ddl_lock_timeout",
        c"How long a replicated statement waits for other nodes before it is refused.",
        c"0 turns it off.",
        &LOCK_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
}
