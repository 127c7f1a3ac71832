//! Changes of the catalogs that workers must hear of: collected in a transaction, told at its commit.
//!
//! # Invariants
//! 1. A transaction that rolls back tells nothing.
//! 2. Latches are set after the lock on the table is given back.

use super::{Role, Row, SUPERVISOR, WORKERS, exists, is_sync_of};
use crate::pg::process::{self, TxnEnd};
use spock_core::types::SubId;
use std::cell::{Cell, RefCell};

thread_local! {
    static PENDING: RefCell<Vec<(u32, Change)>> = const { RefCell::new(Vec::new()) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// A change of catalogs that workers must hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A subscription's row changed or went: its workers must start again or end.
    Restart(SubId),
    /// Tables of a subscription are to be copied, or not any more.
    Tables(SubId),
    /// Parked transactions of a subscription were discarded.
    Parked(SubId),
    /// A subscription was enabled: what is parked is tried before anything else.
    Replay(SubId),
    /// Nodes or subscriptions appeared or went.
    Topology,
}

/// Tells the workers of this database about `change` when the current transaction commits; never when it rolls back. A
/// prepared transaction is told about when this session next commits; managers look by themselves every few seconds.
pub fn signal_at_commit(change: Change) {
    if !exists() {
        return;
    }
    if !LISTENING.replace(true) {
        process::at_transaction_end(at_transaction_end);
    }
    let entry = (process::own_database(), change);
    PENDING.with_borrow_mut(|pending| {
        if !pending.contains(&entry) {
            pending.push(entry);
        }
    });
}

fn at_transaction_end(end: TxnEnd) {
    let changes = PENDING.with_borrow_mut(core::mem::take);
    if end == TxnEnd::Abort || changes.is_empty() {
        return;
    }
    let mut to_wake = Vec::new();
    {
        let mut rows = WORKERS.write();
        for (database, change) in &changes {
            publish(&mut rows, *database, *change, &mut to_wake);
        }
    }
    for pid in to_wake {
        process::wake(pid);
    }
}

fn publish(rows: &mut [Row], database: u32, change: Change, to_wake: &mut Vec<i32>) {
    let apply = |sub: SubId| move |row: &&mut Row| row.is(Role::Apply, database, sub.get());
    match change {
        Change::Restart(sub) => {
            if let Some(row) = rows.iter_mut().find(apply(sub)) {
                // Waiting for a retry: the change may be what it waits for.
                row.retry_at = if row.retry_at == 0 { 0 } else { process::now().micros() };
                row.attempts = 0;
                row.forget_failure();
                process::terminate(row.pid);
            }
            for row in rows.iter_mut().filter(|row| is_sync_of(row, database, sub)) {
                row.retry_at = if row.retry_at == 0 { 0 } else { process::now().micros() };
                row.attempts = 0;
                process::terminate(row.pid);
            }
        }
        Change::Tables(sub) => {
            if let Some(row) = rows.iter_mut().find(apply(sub)) {
                row.attention = 1;
                to_wake.extend((row.pid != 0).then_some(row.pid));
            }
            // What made a copy fail may be gone.
            for row in rows.iter_mut().filter(|row| is_sync_of(row, database, sub) && row.pid == 0) {
                row.retry_at = if row.retry_at == 0 { 0 } else { process::now().micros() };
                row.attempts = 0;
            }
        }
        Change::Parked(sub) => {
            if let Some(row) = rows.iter_mut().find(apply(sub)) {
                row.parked_changed = 1;
            }
            return;
        }
        Change::Replay(sub) => {
            if let Some(row) = rows.iter_mut().find(apply(sub)) {
                row.ask_replay(0);
            }
            return;
        }
        Change::Topology => {}
    }
    let manager = rows.iter().find(|row| row.is(Role::Manager, database, 0)).map_or(0, |row| row.pid);
    if manager != 0 {
        to_wake.push(manager);
        return;
    }
    let Some(supervisor) = rows.get_mut(SUPERVISOR) else { return };
    if !supervisor.changed.contains(&database) {
        match supervisor.changed.iter_mut().find(|place| **place == 0) {
            Some(place) => *place = database,
            None => supervisor.changed_all = 1,
        }
    }
    if supervisor.pid != 0 {
        to_wake.push(supervisor.pid);
    }
}

/// Databases to look at, for the supervisor. Asking takes them off the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Every one.
    All,
    /// These; may be none.
    Some(Vec<u32>),
}

/// Takes what changed since the last call.
pub fn take_changed() -> Changed {
    let mut rows = WORKERS.write();
    let Some(row) = rows.get_mut(SUPERVISOR) else { return Changed::Some(Vec::new()) };
    let databases = core::mem::replace(&mut row.changed, [0; super::CHANGED_DATABASES_MAX]);
    if core::mem::take(&mut row.changed_all) != 0 {
        return Changed::All;
    }
    Changed::Some(databases.into_iter().filter(|database| *database != 0).collect())
}
