//! Versions of rows that are not those of their transaction: rows that an apply worker added to or copied, each in a part
//! (subtransaction) with a commit time and node of its own. They matter where transactions of other nodes are sent on.
//!
//! # Invariants
//! 1. A row that was written outside of parts, or in a transaction of this node, costs one comparison and no byte.
//! 2. The version of a part is in commit data (a patched server) or in a row of `spock.row_version` before it (a stock one). Once
//!    the server has forgotten it, the row goes out with the version of its transaction.

use crate::pg::commits::Committing;
use crate::pg::decoding::{RowChange, Txn};
use crate::pg::latch;
use crate::pg::origin::commit_data;
use crate::pg::server::features;
use crate::pg::types::RowBuffer;
use spock_core::types::{OriginId, PgTime, Xid};
use spock_core::wire::row::{RowKind, RowVersion};
use std::time::Duration;

/// A commit is as good as done once its record can be read.
const COMMIT_POLL: Duration = Duration::from_millis(1);

/// Columns of `spock.row_version`.
mod columns {
    pub const WRITTEN_BY: u16 = 1;
    pub const COMMIT_TS: u16 = 2;
    pub const ORIGIN: u16 = 3;
}

/// What is known of parts of the transaction that is being sent.
pub struct RowVersions {
    /// The client has asked for them.
    wanted: bool,
    /// This node.
    here: OriginId,
    /// Parts by rows of `spock.row_version`.
    told: Vec<(Xid, RowVersion)>,
    /// The part that was asked about last.
    last: Option<(Xid, Option<RowVersion>)>,
    /// Rows are deleted because they are displaced.
    displacing: bool,
}

impl RowVersions {
    /// For a session of node `here`.
    pub fn new(wanted: bool, here: OriginId) -> Self {
        Self { wanted, here, told: Vec::new(), last: None, displacing: false }
    }

    /// A transaction begins.
    pub fn begin(&mut self) {
        self.told.clear();
        self.last = None;
        self.displacing = false;
    }

    /// A row of `spock.row_version` was written.
    pub fn told(&mut self, row: &mut RowBuffer, change: RowChange<'_>) {
        let (RowKind::Insert, Some(new), true) = (change.kind, change.new, self.wanted) else { return };
        let loaded = row.load(new, change.table);
        let (part, time) = (loaded.integer(columns::WRITTEN_BY), loaded.integer(columns::COMMIT_TS));
        let origin = loaded.oid(columns::ORIGIN).and_then(|origin| u16::try_from(origin).ok());
        if let (Some(part), Some(time), Some(origin)) = (part, time, origin) {
            // Rows have the lower half of the id.
            self.told.push((Xid(part as u32), self.version(time, origin)));
            self.last = None;
        }
    }

    /// Rows that are deleted from here on are displaced, or are not any more.
    pub fn displacing(&mut self, begins: bool) {
        self.displacing = begins;
    }

    /// Whether rows that are deleted now are not to be sent: the client displaces them by itself.
    pub fn leaves_out_deletes(&self) -> bool {
        self.displacing && self.wanted
    }

    /// Version of the rows of a part of `txn`, if it is another one than that of `txn`.
    pub fn of(&mut self, part: Xid, txn: Txn<'_>) -> Option<RowVersion> {
        // Sessions write no versions of others.
        if !self.wanted || txn.origin() == OriginId::LOCAL {
            return None;
        }
        match self.last {
            Some((last, version)) if last == part => version,
            _ => {
                let whole = RowVersion { time: txn.committed_at(), origin: txn.origin() };
                let version = self.look_up(part).filter(|version| *version != whole);
                self.last = Some((part, version));
                version
            }
        }
    }

    fn look_up(&self, part: Xid) -> Option<RowVersion> {
        if let Some((_, version)) = self.told.iter().rev().find(|(told, _)| *told == part) {
            return Some(*version);
        }
        if !features().subtransaction_commit_ts {
            return None;
        }
        let (time, origin) = commit_data(part.0).or_else(|| {
            // The commit record is read before its transaction has written its commit data.
            let mut committing = Committing::now();
            while !committing.are_done() {
                latch::wait(COMMIT_POLL);
            }
            commit_data(part.0)
        })?;
        Some(self.version(time, origin))
    }

    fn version(&self, time: i64, origin: u16) -> RowVersion {
        let origin = if OriginId(origin) == OriginId::LOCAL { self.here } else { OriginId(origin) };
        RowVersion { time: PgTime::from_micros(time), origin }
    }
}
