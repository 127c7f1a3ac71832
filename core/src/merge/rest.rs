//! What is left of a counter whose row was removed, as long as a change can come that brings the row back; and what was added to one
//! whose row has not come.
//!
//! ```text
//! DELETE of the row ─► its sum is in the dead row ─► older INSERT or UPDATE comes: what it adds is kept beside the tombstone
//!   newer UPDATE comes: the row is back, with all of it     newer INSERT comes: begins anew     the tombstone goes: forgotten
//! UPDATE comes that is superseded, and there is no row ─► what it adds is kept, with what the removed row had ─► the row comes
//! ```
//! Additions around the limits of a type commute, and a DELETE takes nothing from the sum: so the row that comes back has the sum
//! of all that was added, on every node, whether the DELETE came there before the additions or after them.
//!
//! # Invariants
//! 1. Nothing is kept of a key that no change meets while it has no row.
//! 2. What is kept is released together with the tombstones, and as bounded as they are: none goes with a removal that is older.

use super::version::Version;

/// What came of an addition after the removal, or before the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kept<A> {
    /// Of the change.
    pub version: Version,
    /// It was an INSERT, or an UPDATE under a new key.
    pub first: bool,
    /// What it adds.
    pub amount: A,
}

/// A counter without a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rest<A> {
    /// The sum in the row that was removed here, and the version of its removal. `None`: there was no row, or it was let go.
    pub left: Option<(Version, A)>,
    /// What came afterwards.
    pub kept: Vec<Kept<A>>,
}

impl<A> Default for Rest<A> {
    fn default() -> Self {
        Self { left: None, kept: Vec::new() }
    }
}

impl<A> Rest<A> {
    /// The sum in the removed row, as far as it counts: not if the key was inserted anew after it, and that row, which never was
    /// here, removed as well.
    pub fn left_over(&self) -> Option<&A> {
        let anew = |removed: Version| self.kept.iter().any(|kept| kept.first && kept.version > removed);
        self.left.as_ref().filter(|(removed, _)| !anew(*removed)).map(|(_, sum)| sum)
    }

    /// What a change of that version takes along which brings the row back, if no row can be made of it yet: all of this may be let go
    /// before the row comes. Later additions stay by themselves.
    pub fn taken_by(&self, version: &Version) -> impl Iterator<Item = &A> {
        let kept = self.kept.iter().filter(move |kept| kept.version <= *version);
        self.left_over().into_iter().chain(kept.map(|kept| &kept.amount))
    }

    /// What the counter is the sum of.
    pub fn parts(&self) -> impl Iterator<Item = &A> {
        self.left_over().into_iter().chain(self.kept.iter().map(|kept| &kept.amount))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::Tiebreaker;
    use crate::merge::delta::Amount;
    use crate::types::{NodeId, PgTime};
    use proptest::prelude::*;

    fn at(time: i64) -> Version {
        let origin = NodeId::new(1).expect("not zero");
        Version { time: Some(PgTime::from_micros(time)), tiebreaker: Tiebreaker::of_node(origin), origin }
    }

    fn sum(rest: &Rest<i16>) -> i16 {
        rest.parts().fold(0, |sum: i16, part| sum.plus_difference_around(&0, part).0)
    }

    #[test]
    fn what_the_row_had_counts_until_the_key_begins_anew() {
        let kept = |time, first, amount| Kept { version: at(time), first, amount };
        let cases = [
            ("nothing", None, vec![], 0),
            ("the row", Some((at(5), 10)), vec![], 10),
            ("older additions", Some((at(5), 10)), vec![kept(3, false, 4), kept(1, false, -1)], 13),
            ("an older INSERT of another node", Some((at(5), 10)), vec![kept(3, true, 7)], 17),
            ("a row of which only the end was here", Some((at(5), 10)), vec![kept(6, true, 7), kept(7, false, 1)], 8),
            ("no row", None, vec![kept(3, true, 7), kept(4, false, 1)], 8),
        ];
        for (name, left, kept, want) in cases {
            assert_eq!(sum(&Rest { left, kept }), want, "{name}");
        }
    }

    #[test]
    fn who_brings_the_row_back_takes_along_what_is_older() {
        let kept = |time, amount| Kept { version: at(time), first: false, amount };
        let rest = Rest { left: Some((at(5), 10)), kept: vec![kept(3, 4), kept(6, 1), kept(8, 2)] };
        assert_eq!(rest.taken_by(&at(7)).copied().collect::<Vec<i16>>(), [10, 4, 1]);
        let gone = Rest { left: None, ..rest };
        assert_eq!(gone.taken_by(&at(7)).copied().collect::<Vec<i16>>(), [4, 1], "the removed row was never here");
    }

    proptest! {
        /// Before the removal or after it: the same sum, around the limits as well.
        #[test]
        fn it_does_not_matter_when_the_row_was_removed(
            start in any::<i16>(), raw in proptest::collection::vec(any::<i16>(), 0..8), cut in any::<proptest::sample::Index>(),
            turn in any::<proptest::sample::Index>(),
        ) {
            let mut turned = raw.clone();
            if !raw.is_empty() {
                turned.rotate_left(turn.index(raw.len()));
            }
            let (before, after) = turned.split_at(cut.index(raw.len() + 1));
            let row = before.iter().fold(start, |row, amount| row.plus_difference_around(&0, amount).0);
            let kept = after.iter().map(|amount| Kept { version: at(1), first: false, amount: *amount }).collect();
            let want = raw.iter().fold(start, |row, amount| row.plus_difference_around(&0, amount).0);
            prop_assert_eq!(sum(&Rest { left: Some((at(5), row)), kept }), want);
        }
    }
}
