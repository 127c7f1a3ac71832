//! Secondary unique keys: which rows users see when two keys hold one unique value.
//!
//! In descending order of (version, key) a row is visible if no visible row before it holds one of its unique values. The others
//! are displaced: out of the table, remembered with their versions, and back as soon as nothing stands in their way. So the
//! visible rows are a function of the merged rows, and equal wherever those are.
//!
//! ```text
//! a row is written, or is to come back ─► [`clear_way`]: newer than all holders ─► they are displaced, it is visible
//!                                                        a holder is newer      ─► it is displaced
//! a value becomes free ─► displaced rows are tried again, newest first, until none comes back
//! ```
//!
//! # Invariants
//! 1. The newest of the rows that hold a value is visible unless a still newer one displaces it through another index. The row
//!    of a node's own INSERT or UPDATE is newer than all it holds, so it is visible there, as its user saw.
//! 2. Whatever the order in which rows are placed and tried again, and however late: once none comes back, the state is the one
//!    that the definition, [`visible`], gives. Only that one has nothing to move.
//! 3. A row is displaced for one that is written, never for one that is blocked itself; [`Way::Changed`] apart.

use super::version::Version;
use std::collections::BTreeSet;

/// The visible rows that hold a unique value of the row that is being placed. NULLs are shared by nobody, unless the index says NULLS
/// NOT DISTINCT; a partial index counts where both rows are in it.
pub trait Holders {
    /// Orders rows of one version alike on all nodes: by bytes, not by a collation.
    type Key: Ord;
    /// What can go wrong.
    type Error;

    /// Finds the holder in the first index that has one, from number `from` on: the number, and the holder's version.
    fn next(&mut self, from: usize) -> Result<Option<(usize, Version)>, Self::Error>;

    /// Keys of the holder found last and of the row that is being placed.
    fn keys(&mut self) -> (Self::Key, Self::Key);

    /// Displaces the holder found last. `false`: it was changed meanwhile by somebody else.
    fn displace(&mut self) -> Result<bool, Self::Error>;
}

/// The row that is being placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It is written now, with this version.
    Written(Version),
    /// It was displaced, and has this version. A holder of unknown time keeps its value against it: most likely the row was displaced
    /// for it. Who places rows writes versions of holders down, so that this is the exception.
    Again(Version),
}

/// What stands in the way of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing does.
    Free,
    /// Older rows only: [`look`] has found them, [`clear_way`] has displaced them.
    Cleared,
    /// The row found last keeps its value.
    Blocked,
    /// Somebody else came in between: look again. What has been displaced by then comes back by itself.
    Changed,
}

/// Who stands in the way of a row, without changing anything.
pub fn look<H: Holders>(holders: &mut H, placed: &Placed) -> Result<Way, H::Error> {
    let (mut way, mut from) = (Way::Free, 0);
    while let Some((index, holder)) = holders.next(from)? {
        if prevails(holders, &holder, placed) {
            return Ok(Way::Blocked);
        }
        (way, from) = (Way::Cleared, index + 1);
    }
    Ok(way)
}

/// Displaces whoever stands in the way of a row, if it prevails over all of them. After [`Way::Cleared`] and
/// [`Way::Free`] it may be written, after [`Way::Blocked`] it is displaced, and nothing else has changed.
pub fn clear_way<H: Holders>(holders: &mut H, placed: &Placed) -> Result<Way, H::Error> {
    let found = look(holders, placed)?;
    if found != Way::Cleared {
        return Ok(found);
    }
    // Whoever was found may have gone by itself since.
    let mut way = Way::Changed;
    while let Some((_, holder)) = holders.next(0)? {
        // One that prevails was written since the first look.
        if prevails(holders, &holder, placed) || !holders.displace()? {
            return Ok(Way::Changed);
        }
        way = Way::Cleared;
    }
    Ok(way)
}

