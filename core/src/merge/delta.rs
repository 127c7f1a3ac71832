//! Columns that count: an UPDATE adds (new - old) instead of replacing.
//!
//! ```text
//! in the order of versions:   INSERT sets   UPDATE adds   DELETE and TRUNCATE end   the first UPDATE after an end sets
//! ```
//! The value of a column is this fold over the changes of its key, whatever order they came in. A sum alone cannot tell what
//! was added before an INSERT or a DELETE that comes late, nor which addition reached the limit of the type; so changes are kept
//! until they are stable, and then folded into a base.
//!
//! Where no history is kept, changes are added as they come, and additions go around at the limits of the type: that alone gives
//! the same value in every order, and the exact one whenever it is within the limits.
//!
//! # Invariants
//! 1. The value is a function of the set of changes: the order of arrival does not matter.
//! 2. Additions saturate at the limits of the type, one by one in the order of versions. A node's own UPDATE is newer than all
//!    that it holds, so what it wrote is what the fold gives.
//! 3. Removals are not in the history: it is asked with the newest one ([`super::Known::removed`]) as its floor.

use super::stability::Mark;
use super::version::Version;

/// A value that can be counted with. Exact: floating-point types are none.
pub trait Amount: Clone {
    /// `self + (new - old)`, or the limit of the type that it would pass.
    #[must_use]
    fn plus_difference(&self, old: &Self, new: &Self) -> Self;

    /// `self + (new - old)` modulo the number of values of the type, and whether a limit was passed.
    #[must_use]
    fn plus_difference_around(&self, old: &Self, new: &Self) -> (Self, bool);
}

macro_rules! amounts {
    ($($int:ty),*) => {$(
        impl Amount for $int {
            fn plus_difference(&self, old: &Self, new: &Self) -> Self {
                let sum = i128::from(*self) + i128::from(*new) - i128::from(*old);
                sum.clamp(i128::from(Self::MIN), i128::from(Self::MAX)) as Self
            }

            fn plus_difference_around(&self, old: &Self, new: &Self) -> (Self, bool) {
                let sum = i128::from(*self) + i128::from(*new) - i128::from(*old);
                (sum as Self, Self::try_from(sum).is_err())
            }
        }
    )*};
}
amounts!(i16, i32, i64);

/// A decimal of so many digits, so many of them behind the point, for who counts with it: the largest one, and how far it is once
/// around. Both are written with an exponent.
pub fn decimal_range(precision: u16, scale: i16) -> (String, String) {
    let nines = "9".repeat(usize::from(precision));
    let exponent = -i32::from(scale);
    (format!("{nines}e{exponent}"), format!("1{nines}e{exponent}"))
}

/// What a change did to the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect<A> {
    /// INSERT, or an UPDATE from or to NULL.
    Set(A),
    /// UPDATE.
    Add {
        /// The value on the node of the change before it.
        old: A,
        /// The value there after it.
        new: A,
    },
}

impl<A: Amount> Effect<A> {
    fn onto(&self, value: Option<&A>) -> A {
        match (self, value) {
            (Self::Set(new), _) | (Self::Add { new, .. }, None) => new.clone(),
            (Self::Add { old, new }, Some(value)) => value.plus_difference(old, new),
        }
    }
}

/// One change of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry<A> {
    /// Which transaction.
    pub mark: Mark,
    /// What it did.
    pub effect: Effect<A>,
}

/// What is kept of one column of one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct History<A> {
    /// The value after all changes up to this version; nothing older can come any more.
    base: Option<(Version, A)>,
    /// In the order of versions; changes of one transaction in their order.
    entries: Vec<Entry<A>>,
}

impl<A> Default for History<A> {
    fn default() -> Self {
        Self { base: None, entries: Vec::new() }
    }
}

