//! When and where a row was written, and the one total order of it: the larger version wins, on every node alike.
//!
//! # Invariants
//! 1. The order is total: (time, tiebreaker of the origin, origin). A version of unknown time is older than any known one.
//! 2. `origin` is the node where the version was written, never the node that merges and never one that forwarded it.
//! 3. [`merge`] is commutative, associative and idempotent. It reads no clock and no setting.

use crate::types::{NodeId, PgTime};

/// Decides between versions of the same time: `info->'tiebreaker'` of the origin's node, else its id. Smaller wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tiebreaker(pub i64);

impl Tiebreaker {
    /// What a node without a tiebreaker of its own has.
    pub const fn of_node(node: NodeId) -> Self {
        Self(node.get() as i64)
    }
}

/// When and where a row's values were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    /// Commit time on the node where it was written. `None`: the server no longer knows (frozen, or truncated).
    pub time: Option<PgTime>,
    /// Of the node where it was written.
    pub tiebreaker: Tiebreaker,
    /// The node where it was written.
    pub origin: NodeId,
}

impl Version {
    /// Larger is newer. `None` sorts before `Some`, and the smaller tiebreaker, then the smaller node, wins.
    fn rank(&self) -> (Option<PgTime>, core::cmp::Reverse<(Tiebreaker, NodeId)>) {
        (self.time, core::cmp::Reverse((self.tiebreaker, self.origin)))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// What to do with a remote change that meets a local row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Winner {
    /// The remote change is written.
    Remote,
    /// The local row stays.
    Local,
}

/// Decides between the local row's version and the remote change's. The same version again is applied: it is the next
/// change of one transaction, or the same change delivered twice.
pub fn resolve(local: &Version, remote: &Version) -> Winner {
    if remote >= local { Winner::Remote } else { Winner::Local }
}

/// The newer of two states of a key.
pub fn merge<T: Clone>(left: &(Version, T), right: &(Version, T)) -> (Version, T) {
    if right.0 >= left.0 { right.clone() } else { left.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).expect("not zero")
    }

    fn version(time: Option<i64>, tiebreaker: i64, origin: u32) -> Version {
        Version { time: time.map(PgTime::from_micros), tiebreaker: Tiebreaker(tiebreaker), origin: node(origin) }
    }

    #[test]
    fn the_later_version_wins_seen_from_both_sides() {
        use Winner::{Local, Remote};
        let cases = [
            // name, one, other, who wins when `one` is local
            ("later time", version(Some(10), 1, 1), version(Some(11), 2, 2), Remote),
            ("earlier time", version(Some(11), 1, 1), version(Some(10), 2, 2), Local),
            ("tie: smaller tiebreaker", version(Some(10), 1, 9), version(Some(10), 2, 2), Local),
            ("tie of tiebreakers: smaller node", version(Some(10), 5, 1), version(Some(10), 5, 2), Local),
            ("unknown time is older than any", version(None, 1, 1), version(Some(i64::MIN), 2, 2), Remote),
            ("both unknown: smaller tiebreaker", version(None, 1, 1), version(None, 2, 2), Local),
        ];
        for (name, one, other, want) in cases {
            let mirrored = if want == Local { Remote } else { Local };
            assert_eq!(resolve(&one, &other), want, "{name}");
            assert_eq!(resolve(&other, &one), mirrored, "{name}, seen from the other node");
        }
        let same = version(Some(10), 1, 1);
        assert_eq!(resolve(&same, &same), Remote, "the same version again");
    }

    fn versions() -> impl Strategy<Value = Version> {
        // A node has one tiebreaker, so it is a function of the node here as well; few values make ties likely.
        (proptest::option::of(0..4_i64), 1..5_u32)
            .prop_map(|(time, origin)| version(time, i64::from(origin % 2), origin))
    }

    proptest! {
        #[test]
        fn merge_is_commutative_associative_idempotent(a in versions(), b in versions(), c in versions()) {
            let state = |version: Version| (version, version);
            let (a, b, c) = (state(a), state(b), state(c));
            prop_assert_eq!(merge(&a, &b), merge(&b, &a));
            prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
            prop_assert_eq!(merge(&a, &a), a);
        }

        #[test]
        fn every_delivery_order_ends_equal(all in proptest::collection::vec(versions(), 1..6), seed in any::<u64>()) {
            let apply = |order: &[Version]| {
                let mut row = order[0];
                for remote in &order[1..] {
                    if resolve(&row, remote) == Winner::Remote {
                        row = *remote;
                    }
                }
                row
            };
            let mut other = all.clone();
            let len = other.len();
            for at in (1..len).rev() {
                other.swap(at, (seed.rotate_left(at as u32 * 7) % (at as u64 + 1)) as usize);
            }
            prop_assert_eq!(apply(&all), apply(&other));
        }
    }
}
