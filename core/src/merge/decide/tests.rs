//! The rule as tables, and its laws on one key.

use super::*;
use crate::merge::Tiebreaker;
use crate::types::{NodeId, PgTime};
use proptest::prelude::*;

fn at(time: i64) -> Version {
    from(time, 1)
}

fn from(time: i64, origin: u32) -> Version {
    let origin = NodeId::new(origin).expect("not zero");
    Version { time: Some(PgTime::from_micros(time)), tiebreaker: Tiebreaker::of_node(origin), origin }
}

const WHOLE: Change = Change::Update(Values::Whole);

#[test]
fn plain_rows() {
    use {ConflictType as C, Resolution as R};
    let row = |time| Known { row: Some(from(time, 2)), ..Known::default() };
    let tombstone = |time| Known { tombstone: Some(from(time, 2)), ..Known::default() };
    let truncated = |time| Known { truncated: Some(from(time, 2)), ..Known::default() };
    let unknown = Known { row: Some(Version { time: None, ..from(0, 2) }), ..Known::default() };
    let own = Known { row: Some(at(5)), ..Known::default() };
    let nothing = Known::default();
    let (superseded, partial) = (Change::Update(Values::Superseded), Change::Update(Values::Partial));
    // name, what is known, change at 5, write, remember, report
    let cases = [
        ("first INSERT", nothing, Change::Insert, Write::Insert, false, None),
        ("INSERT, older row", row(4), Change::Insert, Write::Update, false, Some((C::InsertExists, R::ApplyRemote))),
        ("INSERT, newer row", row(6), Change::Insert, Write::Keep, false, Some((C::InsertExists, R::KeepLocal))),
        (
            "INSERT, tie, smaller node",
            row(5),
            Change::Insert,
            Write::Update,
            false,
            Some((C::InsertExists, R::ApplyRemote)),
        ),
        ("INSERT after DELETE", tombstone(4), Change::Insert, Write::Insert, false, None),
        ("INSERT before DELETE", tombstone(6), Change::Insert, Write::Keep, false, Some((C::InsertExists, R::Skip))),
        ("INSERT before TRUNCATE", truncated(6), Change::Insert, Write::Keep, false, Some((C::InsertExists, R::Skip))),
        ("INSERT in own transaction", own, Change::Insert, Write::Update, false, None),
        ("UPDATE, older row", row(4), WHOLE, Write::Update, false, Some((C::UpdateOriginDiffers, R::ApplyRemote))),
        ("UPDATE, newer row", row(6), WHOLE, Write::Keep, false, Some((C::UpdateOriginDiffers, R::KeepLocal))),
        ("UPDATE, row without a time", unknown, WHOLE, Write::Update, false, None),
        ("UPDATE in own transaction", own, WHOLE, Write::Update, false, None),
        ("UPDATE, no row", nothing, WHOLE, Write::Insert, false, Some((C::UpdateMissing, R::ApplyRemote))),
        ("UPDATE after DELETE", tombstone(4), WHOLE, Write::Insert, false, Some((C::UpdateMissing, R::ApplyRemote))),
        ("UPDATE before DELETE", tombstone(6), WHOLE, Write::Keep, false, Some((C::UpdateMissing, R::Skip))),
        ("UPDATE before TRUNCATE", truncated(6), WHOLE, Write::Keep, false, Some((C::UpdateMissing, R::Skip))),
        ("part of an UPDATE, no row", nothing, partial, Write::Park, false, None),
        ("part of an UPDATE after DELETE", tombstone(4), partial, Write::Park, false, None),
        (
            "part of an UPDATE before DELETE",
            tombstone(6),
            partial,
            Write::Keep,
            false,
            Some((C::UpdateMissing, R::Skip)),
        ),
        ("superseded UPDATE, no row", nothing, superseded, Write::Keep, false, Some((C::UpdateMissing, R::Skip))),
        (
            "superseded UPDATE, row",
            row(4),
            superseded,
            Write::Update,
            false,
            Some((C::UpdateOriginDiffers, R::ApplyRemote)),
        ),
        (
            "DELETE, older row",
            row(4),
            Change::Delete,
            Write::Delete,
            true,
            Some((C::DeleteOriginDiffers, R::ApplyRemote)),
        ),
        ("DELETE, newer row", row(6), Change::Delete, Write::Keep, false, Some((C::DeleteExists, R::Skip))),
        ("DELETE, row without a time", unknown, Change::Delete, Write::Delete, true, None),
        ("DELETE, no row", nothing, Change::Delete, Write::Keep, true, Some((C::DeleteMissing, R::Skip))),
        ("DELETE after DELETE", tombstone(4), Change::Delete, Write::Keep, true, Some((C::DeleteMissing, R::Skip))),
        ("DELETE before DELETE", tombstone(6), Change::Delete, Write::Keep, false, Some((C::DeleteMissing, R::Skip))),
        ("DELETE before TRUNCATE", truncated(6), Change::Delete, Write::Keep, false, Some((C::DeleteMissing, R::Skip))),
        ("TRUNCATE, older row", row(4), Change::Truncate, Write::Delete, false, None),
        ("TRUNCATE, newer row", row(6), Change::Truncate, Write::Keep, false, Some((C::DeleteExists, R::Skip))),
    ];
    for (name, known, change, write, remember, report) in cases {
        let got = decide(&known, change, &at(5));
        assert_eq!((got.write, got.remember, got.report, got.log), (write, remember, report, false), "{name}");
    }
}

