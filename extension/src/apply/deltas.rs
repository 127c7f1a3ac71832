//! Columns of a table that count: which they are, and what a change adds to them. Between `apply::relmap` (kept across
//! transactions) and `apply::rows` (one change).
//!
//! # Invariants
//! 1. A table without such columns costs a look at an empty list for each row.
//! 2. An addition is exact, or an error: a change that does not say what it adds is never taken for a new value.

use super::relmap::{MappedColumn, RemoteRelation};
use super::rows::decode_value;
use crate::catalog::deltas as catalog;
use crate::error::Report;
use crate::pg::delta::Sum;
use crate::pg::raise;
use crate::pg::relation::{Column, ColumnNumber, Table};
use crate::pg::tuple::{OwnedContext, Slot, Value};
use pgrx::PgSqlErrorCode;
use spock_core::wire::row::{Datum, Tuple};
use std::cell::Cell;

/// One column that counts.
struct DeltaColumn {
    number: ColumnNumber,
    /// Place in rows of the provider.
    place: usize,
    /// `None`: its type cannot be added exactly.
    sum: Option<Sum>,
    /// Old and new value of the change that is being applied; no old one: it sets a first value. `None`: it adds nothing.
    change: Option<(Option<Value>, Value)>,
    /// The change adds something else than 0.
    adds: bool,
}

/// All of them, in table order.
#[derive(Default)]
pub struct DeltaColumns {
    columns: Vec<DeltaColumn>,
    /// A sum has passed the limit of its type.
    passed: Cell<bool>,
}

impl DeltaColumns {
    /// Those of `table` that the provider sends. Inside a transaction.
    pub fn of(table: &Table, local: &[Column], mapped: &[MappedColumn], memory: &OwnedContext) -> Result<Self, Report> {
        let counting = catalog::columns(table.id().get())?;
        let column = |number: i64| {
            let column = local.iter().find(|column| i64::from(column.number.get()) == number)?;
            let place = mapped.iter().position(|mapped| mapped.number == Some(column.number))?;
            let sum = Sum::of(column.type_oid, column.typmod, memory);
            Some(DeltaColumn { number: column.number, place, sum, change: None, adds: false })
        };
        Ok(Self { columns: counting.into_iter().filter_map(column).collect(), passed: Cell::new(false) })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Whether `number` is one of them.
    pub fn contains(&self, number: ColumnNumber) -> bool {
        self.columns.iter().any(|column| column.number == number)
    }

    /// A change begins that adds nothing.
    pub fn forget(&mut self) {
        self.columns.iter_mut().for_each(|column| column.change = None);
    }

    /// Whether the change that is being applied adds something.
    pub fn adds(&self) -> bool {
        self.columns.iter().any(|column| column.change.is_some() && column.adds)
    }

    /// Whether it sets first values: an INSERT, or an UPDATE under a new key.
    pub fn is_first(&self) -> bool {
        self.columns.iter().any(|column| matches!(column.change, Some((None, _))))
    }

    /// An INSERT, or an UPDATE under a new key, of the row in `new`: it adds its values, if there is a row already.
    pub fn read_first(&mut self, new: &Slot) {
        for column in &mut self.columns {
            column.change = Some((None, new.get(column.number)));
            column.adds = true;
        }
    }

    /// An UPDATE adds the difference between its values.
    pub fn read_update(
        &mut self,
        mapped: &mut [MappedColumn],
        memory: &OwnedContext,
        remote: &RemoteRelation,
        (old, new): (Option<&Tuple<'_>>, &Tuple<'_>),
    ) -> Result<(), Report> {
        for column in &mut self.columns {
            column.change = None;
            let name = &remote.subject.columns[column.place];
            if column.sum.is_none() {
                return Err(inexact(remote, name));
            }
            let new = new.columns().nth(column.place).unwrap_or(Datum::Unchanged);
            if new == Datum::Unchanged {
                continue;
            }
            let old = old.and_then(|old| old.columns().nth(column.place)).unwrap_or(Datum::Unchanged);
            if matches!(old, Datum::Unchanged | Datum::Null) {
                return Err(without_old_value(remote, name));
            }
            column.adds = old != new;
            let mut read = |value| decode_value(&mut mapped[column.place], value, memory, name);
            column.change = read(&old)?.zip(read(&new)?).map(|(old, new)| (Some(old), new));
        }
        Ok(())
    }

    /// Puts sums into `merged`, which has the values of `local` or of the change.
    pub fn add(&self, merged: &mut Slot, local: &Slot, remote: &RemoteRelation) -> Result<(), Report> {
        for column in &self.columns {
            let Some((old, new)) = column.change else { continue };
            merged.set(column.number, self.sum_of(column, local.get(column.number), (old, new), remote)?);
        }
        Ok(())
    }

    /// The change adds the amounts in `part` as well.
    pub fn add_to_change(&mut self, part: &Slot, remote: &RemoteRelation) -> Result<(), Report> {
        for at in 0..self.columns.len() {
            let column = &self.columns[at];
            let amount = part.get(column.number);
            let Some((old, new)) = column.change.filter(|_| !amount.is_null()) else { continue };
            let new = self.sum_of(column, new, (None, amount), remote)?;
            self.columns[at].change = Some((old, new));
            self.columns[at].adds = true;
        }
        Ok(())
    }

    /// Puts into `new`, which is written where there is no row yet, what the change adds: what it was added to comes later.
    pub fn differences(&self, new: &mut Slot, remote: &RemoteRelation) -> Result<(), Report> {
        for column in &self.columns {
            let Some((old, value)) = column.change else { continue };
            let Some(old) = old else {
                new.set(column.number, value);
                continue;
            };
            let name = &remote.subject.columns[column.place];
            let Some(sum) = &column.sum else { return Err(inexact(remote, name)) };
            let zero = sum.zero(value).map_err(|_| no_number(remote, name))?;
            let (difference, _) = sum.add(zero, Some(old), value).map_err(|_| no_number(remote, name))?;
            new.set(column.number, difference);
        }
        Ok(())
    }
}

impl DeltaColumns {
    /// Adds what the change adds to the row in `slot`.
    pub fn add_onto(&self, slot: &mut Slot, remote: &RemoteRelation) -> Result<(), Report> {
        for column in &self.columns {
            let Some((old, new)) = column.change else { continue };
            let value = self.sum_of(column, slot.get(column.number), (old, new), remote)?;
            slot.set(column.number, value);
        }
        Ok(())
    }

