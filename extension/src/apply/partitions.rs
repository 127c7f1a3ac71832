//! Rows for a table that is partitioned here: each goes to the partition that it belongs to, by the same rules as any row.
//! Between `apply::relmap`, which finds tables by name, and `apply::rows`, which writes.
//!
//! # Invariants
//! 1. A partition is mapped by column names as a table of its own; what the provider described is the whole table.
//! 2. UPDATE and DELETE are applied only where the key that arrives says which partition the row is in.

use super::relmap::{Entry, Mapping, Opened, RemoteRelation};
use super::rows::decode_value;
use crate::counters::Counts;
use crate::error::Report;
use crate::pg::partition::Router;
use crate::pg::relation::{ColumnNumber, LockMode, Table, TableId};
use crate::pg::session::OwnerScope;
use pgrx::PgSqlErrorCode;
use spock_core::wire::row::{RowKind, Tuple};
use std::collections::HashMap;

/// The partitions of one table that rows came for.
#[derive(Default)]
pub struct Partitions {
    /// Open in this transaction.
    router: Option<Router>,
    leaves: HashMap<TableId, Entry>,
}

impl Partitions {
    /// Takes a partitioned table that was opened in this transaction.
    pub fn enter(&mut self, table: Table) {
        self.router = Some(Router::new(table));
    }

    /// Whether [`Partitions::enter`] was called in this transaction.
    pub fn is_open(&self) -> bool {
        self.router.is_some()
    }

    /// The partition that a row, or a key, belongs to.
    pub fn find(&mut self, mapping: &mut Mapping, remote: &RemoteRelation, row: &Tuple<'_>) -> Result<TableId, Report> {
        let Some(router) = &mut self.router else { return Err(not_open(remote)) };
        // Types and partition keys may run the owner's functions.
        let _owner = OwnerScope::enter(router.table());
        router.row.start();
        for (n, value) in row.columns().enumerate() {
            let Some(column) = mapping.columns.get_mut(n) else { break };
            let Some(number) = column.number else { continue };
            if let Some(value) = decode_value(column, &value, &mapping.memory, &remote.subject.columns[n])? {
                router.row.set(number, value);
            }
        }
        router.row.finish();
        Ok(router.find())
    }

    /// The open partition for a row.
    pub fn open<'a>(
        &'a mut self,
        mapping: &mut Mapping,
        remote: &RemoteRelation,
        kind: RowKind,
        row: &Tuple<'_>,
    ) -> Result<Opened<'a>, Report> {
        if kind != RowKind::Insert {
            self.check_key(mapping, remote)?;
        }
        let id = self.find(mapping, remote, row)?;
        let leaf = self.leaves.entry(id).or_insert_with(|| Entry::new(remote.clone()));
        if !leaf.is_open() {
            let table = Table::try_open(id, LockMode::RowExclusive).ok_or_else(|| not_open(remote))?;
            leaf.prepare(table)?;
        }
        leaf.opened()
    }

    /// The provider sends the key of a row that changes. It must have all columns by which rows are spread here.
    fn check_key(&self, mapping: &Mapping, remote: &RemoteRelation) -> Result<(), Report> {
        let keyed = remote.columns.iter().any(|column| column.in_key);
        let Some(router) = self.router.as_ref().filter(|_| keyed) else { return Ok(()) };
        let sent = |number| {
            mapping.columns.iter().zip(&remote.columns).any(|(here, there)| there.in_key && here.number == Some(number))
        };
        let lacking: Vec<ColumnNumber> =
            router.table().columns().iter().map(|column| column.number).filter(|number| !sent(*number)).collect();
        if !router.spreads_by(&lacking) {
            return Ok(());
        }
        Err(Report::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("cannot apply UPDATE and DELETE to partitioned table {}", remote.subject.relation),
        )
        .detail("The replica identity on the provider does not have all columns that the table is partitioned by here.")
        .hint("Set REPLICA IDENTITY FULL for the table on the provider, or partition it here by columns of its key."))
    }

    /// See [`super::relmap::RelMap::abandon_all`].
    pub fn abandon(&mut self) {
        self.leaves.values_mut().for_each(Entry::abandon);
        if let Some(router) = self.router.take() {
            router.abandon();
        }
    }

    /// Closes what this transaction has opened; adds its rows to `counted`.
    pub fn close(&mut self, counted: &mut Vec<(TableId, Counts)>) {
        for leaf in self.leaves.values_mut() {
            leaf.close(counted);
        }
        self.router = None;
    }
}

fn not_open(remote: &RemoteRelation) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
        format!("partitioned table {} changed while rows were applied to it", remote.subject.relation),
    )
}