/// Whether the holder found last, of version `holder`, keeps its value.
fn prevails<H: Holders>(holders: &mut H, holder: &Version, placed: &Placed) -> bool {
    let placed = match placed {
        Placed::Again(_) if holder.time.is_none() => return true,
        Placed::Again(version) | Placed::Written(version) => version,
    };
    holder.cmp(placed).then_with(|| {
        let (holder, placed) = holders.keys();
        holder.cmp(&placed)
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
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    /// Key, version, unique values, and whether it is visible.
    #[derive(Debug, Default)]
    struct Table(BTreeMap<u8, (Version, [Option<u8>; 2], bool)>);

    /// What the row with the key `own` meets; `found` is the holder's key.
    struct Meets<'t> {
        table: &'t mut Table,
        own: u8,
        found: u8,
    }

    impl Holders for Meets<'_> {
        type Key = u8;
        type Error = Infallible;

        fn next(&mut self, from: usize) -> Result<Option<(usize, Version)>, Infallible> {
            let values = self.table.0[&self.own].1;
            Ok((from..values.len()).find_map(|index| {
                let value = values[index]?;
                let mut others = self.table.0.iter().filter(|(key, row)| **key != self.own && row.2);
                let (key, row) = others.find(|(_, row)| row.1[index] == Some(value))?;
                self.found = *key;
                Some((index, row.0))
            }))
        }

        fn keys(&mut self) -> (u8, u8) {
            (self.found, self.own)
        }

        fn displace(&mut self) -> Result<bool, Infallible> {
            self.table.0.get_mut(&self.found).expect("a row").2 = false;
            Ok(true)
        }
    }

    impl Table {
        /// Writes `key`'s row, which is displaced, if nothing prevails over it.
        fn place(&mut self, key: u8, how: fn(Version) -> Placed) -> bool {
            let placed = how(self.0[&key].0);
            let Ok(way) = clear_way(&mut Meets { table: self, own: key, found: key }, &placed);
            self.0.get_mut(&key).expect("a row").2 = way != Way::Blocked;
            way != Way::Blocked
        }

        fn put(&mut self, key: u8, time: i64, values: [Option<u8>; 2]) -> bool {
            self.0.insert(key, (version(time), values, false));
            self.place(key, Placed::Written)
        }

        /// Tries displaced rows again, newest first, until none comes back.
        fn come_back(&mut self) -> Vec<u8> {
            let mut back = Vec::new();
            loop {
                let mut displaced: Vec<(Version, u8)> =
                    self.0.iter().filter(|row| !row.1.2).map(|(key, row)| (row.0, *key)).collect();
                displaced.sort_by(|one, other| other.cmp(one));
                let before = back.len();
                back.extend(displaced.into_iter().map(|(_, key)| key).filter(|key| self.place(*key, Placed::Again)));
                if back.len() == before {
                    return back;
                }
            }
        }

        fn shown(&self) -> BTreeSet<u8> {
            self.0.iter().filter(|row| row.1.2).map(|row| *row.0).collect()
        }
    }

    fn version(time: i64) -> Version {
        let origin = NodeId::new(1).expect("not zero");
        Version { time: Some(PgTime::from_micros(time)), tiebreaker: Tiebreaker(1), origin }
    }

    #[test]
    fn a_displaced_row_comes_back_when_its_value_is_free() {
        let mut table = Table::default();
        assert!(table.put(1, 1, [Some(7), None]));
        assert!(table.put(2, 2, [Some(7), None]));
        assert_eq!(table.shown(), BTreeSet::from([2]), "the older row gives way");
        assert!(!table.put(3, 1, [Some(7), None]), "an older one does not take it back");
        assert!(table.put(2, 3, [Some(8), None]));
        assert_eq!(table.come_back(), [3], "of the two that have the value in common, one: the larger key");
    }

    #[test]
    fn a_row_whose_time_is_known_no_more_keeps_its_value_against_those_it_displaced() {
        let mut table = Table::default();
        table.put(1, 1, [Some(7), None]);
        table.put(2, 2, [Some(7), None]);
        table.0.get_mut(&2).expect("a row").0.time = None;
        assert_eq!(table.come_back(), []);
        assert!(table.put(3, 1, [Some(7), None]), "what is written is newer");
        assert_eq!(table.shown(), BTreeSet::from([3]));
    }

    #[test]
    fn nothing_is_displaced_for_a_row_that_is_blocked() {
        let mut table = Table::default();
        table.put(1, 1, [Some(1), None]);
        table.put(2, 3, [None, Some(2)]);
        assert!(!table.put(3, 2, [Some(1), Some(2)]));
        assert_eq!(table.shown(), BTreeSet::from([1, 2]));
    }

    type Step = (u8, i64, Option<[Option<u8>; 2]>, bool);

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let value = || proptest::option::of(0..3_u8);
        let values = proptest::option::of((value(), value()).prop_map(|(one, other)| [one, other]));
        proptest::collection::vec((0..6_u8, 0..5_i64, values, any::<bool>()), 1..40)
    }

    proptest! {
        /// Rows come, change and go; what gives its value up is looked at now or later, often after more has come.
        #[test]
        fn whenever_rows_are_tried_again_the_end_is_the_definitions(steps in steps()) {
            let mut table = Table::default();
            for (key, time, values, again) in steps {
                table.0.remove(&key);
                if let Some(values) = values {
                    table.put(key, time, values);
                }
                if again {
                    table.come_back();
                }
            }
            table.come_back();
            let rows: Vec<_> = table.0.iter().map(|(key, row)| (*key, row.0, row.1.to_vec())).collect();
            prop_assert_eq!(table.shown(), visible(&rows));
        }
    }
}
