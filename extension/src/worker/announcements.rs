//! What nodes tell each other of how far they are, so that tombstones can go: [`spock_core::merge::stability`] is the rule,
//! [`spock_core::wire::announcement`] the message, this the memory between them.
//!
//! ```text
//! provider's stream ─► apply worker ─► positions, announcements, requests (here) ─► manager: sample(), verdict()
//!                                                                                └► manager: its own announcement ─► WAL ─► all others
//! ```
//! Whoever holds tombstones takes a [`sample`] of how far this node is, then asks for its [`verdict`] until it is stable: then
//! nothing older than what was here when the sample was taken can arrive any more. A sample makes this node ask the others, once,
//! to announce that they are as far; so nothing is written anywhere while nobody holds tombstones, nor while a question is open.
//!
//! # Invariants
//! 1. A position is told between two frames, when everything up to it is committed here, and not while a table of the
//!    subscription is being copied: changes of that table are left out meanwhile.
//! 2. An announcement counts once every enabled subscription to its sender has passed it in its own stream.
//! 3. In doubt nothing is stable: a node that is known here and not read directly, or not by every subscription,
//!    or that forwards, or that cannot announce, and an origin that is applied elsewhere and unknown here, all make the verdict [`Verdict::Unknown`].
//! 4. Nothing here survives a restart of the server. What was announced is asked for again.
//!
//! # Not here
//! Tombstones, and when one goes by its age. Joining: who may become a member ([`Stability::admits`]).

mod announcer;
mod settled;

pub use announcer::Announcer;
pub use settled::{Answer, read_here, settled};

use crate::catalog::parked;
use crate::catalog::topology::{self, Subscription};
use crate::error::Report;
use crate::pg::origin::{self, OriginNumber};
use crate::pg::scope::Txn;
use crate::pg::shmem::{self, SharedTable, shareable};
use crate::pg::{process, session};
use crate::settings;
use crate::worker::registry;
use core::fmt;
use spock_core::merge::Tiebreaker;
use spock_core::merge::stability::{Applied, Cause, Mark, Stability};
use spock_core::merge::version::Version;
use spock_core::types::{Lsn, NodeId, PgTime, SubId};
use spock_core::wire::announcement::{Announcement, POSITIONS_MAX};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Streams and databases that are remembered at least.
const ROWS_MIN: usize = 64;

shareable! {
    /// Positions by origin, without order. What is beyond `count` means nothing.
    struct Vector {
        count: u32,
        origins: [u32; POSITIONS_MAX],
        positions: [u64; POSITIONS_MAX],
    }
}

impl Vector {
    const EMPTY: Self = Self { count: 0, origins: [0; POSITIONS_MAX], positions: [0; POSITIONS_MAX] };

    fn of(announcement: &Announcement<'_>) -> Self {
        let mut vector = Self::EMPTY;
        for (place, (origin, at)) in announcement.positions().take(POSITIONS_MAX).enumerate() {
            vector.origins[place] = origin.get();
            vector.positions[place] = at.get();
            vector.count += 1;
        }
        vector
    }

    fn applied(&self) -> Applied {
        let mut applied = Applied::default();
        for (origin, at) in self.origins.iter().zip(&self.positions).take(self.count as usize) {
            if let (Some(origin), Some(at)) = (NodeId::new(*origin), Lsn::new(*at)) {
                applied.advance(origin, at);
            }
        }
        applied
    }
}

shareable! {
    /// One stream of this server, whether or not its worker runs.
    struct Stream {
        database: u32,
        subscription: u32,
        provider: u32,
        /// Whether the provider has promised announcements: [`SILENT`], [`PROMISED`], 0: has not said yet.
        announces: u32,
        /// When the subscription was made: an id may come again.
        made_at: i64,
        /// Everything of the provider's up to here is applied. 0: not known.
        position: u64,
        /// Where the last announcement stands in the provider's WAL, and what it says. 0: none yet.
        heard_at: u64,
        heard: Vector,
        /// The last one that wants to be answered.
        asked_at: u64,
        asked: Vector,
        /// When it came, by our clock.
        asked_when: i64,
        /// When a worker last took this place.
        taken_when: i64,
    }
}

