//! Applying what was parked, in the apply worker: between two transactions of the stream, or before it when it is not there.
//! Each one is a transaction of its own, with the version that its rows had at their origin.
//!
//! # Invariants
//! 1. A parked transaction is taken away by the commit that applies it.
//! 2. One that fails stays, with its new cause, and so do those that wait for it. What may pass by itself (a deadlock, say) is tried
//!    some times before it counts as a failure.
//! 3. Rows of a table that was copied after the transaction are left out: the copy has them.

use super::{Applier, Fed, out_of_order};
use crate::apply::Stream;
use crate::apply::receive::may_apply;
use crate::apply::recover::{may_pass, with_statement};
use crate::apply::relmap::RemoteRelation;
use crate::catalog::parked::{self, Cause};
use crate::catalog::sync as states;
use crate::catalog::topology::{self, LocalNode, Subscription};
use crate::counters::Tally;
use crate::error::{OrRaise, Report};
use crate::pg::attempt::{Caught, attempt};
use crate::pg::conn::sqlstate_text;
use crate::pg::fault;
use crate::pg::latch;
use crate::pg::origin;
use crate::pg::raise::{Level, log, log_line};
use crate::pg::scope::Txn;
use crate::settings;
use crate::worker::{pause, registry};
use pgrx::PgSqlErrorCode;
use spock_core::backoff::Backoff;
use spock_core::exceptions::error_text;
use spock_core::park::cause;
use spock_core::park::content::{self, Reader};
use spock_core::sync::{SyncState, TableName};
use spock_core::types::Lsn;
use spock_core::wire::Message;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// So often one is tried when what goes wrong may pass by itself.
const TRIES_MAX: u32 = 5;
/// Between two of these tries: together less than two seconds, so that neither provider nor caller is kept waiting for long.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(100), limit: Duration::from_secs(1) };

/// Tables of the subscription with their own state.
pub(super) struct Copied(Vec<(TableName, SyncState, Option<Lsn>)>);

impl Copied {
    fn load(subscription: &Subscription) -> Self {
        let rows = states::sync_states(subscription.id).or_raise();
        Self(rows.into_iter().filter_map(|row| Some((row.table?, row.state, row.lsn))).collect())
    }

    /// Whether a change of `relation` in the transaction whose commit record begins at `commit` is part of a later copy.
    pub(super) fn leaves_out(&self, relation: &RemoteRelation, commit: Option<Lsn>) -> Result<bool, Report> {
        match self.0.iter().find(|(name, ..)| relation.is_named(name)) {
            None => Ok(false),
            Some((_, SyncState::Ready, lsn)) => Ok(*lsn > commit),
            Some((name, ..)) => {
                Err(Report::new(PgSqlErrorCode::ERRCODE_OBJECT_IN_USE, format!("table {name} is being synchronized"))
                    .hint("Wait for it with spock.table_wait_for_sync."))
            }
        }
    }
}

/// How a replay ended.
#[derive(Debug, Default)]
struct Outcome {
    applied: Vec<i64>,
    failed: Vec<i64>,
    /// It was interrupted: nothing may be applied now.
    held: bool,
}

fn damaged(id: i64) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        format!("the content of parked transaction {id} cannot be read"),
    )
}

impl<'s> Applier<'s> {
    /// Applies what is parked if somebody has asked for it. Between two transactions; `alive` is called meanwhile.
    pub fn look_at_parked(&mut self, may: fn() -> bool, alive: &mut dyn FnMut()) {
        if !self.parks.is_any() {
            return;
        }
        let Some((number, id)) = registry::replay_asked() else { return };
        let request = Request { number: Some(number), id };
        answer(self.subscription, self.local, self.origin, self.stream, request, may, alive);
        self.parks.look_again();
    }

    /// For parked transactions.
    fn for_replay(
        subscription: &'s Subscription,
        local: &'s LocalNode,
        origin: &'s origin::Session,
        stream: &'s Stream,
    ) -> Self {
        let txn = Txn::begin();
        let (nodes, copied) = (topology::nodes().or_raise(), Copied::load(subscription));
        txn.commit();
        let mut applier = Applier::new(subscription, local, &nodes, origin, stream, false);
        // What failed in the stream is not ours to forget.
        applier.failure = None;
        applier.copied = Some(copied);
        applier
    }

    fn part(&mut self, id: i64, number: i32) -> Result<Option<Vec<u8>>, Report> {
        if self.current.is_some() {
            self.leave_owner()?;
            return parked::part(id, number);
        }
        let txn = Txn::begin();
        let part = parked::part(id, number)?;
        txn.commit();
        Ok(part)
    }

    /// Applies one. Raises what goes wrong.
    fn apply_parked(&mut self, id: i64, alive: &mut dyn FnMut()) -> Result<(), Report> {
        let mut reader = Reader::default();
        let mut number = 0;
        loop {
            while let Some(message) = reader.next_message() {
                let message = content::read(message).map_err(|_| damaged(id))?;
                if matches!(message, Message::Commit(_)) {
                    self.leave_owner()?;
                    if !parked::delete(id)? {
                        let gone = format!("parked transaction {id} was discarded meanwhile");
                        return Err(Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, gone));
                    }
                    fault::point(fault::REPLAY_UNCOMMITTED);
                }
                match self.feed(&message) {
                    Fed::Committed(_) => return Ok(()),
                    Fed::Nothing => {}
                    Fed::Disabled => return Err(out_of_order("COMMIT")),
                }
                alive();
            }
            match self.part(id, number)? {
                Some(part) => reader.load(&part),
                None => return Err(damaged(id)),
            }
            number += 1;
        }
    }
}

