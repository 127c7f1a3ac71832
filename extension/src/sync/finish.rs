//! What single tables use while they are copied, and how it goes away: a slot on the provider and a local origin of one name,
//! `<slot of the subscription>_<8 hex digits of the table's hash>`.
//!
//! # Invariants
//! 1. The slot is dropped before the origin: as long as the origin is here, somebody will look after the slot.

use super::provider::Session;
use crate::catalog::query::select;
use crate::catalog::topology::{self, Subscription};
use crate::error::{OrRaise, Report};
use crate::pg::raise::{Level, log};
use crate::pg::scope::Txn;
use crate::pg::session;
use spock_core::sync::TableName;

/// Name of slot and origin of the table with that hash.
pub fn slot_name(subscription: &Subscription, hash: u32) -> String {
    format!("{}_{hash:08x}", subscription.slot_name)
}

/// The hash that tells tables of a subscription apart.
pub fn table_hash(table: &TableName) -> u32 {
    spock_core::hash::hash_bytes(table.quoted().as_bytes())
}

/// Hashes of the tables of `subscription` that have an origin here. Inside a transaction.
pub fn leftovers(subscription: &Subscription) -> Result<Vec<u32>, Report> {
    let prefix = format!("{}_", subscription.slot_name);
    let names = select(
        // Another subscription's name can look like that.
        "SELECT roname::text FROM pg_catalog.pg_replication_origin WHERE pg_catalog.starts_with(roname, $1)
            AND NOT EXISTS (SELECT FROM spock.subscription s WHERE s.sub_slot_name::text = roname)",
        &[prefix.as_str().into()],
        |row| row.get::<String>(1),
    )?;
    let hash = |name: String| {
        let digits = name.get(prefix.len()..).filter(|digits| digits.len() == 8)?;
        u32::from_str_radix(digits, 16).ok()
    };
    Ok(names.into_iter().filter_map(hash).collect())
}

/// Drops slot and origin of one table. Raises when the provider cannot be asked.
pub fn clean_up(subscription: &Subscription, hash: u32) {
    let name = slot_name(subscription, hash);
    let mut side = Session::open(subscription, "cleanup").or_raise();
    side.drop_slot(&name).or_raise();
    forget_origin(&name);
}

/// Drops the local origin only: the slot was never made, or is gone.
pub fn forget_origin(name: &str) {
    let txn = Txn::begin();
    topology::drop_origin(name).or_raise();
    session::force_sync_commit();
    txn.commit();
}

/// Drops slots and origins of all tables of `subscription`, as far as the provider can be asked; otherwise a warning.
pub fn forget_leftovers(subscription: &Subscription) {
    let txn = Txn::begin();
    let hashes = leftovers(subscription).or_raise();
    txn.commit();
    if hashes.is_empty() {
        return;
    }
    let mut side = match Session::open(subscription, "cleanup") {
        Ok(side) => side,
        Err(report) => return log(Level::Warning, &report),
    };
    for hash in hashes {
        let name = slot_name(subscription, hash);
        match side.drop_slot(&name) {
            Ok(()) => forget_origin(&name),
            Err(report) => log(Level::Warning, &report),
        }
    }
}
