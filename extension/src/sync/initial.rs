//! The way of a subscription from nothing to its stream: slot, structure, rows, indexes. Runs in the apply worker, before it
//! streams; the rows are copied by sync workers beside it.
//!
//! ```text
//!        slot, snapshot,           ┌── sync workers ──┐
//! INIT ──origin────────► STRUCTURE ──pre-data──► DATA ──all tables──► CONSTRAINTS ──post-data──► CATCHUP ──► READY
//! ```
//!
//! # Invariants
//! 1. Slot, snapshot and origin stand at one LSN: what committed before it is copied, what committed after it is streamed.
//! 2. A step and the state that follows it are one commit. A worker that dies is followed by one that goes on
//!    (`spock_core::sync::subscription_step`).
//! 3. What cannot be copied disables the subscription with a row in `spock.exception_log`; enabling it again goes on.

use super::provider::{self, NewSlot, PeerProgress, Session, SnapshotSession};
use super::structure::{Section, Workspace};
use super::{copy, finish, unsettled};
use crate::apply::Exit;
use crate::apply::timeline;
use crate::catalog::exceptions::{self, RemoteTransaction};
use crate::catalog::relations;
use crate::catalog::sync::{self as states, SyncRow};
use crate::catalog::topology::{self, Subscription};
use crate::error::{OrRaise, Report};
use crate::pg::fault;
use crate::pg::heap;
use crate::pg::raise::{Level, log, log_line};
use crate::pg::scope::Txn;
use crate::pg::{latch, origin, process, server, session};
use crate::sequences;
use crate::worker::progress::{self, ProgressKey, Seed};
use crate::worker::registry::{self, WorkerStatus};
use pgrx::PgSqlErrorCode;
use spock_core::sync::{SubscriptionStep, SyncKind, SyncState, TableName, subscription_step};
use spock_core::types::PgTime;
use std::collections::HashSet;
use std::time::Duration;

/// Longest time between two looks at the tables. Sync workers wake us when one is done.
const LOOK_AT_TABLES: Duration = Duration::from_secs(1);

/// Brings the subscription to the state in which its stream runs. `Some`: it is not to be streamed now. Raises what may pass
/// by itself.
pub fn bring_up(subscription: &Subscription) -> Option<Exit> {
    let mut slot: Option<NewSlot> = None;
    loop {
        let row = state(subscription);
        let step = subscription_step(row.kind, row.state);
        if step != SubscriptionStep::Stream {
            registry::report_status(WorkerStatus::Initializing);
        }
        let done = match step {
            SubscriptionStep::Stream => return None,
            SubscriptionStep::Begin { structure, data } => begin(subscription, &mut slot, structure, data),
            // Tables that were begun under a snapshot that is still there are just being copied.
            SubscriptionStep::CopyAgain | SubscriptionStep::LeaveTables if slot.is_some() => {
                copy_tables(subscription, &row, &mut slot)
            }
            SubscriptionStep::CopyAgain => begin(subscription, &mut slot, false, true),
            SubscriptionStep::LeaveTables => leave_tables(subscription, &row),
            SubscriptionStep::Constrain => constrain(subscription),
            SubscriptionStep::Finish => {
                ready(subscription, &row);
                Ok(())
            }
            SubscriptionStep::Broken => no_state(subscription).raise(),
        };
        if let Err(report) = done {
            drop(slot.take());
            give_up(subscription, &report);
            return Some(Exit::Disabled);
        }
    }
}

fn state(subscription: &Subscription) -> SyncRow {
    let txn = Txn::begin();
    let row = topology::sync_state(subscription.id).or_raise().unwrap_or_else(|| no_state(subscription).raise());
    txn.commit();
    row
}

