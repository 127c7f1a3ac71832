//! What a remote relation is here: the local table of that name, its columns matched by name, the key that finds its
//! rows. Between `apply::transaction`, which dispatches messages, and `apply::rows`, which writes.
//!
//! # Invariants
//! 1. A mapping outlives transactions and is dropped when the local table, or any schema, changes.
//! 2. A table is opened and locked once in each transaction, and closed before the transaction ends.
//! 3. Columns that the provider sends must exist here; columns that only we have get their default.

use super::deltas::DeltaColumns;
use super::partitions::Partitions;
use crate::counters::Counts;
use crate::error::Report;
use crate::pg::error_context::Subject;
use crate::pg::heap::{Defaults, Target};
use crate::pg::partition::partitions_exclusive;
use crate::pg::raise::{Level, debug};
use crate::pg::relation::{Column, ColumnNumber, KeyIndex, Kind, LockMode, Table, TableId, Validity, watch};
use crate::pg::search::ColumnEquality;
use crate::pg::session::OwnerScope;
use crate::pg::tuple::{Decoder, OwnedContext};
use pgrx::PgSqlErrorCode;
use spock_core::park::touched::LocalKeys;
use spock_core::sync::TableName;
use spock_core::types::{RelId, TypeOid};
use spock_core::wire;
use spock_core::wire::row::{RowKind, Tuple};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::rc::Rc;

/// One column as the provider describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteColumn {
    /// In the database's encoding, which is also ours.
    pub name: CString,
    /// Part of the provider's replica identity.
    pub in_key: bool,
    /// Type oid at the provider.
    pub type_oid: TypeOid,
}

/// A relation as the provider described it last.
#[derive(Debug, Clone)]
pub struct RemoteRelation {
    schema: CString,
    name: CString,
    /// In wire order.
    pub columns: Vec<RemoteColumn>,
    /// Quoted names, for messages.
    pub subject: Rc<Subject>,
}

impl RemoteRelation {
    /// From the parts of a RELATION message.
    pub fn new(relation: &wire::row::Relation<'_>) -> Self {
        let columns: Vec<RemoteColumn> = relation
            .columns()
            .map(|column| RemoteColumn {
                name: c_string(column.name),
                in_key: column.is_key,
                type_oid: column.type_oid,
            })
            .collect();
        let (schema, name) = (c_string(relation.schema), c_string(relation.name));
        let subject = Subject {
            relation: format!("{}.{}", quote(&schema), quote(&name)),
            columns: columns.iter().map(|column| column.name.to_string_lossy().into_owned()).collect(),
        };
        Self { schema, name, columns, subject: Rc::new(subject) }
    }

    /// Schema and name, unquoted.
    pub fn names(&self) -> (String, String) {
        (self.schema.to_string_lossy().into_owned(), self.name.to_string_lossy().into_owned())
    }

    /// Schema and name, as they were sent.
    pub fn name_bytes(&self) -> (&[u8], &[u8]) {
        (self.schema.to_bytes(), self.name.to_bytes())
    }

    /// Whether it has that name.
    pub fn is_named(&self, name: &TableName) -> bool {
        self.name.to_bytes() == name.table.as_bytes() && self.schema.to_bytes() == name.schema.as_bytes()
    }

    /// Whether it is the table of queued commands.
    pub fn is_queue(&self) -> bool {
        self.schema.as_bytes() == b"spock" && self.name.as_bytes() == b"queue"
    }
}

/// The reader has checked that there is no NUL inside.
fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}

fn quote(name: &CStr) -> String {
    format!("\"{}\"", name.to_string_lossy().replace('"', "\"\""))
}

/// Where the values of one wire column go.
pub struct MappedColumn {
    /// Local column. `None`: generated here, what the provider sends is not used.
    pub number: Option<ColumnNumber>,
    /// Turns bytes into values of the local type.
    pub decoder: Decoder,
    /// Both sides have the same built-in type: images in the server's own form may be taken as they are.
    pub same_type: bool,
    /// Both types are built in and differ: forms that depend on the type are refused.
    pub types_clash: bool,
}

