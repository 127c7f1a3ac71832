//! The exhaustive checker: all histories of a few statements on a few nodes, and all orders of delivery.
//!
//! A history is a row of statements; before each, its node receives any part of what is on its way to it, in any order that keeps
//! each origin's. What other nodes receive meanwhile commutes with that, so it is left for when it matters: before their own
//! statements, or for the end. There every node receives the rest in all orders, and all must end in one table. States that were
//! reached before are not tried again; a statement's values depend on its node and its number there, so statements that do not know
//! of each other lead to one state in either order. Keys that were not used yet are the same key.
//!
//! # Invariants
//! 1. Nothing is random: two runs try the same histories.
//! 2. A statement's time is later than all that its node holds; beyond that every time is tried, so ties and skew are.

use crate::replica::{Key, Op, Replica, Row, Txn};
use crate::rule::Rule;
use spock_core::merge::Tiebreaker;
use spock_core::merge::Version;
use spock_core::merge::stability::Mark;
use spock_core::types::{Lsn, NodeId, PgTime};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A kind of statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// INSERT; with unique value 1 if it is asked for and free.
    Insert {
        /// The row claims it.
        claims: bool,
    },
    /// UPDATE of the plain column.
    Plain,
    /// UPDATE of the out-of-line column.
    Large,
    /// UPDATE of the counter by this much, saturating as the type's own check would make a user do.
    Count(i16),
    /// UPDATE of the unique column: takes the value if it is free, gives it back if the row has it.
    Unique,
    /// DELETE.
    Delete,
    /// TRUNCATE.
    Truncate,
    /// UPDATE of the key to one that is free.
    Rekey,
    /// The next node that is not a member copies from this one and becomes one.
    Join,
}

/// What is tried.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Members at the start, up to 3.
    pub nodes: usize,
    /// Nodes that may join.
    pub joiners: usize,
    /// Keys.
    pub rows: Key,
    /// Statements in a history, at most.
    pub statements: usize,
    /// Which statements.
    pub kinds: Vec<Kind>,
    /// Whether all nodes begin with row 0.
    pub first_row: Option<Row>,
    /// A removed key is taken again, by INSERT or for a row under another one, only by a node that has let its removal go.
    pub patient: bool,
    /// The rule.
    pub rule: Rule,
}

/// What was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    /// Histories: different rows of statements and deliveries before them, reordering of independent ones not counted.
    pub histories: u64,
    /// Orders of delivery at the ends of histories, of one node each, shared beginnings not counted twice.
    pub deliveries: u64,
}

/// A history after which nodes differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its statements.
    pub statements: usize,
    /// Statements, deliveries and ends, one a line.
    pub story: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    nodes: Vec<Replica>,
    logs: Vec<Vec<Txn>>,
    /// `delivered[n][o]`: how many of `o`'s transactions `n` has.
    delivered: Vec<Vec<usize>>,
    /// The node that receives before its statement.
    active: Option<usize>,
    left: usize,
}

struct Checker<'s> {
    scope: &'s Scope,
    seen: HashSet<u64>,
    tried: Tried,
    story: Vec<String>,
}

/// The node with this index.
pub fn node_id(index: usize) -> NodeId {
    NodeId::new(index as u32 + 1).expect("not zero")
}

/// A version, with the tiebreaker against the order of ids, so that no rule passes by comparing ids.
pub fn version(time: i64, node: usize) -> Version {
    Version { time: Some(PgTime::from_micros(time)), tiebreaker: Tiebreaker(100 - node as i64), origin: node_id(node) }
}

/// Tries everything in the scope.
///
/// # Errors
/// The first history after which nodes differ.
pub fn check(scope: &Scope) -> Result<Tried, Failure> {
    let mut checker = Checker { scope, seen: HashSet::new(), tried: Tried::default(), story: Vec::new() };
    checker.explore(&World::new(scope))?;
    Ok(checker.tried)
}

/// A history of the fewest statements after which nodes differ, if there is one in the scope.
pub fn shortest_failure(scope: &Scope) -> Option<Failure> {
    (1..=scope.statements).find_map(|statements| check(&Scope { statements, ..scope.clone() }).err())
}