const SILENT: u32 = 1;
const PROMISED: u32 = 2;

const FREE: Stream = Stream {
    database: 0,
    subscription: 0,
    provider: 0,
    announces: 0,
    made_at: 0,
    position: 0,
    heard_at: 0,
    heard: Vector::EMPTY,
    asked_at: 0,
    asked: Vector::EMPTY,
    asked_when: 0,
    taken_when: 0,
};

shareable! {
    /// A database that holds tombstones, or did.
    struct Holder {
        database: u32,
        holding: u32,
        /// When the last sample was taken. No two are of the same time.
        sampled_at: i64,
        /// The last answer of [`settled()`], and when it was given; 0: none was.
        settled_before: u64,
        settled_at: i64,
        /// The node that the answer leaves out, 0: none.
        settled_for: u32,
        unused: u32,
    }
}

const NO_HOLDER: Holder =
    Holder { database: 0, holding: 0, sampled_at: 0, settled_before: 0, settled_at: 0, settled_for: 0, unused: 0 };

static STREAMS: SharedTable<Stream> = SharedTable::new(c"spock_announcements", row_count, |_| {});
static HOLDERS: SharedTable<Holder> = SharedTable::new(c"spock_tombstone_holders", row_count, |_| {});

fn row_count() -> usize {
    ROWS_MIN.max(2 * shmem::max_worker_processes())
}

/// Asks for the shared memory. Only while the server preloads libraries.
pub fn reserve() {
    STREAMS.reserve();
    HOLDERS.reserve();
}

impl Stream {
    fn is(&self, database: u32, sub: SubId) -> bool {
        self.database == database && self.subscription == sub.get()
    }
}

/// The place of a subscription's apply worker, through which it tells how far it is.
#[derive(Debug)]
pub struct Seat {
    database: u32,
    sub: SubId,
    place: Option<usize>,
    told: Option<(Lsn, Option<bool>)>,
}

impl Seat {
    /// For a stream that begins at `start`. What was heard of the same stream before is kept as long as it lies before `start`.
    /// With all places taken, the one that was taken first goes: of that subscription nothing is known from then on.
    pub fn take(subscription: &Subscription, start: Option<Lsn>) -> Self {
        let (database, sub) = (process::own_database(), subscription.id);
        let provider = subscription.origin.id.get();
        let made_at = subscription.created_at.map_or(0, PgTime::micros);
        let mut streams = STREAMS.write();
        let place = streams.iter().position(|stream| stream.is(database, sub));
        let place = place.or_else(|| {
            let first = streams.iter().enumerate().min_by_key(|(_, stream)| stream.taken_when);
            first.map(|(place, _)| place)
        });
        if let Some(stream) = place.and_then(|place| streams.get_mut(place)) {
            let same = stream.is(database, sub) && stream.provider == provider && stream.made_at == made_at;
            if !same || stream.heard_at > Lsn::raw(start) {
                *stream = Stream { database, subscription: sub.get(), provider, made_at, ..FREE };
            }
            stream.taken_when = process::now().micros();
            // Beyond that nothing was applied, and a provider that was promoted meanwhile may have other WAL there.
            stream.position = stream.position.min(Lsn::raw(start));
        }
        drop(streams);
        Self { database, sub, place, told: None }
    }

