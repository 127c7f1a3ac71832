//! Which tables have displaced rows, and whether something changed there that may let one of them come back: what all processes
//! share. Between whoever changes a table (any session, any apply worker) and the apply worker that looks at displaced rows.
//!
//! ```text
//! apply displaces a row ─► row in spock.displaced_row ─► table marked ─► commit
//! anybody changes rows of a marked table ─► commit ─► change counted, apply workers woken ─► the first one looks
//! nothing displaced any more ─► mark taken away, while nobody can write spock.displaced_row
//! ```
//!
//! # Invariants
//! 1. A table is marked before anybody can see that a row of it was displaced. A mark too many costs a look.
//! 2. A change is counted after it can be seen. What is missed (a transaction that was prepared, a mark that came while a
//!    statement ran) is found by the look that apply workers take from time to time.
//! 3. After a restart nothing is marked until the first apply worker has read the table.

use crate::pg::changed::{self, Watcher};
use crate::pg::process;
use crate::pg::shmem::{SharedTable, shareable};
use crate::worker::registry;
use core::sync::atomic::{AtomicU32, Ordering};

/// Tables that are told apart, of all databases. Beyond that every table counts as marked.
const MARKS_MAX: usize = 256;

shareable! {
    /// A table with displaced rows.
    struct Mark {
        database: u32,
        /// 0: the place is free.
        table: u32,
        /// Grows with each transaction that changed the table.
        changes: u32,
        /// [`Mark::changes`] when somebody last looked.
        looked: u32,
    }
}

const FREE: Mark = Mark { database: 0, table: 0, changes: 0, looked: 0 };

/// Numbers that are read without a lock.
#[derive(Clone, Copy)]
enum Number {
    /// Changes whenever a table is marked, or its mark taken away, in whatever database.
    Epoch,
    /// Marked tables of all databases.
    Marked,
    /// Not 0: there is no place for marks, all tables count as marked.
    All,
    /// Changes whenever a marked table was changed.
    Changes,
}

static MARKS: SharedTable<Mark> = SharedTable::new(c"spock_displaced_marks", || MARKS_MAX, |_| {});
static NUMBERS: SharedTable<AtomicU32> = SharedTable::new(c"spock_displaced_numbers", || 4, |_| {});

fn number(which: Number) -> u32 {
    NUMBERS.cells().get(which as usize).map_or(0, |cell| cell.load(Ordering::Acquire))
}

fn add(which: Number, by: u32) {
    if let Some(cell) = NUMBERS.cells().get(which as usize) {
        cell.fetch_add(by, Ordering::Release);
    }
}

/// Reserves shared memory, and asks to be told of changes. Once, while the library is loaded.
pub fn init() {
    MARKS.reserve();
    NUMBERS.reserve();
    changed::install(Watcher { watches: is_marked, on_changed: changed });
}

/// Changes whenever the answer of [`is_marked`] may.
pub fn epoch() -> u32 {
    number(Number::Epoch)
}

/// Whether rows of any table, in whatever database, may be displaced.
pub fn is_any() -> bool {
    number(Number::Marked) != 0 || number(Number::All) != 0
}

/// Whether rows of `table` in this database may be displaced.
pub fn is_marked(table: u32) -> bool {
    if !is_any() {
        return false;
    }
    let database = process::own_database();
    number(Number::All) != 0 || MARKS.read().iter().any(|mark| mark.table == table && mark.database == database)
}

/// Marks `table` of this database. After its row was written to `spock.displaced_row`, before the commit.
pub fn mark(table: u32) {
    let database = process::own_database();
    let mut marks = MARKS.write();
    if marks.iter().any(|mark| mark.table == table && mark.database == database) {
        return;
    }
    match marks.iter_mut().find(|mark| mark.table == 0) {
        Some(place) => {
            *place = Mark { database, table, ..FREE };
            add(Number::Marked, 1);
        }
        None => add(Number::All, 1),
    }
    add(Number::Epoch, 1);
}

/// Takes the marks away of this database's tables that `has_rows` denies. Only while nobody can write `spock.displaced_row`.
pub fn unmark(has_rows: impl Fn(u32) -> bool) {
    let database = process::own_database();
    let mut gone = 0;
    for mark in MARKS.write().iter_mut().filter(|mark| mark.table != 0 && mark.database == database) {
        if !has_rows(mark.table) {
            *mark = FREE;
            gone += 1;
        }
    }
    if gone > 0 {
        add(Number::Marked, 0_u32.wrapping_sub(gone));
        add(Number::Epoch, 1);
    }
}

/// Transactions that have changed these tables of this database are committed.
fn changed(tables: &[u32]) {
    let database = process::own_database();
    for mark in MARKS.write().iter_mut().filter(|mark| mark.database == database && tables.contains(&mark.table)) {
        mark.changes = mark.changes.wrapping_add(1);
    }
    add(Number::Changes, 1);
    registry::wake_appliers(database);
}

/// Changes whenever [`take_changed`] may have something new.
pub fn changes() -> u32 {
    number(Number::Changes)
}

/// Marked tables of this database that were changed since somebody asked. The caller looks at them.
pub fn take_changed() -> Vec<u32> {
    let database = process::own_database();
    let mut tables = Vec::new();
    for mark in MARKS.write().iter_mut().filter(|mark| mark.table != 0 && mark.database == database) {
        if mark.changes != mark.looked {
            mark.looked = mark.changes;
            tables.push(mark.table);
        }
    }
    tables
}