impl<A: Amount> History<A> {
    /// From what was stored: a base, and entries in any order.
    pub fn new(base: Option<(Version, A)>, entries: impl IntoIterator<Item = Entry<A>>) -> Self {
        let mut history = Self { base, entries: Vec::new() };
        entries.into_iter().for_each(|entry| history.add(entry));
        history
    }

    /// The stable part.
    pub fn base(&self) -> Option<&(Version, A)> {
        self.base.as_ref()
    }

    /// The rest, in the order of versions.
    pub fn entries(&self) -> &[Entry<A>] {
        &self.entries
    }

    /// Adds a change. Entries that a later [`Effect::Set`] makes irrelevant go.
    pub fn add(&mut self, entry: Entry<A>) {
        let place = self.entries.partition_point(|other| other.mark.version <= entry.mark.version);
        self.entries.insert(place, entry);
        if let Some(last) = self.entries.iter().rposition(|entry| matches!(entry.effect, Effect::Set(_))) {
            self.entries.drain(..last);
            self.base = None;
        }
    }

    /// The value, if removals up to `floor` are known. `None`: no change after them is known.
    pub fn value(&self, floor: Option<Version>) -> Option<A> {
        let base = self.base.as_ref().filter(|(version, _)| Some(*version) >= floor).map(|(_, value)| value.clone());
        let valid = self.entries.iter().filter(|entry| Some(entry.mark.version) >= floor);
        valid.fold(base, |value, entry| Some(entry.effect.onto(value.as_ref())))
    }

    /// A DELETE or TRUNCATE of this version came; to be called for each one before the row is written, whether or not it wins.
    /// What was counted up to it counts no more, changes earlier in its own transaction among them, which a floor cannot tell
    /// from later ones. Newer changes stay: they can be here even without a row, when they were superseded.
    pub fn removed(&mut self, version: &Version) {
        if self.base.as_ref().is_some_and(|(base, _)| base <= version) {
            self.base = None;
        }
        self.entries.retain(|entry| entry.mark.version > *version);
    }

