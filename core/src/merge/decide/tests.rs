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

type Case = (&'static str, Known, Change, Write, bool, Option<Report>);

/// Each change is made at 5 by node 1, what is known was by node 2.
fn assert_decisions(cases: &[Case]) {
    for (name, known, change, write, remember, report) in cases {
        let got = decide(known, *change, &at(5));
        assert_eq!((got.write, got.remember, got.report), (*write, *remember, *report), "{name}");
    }
}

fn row(time: i64) -> Known {
    Known { row: Some(from(time, 2)), ..Known::default() }
}

fn tombstone(time: i64) -> Known {
    Known { tombstone: Some(from(time, 2)), ..Known::default() }
}

fn truncated(time: i64) -> Known {
    Known { truncated: Some(from(time, 2)), ..Known::default() }
}

/// Its time is forgotten.
fn frozen() -> Known {
    Known { row: Some(Version { time: None, ..from(0, 2) }), ..Known::default() }
}

/// Of the same transaction.
fn own() -> Known {
    Known { row: Some(at(5)), ..Known::default() }
}

const REMOTE: Resolution = Resolution::ApplyRemote;
const LOCAL: Resolution = Resolution::KeepLocal;
const SKIP: Resolution = Resolution::Skip;

#[test]
fn inserts_of_plain_rows() {
    use ConflictType::InsertExists as Exists;
    let change = Change::Insert;
    assert_decisions(&[
        ("first", Known::default(), change, Write::Insert, false, None),
        ("older row", row(4), change, Write::Update, false, Some((Exists, REMOTE))),
        ("newer row", row(6), change, Write::Keep, false, Some((Exists, LOCAL))),
        ("tie, smaller node", row(5), change, Write::Update, false, Some((Exists, REMOTE))),
        ("row without a time", frozen(), change, Write::Update, false, Some((Exists, REMOTE))),
        ("own transaction", own(), change, Write::Update, false, None),
        ("after DELETE", tombstone(4), change, Write::Insert, false, None),
        ("before DELETE", tombstone(6), change, Write::Keep, false, Some((Exists, SKIP))),
        ("after TRUNCATE", truncated(4), change, Write::Insert, false, None),
        ("before TRUNCATE", truncated(6), change, Write::Keep, false, Some((Exists, SKIP))),
    ]);
}

#[test]
fn updates_of_plain_rows() {
    use ConflictType::{UpdateMissing as Missing, UpdateOriginDiffers as Differs};
    let (part, superseded) = (Change::Update(Values::Partial), Change::Update(Values::Superseded));
    assert_decisions(&[
        ("older row", row(4), WHOLE, Write::Update, false, Some((Differs, REMOTE))),
        ("newer row", row(6), WHOLE, Write::Keep, false, Some((Differs, LOCAL))),
        ("row without a time", frozen(), WHOLE, Write::Update, false, None),
        ("own transaction", own(), WHOLE, Write::Update, false, None),
        ("no row", Known::default(), WHOLE, Write::Insert, false, Some((Missing, REMOTE))),
        ("after DELETE", tombstone(4), WHOLE, Write::Insert, false, Some((Missing, REMOTE))),
        ("before DELETE", tombstone(6), WHOLE, Write::Keep, false, Some((Missing, SKIP))),
        ("before TRUNCATE", truncated(6), WHOLE, Write::Keep, false, Some((Missing, SKIP))),
        ("part, no row", Known::default(), part, Write::Park, false, None),
        ("part, row", row(4), part, Write::Update, false, Some((Differs, REMOTE))),
        ("part, after DELETE", tombstone(4), part, Write::Park, false, None),
        ("part, before DELETE", tombstone(6), part, Write::Keep, false, Some((Missing, SKIP))),
        ("superseded, no row", Known::default(), superseded, Write::Keep, false, Some((Missing, SKIP))),
        ("superseded, row", row(4), superseded, Write::Update, false, Some((Differs, REMOTE))),
    ]);
}

#[test]
fn removals_of_plain_rows() {
    use ConflictType::{DeleteExists as Exists, DeleteMissing as Missing, DeleteOriginDiffers as Differs};
    let (delete, truncate) = (Change::Delete, Change::Truncate);
    assert_decisions(&[
        ("DELETE, older row", row(4), delete, Write::Delete, true, Some((Differs, REMOTE))),
        ("DELETE, newer row", row(6), delete, Write::Keep, false, Some((Exists, SKIP))),
        ("DELETE, row without a time", frozen(), delete, Write::Delete, true, None),
        ("DELETE, no row", Known::default(), delete, Write::Keep, true, Some((Missing, SKIP))),
        ("DELETE after DELETE", tombstone(4), delete, Write::Keep, true, Some((Missing, SKIP))),
        ("DELETE before DELETE", tombstone(6), delete, Write::Keep, false, Some((Missing, SKIP))),
        ("DELETE before TRUNCATE", truncated(6), delete, Write::Keep, false, Some((Missing, SKIP))),
        ("TRUNCATE, older row", row(4), truncate, Write::Delete, false, None),
        ("TRUNCATE, newer row", row(6), truncate, Write::Keep, false, Some((Exists, SKIP))),
    ]);
}

fn counted(row: Option<i64>, tombstone: Option<i64>) -> Known {
    Known { row: row.map(at), tombstone: tombstone.map(at), counts: true, ..Known::default() }
}

#[test]
fn columns_that_count() {
    let known = counted;
    let cases = [
        ("newer UPDATE adds", known(Some(4), None), WHOLE, Write::Update, Counters::Add),
        ("older UPDATE adds as well", known(Some(6), None), WHOLE, Write::Count, Counters::Add),
        ("newer INSERT adds", known(Some(4), None), Change::Insert, Write::Update, Counters::Add),
        ("older INSERT adds as well", known(Some(6), None), Change::Insert, Write::Count, Counters::Add),
        ("INSERT of a new row", known(None, None), Change::Insert, Write::Insert, Counters::Difference),
        ("UPDATE before INSERT", known(None, None), WHOLE, Write::Insert, Counters::Difference),
        ("UPDATE before DELETE", known(None, Some(6)), WHOLE, Write::Keep, Counters::Keep),
        ("UPDATE after DELETE restores", known(None, Some(4)), WHOLE, Write::Insert, Counters::Restore),
        ("INSERT after DELETE begins anew", known(None, Some(4)), Change::Insert, Write::Insert, Counters::Take),
        ("UPDATE before DELETE, onto a new row", known(Some(7), Some(6)), WHOLE, Write::Keep, Counters::Keep),
    ];
    for (name, known, change, write, counters) in cases {
        let got = decide(&known, change, &at(5));
        assert_eq!((got.write, got.counters, got.remember), (write, counters, false), "{name}");
    }
    let late = decide(&known(Some(6), None), Change::Delete, &at(5));
    assert_eq!((late.write, late.remember), (Write::Keep, false), "a DELETE that loses has no effect");
    for change in [WHOLE, Change::Insert] {
        let kept = decide(&known(None, Some(6)), change, &at(5));
        assert_eq!((kept.write, kept.rest), (Write::Keep, true), "what it adds counts if the row comes back");
        let back = Known { revived: Some(at(7)), ..known(Some(8), Some(6)) };
        let added = decide(&back, change, &at(5));
        assert_eq!((added.write, added.counters, added.rest), (Write::Count, Counters::Add, false), "it has come back");
        let emptied = Known { truncated: Some(at(6)), ..back };
        assert_eq!(decide(&emptied, change, &at(5)).write, Write::Keep, "of what TRUNCATE took nothing is known");
        let emptied = Known { truncated: Some(at(7)), ..known(None, Some(6)) };
        assert!(!decide(&emptied, change, &at(5)).rest, "nor is anything kept");
    }
    assert!(!decide(&tombstone(6), WHOLE, &at(5)).rest, "columns that do not count");
    let (_, there) = decide_rekey(&known(Some(4), None), &known(Some(4), None), Values::Whole, &at(5));
    assert_eq!(
        (there.write, there.counters),
        (Write::Update, Counters::Add),
        "a changed key adds to one that is there"
    );
    let (_, there) = decide_rekey(&known(Some(4), None), &known(None, None), Values::Whole, &at(5));
    assert_eq!(
        (there.write, there.counters),
        (Write::Insert, Counters::Difference),
        "and is the first value of a new one"
    );
    let (_, there) = decide_rekey(&known(Some(4), None), &known(Some(6), None), Values::Whole, &at(5));
    assert_eq!((there.write, there.counters), (Write::Count, Counters::Add), "also when it is older");
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
        ("superseded, with the row", row(4), nothing, Values::Superseded, (Write::Delete, Write::Insert)),
        ("superseded, without", nothing, nothing, Values::Superseded, (Write::Keep, Write::Keep)),
        ("superseded, new key is taken", nothing, row(4), Values::Superseded, (Write::Keep, Write::Update)),
    ];
    for (name, old, new, values, want) in cases {
        let (gone, there) = decide_rekey(&old, &new, values, &at(5));
        assert_eq!((gone.write, there.write), want, "{name}");
        assert_eq!(gone.remember, gone.write != Write::Park && old.row < Some(at(5)), "{name}");
    }
}

