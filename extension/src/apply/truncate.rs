//! TRUNCATE of another node: a DELETE of all rows that are older than it.
//!
//! # Invariants
//! 1. Rows that were written later stay, whatever the order in which nodes hear of them.
//! 2. A table without such rows is emptied as the server does it, whatever its size.

use super::displace;
use super::version::Versions;
use crate::error::Report;
use crate::pg::dead_rows::{delete_row, each_row};
use crate::pg::deletes::{self, Removed};
use crate::pg::heap;
use crate::pg::relation::{Kind, Table};
use crate::pg::tuple::Slot;

/// Empties `tables`, which are locked against everybody, of what is older than the transaction that is being applied.
/// `others`: nodes beside the provider and this one may still send rows that are older.
pub fn empty(tables: Vec<Table>, versions: &mut Versions, restart_sequences: bool, others: bool) -> Result<(), Report> {
    for table in &tables {
        displace::truncate(table.id().get(), versions)?;
    }
    let (partly, whole): (Vec<Table>, Vec<Table>) =
        tables.into_iter().partition(|table| table.kind() == Kind::Table && has_newer(table, versions));
    for table in &partly {
        delete_older(table, versions);
    }
    if others {
        for table in partly.iter().chain(&whole) {
            deletes::note(Removed { table: table.id().get(), truncated: true, remembered: false });
        }
    }
    if !whole.is_empty() {
        heap::truncate(&whole, restart_sequences);
    }
    Ok(())
}

fn has_newer(table: &Table, versions: &mut Versions) -> bool {
    let slot = Slot::for_table(table);
    let mut newer = false;
    each_row(table, &slot, |row| {
        let version = versions.of(row);
        newer = !versions.truncates(version);
        !newer
    });
    newer
}

fn delete_older(table: &Table, versions: &mut Versions) {
    let slot = Slot::for_table(table);
    each_row(table, &slot, |row| {
        let version = versions.of(row);
        if versions.truncates(version) {
            delete_row(table, row);
        }
        true
    });
}
