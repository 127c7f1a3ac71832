//! Transactions that are kept back: until it is known whether they touch what is parked, or because they are to be parked
//! themselves. `spock_core::park` decides; here it is done.
//!
//! ```text
//! nothing is parked ─────────────────────────────► Off       applied as it comes
//! something is ──► Keeping ──small, free of it──► applied at its COMMIT
//!                          ──too large, free──► Watching     applied as it comes, each change looked at first;
//!                                                            one that must wait ends the stream: it is sent again ──┐
//!                          ──touches it──┐                                                                          │
//! it has failed, or must wait ───────────┴────────► Parking  written to the tables ◄────────────────────────────────┘
//! ```
//!
//! # Invariants
//! 1. A parked transaction and the position behind it are one commit.
//! 2. Memory is bounded by `spock.exception_replay_queue_size` and one message.
//! 3. While nothing is parked, nothing here costs more than a look at a flag for each change.

use super::{Applier, action, out_of_order};
use crate::catalog::parked::{self, Cause, NewParked};
use crate::catalog::topology::{Subscription, lsn_text};
use crate::error::{OrRaise, Report};
use crate::pg::error_context::Subject;
use crate::pg::fault;
use crate::pg::raise::{Level, log, log_line};
use crate::pg::relation::Validity;
use crate::pg::scope::Txn;
use crate::settings;
use crate::worker::failure::Failure;
use crate::worker::registry;
use pgrx::PgSqlErrorCode;
use spock_core::exceptions::{Failures, Treatment};
use spock_core::park::cause;
use spock_core::park::content::{self, PART_BYTES, Reader};
use spock_core::park::order::{Full, Parked};
use spock_core::park::touched::{KeyColumn, LocalKeys, Shape, Touched, table_name};
use spock_core::types::{Lsn, RelId};
use spock_core::wire::Message;
use spock_core::wire::row::{self, Datum, OldTuple, Tuple};
use spock_core::wire::txn::{Begin, Commit, Origin};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// See the drawing above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Off,
    Keeping,
    Watching,
    Parking,
}

/// A table as far as keys go.
struct KeyedTable {
    name: Vec<u8>,
    shape: Shape,
    /// `None`: it is not here; that is looked at again in each transaction.
    validity: Option<Validity>,
}

/// The transaction that is kept back.
#[derive(Default)]
struct Held {
    state: State,
    /// Messages that are not written yet.
    bytes: Vec<u8>,
    /// Relations that the messages describe.
    described: HashSet<RelId>,
    /// A relation was described anew after a change had come.
    redescribed: bool,
    touched: Touched,
    changes: u64,
    /// The table of the change that failed before.
    failed_at: Option<Rc<Subject>>,
    id: Option<i64>,
    parts: i32,
    written: u64,
}

/// What is parked for the subscription, and the transaction that is kept back.
#[derive(Default)]
pub(super) struct Parks {
    /// The stream of a subscription, not that of a single table, nor a parked transaction.
    active: bool,
    list: Parked,
    stale: bool,
    held: Held,
    /// Parked by the commit that is under way, or was the last one.
    added: Option<(i64, Touched, Vec<i64>, u64)>,
    tables: HashMap<RelId, KeyedTable>,
}

impl Parks {
    /// Of a stream that begins.
    pub(super) fn begin(subscription: &Subscription) -> Self {
        let mut parks = Self { active: true, ..Self::default() };
        parks.load(subscription);
        parks
    }

    fn load(&mut self, subscription: &Subscription) {
        let txn = Txn::begin();
        let holders = parked::holders(subscription.id).or_raise();
        txn.commit();
        self.list = Parked::default();
        for holder in holders {
            self.list.add(holder.id, &holder.touched, &holder.waits_for, holder.bytes);
        }
        (self.added, self.stale) = (None, false);
    }

    /// Outside a transaction: what the last one has added, and what others have taken away.
    fn catch_up(&mut self, subscription: &Subscription) {
        if let Some((id, touched, waits_for, bytes)) = self.added.take() {
            self.list.add(id, &touched, &waits_for, bytes);
        }
        if self.stale || !self.list.is_empty() && registry::take_parked_attention() {
            self.load(subscription);
        }
    }

    /// Whether something is parked.
    pub(super) fn is_any(&self) -> bool {
        !self.list.is_empty() || self.added.is_some()
    }

    /// Something was taken away.
    pub(super) fn look_again(&mut self) {
        self.stale = true;
    }

    /// A relation is described anew.
    pub(super) fn redescribed(&mut self, id: RelId) {
        self.tables.remove(&id);
        self.held.redescribed |= self.held.described.remove(&id);
    }
}

