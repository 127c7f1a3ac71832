//! A mesh under a scheduler that a seed determines: statements, messages that are late, links that are cut, nodes that crash
//! and lose what was not durable, clocks that are apart and step, nodes that join. At the end everything is delivered, and
//! [`oracle`] says what every node must hold.
//!
//! # What of the core runs here
//! [`merge`](spock_core::merge) with tombstones, counters, displaced rows and stability; [`Progress`] for what is confirmed, so
//! that a provider keeps what a crashed subscriber asks for again; [`filter`] for a subscriber that takes a part of the rows.
//!
//! # Invariants
//! 1. The order of everything follows from the seed and the size. No clock, no thread, no address is looked at.
//! 2. What a provider sends is durable there, as in the server; a user's commit is acknowledged once it is.

mod node;
pub mod oracle;

use crate::replica::{Key, Op, Row, Txn};
use crate::rng::Rng;
use crate::rule::Rule;
use node::{Message, Node};
use spock_core::filter::{self, Action, Actions};
use spock_core::progress::Progress;
use spock_core::types::Lsn;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Nodes that write, 2 to 9. The last one joins in the middle if there are three or more.
    pub nodes: usize,
    /// Steps of the scheduler.
    pub steps: usize,
}

/// What happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions that were acknowledged.
    pub transactions: u64,
    /// Transactions that were applied on other nodes, again after crashes included.
    pub applied: u64,
    /// Conflicts.
    pub conflicts: u64,
    /// Crashes.
    pub crashes: u64,
    /// Times that a link was cut.
    pub cuts: u64,
    /// Nodes that joined.
    pub joins: u64,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            transactions: self.transactions + other.transactions,
            applied: self.applied + other.applied,
            conflicts: self.conflicts + other.conflicts,
            crashes: self.crashes + other.crashes,
            cuts: self.cuts + other.cuts,
            joins: self.joins + other.joins,
        }
    }
}

/// Keys that are written at a time: few, so that nodes meet.
const KEYS: usize = 6;
/// One statement in so many is about a key that was removed somewhere.
const REMOVED_ONE_IN: usize = 4;
/// Unique values: fewer still.
const UNIQUE_VALUES: usize = 3;

/// A link's traffic from a provider to a subscriber.
#[derive(Debug, Default)]
struct Link {
    cut: bool,
    /// Sent, not yet received.
    in_flight: std::collections::VecDeque<Message>,
    /// How many of the provider's transactions were sent in this connection. `None`: not connected.
    sent: Option<usize>,
    /// What the subscriber has told the provider: kept there, survives both.
    confirmed: Option<Lsn>,
    /// The subscriber's books of this connection.
    progress: Progress,
}

struct Mesh {
    nodes: Vec<Node>,
    /// `links[subscriber][provider]`. The last subscriber is the one with a row filter.
    links: Vec<Vec<Link>>,
    rng: Rng,
    rule: Rule,
    writers: usize,
    now: i64,
    /// Keys that may be inserted. With a column that counts, each is inserted once (docs/limits.md says why): when it is removed, a
    /// new one takes its place.
    keys: [Key; KEYS],
    /// Which of them were.
    inserted: [bool; KEYS],
    /// The last key of each place before.
    removed: [Option<Key>; KEYS],
    /// The last value that was written; a run is shorter than the type is wide.
    value: u16,
    counts: Counts,
}

/// Runs one simulation.
///
/// # Errors
/// What was not right at the end, or on the way.
pub fn run(seed: u64, size: Size, rule: &Rule) -> Result<Counts, String> {
    let mut mesh = Mesh::new(seed, size, rule);
    for step in 0..size.steps {
        if size.nodes > 2 && step == size.steps / 2 {
            mesh.join(size.nodes - 1)?;
        }
        mesh.step()?;
    }
    mesh.settle()?;
    mesh.check()?;
    Ok(mesh.counts)
}

/// Whether the filtering subscriber takes the row.
const fn taken(row: &Row) -> bool {
    row.plain.is_multiple_of(2)
}

