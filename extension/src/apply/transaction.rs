//! Applies one remote transaction to local tables. Between `apply::receive` (frames to messages) and `apply::rows`.
//!
//! # Invariants
//! 1. One remote transaction is one local transaction; no part of it is visible alone.
//! 2. The origin position moves in the same commit as the rows, never before and never after.
//! 3. Rows are applied in wire order. Nothing here reorders.
//! 4. A transaction that this node made itself is never applied, whoever forwards it.
//! 5. Memory does not grow with the size of a transaction: each message has its own context.
//!
//! # Not here
//! Who wins a conflict (`spock_core::merge`). Bytes (`spock_core::wire`). What to do after an error (`apply::recover`).
//! Below this file: transactions that failed before and are taken in another way (`exceptions`), that are kept back because of
//! what is parked (`hold`), that were parked and are applied now (`unpark`), and rows with a version of their own (`own_version`).

mod exceptions;
mod hold;
mod own_version;
mod unpark;

pub(super) use unpark::before_stream as replay_before_stream;

use super::Stream;
use super::change_log;
use super::clock;
use super::comeback::{Comeback, Tools};
use super::queue::{Command, QueuedStatement};
use super::relmap::{Opened, RelMap, RemoteRelation};
use super::removals::Removals;
use super::rows::{Row, local_row};
use super::tables::Tables;
use super::truncate::empty;
use super::version::Versions;
use crate::catalog::topology::{self, LocalNode, Node, Subscription, lsn_text};
use crate::conflict::Conflict;
use crate::conflict::record::{Remote, RowTexts, Scene, record};
use crate::conflict::statistics::Counted;
use crate::counters::Counts;
use crate::ddl::replay;
use crate::error::{OrRaise, Report};
use crate::pg::changed;
use crate::pg::error_context::Place;
use crate::pg::fault;
use crate::pg::heap::next_command;
use crate::pg::origin::{self, CommitPosition};
use crate::pg::progress_wal;
use crate::pg::raise::{Level, debug, log};
use crate::pg::relation::TableId;
use crate::pg::scope::{ActiveSnapshot, MemoryContext, Txn};
use crate::pg::session::{self, OwnerScope};
use crate::pg::tuple::Slot;
use crate::settings::{self, ChangeLogging};
use crate::worker::failure::Failure;
use crate::worker::{announcements, registry};
use exceptions::Handling;
use hold::Parks;
use pgrx::PgSqlErrorCode;
use spock_core::merge::Resolution;
use spock_core::types::{Lsn, NodeId, PgTime, RelId};
use spock_core::wire::Message;
use spock_core::wire::announcement::Announcement;
use spock_core::wire::control::{LogicalMessage, MESSAGE_PREFIX};
use spock_core::wire::row::{Datum, RowKind, Truncate, Tuple, Update};
use spock_core::wire::txn::{Begin, Commit, Origin};
use std::rc::Rc;

/// What became of a remote transaction, for feedback and statistics.
#[derive(Debug, Clone, Copy)]
pub struct Committed {
    /// End of the remote transaction.
    pub remote_end: Option<Lsn>,
    /// End of the local commit record; `None`: nothing was written here.
    pub local_end: Option<Lsn>,
    /// Its commit time on the origin.
    pub commit_time: PgTime,
    /// The provider's WAL position, where only COMMIT tells it (protocol 4).
    pub insert_lsn: Option<Lsn>,
}

/// What a message led to.
#[derive(Debug)]
pub enum Fed {
    /// Nothing to report.
    Nothing,
    /// A remote transaction is done.
    Committed(Committed),
    /// A remote transaction is written down, and the subscription disabled.
    Disabled,
}

/// A local transaction with what is entered inside it. Fields are left in this order.
struct Open {
    owner: Option<OwnerScope>,
    snapshot: ActiveSnapshot,
    txn: Txn,
}

/// A row change as it came.
pub struct Change<'m> {
    /// What happened.
    pub kind: RowKind,
    /// In which of the provider's relations.
    pub id: RelId,
    /// The old row or its identity, if it came.
    pub old: Option<&'m Tuple<'m>>,
    /// The new row.
    pub new: Option<&'m Tuple<'m>>,
}

impl<'m> Change<'m> {
    fn insert(id: RelId, new: &'m Tuple<'m>) -> Self {
        Self { kind: RowKind::Insert, id, old: None, new: Some(new) }
    }

