//! TRUNCATE of another node: a DELETE of all rows that are older than it.
//!
//! # Invariants
//! 1. Rows that were written later stay, whatever the order in which nodes hear of them.
//! 2. A table without such rows is emptied as the server does it, whatever its size.

use super::displace;
use super::version::Versions;
use crate::catalog::deltas;
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
    let (mut partly, mut whole) = (Vec::new(), Vec::new());
    for table in tables {
        let outlived = table.kind() == Kind::Table && delete_some(&table, versions)?;
        if outlived { partly.push(table) } else { whole.push(table) }
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

/// Deletes the older rows of a table that has newer ones, too. False: it has none, and nothing was deleted.
fn delete_some(table: &Table, versions: &mut Versions) -> Result<bool, Report> {
    let counts = !deltas::columns(table.id().get())?.is_empty();
    let goes = |versions: &mut Versions, row: &Slot| -> Result<bool, Report> {
        let version = if counts { versions.of_counted(row)? } else { versions.of(row) };
        Ok(versions.truncates(version))
    };
    let slot = Slot::for_table(table);
    let mut all = Ok(true);
    each_row(table, &slot, |row| {
        all = goes(versions, row);
        matches!(all, Ok(true))
    });
    if all? {
        return Ok(false);
    }
    let mut done = Ok(());
    each_row(table, &slot, |row| {
        done = goes(versions, row).map(|goes| {
            if goes {
                delete_row(table, row);
            }
        });
        done.is_ok()
    });
    done.map(|()| true)
}