/// The type of a row of the queue; its bytes are the same in all forms.
fn queued_kind(columns: &[String], row: &Tuple<'_>) -> Option<u8> {
    let at = columns.iter().position(|name| name == "message_type")?;
    match row.columns().nth(at)? {
        Datum::Internal([kind]) | Datum::Binary([kind]) | Datum::Text([kind]) => Some(*kind),
        _ => None,
    }
}

fn row_of<'m>(message: &'m Message<'m>) -> Option<(RelId, Option<&'m Tuple<'m>>, Option<&'m Tuple<'m>>)> {
    match message {
        Message::Insert(insert) => Some((insert.relation, None, Some(&insert.new))),
        Message::Update(update) => {
            Some((update.relation, update.old.as_ref().map(OldTuple::as_tuple), Some(&update.new)))
        }
        Message::Delete(delete) => Some((delete.relation, Some(delete.old.as_tuple()), None)),
        _ => None,
    }
}

fn garbled() -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "a message that was kept back cannot be read")
}

impl Applier<'_> {
    /// A transaction has begun.
    pub(super) fn hold_begin(&mut self, begin: &Begin, treatment: Treatment, ignored: bool) {
        if !self.parks.active {
            return;
        }
        if self.parks.is_any() || self.parks.stale {
            self.parks.catch_up(self.subscription);
            self.message.make_current();
        }
        let state = match treatment {
            _ if ignored => State::Off,
            Treatment::Park => State::Parking,
            _ if self.parks.is_any() => State::Keeping,
            _ => State::Off,
        };
        if state == State::Off && self.parks.held.state == State::Off {
            return;
        }
        self.parks.tables.retain(|_, table| table.validity.is_some());
        self.parks.held = Held { state, ..Held::default() };
        content::write(&mut self.parks.held.bytes, &Message::Begin(*begin));
    }

    /// Where it was made is known.
    pub(super) fn hold_origin(&mut self, origin: &Origin<'_>, ignored: bool) {
        if ignored {
            self.parks.held.state = State::Off;
        } else if self.parks.held.state != State::Off {
            content::write(&mut self.parks.held.bytes, &Message::Origin(*origin));
        }
    }

    /// One change. True: it is kept back, and not to be carried out now.
    pub(super) fn hold(&mut self, message: &Message<'_>) -> Result<bool, Report> {
        match self.parks.held.state {
            State::Off => return Ok(false),
            State::Watching => {
                let mut one = Touched::default();
                self.touch(message, &mut one)?;
                let waits = self.parks.list.waits_for(&one);
                return if waits.is_empty() { Ok(false) } else { Err(self.send_again(&waits)) };
            }
            State::Keeping | State::Parking => {}
        }
        let number = self.place.number.get().saturating_add(1);
        self.place.number.set(number);
        let mut touched = core::mem::take(&mut self.parks.held.touched);
        let seen = self.touch(message, &mut touched);
        self.parks.held.touched = touched;
        seen?;
        self.keep(message)?;
        if self.failure.as_ref().is_some_and(|failure| failure.action == number)
            && let Some((id, ..)) = row_of(message)
        {
            self.parks.held.failed_at = Some(Rc::clone(&self.relations.remote(id)?.subject));
        }
        if self.parks.held.state == State::Keeping
            && settings::replay_queue_bytes().is_some_and(|most| self.parks.held.bytes.len() as u64 > most)
        {
            if self.parks.list.waits_for(&self.parks.held.touched).is_empty() {
                self.release(State::Watching)?;
                return Ok(true);
            }
            self.parks.held.state = State::Parking;
        }
        if self.parks.held.state == State::Parking {
            self.write_parts(false)?;
        }
        Ok(true)
    }

    /// Adds what a change touches. One of a table that is being copied touches nothing: it is left out.
    fn touch(&mut self, message: &Message<'_>, touched: &mut Touched) -> Result<(), Report> {
        if let Message::Truncate(command) = message {
            for id in self.truncated(command)? {
                let (schema, table) = self.relations.remote(id)?.name_bytes();
                touched.add_table(&table_name(schema, table));
            }
            return Ok(());
        }
        let Some((id, old, new)) = row_of(message) else { return Ok(()) };
        if self.leaves_out(id)? {
            return Ok(());
        }
        let remote = self.relations.remote(id)?;
        if remote.is_queue() {
            // Values of sequences only move forward, in whatever order they come.
            if new.and_then(|row| queued_kind(&remote.subject.columns, row)) != Some(b'S') {
                touched.add_everything();
            }
            return Ok(());
        }
        self.learn_keys(id)?;
        if let Some(table) = self.parks.tables.get(&id) {
            touched.add_row(&table.name, &table.shape, old, new);
        }
        Ok(())
    }

    /// Looks up which keys a table has here, unless that is known.
    fn learn_keys(&mut self, id: RelId) -> Result<(), Report> {
        if let Some(table) = self.parks.tables.get(&id)
            && table.validity.as_ref().is_none_or(Validity::holds)
        {
            return Ok(());
        }
        let open = self.current.as_ref().is_some_and(|current| current.open.is_some());
        let txn = if open { None } else { Some(Txn::begin()) };
        if open {
            self.leave_owner()?;
        }
        let found = self.relations.unique_keys(id)?;
        if let Some(txn) = txn {
            txn.commit();
            self.message.make_current();
        }
        let (local, validity) = match found {
            Some((local, validity)) => (local, Some(validity)),
            None => (LocalKeys::default(), None),
        };
        let remote = self.relations.remote(id)?;
        let columns: Vec<KeyColumn<'_>> = remote
            .columns
            .iter()
            .map(|column| KeyColumn { name: column.name.to_bytes(), in_identity: column.in_key, kind: column.type_oid })
            .collect();
        let (schema, table) = remote.name_bytes();
        let keyed = KeyedTable { name: table_name(schema, table), shape: Shape::new(&columns, &local), validity };
        self.parks.tables.insert(id, keyed);
        Ok(())
    }

    /// Adds a change to the messages, behind the descriptions of its relations.
    fn keep(&mut self, message: &Message<'_>) -> Result<(), Report> {
        let ids: Vec<RelId> = match message {
            Message::Truncate(command) => command.relations().collect(),
            _ => row_of(message).map(|(id, ..)| id).into_iter().collect(),
        };
        for id in ids {
            if !self.parks.held.described.insert(id) {
                continue;
            }
            let remote = self.relations.remote(id)?;
            let columns: Vec<row::Column<'_>> = remote
                .columns
                .iter()
                .map(|column| row::Column {
                    is_key: column.in_key,
                    name: column.name.to_bytes(),
                    type_oid: column.type_oid,
                    type_mod: -1,
                })
                .collect();
            let (schema, table) = remote.name_bytes();
            let mut described = Vec::new();
            row::Relation::write_of(&mut described, id, schema, table, &columns);
            let relation = content::read(&described).map_err(|_| garbled())?;
            content::write(&mut self.parks.held.bytes, &relation);
        }
        content::write(&mut self.parks.held.bytes, message);
        self.parks.held.changes += 1;
        Ok(())
    }

    /// Carries out what was kept back, and goes on as `then`.
    fn release(&mut self, then: State) -> Result<(), Report> {
        let bytes = core::mem::take(&mut self.parks.held.bytes);
        let redescribed = self.parks.held.redescribed;
        self.parks.held = Held::default();
        self.place.number.set(0);
        let mut reader = Reader::default();
        reader.load(&bytes);
        while let Some(message) = reader.next_message() {
            let message = content::read(message).map_err(|_| garbled())?;
            match &message {
                Message::Relation(relation) if redescribed => {
                    self.relations.describe(relation.id, super::RemoteRelation::new(relation));
                }
                Message::Insert(_) | Message::Update(_) | Message::Delete(_) | Message::Truncate(_) => {
                    self.message.reset();
                    self.place.action.set(action(&message));
                    self.change(&message)?;
                }
                _ => {}
            }
        }
        self.parks.held.state = then;
        Ok(())
    }

    /// At its COMMIT: carries out what was kept back, or parks it.
    pub(super) fn settle_held(&mut self, commit: &Commit) -> Result<(), Report> {
        match self.parks.held.state {
            State::Off => return Ok(()),
            State::Watching => {
                self.parks.held.state = State::Off;
                return Ok(());
            }
            State::Keeping | State::Parking => {}
        }
        let waits_for = self.parks.list.waits_for(&self.parks.held.touched);
        if self.parks.held.state == State::Keeping && waits_for.is_empty() {
            self.release(State::Off)?;
            self.place.action.set("COMMIT");
            return Ok(());
        }
        self.park(commit, waits_for)
    }

    /// Writes a transaction down whole, in the local transaction that moves the position past it.
    fn park(&mut self, commit: &Commit, waits_for: Vec<i64>) -> Result<(), Report> {
        let failure = self.failure.as_ref().filter(|failure| !failure.failures.waits && failure.failures.count > 0);
        let own = failure.filter(|_| self.current.as_ref().is_some_and(|c| c.handling.treatment == Treatment::Park));
        let first = waits_for.first().map_or_else(String::new, ToString::to_string);
        let why = match own {
            Some(failure) => {
                let (code, message) = cause(&failure.text);
                Cause {
                    sqlstate: Some(code.to_owned()),
                    message: message.to_owned(),
                    relation: self.parks.held.failed_at.as_ref().map(|subject| subject.relation.clone()),
                }
            }
            None if waits_for.is_empty() => return Err(self.try_again()),
            None => {
                let message = format!("waits for parked transaction {first}");
                Cause { sqlstate: None, message, relation: None }
            }
        };
        content::write(&mut self.parks.held.bytes, &Message::Commit(*commit));
        self.write_parts(true)?;
        let id = self.parks.held.id.ok_or_else(|| out_of_order("COMMIT"))?;
        if !parked::keep(&waits_for)? {
            return Err(self.try_again());
        }
        let (transaction, commit_lsn) = (self.transaction()?, Lsn::new(self.place.commit_lsn.get()));
        let held = core::mem::take(&mut self.parks.held);
        self.stream.recording.set(true);
        parked::insert(&NewParked {
            id,
            subscription: self.subscription.id,
            transaction,
            commit_lsn,
            bytes: held.written,
            changes: held.changes,
            waits_for: &waits_for,
            cause: &why,
            touched: &held.touched,
        })?;
        self.stream.recording.set(false);
        if let Some(current) = &mut self.current {
            current.handling.treatment = Treatment::Park;
        }
        self.stream.treatment.set(Treatment::Park);
        self.say_parked(id, &why, commit_lsn);
        self.parks.added = Some((id, held.touched, waits_for, held.written));
        fault::point(fault::PARK_UNCOMMITTED);
        Ok(())
    }

    /// The transaction has committed.
    pub(super) fn parked_committed(&self) {
        if self.parks.added.is_some() {
            fault::point_after_flush(fault::PARK_COMMITTED);
        }
    }

    fn say_parked(&self, id: i64, why: &Cause, commit_lsn: Option<Lsn>) {
        let said = format!(
            "subscription \"{}\" parks transaction {} at {} as {id}",
            self.subscription.name,
            self.place.xid.get(),
            lsn_text(commit_lsn)
        );
        if why.sqlstate.is_none() {
            return log_line(format!("{said}: it {}", why.message));
        }
        let warning = Report::new(PgSqlErrorCode::ERRCODE_WARNING, said).detail(why.message.clone()).hint(format!(
            "Remove the cause and call spock.replay_parked(), or give it up with spock.discard_parked({id})."
        ));
        log(Level::Warning, &warning);
    }

    /// Writes messages to the table, in parts of [`PART_BYTES`]; the last one is shorter.
    fn write_parts(&mut self, last: bool) -> Result<(), Report> {
        let size = self.parks.held.written + self.parks.held.bytes.len() as u64;
        if let Err(full) = self.parks.list.check_room(settings::park_bounds(), size) {
            return Err(self.no_room(full));
        }
        if !last && self.parks.held.bytes.len() < PART_BYTES {
            return Ok(());
        }
        self.leave_owner()?;
        self.stream.recording.set(true);
        let id = match self.parks.held.id {
            Some(id) => id,
            None => parked::next_id()?,
        };
        let held = &mut self.parks.held;
        held.id = Some(id);
        let whole = held.bytes.len() - if last { 0 } else { held.bytes.len() % PART_BYTES };
        for part in held.bytes[..whole].chunks(PART_BYTES) {
            parked::insert_part(id, held.parts, part)?;
            held.parts += 1;
            held.written += part.len() as u64;
        }
        held.bytes.drain(..whole);
        self.stream.recording.set(false);
        Ok(())
    }

    /// Nothing more can be parked: as in mode `sub_disable`, the subscription stops here.
    fn no_room(&self, full: Full) -> Report {
        self.stream.disables.set(true);
        let setting = match full {
            Full::Transactions => "spock.park_max_transactions",
            Full::Bytes => "spock.park_max_size",
        };
        let why = self.failure.as_ref().map_or_else(String::new, |failure| format!(": {}", failure.text));
        Report::new(
            PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            format!("no more transactions can be parked, \"{setting}\" is reached{why}"),
        )
    }

    /// It is being applied already and must wait: it is sent again, and parked then.
    fn send_again(&self, waits_for: &[i64]) -> Report {
        let first = waits_for.first().copied().unwrap_or_default();
        let text = format!("transaction must wait for parked transaction {first}");
        if let Some(commit_lsn) = Lsn::new(self.place.commit_lsn.get()) {
            let failures = Failures { waits: true, ..Failures::default() };
            registry::remember_failure(Some(&Failure { commit_lsn, failures, action: 0, text: text.clone() }));
        }
        self.stream.again.set(true);
        Report::new(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE, text)
    }

    /// What it was to wait for has gone meanwhile: it is sent again and taken as any other.
    fn try_again(&self) -> Report {
        registry::remember_failure(None);
        self.stream.again.set(true);
        Report::new(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            "a parked transaction that this one was to wait for has gone",
        )
    }
}
