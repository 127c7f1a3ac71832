//! How far a primary may send: a subscriber must not get what the standby that may replace its provider does not have.

use crate::types::Lsn;

/// What a listed slot that does not exist counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// As one that has confirmed nothing.
    Wait,
    /// As if it were not listed.
    Ignore,
}

/// Up to where the listed slots let changes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Nothing is held back.
    None,
    /// Only what ends at or before this position; `None`: nothing yet.
    UpTo(Option<Lsn>),
}

impl Limit {
    /// Whether something that ends at `end` may go out.
    pub fn lets_out(self, end: Lsn) -> bool {
        match self {
            Self::None => true,
            Self::UpTo(limit) => limit.is_some_and(|limit| end <= limit),
        }
    }
}

/// A listed slot as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// There is no slot of that name, or it lost what it kept.
    Missing,
    /// Its position: what the standby has on disk, or the subscriber has confirmed. `None`: not known yet.
    At(Option<Lsn>),
}

/// The position that `required` of the slots have confirmed. `required` below zero: all of them; more than there are: all.
pub fn limit(listed: &[Listed], required: i32, missing: Missing) -> Limit {
    let mut positions: Vec<Option<Lsn>> = listed
        .iter()
        .filter_map(|slot| match (slot, missing) {
            (Listed::At(position), _) => Some(*position),
            (Listed::Missing, Missing::Wait) => Some(None),
            (Listed::Missing, Missing::Ignore) => None,
        })
        .collect();
    let required = usize::try_from(required).map_or(positions.len(), |required| required.min(positions.len()));
    if required == 0 {
        return Limit::None;
    }
    positions.sort_unstable_by(|one, other| other.cmp(one));
    Limit::UpTo(positions[required - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(raw: u64) -> Listed {
        Listed::At(Lsn::new(raw))
    }

    #[test]
    fn as_many_slots_as_are_required_must_have_confirmed() {
        let up_to = |raw| Limit::UpTo(Lsn::new(raw));
        let gone = Listed::Missing;
        let cases: [(&str, &[Listed], i32, Missing, Limit); 13] = [
            ("no list", &[], -1, Missing::Wait, Limit::None),
            ("all of one", &[at(7)], -1, Missing::Wait, up_to(7)),
            ("all of three: the last one counts", &[at(7), at(3), at(9)], -1, Missing::Wait, up_to(3)),
            ("one of three: the first one counts", &[at(7), at(3), at(9)], 1, Missing::Wait, up_to(9)),
            ("two of three", &[at(7), at(3), at(9)], 2, Missing::Wait, up_to(7)),
            ("more than there are", &[at(7), at(3)], 100, Missing::Wait, up_to(3)),
            ("none required", &[at(7)], 0, Missing::Wait, Limit::None),
            ("not known yet", &[at(7), at(0)], -1, Missing::Wait, up_to(0)),
            ("not known yet, one suffices", &[at(7), at(0)], 1, Missing::Wait, up_to(7)),
            ("missing holds back", &[at(7), gone], -1, Missing::Wait, up_to(0)),
            ("missing, but another suffices", &[at(7), gone], 1, Missing::Wait, up_to(7)),
            ("missing is ignored", &[at(7), gone], -1, Missing::Ignore, up_to(7)),
            ("only missing ones, ignored", &[gone], -1, Missing::Ignore, Limit::None),
        ];
        for (name, listed, required, missing, expected) in cases {
            assert_eq!(limit(listed, required, missing), expected, "{name}");
        }
    }

    #[test]
    fn what_ends_at_the_limit_goes_out() {
        let end = |raw| Lsn::new(raw).unwrap();
        assert!(Limit::None.lets_out(end(u64::MAX)));
        assert!(Limit::UpTo(Lsn::new(5)).lets_out(end(5)));
        assert!(!Limit::UpTo(Lsn::new(5)).lets_out(end(6)));
        assert!(!Limit::UpTo(None).lets_out(end(1)));
    }
}
