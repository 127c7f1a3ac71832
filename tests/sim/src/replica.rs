//! One node's copy of one table in memory: what an apply worker does with the heap and the tables beside it, by the core's
//! rules. The model checker and the simulator run it.
//!
//! # Invariants
//! 1. No rule is here: what is written follows from [`spock_core::merge`] alone, or from the [`Rule`] that a test breaks.
//! 2. A local statement is a transaction like any other: it goes through the same code, on the node that made it first.

use crate::rule::Rule;
use spock_core::merge::delta::Amount;
use spock_core::merge::rest::{Kept, Rest};
use spock_core::merge::stability::{Applied, Mark, Stability};
use spock_core::merge::unique::{self, Holders, Placed, Way};
use spock_core::merge::{Change, Counters, Decision, Known, Report, Values, Version, Write, decide_rekey};
use spock_core::types::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

/// The primary key.
pub type Key = u16;

/// A row's values, one column of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Row {
    /// Last writer wins.
    pub plain: u16,
    /// Stored out of line: not sent when an UPDATE leaves it alone. Each value is written once, so it names itself.
    pub large: u16,
    /// Has a unique index. 0 is NULL.
    pub unique: u8,
    /// Counts.
    pub counter: i16,
}

/// One row change as its node made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// INSERT.
    Insert(Key, Row),
    /// UPDATE.
    Update {
        /// The row.
        key: Key,
        /// The new row, whole.
        new: Row,
        /// The counter before.
        old_counter: i16,
        /// `large` is as before.
        unchanged: bool,
    },
    /// UPDATE of the key; nothing else changes, so `large` is unchanged.
    Rekey {
        /// The old key.
        from: Key,
        /// The new one.
        to: Key,
        /// The row.
        row: Row,
    },
    /// DELETE.
    Delete(Key),
    /// TRUNCATE.
    Truncate,
}

/// A transaction in the stream of its origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Txn {
    /// Version of all its changes, and its place in the stream.
    pub mark: Mark,
    /// Its changes in order.
    pub ops: Vec<Op>,
    /// What its node had applied when it committed: an announcement.
    pub applied: Applied,
}

/// A row that is held, whether users see it or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    /// When and where it was written.
    pub mark: Mark,
    /// Its time is known no more: the server froze the row.
    pub frozen: bool,
    /// Its values.
    pub row: Row,
    /// `false`: displaced.
    pub visible: bool,
}

impl Held {
    /// As the server can still tell it.
    pub fn version(&self) -> Version {
        if self.frozen { Version { time: None, ..self.mark.version } } else { self.mark.version }
    }
}

/// The table, and what is remembered beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Table {
    /// Rows, visible and displaced.
    pub rows: BTreeMap<Key, Held>,
    /// Deletes that are remembered.
    pub tombstones: BTreeMap<Key, Mark>,
    /// The newest TRUNCATE that is remembered.
    pub truncated: Option<Mark>,
    /// What is left of counters of removed rows.
    pub rests: BTreeMap<Key, Rest<i16>>,
    /// The newest UPDATE that brought a row back.
    pub revived: BTreeMap<Key, Version>,
}

/// What the row with the key `own` meets; `found` is the holder's key.
struct Meets<'t> {
    table: &'t mut Table,
    own: Key,
    found: Key,
}

impl Holders for Meets<'_> {
    type Key = Key;
    type Error = Infallible;

    fn next(&mut self, from: usize) -> Result<Option<(usize, Version)>, Infallible> {
        let value = self.table.rows[&self.own].row.unique;
        let holds = |held: &Held| held.visible && held.row.unique == value;
        let mut others = self.table.rows.iter().filter(|(key, _)| from == 0 && value != 0 && **key != self.own);
        let Some((key, held)) = others.find(|(_, held)| holds(held)) else { return Ok(None) };
        self.found = *key;
        Ok(Some((0, held.version())))
    }

    fn keys(&mut self) -> (Key, Key) {
        (self.found, self.own)
    }

    fn displace(&mut self) -> Result<bool, Infallible> {
        if let Some(held) = self.table.rows.get_mut(&self.found) {
            held.visible = false;
        }
        Ok(true)
    }
}

