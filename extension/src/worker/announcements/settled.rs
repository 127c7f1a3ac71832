//! What a node that copies from here asks: which rows are older than all that can still arrive. It waits for the others to say
//! that they have what is here, see [`super`]; `spock_core::settled` says what follows for the copy.

use super::{Cause, Members, Sample, Stream, Verdict};
use crate::catalog::topology;
use crate::error::Report;
use crate::pg::scope::Txn;
use crate::pg::{horizon, latch, origin, process};
use crate::worker::registry;
use spock_core::merge::stability::Applied;
use spock_core::settled::Settled;
use spock_core::types::{Lsn, NodeId, SubId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An answer serves whoever asks within this time: the tables of a subscription are copied one by one.
const SERVES_US: i64 = 10_000_000;
/// Between two looks at what the others have said.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What is known of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This is.
    Settled(Settled),
    /// A node has not said yet how far it is.
    NotYet,
    /// A node cannot say, or is not read.
    Unknown,
}

/// Waits, at most for `wait`, until all that transactions which have ended by now wrote or removed is older than anything that
/// can still arrive from another node than `beside`. Raises when it is cancelled.
///
/// # Errors
/// As for [`super::sample()`].
pub fn settled(beside: Option<NodeId>, wait: Duration) -> Result<Answer, Report> {
    let started = Instant::now();
    let database = process::own_database();
    // What one node asked for was not waited for of that node itself: to another one it says too much.
    let asked_by = beside.map_or(0, NodeId::get);
    let answered =
        |own: &&super::Holder| (own.database, own.settled_for) == (database, asked_by) && own.settled_at != 0;
    let known = super::HOLDERS.read().iter().find(answered).copied();
    if let Some(known) = known.filter(|own| process::now().micros().saturating_sub(own.settled_at) < SERVES_US) {
        let read = read_far(&Members::read()?, &super::streams());
        return Ok(Answer::Settled(Settled { before: known.settled_before, read }));
    }
    let (mut before, mut sample) = (horizon::oldest_running(), ask()?);
    loop {
        // Who keeps tombstones may have cleared it.
        super::set_holding(true);
        let members = Members::read()?;
        let streams = super::streams();
        match super::judge(&members, &streams, &sample, beside) {
            Verdict::Stable => {
                super::with_holder(database, |own| {
                    own.settled_before = before.0;
                    own.settled_at = process::now().micros();
                    own.settled_for = asked_by;
                });
                return Ok(Answer::Settled(Settled { before: before.0, read: read_far(&members, &streams) }));
            }
            // Its stream had just begun then.
            Verdict::Unknown(_, Cause::NotSampled) => (before, sample) = (horizon::oldest_running(), ask()?),
            Verdict::Unknown(_, Cause::NoPosition) | Verdict::WaitsFor(_) => {}
            // Its changes wait for longer than anybody would wait here.
            Verdict::Unknown(_, Cause::Disabled | Cause::Parked) => return Ok(Answer::NotYet),
            Verdict::Unknown(_, Cause::NotRead | Cause::Forwards | Cause::Silent | Cause::Stranger) => {
                return Ok(Answer::Unknown);
            }
        }
        if started.elapsed() >= wait {
            return Ok(Answer::NotYet);
        }
        latch::wait(LOOK_INTERVAL);
        latch::check_interrupts();
    }
}

/// How far the others have been read, what they announced included.
fn read_far(members: &Members, streams: &BTreeMap<SubId, Stream>) -> Applied {
    let mut read = super::applied_here(members, streams);
    for reading in &members.readings {
        if let Some(at) = streams.get(&reading.sub).and_then(|stream| Lsn::new(stream.heard_at)) {
            read.advance(reading.provider, at);
        }
    }
    read
}

/// A sample of which the others hear. Who holds tombstones says again that it does, or that it does not.
fn ask() -> Result<Sample, Report> {
    super::set_holding(true);
    let sample = super::sample()?;
    registry::wake_manager(process::own_database());
    Ok(sample)
}

/// How far this node has read each node that it has a subscription to, disabled ones too, but `beside`. `None`: nothing was read
/// yet. In the open transaction, or in one of its own.
///
/// # Errors
/// As for [`super::sample()`].
pub fn read_here(beside: NodeId) -> Result<Vec<(NodeId, Option<Lsn>)>, Report> {
    let own = (!Txn::is_open()).then(Txn::begin);
    let local = topology::require_local_node()?.node.id;
    let subscriptions = topology::subscriptions_of(local)?;
    let positions: Vec<_> = subscriptions
        .iter()
        .filter(|sub| sub.origin.id != beside)
        .map(|sub| (sub.origin.id, sub.id, origin::by_name(&sub.slot_name).and_then(origin::committed_position)))
        .collect();
    if let Some(own) = own {
        own.commit();
    }
    let streams = super::streams();
    let mut read: BTreeMap<NodeId, Option<Lsn>> = BTreeMap::new();
    for (node, sub, committed) in positions {
        let at = committed.max(streams.get(&sub).and_then(|stream| Lsn::new(stream.position)));
        let place = read.entry(node).or_insert(at);
        // Another subscription to the node that has read nothing begins where the provider is.
        *place = if place.is_none() || at.is_none() { at.max(*place) } else { at.min(*place) };
    }
    Ok(read.into_iter().collect())
}
