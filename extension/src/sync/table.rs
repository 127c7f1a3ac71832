//! The life of a sync worker: one table, copied together with others under the snapshot of its subscription, or alone with a
//! slot, a snapshot and an origin of its own, and then brought up to the apply worker by a stream of its own.
//!
//! ```text
//! sync worker   INIT ► STARTED ► DATA ──copy──► SYNCWAIT ──own stream──► "caught up"         ► to the target ► SYNCDONE ► clean up
//! apply worker                                                              CATCHUP, target = own position ┘        └► READY
//! ```
//! The apply worker waits only from CATCHUP to SYNCDONE, which is as short as the gap is by then.
//!
//! # Invariants
//! 1. A table is found in the state in which its last commit left it, and goes on from there.
//! 2. An error that may pass by itself leaves the state as it is; another one ends in FAILED, which an operator ends with
//!    `spock.sub_resync_table`.
//! 3. The stream of one table never moves what this node knows of the provider's progress.

use super::copy::{self, Source};
use super::finish;
use super::provider::{self, RemoteTable, Session, SnapshotSession};
use super::unsettled;
use crate::apply::{self, Exit};
use crate::catalog::exceptions;
use crate::catalog::sync::{self as states, SyncRow};
use crate::catalog::topology::{self, Subscription};
use crate::error::{OrRaise, Report};
use crate::pg::attempt::attempt;
use crate::pg::raise::{Level, log, log_line};
use crate::pg::scope::Txn;
use crate::pg::{fault, latch, origin, process, session};
use crate::worker::registry;
use pgrx::PgSqlErrorCode;
use spock_core::settled::Unsettled;
use spock_core::sync::{SyncKind, SyncState, TableName, TableStep, table_step};
use spock_core::types::Lsn;
use std::time::Duration;

/// Between two looks at whether the apply worker has taken note of a table.
const APPLY_POLL: Duration = Duration::from_millis(20);

/// One table of one subscription.
pub struct Job<'s> {
    /// Whose.
    pub subscription: &'s Subscription,
    /// Which.
    pub table: TableName,
    /// Slot on the provider, origin here.
    pub slot_name: String,
}

/// Does what the table with that hash needs.
pub fn run(subscription: &Subscription, hash: u32) -> Exit {
    let slot_name = finish::slot_name(subscription, hash);
    let mut named = None;
    let done = attempt(|| {
        let (own, row) = look(subscription, hash);
        let Some((table, state)) = row.and_then(|row| row.table.map(|table| (table, row.state))) else {
            return finish::clean_up(subscription, hash);
        };
        let job = Job { subscription, table, slot_name: slot_name.clone() };
        named = Some(job.table.clone());
        let step = own.as_ref().map_or(TableStep::CleanUp, |own| table_step(own.state, state));
        match (step, own.and_then(|own| own.lsn)) {
            (TableStep::CopyWithAll, Some(lsn)) => job.copy_with_all(lsn),
            (TableStep::CopyWithAll, None) | (TableStep::NotNow, _) => {}
            (TableStep::CopyAlone, _) => {
                if job.copy_alone() {
                    job.catch_up();
                }
                finish::clean_up(subscription, hash);
            }
            (TableStep::CatchUp, _) => {
                job.catch_up();
                finish::clean_up(subscription, hash);
            }
            (TableStep::CleanUp, _) => finish::clean_up(subscription, hash),
        }
    });
    origin::release();
    let report = match done {
        Ok(()) => return Exit::Clean,
        Err(caught) if apply::may_pass(caught.report.code) => return Exit::Retry(caught.report),
        Err(caught) => caught.report,
    };
    let Some(table) = named else { return Exit::Retry(report) };
    match attempt(|| fail(subscription, &table, &report)) {
        Ok(()) => {
            finish_failed(subscription, hash);
            Exit::Clean
        }
        Err(_) => Exit::Retry(report),
    }
}

fn look(subscription: &Subscription, hash: u32) -> (Option<SyncRow>, Option<SyncRow>) {
    let txn = Txn::begin();
    let mut rows = states::sync_states(subscription.id).or_raise();
    txn.commit();
    let own = rows.iter().position(|row| row.table.is_none()).map(|at| rows.swap_remove(at));
    let row = rows.into_iter().find(|row| row.table.as_ref().is_some_and(|table| finish::table_hash(table) == hash));
    (own, row)
}

