//! Rows with a version of their own: what came is older than its transaction says, or younger, because it was added to, or copied,
//! on its way. They are compared by that version, and written in a part of the transaction that has it.

use super::super::queue::Command;
use super::{Applier, out_of_order};
use crate::catalog::{deltas, topology};
use crate::error::Report;
use crate::pg::part::{PartVersion, with_version};
use spock_core::types::NodeId;
use spock_core::wire::Message;
use spock_core::wire::row::RowVersion;

const fn own_version(message: &Message<'_>) -> Option<RowVersion> {
    match message {
        Message::Insert(row) => row.version,
        Message::Update(row) => row.version,
        Message::Delete(row) => row.version,
        _ => None,
    }
}

impl Applier<'_> {
    /// Carries out a change. What it returns is to be carried out next.
    pub(super) fn apply_change(&mut self, message: &Message<'_>) -> Result<Option<Command>, Report> {
        match own_version(message) {
            None => self.apply_as_usual(message),
            Some(version) => self.apply_with(version, message),
        }
    }

    fn apply_with(&mut self, own: RowVersion, message: &Message<'_>) -> Result<Option<Command>, Report> {
        let node = NodeId::new(u32::from(own.origin.0)).ok_or_else(|| out_of_order("a row of node 0"))?;
        self.open()?;
        // User and settings are entered and left inside the part.
        self.leave_owner()?;
        if !self.versions.knows(node) {
            self.versions.learn(node, topology::node(node)?.as_ref());
        }
        let version = PartVersion { time: own.time.micros(), origin: self.versions.origin_of(node) };
        with_version(version, |part| {
            if !part.stamped {
                deltas::write_version(part.xid, own.time, version.origin)?;
            }
            self.versions.begin_row(part.xid, own.time, node);
            let done = self.apply_as_usual(message)?;
            self.leave_owner()?;
            self.relations.close_all();
            self.versions.end_row();
            Ok(done)
        })
    }
}
