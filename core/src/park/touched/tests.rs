//! Equal keys meet in every form; what cannot be told apart is the whole table.

use super::*;
use crate::types::RelId;
use crate::wire::row::{Part, RowKind, begin_row, write_tuple};
use crate::wire::{Envelope, Message, ProtocolVersion};
use proptest::prelude::*;

const INT4: TypeOid = TypeOid(23);
const TEXT: TypeOid = TypeOid(25);
const NUMERIC: TypeOid = TypeOid(1700);

/// An INSERT of these values.
fn message(row: &[Datum<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    begin_row(&mut out, ProtocolVersion::V6, None, RowKind::Insert, RelId(1));
    let mut tuple = write_tuple(&mut out, Part::New, row.len() as u16);
    for value in row {
        match value {
            Datum::Null => tuple.null(),
            Datum::Unchanged => tuple.unchanged(),
            Datum::Internal(bytes) => tuple.internal(bytes),
            Datum::Binary(bytes) => tuple.binary(bytes),
            Datum::Text(text) => tuple.text(text),
        }
    }
    out
}

fn of(shape: &Shape, old: Option<&[Datum<'_>]>, new: Option<&[Datum<'_>]>) -> Touched {
    let (old, new) = (old.map(message), new.map(message));
    let (old, new) = (old.as_deref().map(row_of), new.as_deref().map(row_of));
    let mut touched = Touched::default();
    touched.add_row(b"public\0t", shape, old.as_ref(), new.as_ref());
    touched
}

fn row_of(bytes: &[u8]) -> Tuple<'_> {
    match Envelope::read(bytes, ProtocolVersion::V6).map(|read| read.message) {
        Ok(Message::Insert(insert)) => insert.new,
        other => panic!("{other:?}"),
    }
}

fn columns() -> [KeyColumn<'static>; 3] {
    [
        KeyColumn { name: b"id", in_identity: true, kind: INT4 },
        KeyColumn { name: b"mail", in_identity: false, kind: TEXT },
        KeyColumn { name: b"bal", in_identity: false, kind: NUMERIC },
    ]
}

fn shape(unique: &[&[usize]]) -> Shape {
    let columns_of = unique.iter().map(|places| places.to_vec()).collect();
    Shape::new(&columns(), &LocalKeys { columns: columns_of, opaque: false })
}

fn is_whole(touched: &Touched) -> bool {
    touched.tables().all(|(_, extent)| *extent == Extent::Whole)
}

fn keys(touched: &Touched) -> BTreeSet<u64> {
    touched
        .tables()
        .flat_map(|(_, extent)| match extent {
            Extent::Keys { keys, .. } => keys.clone(),
            Extent::Whole => BTreeSet::new(),
        })
        .collect()
}

fn meet(one: &Touched, other: &Touched) -> bool {
    is_whole(one) || is_whole(other) || !keys(one).is_disjoint(&keys(other))
}