    fn delete(id: RelId, old: &'m Tuple<'m>) -> Self {
        Self { kind: RowKind::Delete, id, old: Some(old), new: None }
    }

    /// What says which row is meant: the old row, else the new one.
    fn key(&self) -> Result<&'m Tuple<'m>, Report> {
        self.old.or(self.new).ok_or_else(|| out_of_order("a change without a row"))
    }
}

/// The remote transaction that is being applied.
struct Current {
    begin: Begin,
    /// Where the changes were made.
    origin: Option<NodeId>,
    /// Its name, if it is wanted for the change log and the provider told it.
    origin_name: Option<String>,
    /// Nothing of it is applied: the user asked to leave it out, or it is our own.
    ignored: bool,
    /// How it is taken.
    handling: Handling,
    open: Option<Open>,
}

/// Applies the transactions of one stream, one after the other.
pub struct Applier<'s> {
    subscription: &'s Subscription,
    local: &'s LocalNode,
    origin: &'s origin::Session,
    place: Rc<Place>,
    stream: &'s Stream,
    /// The transaction that failed and has not passed yet.
    failure: Option<Failure>,
    relations: RelMap,
    versions: Versions,
    removals: Removals,
    message: MemoryContext,
    current: Option<Current>,
    skip_lsn: Option<Lsn>,
    /// Tables that are being copied.
    tables: Tables,
    /// What is parked, and the transaction that is kept back because of it.
    parks: Parks,
    /// When displaced rows are looked at.
    comeback: Comeback,
    /// Tables that were copied since the parked transaction that is applied now was sent.
    copied: Option<unpark::Copied>,
    /// Rows of the last transaction, by local table.
    counted: Vec<(TableId, Counts)>,
    /// Conflicts that were reported since somebody asked.
    conflicts: Counted,
}

impl<'s> Applier<'s> {
    /// For one stream of `subscription`, whose origin is bound to this process. `whole`: the stream of the subscription, not
    /// that of a single table.
    pub fn new(
        subscription: &'s Subscription,
        local: &'s LocalNode,
        nodes: &[Node],
        origin: &'s origin::Session,
        stream: &'s Stream,
        whole: bool,
    ) -> Self {
        Self {
            subscription,
            local,
            origin,
            place: Rc::clone(&stream.place),
            stream,
            failure: registry::failure(),
            relations: RelMap::default(),
            versions: Versions::new(&local.node, nodes, subscription.origin.id),
            removals: Removals::default(),
            message: MemoryContext::for_process(c"spock message"),
            current: None,
            skip_lsn: subscription.skip_lsn.filter(|_| whole),
            tables: if whole { Tables::begin(subscription) } else { Tables::none() },
            parks: if whole { Parks::begin(subscription) } else { Parks::default() },
            comeback: Comeback::begin(whole),
            copied: None,
            counted: Vec::new(),
            conflicts: Counted::default(),
        }
    }

    /// Rows of the last transaction, by local table. Empty when asked again.
    pub fn take_counts(&mut self) -> Vec<(TableId, Counts)> {
        std::mem::take(&mut self.counted)
    }

    /// Looks after tables that are being copied, see [`Tables::look`]. Between two transactions.
    pub fn look_at_tables(&mut self, position: Option<Lsn>, alive: &mut dyn FnMut()) {
        self.tables.look(self.subscription, position, alive);
    }

    /// Looks at displaced rows, see [`Comeback::look`]. Between two transactions.
    pub fn look_at_displaced(&mut self, may: fn() -> bool, alive: &mut dyn FnMut()) {
        let (origin, memory) = (self.origin, &self.message);
        let mut tools = Tools { origin, versions: &mut self.versions, removals: &mut self.removals, memory };
        self.comeback.look(&mut tools, may, alive);
    }

    /// Whether tables of the subscription are being copied: what is applied of the stream is not all of it.
    pub fn is_copying(&self) -> bool {
        !self.tables.is_empty()
    }

    /// Whether the current transaction leaves out changes of `id`: it is skipped, or the table is being copied.
    pub(super) fn leaves_out(&self, id: RelId) -> Result<bool, Report> {
        let Some(current) = &self.current else { return Ok(false) };
        if let Some(copied) = &self.copied {
            return copied.leaves_out(self.relations.remote(id)?, current.begin.commit_lsn);
        }
        let copied =
            !self.tables.is_empty() && self.tables.leaves_out(self.relations.remote(id)?, current.begin.commit_lsn);
        Ok(current.ignored || copied)
    }