impl World {
    fn new(scope: &Scope) -> Self {
        let count = scope.nodes + scope.joiners;
        let members = |own: usize| (0..scope.nodes).filter(move |node| *node != own).map(node_id);
        let mut nodes: Vec<Replica> = (0..count).map(|node| Replica::new(node_id(node), members(node))).collect();
        if let Some(row) = scope.first_row {
            let mark = Mark { version: version(0, 0), at: Lsn::new(1).expect("not zero") };
            let txn = Txn { mark, ops: vec![Op::Insert(0, row)], applied: Default::default() };
            nodes.iter_mut().take(scope.nodes).for_each(|node| {
                node.apply(&txn, &scope.rule, |_| false);
            });
        }
        let logs = vec![Vec::new(); count];
        let delivered = vec![vec![0; count]; count];
        Self { nodes, logs, delivered, active: None, left: scope.statements }
    }

    fn is_member(&self, node: usize, scope: &Scope) -> bool {
        node < scope.nodes || self.nodes[node].applied != Default::default()
    }

    /// Origins that have something on its way to `node`.
    fn pending(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.logs.len())
            .filter(move |origin| *origin != node && self.delivered[node][*origin] < self.logs[*origin].len())
    }
}

fn unchanged_value(op: &Op) -> Option<u16> {
    match op {
        Op::Update { new, unchanged: true, .. } => Some(new.large),
        Op::Rekey { row, .. } => Some(row.large),
        _ => None,
    }
}