/// Makes slot, snapshot and origin, and writes down what is to be copied; with `structure`, makes the first part of it.
fn begin(subscription: &Subscription, held: &mut Option<NewSlot>, structure: bool, data: bool) -> Result<(), Report> {
    let again = state(subscription).state == SyncState::Data;
    // Of an interrupted attempt: their snapshot is older than the one that is made now.
    registry::terminate_sync_and_wait(process::own_database(), subscription.id);
    let name = &subscription.slot_name;
    let mut side = Session::open(subscription, "snap").or_raise();
    if structure {
        check_version(side.server_version_num())?;
    }
    drop(held.take());
    side.drop_stale_slot(name).or_raise();
    let word = data.then(|| unsettled::ask(&mut side, subscription).or_raise());
    let paused = side.pause().or_raise();
    let mut slot = provider::create_slot(subscription, name, true).or_raise();
    fault::point(fault::SYNC_AFTER_SLOT);
    let mut snapshot = side.see(&slot.snapshot).or_raise();
    let peers = snapshot.peer_progress(name, subscription.target.id, subscription.origin.id).or_raise();
    if paused && !peers.is_empty() {
        snapshot.require_paused().or_raise();
    }
    if data {
        snapshot.require_nothing_parked()?;
    }
    let tables = if data { wanted_tables(subscription, &mut snapshot).or_raise() } else { Vec::new() };
    if paused {
        release(snapshot);
    }
    if let Some(word) = word {
        slot.unsettled = unsettled::decide(subscription, &word, &peers).or_raise();
    }
    // Before the commit that says that the copy was begun: a crash after that one goes on without asking again.
    seed(subscription, &peers);
    write_beginning(subscription, &slot, &tables, (structure, data), again)?;
    fault::point(fault::SYNC_BEGUN);
    if structure {
        let workspace = Workspace::open(subscription)?;
        log_line(format!("subscription \"{}\" copies the structure of its provider", subscription.name));
        let made = workspace.take(subscription, &slot.snapshot).and_then(|()| {
            fault::point(fault::SYNC_STRUCTURE_DUMPED);
            let next = if data { SyncState::Data } else { SyncState::Constraints };
            workspace.restore(subscription, Section::PreData, SyncState::Structure, next)
        });
        if let Err(report) = made {
            // A provider that went away is no fault of the structure.
            Session::open(subscription, "snap").or_raise();
            return Err(report);
        }
        fault::point(fault::SYNC_STRUCTURE_RESTORED);
    }
    *held = Some(slot);
    Ok(())
}

/// The pause ends with the snapshot's session, too; asked for by name, a C provider hears of it.
fn release(snapshot: SnapshotSession) {
    if let Err(report) = snapshot.leave().and_then(|mut side| side.resume()) {
        log(Level::Warning, &report);
    }
}

/// One transaction: origin, states of the tables, state of the subscription.
fn write_beginning(
    subscription: &Subscription,
    slot: &NewSlot,
    tables: &[(TableName, SyncState)],
    (structure, data): (bool, bool),
    again: bool,
) -> Result<(), Report> {
    let txn = Txn::begin();
    timeline::forget(&subscription.slot_name);
    origin::create_at(&subscription.slot_name, slot.lsn.get());
    if again {
        empty_copied_tables(subscription)?;
    }
    states::forget_copied_tables(subscription.id).or_raise();
    for (table, state) in tables {
        states::put_table_state(subscription.id, SyncKind::Full, table, *state, Some(slot.lsn)).or_raise();
    }
    let next = match (structure, data) {
        (true, _) => SyncState::Structure,
        (false, true) => SyncState::Data,
        (false, false) => SyncState::Catchup,
    };
    topology::set_sync_state(subscription.id, next, Some(slot.lsn)).or_raise();
    // Lost in a crash, this would make the next start replace the slot, and what it held would be gone.
    session::force_sync_commit();
    txn.commit();
    Ok(())
}

/// An interrupted copy of structure and rows is repeated: rows of the first attempt go. They came from the provider, and the
/// indexes without which they could not have been written by anybody else are not here yet.
fn empty_copied_tables(subscription: &Subscription) -> Result<(), Report> {
    let rows = states::sync_states(subscription.id).or_raise();
    let names = rows.iter().filter(|row| row.kind == SyncKind::Full).filter_map(|row| row.table.as_ref());
    let tables = copy::open_to_empty(names);
    if !tables.is_empty() {
        heap::truncate(&tables, false);
    }
    Ok(())
}