    /// Conflicts of the last transaction, to be published.
    pub fn conflicts(&mut self) -> &mut Counted {
        &mut self.conflicts
    }

    /// Whether a remote transaction has begun and not ended.
    pub fn in_transaction(&self) -> bool {
        self.current.is_some()
    }

    /// Handles one message. Raises what goes wrong, at the place where it happens.
    pub fn feed(&mut self, message: &Message<'_>) -> Fed {
        self.message.reset();
        let _scope = self.message.enter();
        self.place.action.set(action(message));
        let fed = self.dispatch(message).or_raise();
        self.place.set_subject(None);
        self.place.action.set("");
        fed
    }

    fn dispatch(&mut self, message: &Message<'_>) -> Result<Fed, Report> {
        match message {
            Message::Startup(_) => return Err(out_of_order("STARTUP")),
            Message::Begin(begin) => self.begin(*begin)?,
            Message::Origin(origin) => self.origin_of(origin)?,
            // Our slots never form groups: there is no predecessor to wait for.
            Message::CommitOrder(_) => {}
            Message::Relation(relation) => {
                self.parks.redescribed(relation.id);
                self.relations.describe(relation.id, RemoteRelation::new(relation));
            }
            Message::Insert(_) | Message::Update(_) | Message::Delete(_) | Message::Truncate(_) => {
                self.change(message)?
            }
            Message::Logical(message) => return self.logical(message),
            Message::Announcement(announcement) => self.announced(announcement)?,
            Message::Commit(commit) => return self.commit(commit),
        }
        Ok(Fed::Nothing)
    }

    /// Carries out a change of the version that is in force. What it returns is to be carried out next.
    fn apply_as_usual(&mut self, message: &Message<'_>) -> Result<Option<Command>, Report> {
        match message {
            Message::Insert(insert) => {
                let change = Change::insert(insert.relation, &insert.new);
                if self.relations.remote(insert.relation)?.is_queue() {
                    return self.queued(&change);
                }
                self.row(&change, |row, versions| row.insert(versions, &insert.new))?;
            }
            Message::Update(update) => {
                let old = update.old.map(|old| old.tuple());
                if let Some(old) = &old
                    && self.changes_partition(update.relation, old, &update.new)?
                {
                    self.move_row(update, old)?;
                    return Ok(None);
                }
                let change =
                    Change { kind: RowKind::Update, id: update.relation, old: old.as_ref(), new: Some(&update.new) };
                let tuples = (old.as_ref(), &update.new);
                self.row(&change, |row, versions| row.update(versions, tuples, update.superseded))?;
            }
            Message::Delete(delete) => {
                let old = delete.old.tuple();
                let change = Change::delete(delete.relation, &old);
                self.row(&change, |row, versions| row.delete(versions, &old))?;
            }
            Message::Truncate(command) => self.truncate(command)?,
            _ => {}
        }
        Ok(None)
    }

    /// A sync event outside a transaction moves the position at once; inside, the commit does.
    fn logical(&mut self, message: &LogicalMessage<'_>) -> Result<Fed, Report> {
        let (Some(lsn), true) = (message.lsn, message.prefix == MESSAGE_PREFIX) else {
            return Err(out_of_order("a foreign message"));
        };
        if message.transactional {
            return Ok(Fed::Nothing);
        }
        self.origin.advance(lsn.get());
        Ok(Fed::Nothing)
    }

    /// What stands before it in the stream is committed.
    fn announced(&mut self, announcement: &Announcement<'_>) -> Result<(), Report> {
        if self.current.is_some() {
            return Err(out_of_order("ANNOUNCEMENT"));
        }
        announcements::heard(self.subscription, announcement);
        self.origin.advance(announcement.at.get());
        Ok(())
    }

