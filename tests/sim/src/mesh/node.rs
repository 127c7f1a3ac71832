//! A server: what is committed, what of it is durable, and what a crash leaves.
//!
//! # Invariants
//! 1. A record is durable together with all before it. Rows and the position of their origin are one record.
//! 2. Positions of the WAL are given again after a crash took them back; nobody else has seen those.

use crate::model::{node_id, version};
use crate::replica::{Op, Replica, Txn};
use crate::rule::Rule;
use spock_core::merge::stability::{Applied, Mark};
use spock_core::types::{Lsn, NodeId};
use std::collections::BTreeSet;

/// A transaction on its way, with the out-of-line values that its provider had no more when it was sent.
#[derive(Debug, Clone)]
pub struct Message {
    /// As its node committed it.
    pub txn: Txn,
    /// Values that are missing.
    pub gone: BTreeSet<u16>,
}

/// One server.
#[derive(Debug)]
pub struct Node {
    index: usize,
    /// What is committed.
    pub replica: Replica,
    /// How far its system clock is from the true time.
    pub skew: i64,
    /// What a crash leaves.
    durable: Replica,
    /// Records after that.
    unflushed: Vec<Message>,
    /// Own transactions, in the order of the WAL; of these the first `sendable` are durable.
    own: Vec<Txn>,
    sendable: usize,
    /// End of the WAL.
    end: u64,
    flushed: u64,
}

impl Node {
    /// An empty server in a cluster of the first `members` nodes.
    pub fn new(index: usize, members: usize) -> Self {
        let replica = Replica::new(node_id(index), (0..members).filter(|node| *node != index).map(node_id));
        let durable = replica.clone();
        Self {
            index,
            replica,
            skew: 0,
            durable,
            unflushed: Vec::new(),
            own: Vec::new(),
            sendable: 0,
            end: 1,
            flushed: 1,
        }
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.replica.node
    }

    /// Own transactions that may be sent.
    pub fn sendable(&self) -> &[Txn] {
        &self.own[..self.sendable]
    }

    /// How far its WAL is durable.
    pub fn flushed(&self) -> Option<Lsn> {
        Lsn::new(self.flushed)
    }

    /// The transaction that a commit of `ops` at `now` would be: later than all that is held, whatever the system clock says.
    pub fn txn(&self, now: i64, ops: Vec<Op>) -> Txn {
        let time = (now + self.skew).max(self.replica.clock + 1);
        let at = Lsn::new(self.end + 1).expect("not zero");
        let mark = Mark { version: version(time, self.index), at };
        Txn { mark, ops, applied: self.replica.applied.clone() }
    }

    /// A user commits.
    pub fn commit(&mut self, now: i64, ops: Vec<Op>, durable: bool, rule: &Rule) {
        let txn = self.txn(now, ops);
        self.own.push(txn.clone());
        self.apply(Message { txn, gone: BTreeSet::new() }, rule);
        if durable {
            self.flush(rule);
        }
    }

    /// Applies a transaction. Returns the number of conflicts and the end of the commit record.
    pub fn apply(&mut self, message: Message, rule: &Rule) -> (u64, Lsn) {
        self.end += 1;
        let conflicts = self.replica.apply(&message.txn, rule, |large| message.gone.contains(&large)).len();
        self.unflushed.push(message);
        (conflicts as u64, Lsn::new(self.end).expect("not zero"))
    }

    /// All that is committed becomes durable.
    pub fn flush(&mut self, rule: &Rule) {
        for message in self.unflushed.drain(..) {
            self.durable.apply(&message.txn, rule, |large| message.gone.contains(&large));
        }
        self.flushed = self.end;
        self.sendable = self.own.len();
    }

    /// The server is killed, and started again.
    pub fn crash(&mut self) {
        self.replica = self.durable.clone();
        self.unflushed.clear();
        self.own.truncate(self.sendable);
        self.end = self.flushed;
    }

    /// Takes a new member in, if nothing was let go that it lacks.
    pub fn admit(&mut self, node: NodeId, applied: &Applied) -> bool {
        if !self.replica.stability.admits(applied) {
            return false;
        }
        for replica in [&mut self.replica, &mut self.durable] {
            replica.stability.join(node, applied.clone());
        }
        true
    }

    /// Starts with a copy.
    pub fn begin_with(&mut self, copy: Replica) {
        self.durable = copy.clone();
        self.replica = copy;
    }
}
