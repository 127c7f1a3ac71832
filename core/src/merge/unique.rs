//! Secondary unique keys: which rows users see when two keys hold one unique value.
//!
//! In descending order of (version, key) a row is visible if no visible row before it holds one of its unique values. The others
//! are displaced: out of the table, remembered with their versions, and back as soon as nothing stands in their way. So the
//! visible rows are a function of the merged rows, and equal wherever those are.
//!
//! # Invariants
//! 1. The newest of the rows that hold a value is visible unless a still newer one displaces it through another index. The row
//!    of a node's own INSERT or UPDATE is newer than all it holds, so it is visible there, as its user saw.
//! 2. [`settle`] ends in the state that the definition, [`visible`], gives.
//! 3. So does whoever lets [`prevails`] decide for each row that meets another one, in any order, and looks again at displaced
//!    rows, newest first, until none comes back: only the definition's state has nothing to move.

use super::version::Version;
use std::collections::{BTreeMap, BTreeSet};

/// The rows of one table, visible and displaced. A key is ordered alike on all nodes: by its bytes, not by a collation.
pub trait Rows {
    /// Identifies a row.
    type Key: Ord + Clone;

    /// Version of the row; `None`: there is none.
    fn version(&self, key: &Self::Key) -> Option<Version>;

    /// Whether users see it.
    fn is_visible(&self, key: &Self::Key) -> bool;

    /// Shows or displaces a row.
    fn set_visible(&mut self, key: &Self::Key, visible: bool);

    /// The other rows, visible and displaced, that share a value with it in a unique index. NULLs share nothing, unless the
    /// index says NULLS NOT DISTINCT; a partial index counts where both rows are in it.
    fn rivals(&self, key: &Self::Key) -> Vec<Self::Key>;
}

/// A row that changed sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved<K> {
    /// Which row.
    pub key: K,
    /// Users see it now. `false`: it was displaced.
    pub visible: bool,
}

/// Brings visibility in order after a change of `key`'s row, which `rows` has already: as displaced if it is new. `left` are the
/// rows that were its rivals before the change. Returns what moved: all that go before all that come, so that a unique index
/// never objects when they are written in this order.
pub fn settle<R: Rows>(rows: &mut R, key: &R::Key, left: Vec<R::Key>) -> Vec<Moved<R::Key>> {
    let mut open = BTreeSet::new();
    let now = rows.rivals(key);
    for row in left.into_iter().chain(now).chain([key.clone()]) {
        if let Some(version) = rows.version(&row) {
            open.insert((version, row));
        }
    }
    let mut before: BTreeMap<R::Key, bool> = BTreeMap::new();
    // What becomes of a row depends on rows before it only, so each is looked at once, from the newest on.
    while let Some(rank) = open.pop_last() {
        let rivals = rows.rivals(&rank.1);
        let ranked = |other: &R::Key| rows.version(other).map(|version| (version, other.clone()));
        let hidden = rivals.iter().any(|other| rows.is_visible(other) && ranked(other) > Some(rank.clone()));
        let was = rows.is_visible(&rank.1);
        if was == hidden {
            open.extend(rivals.iter().filter_map(ranked).filter(|other| *other < rank));
            before.entry(rank.1.clone()).or_insert(was);
            rows.set_visible(&rank.1, !hidden);
        }
    }
    let mut moved: Vec<_> = before.into_iter().map(|(key, was)| Moved { key, visible: !was }).collect();
    moved.sort_by_key(|row| row.visible);
    moved
}

/// Whether the visible row `holder` keeps the value that it shares with the row `other`, which is then displaced; otherwise
/// `holder` is. `keys` gives the keys of both, in this order; it is asked for rows of one version only.
pub fn prevails<K: Ord>(holder: &Version, other: &Version, keys: impl FnOnce() -> (K, K)) -> bool {
    holder.cmp(other).then_with(|| {
        let (holder, other) = keys();
        holder.cmp(&other)
    }) == core::cmp::Ordering::Greater
}