    /// Adds the amounts in `part` to the row in `slot`.
    pub fn add_part(&self, slot: &mut Slot, part: &Slot, remote: &RemoteRelation) -> Result<(), Report> {
        for column in &self.columns {
            let amount = part.get(column.number);
            // The column did not count when the amount was kept, or did not exist.
            if !amount.is_null() {
                let value = self.sum_of(column, slot.get(column.number), (None, amount), remote)?;
                slot.set(column.number, value);
            }
        }
        Ok(())
    }

    /// Whether a sum has passed the limit of its type since this was asked.
    pub fn take_passed(&self) -> bool {
        !self.is_empty() && self.passed.take()
    }

    fn sum_of(
        &self,
        column: &DeltaColumn,
        local: Value,
        (old, new): (Option<Value>, Value),
        remote: &RemoteRelation,
    ) -> Result<Value, Report> {
        let name = &remote.subject.columns[column.place];
        let Some(sum) = &column.sum else { return Err(inexact(remote, name)) };
        let (value, around) = sum.add(local, old, new).map_err(|_| no_number(remote, name))?;
        if around {
            self.passed.set(true);
            raise::warn(format!("column \"{name}\" of {} passes the limit of its type", remote.subject.relation));
        }
        Ok(value)
    }
}

fn inexact(remote: &RemoteRelation, name: &str) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("column \"{name}\" of {} is to count, but its type cannot be added exactly", remote.subject.relation),
    )
    .detail("What nodes end with would depend on the order in which changes arrive.")
    .hint(format!(
        "Call spock.delta_apply('{}', '{name}', true), or change its type to numeric.",
        remote.subject.relation
    ))
}

fn without_old_value(remote: &RemoteRelation, name: &str) -> Report {
    let relation = &remote.subject.relation;
    Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("an UPDATE of {relation} came without the old value of column \"{name}\", which is to count"),
    )
    .detail("Without it nobody can tell what was added.")
    .hint(format!(
        "Call spock.delta_apply('{relation}', '{name}') on the provider, too; on a server without old values in WAL set \
         REPLICA IDENTITY FULL first. To take the column as any other, call it here with to_drop."
    ))
}

fn no_number(remote: &RemoteRelation, name: &str) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        format!(
            "column \"{name}\" of {} is to count, but one of its values is NULL or not finite",
            remote.subject.relation
        ),
    )
    .hint("Update the row here to a number, and give the column NOT NULL.")
}
