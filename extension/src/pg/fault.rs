//! Fault points: places where a test can let the server crash. Off unless `spock.fault_point` names one.
//!
//! # Invariants
//! 1. An armed point kills the process with SIGKILL, as a crash does: no clean-up, no message. [`ANNOUNCEMENT_PROBE`] alone
//!    kills nobody.
//! 2. Every point is armed by a test.

use crate::settings;

/// A place where the server can be made to crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPoint(&'static str);

/// The provider has the slot, this node knows nothing of it.
pub const SYNC_AFTER_SLOT: FaultPoint = FaultPoint("SYNC_AFTER_SLOT");
/// Origin and states are written, nothing is copied.
pub const SYNC_BEGUN: FaultPoint = FaultPoint("SYNC_BEGUN");
/// The structure is dumped, not made.
pub const SYNC_STRUCTURE_DUMPED: FaultPoint = FaultPoint("SYNC_STRUCTURE_DUMPED");
/// The first section of the structure is here.
pub const SYNC_STRUCTURE_RESTORED: FaultPoint = FaultPoint("SYNC_STRUCTURE_RESTORED");
/// Rows of a table are copied, not committed.
pub const SYNC_TABLE_UNCOMMITTED: FaultPoint = FaultPoint("SYNC_TABLE_UNCOMMITTED");
/// All tables are copied.
pub const SYNC_TABLES_COPIED: FaultPoint = FaultPoint("SYNC_TABLES_COPIED");
/// Indexes and constraints are here.
pub const SYNC_CONSTRAINED: FaultPoint = FaultPoint("SYNC_CONSTRAINED");
/// A single table has its slot, nothing is copied.
pub const SYNC_TABLE_SLOT: FaultPoint = FaultPoint("SYNC_TABLE_SLOT");
/// A single table is copied and waits for the apply worker.
pub const SYNC_TABLE_COPIED: FaultPoint = FaultPoint("SYNC_TABLE_COPIED");
/// The apply worker has told a single table how far to go.
pub const SYNC_TABLE_TARGET: FaultPoint = FaultPoint("SYNC_TABLE_TARGET");
/// A single table is complete, its slot still there.
pub const SYNC_TABLE_DONE: FaultPoint = FaultPoint("SYNC_TABLE_DONE");
/// All of a transaction is applied, nothing of its commit is written.
pub const APPLY_UNCOMMITTED: FaultPoint = FaultPoint("APPLY_UNCOMMITTED");
/// The position behind a transaction is on disk, its commit is not.
pub const APPLY_ANNOUNCED: FaultPoint = FaultPoint("APPLY_ANNOUNCED");
/// The commit of a transaction is on disk, and nobody knows of it.
pub const APPLY_COMMITTED: FaultPoint = FaultPoint("APPLY_COMMITTED");
/// A transaction is parked, not committed.
pub const PARK_UNCOMMITTED: FaultPoint = FaultPoint("PARK_UNCOMMITTED");
/// A transaction is parked, and its commit is on disk.
pub const PARK_COMMITTED: FaultPoint = FaultPoint("PARK_COMMITTED");
/// A parked transaction is applied, not committed.
pub const REPLAY_UNCOMMITTED: FaultPoint = FaultPoint("REPLAY_UNCOMMITTED");
/// A parked transaction is applied, and its commit is on disk.
pub const REPLAY_COMMITTED: FaultPoint = FaultPoint("REPLAY_COMMITTED");

/// The manager takes one sample, as if tombstones were held, and logs what becomes of it
/// ([`crate::worker::announcements`]).
pub const ANNOUNCEMENT_PROBE: FaultPoint = FaultPoint("ANNOUNCEMENT_PROBE");

/// Whether the point is armed.
pub fn is_armed(point: FaultPoint) -> bool {
    settings::fault_point().is_some_and(|armed| armed.to_bytes() == point.0.as_bytes())
}

/// Dies here if the point is armed.
pub fn point(point: FaultPoint) {
    if is_armed(point) {
        // SAFETY: ends this process at once, which is the purpose.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

/// As [`point`], once everything that this process has written to WAL is on disk: what comes after the crash must know of it.
pub fn point_after_flush(which: FaultPoint) {
    if settings::fault_point().is_some_and(|armed| armed.to_bytes() == which.0.as_bytes()) {
        // SAFETY: flushes WAL that was written before; outside a critical section. Zero: the transaction has ended.
        unsafe {
            let open = pgrx::pg_sys::XactLastRecEnd;
            pgrx::pg_sys::XLogFlush(if open == 0 { pgrx::pg_sys::XactLastCommitEnd } else { open });
        }
        point(which);
    }
}