/// The table waits for an operator.
fn fail(subscription: &Subscription, table: &TableName, report: &Report) {
    let from = [SyncState::Started, SyncState::Data, SyncState::SyncWait, SyncState::Catchup];
    let txn = Txn::begin();
    let moved = states::move_table_state(subscription.id, table, &from, SyncState::Failed, None).or_raise();
    if moved {
        exceptions::record_table(subscription, table, report).or_raise();
    }
    session::force_sync_commit();
    txn.commit();
    registry::report_error(report);
    let mut warning = report.clone();
    warning.message =
        format!("subscription \"{}\" could not copy table {table}: {}", subscription.name, report.message);
    if warning.hint.is_none() {
        warning.hint = Some("Remove the cause and call spock.sub_resync_table.".to_owned());
    }
    log(Level::Warning, &warning);
    registry::attend(process::own_database(), subscription.id);
}

/// What the failed copy used is not needed: the next one starts anew.
fn finish_failed(subscription: &Subscription, hash: u32) {
    if let Err(caught) = attempt(|| finish::clean_up(subscription, hash)) {
        log(Level::Warning, &caught.report);
    }
}

/// What the apply worker offers is a snapshot's name and a word about it. Half of that is not to be guessed at.
fn cut_off() -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE, "the snapshot that was offered cannot be read")
}