/// A mapping that is kept across transactions.
pub struct Mapping {
    validity: Validity,
    table: TableId,
    /// In wire order.
    pub columns: Vec<MappedColumn>,
    /// Finds rows; `None`: all columns are compared.
    pub key: Option<Rc<KeyIndex>>,
    /// Columns that count.
    pub deltas: DeltaColumns,
    /// For searches without an index.
    pub equality: Vec<ColumnEquality>,
    /// Local columns that values are sent for.
    written: Vec<ColumnNumber>,
    defaults: Defaults,
    /// Private memory of functions looked up for this mapping.
    pub memory: OwnedContext,
    /// For each attribute of the table: did the current message carry a value? Kept to save its allocation.
    pub present: Vec<bool>,
}

/// One remote relation with all that is known of it.
pub struct Entry {
    // Closed before the mapping, whose memory it uses.
    target: Option<Target>,
    mapping: Option<Mapping>,
    /// Rows of this transaction.
    counts: Counts,
    /// As described by the provider.
    pub remote: RemoteRelation,
    /// Where rows go when the table is partitioned here.
    partitions: Option<Box<Partitions>>,
}

/// A relation that is open in this transaction.
pub struct Opened<'a> {
    /// The table.
    pub target: &'a mut Target,
    /// Its mapping.
    pub mapping: &'a mut Mapping,
    /// Rows of this transaction.
    pub counts: &'a mut Counts,
    /// As the provider described it.
    pub remote: &'a RemoteRelation,
}

/// All relations that the provider has described on this connection.
#[derive(Default)]
pub struct RelMap {
    entries: BTreeMap<RelId, Entry>,
    /// Relations open in this transaction.
    open: Vec<RelId>,
    /// Rows of this transaction, of tables that are closed already.
    counted: Vec<(TableId, Counts)>,
}

impl RelMap {
    /// Takes a description, replacing an earlier one of that id.
    pub fn describe(&mut self, id: RelId, remote: RemoteRelation) {
        self.open.retain(|other| *other != id);
        self.entries.insert(id, Entry::new(remote));
    }

    /// What the provider said about `id`.
    pub fn remote(&self, id: RelId) -> Result<&RemoteRelation, Report> {
        self.entries.get(&id).map(|entry| &entry.remote).ok_or_else(|| undescribed(id))
    }

    /// The open table for a change of `id`, with its mapping. Opens it if this transaction has not done so yet. `row`
    /// is what says which partition the change is for: the key that is looked for, else the new row.
    pub fn open(&mut self, id: RelId, kind: RowKind, row: &Tuple<'_>) -> Result<Opened<'_>, Report> {
        let entry = self.enter(id)?;
        if entry.target.is_some() {
            return entry.opened();
        }
        match (&mut entry.partitions, &mut entry.mapping) {
            (Some(partitions), Some(mapping)) => partitions.open(mapping, &entry.remote, kind, row),
            _ => Err(undescribed(id)),
        }
    }

    /// Whether an UPDATE moves a row from one local partition to another. Opens the table.
    pub fn changes_partition(&mut self, id: RelId, old: &Tuple<'_>, new: &Tuple<'_>) -> Result<bool, Report> {
        let entry = self.enter(id)?;
        let (Some(partitions), Some(mapping)) = (&mut entry.partitions, &mut entry.mapping) else { return Ok(false) };
        if !partitions.is_open() {
            return Ok(false);
        }
        Ok(partitions.find(mapping, &entry.remote, old)? != partitions.find(mapping, &entry.remote, new)?)
    }

    fn enter(&mut self, id: RelId) -> Result<&mut Entry, Report> {
        let entry = self.entries.get_mut(&id).ok_or_else(|| undescribed(id))?;
        if entry.target.is_none() && !entry.partitions.as_ref().is_some_and(|partitions| partitions.is_open()) {
            let table = entry.find_table(LockMode::RowExclusive)?;
            entry.prepare(table)?;
            self.open.push(id);
        }
        Ok(entry)
    }

    /// Opens tables for TRUNCATE, alone in this process.
    pub fn open_exclusive(&mut self, ids: &[RelId]) -> Result<Vec<Table>, Report> {
        self.close_all();
        let mut tables: Vec<Table> = Vec::new();
        for id in ids {
            let entry = self.entries.get_mut(id).ok_or_else(|| undescribed(*id))?;
            let table = entry.find_table(LockMode::AccessExclusive)?;
            // Partitions that the provider does not have are emptied, too.
            let below = if table.kind() == Kind::Partitioned { partitions_exclusive(&table) } else { Vec::new() };
            let below = below.into_iter().filter_map(|leaf| Table::try_open(leaf, LockMode::AccessExclusive));
            for table in std::iter::once(table).chain(below) {
                if !tables.iter().any(|other| other.id() == table.id()) {
                    tables.push(table);
                }
            }
        }
        Ok(tables)
    }

    /// Whether this transaction has opened `id`.
    pub fn is_open(&self, id: RelId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.target.is_some())
    }