/// The tables of the subscribed sets, each with its first state: a partition whose parent is copied waits for that one.
fn wanted_tables(
    subscription: &Subscription,
    snapshot: &mut SnapshotSession,
) -> Result<Vec<(TableName, SyncState)>, Report> {
    let tables = snapshot.tables(&subscription.replication_sets)?;
    let txn = Txn::begin();
    let blocked: HashSet<String> = relations::blocked_schemas()?.into_iter().collect();
    txn.commit();
    let skipped = |schema: &String| blocked.contains(schema) || subscription.skip_schemas.contains(schema);
    Ok(tables
        .into_iter()
        .filter(|table| !skipped(&table.name.schema))
        .map(|table| (table.name, if table.with_parent { SyncState::Started } else { SyncState::Init }))
        .collect())
}

/// What the snapshot holds of other nodes becomes what this node knows of them.
fn seed(subscription: &Subscription, peers: &[PeerProgress]) {
    let seeds: Vec<Seed> = peers
        .iter()
        .map(|peer| Seed {
            key: ProgressKey { database: process::own_database(), node: subscription.target.id, remote: peer.node },
            commit: (peer.commit_time, peer.commit_lsn),
            received: peer.insert_lsn.max(peer.received_lsn),
        })
        .collect();
    if let Err(error) = progress::seed(&seeds) {
        Report::new(
            PgSqlErrorCode::ERRCODE_IO_ERROR,
            format!("could not write down what the provider knows of other nodes: {error}"),
        )
        .raise();
    }
}

/// 0A000 when the provider's structure is of a later major than this server knows.
pub fn check_version(provider: i32) -> Result<(), Report> {
    let ours = server::pg_version_num() / 10_000;
    if provider / 10_000 <= ours {
        return Ok(());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("cannot copy the structure of PostgreSQL {} to PostgreSQL {ours}", provider / 10_000),
    )
    .hint("Upgrade this server first, or make the tables here and copy the rows only."))
}

/// Waits until sync workers have copied all tables, then takes over sequences and goes on.
fn copy_tables(subscription: &Subscription, row: &SyncRow, held: &mut Option<NewSlot>) -> Result<(), Report> {
    let Some(slot) = held.as_mut() else { return Ok(()) };
    registry::offer_snapshot(Some(&format!("{} {}", slot.snapshot, slot.unsettled)));
    loop {
        // Before looking: who changes a state afterwards sets the latch again.
        registry::take_attention();
        let rows = {
            let txn = Txn::begin();
            let rows = states::sync_states(subscription.id).or_raise();
            txn.commit();
            rows
        };
        let of = |wanted: &[SyncState]| {
            rows.iter().any(|row| row.kind == SyncKind::Full && row.table.is_some() && wanted.contains(&row.state))
        };
        if row.kind == SyncKind::Full && of(&[SyncState::Failed]) {
            registry::offer_snapshot(None);
            return Err(table_failed(&rows));
        }
        if !of(&[SyncState::Init, SyncState::Data]) {
            break;
        }
        if !slot.is_alive() {
            Report::new(
                PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
                "the connection that keeps the provider's snapshot was lost",
            )
            .raise();
        }
        latch::wait(LOOK_AT_TABLES);
        latch::reload_if_asked();
    }
    registry::offer_snapshot(None);
    fault::point(fault::SYNC_TABLES_COPIED);
    copy_sequences(subscription, row.kind == SyncKind::Full);
    let next = if row.kind == SyncKind::Full { SyncState::Constraints } else { SyncState::Catchup };
    move_on(subscription, row, next);
    *held = None;
    Ok(())
}

/// The snapshot of an interrupted copy is gone: tables that are not complete are synchronised one by one, later.
fn leave_tables(subscription: &Subscription, row: &SyncRow) -> Result<(), Report> {
    registry::terminate_sync_and_wait(process::own_database(), subscription.id);
    copy_sequences(subscription, false);
    move_on(subscription, row, SyncState::Catchup);
    Ok(())
}