/// A change as the filtering subscriber gets it.
fn filtered(op: Op) -> Vec<Op> {
    let all = Actions { insert: true, update: true, delete: true, truncate: true };
    let gone = |row: &Row| filter::crossing_remembered(None, taken(row), all) == Some(Action::Delete);
    match op {
        Op::Insert(key, row) | Op::Update { key, new: row, .. } if gone(&row) => vec![Op::Delete(key)],
        Op::Rekey { from, to, row } if gone(&row) => vec![Op::Delete(from), Op::Delete(to)],
        other => vec![other],
    }
}

impl Mesh {
    fn new(seed: u64, size: Size, rule: &Rule) -> Self {
        let early = if size.nodes > 2 { size.nodes - 1 } else { size.nodes };
        let mut nodes: Vec<Node> = (0..size.nodes).map(|node| Node::new(node, early)).collect();
        nodes.push(Node::new(size.nodes, early));
        let links = (0..nodes.len()).map(|_| (0..nodes.len()).map(|_| Link::default()).collect()).collect();
        let counts = Counts::default();
        let keys = core::array::from_fn(|place| place as Key);
        Self {
            nodes,
            links,
            rng: Rng::new(seed),
            rule: *rule,
            writers: early,
            now: 0,
            keys,
            inserted: [false; KEYS],
            removed: [None; KEYS],
            value: 1,
            counts,
        }
    }

