//! Which version a row has: when and where it was written. What `spock_core::merge` compares.
//!
//! # Invariants
//! 1. The origin of a version is the node that wrote it, never the node that forwarded or merges it.
//! 2. The commit data of a transaction is looked up once for each run of rows that it wrote.

use crate::catalog::deltas;
use crate::catalog::topology::Node;
use crate::error::{OrRaise, Report};
use crate::pg::horizon::{FullXid, full_id};
use crate::pg::origin::{Writer, writer};
use crate::pg::server::features;
use crate::pg::tuple::Slot;
use crate::sync::copy::COPIED_AT_US;
use spock_core::merge::{Change, Known, Tiebreaker, Version, Write, decide};
use spock_core::types::{NodeId, PgTime};
use std::collections::BTreeMap;

/// Version of a row that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalVersion {
    /// Written by the transaction that is being applied.
    OwnTransaction,
    /// Written by a transaction whose commit data is kept.
    Known {
        /// Local transaction.
        xid: u32,
        /// Commit time where it was written.
        time: PgTime,
        /// Node where it was written.
        origin: NodeId,
    },
    /// Frozen, or its commit data is not kept any more: older than any known version.
    Unknown,
}

/// Compares rows that are here with the transaction that is being applied.
pub struct Versions {
    local: NodeId,
    tiebreakers: BTreeMap<NodeId, Tiebreaker>,
    /// Of what is being applied: the transaction, or a row with a version of its own.
    remote: Version,
    transaction: Version,
    /// The largest time of both since the transaction began.
    latest: PgTime,
    /// The transaction asked for last.
    last: Option<(u32, LocalVersion)>,
    /// The same of rows of tables with columns that count.
    last_counted: Option<(u32, LocalVersion)>,
    /// Parts of the open transaction, and the versions that their rows keep.
    parts: BTreeMap<u32, LocalVersion>,
}

impl Versions {
    /// For a worker of `local`, with what the catalog knows of `nodes`. `provider` stands for the origin until a
    /// transaction begins.
    pub fn new(local: &Node, nodes: &[Node], provider: NodeId) -> Self {
        let tiebreakers = nodes.iter().map(|node| (node.id, node.tiebreaker)).collect();
        let remote = Version { time: None, tiebreaker: Tiebreaker::of_node(provider), origin: provider };
        let latest = PgTime::from_micros(i64::MIN);
        Self {
            local: local.id,
            tiebreakers,
            remote,
            transaction: remote,
            latest,
            last: None,
            last_counted: None,
            parts: BTreeMap::new(),
        }
    }

    /// Whether the catalog was asked about `node` already.
    pub fn knows(&self, node: NodeId) -> bool {
        self.tiebreakers.contains_key(&node)
    }

    /// What the catalog says of a node that was not known when the worker started; `None`: nothing.
    pub fn learn(&mut self, id: NodeId, node: Option<&Node>) {
        self.tiebreakers.insert(id, node.map_or_else(|| Tiebreaker::of_node(id), |node| node.tiebreaker));
    }

    fn version(&self, time: Option<PgTime>, origin: NodeId) -> Version {
        let tiebreaker = self.tiebreakers.get(&origin).copied().unwrap_or_else(|| Tiebreaker::of_node(origin));
        Version { time, tiebreaker, origin }
    }

    /// A transaction committed at `time` on `origin` is applied from here on.
    pub fn begin(&mut self, time: PgTime, origin: NodeId) {
        self.remote = self.version(Some(time), origin);
        self.transaction = self.remote;
        self.latest = time;
        (self.last, self.last_counted) = (None, None);
        self.parts.clear();
    }

    /// A row of that version is applied until [`Versions::end_row`], by the part `xid` of the open transaction.
    pub fn begin_row(&mut self, xid: FullXid, time: PgTime, origin: NodeId) {
        self.remote = self.version(Some(time), origin);
        self.latest = self.latest.max(time);
        // The part's number in a row.
        self.keeps(xid, LocalVersion::Known { xid: xid.0 as u32, time, origin });
    }

    /// What follows is of the version of the transaction.
    pub fn end_row(&mut self) {
        self.remote = self.transaction;
    }

