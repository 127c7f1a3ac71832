//! How far ahead of its use a replicated sequence is announced, and which announced value a subscriber takes.
//!
//! # Invariants
//! 1. A subscriber's sequence never goes backwards, whatever arrives; forwards is the direction of its increment.
//! 2. What is announced stays inside the bounds of the sequence.
//! 3. A value that came from another node is not announced again, so two nodes that send each other the same sequence do
//!    not drive it.

/// Smallest number of values by which an announcement runs ahead of use.
pub const CACHE_MIN: i32 = 1_000;
/// Largest.
pub const CACHE_MAX: i32 = 1_000_000;
/// A pass leaves a sequence alone while at least this many values are left: half of the smallest step.
const LEFT_MIN: i128 = 500;

/// A sequence as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// Its last value.
    pub last: i64,
    /// Whether the last value was given out. A new sequence has not given out its first.
    pub called: bool,
    /// Its increment, never zero.
    pub increment: i64,
    /// MINVALUE
    pub min: i64,
    /// MAXVALUE
    pub max: i64,
}

/// What subscribers were told: `spock.sequence_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// How many values the next announcement runs ahead.
    pub cache: i32,
    /// The value told last.
    pub value: i64,
}

/// What a pass over one sequence decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Subscribers are far enough ahead.
    Enough,
    /// Tell them this.
    Announce {
        /// The new state; its value is what is told.
        state: Announced,
        /// Use has overtaken half of the step: the next pass should not wait as long as usual.
        soon: bool,
    },
}

impl Sequence {
    /// The value `steps` steps after `last`, inside the bounds.
    fn ahead(&self, steps: i32) -> i64 {
        let wanted = i128::from(self.last) + i128::from(steps) * i128::from(self.increment);
        // Between two i64 bounds, so it is one.
        wanted.clamp(i128::from(self.min), i128::from(self.max)) as i64
    }

    /// How many steps `value` is ahead of the sequence; negative when behind.
    fn steps_to(&self, value: i64) -> i128 {
        (i128::from(value) - i128::from(self.last)) / i128::from(self.increment)
    }

    /// What `sync_seq` announces: one step ahead of the sequence, whatever was told before.
    pub fn announce(&self, told: Announced) -> Announced {
        let cache = told.cache.clamp(CACHE_MIN, CACHE_MAX);
        Announced { cache, value: self.ahead(cache) }
    }

    /// What the periodic pass does.
    pub fn pass(&self, told: Announced) -> Pass {
        let left = self.steps_to(told.value);
        if left >= LEFT_MIN {
            return Pass::Enough;
        }
        let cache = told.cache.clamp(CACHE_MIN, CACHE_MAX);
        let soon = left + i128::from(cache / 2) < 0;
        let used_up = left + i128::from(cache) <= 0;
        let cache = if used_up { cache.saturating_mul(2).min(CACHE_MAX) } else { cache };
        let state = Announced { cache, value: self.ahead(cache) };
        if state.value == told.value {
            // At the end of its range: there is nothing to tell.
            return Pass::Enough;
        }
        Pass::Announce { state, soon }
    }

    /// Whether the sequence moves to `value`, which another node announced.
    pub fn takes(&self, value: i64) -> bool {
        if value == self.last {
            return !self.called;
        }
        (value > self.last) == (self.increment > 0)
    }

    /// State after this sequence was moved to its `last` by another node: as if it had told everybody itself.
    pub fn taken_over(&self, told: Announced) -> Announced {
        let state = self.announce(told);
        if self.steps_to(told.value) > self.steps_to(state.value) { told } else { state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Sequence = Sequence { last: 100, called: true, increment: 1, min: 1, max: i64::MAX };
    const DOWN: Sequence = Sequence { last: -100, called: true, increment: -2, min: i64::MIN, max: -1 };

    fn told(cache: i32, value: i64) -> Announced {
        Announced { cache, value }
    }

    fn announce(cache: i32, value: i64, soon: bool) -> Pass {
        Pass::Announce { state: told(cache, value), soon }
    }

    #[test]
    fn passes() {
        let end = Sequence { last: 990, max: 1000, ..UP };
        let cases = [
            ("far enough ahead", UP, told(1000, 600), Pass::Enough),
            ("less than half left", UP, told(1000, 599), announce(1000, 1100, false)),
            ("just joined", UP, told(1000, 100), announce(1000, 1100, false)),
            ("use is ahead by half", UP, told(1000, -401), announce(1000, 1100, true)),
            ("the step is used up", UP, told(1000, -900), announce(2000, 2100, true)),
            ("the step does not grow for ever", UP, told(CACHE_MAX, -2_000_000), announce(CACHE_MAX, 1_000_100, true)),
            ("a broken step", UP, told(-5, 100), announce(1000, 1100, false)),
            ("descending, enough", DOWN, told(1000, -1100), Pass::Enough),
            ("descending, ahead in steps of two", DOWN, told(1000, -102), announce(1000, -2100, false)),
            ("up to the maximum", end, told(1000, 990), announce(1000, 1000, false)),
            ("at the maximum nothing is told twice", end, told(1000, 1000), Pass::Enough),
            ("wrapped around or set back", UP, told(1000, 1_000_000), Pass::Enough),
            ("no overflow", Sequence { last: i64::MIN, min: i64::MIN, ..UP }, told(1000, i64::MAX), Pass::Enough),
            (
                "no overflow the other way",
                Sequence { last: i64::MAX, ..UP },
                told(1000, i64::MIN),
                announce(2000, i64::MAX, true),
            ),
        ];
        for (name, sequence, told, want) in cases {
            assert_eq!(sequence.pass(told), want, "{name}");
        }
    }

    #[test]
    fn values_from_elsewhere_only_move_forward() {
        let fresh = Sequence { last: 1, called: false, ..UP };
        let cases = [
            ("ahead", UP, 101, true),
            ("the same", UP, 100, false),
            ("behind", UP, 99, false),
            ("descending, ahead", DOWN, -101, true),
            ("descending, behind", DOWN, -99, false),
            ("the first value of a new sequence", fresh, 1, true),
        ];
        for (name, sequence, value, want) in cases {
            assert_eq!(sequence.takes(value), want, "{name}");
        }
    }

    #[test]
    fn two_nodes_do_not_drive_each_other() {
        let (mut a, mut b) = (UP, UP);
        let (mut told_a, mut told_b) = (told(1000, 100), told(1000, 100));
        let mut messages = 0;
        for _ in 0..10 {
            if let Pass::Announce { state, .. } = a.pass(told_a) {
                told_a = state;
                messages += 1;
                if b.takes(state.value) {
                    b.last = state.value;
                    told_b = b.taken_over(told_b);
                }
            }
            if let Pass::Announce { state, .. } = b.pass(told_b) {
                told_b = state;
                messages += 1;
                if a.takes(state.value) {
                    a.last = state.value;
                    told_a = a.taken_over(told_a);
                }
            }
        }
        assert_eq!((messages, a.last, b.last), (1, 100, 1100));
    }

    #[test]
    fn an_announcement_that_reaches_further_is_kept() {
        assert_eq!(UP.taken_over(told(1000, 5000)), told(1000, 5000));
        assert_eq!(UP.taken_over(told(1000, 7)), told(1000, 1100));
    }
}