    /// Folds what is stable into the base. Call it before the tombstone behind `floor` is let go. Returns whether anything
    /// changed.
    pub fn compact(&mut self, floor: Option<Version>, is_stable: impl Fn(&Mark) -> bool) -> bool {
        let before = (self.base.is_some(), self.entries.len());
        if self.base.as_ref().is_some_and(|(version, _)| Some(*version) < floor) {
            self.base = None;
        }
        self.entries.retain(|entry| Some(entry.mark.version) >= floor);
        if let Some(last) = self.entries.iter().rposition(|entry| is_stable(&entry.mark)) {
            for entry in self.entries.drain(..=last) {
                let value = entry.effect.onto(self.base.as_ref().map(|(_, value)| value));
                self.base = Some((entry.mark.version, value));
            }
        }
        before != (self.base.is_some(), self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::Tiebreaker;
    use crate::types::{Lsn, NodeId, PgTime};
    use proptest::prelude::*;

    fn mark(time: i64) -> Mark {
        let origin = NodeId::new(1 + (time % 3) as u32).expect("not zero");
        let version =
            Version { time: Some(PgTime::from_micros(time)), tiebreaker: Tiebreaker::of_node(origin), origin };
        Mark { version, at: Lsn::new(time as u64 + 1).expect("not zero") }
    }

    #[test]
    fn additions_stop_at_the_limit_in_the_order_of_versions() {
        let add = |time, delta: i16| Entry { mark: mark(time), effect: Effect::Add { old: 0, new: delta } };
        let set = |time, value| Entry { mark: mark(time), effect: Effect::Set(value) };
        let cases = [
            ("sum", vec![set(1, 10), add(2, 5), add(3, -3)], None, Some(12)),
            ("over the top, then down", vec![set(1, i16::MAX - 1), add(2, 5), add(3, -3)], None, Some(i16::MAX - 3)),
            ("down, then over the top", vec![set(1, i16::MAX - 1), add(3, 5), add(2, -3)], None, Some(i16::MAX)),
            ("an INSERT does not add", vec![set(1, 10), set(2, 20), add(3, 1)], None, Some(21)),
            ("a late INSERT keeps what came after it", vec![set(1, 10), add(3, 1), set(2, 20)], None, Some(21)),
            ("the first UPDATE after a DELETE sets", vec![set(1, 10), add(3, 7), add(4, 1)], Some(2), Some(8)),
            ("nothing after the DELETE", vec![set(1, 10), add(2, 7)], Some(4), None),
        ];
        for (name, entries, floor, want) in cases {
            let floor = floor.map(|time| mark(time).version);
            assert_eq!(History::new(None, entries).value(floor), want, "{name}");
        }
        assert_eq!(5_i64.plus_difference(&i64::MIN, &i64::MAX), i64::MAX);
        assert_eq!((-5_i64).plus_difference(&i64::MAX, &i64::MIN), i64::MIN);
    }

    #[test]
    fn without_a_history_additions_go_around() {
        assert_eq!((i16::MAX - 1).plus_difference_around(&0, &1), (i16::MAX, false));
        assert_eq!(i16::MAX.plus_difference_around(&0, &2), (i16::MIN + 1, true));
        assert_eq!((i16::MIN + 1).plus_difference_around(&2, &0), (i16::MAX, true), "and back");
        assert_eq!(5_i64.plus_difference_around(&i64::MIN, &i64::MAX), (4, true));
        // numeric(3,1) goes from -99.9 to 99.9: 1999 values.
        assert_eq!(decimal_range(3, 1), ("999e-1".into(), "1999e-1".into()));
        assert_eq!(decimal_range(2, -3), ("99e3".into(), "199e3".into()));
    }

    proptest! {
        #[test]
        fn sums_without_a_history_do_not_depend_on_the_order(
            start in any::<i16>(), raw in proptest::collection::vec((any::<i16>(), any::<i16>()), 1..8), turn in any::<proptest::sample::Index>(),
        ) {
            let sum = |changes: &[(i16, i16)]| {
                changes.iter().fold(start, |value, (old, new)| value.plus_difference_around(old, new).0)
            };
            let mut turned = raw.clone();
            turned.rotate_left(turn.index(raw.len()));
            prop_assert_eq!(sum(&turned), sum(&raw));
            let exact = raw.iter().fold(i64::from(start), |value, (old, new)| value + i64::from(*new) - i64::from(*old));
            prop_assert!(i16::try_from(exact).is_err() || i64::from(sum(&raw)) == exact);
        }

        #[test]
        fn order_of_arrival_and_compaction_do_not_matter(
            raw in proptest::collection::vec((any::<bool>(), any::<i16>(), any::<i16>()), 1..8),
            order in any::<proptest::sample::Index>(), floor in 0..10_i64, stable in 0..9_i64,
        ) {
            let entries: Vec<Entry<i16>> = raw.iter().enumerate().map(|(at, (set, old, new))| Entry {
                mark: mark(at as i64 + 1),
                effect: if *set { Effect::Set(*new) } else { Effect::Add { old: *old, new: *new } },
            }).collect();
            let known_early = floor < stable;
            let floor = (floor > 0).then(|| mark(floor).version);
            let mut turned = entries.clone();
            turned.rotate_left(order.index(entries.len()));
            turned.reverse();
            let want = History::new(None, entries.clone()).value(floor);
            prop_assert_eq!(History::new(None, turned.clone()).value(floor), want);
            // Stable: all older changes, removals among them, are here, and all that comes is newer.
            let is_stable = |mark: &Mark| mark.at.get() <= stable as u64;
            let mut early = History::new(None, turned.iter().copied().filter(|entry| is_stable(&entry.mark)));
            early.compact(floor.filter(|_| known_early), is_stable);
            turned.iter().filter(|entry| !is_stable(&entry.mark)).for_each(|entry| early.add(*entry));
            prop_assert_eq!(early.value(floor), want);
        }
    }
}
