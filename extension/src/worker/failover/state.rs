//! What the worker shows of itself: a table in shared memory that `spock.failover_slot_status()` reads.
//!
//! # Invariants
//! 1. Row 0 is the worker, the rows behind it are slots of the primary in the order of their names.
//! 2. A row that does not change keeps its time.

use crate::pg::process;
use crate::pg::shmem::{SharedTable, shareable};
use spock_core::failover::standby::{Condition, Wait};
use spock_core::types::{Lsn, PgTime};

/// Longest name of a slot, and its end.
const NAME_BYTES: usize = 64;

shareable! {
    /// One row; all zero is a free one.
    struct Row {
        used: u32,
        /// Row 0: a [`Condition`]; others: a [`Wait`].
        state: u32,
        ready: u32,
        padding: u32,
        restart: u64,
        confirmed: u64,
        since: i64,
        name: [u8; NAME_BYTES],
    }
}

const FREE: Row =
    Row { used: 0, state: 0, ready: 0, padding: 0, restart: 0, confirmed: 0, since: 0, name: [0; NAME_BYTES] };

static STATES: SharedTable<Row> =
    SharedTable::new(c"spock_failover_slots", || 1 + process::max_replication_slots(), |_| {});

/// One slot of the primary, as it stands here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotState {
    /// Its name.
    pub name: String,
    /// What it waits for.
    pub wait: Wait,
    /// It would outlive a promotion now.
    pub ready: bool,
    /// Where decoding starts here.
    pub restart: Option<Lsn>,
    /// What is confirmed here.
    pub confirmed: Option<Lsn>,
}

/// Asks for the shared memory. Only while the server preloads libraries.
pub fn reserve() {
    STATES.reserve();
}

fn number<T: PartialEq>(all: &[T], one: T) -> u32 {
    all.iter().position(|state| *state == one).unwrap_or_default() as u32
}

/// Shows what the worker does and how the slots stand.
pub fn report(condition: Condition, slots: &[SlotState]) {
    let now = process::now().micros();
    let mut rows = STATES.write();
    let Some((first, others)) = rows.split_first_mut() else { return };
    put(first, Row { used: 1, state: number(&Condition::ALL, condition), ..FREE }, now);
    for (place, row) in others.iter_mut().enumerate() {
        match slots.get(place) {
            Some(slot) => put(row, row_of(slot), now),
            None => *row = FREE,
        }
    }
}

fn row_of(slot: &SlotState) -> Row {
    let mut row = Row {
        used: 1,
        state: number(&Wait::ALL, slot.wait),
        ready: u32::from(slot.ready),
        restart: Lsn::raw(slot.restart),
        confirmed: Lsn::raw(slot.confirmed),
        ..FREE
    };
    for (place, byte) in row.name.iter_mut().zip(slot.name.bytes().take(NAME_BYTES - 1)) {
        *place = byte;
    }
    row
}

fn put(row: &mut Row, new: Row, now: i64) {
    let same = row.used == new.used && row.state == new.state && row.ready == new.ready && row.name == new.name;
    let since = if same { row.since } else { now };
    *row = Row { since, ..new };
}

/// The worker ends.
pub fn clear() {
    STATES.write().fill(FREE);
}

/// What the worker does, and since when. `None`: there is none.
pub fn worker() -> Option<(Condition, PgTime)> {
    let rows = STATES.read();
    let row = rows.first().filter(|row| row.used != 0)?;
    Some((*Condition::ALL.get(row.state as usize)?, PgTime::from_micros(row.since)))
}

/// How the slots stand, and since when.
pub fn slots() -> Vec<(SlotState, PgTime)> {
    let rows = STATES.read();
    let used = rows.iter().skip(1).filter(|row| row.used != 0);
    used.filter_map(|row| {
        let length = row.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        let state = SlotState {
            name: String::from_utf8_lossy(&row.name[..length]).into_owned(),
            wait: *Wait::ALL.get(row.state as usize)?,
            ready: row.ready != 0,
            restart: Lsn::new(row.restart),
            confirmed: Lsn::new(row.confirmed),
        };
        Some((state, PgTime::from_micros(row.since)))
    })
    .collect()
}
