//! Where this node is ahead of its provider: what is emptied here, to be copied again, has to be at the provider first. No stream
//! brings it a second time: this node's own writes come back from nobody, and those of other nodes are behind our positions.
//!
//! # Invariants
//! 1. Nothing is waited for that cannot arrive: what the provider does not subscribe to is told in the log.

use super::provider::Session;
use crate::catalog::topology::{self, Subscription};
use crate::compare::cut::{self, Positions};
use crate::error::Report;
use crate::pg::raise::log_line;
use crate::pg::{latch, message};
use pgrx::PgSqlErrorCode;
use spock_core::types::{Lsn, NodeId};
use spock_core::wire::control::Payload;
use std::time::{Duration, Instant};

/// How long the provider may need in all.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks: a few times what a marker needs on one machine.
const POLL: Duration = Duration::from_millis(20);

/// The wait for one provider.
pub struct Ahead<'s> {
    subscription: &'s Subscription,
    session: Session,
    started: Instant,
}

impl<'s> Ahead<'s> {
    /// Asks in `session`, which is one with the provider of `subscription`.
    pub fn new(subscription: &'s Subscription, session: Session) -> Self {
        Self { subscription, session, started: Instant::now() }
    }

    /// Waits until the provider has applied what this node has now, as far as it subscribes to who wrote it. 55P03 when it has not
    /// within a minute of [`Ahead::new`], 55000 when it has parked something, which would not be copied. Inside a transaction.
    pub fn wait(&mut self) -> Result<(), Report> {
        let Subscription { target, origin, .. } = self.subscription;
        let mut ours = cut::furthest_positions()?;
        ours.retain(|node, at| *node != origin.id.get() && *at > 0);
        let own = message::write_flushed(&Payload::SyncEvent { origin: Some(target.id) }.to_bytes(), false);
        ours.insert(target.id.get(), Lsn::raw(own));
        self.session.require_nothing_parked()?;
        let mut first = true;
        loop {
            let theirs = cut::positions_of(&mut self.session)?;
            if first {
                first = false;
                self.tell_of_strangers(&ours, &theirs)?;
            }
            let behind = |(node, at): &(&u32, &u64)| theirs.get(node).is_some_and(|reached| reached < at);
            let Some((node, _)) = ours.iter().find(behind) else { return Ok(()) };
            if self.started.elapsed() >= LIMIT {
                return Err(self.late(*node));
            }
            latch::wait(POLL);
            latch::check_interrupts();
        }
    }

    fn tell_of_strangers(&self, ours: &Positions, theirs: &Positions) -> Result<(), Report> {
        let Subscription { name, target, origin, .. } = self.subscription;
        for node in ours.keys().filter(|node| **node != target.id.get() && !theirs.contains_key(*node)) {
            log_line(format!(
                "subscription \"{name}\": node \"{}\" does not subscribe to node \"{}\": what only that one has written is not copied",
                origin.name,
                node_name(*node)?
            ));
        }
        Ok(())
    }

    fn late(&self, node: u32) -> Report {
        let who = match node_name(node) {
            Ok(name) => name,
            Err(report) => return report,
        };
        Report::new(
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            format!(
                "node \"{}\" has not applied what this node has of node \"{who}\" within {} s",
                self.subscription.origin.name,
                LIMIT.as_secs()
            ),
        )
        .detail("Emptying tables here would lose it.")
        .hint("See spock.sub_worker_status() there. With \"truncate\" off nothing is emptied.")
    }
}

fn node_name(node: u32) -> Result<String, Report> {
    let known = NodeId::new(node).map(topology::node).transpose()?.flatten();
    Ok(known.map_or_else(|| node.to_string(), |node| node.name))
}
