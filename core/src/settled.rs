//! Which rows of a copy need versions of their own: those that something which is still on its way could be older than.
//!
//! ```text
//! O ──(older change of a row, on its way)──► joining node ◄──copy── provider (has the newer row)
//! ```
//! Most rows of a table are older than anything that can still arrive, so one version does for all of them: that of copied rows,
//! older than any change. The rest is copied with the time and the node of each row.
//!
//! # What it rests on
//! 1. What a provider calls settled was there before every other node said that it had it. What these write later is newer, and
//!    what they wrote before, the provider had read ([`crate::merge::stability`]).
//! 2. A node that has read the others as far as the provider had gets nothing older from them either.
//! 3. The commit times of one node grow along its stream. So what is not applied of it is newer than the last that is.

use crate::merge::stability::Applied;
use crate::types::{Lsn, NodeId, PgTime};
use core::fmt;
use core::str::FromStr;

/// Which rows have versions of their own in a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsettled {
    /// None: nobody but the provider sends anything.
    Nothing,
    /// Those that this transaction of the provider, or a later one, wrote or removed. With its epoch.
    From(u64),
    /// Those that were written or removed later than this.
    Since(PgTime),
}

/// What the provider says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// What was written and removed by transactions before this one is older than all that can still arrive there.
    pub before: u64,
    /// How far it had read the others by then.
    pub read: Applied,
}

/// Transactions of one node that end at the same moment may come in another order than their times have, on a server without a
/// commit clock. So that much, in microseconds, is taken off a time.
const MARGIN_US: i64 = 1_000_000;

/// Another node that the copying node gets changes of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other {
    /// Which.
    pub node: NodeId,
    /// Commit time of the newest change of it that the copy, or the copying node, has. `None`: not known.
    pub last: Option<PgTime>,
}

impl Unsettled {
    /// `read`: how far the copying node has read each of the nodes that it reads already; those that it reads only once the
    /// copy is done, it reads from where the provider is. `limit_us`: nothing is on its way for longer.
    pub fn of(
        settled: Option<&Settled>,
        read: &[(NodeId, Option<Lsn>)],
        others: &[Other],
        now: PgTime,
        limit_us: i64,
    ) -> Self {
        if others.is_empty() {
            return Self::Nothing;
        }
        match settled.filter(|settled| settled.reaches(read)) {
            Some(settled) => Self::From(settled.before),
            None => {
                let first = others.iter().map(|other| other.last.map_or(i64::MIN, PgTime::micros)).min();
                let first = first.unwrap_or(i64::MIN).saturating_sub(MARGIN_US);
                let limit = now.micros().saturating_sub(limit_us);
                Self::Since(PgTime::from_micros(first.max(limit)))
            }
        }
    }
}

impl Settled {
    /// Whether a node that has read the nodes in `read` so far gets nothing older from them. One that the provider does not read
    /// could send anything.
    pub fn reaches(&self, read: &[(NodeId, Option<Lsn>)]) -> bool {
        read.iter().all(|(node, here)| self.read.of(*node).is_some_and(|there| *here >= Some(there)))
    }
}

/// As a word, from one process to the other: `-`, `x` and a transaction, `t` and microseconds since 2000.
impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("-"),
            Self::From(xid) => write!(f, "x{xid}"),
            Self::Since(time) => write!(f, "t{}", time.micros()),
        }
    }
}

/// The text is not one of [`Unsettled`]'s words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchWord;

impl FromStr for Unsettled {
    type Err = NoSuchWord;

    fn from_str(text: &str) -> Result<Self, NoSuchWord> {
        let mut rest = text.chars();
        let kind = rest.next();
        let number = rest.as_str();
        match kind {
            Some('-') if number.is_empty() => Ok(Self::Nothing),
            Some('x') => number.parse().map(Self::From).map_err(|_| NoSuchWord),
            Some('t') => number.parse().map(|time| Self::Since(PgTime::from_micros(time))).map_err(|_| NoSuchWord),
            _ => Err(NoSuchWord),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).expect("not zero")
    }

    fn applied(positions: &[(u32, u64)]) -> Applied {
        let mut applied = Applied::default();
        positions.iter().for_each(|(origin, at)| applied.advance(node(*origin), Lsn::new(*at).expect("not zero")));
        applied
    }

    fn other(id: u32, last: Option<i64>) -> Other {
        Other { node: node(id), last: last.map(seconds) }
    }

    const fn seconds(count: i64) -> PgTime {
        PgTime::from_micros(count * 1_000_000)
    }

    const NOW: PgTime = seconds(1_000);
    const LIMIT_US: i64 = 100_000_000;

    #[test]
    fn in_a_cluster_of_two_every_row_is_settled() {
        let settled = Settled { before: 7, read: Applied::default() };
        assert_eq!(Unsettled::of(Some(&settled), &[], &[], NOW, LIMIT_US), Unsettled::Nothing);
        assert_eq!(Unsettled::of(None, &[], &[], NOW, LIMIT_US), Unsettled::Nothing);
    }

    #[test]
    fn what_the_provider_says_counts_once_the_others_are_read_as_far() {
        let settled = Settled { before: 7, read: applied(&[(2, 50), (3, 60)]) };
        let others = [other(2, Some(950)), other(3, Some(990))];
        let of = |read: &[(NodeId, Option<Lsn>)]| Unsettled::of(Some(&settled), read, &others, NOW, LIMIT_US);
        assert_eq!(of(&[]), Unsettled::From(7), "they are read from where the provider is");
        assert_eq!(of(&[(node(2), Lsn::new(50))]), Unsettled::From(7));
        assert_eq!(of(&[(node(2), Lsn::new(49))]), Unsettled::Since(seconds(949)));
        assert_eq!(of(&[(node(2), None)]), Unsettled::Since(seconds(949)), "not read yet");
        let stranger = [(node(2), Lsn::new(50)), (node(9), Lsn::new(99))];
        assert_eq!(of(&stranger), Unsettled::Since(seconds(949)), "the provider does not read node 9");
    }

    #[test]
    fn without_its_word_the_node_that_is_furthest_behind_counts() {
        let of = |others: &[Other]| Unsettled::of(None, &[], others, NOW, LIMIT_US);
        assert_eq!(of(&[other(2, Some(990)), other(3, Some(950))]), Unsettled::Since(seconds(949)));
        assert_eq!(of(&[other(2, Some(990)), other(3, Some(5))]), Unsettled::Since(seconds(900)));
        assert_eq!(of(&[other(2, Some(990)), other(3, None)]), Unsettled::Since(seconds(900)));
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        let all = [Unsettled::Nothing, Unsettled::From(u64::MAX), Unsettled::Since(PgTime::from_micros(-5))];
        for one in all {
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        for text in ["", "x", "t1.5", "-1", "y7"] {
            assert_eq!(text.parse::<Unsettled>(), Err(NoSuchWord), "{text}");
        }
    }
}