    /// Everything of the provider's up to `position` is committed here; `announces`: whether it has promised announcements, which
    /// it says only when it sends something. `None`: what it said last stands.
    pub fn passed(&mut self, position: Option<Lsn>, announces: Option<bool>) {
        let Some(position) = position else { return };
        let now = Some((position, announces));
        if self.told == now {
            return;
        }
        self.told = now;
        let mut streams = STREAMS.write();
        let own = self.place.and_then(|place| streams.get_mut(place)).filter(|own| own.is(self.database, self.sub));
        if let Some(own) = own {
            own.position = own.position.max(position.get());
            own.announces = announces.map_or(own.announces, |promised| if promised { PROMISED } else { SILENT });
        }
    }
}

/// The stream of `subscription` said this, with everything before it committed here.
pub fn heard(subscription: &Subscription, announcement: &Announcement<'_>) {
    // From another node it means nothing here: announcements are not forwarded.
    if announcement.from != subscription.origin.id {
        return;
    }
    let (database, now) = (process::own_database(), process::now().micros());
    {
        let mut streams = STREAMS.write();
        let own = streams.iter_mut().find(|stream| stream.is(database, subscription.id));
        let Some(own) = own.filter(|own| own.heard_at < announcement.at.get()) else { return };
        own.heard_at = announcement.at.get();
        own.heard = Vector::of(announcement);
        if announcement.wanted {
            own.asked_at = own.heard_at;
            own.asked = own.heard;
            own.asked_when = now;
        }
    }
    if announcement.wanted {
        registry::wake_manager(database);
    }
}

/// The subscription is gone: its place is free. Only where workers are started, so that none is just taking it.
pub fn forget(database: u32, sub: SubId) {
    if let Some(stream) = STREAMS.write().iter_mut().find(|stream| stream.is(database, sub)) {
        *stream = FREE;
    }
}

/// Says whether this database holds tombstones that wait for a verdict. Cheap when nothing changes; from any process. Only while
/// it is set do samples make this node ask the others. Whoever clears it looks for tombstones again afterwards, because another
/// process may have made one meanwhile and found it set.
pub fn set_holding(holding: bool) {
    let database = process::own_database();
    if holder(database).is_some_and(|(held, _)| held) == holding {
        return;
    }
    with_holder(database, |own| own.holding = u32::from(holding));
    if holding {
        registry::wake_manager(database);
    }
}

/// Whether the database holds tombstones, and when the last sample was taken; 0: none was.
fn holder(database: u32) -> Option<(bool, i64)> {
    let holders = HOLDERS.read();
    holders.iter().find(|own| own.database == database).map(|own| (own.holding != 0, own.sampled_at))
}

fn with_holder(database: u32, change: impl FnOnce(&mut Holder)) {
    let mut holders = HOLDERS.write();
    let place = |which: &dyn Fn(&Holder) -> bool| holders.iter().position(which);
    // A database without tombstones, or one that is gone, gives its place to the next.
    let place = place(&|own| own.database == database)
        .or_else(|| place(&|own| own.database == 0))
        .or_else(|| place(&|own| own.holding == 0));
    if let Some(own) = place.and_then(|at| holders.get_mut(at)) {
        if own.database != database {
            *own = Holder { database, ..NO_HOLDER };
        }
        change(own);
    }
}

/// How far this node was at some moment: everything that it had applied, and its own WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample(Applied);

impl Sample {
    /// The positions, by origin.
    pub fn applied(&self) -> &Applied {
        &self.0
    }
}

/// Whether something older than what was here at a [`Sample`] can still arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It cannot. True for good.
    Stable,
    /// This node has not announced yet that it has all of the sample.
    WaitsFor(NodeId),
    /// Announcements cannot tell, because of this node. A new sample may have an answer when the cause is gone.
    Unknown(NodeId, Cause),
}

impl Verdict {
    /// How long what older changes have to be compared with is kept since the sample.
    pub fn longest(&self) -> Duration {
        let retention = Duration::from_secs(u64::from(settings::tombstone_retention_s()));
        match self {
            Self::Stable => Duration::ZERO,
            Self::WaitsFor(_) => retention,
            Self::Unknown(_, cause) => cause.longest(retention),
        }
    }

