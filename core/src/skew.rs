//! By how much the clock of another node is apart from ours, from questions and answers in its stream.
//!
//! # Invariants
//! 1. An estimate is an interval that holds the true difference: the peer's clock was read between our question and the
//!    arrival of its answer.
//! 2. The answer that came fastest is kept, because it says most. A later one that can be true as well replaces it when it says
//!    more, or when the kept one is old.
//! 3. One that cannot be true as well is believed only when the next one says the same: then a clock was moved. Answers bear no
//!    name, so a message that the peer had sent before it read our question can be taken for one; it says too early a time.
//! 4. An excursion begins only when the difference is certainly above the limit, and ends only when the estimate is within.

use crate::types::PgTime;

/// Clocks of machines drift apart by at most this part of the time that passes: 200 us in a second.
const DRIFT_PART: i64 = 5_000;

/// An estimate this old is replaced by any newer one that agrees with it, in microseconds.
pub const ESTIMATE_AGE_MAX_US: i64 = 60_000_000;

/// An answer that takes longer than this, in microseconds, says nothing that a limit could be compared with: somebody was busy.
pub const ROUND_TRIP_MAX_US: i64 = 500_000;

/// One question and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Our clock when we asked.
    pub asked: PgTime,
    /// The peer's clock when it answered.
    pub answered: PgTime,
    /// Our clock when the answer was here.
    pub received: PgTime,
}

/// What is known of a peer's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// The peer's clock minus ours, in microseconds: positive when the peer is ahead.
    pub offset_us: i64,
    /// Half of the round trip, in microseconds, 0 or more: the true difference is at most so far from `offset_us`.
    pub uncertainty_us: i64,
    /// Our clock when it was measured.
    pub measured_at: PgTime,
}

impl Sample {
    /// What it says. `None`: it took longer than [`ROUND_TRIP_MAX_US`], or our own clock was set back meanwhile.
    pub fn skew(self) -> Option<Skew> {
        let round_trip = self.received.micros().checked_sub(self.asked.micros())?;
        if !(0..=ROUND_TRIP_MAX_US).contains(&round_trip) {
            return None;
        }
        let middle = self.asked.micros().checked_add(round_trip / 2)?;
        Some(Skew {
            offset_us: self.answered.micros().checked_sub(middle)?,
            // Rounded up, so that the interval holds both ends.
            uncertainty_us: round_trip - round_trip / 2,
            measured_at: self.received,
        })
    }
}

impl Skew {
    /// Whether the peer's clock is certainly more than `limit_us` apart from ours.
    pub fn exceeds(self, limit_us: i64) -> bool {
        self.offset_us.saturating_abs().saturating_sub(self.uncertainty_us) > limit_us
    }

    /// Whether the estimate is at most `limit_us`.
    pub fn is_within(self, limit_us: i64) -> bool {
        self.offset_us.saturating_abs() <= limit_us
    }

    /// Whether both can be true, of clocks that drift and are not moved.
    fn agrees_with(self, other: Self) -> bool {
        let apart = self.offset_us.saturating_sub(other.offset_us).saturating_abs();
        let age = self.measured_at.micros().saturating_sub(other.measured_at.micros()).saturating_abs();
        apart <= self.uncertainty_us.saturating_add(other.uncertainty_us).saturating_add(age / DRIFT_PART)
    }
}

/// What is known, and what is doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// What is believed and shown. `None`: nothing yet.
    pub known: Option<Skew>,
    /// The last measurement, where it contradicts what is known: measure again soon.
    pub doubtful: Option<Skew>,
}

impl Estimate {
    /// What is known and doubted after `new` was measured.
    #[must_use]
    pub fn after(self, new: Skew) -> Self {
        let believed = |known| Self { known: Some(known), doubtful: None };
        match (self.known, self.doubtful) {
            (Some(known), _) if known.agrees_with(new) => believed(better(known, new)),
            (_, Some(doubtful)) if doubtful.agrees_with(new) => believed(better(doubtful, new)),
            _ => Self { known: self.known, doubtful: Some(new) },
        }
    }
}

/// Which of two measurements that can both be true says more.
fn better(known: Skew, new: Skew) -> Skew {
    let age_us = new.measured_at.micros().saturating_sub(known.measured_at.micros());
    let stays = known.uncertainty_us < new.uncertainty_us && (0..ESTIMATE_AGE_MAX_US).contains(&age_us);
    if stays { known } else { new }
}

/// What is to be said of an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Nothing has changed.
    Nothing,
    /// The limit is exceeded from now on.
    Exceeded,
    /// The clocks are together again.
    Within,
}

