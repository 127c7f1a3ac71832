//! What the session knows of each table: whether and how the client gets it, and whether it has been described.
//! Between `pg::invalidation` (what changed) and [`super::plugin`] (what to send).
//!
//! # Invariants
//! 1. An entry is built under the historic snapshot of the change that needs it first, and dropped when the table, its
//!    schema, its memberships or a flag of a subscribed set changes. The next change builds it again and describes it again.
//! 2. An entry never outlives its memory context: both go in [`Tables::refresh`], or with the session.
//! 3. The number of entries is bounded by the tables that exist: dropping a table invalidates it.

use super::format::{self, Granted};
use super::sets::{CATALOG_SCHEMA, Publication, QUEUE, REPLICATION_SET, ROW_VERSION, Sets};
use crate::pg::decoding::{RowChange, TableRef, TupleRef};
use crate::pg::invalidation::{self, Changed};
use crate::pg::memory::OwnedContext;
use crate::pg::predicate::Predicate;
use crate::pg::types::{ColumnCodec, TypeFacts};
use crate::pg::whole_row::is_whole;
use spock_core::expression::{Reference, references};
use spock_core::filter::{Action, Actions, Membership, TablePolicy, crossing};
use spock_core::types::{RelId, TypeOid};
use spock_core::wire::row::RowKind;
use std::collections::BTreeSet;
use std::collections::HashMap;

/// Which tables this session is about.
#[derive(Debug, Clone)]
pub struct Coverage {
    /// The subscribed sets.
    pub sets: Sets,
    /// Only this table (schema, name): the stream of a table that catches up.
    pub only: Option<(String, String)>,
    /// That table is sent whole, whatever sets it is in.
    pub whole_table: bool,
}

/// How changes of a table are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing of it is sent.
    Silent,
    /// `spock.queue`: each row names its own sets.
    Queue,
    /// `spock.replication_set`: not sent, but read.
    SetCatalog,
    /// `spock.row_version`: not sent, but read.
    RowVersion,
    /// A table that the client gets.
    Published,
}

/// A column as the client sees it.
pub struct PublishedColumn {
    /// Name, in the encoding of the database.
    pub name: Vec<u8>,
    /// Type here.
    pub type_oid: TypeOid,
    /// Type modifier.
    pub type_modifier: i32,
    /// Part of the replica identity.
    pub key: bool,
    /// Values to bytes.
    pub codec: ColumnCodec,
}

struct RowRule {
    actions: Actions,
    /// `None`: every row.
    predicate: Option<Predicate>,
    /// What WAL has of an old row is enough to ask the predicate about it.
    knows_old: bool,
}

impl RowRule {
    /// Whether the set wants the row. `None`: it cannot be told.
    fn wants(&mut self, row: TupleRef<'_>) -> Option<bool> {
        self.predicate.as_mut().map_or(Some(true), |predicate| predicate.holds(row))
    }

    fn wanted_before(&mut self, old: TupleRef<'_>) -> Option<bool> {
        if self.knows_old { self.wants(old) } else { None }
    }
}

/// One table of the session.
pub struct Table {
    /// Its id here and on the wire.
    pub id: RelId,
    /// How its changes are treated.
    pub kind: Kind,
    /// What some subscribed set replicates.
    pub actions: Actions,
    /// The client has had RELATION since the entry was built.
    pub described: bool,
    /// Columns that travel, in attribute order.
    pub columns: Vec<PublishedColumn>,
    /// Actions that some set replicates for every row.
    unfiltered: Actions,
    rules: Vec<RowRule>,
    home: OwnedContext,
}

impl Table {
    /// Whether some subscribed set replicates this kind of change of the table.
    pub fn replicates(&self, action: Action) -> bool {
        self.actions.contains(action)
    }

    /// Whether some set replicates this kind of change for every row, so that no filter is to be asked.
    pub fn takes_all(&self, action: Action) -> bool {
        self.unfiltered.contains(action)
    }