    /// The local table for `id` with its mapping, for who does not write it.
    pub fn look(&mut self, id: RelId) -> Result<(Table, &mut Mapping, &RemoteRelation), Report> {
        let entry = self.entries.get_mut(&id).ok_or_else(|| undescribed(id))?;
        let table = entry.find_table(LockMode::RowExclusive)?;
        let mapping = entry.map(&table)?;
        Ok((table, entry.mapping.insert(mapping), &entry.remote))
    }

    /// Unique keys of the local table for `id`, in columns of the provider's, and how long that holds. `None`: there is no table
    /// that rows could go to. Needs a transaction.
    pub fn unique_keys(&mut self, id: RelId) -> Result<Option<(LocalKeys, Validity)>, Report> {
        let entry = self.entries.get_mut(&id).ok_or_else(|| undescribed(id))?;
        let Ok(table) = entry.find_table(LockMode::RowExclusive) else { return Ok(None) };
        // Watched before it is read, as in a mapping.
        let validity = watch(table.id());
        let found = table.unique_keys();
        let local = table.columns();
        let place = |number: &ColumnNumber| {
            let column = local.iter().find(|column| column.number == *number)?;
            entry.remote.columns.iter().position(|remote| remote.name == column.name)
        };
        // A key with a column that only we have is not the provider's to violate.
        let columns = found.keys.iter().filter_map(|key| key.iter().map(place).collect()).collect();
        Ok(Some((LocalKeys { columns, opaque: found.opaque }, validity)))
    }

    /// After a rollback of the subtransaction that everything was opened in: nothing is left to close, and no row was
    /// written.
    pub fn abandon_all(&mut self) {
        self.open.clear();
        self.entries.values_mut().for_each(Entry::abandon);
    }

    /// Closes what this transaction has opened. Mappings stay.
    pub fn close_all(&mut self) {
        for id in self.open.drain(..) {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.close(&mut self.counted);
            }
        }
    }

    /// Rows of this transaction by table, after [`RelMap::close_all`].
    pub fn take_counts(&mut self) -> Vec<(TableId, Counts)> {
        std::mem::take(&mut self.counted)
    }
}

fn undescribed(id: RelId) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION,
        format!("the provider sent a change for relation {}, which it has not described", id.0),
    )
}

impl Entry {
    /// Of which nothing is known but what the provider said.
    pub fn new(remote: RemoteRelation) -> Self {
        Self { target: None, mapping: None, counts: Counts::default(), remote, partitions: None }
    }

    /// Whether this transaction has opened a table for it.
    pub fn is_open(&self) -> bool {
        self.target.is_some()
    }

    /// Makes `table` ready for rows, or for finding their partitions.
    pub fn prepare(&mut self, table: Table) -> Result<(), Report> {
        // Planning defaults and index expressions may run the owner's functions.
        let _owner = OwnerScope::enter(&table);
        let mapping = self.map(&table)?;
        if table.kind() == Kind::Partitioned {
            self.partitions.get_or_insert_default().enter(table);
        } else {
            self.target = Some(Target::prepare(table, mapping.key.as_ref(), &mapping.written, &mapping.defaults));
        }
        debug(Level::Trace, || format!("opened {} for remote changes", self.remote.subject.relation));
        self.mapping = Some(mapping);
        Ok(())
    }

    fn map(&mut self, table: &Table) -> Result<Mapping, Report> {
        match self.mapping.take() {
            Some(mapping) if mapping.validity.holds() && mapping.table == table.id() => Ok(mapping),
            _ => Mapping::build(table, &self.remote),
        }
    }