/// Decides what is said, once for each excursion. `outside`: that the limit is exceeded was said last.
pub fn notice(skew: Skew, limit_us: i64, outside: bool) -> Notice {
    match outside {
        false if skew.exceeds(limit_us) => Notice::Exceeded,
        true if skew.is_within(limit_us) => Notice::Within,
        _ => Notice::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skew(offset_us: i64, uncertainty_us: i64, at_us: i64) -> Skew {
        Skew { offset_us, uncertainty_us, measured_at: PgTime::from_micros(at_us) }
    }

    #[test]
    fn samples() {
        let cases = [
            // asked, answered, received; offset and uncertainty
            ("clocks agree", 1_000, 1_050, 1_100, Some((0, 50))),
            ("the peer is ahead", 1_000, 6_050, 1_100, Some((5_000, 50))),
            ("the peer is behind", 1_000, -3_950, 1_100, Some((-5_000, 50))),
            ("an odd round trip", 1_000, 1_000, 1_003, Some((-1, 2))),
            ("at once", 1_000, 900, 1_000, Some((-100, 0))),
            ("our clock was set back", 1_000, 900, 999, None),
            ("just fast enough", 0, 0, ROUND_TRIP_MAX_US, Some((-ROUND_TRIP_MAX_US / 2, ROUND_TRIP_MAX_US / 2))),
            ("too slow", 0, 0, ROUND_TRIP_MAX_US + 1, None),
            ("beyond all times", i64::MIN, 0, i64::MAX, None),
        ];
        for (name, asked, answered, received, want) in cases {
            let [asked, answered, received] = [asked, answered, received].map(PgTime::from_micros);
            let got = Sample { asked, answered, received }.skew();
            assert_eq!(got.map(|skew| (skew.offset_us, skew.uncertainty_us)), want, "{name}");
            assert!(got.is_none_or(|skew| skew.measured_at == received), "{name}");
        }
    }

    #[test]
    fn an_estimate_holds_the_true_difference() {
        // Whenever in its round trip the answer was written.
        for delay in 0..=7 {
            let sample = Sample {
                asked: PgTime::from_micros(100),
                answered: PgTime::from_micros(100 + delay + 40),
                received: PgTime::from_micros(107),
            };
            let skew = sample.skew().expect("a clock that goes forward");
            assert!((skew.offset_us - 40).abs() <= skew.uncertainty_us, "{delay}: {skew:?}");
        }
    }

    #[test]
    fn the_better_estimate_is_kept() {
        let known = skew(100, 10, 0);
        let cases = [
            ("faster", skew(103, 5, 1), true),
            ("as fast", skew(103, 10, 1), true),
            ("slower", skew(130, 40, 1), false),
            ("slower, the kept one is old", skew(130, 40, ESTIMATE_AGE_MAX_US), true),
            ("slower, ours was set back", skew(130, 40, -1), true),
        ];
        for (name, new, replaces) in cases {
            let want = Estimate { known: Some(if replaces { new } else { known }), doubtful: None };
            for doubtful in [None, Some(skew(9_000, 1, 0))] {
                assert_eq!(Estimate { known: Some(known), doubtful }.after(new), want, "{name}");
            }
        }
    }

    #[test]
    fn what_contradicts_is_believed_the_second_time() {
        let (here, there, elsewhere) = (skew(100, 10, 0), skew(5_000, 10, 1), skew(-5_000, 10, 2));
        let estimate = |known, doubtful| Estimate { known, doubtful };
        let first = Estimate::default().after(here);
        assert_eq!(first, estimate(None, Some(here)));
        let known = first.after(here);
        assert_eq!(known, estimate(Some(here), None));
        // Once is a message of before.
        assert_eq!(known.after(there), estimate(Some(here), Some(there)));
        assert_eq!(known.after(there).after(here), known);
        assert_eq!(known.after(there).after(elsewhere), estimate(Some(here), Some(elsewhere)));
        // Twice is a clock that was moved.
        assert_eq!(known.after(there).after(there), estimate(Some(there), None));
    }

    #[test]
    fn an_excursion_is_said_once() {
        let cases = [
            // offset, uncertainty, said before; limit 1000
            (1_000, 10, false, Notice::Nothing),
            (1_005, 10, false, Notice::Nothing),
            (1_011, 10, false, Notice::Exceeded),
            (-1_011, 10, false, Notice::Exceeded),
            (1_011, 10, true, Notice::Nothing),
            (1_005, 10, true, Notice::Nothing),
            (-1_000, 10, true, Notice::Within),
            (0, 0, false, Notice::Nothing),
            (i64::MIN, 0, false, Notice::Exceeded),
        ];
        for (offset, uncertainty, outside, want) in cases {
            assert_eq!(notice(skew(offset, uncertainty, 0), 1_000, outside), want, "{offset} {uncertainty} {outside}");
        }
    }
}
