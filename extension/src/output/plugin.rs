//! The publisher of one decoding session: which changes the client gets, in which order of messages.
//! Between `pg::decoding` (what happened) and [`super::frame`] (bytes).
//!
//! # Invariants
//! 1. Startup message first; then per transaction BEGIN, ORIGIN, COMMIT ORDER, changes, COMMIT. A table's RELATION comes
//!    before the first change that names it, and again after the table changed.
//! 2. A transaction is announced when its first message, or its first row of a table that the client gets, comes up; also
//!    when a row filter or repair mode then drops the row, because C peers are used to the empty transaction and count it
//!    as progress. Transactions that touch nothing of the client's are not sent at all: the sender's progress moves on
//!    without them.
//! 3. Whether a row is sent depends on the catalogs as they were when it was written, and on the options of the session.
//! 4. Nothing of our own catalogs is sent but rows of `spock.queue`.
//! 5. Nothing of a transaction is sent before the standby slots that are waited for have all of it.

use super::frame::Frame;
use super::hold_back::HoldBack;
use super::session::Terms;
use super::sets::{self, set_columns};
use super::tables::{Kind, Tables};
use super::versions::RowVersions;
use crate::counters::{Counts, Tally};
use crate::error::Report;
use crate::pg::decoding::{
    LogicalMessage, PUBLISHER_REPORTS_PROGRESS, Publish, RowChange, Session, Stream, TableRef, Truncation, Txn,
};
use crate::pg::toast::{Completion, Filled, Lack, has_external};
use crate::pg::types::RowBuffer;
use crate::pg::whole_row::Completed;
use crate::pg::{latch, raise};
use crate::settings;
use pgrx::PgSqlErrorCode;
use spock_core::filter::{Action, Actions};
use spock_core::types::{Lsn, OriginId};
use spock_core::wire::announcement::Announcement;
use spock_core::wire::control::{MESSAGE_PREFIX, Payload, PayloadError};
use spock_core::wire::own_message::OwnMessage;
use spock_core::wire::row::{Part, RowFlags, RowKind};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

/// Where the sender does not look by itself, a keepalive chance per this many changes costs nothing measurable.
const CHANGES_PER_PROGRESS: u32 = 100;
/// Subscription under which rows that are sent are counted.
const SENT: u32 = 0;
/// Column of `spock.queue` that names the sets of a row.
const QUEUE_SETS: u16 = 3;

/// State of one session.
pub struct Publisher {
    terms: Terms,
    tables: Tables,
    frame: Frame,
    row: RowBuffer,
    completion: Completion,
    /// The startup message is out.
    started: bool,
    /// The current transaction has been announced.
    announced: bool,
    /// Repair mode is on in the current transaction.
    repairing: bool,
    /// Names of nodes whose transactions are forwarded. Only names that were found.
    origins: HashMap<OriginId, String>,
    changes: u32,
    tally: Tally,
    standbys: HoldBack,
    versions: RowVersions,
}

impl Publish for Publisher {
    fn start(session: &mut Session<'_>, options: &[(String, Option<String>)]) -> Result<Self, Report> {
        let (terms, coverage) = super::session::negotiate(session, options)?;
        let home = session.context();
        Ok(Self {
            tables: Tables::new(coverage, terms.granted, home.child(c"spock tables")),
            frame: Frame::new(terms.version),
            row: RowBuffer::new(home.scratch(c"spock row")),
            completion: Completion::new(home.child(c"spock fetched values")),
            versions: RowVersions::new(terms.row_versions, terms.origin),
            terms,
            started: false,
            announced: false,
            repairing: false,
            origins: HashMap::new(),
            changes: 0,
            tally: Tally::new(SENT),
            standbys: HoldBack::new(),
        })
    }

    fn begin(&mut self, _stream: &mut Stream<'_>, _txn: Txn<'_>) -> Result<(), Report> {
        self.announced = false;
        self.repairing = false;
        self.versions.begin();
        self.tally.forget();
        Ok(())
    }

    fn row(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>, change: RowChange<'_>) -> Result<(), Report> {
        self.count(stream);
        self.tables.refresh();
        match self.tables.entry(change.table).kind {
            Kind::Silent => Ok(()),
            Kind::SetCatalog => self.set_changed(change),
            Kind::Queue => self.queue_row(stream, txn, change),
            Kind::RowVersion => {
                self.versions.told(&mut self.row, change);
                Ok(())
            }
            Kind::Published => self.published_row(stream, txn, change),
        }
    }

