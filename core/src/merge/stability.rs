//! When a tombstone may go: once nothing older than it can arrive.
//!
//! ```text
//! A deletes at A:50 ──► B applies A:50, then says "A:50" in its own stream ──► C has read that from B, and the like from all others:
//!                       all that B wrote before is at C, all that it writes later is newer than the tombstone
//! ```
//! Each node writes its [`Applied`] into its own stream from time to time. A receiver takes it where it stands in the stream, that
//! is after all changes the node had made before.
//!
//! # What it rests on
//! 1. A stream is read in its order, without gaps.
//! 2. What a node writes after it has applied a change is newer than the change: its clock goes past every time that it applies.
//! 3. Nobody is admitted unless it has applied all that the others have let go ([`Stability::admits`]), and a node that joins
//!    takes over tombstones and displaced rows together with the rows.

use super::version::Version;
use crate::types::{Lsn, NodeId};
use core::fmt;
use std::collections::BTreeMap;
use std::time::Duration;

/// A version, and where its transaction ends in the WAL of the node that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// When and where it was written.
    pub version: Version,
    /// End of its commit record, on its origin.
    pub at: Lsn,
}

/// Up to where a node has applied each origin's changes; its own origin: up to where it has written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Applied(BTreeMap<NodeId, Lsn>);

impl Applied {
    /// Everything of `origin` up to `at` is applied. Never moves back.
    pub fn advance(&mut self, origin: NodeId, at: Lsn) {
        let place = self.0.entry(origin).or_insert(at);
        *place = at.max(*place);
    }

    /// How far `origin` is applied; `None`: not at all.
    pub fn of(&self, origin: NodeId) -> Option<Lsn> {
        self.0.get(&origin).copied()
    }

    /// Whether the transaction of `mark` is applied.
    pub fn covers(&self, mark: &Mark) -> bool {
        self.of(mark.version.origin) >= Some(mark.at)
    }

    /// Whether everything in `other` is applied.
    pub fn covers_all(&self, other: &Self) -> bool {
        other.0.iter().all(|(origin, at)| self.of(*origin) >= Some(*at))
    }

    /// The larger position for each origin.
    pub fn take_over(&mut self, other: &Self) {
        other.0.iter().for_each(|(origin, at)| self.advance(*origin, *at));
    }

    /// Origin and position, by origin.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, Lsn)> + '_ {
        self.0.iter().map(|(origin, at)| (*origin, *at))
    }
}

/// Why announcements of a node cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No subscription here reads from the node.
    NotRead,
    /// A subscription to the node is disabled: what the node has for it comes once it is enabled.
    Disabled,
    /// Transactions of it are parked here: they count as applied, and are when they are replayed.
    Parked,
    /// A subscription to the node takes what it got from others.
    Forwards,
    /// The stream has not run since this server started, or its tables are still being copied.
    NoPosition,
    /// The node does not announce: it is of the C edition, or older.
    Silent,
    /// Not known when the sample was taken.
    NotSampled,
    /// Another node applies changes of it, and it is not known here.
    Stranger,
}

impl Cause {
    /// How long is waited at most for a node that will never say how far it is.
    pub const UNANNOUNCED: Duration = Duration::from_secs(300);

    /// How long what older changes have to be compared with is kept for such a node: for `retention`, where it will say how far it is
    /// once it is back, and as long as it is not, changes of it wait for us.
    pub fn longest(self, retention: Duration) -> Duration {
        match self {
            Self::Disabled | Self::Parked | Self::NoPosition | Self::NotSampled => retention,
            Self::NotRead | Self::Forwards | Self::Silent | Self::Stranger => retention.min(Self::UNANNOUNCED),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRead => "no subscription reads from it",
            Self::Disabled => "a subscription to it is disabled",
            Self::Parked => "transactions of it are parked",
            Self::Forwards => "a subscription to it takes forwarded changes",
            Self::NoPosition => "its stream has not been read far enough since the server started",
            Self::Silent => "it does not announce what it has applied",
            Self::NotSampled => "it was not known when the sample was taken",
            Self::Stranger => "another node applies its changes, and it is not known here",
        })
    }
}

/// What the other members of the cluster have announced to this one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Stability {
    others: BTreeMap<NodeId, Applied>,
    /// What was let go: nobody may join that lacks some of it.
    released: Applied,
}