/// What is to be applied.
#[derive(Debug, Clone, Copy)]
struct Request {
    /// `None`: nobody has asked.
    number: Option<u32>,
    /// 0: all.
    id: i64,
}

/// Applies what is parked, as far as it may now. Outside a transaction, with the origin bound to this process.
fn answer(
    subscription: &Subscription,
    local: &LocalNode,
    origin: &origin::Session,
    stream: &Stream,
    request: Request,
    may: fn() -> bool,
    alive: &mut dyn FnMut(),
) {
    let txn = Txn::begin();
    let order = parked::order(subscription.id).or_raise();
    txn.commit();
    let wanted = if request.id == 0 { order.all() } else { order.up_to(request.id) };
    let mut outcome = Outcome::default();
    let (mut next, mut tries) = (0, 0);
    while next < wanted.len() && !outcome.held {
        let under_way = Cell::new(None);
        let tried = attempt(|| {
            let mut applier = Applier::for_replay(subscription, local, origin, stream);
            let mut tally = Tally::new(subscription.id.get());
            while let Some(id) = wanted.get(next) {
                if order.behind(&outcome.failed).contains(id) {
                    next += 1;
                    continue;
                }
                if !may() {
                    outcome.held = true;
                    return;
                }
                under_way.set(Some(*id));
                applier.apply_parked(*id, alive).or_raise();
                under_way.set(None);
                pause::ended();
                fault::point_after_flush(fault::REPLAY_COMMITTED);
                for (table, counts) in applier.take_counts() {
                    tally.count(table.get(), &counts);
                }
                tally.publish();
                applier.conflicts().publish(subscription.id);
                outcome.applied.push(*id);
                (next, tries) = (next + 1, 0);
            }
        });
        let Err(caught) = tried else { continue };
        pause::ended();
        let (Some(id), false) = (under_way.get(), caught.is_shutdown()) else { caught.report.raise() };
        let report = left(stream, caught);
        tries += 1;
        if tries < TRIES_MAX && may_pass(report.0.code) {
            stand_still(tries, alive);
            continue;
        }
        note(subscription, id, report);
        outcome.failed.push(id);
        (next, tries) = (next + 1, 0);
    }
    if let (Some(number), false) = (request.number, outcome.held) {
        registry::replay_done(number);
    }
    if wanted.is_empty() {
        return;
    }
    log_line(format!(
        "subscription \"{}\" has applied {} of {} parked transactions",
        subscription.name,
        outcome.applied.len(),
        wanted.len()
    ));
}

/// Before the next try of a transaction that has failed `tries` times.
fn stand_still(tries: u32, alive: &mut dyn FnMut()) {
    // Without jitter: nobody else tries it.
    let (length, started) = (PAUSES.wait(tries, 500), Instant::now());
    while let Some(left) = length.checked_sub(started.elapsed()) {
        latch::wait(left.max(Duration::from_millis(1)));
        latch::check_interrupts();
    }
    alive();
}

/// What went wrong, and in which relation. Nothing of the transaction is left.
fn left(stream: &Stream, caught: Caught) -> (Report, Option<String>) {
    origin::clear_stamp();
    let place = &stream.place;
    let relation = place.subject();
    let report = with_statement(caught.report, place);
    place.leave_transaction();
    place.set_subject(None);
    place.action.set("");
    place.column.set(None);
    stream.recording.set(false);
    (report, relation)
}

/// One that failed keeps its new cause.
fn note(subscription: &Subscription, id: i64, (report, relation): (Report, Option<String>)) {
    let text = error_text(sqlstate_text(report.code), &report.message);
    let (code, message) = cause(&text);
    let why = Cause { sqlstate: Some(code.to_owned()), message: message.to_owned(), relation };
    let txn = Txn::begin();
    parked::set_cause(id, &why).or_raise();
    txn.commit();
    let message = format!(
        "subscription \"{}\": parked transaction {id} cannot be applied: {}",
        subscription.name, report.message
    );
    log(Level::Warning, &Report { message, ..report });
}

/// Before a stream is there: what is parked can be applied while the provider cannot be reached. It is tried without being
/// asked for when nothing more can be parked: the stream would end at the next transaction that must be.
pub fn before_stream(subscription: &Subscription, stream: &Stream) {
    let asked = registry::replay_asked();
    let txn = Txn::begin();
    if asked.is_none() && !parked::is_full(subscription.id, settings::park_bounds()).or_raise() {
        return txn.commit();
    }
    let local = topology::require_local_node().or_raise();
    let number = origin::by_name(&subscription.slot_name);
    txn.commit();
    let Some(number) = number else { return };
    let origin = origin::Session::open(number);
    let request = Request { number: asked.map(|asked| asked.0), id: asked.map_or(0, |asked| asked.1) };
    answer(subscription, &local, &origin, stream, request, may_apply, &mut || {});
}