impl Job<'_> {
    /// Moves the table on in a transaction of its own. False: somebody else has changed its state.
    fn moves(&self, from: &[SyncState], to: SyncState, lsn: Option<Lsn>) -> bool {
        let txn = Txn::begin();
        let moved = states::move_table_state(self.subscription.id, &self.table, from, to, lsn).or_raise();
        session::force_sync_commit();
        txn.commit();
        moved
    }

    /// Copies the table under the snapshot that the apply worker keeps; `lsn` is where the subscription begins.
    fn copy_with_all(&self, lsn: Lsn) {
        let database = process::own_database();
        let Some(snapshot) = registry::snapshot(database, self.subscription.id) else { return };
        let word = snapshot.split_once(' ').and_then(|(name, word)| Some((name, word.parse::<Unsettled>().ok()?)));
        let Some((snapshot, unsettled)) = word else { cut_off().raise() };
        let reopen = || Session::open(self.subscription, "copy").and_then(|side| side.see(snapshot));
        let mut session = reopen().unwrap_or_else(
            // The snapshot has gone meanwhile: whoever offered it starts anew.
            |report| Report { code: PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE, ..report }.raise(),
        );
        if !self.moves(&[SyncState::Init, SyncState::Data], SyncState::Data, Some(lsn)) {
            return;
        }
        let remote = session.table(&self.table, &self.subscription.replication_sets).or_raise();
        let below = self.partitions(&mut session, &remote, false);
        let origin = self.own_origin(0);
        let source = Source { subscription: self.subscription, remote, unsettled, reopen: &reopen };
        let rows = copy::copy_with_state(&source, session, &origin, || {
            fault::point(fault::SYNC_TABLE_UNCOMMITTED);
            // The subscription's row is held until the commit: it cannot go on to its stream without this table.
            let id = self.subscription.id;
            let mut current = states::hold_sync_state(id, SyncState::Data, Some(lsn)).or_raise();
            current &=
                states::move_table_state(id, &self.table, &[SyncState::Data], SyncState::Ready, Some(lsn)).or_raise();
            for partition in &below {
                let from = [SyncState::Started];
                states::move_table_state(id, partition, &from, SyncState::Ready, Some(lsn)).or_raise();
            }
            current
        });
        drop(origin);
        finish::forget_origin(&self.slot_name);
        if let Some(rows) = rows {
            self.tell(rows);
        }
        registry::attend(database, self.subscription.id);
    }

    /// Copies the table with a slot of its own. False: nothing is to be brought up for it.
    fn copy_alone(&self) -> bool {
        let from = [SyncState::Init, SyncState::Started, SyncState::Data];
        if !self.moves(&from, SyncState::Started, None) {
            return false;
        }
        self.wait_for_apply();
        // The origin comes first: as long as it is here, somebody will look after the slot.
        let txn = Txn::begin();
        origin::create_at(&self.slot_name, 0);
        txn.commit();
        let mut side = Session::open(self.subscription, "sync").or_raise();
        side.drop_stale_slot(&self.slot_name).or_raise();
        let word = unsettled::ask(&mut side, self.subscription).or_raise();
        let unsettled = unsettled::decide(self.subscription, &word, &[]).or_raise();
        let slot = provider::create_slot(self.subscription, &self.slot_name, false).or_raise();
        let origin = self.own_origin(slot.lsn.get());
        if !self.moves(&[SyncState::Started], SyncState::Data, Some(slot.lsn)) {
            return false;
        }
        fault::point(fault::SYNC_TABLE_SLOT);
        let mut session = side.see(&slot.snapshot).or_raise();
        let remote = session.table(&self.table, &self.subscription.replication_sets).or_raise();
        if remote.partitioned && self.hand_to_partitions(&mut session, &remote) {
            return false;
        }
        let (id, table) = (self.subscription.id, &self.table);
        let reopen = || Session::open(self.subscription, "sync").and_then(|side| side.see(&slot.snapshot));
        let source = Source { subscription: self.subscription, remote, unsettled, reopen: &reopen };
        let rows = copy::copy_with_state(&source, session, &origin, || {
            states::move_table_state(id, table, &[SyncState::Data], SyncState::SyncWait, Some(slot.lsn)).or_raise()
        });
        drop(slot);
        drop(origin);
        fault::point(fault::SYNC_TABLE_COPIED);
        rows.map(|rows| self.tell(rows)).is_some()
    }

    /// Until the apply worker knows that changes of the table are not its business now. Before, it could apply one that the
    /// copy has, too. It looks between two transactions; one that starts later knows anyway.
    fn wait_for_apply(&self) {
        let (database, sub) = (process::own_database(), self.subscription.id);
        registry::attend(database, sub);
        while !registry::has_attended(database, sub) {
            latch::wait(APPLY_POLL);
            latch::check_interrupts();
        }
    }

    fn partitions(&self, session: &mut SnapshotSession, remote: &RemoteTable, leaves: bool) -> Vec<TableName> {
        if remote.partitioned {
            session.partitions(remote, &self.subscription.replication_sets, leaves).or_raise()
        } else {
            Vec::new()
        }
    }

    /// Changes of a partitioned table come under the names of its leaves, so it is the leaves that are brought up. False: the
    /// provider sends none of them.
    fn hand_to_partitions(&self, session: &mut SnapshotSession, remote: &RemoteTable) -> bool {
        let leaves = self.partitions(session, remote, true);
        if leaves.is_empty() {
            return false;
        }
        let id = self.subscription.id;
        let txn = Txn::begin();
        let mine = states::move_table_state(id, &self.table, &[SyncState::Data], SyncState::Ready, None).or_raise();
        for leaf in leaves.iter().filter(|_| mine) {
            states::put_table_state(id, SyncKind::Data, leaf, SyncState::Init, None).or_raise();
        }
        registry::signal_at_commit(registry::Change::Tables(id));
        txn.commit();
        true
    }

    /// An origin of this worker's own: a transaction with a foreign origin needs one that no other process uses.
    fn own_origin(&self, position: u64) -> origin::Session {
        let txn = Txn::begin();
        let number = origin::create_at(&self.slot_name, position);
        txn.commit();
        origin::Session::open(number.unwrap_or_else(|| no_origin(&self.slot_name).raise()))
    }

    /// Streams until the apply worker takes over, or until the table is not to be copied any more.
    fn catch_up(&self) {
        let txn = Txn::begin();
        let number = origin::by_name(&self.slot_name).unwrap_or_else(|| no_origin(&self.slot_name).raise());
        let local = topology::require_local_node().or_raise();
        let nodes = topology::nodes().or_raise();
        txn.commit();
        let both =
            Session::open(self.subscription, "catchup").and_then(|mut side| side.filters_single_tables()).or_raise();
        apply::catch_up(self, origin::Session::open(number), local, nodes, both);
        fault::point(fault::SYNC_TABLE_DONE);
    }

    fn tell(&self, rows: u64) {
        log_line(format!("subscription \"{}\" copied table {}: {rows} rows", self.subscription.name, self.table));
    }
}

fn no_origin(name: &str) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("replication origin \"{name}\" does not exist"))
}
