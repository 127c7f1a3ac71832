//! Settings of schema changes, and of what a transaction hides from replication.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::pg::guc::set_internal_for_transaction;

static REPAIR_MODE: GucSetting<bool> = GucSetting::<bool>::new(false);

/// Notes for the rest of the transaction whether its changes are hidden from subscribers.
pub fn set_repair_mode(on: bool) {
    set_internal_for_transaction(c"spock.replication_repair_mode", if on { c"on" } else { c"off" });
}

/// Defines them.
pub(super) fn define() {
    GucRegistry::define_bool_guc(
        c"spock.replication_repair_mode",
        c"Shows whether what this transaction does is hidden from subscribers.",
        c"spock.repair_mode() sets it to the end of the transaction.",
        &REPAIR_MODE,
        GucContext::Internal,
        GucFlags::default(),
    );
}