#[test]
fn counters() {
    let known = |counting, row: Option<i64>, tombstone: Option<i64>| Known {
        row: row.map(at),
        tombstone: tombstone.map(at),
        truncated: None,
        counting,
    };
    use Counting::{Logged, Unlogged};
    // name, known, change at 5, write, counters, goes into the history, remember
    let cases = [
        ("newer UPDATE adds", known(Unlogged, Some(4), None), WHOLE, Write::Update, Counters::Add, false, false),
        ("older UPDATE adds as well", known(Unlogged, Some(6), None), WHOLE, Write::Count, Counters::Add, false, false),
        (
            "newer INSERT sets",
            known(Unlogged, Some(4), None),
            Change::Insert,
            Write::Update,
            Counters::Take,
            false,
            false,
        ),
        (
            "older INSERT does nothing",
            known(Unlogged, Some(6), None),
            Change::Insert,
            Write::Keep,
            Counters::Keep,
            false,
            false,
        ),
        ("UPDATE before DELETE", known(Unlogged, None, Some(6)), WHOLE, Write::Keep, Counters::Keep, false, false),
        (
            "UPDATE after DELETE sets",
            known(Unlogged, None, Some(4)),
            WHOLE,
            Write::Insert,
            Counters::Take,
            false,
            false,
        ),
        ("logged, newer", known(Logged, Some(4), None), WHOLE, Write::Update, Counters::Fold, true, false),
        ("logged, older", known(Logged, Some(6), None), Change::Insert, Write::Count, Counters::Fold, true, false),
        ("logged, no row", known(Logged, None, None), WHOLE, Write::Insert, Counters::Fold, true, false),
        ("logged, before DELETE", known(Logged, Some(7), Some(6)), WHOLE, Write::Keep, Counters::Keep, false, false),
        (
            "logged, late DELETE",
            known(Logged, Some(6), None),
            Change::Delete,
            Write::Count,
            Counters::Fold,
            false,
            true,
        ),
        (
            "logged, late TRUNCATE",
            known(Logged, Some(6), None),
            Change::Truncate,
            Write::Count,
            Counters::Fold,
            false,
            false,
        ),
        (
            "logged, superseded: counts all the same",
            known(Logged, None, None),
            Change::Update(Values::Superseded),
            Write::Keep,
            Counters::Fold,
            true,
            false,
        ),
    ];
    for (name, known, change, write, counters, log, remember) in cases {
        let got = decide(&known, change, &at(5));
        assert_eq!((got.write, got.counters, got.log, got.remember), (write, counters, log, remember), "{name}");
    }
}