    /// The subscriber with a row filter; it writes nothing and nobody waits for it.
    fn leaf(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Pairs (subscriber, provider) that are linked.
    fn pairs(&self) -> Vec<(usize, usize)> {
        let subscribers = (0..self.writers).chain([self.leaf()]);
        subscribers
            .flat_map(|to| (0..self.writers).filter(move |from| *from != to).map(move |from| (to, from)))
            .collect()
    }

    fn member(&mut self) -> usize {
        let pick = self.rng.below(self.writers + 1);
        if pick == self.writers { self.leaf() } else { pick }
    }

    fn step(&mut self) -> Result<(), String> {
        self.now += 1 + self.rng.below(3) as i64;
        let pairs = self.pairs();
        let (to, from) = pairs[self.rng.below(pairs.len())];
        match self.rng.below(100) {
            0..25 => self.statement(),
            25..45 => self.send(to, from)?,
            45..80 => self.receive(to, from),
            80..86 => {
                let node = self.member();
                self.nodes[node].flush(&self.rule);
            }
            86..92 => self.confirm(to, from),
            92..94 => {
                let link = &mut self.links[to][from];
                link.cut = !link.cut;
                self.counts.cuts += u64::from(link.cut);
                disconnect(link);
            }
            94..96 => {
                let node = self.member();
                self.crash(node);
            }
            96..98 => {
                let node = self.member();
                let skew = self.rng.below(41) as i64 - 20;
                self.nodes[node].skew = skew;
            }
            _ => {
                let node = self.rng.below(self.writers);
                self.nodes[node].commit(self.now, Vec::new(), true, &self.rule);
            }
        }
        Ok(())
    }

    fn crash(&mut self, node: usize) {
        self.counts.crashes += 1;
        self.nodes[node].crash();
        for (to, from) in self.pairs() {
            if to == node || from == node {
                disconnect(&mut self.links[to][from]);
            }
        }
    }

    /// A user's transaction of one to three statements.
    fn statement(&mut self) {
        let node = self.rng.below(self.writers);
        let count = 1 + self.rng.below(3);
        let mut scratch = self.nodes[node].replica.clone();
        let mut ops = Vec::new();
        for _ in 0..count {
            let visible = scratch.table.visible();
            self.value += 1;
            let Some(op) = self.one(&visible) else { continue };
            ops.push(op);
            scratch.apply(&self.nodes[node].txn(self.now, vec![op]), &self.rule, |_| false);
        }
        let durable = self.rng.percent(70);
        if !ops.is_empty() {
            self.nodes[node].commit(self.now, ops, durable, &self.rule);
        }
    }

    fn one(&mut self, visible: &std::collections::BTreeMap<Key, Row>) -> Option<Op> {
        let place = self.rng.below(KEYS);
        let removed = self.removed[place].filter(|_| self.rng.below(REMOVED_ONE_IN) == 0);
        let key = removed.unwrap_or(self.keys[place]);
        let value = self.value;
        let Some(old) = visible.get(&key).copied() else {
            if removed.is_some() || self.rule.counts && core::mem::replace(&mut self.inserted[place], true) {
                // It is on its way, or was lost in a crash.
                if removed.is_none() && self.rng.below(REMOVED_ONE_IN) == 0 {
                    self.retire(key);
                }
                return None;
            }
            let unique = self.unique(visible);
            return Some(Op::Insert(key, Row { plain: value, large: value, unique, counter: 100 }));
        };
        let update =
            |new: Row| Some(Op::Update { key, new, old_counter: old.counter, unchanged: new.large == old.large });
        match self.rng.below(100) {
            0..30 => update(Row { plain: value, ..old }),
            30..50 => {
                let delta = self.rng.below(30_000) as i16 - 15_000;
                update(Row { plain: value, counter: old.counter.checked_add(delta)?, ..old })
            }
            50..65 => update(Row { plain: value, large: value, ..old }),
            65..75 => update(Row { plain: value, unique: self.unique(visible), ..old }),
            75..90 => {
                self.retire(key);
                Some(Op::Delete(key))
            }
            90..97 => {
                let free = |place: &usize| {
                    !(visible.contains_key(&self.keys[*place]) || self.rule.counts && self.inserted[*place])
                };
                let place = (0..KEYS).find(free)?;
                let to = self.keys[place];
                self.inserted[place] = true;
                self.retire(key);
                Some(Op::Rekey { from: key, to, row: old })
            }
            // Sums that TRUNCATE takes are gone.
            _ if self.rule.counts => None,
            _ => Some(Op::Truncate),
        }
    }

    /// A statement removes `key`.
    fn retire(&mut self, key: Key) {
        let newest = self.keys.into_iter().max().unwrap_or_default();
        if let (true, Some(place)) = (self.rule.counts, self.keys.iter().position(|other| *other == key)) {
            self.removed[place] = Some(key);
            self.inserted[place] = false;
            self.keys[place] = newest + 1;
        }
    }

    /// A unique value that is free, or NULL.
    fn unique(&mut self, visible: &std::collections::BTreeMap<Key, Row>) -> u8 {
        let value = self.rng.below(UNIQUE_VALUES + 1) as u8;
        if visible.values().any(|row| row.unique == value) { 0 } else { value }
    }

    /// The provider sends its next transaction. A subscriber that is not connected asks for all after what it holds.
    fn send(&mut self, to: usize, from: usize) -> Result<(), String> {
        if self.links[to][from].cut {
            return Ok(());
        }
        if self.links[to][from].sent.is_none() {
            // What a worker starts from it will confirm, so it is made durable first.
            self.nodes[to].flush(&self.rule);
        }
        let held = self.nodes[to].replica.applied.of(self.nodes[from].id());
        let (provider, link) = (&self.nodes[from], &mut self.links[to][from]);
        if link.sent.is_none() {
            if held < link.confirmed {
                return Err(format!("n{} asks n{} for what it has confirmed before", to + 1, from + 1));
            }
            link.sent = Some(provider.sendable().iter().filter(|txn| Some(txn.mark.at) <= held).count());
            link.progress = Progress::starting_at(held, None);
        }
        let place = link.sent.unwrap_or_default();
        let Some(txn) = provider.sendable().get(place) else { return Ok(()) };
        let stores = |large: &u16| provider.replica.table.stores(*large);
        let gone = txn.ops.iter().filter_map(unchanged).filter(|large| !stores(large)).collect();
        let leaf = to + 1 == self.nodes.len();
        let ops = if leaf { txn.ops.iter().copied().flat_map(filtered).collect() } else { txn.ops.clone() };
        link.in_flight.push_back(Message { txn: Txn { ops, ..txn.clone() }, gone });
        link.sent = Some(place + 1);
        Ok(())
    }

    fn receive(&mut self, to: usize, from: usize) {
        let link = &mut self.links[to][from];
        let Some(message) = link.in_flight.pop_front() else { return };
        self.counts.applied += 1;
        let (conflicts, local_end) = self.nodes[to].apply(message.clone(), &self.rule);
        self.counts.conflicts += conflicts;
        link.progress.applied(message.txn.mark.at, local_end);
    }

    /// The subscriber's status message reaches the provider.
    fn confirm(&mut self, to: usize, from: usize) {
        let link = &mut self.links[to][from];
        if link.cut || link.sent.is_none() {
            return;
        }
        let positions = link.progress.report(self.nodes[to].flushed());
        link.confirmed = link.confirmed.max(positions.flushed);
    }

    /// The next node copies from one that is there, and becomes a member.
    fn join(&mut self, node: usize) -> Result<(), String> {
        let source = self.rng.below(self.writers);
        self.nodes[source].flush(&self.rule);
        let applied = self.nodes[source].replica.applied.clone();
        let id = self.nodes[node].id();
        for other in 0..self.nodes.len() {
            if other == node {
                continue;
            }
            if !self.nodes[other].admit(id, &applied) {
                return Err(format!("n{} has let go what n{} lacks", other + 1, source + 1));
            }
        }
        let copy = crate::model::joined(&self.nodes[source].replica, id, Lsn::new(1).expect("not zero"), &self.rule);
        self.nodes[node].begin_with(copy);
        self.writers += 1;
        self.counts.joins += 1;
        Ok(())
    }

    /// Everything is healed and delivered; then every node says what it has, until all of that is delivered too.
    fn settle(&mut self) -> Result<(), String> {
        for round in 0..3 {
            for node in 0..self.nodes.len() {
                self.nodes[node].flush(&self.rule);
            }
            if round > 0 {
                for node in 0..self.writers {
                    self.nodes[node].commit(self.now, Vec::new(), true, &self.rule);
                }
            }
            for (to, from) in self.pairs() {
                self.links[to][from].cut = false;
                loop {
                    self.send(to, from)?;
                    if self.links[to][from].in_flight.is_empty() {
                        break;
                    }
                    self.receive(to, from);
                }
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        let all: Vec<Txn> = self.nodes.iter().flat_map(|node| node.sendable().to_vec()).collect();
        self.counts.transactions = all.len() as u64;
        let want = oracle::table(&all, self.rule.counts);
        for (index, node) in self.nodes.iter().enumerate() {
            let table = &node.replica.table;
            if index == self.leaf() {
                // Counters and visibility follow from rows that it does not have.
                let part = |row: &Row| (row.plain, row.large);
                let want: Vec<_> =
                    want.iter().filter(|(_, row)| taken(&row.0)).map(|(key, row)| (*key, part(&row.0))).collect();
                let have: Vec<_> = table.rows.iter().map(|(key, held)| (*key, part(&held.row))).collect();
                if have != want {
                    return Err(format!("the filtering subscriber holds {have:?}, and should {want:?}"));
                }
            } else if table.merged() != want {
                return Err(format!("n{} holds {:?}, and should {want:?}", index + 1, table.merged()));
            }
            let kept = table.tombstones.len() + table.rests.len();
            if self.rule.releases && (kept > 0 || table.truncated.is_some()) {
                return Err(format!("n{} keeps tombstones that nobody can need", index + 1));
            }
        }
        Ok(())
    }
}

fn disconnect(link: &mut Link) {
    link.in_flight.clear();
    link.sent = None;
}

fn unchanged(op: &Op) -> Option<u16> {
    match op {
        Op::Update { new, unchanged: true, .. } => Some(new.large),
        Op::Rekey { row, .. } => Some(row.large),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::without_tombstones;

    const SIZE: Size = Size { nodes: 3, steps: 400 };

    #[test]
    fn nodes_end_equal() {
        for seed in 0..40 {
            if let Err(what) = run(seed, SIZE, &Rule::SHIPPED) {
                panic!("seed {seed}: {what}");
            }
        }
    }

    #[test]
    fn a_seed_replays() {
        assert_eq!(run(7, SIZE, &Rule::SHIPPED), run(7, SIZE, &Rule::SHIPPED));
        assert_ne!(run(7, SIZE, &Rule::SHIPPED), run(8, SIZE, &Rule::SHIPPED));
    }

    #[test]
    fn broken_rules_are_found() {
        let shipped = Rule::SHIPPED;
        let cases = [
            ("no tombstones", Rule { decide: without_tombstones, ..shipped }),
            ("tombstones go at once", Rule { releases_at_once: true, ..shipped }),
            ("displaced rows are deleted", Rule { displaced_are_deleted: true, ..shipped }),
            ("a copy without tombstones", Rule { joins_without_tombstones: true, ..shipped }),
        ];
        for (name, rule) in cases {
            assert!((0..300).any(|seed| run(seed, SIZE, &rule).is_err()), "{name}: not found");
        }
    }
}