#[test]
fn one_key_in_all_forms_is_one_key() {
    let forms: [(TypeOid, &[Datum<'_>]); 6] = [
        (INT4, &[Datum::Internal(&(-7_i32).to_ne_bytes()), Datum::Binary(&(-7_i32).to_be_bytes()), Datum::Text(b"-7")]),
        (
            TEXT,
            &[
                Datum::Internal(b"\x09abc"),
                Datum::Internal(b"\x1c\0\0\0abc"),
                Datum::Binary(b"abc"),
                Datum::Text(b"abc"),
            ],
        ),
        (TypeOid(1042), &[Datum::Text(b"ab  "), Datum::Binary(b"ab")]),
        (TypeOid(16), &[Datum::Internal(b"\x01"), Datum::Text(b"t")]),
        (TypeOid(19), &[Datum::Internal(b"ab\0\0\0"), Datum::Text(b"ab")]),
        (
            TypeOid(2950),
            &[
                Datum::Internal(&[0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff]),
                Datum::Text(b"12340000-0000-0000-0000-0000000000ff"),
            ],
        ),
    ];
    for (kind, forms) in forms {
        let column = [KeyColumn { name: b"id", in_identity: true, kind }];
        let shape = Shape::new(&column, &LocalKeys::default());
        let sets: Vec<Touched> = forms.iter().map(|form| of(&shape, None, Some(&[*form]))).collect();
        assert!(sets.iter().all(|set| !is_whole(set) && *set == sets[0]), "{kind:?}");
    }
}

#[test]
fn what_does_not_tell_rows_apart_is_the_whole_table() {
    let one = Datum::Text(b"1");
    let number = [KeyColumn { name: b"id", in_identity: true, kind: NUMERIC }];
    let compressed = [KeyColumn { name: b"id", in_identity: true, kind: TEXT }];
    let none = [KeyColumn { name: b"id", in_identity: false, kind: INT4 }];
    let local = LocalKeys { columns: Vec::new(), opaque: true };
    let cases = [
        ("1.0 and 1.00 are equal", Shape::new(&number, &LocalKeys::default()), one),
        ("a compressed image", Shape::new(&compressed, &LocalKeys::default()), Datum::Internal(b"\x02\0\0\0xx")),
        ("no key", Shape::new(&none, &LocalKeys::default()), one),
        ("an index on expressions", Shape::new(&columns()[..1], &local), one),
        ("the key was not sent", Shape::new(&columns()[..1], &LocalKeys::default()), Datum::Unchanged),
        (
            "date as text",
            Shape::new(&[KeyColumn { name: b"d", in_identity: true, kind: TypeOid(1082) }], &LocalKeys::default()),
            one,
        ),
    ];
    for (name, shape, value) in cases {
        assert!(is_whole(&of(&shape, None, Some(&[value]))), "{name}");
    }
}

#[test]
fn rows_meet_in_any_unique_key_and_with_old_and_new_values() {
    let row = |id: &'static str, mail: Option<&'static str>| {
        [Datum::Text(id.as_bytes()), mail.map_or(Datum::Null, |mail| Datum::Text(mail.as_bytes())), Datum::Null]
    };
    let shape = shape(&[&[1], &[0]]);
    let cases = [
        ("one row", row("1", None), row("1", Some("a")), true),
        ("other rows", row("1", Some("a")), row("2", Some("b")), false),
        ("another row with the unique value", row("1", Some("a")), row("2", Some("a")), true),
        ("nulls are not equal", row("1", None), row("2", None), false),
    ];
    for (name, one, other, want) in cases {
        assert_eq!(meet(&of(&shape, None, Some(&one)), &of(&shape, None, Some(&other))), want, "{name}");
    }
    let moved = of(&shape, Some(&row("1", None)), Some(&row("2", None)));
    for id in ["1", "2"] {
        assert!(meet(&moved, &of(&shape, Some(&row(id, None)), None)), "{id}");
    }
    assert!(!meet(&moved, &of(&shape, None, Some(&row("3", None)))));
}

#[test]
fn the_order_of_columns_in_an_index_does_not_matter() {
    let two = [
        KeyColumn { name: b"b", in_identity: true, kind: INT4 },
        KeyColumn { name: b"a", in_identity: true, kind: INT4 },
    ];
    let same =
        [vec![0, 1], vec![1, 0]].map(|places| Shape::new(&two, &LocalKeys { columns: vec![places], opaque: false }));
    assert_eq!(same[0], same[1]);
    assert_eq!(same[0].keys.len(), 1, "the identity and the index are one key");
}

#[test]
fn many_keys_are_the_whole_table() {
    let shape = shape(&[]);
    let mut touched = Touched::default();
    for n in 0..=KEYS_MAX {
        let text = n.to_string();
        let bytes = message(&[Datum::Text(text.as_bytes()), Datum::Null, Datum::Null]);
        assert!(n == 0 || !is_whole(&touched), "{n}");
        touched.add_row(b"public\0t", &shape, None, Some(&row_of(&bytes)));
    }
    assert!(is_whole(&touched));
}

#[test]
fn stored_sets_of_a_later_version_are_everything() {
    assert_eq!(Touched::from_bytes(&[2, 0, 0, 0, 0, 0]), Touched::all());
    assert_eq!(Touched::from_bytes(&[]), Touched::all());
    let everything = Touched::all();
    assert_eq!(Touched::from_bytes(&everything.to_bytes()), everything);
}

#[test]
fn hashes_do_not_change_between_versions() {
    let touched = of(&shape(&[]), None, Some(&[Datum::Text(b"1"), Datum::Null, Datum::Null]));
    let hex: String = touched.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "010000000001000000087075626c69630074012ad201d9299c72c400000001272eed978cb7d4df");
}

proptest! {
    #[test]
    fn what_is_stored_is_read(ids in proptest::collection::btree_set(any::<i32>(), 0..50), whole in any::<bool>()) {
        let shape = shape(&[&[1]]);
        let mut touched = Touched::default();
        for id in ids {
            let bytes = message(&[Datum::Binary(&id.to_be_bytes()), Datum::Text(b"x"), Datum::Null]);
            touched.add_row(b"public\0t", &shape, None, Some(&row_of(&bytes)));
        }
        if whole {
            touched.add_table(b"public\0other");
        }
        prop_assert_eq!(Touched::from_bytes(&touched.to_bytes()), touched);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Touched::from_bytes(&bytes);
    }
}