#[test]
fn a_changed_key_is_a_delete_and_an_upsert() {
    let row = |time| Known { row: Some(at(time)), ..Known::default() };
    let nothing = Known::default();
    // name, old key, new key, how much came, writes
    let cases = [
        ("as usual", row(4), nothing, Values::Whole, (Write::Delete, Write::Insert)),
        ("old key changed later", row(6), nothing, Values::Whole, (Write::Keep, Write::Insert)),
        ("new key is taken", row(4), row(4), Values::Whole, (Write::Delete, Write::Update)),
        ("new key was written later", row(4), row(6), Values::Whole, (Write::Delete, Write::Keep)),
        ("no row", nothing, nothing, Values::Whole, (Write::Keep, Write::Insert)),
        ("part of it, with the row", row(4), nothing, Values::Partial, (Write::Delete, Write::Insert)),
        ("part of it, without", nothing, nothing, Values::Partial, (Write::Park, Write::Park)),
        ("part of it, with a newer row", row(6), nothing, Values::Partial, (Write::Park, Write::Park)),
    ];
    for (name, old, new, values, want) in cases {
        let (gone, there) = decide_rekey(&old, &new, values, &at(5));
        assert_eq!((gone.write, there.write), want, "{name}");
        assert_eq!(gone.remember, gone.write != Write::Park && old.row < Some(at(5)), "{name}");
    }
}

/// A key's state as the decisions make it: the row's version with what was written, and the tombstones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    known: Known,
    value: Option<u8>,
}

impl State {
    fn after(mut self, change: Change, version: Version, value: u8) -> Self {
        let decision = decide(&self.known, change, &version);
        match decision.write {
            Write::Insert | Write::Update => {
                self.known.row = Some(version);
                self.value = Some(value);
            }
            Write::Delete => {
                self.known.row = None;
                self.value = None;
            }
            Write::Count | Write::Keep | Write::Park => {}
        }
        if decision.remember {
            self.known.tombstone = Some(version);
        }
        if change == Change::Truncate {
            self.known.truncated = self.known.truncated.max(Some(version));
        }
        self
    }

    /// What the world sees; tombstones that something newer covers do not matter.
    fn seen(self) -> (Option<u8>, Option<Version>) {
        (self.value, self.known.newest())
    }
}

fn changes() -> impl Strategy<Value = Vec<(Change, Version, u8)>> {
    let kind = prop_oneof![Just(Change::Insert), Just(WHOLE), Just(Change::Delete), Just(Change::Truncate)];
    // A node has each time once, so a version names one change, as a commit does.
    proptest::collection::btree_map((0..4_i64, 1..4_u32), (kind, any::<u8>()), 1..7).prop_map(|all| {
        all.into_iter().map(|((time, origin), (kind, value))| (kind, from(time, origin), value)).collect()
    })
}

proptest! {
    #[test]
    fn every_order_ends_equal_and_again_changes_nothing(all in changes(), shuffled in any::<u64>()) {
        let run = |all: &[(Change, Version, u8)]| {
            all.iter().fold(State::default(), |state, (change, version, value)| state.after(*change, *version, *value))
        };
        let mut other = all.clone();
        for at in (1..other.len()).rev() {
            other.swap(at, (shuffled.rotate_left(at as u32 * 11) % (at as u64 + 1)) as usize);
        }
        let end = run(&all);
        prop_assert_eq!(end.seen(), run(&other).seen());
        for (change, version, value) in &other {
            prop_assert_eq!(end.after(*change, *version, *value).seen(), end.seen(), "delivered twice");
        }
        let newest = all.iter().max_by_key(|change| change.1).expect("at least one");
        let want = matches!(newest.0, Change::Insert | Change::Update(_)).then_some(newest.2);
        prop_assert_eq!(end.value, want, "the newest change decides");
    }

    /// Letting a tombstone go changes nothing if all that comes later is newer than it.
    #[test]
    fn a_stable_tombstone_may_go(all in changes(), split in any::<proptest::sample::Index>()) {
        let split = split.index(all.len());
        let (early, late) = all.split_at(split);
        let run = |state: State, all: &[(Change, Version, u8)]| {
            all.iter().fold(state, |state, (change, version, value)| state.after(*change, *version, *value))
        };
        // `changes` come sorted by time, and the origin that wins a tie may come late: cut where the versions are apart.
        let Some(newest) = early.iter().map(|change| change.1).max() else { return Ok(()) };
        prop_assume!(late.iter().all(|change| change.1 > newest));
        let kept = run(State::default(), early);
        let mut gone = kept;
        (gone.known.tombstone, gone.known.truncated) = (None, None);
        prop_assert_eq!(run(kept, late).value, run(gone, late).value);
        // The same for a row whose time is forgotten.
        let mut frozen = kept;
        frozen.known.row = kept.known.row.map(|row| Version { time: None, ..row });
        prop_assert_eq!(run(kept, late).value, run(frozen, late).value);
    }
}