    /// What [`Entry::prepare`] made ready.
    pub fn opened(&mut self) -> Result<Opened<'_>, Report> {
        match (&mut self.target, &mut self.mapping) {
            (Some(target), Some(mapping)) => {
                Ok(Opened { target, mapping, counts: &mut self.counts, remote: &self.remote })
            }
            _ => Err(Report::new(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("cannot apply changes to {}, which is not a table", self.remote.subject.relation),
            )),
        }
    }

    /// See [`RelMap::abandon_all`].
    pub fn abandon(&mut self) {
        if let Some(target) = self.target.take() {
            target.abandon();
        }
        if let Some(partitions) = &mut self.partitions {
            partitions.abandon();
        }
        self.counts = Counts::default();
    }

    /// Closes what this transaction has opened; adds its rows to `counted`.
    pub fn close(&mut self, counted: &mut Vec<(TableId, Counts)>) {
        self.target = None;
        if let Some(partitions) = &mut self.partitions {
            partitions.close(counted);
        }
        let counts = std::mem::take(&mut self.counts);
        let Some(mapping) = &self.mapping else { return };
        match counted.iter_mut().find(|(table, _)| *table == mapping.table) {
            Some((_, so_far)) => so_far.add(&counts),
            None => counted.push((mapping.table, counts)),
        }
    }

    /// Opens the local table: by its oid while the mapping holds, else by name.
    fn find_table(&mut self, mode: LockMode) -> Result<Table, Report> {
        if let Some(mapping) = &self.mapping
            && mapping.validity.holds()
            && let Some(table) = Table::try_open(mapping.table, mode)
            && mapping.validity.holds()
        {
            return Ok(table);
        }
        let RemoteRelation { schema, name, subject, .. } = &self.remote;
        let Some(table) = Table::open_by_name(schema, name, mode) else {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                format!("relation {} does not exist on this node", subject.relation),
            )
            .hint("Create the table here."));
        };
        match table.kind() {
            Kind::Table | Kind::Partitioned => Ok(table),
            Kind::Other => Err(Report::new(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("cannot apply changes to {}, which is not a table", subject.relation),
            )),
        }
    }
}

impl Mapping {
    fn build(table: &Table, remote: &RemoteRelation) -> Result<Self, Report> {
        // Watched before it is read: a change in between makes the mapping stale, not wrong.
        let validity = watch(table.id());
        let local = table.columns();
        let mut columns = Vec::with_capacity(remote.columns.len());
        let mut written = Vec::with_capacity(remote.columns.len());
        for facts in &remote.columns {
            let Some(column) = local.iter().find(|column| column.name == facts.name) else {
                return Err(Report::new(
                    PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                    format!("column {} of {} does not exist on this node", quote(&facts.name), remote.subject.relation),
                )
                .hint("Add the column here."));
            };
            let here = TypeOid(column.type_oid);
            let built_in = facts.type_oid.is_built_in() && here.is_built_in();
            columns.push(MappedColumn {
                number: (!column.generated).then_some(column.number),
                decoder: Decoder::new(column),
                same_type: built_in && facts.type_oid == here,
                types_clash: built_in && facts.type_oid != here,
            });
            if !column.generated {
                written.push(column.number);
            }
        }
        let only_here: Vec<ColumnNumber> = local
            .iter()
            .filter(|column| !column.generated && !written.contains(&column.number))
            .map(|column| column.number)
            .collect();
        let memory = OwnedContext::new(c"spock relation mapping");
        let deltas = DeltaColumns::of(table, &local, &columns, &memory)?;
        let mut key = table.key_index();
        if key.as_ref().is_some_and(|key| key.columns.iter().any(|number| deltas.contains(*number))) {
            // A replica identity that is there to have old values in WAL: what counts does not tell rows apart.
            key = table.primary_key_index();
        }
        let key = key.map(Rc::new);
        let equality = if key.is_none() { equality(&local, &columns, remote, &memory) } else { Vec::new() };
        Ok(Self {
            validity,
            table: table.id(),
            columns,
            key,
            deltas,
            equality,
            present: vec![false; table.width()],
            written,
            defaults: Defaults::plan(table, &only_here),
            memory,
        })
    }
}

/// Columns to compare when no index finds a row: those of the provider's identity, or all.
fn equality(
    local: &[Column],
    columns: &[MappedColumn],
    remote: &RemoteRelation,
    memory: &OwnedContext,
) -> Vec<ColumnEquality> {
    let keyed = remote.columns.iter().any(|column| column.in_key);
    columns
        .iter()
        .zip(&remote.columns)
        .filter(|(_, facts)| facts.in_key || !keyed)
        .filter_map(|(mapped, _)| mapped.number)
        .filter_map(|number| local.iter().find(|column| column.number == number))
        .map(|column| ColumnEquality::lookup(column, memory))
        .collect()
}
