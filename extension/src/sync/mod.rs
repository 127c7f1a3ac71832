//! Copying what was there before a stream began, for a whole subscription or for one table.
//!
//! `initial` brings a new subscription up, `structure` copies the schema, `table` is the life of a sync worker, `copy` brings
//! the rows of one table here, `unsettled` those that keep their versions and removed keys, `displaced` rows that are out of their
//! tables, `provider` asks the provider (slot with snapshot, tables, columns), `finish` drops what was
//! used.
//!
//! # Invariants
//! 1. Slot, snapshot and origin stand at one LSN: what committed before it is copied, what committed after it is streamed.
//! 2. Copied rows carry the provider's node id as origin and 1970-01-01 as commit time (`copy::copy_with_state`), but those that
//!    something on its way could be older than carry their own (`unsettled`).
//! 3. Rows, and the state that says that they are here, are one commit.
//! 4. Which state leads to which work is decided by `spock_core::sync`; who applies a change meanwhile, too.

pub mod ahead;
pub mod copy;
mod displaced;
pub mod finish;
pub mod initial;
pub mod provider;
pub mod structure;
pub mod table;
pub mod unsettled;

use crate::catalog::sync::{self as states, SyncRow};
use crate::catalog::topology::Subscription;
use crate::error::Report;
use crate::worker::keeper::{Wanted, WantedTable};
use crate::worker::registry::{self, Role};
use spock_core::sync::{SyncState, TableStep, table_step};

/// The sync workers that `subscription` needs, in the order in which they should run. Inside a transaction.
pub fn wanted(database: u32, subscription: &Subscription) -> Result<Vec<Wanted>, Report> {
    let rows = states::sync_states(subscription.id)?;
    let Some(own) = rows.iter().find(|row| row.table.is_none()).map(|row| row.state) else { return Ok(Vec::new()) };
    let has_snapshot = own == SyncState::Data && registry::snapshot(database, subscription.id).is_some();
    let leftovers = finish::leftovers(subscription)?;
    let wants = |row: &SyncRow, hash: u32| match table_step(own, row.state) {
        TableStep::CopyWithAll => has_snapshot,
        TableStep::CopyAlone | TableStep::CatchUp => true,
        TableStep::CleanUp => leftovers.contains(&hash),
        TableStep::NotNow => false,
    };
    let mut tables: Vec<WantedTable> = rows
        .iter()
        .filter_map(|row| {
            let table = row.table.as_ref()?;
            let hash = finish::table_hash(table);
            wants(row, hash).then(|| WantedTable { hash, name: table.table.clone() })
        })
        .collect();
    // Tables whose row is gone, but not what they used.
    let known =
        |hash: u32| rows.iter().filter_map(|row| row.table.as_ref()).any(|table| finish::table_hash(table) == hash);
    let orphans = leftovers.iter().filter(|hash| own == SyncState::Ready && !known(**hash));
    tables.extend(orphans.map(|hash| WantedTable { hash: *hash, name: "(dropped)".to_owned() }));
    let records = registry::records(Role::Sync, Some(database));
    let rank = |table: &WantedTable| {
        let record =
            records.iter().find(|record| record.subscription == Some(subscription.id) && record.table == table.hash);
        match record {
            Some(record) if record.pid != 0 => 0,
            // It failed a moment ago: another one may go first.
            Some(record) if record.retry_at.is_some() => 2,
            _ => 1,
        }
    };
    tables.sort_by_key(rank);
    let wanted = |table| Wanted { database, subscription: Some(subscription.id), table: Some(table) };
    Ok(tables.into_iter().map(wanted).collect())
}