impl Table {
    /// What users see.
    pub fn visible(&self) -> BTreeMap<Key, Row> {
        self.rows.iter().filter(|(_, held)| held.visible).map(|(key, held)| (*key, held.row)).collect()
    }

    /// All rows, displaced ones as well: what the nodes have to agree on.
    pub fn merged(&self) -> BTreeMap<Key, (Row, bool)> {
        self.rows.iter().map(|(key, held)| (*key, (held.row, held.visible))).collect()
    }

    /// Whether a row stores this out-of-line value: then a provider can still send it.
    pub fn stores(&self, large: u16) -> bool {
        self.rows.values().any(|held| held.row.large == large)
    }

    /// Shows the row of `key`, which is displaced, if it prevails over who holds its value.
    fn place(&mut self, key: Key, how: fn(Version) -> Placed) -> bool {
        let Some(placed) = self.rows.get(&key).map(|held| how(held.version())) else { return false };
        let Ok(way) = unique::clear_way(&mut Meets { table: self, own: key, found: key }, &placed);
        let visible = way != Way::Blocked;
        if let Some(held) = self.rows.get_mut(&key) {
            held.visible = visible;
        }
        visible
    }

    /// Tries displaced rows again, newest first, until none comes back.
    fn come_back(&mut self) {
        loop {
            let displaced = self.rows.iter().filter(|(_, held)| !held.visible);
            let mut displaced: Vec<(Version, Key)> = displaced.map(|(key, held)| (held.version(), *key)).collect();
            displaced.sort_unstable_by(|one, other| other.cmp(one));
            if displaced.into_iter().filter(|(_, key)| self.place(*key, Placed::Again)).count() == 0 {
                return;
            }
        }
    }

    fn known(&self, key: Key, counts: bool) -> Known {
        Known {
            row: self.rows.get(&key).map(Held::version),
            tombstone: self.tombstones.get(&key).map(|mark| mark.version),
            truncated: self.truncated.map(|mark| mark.version),
            revived: self.revived.get(&key).copied(),
            counts,
        }
    }
}

/// A change as a subscriber sees it.
#[derive(Debug, Clone, Copy)]
struct Arriving {
    change: Change,
    mark: Mark,
    row: Row,
    old_counter: i16,
    /// An UPDATE that changed the key.
    rekeyed: bool,
    /// Then the row under the old key, if it goes.
    moved: Option<Row>,
}

/// A node's copy, its clock and what it knows of the others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Replica {
    /// Its node.
    pub node: NodeId,
    /// The table.
    pub table: Table,
    /// How far each origin is applied.
    pub applied: Applied,
    /// What the others have announced.
    pub stability: Stability,
    /// The newest time that it wrote or applied.
    pub clock: i64,
}

impl Replica {
    /// An empty one, in a cluster with `others`.
    pub fn new(node: NodeId, others: impl IntoIterator<Item = NodeId>) -> Self {
        let stability = Stability::new(others);
        Self { node, table: Table::default(), applied: Applied::default(), stability, clock: 0 }
    }