fn move_on(subscription: &Subscription, row: &SyncRow, next: SyncState) {
    let txn = Txn::begin();
    topology::set_sync_state(subscription.id, next, row.lsn).or_raise();
    session::force_sync_commit();
    txn.commit();
}

/// Sequences of the subscribed sets move on to the provider's values; with `owned` also those of columns, whose tables were
/// made here just now. They are read after the rows: never behind them.
fn copy_sequences(subscription: &Subscription, owned: bool) {
    let mut side = Session::open(subscription, "copy").or_raise();
    let found = side.sequences(&subscription.replication_sets, owned).or_raise();
    let txn = Txn::begin();
    for sequence in found {
        match relations::sequence_by_name(&sequence.name.schema, &sequence.name.table).or_raise() {
            Some(oid) => sequences::take_value(oid, sequence.value).or_raise(),
            None => log(
                Level::Warning,
                &Report::new(
                    PgSqlErrorCode::ERRCODE_WARNING,
                    format!(
                        "sequence {} of the provider does not exist on this node, its value is not copied",
                        sequence.name
                    ),
                ),
            ),
        }
    }
    txn.commit();
}

fn constrain(subscription: &Subscription) -> Result<(), Report> {
    let workspace = Workspace::open(subscription)?;
    if !workspace.has_dump() {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the dump of the provider's structure is gone, so indexes and constraints cannot be made",
        )
        .hint("Drop the subscription and what it has copied, and create it again."));
    }
    log_line(format!("subscription \"{}\" makes indexes and constraints", subscription.name));
    workspace.restore(subscription, Section::PostData, SyncState::Constraints, SyncState::Catchup)?;
    fault::point(fault::SYNC_CONSTRAINED);
    Ok(())
}

fn ready(subscription: &Subscription, row: &SyncRow) {
    if matches!(row.kind, SyncKind::Structure | SyncKind::Full) {
        Workspace::open(subscription).map(Workspace::remove).or_raise();
    }
    move_on(subscription, row, SyncState::Ready);
}

/// Disables the subscription: somebody has to look. Its slot is dropped as long as nothing of it was used, so that it does not
/// keep WAL meanwhile.
fn give_up(subscription: &Subscription, report: &Report) {
    // First: the manager ends this process as soon as it sees that the subscription is disabled.
    registry::report_error(report);
    let row = state(subscription);
    if row.state != SyncState::Constraints {
        let dropped =
            Session::open(subscription, "cleanup").and_then(|mut side| side.drop_stale_slot(&subscription.slot_name));
        if let Err(report) = dropped {
            log(Level::Warning, &report);
        }
    }
    let txn = Txn::begin();
    let shown = match &report.detail {
        Some(detail) => format!("{}: {detail}", report.message),
        None => report.message.clone(),
    };
    let transaction = RemoteTransaction { origin: subscription.origin.id, commit_ts: PgTime::from_micros(0), xid: 0 };
    exceptions::record_disable(&transaction, 0, None, &shown).or_raise();
    topology::set_subscription_enabled(subscription.id, false).or_raise();
    txn.commit();
    let message = format!(
        "subscription \"{}\" is disabled because its initial copy failed: {}",
        subscription.name, report.message
    );
    let mut warning = Report::new(PgSqlErrorCode::ERRCODE_WARNING, message)
        .hint("Remove the cause and call spock.sub_enable: the copy goes on. Or drop the subscription.");
    warning.detail = report.detail.clone();
    log(Level::Warning, &warning);
    finish::forget_leftovers(subscription);
}

fn table_failed(rows: &[SyncRow]) -> Report {
    let names: Vec<String> = rows
        .iter()
        .filter(|row| row.state == SyncState::Failed)
        .filter_map(|row| row.table.as_ref().map(ToString::to_string))
        .collect();
    Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("tables could not be copied: {}", names.join(", ")),
    )
    .detail("The server log and spock.exception_log have the reason of each.")
}

fn no_state(subscription: &Subscription) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        format!("subscription \"{}\" has no usable row in spock.local_sync_status", subscription.name),
    )
}