    /// What the row filters make of a change: `None`, or what is sent. An UPDATE that crosses them is an INSERT or a DELETE.
    pub fn filtered<'t>(&mut self, change: RowChange<'t>) -> Option<RowChange<'t>> {
        let RowChange { kind, table, part, old, new } = change;
        match kind {
            RowKind::Insert => (self.ask(Action::Insert, |rule| rule.wants(new?)) == Some(true)).then_some(change),
            // What cannot be told is sent: a row that the client does not have is not deleted there.
            RowKind::Delete => {
                (self.ask(Action::Delete, |rule| rule.wanted_before(old?)) != Some(false)).then_some(change)
            }
            RowKind::Update => {
                let row = new?;
                let before = old.and_then(|old| self.ask(Action::Update, |rule| rule.wanted_before(old)));
                // A value that is not in WAL did not change, so a row that was not wanted before is not wanted now.
                let now = self.ask(Action::Update, |rule| rule.wants(row)).unwrap_or(before != Some(false));
                match crossing(before, now, self.actions)? {
                    Action::Insert if is_whole(row, table) => {
                        Some(RowChange { kind: RowKind::Insert, table, part, old: None, new })
                    }
                    Action::Delete => Some(RowChange { kind: RowKind::Delete, table, part, old, new: None }),
                    _ => Some(change),
                }
            }
        }
    }

    /// Any rule that replicates `action` and says yes; `Some(false)` only if all of them say no.
    fn ask(&mut self, action: Action, mut of: impl FnMut(&mut RowRule) -> Option<bool>) -> Option<bool> {
        let mut answer = Some(false);
        for rule in self.rules.iter_mut().filter(|rule| rule.actions.contains(action)) {
            match of(rule) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => answer = None,
            }
        }
        answer
    }
}

/// The cache.
pub struct Tables {
    coverage: Coverage,
    granted: Granted,
    home: OwnedContext,
    entries: Vec<Table>,
    by_id: HashMap<RelId, usize>,
    /// The table of the last change: runs of changes of one table are the rule.
    last: usize,
}

impl Tables {
    /// An empty cache whose entries live under `home`. Starts to note what changes.
    pub fn new(coverage: Coverage, granted: Granted, home: OwnedContext) -> Self {
        invalidation::watch();
        Self { coverage, granted, home, entries: Vec::new(), by_id: HashMap::new(), last: 0 }
    }

    /// The sets of the session, to change their flags; the caller calls [`Tables::forget_all`] afterwards.
    pub fn sets_mut(&mut self) -> &mut Sets {
        &mut self.coverage.sets
    }

    /// Whether a row of `spock.queue` that names these sets (none: everybody) is for this client.
    pub fn want_queue_row(&self, names: Option<&[String]>) -> bool {
        self.coverage.sets.want_queue_row(names)
    }

    /// The entry of a table, built if need be. Stays as it is until the next [`Tables::refresh`].
    #[inline]
    pub fn entry(&mut self, table: TableRef<'_>) -> &mut Table {
        let id = table.id();
        if self.entries.get(self.last).is_none_or(|entry| entry.id != id) {
            self.last = match self.by_id.get(&id) {
                Some(&at) => at,
                None => self.build(table),
            };
        }
        &mut self.entries[self.last]
    }

    /// Drops every entry.
    pub fn forget_all(&mut self) {
        for entry in self.entries.drain(..) {
            let home = entry.home;
            drop(entry);
            home.delete();
        }
        self.by_id.clear();
        self.last = 0;
    }

    /// Drops what changed since the last call. Once per change, before anything looks at an entry: catalogs that are read
    /// while a change is handled can bring news, and a description must not go stale between RELATION and its row.
    #[inline]
    pub fn refresh(&mut self) {
        match invalidation::take() {
            None => {}
            Some(Changed::Everything) => self.forget_all(),
            Some(Changed::Tables(ids)) => ids.into_iter().for_each(|id| self.forget(RelId(id))),
        }
    }

    fn forget(&mut self, id: RelId) {
        let Some(at) = self.by_id.remove(&id) else { return };
        let entry = self.entries.swap_remove(at);
        if let Some(moved) = self.entries.get(at) {
            self.by_id.insert(moved.id, at);
        }
        let home = entry.home;
        drop(entry);
        home.delete();
    }