#[test]
fn a_changed_key_is_reported_as_an_update() {
    use ConflictType::{UpdateMissing as Missing, UpdateOriginDiffers as Differs};
    let own = Known { row: Some(at(4)), ..Known::default() };
    let cases = [
        ("own row", own, None),
        ("another node's row", row(4), Some((Differs, REMOTE))),
        ("newer row", row(6), Some((Differs, LOCAL))),
        ("no row", Known::default(), Some((Missing, REMOTE))),
    ];
    for (name, old, want) in cases {
        let (gone, there) = decide_rekey(&old, &Known::default(), Values::Whole, &at(5));
        assert_eq!((gone.report, there.report), (want, None), "{name}");
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
    /// What [`Known::of_row`] says.
    #[test]
    fn removals_before_a_row_make_no_difference_to_it(
        time in 1..5_i64, counts in any::<bool>(), tombstone in proptest::option::of(0..4_i64), truncated in proptest::option::of(0..4_i64),
        change in prop_oneof![Just(Change::Insert), Just(WHOLE), Just(Change::Delete), Just(Change::Truncate)], made in 0..6_i64,
    ) {
        let known = Known::of_row(from(time, 2), counts);
        let before = |removed: Option<i64>| removed.filter(|removed| *removed < time).map(|time| from(time, 3));
        let all = Known { tombstone: before(tombstone), truncated: before(truncated), ..known };
        let (one, other) = (decide(&known, change, &at(made)), decide(&all, change, &at(made)));
        match one.write {
            Write::Count => prop_assert!(matches!(other.write, Write::Count | Write::Keep), "removals are asked for"),
            _ => prop_assert_eq!(one, other),
        }
    }

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
