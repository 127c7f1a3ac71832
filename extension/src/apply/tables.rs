//! Tables of a subscription that are being copied: which of their changes the apply worker leaves out, and the moment at which
//! it takes a table over from the sync worker that copied it. Between `apply::transaction` and `spock_core::sync`.
//!
//! # Invariants
//! 1. States change between two remote transactions only: what is left out of a transaction is all of a table or nothing.
//! 2. No change is left out that no one else applies: a table is taken over while this worker stands still, so the position
//!    that it tells the sync worker is its own until the table is done.
//! 3. Without such tables nothing here costs anything.

use super::relmap::RemoteRelation;
use crate::catalog::sync as states;
use crate::catalog::topology::Subscription;
use crate::error::{OrRaise, Report};
use crate::pg::raise::log_line;
use crate::pg::scope::Txn;
use crate::pg::{fault, latch, process, session};
use crate::sync::finish::table_hash;
use crate::worker::registry;
use spock_core::sync::{SyncKind, SyncState, TableName, applies};
use spock_core::types::Lsn;
use std::time::Duration;

/// Between two looks at a table that is being taken over, should its worker's wake get lost.
const HAND_OVER_POLL: Duration = Duration::from_millis(100);

/// A table that is not just replicated.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Copied {
    name: TableName,
    hash: u32,
    state: SyncState,
    lsn: Option<Lsn>,
}

/// All such tables of one subscription.
#[derive(Debug, Default)]
pub struct Tables {
    copied: Vec<Copied>,
    stale: bool,
}

impl Tables {
    /// For the stream of a single table: all that comes is applied.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of `subscription` when its stream begins. A target that an earlier process told is no longer one: this stream is
    /// not standing still there.
    pub fn begin(subscription: &Subscription) -> Self {
        let txn = Txn::begin();
        states::take_back_targets(subscription.id).or_raise();
        session::force_sync_commit();
        txn.commit();
        Self::load(subscription)
    }

    /// Those of `subscription`, as the catalog has them. Outside a transaction.
    pub fn load(subscription: &Subscription) -> Self {
        let txn = Txn::begin();
        let rows = states::sync_states(subscription.id).or_raise();
        txn.commit();
        let copied = rows
            .into_iter()
            .filter(|row| row.state != SyncState::Ready)
            .filter_map(|row| {
                let name = row.table?;
                Some(Copied { hash: table_hash(&name), name, state: row.state, lsn: row.lsn })
            })
            .collect();
        Self { copied, stale: false }
    }

    /// Whether no table is special.
    pub fn is_empty(&self) -> bool {
        self.copied.is_empty()
    }

    /// Whether a change of `relation` is left out of the transaction whose commit record begins at `commit`.
    pub fn leaves_out(&self, relation: &RemoteRelation, commit: Option<Lsn>) -> bool {
        let found = self.copied.iter().find(|table| relation.is_named(&table.name));
        found.is_some_and(|table| !applies(table.state, table.lsn, commit))
    }

    /// Asks for a copy of `name`, in the open transaction: the rest of it is left out for this table, and part of the copy. A
    /// table that is being copied already is not asked for again.
    pub fn request(&mut self, subscription: &Subscription, name: &TableName) -> Result<(), Report> {
        let known = states::table_sync_state(subscription.id, name)?;
        if known.is_some_and(|row| row.state.wants_worker()) {
            return Ok(());
        }
        states::put_table_state(subscription.id, SyncKind::Data, name, SyncState::Init, None)?;
        registry::signal_at_commit(registry::Change::Tables(subscription.id));
        // Should this be rolled back, the catalog knows better.
        self.stale = true;
        self.copied.retain(|table| table.name != *name);
        self.copied.push(Copied { name: name.clone(), hash: table_hash(name), state: SyncState::Init, lsn: None });
        Ok(())
    }

    /// Between two transactions, with everything up to `position` handled: looks again if asked to, and takes over what can
    /// be taken over. `alive` is called while this worker stands still.
    pub fn look(&mut self, subscription: &Subscription, position: Option<Lsn>, alive: &mut dyn FnMut()) {
        if registry::take_attention() || self.stale {
            *self = Self::load(subscription);
        }
        if self.copied.is_empty() {
            return;
        }
        registry::set_position(position);
        let database = process::own_database();
        for place in 0..self.copied.len() {
            let table = &self.copied[place];
            match (table.state, registry::has_caught_up(database, subscription.id, table.hash)) {
                (SyncState::SyncDone, _) if table.lsn <= position => {
                    let from = [SyncState::SyncDone];
                    move_state(subscription, &table.name, &from, SyncState::Ready, table.lsn);
                    log_line(format!("subscription \"{}\" now replicates table {}", subscription.name, table.name));
                    self.stale = true;
                }
                (SyncState::SyncWait | SyncState::Catchup, Some(worker)) => {
                    take_over(subscription, table, worker, position, alive);
                    self.stale = true;
                }
                _ => {}
            }
        }
        if core::mem::take(&mut self.stale) {
            *self = Self::load(subscription);
        }
    }
}

fn move_state(
    subscription: &Subscription,
    table: &TableName,
    from: &[SyncState],
    to: SyncState,
    lsn: Option<Lsn>,
) -> bool {
    let txn = Txn::begin();
    let moved = states::move_table_state(subscription.id, table, from, to, lsn).or_raise();
    session::force_sync_commit();
    txn.commit();
    moved
}

/// Tells the sync worker how far to go and waits until it is there. A worker that ends before is followed by another one,
/// which this worker does not wait for.
fn take_over(subscription: &Subscription, table: &Copied, worker: i32, position: Option<Lsn>, alive: &mut dyn FnMut()) {
    let from = [SyncState::SyncWait];
    if table.state == SyncState::SyncWait && !move_state(subscription, &table.name, &from, SyncState::Catchup, position)
    {
        return;
    }
    fault::point(fault::SYNC_TABLE_TARGET);
    process::wake(worker);
    let database = process::own_database();
    loop {
        let txn = Txn::begin();
        let row = states::table_sync_state(subscription.id, &table.name).or_raise();
        txn.commit();
        if row.is_none_or(|row| row.state != SyncState::Catchup) {
            return;
        }
        if registry::has_caught_up(database, subscription.id, table.hash) != Some(worker) {
            // Gone. Unless it was done just then, its successor catches up again.
            move_state(subscription, &table.name, &[SyncState::Catchup], SyncState::SyncWait, position);
            return;
        }
        latch::wait(HAND_OVER_POLL);
        latch::check_interrupts();
        alive();
    }
}