/// The definition: the visible ones of `rows` (key, version, unique values: one for each index, `None` where it shares nothing).
pub fn visible<K: Ord + Clone, V: Ord>(rows: &[(K, Version, Vec<Option<V>>)]) -> BTreeSet<K> {
    let mut order: Vec<_> = rows.iter().collect();
    order.sort_by(|one, other| (other.1, &other.0).cmp(&(one.1, &one.0)));
    let mut taken: BTreeSet<(usize, &V)> = BTreeSet::new();
    let mut shown = BTreeSet::new();
    for (key, _, values) in order {
        let held = || values.iter().enumerate().filter_map(|(index, value)| value.as_ref().map(|value| (index, value)));
        if held().all(|value| !taken.contains(&value)) {
            taken.extend(held());
            shown.insert(key.clone());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::Tiebreaker;
    use crate::types::{NodeId, PgTime};
    use proptest::prelude::*;

    type Values = Vec<Option<u8>>;

    #[derive(Debug, Default)]
    struct Table(BTreeMap<u8, (Version, Values, bool)>);

    fn share(one: &Values, other: &Values) -> bool {
        one.iter().zip(other).any(|(one, other)| one.is_some() && one == other)
    }

    impl Rows for Table {
        type Key = u8;
        fn version(&self, key: &u8) -> Option<Version> {
            self.0.get(key).map(|row| row.0)
        }
        fn is_visible(&self, key: &u8) -> bool {
            self.0.get(key).is_some_and(|row| row.2)
        }
        fn set_visible(&mut self, key: &u8, visible: bool) {
            self.0.get_mut(key).expect("a row").2 = visible;
        }
        fn rivals(&self, key: &u8) -> Vec<u8> {
            let Some(own) = self.0.get(key) else { return Vec::new() };
            self.0.iter().filter(|(other, row)| *other != key && share(&row.1, &own.1)).map(|(key, _)| *key).collect()
        }
    }

    fn version(time: i64) -> Version {
        let origin = NodeId::new(1).expect("not zero");
        Version { time: Some(PgTime::from_micros(time)), tiebreaker: Tiebreaker(1), origin }
    }

    #[test]
    fn a_displaced_row_comes_back_when_its_value_is_free() {
        let mut table = Table::default();
        let put = |table: &mut Table, key: u8, time: i64, value: u8| {
            let left = table.rivals(&key);
            let seen = table.is_visible(&key);
            table.0.insert(key, (version(time), vec![Some(value)], seen));
            settle(table, &key, left)
        };
        put(&mut table, 1, 1, 7);
        let moved = put(&mut table, 2, 2, 7);
        assert_eq!(moved, [Moved { key: 1, visible: false }, Moved { key: 2, visible: true }]);
        assert_eq!(put(&mut table, 2, 3, 8), [Moved { key: 1, visible: true }], "the newer row takes another value");
    }

    /// Writes `key`'s row, which is displaced, if nothing visible prevails over it, and displaces what does not.
    fn place(table: &mut Table, key: u8) -> bool {
        let own = table.0[&key].0;
        let rivals: Vec<u8> = table.rivals(&key).into_iter().filter(|other| table.is_visible(other)).collect();
        if rivals.iter().any(|other| prevails(&table.0[other].0, &own, || (*other, key))) {
            return false;
        }
        rivals.iter().for_each(|other| table.set_visible(other, false));
        table.set_visible(&key, true);
        true
    }

    proptest! {
        /// One transaction for each row that moves, whenever it comes to it, ends where one for all does.
        #[test]
        fn one_at_a_time_ends_where_the_definition_says(
            steps in proptest::collection::vec((0..6_u8, 0..5_i64, proptest::option::of((proptest::option::of(0..3_u8), proptest::option::of(0..3_u8))), any::<bool>()), 1..40)
        ) {
            let mut table = Table::default();
            let rounds = steps.len() - 1;
            for (n, (key, time, values, pass)) in steps.into_iter().enumerate() {
                table.0.remove(&key);
                if let Some((one, other)) = values {
                    table.0.insert(key, (version(time), vec![one, other], false));
                    place(&mut table, key);
                }
                // What gives its value up is looked at later, often after more has come.
                let mut back = usize::from(pass || n == rounds);
                while back > 0 {
                    let mut displaced: Vec<(Version, u8)> =
                        table.0.iter().filter(|row| !row.1.2).map(|(key, row)| (row.0, *key)).collect();
                    displaced.sort_by(|one, other| other.cmp(one));
                    back = displaced.iter().filter(|(_, key)| place(&mut table, *key)).count();
                }
            }
            let rows: Vec<_> = table.0.iter().map(|(key, row)| (*key, row.0, row.1.clone())).collect();
            let now: BTreeSet<u8> = table.0.iter().filter(|row| row.1.2).map(|row| *row.0).collect();
            prop_assert_eq!(now, visible(&rows));
        }

        /// Rows come, change and go in any order; after each step the incremental state is that of the definition.
        #[test]
        fn settling_ends_where_the_definition_says(
            steps in proptest::collection::vec((0..5_u8, 0..6_i64, proptest::option::of((proptest::option::of(0..3_u8), proptest::option::of(0..3_u8)))), 1..40)
        ) {
            let mut table = Table::default();
            for (key, time, values) in steps {
                let left = table.rivals(&key);
                let seen = table.is_visible(&key);
                match values {
                    None => { table.0.remove(&key); }
                    Some((one, other)) => { table.0.insert(key, (version(time), vec![one, other], seen)); }
                }
                let before: BTreeSet<u8> = table.0.iter().filter(|row| row.1.2).map(|row| *row.0).collect();
                let moved = settle(&mut table, &key, left);
                let rows: Vec<_> = table.0.iter().map(|(key, row)| (*key, row.0, row.1.clone())).collect();
                let now: BTreeSet<u8> = table.0.iter().filter(|row| row.1.2).map(|row| *row.0).collect();
                prop_assert_eq!(&now, &visible(&rows));
                let told: BTreeSet<u8> = moved.iter().map(|row| row.key).collect();
                prop_assert_eq!(told, before.symmetric_difference(&now).copied().collect::<BTreeSet<u8>>());
                prop_assert!(moved.is_sorted_by_key(|row| row.visible), "what goes is before what comes");
            }
        }
    }
}