    /// Which of several nodes' verdicts is that of the cluster: the one that keeps longest; of equal ones one that ends with a new
    /// sample.
    fn weight(&self) -> (bool, Duration, bool) {
        (*self != Self::Stable, self.longest(), matches!(self, Self::Unknown(_, Cause::NotSampled)))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stable => f.write_str("stable"),
            Self::WaitsFor(node) => write!(f, "waits for node {node}"),
            Self::Unknown(node, cause) => write!(f, "unknown because of node {node}: {cause}"),
        }
    }
}

/// An enabled subscription of the local node.
struct Reading {
    sub: SubId,
    provider: NodeId,
    forwards: bool,
    /// What is committed here of it is known by this number.
    origin: Option<OriginNumber>,
}

/// Who is known here, and how each is read. As the catalogs are now.
struct Members {
    local: NodeId,
    others: BTreeSet<NodeId>,
    readings: Vec<Reading>,
    /// Providers of disabled subscriptions.
    disabled: BTreeSet<NodeId>,
    /// Providers of which transactions are parked.
    parked: BTreeSet<NodeId>,
}

impl Members {
    /// In the open transaction, or in one of its own.
    fn read() -> Result<Self, Report> {
        let own = (!Txn::is_open()).then(Txn::begin);
        let local = topology::require_local_node()?.node.id;
        let others = topology::nodes()?.into_iter().map(|node| node.id).filter(|id| *id != local).collect();
        let subscriptions = topology::subscriptions_of(local)?;
        let disabled = subscriptions.iter().filter(|sub| !sub.enabled).map(|sub| sub.origin.id).collect();
        let holders = parked::subscriptions()?;
        let parked = subscriptions.iter().filter(|sub| holders.contains(&sub.id)).map(|sub| sub.origin.id).collect();
        let readings = subscriptions.into_iter().filter(|sub| sub.enabled).map(|sub| Reading {
            sub: sub.id,
            provider: sub.origin.id,
            forwards: !sub.forward_origins.is_empty(),
            origin: origin::by_name(&sub.slot_name),
        });
        let readings = readings.collect();
        if let Some(own) = own {
            own.commit();
        }
        Ok(Self { local, others, readings, disabled, parked })
    }

    fn readings_of(&self, node: NodeId) -> impl Iterator<Item = &Reading> {
        self.readings.iter().filter(move |reading| reading.provider == node)
    }
}

/// What is known of the streams of this database.
fn streams() -> BTreeMap<SubId, Stream> {
    let database = process::own_database();
    let streams = STREAMS.read();
    let own = streams.iter().filter(|stream| stream.database == database);
    own.filter_map(|stream| Some((SubId::new(stream.subscription)?, *stream))).collect()
}

/// The smaller position for each origin that both know.
fn common(one: &Applied, other: &Applied) -> Applied {
    let mut both = Applied::default();
    one.iter()
        .filter_map(|(origin, at)| Some((origin, at.min(other.of(origin)?))))
        .for_each(|(o, at)| both.advance(o, at));
    both
}

/// How far this node has applied each provider: as far as all enabled subscriptions to it are.
fn applied_here(members: &Members, streams: &BTreeMap<SubId, Stream>) -> Applied {
    let mut applied = Applied::default();
    for &node in &members.others {
        let positions = members.readings_of(node).map(|reading| Lsn::new(streams.get(&reading.sub)?.position));
        if let Some(Some(at)) = positions.min() {
            applied.advance(node, at);
        }
    }
    applied
}