impl Checker<'_> {
    fn explore(&mut self, world: &World) -> Result<(), Failure> {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            return Ok(());
        }
        if world.active.is_none() {
            self.check_ends(world)?;
        }
        if world.left == 0 {
            return Ok(());
        }
        for node in 0..world.nodes.len() {
            if world.active.is_some_and(|active| active != node) || !world.is_member(node, self.scope) {
                continue;
            }
            for origin in world.pending(node).collect::<Vec<_>>() {
                let txn = &world.logs[origin][world.delivered[node][origin]];
                for gone in gone_choices(txn, &self.gone(world, origin)) {
                    let mut next = world.clone();
                    next.active = Some(node);
                    next.nodes[node].apply(txn, &self.scope.rule, |_| *gone);
                    next.delivered[node][origin] += 1;
                    self.story.push(format!("  n{} receives {}", node + 1, describe(txn, origin)));
                    self.explore(&next)?;
                    self.story.pop();
                }
            }
            self.statements(world, node)?;
        }
        Ok(())
    }

    /// Out-of-line values that may be gone when `origin` sends an UPDATE that left them alone: its table may be ahead.
    fn gone(&self, world: &World, origin: usize) -> HashSet<u16> {
        let values = world.logs[origin].iter().flat_map(|txn| &txn.ops).filter_map(unchanged_value);
        let mut values: HashSet<u16> = values.collect();
        if !values.is_empty() && !self.scope.rule.unchanged_is_never_sent {
            let mut ahead = world.nodes[origin].clone();
            for from in world.pending(origin) {
                for txn in &world.logs[from][world.delivered[origin][from]..] {
                    ahead.apply(txn, &self.scope.rule, |_| false);
                }
            }
            values.retain(|value| !ahead.table.stores(*value));
        }
        values
    }

    fn statements(&mut self, world: &World, node: usize) -> Result<(), Failure> {
        for kind in &self.scope.kinds {
            if *kind == Kind::Join {
                self.join(world, node)?;
                continue;
            }
            let used = world.nodes.iter().flat_map(|node| node.table.rows.keys().chain(node.table.tombstones.keys()));
            let fresh = used.max().map_or(0, |key| key + 1);
            for key in (0..self.scope.rows).filter(|key| *key <= fresh) {
                let number = (node * 10 + world.logs[node].len() + 1) as u16;
                let remembered = world.nodes[node].table.tombstones.contains_key(&key);
                if self.scope.patient && matches!(kind, Kind::Insert { .. }) && remembered {
                    continue;
                }
                let Some(op) = statement(&world.nodes[node], *kind, key, number, self.scope) else { continue };
                for time in (world.nodes[node].clock + 1)..=self.scope.statements as i64 {
                    let mut next = world.clone();
                    next.active = None;
                    next.left -= 1;
                    let at = Lsn::new(10 + world.logs[node].len() as u64).expect("not zero");
                    let applied = world.nodes[node].applied.clone();
                    let txn = Txn { mark: Mark { version: version(time, node), at }, ops: vec![op], applied };
                    next.nodes[node].apply(&txn, &self.scope.rule, |_| false);
                    self.story.push(describe(&txn, node));
                    next.logs[node].push(txn);
                    self.tried.histories += 1;
                    self.explore(&next)?;
                    self.story.pop();
                }
                if matches!(kind, Kind::Truncate) {
                    break;
                }
            }
        }
        Ok(())
    }

    fn join(&mut self, world: &World, source: usize) -> Result<(), Failure> {
        let Some(node) = (0..world.nodes.len()).find(|node| !world.is_member(*node, self.scope)) else { return Ok(()) };
        let mut next = world.clone();
        next.active = None;
        next.left -= 1;
        let at = Lsn::new(9).expect("not zero");
        next.nodes[node] = joined(&world.nodes[source], node_id(node), at, &self.scope.rule);
        next.delivered[node] = world.delivered[source].clone();
        next.delivered[node][source] = world.logs[source].len();
        let applied = next.nodes[node].applied.clone();
        for other in (0..world.nodes.len()).filter(|other| *other != node && world.is_member(*other, self.scope)) {
            assert!(next.nodes[other].stability.admits(&applied), "a member has let go what the source lacks");
            next.nodes[other].stability.join(node_id(node), applied.clone());
        }
        self.story.push(format!("n{} joins from n{}", node + 1, source + 1));
        self.tried.histories += 1;
        self.explore(&next)?;
        self.story.pop();
        Ok(())
    }

    /// Everybody receives the rest, in all orders; all must end in one table.
    fn check_ends(&mut self, world: &World) -> Result<(), Failure> {
        let gone: Vec<HashSet<u16>> = (0..world.logs.len()).map(|origin| self.gone(world, origin)).collect();
        let mut first: Option<End> = None;
        for node in (0..world.nodes.len()).filter(|node| world.is_member(*node, self.scope)) {
            let mut seen = HashSet::new();
            let mut open = vec![(world.nodes[node].clone(), world.delivered[node].clone(), Vec::new())];
            while let Some((replica, delivered, order)) = open.pop() {
                if !seen.insert((delivered.clone(), replica.clone())) {
                    continue;
                }
                self.tried.deliveries += 1;
                let mut at_end = true;
                for origin in (0..world.logs.len()).filter(|origin| *origin != node) {
                    let Some(txn) = world.logs[origin].get(delivered[origin]) else { continue };
                    at_end = false;
                    for gone in gone_choices(txn, &gone[origin]) {
                        let (mut replica, mut delivered, mut order) =
                            (replica.clone(), delivered.clone(), order.clone());
                        replica.apply(txn, &self.scope.rule, |_| *gone);
                        delivered[origin] += 1;
                        order.push((origin, delivered[origin] - 1));
                        open.push((replica, delivered, order));
                    }
                }
                if at_end {
                    let end = End { node, order, replica };
                    match &first {
                        None => first = Some(end),
                        Some(one) if one.replica.table.merged() == end.replica.table.merged() => {}
                        Some(one) => return Err(self.failure(world, &[one, &end])),
                    }
                }
            }
        }
        Ok(())
    }

    fn failure(&self, world: &World, ends: &[&End]) -> Failure {
        let mut story = self.story.join("\n");
        for end in ends {
            let _ = write!(story, "\n  at the end n{}", end.node + 1);
            for (origin, place) in &end.order {
                let _ = write!(story, "\n    receives {}", describe(&world.logs[*origin][*place], *origin));
            }
            let _ = write!(story, "\n    and holds");
            for (key, (row, visible)) in end.replica.table.merged() {
                let Row { plain, large, unique, counter } = row;
                let displaced = if visible { "" } else { ", displaced" };
                let _ = write!(
                    story,
                    " {key}: (plain {plain}, large {large}, unique {unique}, counter {counter}{displaced})"
                );
            }
            if end.replica.table.rows.is_empty() {
                story.push_str(" nothing");
            }
        }
        Failure { statements: self.scope.statements - world.left, story }
    }
}