    /// Version of what the change adds to a row: not newer than the row.
    pub fn addition(&self) -> Version {
        self.remote.min(self.transaction)
    }

    /// Rows that the part `xid` of the open transaction writes keep `version`.
    pub fn keeps(&mut self, xid: FullXid, version: LocalVersion) {
        // The part's number in a row.
        self.parts.insert(xid.0 as u32, version);
    }

    /// Version of the row in `slot`, of a table with columns that count: where the server cannot keep versions of parts, they are in a
    /// table of ours.
    pub fn of_counted(&mut self, slot: &Slot) -> Result<LocalVersion, Report> {
        let version = self.of(slot);
        let LocalVersion::Known { xid, .. } = version else { return Ok(version) };
        if features().subtransaction_commit_ts || self.parts.contains_key(&xid) {
            return Ok(version);
        }
        if let Some((last, version)) = self.last_counted
            && last == xid
        {
            return Ok(version);
        }
        let version = match deltas::version_of(full_id(xid))? {
            Some((time, origin)) => LocalVersion::Known { xid, time, origin: self.node_of(origin) },
            None => version,
        };
        self.last_counted = Some((xid, version));
        Ok(version)
    }

    fn node_of(&self, origin: u16) -> NodeId {
        NodeId::new(u32::from(origin)).unwrap_or(self.local)
    }

    /// What commit data of this node has as the origin of a version.
    pub fn origin_of(&self, node: NodeId) -> u16 {
        if node == self.local { 0 } else { node.wire() }
    }

    /// Version of the row in `slot`, which was read from a table.
    pub fn of(&mut self, slot: &Slot) -> LocalVersion {
        slot.writer().map_or(LocalVersion::Unknown, |xid| self.of_transaction(xid))
    }

    /// Version of what transaction `xid` wrote or removed, in the order of versions.
    pub fn of_writer(&mut self, xid: u32) -> Version {
        let version = self.of_transaction(xid);
        self.ranked(version)
    }

    /// Version of what transaction `xid` wrote or removed.
    pub fn of_transaction(&mut self, xid: u32) -> LocalVersion {
        if let Some((last, version)) = self.last
            && last == xid
        {
            return version;
        }
        let version = if let Some(version) = self.parts.get(&xid) {
            *version
        } else {
            match writer(xid) {
                Writer::Own => LocalVersion::OwnTransaction,
                // Of a copied row: it may be one that kept its version.
                Writer::Committed(COPIED_AT_US, origin) if !features().subtransaction_commit_ts => {
                    let kept = deltas::version_of(full_id(xid)).or_raise();
                    let (time, origin) = kept.unwrap_or((PgTime::from_micros(COPIED_AT_US), origin));
                    LocalVersion::Known { xid, time, origin: self.node_of(origin) }
                }
                Writer::Committed(time, origin) => {
                    LocalVersion::Known { xid, time: PgTime::from_micros(time), origin: self.node_of(origin) }
                }
                Writer::Forgotten => LocalVersion::Unknown,
            }
        };
        self.last = Some((xid, version));
        version
    }

    /// Whether a TRUNCATE of the transaction that is being applied takes a row of version `local`.
    pub fn truncates(&self, local: LocalVersion) -> bool {
        let known = Known::of_row(self.ranked(local), false);
        decide(&known, Change::Truncate, &self.remote).write == Write::Delete
    }

    /// Version of the transaction, or the row, that is being applied.
    pub fn remote(&self) -> Version {
        self.remote
    }

    /// Its time.
    pub fn remote_time(&self) -> PgTime {
        self.remote.time.unwrap_or(PgTime::from_micros(0))
    }

    /// A time that nothing which was applied since the transaction began is later than.
    pub fn latest_time(&self) -> PgTime {
        self.latest
    }

    /// It as one of the core's.
    pub fn ranked(&self, local: LocalVersion) -> Version {
        match local {
            LocalVersion::OwnTransaction => self.transaction,
            LocalVersion::Unknown => self.version(None, self.local),
            LocalVersion::Known { time, origin, .. } => self.version(Some(time), origin),
        }
    }
}
