//! What an apply worker and the sync workers of its subscription tell each other, in their rows of the shared table: the
//! snapshot under which tables are copied, how far the stream is, that a table has caught up.
//!
//! # Invariants
//! 1. Nothing here outlives a process: what must survive is in `spock.local_sync_status`. After a restart both sides say
//!    again what they have to say.
//! 2. Whoever says that something is done wakes the one that waits for it; positions are looked at by whoever wants them.

use super::{OWN, Role, Row, SNAPSHOT_BYTES_MAX, WORKERS, is_sync_of, role_code, with_own};
use crate::pg::process;
use spock_core::types::{Lsn, SubId};

/// Hash of the table of this sync worker, 0 in any other process.
pub fn own_table() -> u32 {
    OWN.get().and_then(|index| WORKERS.read().get(index).map(|row| row.table)).unwrap_or(0)
}

/// This apply worker keeps the snapshot `name` alive, and wants its tables copied under it. `None`: not any more. Wakes the
/// manager, which starts sync workers.
pub fn offer_snapshot(name: Option<&str>) {
    let bytes = name.unwrap_or_default().as_bytes();
    let length = bytes.len().min(SNAPSHOT_BYTES_MAX - 1);
    with_own(|row| {
        row.snapshot = [0; SNAPSHOT_BYTES_MAX];
        row.snapshot[..length].copy_from_slice(&bytes[..length]);
    });
    wake_manager(process::own_database());
}

/// Lets the manager of the database look at what there is to do.
pub fn wake_manager(database: u32) {
    let pid = WORKERS.read().iter().find(|row| row.is(Role::Manager, database, 0)).map_or(0, |row| row.pid);
    wake(pid);
}

/// The snapshot that the apply worker of `sub` offers.
pub fn snapshot(database: u32, sub: SubId) -> Option<String> {
    let rows = WORKERS.read();
    let row = rows.iter().find(|row| row.is(Role::Apply, database, sub.get()) && row.pid != 0)?;
    let end = row.snapshot.iter().position(|byte| *byte == 0)?;
    (end > 0).then(|| String::from_utf8_lossy(&row.snapshot[..end]).into_owned())
}

/// This apply worker has handled everything up to `position` of the provider's WAL.
pub fn set_position(position: Option<Lsn>) {
    with_own(|row| row.position = Lsn::raw(position));
}

/// How far the apply worker of `sub` is. `None`: it does not run, or has not said.
pub fn apply_position(database: u32, sub: SubId) -> Option<Lsn> {
    let rows = WORKERS.read();
    rows.iter()
        .find(|row| row.is(Role::Apply, database, sub.get()) && row.pid != 0)
        .and_then(|row| Lsn::new(row.position))
}

/// Whether somebody has asked this apply worker to look at its tables since the last call.
pub fn take_attention() -> bool {
    let Some(index) = OWN.get() else { return false };
    if WORKERS.read().get(index).is_none_or(|row| row.attention == 0) {
        return false;
    }
    with_own(|row| row.attention = 0);
    true
}

/// Asks the apply worker of `sub` to look at its tables.
pub fn attend(database: u32, sub: SubId) {
    let mut pid = 0;
    if let Some(row) = WORKERS.write().iter_mut().find(|row| row.is(Role::Apply, database, sub.get())) {
        row.attention = 1;
        pid = row.pid;
    }
    wake(pid);
}

/// Whether the apply worker of `sub` has looked at its tables since [`attend`], or none runs: it will look when it starts.
pub fn has_attended(database: u32, sub: SubId) -> bool {
    let rows = WORKERS.read();
    let row = rows.iter().find(|row| row.is(Role::Apply, database, sub.get()) && row.pid != 0);
    row.is_none_or(|row| row.attention == 0)
}

/// This sync worker is as far as the apply worker.
pub fn caught_up() {
    with_own(|row| row.attention = 1);
}

fn sync_worker(rows: &[Row], database: u32, sub: SubId, table: u32) -> Option<&Row> {
    rows.iter().find(|row| is_sync_of(row, database, sub) && row.table == table && row.pid != 0)
}

/// The process that copies the table with that hash, if it has caught up.
pub fn has_caught_up(database: u32, sub: SubId, table: u32) -> Option<i32> {
    let rows = WORKERS.read();
    sync_worker(&rows, database, sub, table).filter(|row| row.attention != 0).map(|row| row.pid)
}

/// Lets the apply workers of the database look at what there is to do between two transactions.
pub fn wake_appliers(database: u32) {
    let of_us = |row: &&Row| row.role == role_code(Role::Apply) && row.database == database && row.pid != 0;
    let pids: Vec<i32> = WORKERS.read().iter().filter(of_us).map(|row| row.pid).collect();
    pids.into_iter().for_each(wake);
}

fn wake(pid: i32) {
    if pid != 0 {
        process::wake(pid);
    }
}
