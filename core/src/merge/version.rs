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
    fn one_order_for_all_nodes() {
        let cases = [
            // name, the newer one, the older one
            ("later time", version(Some(11), 2, 2), version(Some(10), 1, 1)),
            ("tie: smaller tiebreaker", version(Some(10), 1, 9), version(Some(10), 2, 2)),
            ("tie of tiebreakers: smaller node", version(Some(10), 5, 1), version(Some(10), 5, 2)),
            ("unknown time is older than any", version(Some(i64::MIN), 2, 2), version(None, 1, 1)),
            ("both unknown: smaller tiebreaker", version(None, 1, 1), version(None, 2, 2)),
        ];
        for (name, newer, older) in cases {
            assert!(newer > older, "{name}");
            assert!(older < newer, "{name}, seen from the other node");
        }
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
    }
}
