//! Whether a provider that was promoted has everything that a subscription has applied from the server before it.
//!
//! A standby that takes over begins a new timeline where its own WAL ended. What the old primary had sent beyond that point is
//! on the subscriber only, and what the new one writes there would be taken for known: the two must not go on together.

use crate::types::Lsn;

/// Where a timeline was left for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// The timeline that ended for this history.
    pub timeline: u32,
    /// Where.
    pub at: Lsn,
}

/// Reads a history file: one line for each timeline before the current one, its number and where it was left. Lines that are
/// none are comments.
pub fn parse_history(text: &str) -> Vec<Switch> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let timeline = words.next()?.parse().ok()?;
            let at = words.next()?.parse().ok()?;
            Some(Switch { timeline, at })
        })
        .collect()
}

/// Why a subscription cannot go on at its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// The provider's WAL ends before what was applied.
    Behind {
        /// Its end.
        end: Lsn,
    },
    /// The provider left the timeline from which we applied before what was applied.
    Left {
        /// Where it left.
        at: Lsn,
    },
}

/// Looks for a gap. `applied` is how far the subscription is, `known` the timeline that it last streamed from, `history` that
/// of the provider's current timeline `current`, whose WAL goes to `end`.
pub fn find_gap(
    applied: Option<Lsn>,
    known: Option<u32>,
    current: u32,
    end: Option<Lsn>,
    history: &[Switch],
) -> Option<Gap> {
    let applied = applied?;
    if let Some(end) = end.filter(|end| applied > *end) {
        return Some(Gap::Behind { end });
    }
    let known = known.filter(|known| *known != current)?;
    let left = history.iter().find(|switch| switch.timeline == known)?;
    (applied > left.at).then_some(Gap::Left { at: left.at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_files_are_read_as_the_server_writes_them() {
        let text = "1\t0/3000060\tno recovery target specified\n\n# a comment\n2\t1/A0\tbefore 2020-01-01\n";
        let expected = [
            Switch { timeline: 1, at: "0/3000060".parse().unwrap() },
            Switch { timeline: 2, at: "1/A0".parse().unwrap() },
        ];
        assert_eq!(parse_history(text), expected);
        assert_eq!(parse_history(""), []);
    }

    #[test]
    fn a_gap_is_what_was_applied_beyond_the_point_where_the_provider_turned_off() {
        let lsn = |raw| Lsn::new(raw);
        let history = [Switch { timeline: 1, at: lsn(100).unwrap() }, Switch { timeline: 2, at: lsn(200).unwrap() }];
        let left = |raw| Some(Gap::Left { at: lsn(raw).unwrap() });
        let cases = [
            ("nothing applied", None, Some(1), 3, lsn(300), None),
            ("same timeline", lsn(250), Some(3), 3, lsn(300), None),
            ("beyond its end", lsn(301), Some(3), 3, lsn(300), Some(Gap::Behind { end: lsn(300).unwrap() })),
            ("exactly its end", lsn(300), Some(3), 3, lsn(300), None),
            ("one promotion, within", lsn(200), Some(2), 3, lsn(300), None),
            ("one promotion, beyond", lsn(201), Some(2), 3, lsn(300), left(200)),
            ("two promotions, within", lsn(100), Some(1), 3, lsn(300), None),
            ("two promotions, beyond the first", lsn(150), Some(1), 3, lsn(300), left(100)),
            ("not known where from", lsn(250), None, 3, lsn(300), None),
            ("a timeline of another history", lsn(250), Some(7), 3, lsn(300), None),
        ];
        for (name, applied, known, current, end, expected) in cases {
            assert_eq!(find_gap(applied, known, current, end, &history), expected, "{name}");
        }
    }
}