    /// Applies a transaction. `missing` says of an out-of-line value that was not in the WAL whether the provider has it no
    /// more. Returns the conflicts.
    pub fn apply(&mut self, txn: &Txn, rule: &Rule, missing: impl Fn(u16) -> bool) -> Vec<Report> {
        let mut reports = Vec::new();
        let counts = rule.counts;
        for op in &txn.ops {
            let values = |row: &Row, unchanged: bool| match unchanged && missing(row.large) {
                true => Values::Superseded,
                false => Values::Whole,
            };
            let arriving = |change, row, old_counter| Arriving {
                change,
                mark: txn.mark,
                row,
                old_counter,
                rekeyed: false,
                moved: None,
            };
            match *op {
                Op::Insert(key, row) => {
                    reports.extend(self.change(key, &arriving(Change::Insert, row, 0), rule));
                }
                Op::Update { key, new, old_counter, unchanged } => {
                    let change = Change::Update(values(&new, unchanged));
                    reports.extend(self.change(key, &arriving(change, new, old_counter), rule));
                }
                Op::Delete(key) => {
                    reports.extend(self.change(key, &arriving(Change::Delete, Row::default(), 0), rule));
                }
                Op::Rekey { from, to, row } => {
                    let values = values(&row, true);
                    let (old, new) = (self.table.known(from, counts), self.table.known(to, counts));
                    let (gone, there) = decide_rekey(&old, &new, values, &txn.mark.version);
                    let goes = gone.write == Write::Delete;
                    let moved = self.table.rows.get(&from).filter(|_| goes).map(|held| held.row);
                    self.act(from, &arriving(Change::Delete, Row::default(), 0), gone, rule);
                    let there_is = Arriving { rekeyed: true, moved, ..arriving(Change::Update(values), row, 0) };
                    self.act(to, &there_is, there, rule);
                    reports.extend(gone.report.into_iter().chain(there.report));
                }
                Op::Truncate => {
                    let keys: Vec<Key> = self.table.rows.keys().copied().collect();
                    let newest = self.table.truncated.filter(|mark| mark.version > txn.mark.version);
                    let decided: Vec<_> = keys.iter().map(|key| (*key, self.table.known(*key, counts))).collect();
                    self.table.truncated = newest.or(Some(txn.mark));
                    for (key, known) in decided {
                        let decision = (rule.decide)(&known, Change::Truncate, &txn.mark.version);
                        self.act(key, &arriving(Change::Truncate, Row::default(), 0), decision, rule);
                        reports.extend(decision.report);
                    }
                }
            }
        }
        let version = txn.mark.version;
        self.applied.advance(version.origin, txn.mark.at);
        self.clock = self.clock.max(version.time.map_or(0, |time| time.micros()));
        self.hear(version.origin, &txn.applied, rule);
        reports
    }

    /// `from`'s stream says how far it has applied; what is stable by that goes.
    pub fn hear(&mut self, from: NodeId, applied: &Applied, rule: &Rule) {
        self.stability.announced(from, applied);
        if !rule.releases {
            return;
        }
        let (own, stability, early) = (self.applied.clone(), self.stability.clone(), rule.releases_at_once);
        let is_stable = |mark: &Mark| early || (own.covers(mark) && stability.is_stable(mark));
        let table = &mut self.table;
        let gone: Vec<(Key, Mark)> =
            table.tombstones.iter().filter(|(_, mark)| is_stable(mark)).map(|(key, mark)| (*key, *mark)).collect();
        for (key, mark) in gone {
            table.tombstones.remove(&key);
            if let Some(rest) = table.rests.get_mut(&key) {
                // What is newer waits for the row that it belongs to.
                rest.left = None;
                rest.kept.retain(|kept| kept.version > mark.version);
            }
            table.revived.remove(&key);
            self.stability.released(&mark);
        }
        table.rests.retain(|_, rest| *rest != Rest::default());
        if let Some(mark) = table.truncated.filter(|mark| is_stable(mark)) {
            table.truncated = None;
            self.stability.released(&mark);
        }
        if rule.freezes {
            // Versions of displaced rows, and of those that they are displaced for, are written down.
            let displaced = table.rows.values().filter(|held| !held.visible);
            let wanted: BTreeSet<u8> = displaced.map(|held| held.row.unique).collect();
            let settled = |held: &Held| held.visible && !wanted.contains(&held.row.unique) && is_stable(&held.mark);
            table.rows.values_mut().filter(|held| settled(held)).for_each(|held| held.frozen = true);
        }
    }