/// Where a node's deliveries have led.
struct End {
    node: usize,
    order: Vec<(usize, usize)>,
    replica: Replica,
}

/// Whether to try it with unchanged out-of-line values there, gone, or both.
fn gone_choices(txn: &Txn, gone: &HashSet<u16>) -> &'static [bool] {
    let mut values = txn.ops.iter().filter_map(unchanged_value);
    if values.any(|value| gone.contains(&value)) { &[false, true] } else { &[false] }
}

/// What a user of `replica` can do of this kind to `key`. `number` names the values.
fn statement(replica: &Replica, kind: Kind, key: Key, number: u16, scope: &Scope) -> Option<Op> {
    let visible = replica.table.visible();
    let row = visible.get(&key).copied();
    let free = visible.values().all(|row| row.unique != 1);
    let update =
        |new: Row, old: Row| Some(Op::Update { key, new, old_counter: old.counter, unchanged: new.large == old.large });
    match (kind, row) {
        (Kind::Insert { claims }, None) if !claims || free => {
            Some(Op::Insert(key, Row { plain: number, large: number, unique: u8::from(claims), counter: 10 }))
        }
        (Kind::Plain, Some(old)) => update(Row { plain: number, ..old }, old),
        (Kind::Large, Some(old)) => update(Row { plain: number, large: number, ..old }, old),
        (Kind::Count(delta), Some(old)) => {
            let counter = old.counter.checked_add(delta)?;
            update(Row { plain: number, counter, ..old }, old)
        }
        (Kind::Unique, Some(old)) if free || old.unique == 1 => {
            update(Row { plain: number, unique: 1 - old.unique, ..old }, old)
        }
        (Kind::Delete, Some(_)) => Some(Op::Delete(key)),
        (Kind::Rekey, Some(row)) => {
            let remembered = |to: &Key| scope.patient && replica.table.tombstones.contains_key(to);
            let to = (0..scope.rows).find(|to| !visible.contains_key(to) && !remembered(to))?;
            Some(Op::Rekey { from: key, to, row })
        }
        (Kind::Truncate, _) if !visible.is_empty() => Some(Op::Truncate),
        _ => None,
    }
}

/// A new member: what `source` holds, remembered things as well.
pub fn joined(source: &Replica, node: NodeId, at: Lsn, rule: &Rule) -> Replica {
    let mut new = Replica { node, ..source.clone() };
    if rule.joins_without_tombstones {
        (new.table.tombstones, new.table.truncated) = Default::default();
    }
    new.stability.leave(node);
    new.stability.join(source.node, source.applied.clone());
    new.applied.advance(node, at);
    new
}

fn describe(txn: &Txn, origin: usize) -> String {
    let time = txn.mark.version.time.map_or(0, |time| time.micros());
    let ops: Vec<String> = txn
        .ops
        .iter()
        .map(|op| match op {
            Op::Insert(key, row) => {
                format!("INSERT {key} (plain {}, unique {}, counter {})", row.plain, row.unique, row.counter)
            }
            Op::Update { key, new, old_counter, unchanged } => format!(
                "UPDATE {key} to (plain {}, large {}, unique {}, counter {} + {})",
                new.plain,
                if *unchanged { "unchanged".to_owned() } else { new.large.to_string() },
                new.unique,
                old_counter,
                i32::from(new.counter) - i32::from(*old_counter)
            ),
            Op::Rekey { from, to, .. } => format!("UPDATE key {from} to {to}"),
            Op::Delete(key) => format!("DELETE {key}"),
            Op::Truncate => "TRUNCATE".to_owned(),
        })
        .collect();
    format!("n{} at {time}: {}", origin + 1, ops.join(", "))
}