    fn build(&mut self, table: TableRef<'_>) -> usize {
        let home = self.home.child(c"spock table");
        let (schema, name) = (table.schema(), table.name());
        let mut entry = Table {
            id: table.id(),
            kind: self.coverage.kind(&schema, &name),
            actions: Actions::default(),
            described: false,
            columns: Vec::new(),
            unfiltered: Actions::default(),
            rules: Vec::new(),
            home,
        };
        match entry.kind {
            Kind::Published => {
                let publications = self.coverage.publications(entry.id);
                entry.publish(table, publications, self.granted);
            }
            Kind::Queue => entry.columns = travelling_columns(table, None, self.granted, home),
            Kind::Silent | Kind::SetCatalog | Kind::RowVersion => {}
        }
        self.entries.push(entry);
        let at = self.entries.len() - 1;
        self.by_id.insert(self.entries[at].id, at);
        at
    }
}

impl Coverage {
    fn kind(&self, schema: &[u8], name: &[u8]) -> Kind {
        let spock = schema == CATALOG_SCHEMA.as_bytes();
        if spock && name == REPLICATION_SET.as_bytes() {
            return Kind::SetCatalog;
        }
        match &self.only {
            Some(only) if only.0.as_bytes() == schema && only.1.as_bytes() == name => Kind::Published,
            Some(_) => Kind::Silent,
            None if spock && name == QUEUE.as_bytes() => Kind::Queue,
            None if spock && name == ROW_VERSION.as_bytes() => Kind::RowVersion,
            // Our catalogs describe this node; another node has its own.
            None if spock => Kind::Silent,
            None => Kind::Published,
        }
    }

    /// How the session publishes a table that it covers; empty when no subscribed set holds it.
    fn publications(&self, table: RelId) -> Vec<Publication> {
        if !self.whole_table {
            return self.sets.publications(table);
        }
        let actions = Actions { insert: true, update: true, delete: true, truncate: true };
        vec![Publication { membership: Membership { actions, columns: None }, row_filter: None }]
    }
}

impl Table {
    fn publish(&mut self, table: TableRef<'_>, publications: Vec<Publication>, granted: Granted) {
        let memberships: Vec<Membership> = publications.iter().map(|p| p.membership.clone()).collect();
        let Some(policy) = TablePolicy::of(&memberships) else {
            self.kind = Kind::Silent;
            return;
        };
        self.actions = policy.actions;
        self.columns = travelling_columns(table, policy.columns.as_ref(), granted, self.home);
        let (identity, whole) = (table.identity_columns(), table.old_rows_are_whole());
        for publication in publications {
            let actions = publication.membership.actions;
            let Some(tree) = publication.row_filter.as_deref() else {
                self.unfiltered = self.unfiltered.union(actions);
                self.rules.push(RowRule { actions, predicate: None, knows_old: true });
                continue;
            };
            let read = columns_read(tree, table);
            let predicate = Some(Predicate::compile(tree, &read, table, self.home));
            let knows_old = whole || read.iter().all(|number| identity.contains(number));
            self.rules.push(RowRule { actions, predicate, knows_old });
        }
    }
}

/// Numbers of the columns that a stored expression over the table reads.
fn columns_read(tree: &str, table: TableRef<'_>) -> Vec<u16> {
    let found = references(tree);
    if found.contains(&Reference::WholeRow) {
        return table.attributes().into_iter().map(|attribute| attribute.number).collect();
    }
    let number = |reference: &Reference| match reference {
        Reference::Column(number) => u16::try_from(*number).ok(),
        _ => None,
    };
    found.iter().filter_map(number).collect()
}

/// The columns that travel: those listed, or all. Generated columns never do, each node computes its own.
fn travelling_columns(
    table: TableRef<'_>,
    listed: Option<&BTreeSet<String>>,
    granted: Granted,
    home: OwnedContext,
) -> Vec<PublishedColumn> {
    let identity = table.identity_columns();
    table
        .attributes()
        .into_iter()
        .filter(|attribute| !attribute.dropped && !attribute.generated)
        .filter(|attribute| listed.is_none_or(|names| names.contains(&*String::from_utf8_lossy(&attribute.name))))
        .filter_map(|attribute| {
            let facts = TypeFacts::of(attribute.type_oid)?;
            Some(PublishedColumn {
                key: identity.contains(&attribute.number),
                codec: ColumnCodec::new(attribute.number, &facts, format::form(granted, &facts), home),
                name: attribute.name,
                type_oid: attribute.type_oid,
                type_modifier: attribute.type_modifier,
            })
        })
        .collect()
}