    fn change(&mut self, key: Key, arriving: &Arriving, rule: &Rule) -> Option<Report> {
        let known = self.table.known(key, rule.counts);
        let decision = (rule.decide)(&known, arriving.change, &arriving.mark.version);
        self.act(key, arriving, decision, rule);
        decision.report
    }

    /// Does what was decided.
    fn act(&mut self, key: Key, arriving: &Arriving, decision: Decision, rule: &Rule) {
        assert!(decision.write != Write::Park, "all nodes complete what they send");
        let before = self.table.rows.get(&key).copied();
        if decision.remember {
            self.table.tombstones.insert(key, arriving.mark);
        }
        self.keep_rest(key, before, arriving, &decision);
        match decision.write {
            Write::Insert | Write::Update => {
                let mut row = arriving.row;
                let kept = arriving.moved.or(before.map(|held| held.row));
                if arriving.change == Change::Update(Values::Superseded) {
                    row.large = kept.map_or(0, |kept| kept.large);
                }
                row.counter = self.counted(key, before, arriving, decision);
                self.table.rows.insert(key, Held { mark: arriving.mark, frozen: false, row, visible: false });
                self.table.place(key, Placed::Written);
                self.table.rests.remove(&key);
            }
            Write::Count => {
                let counter = self.counted(key, before, arriving, decision);
                if let Some(held) = self.table.rows.get_mut(&key) {
                    held.row.counter = counter;
                }
            }
            Write::Delete => {
                self.table.rows.remove(&key);
            }
            Write::Keep | Write::Park => {}
        }
        if rule.displaced_are_deleted {
            self.table.rows.retain(|_, held| held.visible);
        }
        self.table.come_back();
    }

    /// What is kept of the counter of a removed row. A row that is here has none.
    fn keep_rest(&mut self, key: Key, before: Option<Held>, arriving: &Arriving, decision: &Decision) {
        let version = arriving.mark.version;
        match decision.write {
            Write::Delete if decision.remember => {
                let left = before.map(|held| (version, held.row.counter));
                self.table.rests.insert(key, Rest { left, kept: Vec::new() });
            }
            Write::Delete => {
                self.table.rests.remove(&key);
            }
            Write::Insert if decision.counters == Counters::Restore => {
                self.table.revived.insert(key, version);
            }
            Write::Keep if decision.rest => {
                let first = arriving.change == Change::Insert || arriving.rekeyed;
                let mut amount = 0.plus_difference_around(&arriving.old_counter, &arriving.row.counter).0;
                let rest = self.table.rests.entry(key).or_default();
                let back = decision.counters == Counters::Restore;
                if back {
                    // The removal may be let go before the row comes.
                    amount = rest.taken_by(&version).fold(amount, |sum, part| sum.plus_difference_around(&0, part).0);
                    rest.kept.retain(|kept| kept.version > version);
                }
                rest.kept.push(Kept { version, first: first || back, amount });
            }
            _ => {}
        }
    }

    fn counted(&self, key: Key, before: Option<Held>, arriving: &Arriving, decision: Decision) -> i16 {
        let local = before.map(|held| held.row.counter);
        match decision.counters {
            Counters::Take => arriving.row.counter,
            Counters::Keep => local.unwrap_or(arriving.row.counter),
            Counters::Add => local.map_or(arriving.row.counter, |local| {
                local.plus_difference_around(&arriving.old_counter, &arriving.row.counter).0
            }),
            Counters::Difference | Counters::Restore => {
                let rest = self.table.rests.get(&key).cloned().unwrap_or_default();
                let sum = rest.parts().fold(0, |sum: i16, part| sum.plus_difference_around(&0, part).0);
                sum.plus_difference_around(&arriving.old_counter, &arriving.row.counter).0
            }
        }
    }
}