    fn begin(&mut self, begin: Begin) -> Result<(), Report> {
        if self.current.is_some() {
            return Err(out_of_order("BEGIN"));
        }
        self.place.xid.set(begin.xid.0);
        self.place.commit_lsn.set(Lsn::raw(begin.commit_lsn));
        self.place.commit_time.set(begin.committed_at.micros());
        self.place.number.set(0);
        self.place.origin.set(0);
        let ignored = self.asked_to_skip(&begin);
        if ignored {
            log(
                Level::Log,
                &Report::new(
                    PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                    format!(
                        "subscription \"{}\" leaves out the transaction at {}, as asked",
                        self.subscription.name,
                        lsn_text(begin.commit_lsn)
                    ),
                ),
            );
        }
        let handling = if ignored { Handling::USUAL } else { self.handling(&begin) };
        self.stream.treatment.set(handling.treatment);
        self.hold_begin(&begin, handling.treatment, ignored);
        self.current = Some(Current { begin, origin: None, origin_name: None, ignored, handling, open: None });
        Ok(())
    }

    fn asked_to_skip(&self, begin: &Begin) -> bool {
        self.skip_lsn.is_some() && self.skip_lsn == begin.commit_lsn
    }

    fn origin_of(&mut self, message: &Origin<'_>) -> Result<(), Report> {
        let origin = message.id;
        // Zero would mean "written here" in commit data: a provider never sends it.
        let node = NodeId::new(u32::from(origin.0)).ok_or_else(|| out_of_order("ORIGIN 0"))?;
        let Some(current) = &mut self.current else { return Err(out_of_order("ORIGIN")) };
        if current.open.is_some() || current.origin.is_some() {
            return Err(out_of_order("ORIGIN"));
        }
        current.origin = Some(node);
        self.place.origin.set(node.get());
        if settings::change_logging() != ChangeLogging::None {
            current.origin_name = message.name.map(|name| String::from_utf8_lossy(name).into_owned());
        }
        current.ignored |= origin.0 == self.local.node.id.wire();
        let ignored = current.ignored;
        self.hold_origin(message, ignored);
        if !self.versions.knows(node) {
            let txn = Txn::begin();
            self.versions.learn(node, topology::node(node)?.as_ref());
            txn.commit();
            self.message.make_current();
        }
        let committed_at = self.current.as_ref().map_or(PgTime::from_micros(0), |current| current.begin.committed_at);
        self.versions.begin(committed_at, node);
        self.removals.begin();
        Ok(())
    }

    /// Starts the local transaction with the first change.
    fn open(&mut self) -> Result<&mut Current, Report> {
        let current = self.current.as_mut().ok_or_else(|| out_of_order("a change"))?;
        if current.open.is_none() {
            let node = current.origin.ok_or_else(|| out_of_order("a change"))?;
            let (txn, snapshot) = Txn::begin_with_snapshot();
            // Starting a transaction switches to its context: messages have their own.
            self.message.make_current();
            self.origin.stamp(node.wire(), current.begin.committed_at.micros());
            current.open = Some(Open { owner: None, snapshot, txn });
        }
        Ok(current)
    }

