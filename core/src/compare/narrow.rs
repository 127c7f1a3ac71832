//! From a table to the rows that may differ: rows fall into buckets by a hash of their keys, and only buckets whose sums
//! differ are looked at more closely.
//!
//! # Invariants
//! 1. A row that differs lies in a bucket that differs, at every size of buckets.
//! 2. A step asks for at most [`GROUPS_MAX`] buckets, or for buckets with about [`ROWS_MAX`] rows of both sides together.

use std::collections::HashMap;

/// Bits of a key's hash that are used.
pub const KEY_BITS: u32 = 48;
/// Bits of the first buckets: 4096 of them cost nothing to compare, and a difference in one leaves 1/4096 of the table.
pub const FIRST_BITS: u32 = 12;
/// Buckets in one answer; some megabytes of memory.
pub const GROUPS_MAX: usize = 32_768;
/// Rows, of both sides together, that are compared one by one in one step.
pub const ROWS_MAX: u64 = 20_000;

/// What one side has in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Which bucket.
    pub bucket: i64,
    /// Its rows.
    pub rows: u64,
    /// Sums of the rows' hashes.
    pub sums: (String, String),
}

/// A bucket that is not the same on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Differing {
    /// Which.
    pub bucket: i64,
    /// Rows of both sides.
    pub rows: u64,
}

/// What to ask next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Both sides are the same.
    Done,
    /// Smaller buckets, of so many bits.
    Split(u32),
    /// The rows of each of these lists of buckets, one list after the other.
    Fetch(Vec<Vec<i64>>),
}

/// The buckets in which the sides differ, by number.
pub fn differing(local: Vec<Group>, remote: Vec<Group>) -> Vec<Differing> {
    let mut remote: HashMap<i64, Group> = remote.into_iter().map(|group| (group.bucket, group)).collect();
    let mut found = Vec::new();
    for group in local {
        match remote.remove(&group.bucket) {
            Some(other) if other == group => {}
            other => {
                found.push(Differing { bucket: group.bucket, rows: group.rows + other.map_or(0, |other| other.rows) })
            }
        }
    }
    found.extend(remote.into_values().map(|group| Differing { bucket: group.bucket, rows: group.rows }));
    found.sort_unstable_by_key(|differing| differing.bucket);
    found
}

/// What follows from the buckets of `bits` bits that differ.
pub fn next(differing: &[Differing], bits: u32) -> Step {
    if differing.is_empty() {
        return Step::Done;
    }
    let rows: u64 = differing.iter().map(|differing| differing.rows).sum();
    let finer = (GROUPS_MAX / differing.len()).checked_ilog2().unwrap_or(0).min(KEY_BITS - bits);
    if rows > ROWS_MAX && finer > 0 {
        return Step::Split(bits + finer);
    }
    let mut lists: Vec<Vec<i64>> = Vec::new();
    let mut room = 0;
    for differing in differing {
        match lists.last_mut() {
            Some(list) if differing.rows <= room => list.push(differing.bucket),
            _ => {
                lists.push(vec![differing.bucket]);
                room = ROWS_MAX;
            }
        }
        room = room.saturating_sub(differing.rows);
    }
    Step::Fetch(lists)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(bucket: i64, rows: u64, sum: &str) -> Group {
        Group { bucket, rows, sums: (sum.to_owned(), sum.to_owned()) }
    }

    #[test]
    fn a_bucket_differs_by_rows_by_sums_or_by_being_absent() {
        let local = vec![group(1, 5, "a"), group(2, 5, "b"), group(3, 5, "c")];
        let remote = vec![group(4, 1, "d"), group(3, 6, "c"), group(2, 5, "x"), group(1, 5, "a")];
        let found = differing(local, remote);
        let rows: Vec<_> = found.iter().map(|differing| (differing.bucket, differing.rows)).collect();
        assert_eq!(rows, [(2, 10), (3, 11), (4, 1)]);
    }

    #[test]
    fn buckets_are_split_until_their_rows_are_few_or_they_are_many() {
        let all = |count: i64, rows| (0..count).map(|bucket| Differing { bucket, rows }).collect::<Vec<_>>();
        assert_eq!(next(&[], FIRST_BITS), Step::Done);
        assert_eq!(next(&all(2, 5_000), FIRST_BITS), Step::Fetch(vec![vec![0, 1]]), "few rows");
        assert_eq!(next(&all(1000, 5_000), FIRST_BITS), Step::Split(17), "32 for each of a thousand");
        assert_eq!(next(&all(1, u64::from(u32::MAX)), 40), Step::Split(48), "no finer than the hash");
        let Step::Fetch(lists) = next(&all(30_000, 300), 15) else { panic!("too many to split") };
        assert_eq!(lists.iter().map(Vec::len).max(), Some(66));
        assert_eq!(lists.concat().len(), 30_000, "none is left out");
        assert_eq!(next(&all(1, 50_000), KEY_BITS), Step::Fetch(vec![vec![0]]), "nothing left to split by");
    }
}