    fn truncate(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>, change: Truncation<'_>) -> Result<(), Report> {
        self.count(stream);
        self.tables.refresh();
        let mut wanted = Vec::new();
        for table in &change.tables {
            let entry = self.tables.entry(*table);
            if entry.kind == Kind::Published && entry.actions.truncate {
                wanted.push(*table);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        self.announce(stream, txn)?;
        if self.repairing {
            return Ok(());
        }
        let mut relations = Vec::new();
        for table in wanted {
            self.describe(stream, table)?;
            relations.push(table.id());
        }
        self.frame.truncate(stream, &relations, change.cascade, change.restart_identity)
    }

    fn commit(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>) -> Result<(), Report> {
        let announced = core::mem::replace(&mut self.announced, false);
        self.repairing = false;
        stream.progress(!announced);
        if announced {
            if settings::output_delay_ms() > 0 {
                self.frame.flush(stream, false)?;
                delay();
            }
            self.tally.publish();
            self.frame.commit(stream, txn)
        } else {
            Ok(())
        }
    }

    fn message(
        &mut self,
        stream: &mut Stream<'_>,
        txn: Option<Txn<'_>>,
        message: LogicalMessage<'_>,
    ) -> Result<(), Report> {
        self.count(stream);
        if message.prefix.to_bytes() != MESSAGE_PREFIX {
            return Ok(());
        }
        match Payload::read(message.payload) {
            Ok(payload) => self.control(stream, txn, message, payload),
            Err(problem) => {
                let problem = match problem {
                    PayloadError::Size { got } => format!("{got} bytes are not its size"),
                    PayloadError::Kind { got } => format!("type {got} is not known"),
                };
                raise::warn(format!("logical message in WAL ignored: {problem}"));
                Ok(())
            }
        }
    }

    fn own_message(
        &mut self,
        stream: &mut Stream<'_>,
        txn: Option<Txn<'_>>,
        message: OwnMessage<'_>,
        end: Option<Lsn>,
    ) -> Result<(), Report> {
        self.count(stream);
        match message {
            OwnMessage::Announcement(body) => self.announcement(stream, body, end)?,
            OwnMessage::Displacing(begins) => self.versions.displacing(begins),
            OwnMessage::Repairing(begins) => {
                if let Some(txn) = txn {
                    self.announce(stream, txn)?;
                }
                self.repairing = begins;
            }
        }
        Ok(())
    }

    fn drops_origin(&self, origin: OriginId) -> bool {
        !self.terms.forward_origins.sends(origin)
    }
}

/// The action of a row change, as sets count it.
/// One row, as it is counted.
fn one(kind: RowKind) -> Counts {
    let mut counts = Counts::default();
    match kind {
        RowKind::Insert => counts.inserted = 1,
        RowKind::Update => counts.updated = 1,
        RowKind::Delete => counts.deleted = 1,
    }
    counts
}

fn action(kind: RowKind) -> Action {
    match kind {
        RowKind::Insert => Action::Insert,
        RowKind::Update => Action::Update,
        RowKind::Delete => Action::Delete,
    }
}

/// Waits as `spock.output_delay` asks: a test can look at a subscriber that has a transaction but not its end.
fn delay() {
    let due = Instant::now() + Duration::from_millis(settings::output_delay_ms().into());
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        latch::wait(left);
    }
}

impl Publisher {
    /// Counts a change, where the sender's progress is left to us.
    #[inline]
    fn count(&mut self, stream: &mut Stream<'_>) {
        if PUBLISHER_REPORTS_PROGRESS {
            self.changes += 1;
            if self.changes >= CHANGES_PER_PROGRESS {
                self.changes = 0;
                stream.progress(false);
            }
        }
    }

    fn start_stream(&mut self, stream: &mut Stream<'_>) -> Result<(), Report> {
        if !core::mem::replace(&mut self.started, true) {
            self.frame.startup(stream, &self.terms.reply)?;
        }
        Ok(())
    }

    /// BEGIN, ORIGIN and COMMIT ORDER of the current transaction, once. They carry its first position, as if they had been
    /// sent when it began.
    #[inline]
    fn announce(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>) -> Result<(), Report> {
        if self.announced {
            return Ok(());
        }
        self.standbys.wait(stream)?;
        self.announced = true;
        stream.at(txn.first_lsn(), |stream| {
            self.start_stream(stream)?;
            self.frame.begin_txn(stream, txn)?;
            self.send_origin(stream, txn)?;
            self.frame.commit_order(stream)
        })
    }

    fn send_origin(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>) -> Result<(), Report> {
        let origin = txn.origin();
        if origin == OriginId::LOCAL {
            return self.frame.origin(stream, self.terms.origin, None, Some(&self.terms.node_name));
        }
        if let Entry::Vacant(place) = self.origins.entry(origin)
            && let Some(name) = sets::node_name(u32::from(origin.0))
        {
            place.insert(name);
        }
        let name = self.origins.get(&origin).map(String::as_str);
        self.frame.origin(stream, origin, txn.origin_lsn(), name)
    }

    /// RELATION, unless the client knows the table as it is.
    #[inline]
    fn describe(&mut self, stream: &mut Stream<'_>, table: TableRef<'_>) -> Result<(), Report> {
        let entry = self.tables.entry(table);
        if !core::mem::replace(&mut entry.described, true) {
            self.frame.relation(stream, table, entry)?;
        }
        Ok(())
    }

    fn published_row(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>, change: RowChange<'_>) -> Result<(), Report> {
        if !self.tables.entry(change.table).replicates(action(change.kind)) {
            return Ok(());
        }
        // A row without identity: nobody could find it.
        if change.new.or(change.old).is_none() {
            return Ok(());
        }
        // Its place is taken there as well.
        if change.kind == RowKind::Delete && self.versions.leaves_out_deletes() {
            return Ok(());
        }
        self.announce(stream, txn)?;
        if self.repairing {
            return Ok(());
        }
        if self.tables.entry(change.table).takes_all(action(change.kind)) {
            return self.send_row(stream, txn, change);
        }
        self.filtered_row(stream, txn, change)
    }