    fn row(
        &mut self,
        change: &Change<'_>,
        apply: impl FnOnce(&mut Row<'_>, &mut Versions) -> Result<Option<Conflict>, Report>,
    ) -> Result<(), Report> {
        let Change { kind, id, .. } = *change;
        self.place.set_subject(Some(&self.relations.remote(id)?.subject));
        self.open()?;
        let Some(current) = &mut self.current else { return Err(out_of_order("a change")) };
        let Some(open) = &mut current.open else { return Err(out_of_order("a change")) };
        if !self.relations.is_open(id) {
            // Looking up tables is the worker's own business, not the owner's.
            open.owner = None;
        }
        let Opened { target, mapping, counts, remote } = self.relations.open(id, kind, change.key()?)?;
        if !open.owner.as_ref().is_some_and(|owner| owner.serves(target.table())) {
            open.owner = None;
            open.owner = OwnerScope::enter(target.table());
        }
        if kind != RowKind::Insert || target.inserts_fire_before() {
            next_command();
        }
        let mut row = Row { target, mapping, counts, remote, removals: &mut self.removals, place: &self.place };
        let conflict = apply(&mut row, &mut self.versions)?;
        match kind {
            RowKind::Insert => row.counts.inserted += 1,
            RowKind::Update => row.counts.updated += 1,
            RowKind::Delete => row.counts.deleted += 1,
        }
        let table = row.target.table().id().get();
        if row.removals.displaced.has_displaced(table) {
            changed::note(table);
        }
        let logging = settings::change_logging();
        // A queued statement is logged as what it is, and not with all of its text.
        if logging != ChangeLogging::None
            && !remote.is_queue()
            && conflict.is_none_or(|conflict| conflict.outcome == Resolution::ApplyRemote)
        {
            let origin = current.origin_name.as_deref();
            change_log::write(logging, change, (origin, current.begin.committed_at), remote, row.mapping)?;
        }
        let Some(conflict) = conflict else { return Ok(()) };
        let index = target.met_in.take().or_else(|| mapping.key.as_ref().map(|key| key.name.clone()));
        // Casts to JSON may be the owner's functions, so the texts are made before the worker is itself again.
        let texts = settings::save_resolutions().then(|| RowTexts {
            local: local_row(target, &conflict).map(Slot::to_json),
            remote: target.remote.to_json(),
        });
        open.owner = None;
        let scene = Scene {
            relation: &remote.subject.relation,
            index,
            texts,
            subscribed_at: self.subscription.created_at,
            node: (&self.local.node.name, self.local.node.id),
        };
        let facts = Remote {
            origin: self.versions.remote().origin,
            time: self.versions.remote_time(),
            xid: current.begin.xid,
            commit_lsn: current.begin.commit_lsn,
        };
        self.conflicts.one(conflict.kind);
        counts.conflicts += u64::from(record(&conflict, &scene, &facts)?);
        Ok(())
    }

    /// A row of the queue. `None`: the transaction is left out.
    fn queued(&mut self, change: &Change<'_>) -> Result<Option<Command>, Report> {
        let new = change.key()?;
        let mut command = None;
        self.row(change, |row, versions| {
            command = Some(Command::read(new, row.remote, row.mapping)?);
            row.insert(versions, new)
        })?;
        Ok(command)
    }

    /// Carries out the message of a row of the queue.
    fn carry_out(&mut self, command: &Command) -> Result<(), Report> {
        if let Some(open) = self.current.as_mut().and_then(|current| current.open.as_mut()) {
            open.owner = None;
        }
        next_command();
        self.place.statement.replace(None);
        match command.statement()? {
            Some(statement) => self.replay(statement),
            None => match command.table_request()? {
                Some(table) => self.tables.request(self.subscription, &table),
                None => command.run(),
            },
        }
    }

    /// Runs SQL that the provider queued.
    fn replay(&mut self, queued: QueuedStatement) -> Result<(), Report> {
        // It may change tables that are open: rows that follow open them again.
        self.relations.close_all();
        self.place.set_subject(None);
        self.place.action.set("QUEUED_SQL");
        let shown = queued.shown();
        if let Some(current) = &self.current
            && settings::change_logging() != ChangeLogging::None
        {
            change_log::write_statement(&shown.text, (current.origin_name.as_deref(), current.begin.committed_at));
        }
        self.place.statement.replace(Some(shown));
        replay::replay(&queued.text, &queued.role, queued.automatic)?;
        self.place.statement.replace(None);
        Ok(())
    }

    /// Whether an UPDATE moves a row between partitions that only we have.
    fn changes_partition(&mut self, id: RelId, old: &Tuple<'_>, new: &Tuple<'_>) -> Result<bool, Report> {
        let open = self.relations.is_open(id);
        if let Some(current) = &mut self.open()?.open
            && !open
        {
            current.owner = None;
        }
        self.relations.changes_partition(id, old, new)
    }

    /// An UPDATE that moves a row to another partition: a changed key, with its halves in two tables.
    fn move_row(&mut self, update: &Update<'_>, old: &Tuple<'_>) -> Result<(), Report> {
        let (id, new) = (update.relation, &update.new);
        let partial = new.columns().any(|value| matches!(value, Datum::Unchanged));
        if partial && !update.superseded {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                "an UPDATE moves a row to another partition here without sending all of its values",
            )
            .hint("Values stored out of line that do not change are not sent. Move the row here, then leave the transaction \
                   out with spock.sub_alter_skiplsn."));
        }
        self.row(&Change::delete(id, old), |row, versions| row.leave(versions, old))?;
        self.row(&Change::insert(id, new), |row, versions| row.enter(versions, new))
    }

    fn truncate(&mut self, command: &Truncate<'_>) -> Result<(), Report> {
        let ids = self.truncated(command)?;
        if ids.is_empty() {
            return Ok(());
        }
        if let Some(open) = &mut self.open()?.open {
            open.owner = None;
        }
        let tables = self.relations.open_exclusive(&ids)?;
        next_command();
        empty(tables, &mut self.versions, command.restart_identity, self.removals.others())?;
        next_command();
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<Fed, Report> {
        self.settle_held(commit)?;
        if self.settle_exceptions()? {
            return Ok(Fed::Disabled);
        }
        // An error from here on is no single change's.
        self.place.number.set(0);
        let current = self.current.take().ok_or_else(|| out_of_order("COMMIT"))?;
        let mut done = Committed {
            remote_end: commit.end_lsn,
            local_end: None,
            commit_time: commit.committed_at,
            insert_lsn: commit.insert_lsn,
        };
        let end = Lsn::raw(commit.end_lsn);
        let skipped = self.asked_to_skip(&current.begin);
        if let Some(open) = current.open {
            self.relations.close_all();
            self.counted = self.relations.take_counts();
            if self.finish(open, &current.begin, end) {
                done.local_end = Lsn::new(session::last_commit_end());
            }
        } else if let (true, Some(lsn)) = (skipped, current.begin.commit_lsn) {
            self.clear_skip(lsn, end)?;
            done.local_end = Lsn::new(session::last_commit_end());
        }
        self.parked_committed();
        // Nothing that happens now can be the transaction's fault.
        let begin = current.begin;
        self.place.leave_transaction();
        self.passed();
        // A transaction that wrote nothing has no commit record: the position moves in memory.
        self.origin.advance(end);
        debug(Level::Debug, || {
            let (name, xid, lsn) = (&self.subscription.name, begin.xid.0, lsn_text(begin.commit_lsn));
            format!("subscription \"{name}\" applied transaction {xid}, commit {lsn}")
        });
        Ok(Fed::Committed(done))
    }

    /// Commits with the position. Returns whether anything was written.
    fn finish(&self, open: Open, begin: &Begin, end: u64) -> bool {
        let Open { owner, snapshot, txn } = open;
        drop(owner);
        drop(snapshot);
        let wrote = session::current_xid().is_some();
        if wrote {
            clock::before_commit(begin.committed_at.max(self.versions.latest_time()));
            fault::point(fault::APPLY_UNCOMMITTED);
            progress_wal::announce(self.origin.number(), self.origin.position(), end);
            fault::point_after_flush(fault::APPLY_ANNOUNCED);
        }
        let position = CommitPosition::set(end);
        txn.commit();
        drop(position);
        fault::point_after_flush(fault::APPLY_COMMITTED);
        origin::clear_stamp();
        wrote
    }

    /// The transaction that was to be left out has passed: the wish is fulfilled.
    fn clear_skip(&mut self, lsn: Lsn, end: u64) -> Result<(), Report> {
        let txn = Txn::begin();
        let cleared = topology::clear_skip_lsn(self.subscription.id, lsn)?;
        progress_wal::announce(self.origin.number(), self.origin.position(), end);
        txn.commit();
        self.skip_lsn = None;
        log(
            Level::Warning,
            &Report::new(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!(
                    "subscription \"{}\" has left out the transaction at {lsn}{}",
                    self.subscription.name,
                    if cleared { "" } else { "; the setting was changed meanwhile and stays" }
                ),
            ),
        );
        Ok(())
    }

    /// Commit time of the transaction that has just begun and changed nothing yet, for `apply_delay`.
    pub fn begun_at(&self) -> Option<PgTime> {
        self.current.as_ref().filter(|current| current.origin.is_none()).map(|current| current.begin.committed_at)
    }
}

fn out_of_order(what: &str) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION,
        format!("the provider sent {what} where the protocol does not allow it"),
    )
}

/// Name of a message in error context lines.
fn action(message: &Message<'_>) -> &'static str {
    match message {
        Message::Startup(_) => "STARTUP",
        Message::Begin(_) => "BEGIN",
        Message::Origin(_) => "ORIGIN",
        Message::CommitOrder(_) => "COMMIT_ORDER",
        Message::Relation(_) => "RELATION",
        Message::Insert(_) => "INSERT",
        Message::Update(_) => "UPDATE",
        Message::Delete(_) => "DELETE",
        Message::Truncate(_) => "TRUNCATE",
        Message::Logical(_) => "MESSAGE",
        Message::Announcement(_) => "ANNOUNCEMENT",
        Message::Commit(_) => "COMMIT",
    }
}