/// How far this node is now: the local node's position is where its WAL is inserted, each other's what is applied of it. What
/// a process wants covered must be committed before. Makes this node ask the others, if it holds tombstones ([`set_holding`]).
/// In the open transaction, or in one of its own.
///
/// # Errors
/// There is no local node, or a catalog cannot be read; a lock that cannot be had in time is raised.
pub fn sample() -> Result<Sample, Report> {
    let members = Members::read()?;
    let mut sample = position_now(&members);
    // What has committed counts from its commit on, though its worker may not have told its position yet.
    for reading in &members.readings {
        if let Some(at) = reading.origin.and_then(origin::committed_position) {
            sample.advance(reading.provider, at);
        }
    }
    let now = process::now().micros();
    with_holder(process::own_database(), |own| own.sampled_at = now.max(own.sampled_at.saturating_add(1)));
    Ok(Sample(sample))
}

fn position_now(members: &Members) -> Applied {
    let mut applied = applied_here(members, &streams());
    if let Some(at) = session::insert_position() {
        applied.advance(members.local, at);
    }
    applied
}

/// Whether nothing older than what was here at `sample` can arrive any more. In the open transaction, or in one of its own.
///
/// # Errors
/// As for [`sample()`].
pub fn verdict(sample: &Sample) -> Result<Verdict, Report> {
    Ok(judge(&Members::read()?, &streams(), sample, None))
}

/// `beside`: a node of which it does not matter what it sends.
fn judge(members: &Members, streams: &BTreeMap<SubId, Stream>, sample: &Sample, beside: Option<NodeId>) -> Verdict {
    let nodes = members.others.iter().copied().filter(|node| Some(*node) != beside);
    // Who cannot say how far it is does not hide who is away: what is kept is kept for the one that needs it longest.
    nodes.map(|node| judge_node(members, streams, sample, node)).max_by_key(Verdict::weight).unwrap_or(Verdict::Stable)
}

fn judge_node(members: &Members, streams: &BTreeMap<SubId, Stream>, sample: &Sample, node: NodeId) -> Verdict {
    if let Some(cause) = doubt(members, streams, node) {
        return Verdict::Unknown(node, cause);
    }
    if sample.applied().of(node).is_none() {
        return Verdict::Unknown(node, Cause::NotSampled);
    }
    let heard = announced_by(members, streams, node);
    let known = |origin: &NodeId| *origin == members.local || members.others.contains(origin);
    if let Some((stranger, _)) = heard.iter().find(|(origin, _)| !known(origin)) {
        return Verdict::Unknown(stranger, Cause::Stranger);
    }
    let mut stability = Stability::new([node]);
    stability.announced(node, &heard);
    match sample.0.iter().all(|(origin, at)| stability.is_stable(&mark(origin, at))) {
        true => Verdict::Stable,
        false => Verdict::WaitsFor(node),
    }
}

/// A mark for everything of `origin` up to `at`: its time does not matter here.
fn mark(origin: NodeId, at: Lsn) -> Mark {
    Mark { version: Version { time: None, tiebreaker: Tiebreaker(0), origin }, at }
}

/// Why what `node` announces, or does not, says nothing.
fn doubt(members: &Members, streams: &BTreeMap<SubId, Stream>, node: NodeId) -> Option<Cause> {
    if members.disabled.contains(&node) {
        return Some(Cause::Disabled);
    }
    if members.parked.contains(&node) {
        return Some(Cause::Parked);
    }
    if members.readings_of(node).next().is_none() {
        return Some(Cause::NotRead);
    }
    for reading in members.readings_of(node) {
        let stream = streams.get(&reading.sub).filter(|stream| stream.position != 0);
        match stream {
            _ if reading.forwards => return Some(Cause::Forwards),
            None => return Some(Cause::NoPosition),
            Some(stream) if stream.announces == SILENT => return Some(Cause::Silent),
            Some(_) => {}
        }
    }
    None
}

/// What all subscriptions to `node` have heard.
fn announced_by(members: &Members, streams: &BTreeMap<SubId, Stream>, node: NodeId) -> Applied {
    let heard = members
        .readings_of(node)
        .map(|reading| streams.get(&reading.sub).map_or_else(Applied::default, |stream| stream.heard.applied()));
    heard.reduce(|one, other| common(&one, &other)).unwrap_or_default()
}