    /// A row of a table that goes out only in part.
    fn filtered_row(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>, change: RowChange<'_>) -> Result<(), Report> {
        let completed = change.new.zip(change.old).and_then(|(new, old)| Completed::of(new, old, change.table));
        let new = completed.as_ref().map(Completed::row).or(change.new);
        match self.tables.entry(change.table).filtered(RowChange { new, ..change }) {
            Some(change) => self.send_row(stream, txn, change),
            None => Ok(()),
        }
    }

    fn send_row(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>, change: RowChange<'_>) -> Result<(), Report> {
        self.describe(stream, change.table)?;
        let entry = self.tables.entry(change.table);
        if entry.kind == Kind::Published {
            self.tally.count(entry.id.0, &one(change.kind));
        }
        let lack = match (change.kind, change.new) {
            (RowKind::Update, Some(new)) if self.terms.completion && has_external(new) => {
                let columns = entry.columns.iter().map(|column| &column.codec);
                self.completion.complete(stream, (new, change.old), change.table, columns)
            }
            _ => Lack::Nothing,
        };
        let version = change.part.and_then(|part| self.versions.of(part, txn));
        self.frame.row(change.kind, entry.id, RowFlags { superseded: lack == Lack::Gone, version });
        if let Some(old) = change.old {
            self.frame.tuple(Part::Key, &mut entry.columns, change.table, (old, Filled::NONE), &mut self.row);
        }
        if let Some(new) = change.new {
            let new = (new, self.completion.filled());
            self.frame.tuple(Part::New, &mut entry.columns, change.table, new, &mut self.row);
        }
        self.completion.forget();
        self.frame.row_end(stream)
    }

    /// A row of `spock.queue` goes to the clients of its sets; one without sets goes to all.
    fn queue_row(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>, change: RowChange<'_>) -> Result<(), Report> {
        let (RowKind::Insert, Some(new)) = (change.kind, change.new) else { return Ok(()) };
        let names = self.row.load(new, change.table).text_array(QUEUE_SETS);
        if !self.tables.want_queue_row(names.as_deref()) {
            return Ok(());
        }
        self.announce(stream, txn)?;
        if self.repairing {
            return Ok(());
        }
        self.send_row(stream, txn, change)
    }

    /// A row of `spock.replication_set` changed: flags of a subscribed set count from here on.
    fn set_changed(&mut self, change: RowChange<'_>) -> Result<(), Report> {
        let Some(row) = change.new.or(change.old) else { return Ok(()) };
        let loaded = self.row.load(row, change.table);
        let flag = |column| loaded.boolean(column).unwrap_or(false);
        let actions = Actions {
            insert: flag(set_columns::INSERT),
            update: flag(set_columns::UPDATE),
            delete: flag(set_columns::DELETE),
            truncate: flag(set_columns::TRUNCATE),
        };
        let set = loaded.oid(set_columns::ID).and_then(|id| self.tables.sets_mut().get_mut(id));
        match (change.kind, set) {
            (_, None) | (RowKind::Insert, Some(_)) => Ok(()),
            (RowKind::Update, Some(set)) => {
                set.actions = actions;
                self.tables.forget_all();
                Ok(())
            }
            (RowKind::Delete, Some(set)) => Err(Report::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("replication set \"{}\" was dropped while it is subscribed", set.name),
            )
            .hint("Remove the set from the subscription on the subscriber.")),
        }
    }

    /// Only for clients that have asked: no other knows the message.
    fn announcement(&mut self, stream: &mut Stream<'_>, body: &[u8], end: Option<Lsn>) -> Result<(), Report> {
        let Some(at) = end.filter(|_| self.terms.announcements) else { return Ok(()) };
        match Announcement::read_body(at, body) {
            Ok(announcement) => {
                self.standbys.wait(stream)?;
                self.start_stream(stream)?;
                self.frame.announcement(stream, &announcement)
            }
            Err(problem) => {
                raise::warn(format!("announcement in WAL ignored: {problem}"));
                Ok(())
            }
        }
    }

    /// A logical message of ours, or of somebody who writes under our name.
    fn control(
        &mut self,
        stream: &mut Stream<'_>,
        txn: Option<Txn<'_>>,
        message: LogicalMessage<'_>,
        payload: Payload,
    ) -> Result<(), Report> {
        if !matches!(payload, Payload::SyncEvent { .. }) {
            // That of this edition is `OwnMessage::Repairing`. This one could hide any user's changes.
            raise::warn("repair mode in a logical message ignored: spock.repair_mode() has not written it");
            return Ok(());
        }
        match txn {
            Some(txn) => self.announce(stream, txn)?,
            None => {
                self.standbys.wait(stream)?;
                self.start_stream(stream)?;
            }
        }
        self.frame.message(stream, txn, message)
    }
}
