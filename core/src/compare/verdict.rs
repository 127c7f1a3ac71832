//! Whether a row that looked different is different, and what a repair does about it.
//!
//! # Invariants
//! 1. [`settle`] compares what both sides had before a cut with what they have after it. At the cut, everything that either
//!    side had before it has been applied on the other.
//! 2. [`repair`] decides as `merge` does, the same on both nodes; what it cannot decide stays as it is.

use crate::merge::Version;

/// A row as one side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Hash of its values.
    pub hash: String,
    /// Who wrote it, and when.
    pub version: Version,
}

/// One key on both sides; `None`: no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair<T> {
    /// Here.
    pub local: Option<T>,
    /// There.
    pub remote: Option<T>,
}

/// What became of a row that looked different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is the same now.
    Equal,
    /// Each side has gone on from what the other had before the cut: it was on its way.
    Superseded,
    /// It differs.
    Differs,
    /// It was written meanwhile in a way that does not tell: another cut is needed.
    Open,
}

/// `before` has passed to the other side, which has `after` now. `None`: cannot be told.
fn arrived(before: Option<&Seen>, after: Option<&Seen>) -> Option<bool> {
    match (before, after) {
        (None, _) => Some(true),
        (Some(before), Some(after)) => Some(after.version >= before.version),
        // Deleted there, or never there.
        (Some(_), None) => None,
    }
}

/// Compares a pair before and after a cut.
pub fn settle(before: &Pair<Seen>, after: &Pair<Seen>) -> Settled {
    let hash = |seen: &Option<Seen>| seen.as_ref().map(|seen| seen.hash.clone());
    if hash(&after.local) == hash(&after.remote) {
        return Settled::Equal;
    }
    if before == after {
        return Settled::Differs;
    }
    let there = arrived(before.local.as_ref(), after.remote.as_ref());
    let here = arrived(before.remote.as_ref(), after.local.as_ref());
    match (there, here) {
        (Some(true), Some(true)) => Settled::Superseded,
        (Some(false), _) | (_, Some(false)) => Settled::Differs,
        (None, _) | (_, None) => Settled::Open,
    }
}

/// Which side a user prefers, whatever the versions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// What is here.
    Local,
    /// What is there.
    Remote,
}

/// What is done here with a row that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// The other node's row is written where none is.
    Insert,
    /// The other node's row replaces ours.
    Update,
    /// Our row goes.
    Delete,
    /// What is here stays: it is for the other node to change.
    Keep,
    /// Both sides say that they have the same version.
    Undecided,
}

/// Decides. A key without a row has no version, so a row that exists wins, unless the user prefers the side without it.
pub fn repair(local: Option<&Version>, remote: Option<&Version>, prefer: Option<Prefer>) -> Repair {
    match (local, remote, prefer) {
        (_, _, Some(Prefer::Local)) | (Some(_), None, None) | (None, None, _) => Repair::Keep,
        (None, Some(_), _) => Repair::Insert,
        (Some(_), None, Some(Prefer::Remote)) => Repair::Delete,
        (Some(_), Some(_), Some(Prefer::Remote)) => Repair::Update,
        (Some(local), Some(remote), None) => match remote.cmp(local) {
            core::cmp::Ordering::Greater => Repair::Update,
            core::cmp::Ordering::Less => Repair::Keep,
            core::cmp::Ordering::Equal => Repair::Undecided,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::Tiebreaker;
    use crate::types::{NodeId, PgTime};

    fn version(time: i64, origin: u32) -> Version {
        let origin = NodeId::new(origin).expect("not zero");
        Version { time: Some(PgTime::from_micros(time)), tiebreaker: Tiebreaker::of_node(origin), origin }
    }

    /// A row whose values are those of its version; 0: none.
    fn seen(time: i64) -> Option<Seen> {
        (time > 0).then(|| Seen { hash: time.to_string(), version: version(time, 1) })
    }

    #[test]
    fn what_is_on_its_way_is_no_difference() {
        use Settled::{Differs, Equal, Open, Superseded};
        let cases = [
            // name, (local, remote) before, after, verdict
            ("arrived", (2, 1), (2, 2), Equal),
            ("deleted there as here", (0, 1), (0, 0), Equal),
            ("nothing moves: lost there", (2, 1), (2, 1), Differs),
            ("nothing moves: never arrived", (2, 0), (2, 0), Differs),
            ("nothing moves: deleted here only", (0, 2), (0, 2), Differs),
            ("both went on", (2, 1), (4, 3), Superseded),
            ("we went on, there it arrived", (2, 1), (3, 2), Superseded),
            ("we go on, there nothing arrives", (2, 1), (3, 1), Differs),
            ("they go on, nothing arrives here", (1, 2), (1, 3), Differs),
            ("new there, not here", (0, 1), (0, 2), Open),
            ("new there, arrived here", (0, 1), (1, 2), Superseded),
            ("deleted there, written here", (2, 1), (3, 0), Open),
        ];
        for (name, before, after, want) in cases {
            let pair = |(local, remote)| Pair { local: seen(local), remote: seen(remote) };
            assert_eq!(settle(&pair(before), &pair(after)), want, "{name}");
            let mirrored = |(local, remote)| Pair { local: seen(remote), remote: seen(local) };
            assert_eq!(settle(&mirrored(before), &mirrored(after)), want, "{name}, seen from the other node");
        }
    }

    #[test]
    fn two_nodes_that_repair_end_with_the_same_row() {
        let (old, new) = (version(1, 1), version(2, 2));
        let cases = [
            // name, local, remote, prefer, what is done
            ("newer there", Some(old), Some(new), None, Repair::Update),
            ("newer here", Some(new), Some(old), None, Repair::Keep),
            ("same version", Some(new), Some(new), None, Repair::Undecided),
            ("same version, told", Some(new), Some(new), Some(Prefer::Remote), Repair::Update),
            ("only there", None, Some(old), None, Repair::Insert),
            ("only there, told to keep", None, Some(old), Some(Prefer::Local), Repair::Keep),
            ("only here", Some(old), None, None, Repair::Keep),
            ("only here, told to take theirs", Some(old), None, Some(Prefer::Remote), Repair::Delete),
            ("older there, told to take it", Some(new), Some(old), Some(Prefer::Remote), Repair::Update),
        ];
        for (name, local, remote, prefer, want) in cases {
            assert_eq!(repair(local.as_ref(), remote.as_ref(), prefer), want, "{name}");
        }
    }
}