impl Stability {
    /// With these other members, of which nothing is known yet.
    pub fn new(others: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            others: others.into_iter().map(|node| (node, Applied::default())).collect(),
            released: Applied::default(),
        }
    }

    /// `from`'s stream said this, here and now. From who is no member it means nothing.
    pub fn announced(&mut self, from: NodeId, applied: &Applied) {
        if let Some(known) = self.others.get_mut(&from) {
            known.take_over(applied);
        }
    }

    /// Whether nothing older than `mark` can arrive here any more. In a cluster of one: always.
    pub fn is_stable(&self, mark: &Mark) -> bool {
        self.others.iter().all(|(node, applied)| *node == mark.version.origin || applied.covers(mark))
    }

    /// Something remembered with `mark` was let go.
    pub fn released(&mut self, mark: &Mark) {
        self.released.advance(mark.version.origin, mark.at);
    }

    /// Whether a node that has applied `applied` may become a member: its first write here could otherwise be older than a
    /// tombstone that is gone.
    pub fn admits(&self, applied: &Applied) -> bool {
        applied.covers_all(&self.released)
    }

    /// `node` is a member from here on, with `applied`.
    pub fn join(&mut self, node: NodeId, applied: Applied) {
        self.others.insert(node, applied);
    }

    /// `node` is gone for good, and nothing is read from it any more. Whether it was a member.
    pub fn leave(&mut self, node: NodeId) -> bool {
        self.others.remove(&node).is_some()
    }

    /// The other members.
    pub fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.others.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::Tiebreaker;
    use crate::types::PgTime;
    use proptest::prelude::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).expect("not zero")
    }

    fn mark(origin: u32, at: u64) -> Mark {
        let version = Version { time: Some(PgTime::from_micros(1)), tiebreaker: Tiebreaker(0), origin: node(origin) };
        Mark { version, at: Lsn::new(at).expect("not zero") }
    }

    fn applied(positions: &[(u32, u64)]) -> Applied {
        let mut applied = Applied::default();
        positions.iter().for_each(|(origin, at)| applied.advance(node(*origin), Lsn::new(*at).expect("not zero")));
        applied
    }

    #[test]
    fn a_tombstone_goes_when_all_others_have_announced_it() {
        // Seen from node 3; the tombstone is of node 1 at 50.
        let mut stability = Stability::new([node(1), node(2)]);
        assert!(!stability.is_stable(&mark(1, 50)), "node 2 may still send something older");
        stability.announced(node(2), &applied(&[(1, 49)]));
        assert!(!stability.is_stable(&mark(1, 50)));
        stability.announced(node(4), &applied(&[(1, 99)]));
        assert!(!stability.is_stable(&mark(1, 50)), "node 4 is no member");
        stability.announced(node(2), &applied(&[(1, 50)]));
        assert!(stability.is_stable(&mark(1, 50)), "node 1 wrote it, node 2 has it");
        stability.released(&mark(1, 50));
        assert!(!stability.admits(&applied(&[(1, 49), (2, 99)])), "would write what is older");
        assert!(stability.admits(&applied(&[(1, 50)])));
        stability.join(node(4), applied(&[(1, 50)]));
        assert!(!stability.is_stable(&mark(2, 1)), "a new member counts");
        assert!(stability.leave(node(4)) && !stability.leave(node(4)));
        assert!(!stability.is_stable(&mark(2, 1)), "node 1 has not said that it has it");
        stability.announced(node(1), &applied(&[(2, 1)]));
        assert!(stability.is_stable(&mark(2, 1)));
    }

    proptest! {
        #[test]
        fn positions_never_move_back_and_order_does_not_matter(all in proptest::collection::vec((1..4_u32, 1..4_u32, 1..9_u64), 0..20)) {
            let (mut one, mut other) = (Stability::new([node(2), node(3)]), Stability::new([node(2), node(3)]));
            let mut stable = Vec::new();
            for (from, origin, at) in &all {
                one.announced(node(*from), &applied(&[(*origin, *at)]));
                let now: Vec<_> = (1..9).filter(|at| one.is_stable(&mark(1, *at))).collect();
                prop_assert!(stable.iter().all(|at| now.contains(at)), "stable once, stable for good");
                prop_assert!(now.iter().all(|at| (1..*at).all(|lower| now.contains(&lower))), "and so is all before it");
                stable = now;
            }
            all.iter().rev().for_each(|(from, origin, at)| other.announced(node(*from), &applied(&[(*origin, *at)])));
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn for_whom_it_is_kept_as_long_as_was_asked() {
        let (short, day) = (Duration::from_secs(60), Duration::from_secs(86_400));
        for cause in [Cause::Disabled, Cause::NoPosition, Cause::NotSampled] {
            assert_eq!(cause.longest(day), day, "{cause}");
        }
        for cause in [Cause::NotRead, Cause::Forwards, Cause::Silent, Cause::Stranger] {
            assert_eq!(cause.longest(day), Cause::UNANNOUNCED, "{cause}");
            assert_eq!(cause.longest(short), short, "{cause}");
        }
    }
}
