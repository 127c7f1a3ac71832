//! Columns that count: an INSERT adds its value, an UPDATE (new - old), whichever version of the row wins.
//!
//! Additions go around at the limits of the type. That is the one rule which gives the same value in every order with nothing kept
//! beside the row, and the exact one whenever it is within the limits: saturating or failing in the order of arrival does not.

/// A value that can be counted with. Exact: floating-point types are none.
pub trait Amount: Clone {
    /// `self + (new - old)` modulo the number of values of the type, and whether a limit was passed.
    #[must_use]
    fn plus_difference_around(&self, old: &Self, new: &Self) -> (Self, bool);
}

macro_rules! amounts {
    ($($int:ty),*) => {$(
        impl Amount for $int {
            fn plus_difference_around(&self, old: &Self, new: &Self) -> (Self, bool) {
                let sum = i128::from(*self) + i128::from(*new) - i128::from(*old);
                (sum as Self, Self::try_from(sum).is_err())
            }
        }
    )*};
}
amounts!(i16, i32, i64);

/// A decimal of so many digits, so many of them behind the point, for who counts with it: the largest one, and how far it is once
/// around. Both are written with an exponent.
pub fn decimal_range(precision: u16, scale: i16) -> (String, String) {
    let nines = "9".repeat(usize::from(precision));
    let exponent = -i32::from(scale);
    (format!("{nines}e{exponent}"), format!("1{nines}e{exponent}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn additions_go_around() {
        assert_eq!((i16::MAX - 1).plus_difference_around(&0, &1), (i16::MAX, false));
        assert_eq!(i16::MAX.plus_difference_around(&0, &2), (i16::MIN + 1, true));
        assert_eq!((i16::MIN + 1).plus_difference_around(&2, &0), (i16::MAX, true), "and back");
        assert_eq!(5_i64.plus_difference_around(&i64::MIN, &i64::MAX), (4, true));
        // numeric(3,1) goes from -99.9 to 99.9: 1999 values.
        assert_eq!(decimal_range(3, 1), ("999e-1".into(), "1999e-1".into()));
        assert_eq!(decimal_range(2, -3), ("99e3".into(), "199e3".into()));
    }

    proptest! {
        #[test]
        fn sums_do_not_depend_on_the_order(
            start in any::<i16>(), raw in proptest::collection::vec((any::<i16>(), any::<i16>()), 1..8), turn in any::<proptest::sample::Index>(),
        ) {
            let sum = |changes: &[(i16, i16)]| {
                changes.iter().fold(start, |value, (old, new)| value.plus_difference_around(old, new).0)
            };
            let mut turned = raw.clone();
            turned.rotate_left(turn.index(raw.len()));
            prop_assert_eq!(sum(&turned), sum(&raw));
            let exact = raw.iter().fold(i64::from(start), |value, (old, new)| value + i64::from(*new) - i64::from(*old));
            prop_assert!(i16::try_from(exact).is_err() || i64::from(sum(&raw)) == exact);
        }
    }
}
