//! Whatever fails and whenever it is tried again, each key sees its changes in the order of the stream.

use super::*;
use proptest::prelude::*;

/// What a transaction of the model does.
#[derive(Debug, Clone)]
enum Deed {
    Keys(BTreeSet<(u8, u64)>),
    Truncate(u8),
    Everything,
}

const TABLES: u8 = 2;
const KEYS: u64 = 4;

impl Deed {
    fn touched(&self, shapes: &[u64]) -> Touched {
        let mut touched = Touched::default();
        match self {
            Self::Everything => touched.add_everything(),
            Self::Truncate(table) => touched.add_table(&[*table]),
            Self::Keys(keys) => {
                for table in 0..TABLES {
                    let keys: BTreeSet<u64> = keys.iter().filter(|key| key.0 == table).map(|key| key.1).collect();
                    if !keys.is_empty() {
                        let shape = shapes[usize::from(table)];
                        touched.add_keys(&[table], shape, keys);
                    }
                }
            }
        }
        touched
    }

    /// Keys that it writes.
    fn writes(&self, table: u8, key: u64) -> bool {
        match self {
            Self::Keys(keys) => keys.contains(&(table, key)),
            Self::Truncate(whole) => *whole == table,
            Self::Everything => true,
        }
    }
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => proptest::collection::btree_set((0..TABLES, 0..KEYS), 0..3).prop_map(Deed::Keys),
        1 => (0..TABLES).prop_map(Deed::Truncate),
        1 => Just(Deed::Everything),
    ]
}

/// The history of each key.
#[derive(Debug, Default, PartialEq)]
struct Histories(BTreeMap<(u8, u64), Vec<usize>>);

impl Histories {
    fn apply(&mut self, number: usize, deed: &Deed) {
        for table in 0..TABLES {
            for key in (0..KEYS).filter(|key| deed.writes(table, *key)) {
                self.0.entry((table, key)).or_default().push(number);
            }
        }
    }
}

proptest! {
    #[test]
    fn every_key_sees_its_changes_in_order(
        deeds in proptest::collection::vec((deed(), any::<bool>(), 0_u64..2), 0..24),
        some in 0_usize..24,
        still_fails in proptest::collection::btree_set(0_usize..24, 0..4),
    ) {
        let mut want = Histories::default();
        let mut got = Histories::default();
        let (mut parked, mut order) = (Parked::default(), Vec::new());
        for (number, (deed, fails, shape)) in deeds.iter().enumerate() {
            want.apply(number, deed);
            // The shape of the second table changes now and then.
            let touched = deed.touched(&[7, *shape]);
            let waits = parked.waits_for(&touched);
            if waits.is_empty() && !fails {
                got.apply(number, deed);
                continue;
            }
            let id = number as i64;
            prop_assert!(waits.iter().all(|before| *before < id));
            parked.add(id, &touched, &waits, 1);
            order.push((id, waits));
        }
        let mut left = Order::new(order);
        let mut replay = |ids: Vec<i64>, fails: &dyn Fn(i64) -> bool, left: &mut Order| {
            let mut failed = Vec::new();
            for id in ids {
                if fails(id) || left.behind(&failed).contains(&id) {
                    failed.push(id);
                } else {
                    got.apply(id as usize, &deeds[id as usize].0);
                    left.0.remove(&id);
                }
            }
        };
        // One with what it waits for, then all while some still fail, then all.
        replay(left.up_to(some as i64), &|_| false, &mut left);
        replay(left.all(), &|id| still_fails.contains(&(id as usize)), &mut left);
        replay(left.all(), &|_| false, &mut left);
        prop_assert!(left.all().is_empty());
        prop_assert_eq!(got, want);
    }
}

fn keys(list: &[u64]) -> Touched {
    let mut touched = Touched::default();
    touched.add_keys(b"t", 1, list.iter().copied());
    touched
}

#[test]
fn only_the_newest_is_waited_for() {
    let mut parked = Parked::default();
    parked.add(1, &keys(&[1]), &[], 10);
    parked.add(2, &keys(&[1, 2]), &[1], 10);
    parked.add(5, &keys(&[3]), &[], 10);
    let mut truncate = Touched::default();
    truncate.add_table(b"t");
    let mut elsewhere = Touched::default();
    elsewhere.add_table(b"u");
    let cases = [
        ("a key that two touch", keys(&[1]), vec![2]),
        ("two keys", keys(&[2, 3]), vec![2, 5]),
        ("a free key", keys(&[4]), vec![]),
        ("the table", truncate.clone(), vec![1, 2, 5]),
        ("everything", Touched::all(), vec![2, 5]),
        ("another table", elsewhere.clone(), vec![]),
        ("nothing", Touched::default(), vec![]),
    ];
    for (name, touched, want) in cases {
        assert_eq!(parked.waits_for(&touched), want, "{name}");
    }
    parked.add(6, &truncate, &[1, 2, 5], 0);
    assert_eq!(parked.waits_for(&keys(&[4])), [6]);
    parked.add(7, &Touched::all(), &[6], 0);
    for (touched, want) in [(keys(&[1]), vec![7]), (elsewhere, vec![7]), (Touched::default(), vec![])] {
        assert_eq!(parked.waits_for(&touched), want);
    }
}

#[test]
fn keys_of_another_shape_are_the_whole_table() {
    let mut parked = Parked::default();
    parked.add(1, &keys(&[1]), &[], 0);
    let mut other = Touched::default();
    other.add_keys(b"t", 2, [9]);
    assert_eq!(parked.waits_for(&other), [1]);
    parked.add(2, &other, &[1], 0);
    assert_eq!(parked.waits_for(&keys(&[5])), [1, 2]);
}

#[test]
fn bounds() {
    let bounds = Bounds { transactions: 2, bytes: 100 };
    let mut parked = Parked::default();
    assert_eq!(parked.check_room(bounds, 101), Err(Full::Bytes));
    assert_eq!(parked.check_room(bounds, 100), Ok(()));
    parked.add(1, &keys(&[1]), &[], 60);
    assert_eq!(parked.check_room(bounds, 41), Err(Full::Bytes));
    parked.add(2, &keys(&[1]), &[1], 40);
    assert_eq!(parked.check_room(bounds, 0), Err(Full::Transactions));
    assert!(!parked.is_empty());
}

#[test]
fn chains() {
    let order = Order::new([(1, vec![]), (2, vec![1]), (3, vec![]), (4, vec![2, 0]), (6, vec![3, 4])]);
    assert_eq!(order.all(), [1, 2, 3, 4, 6]);
    assert_eq!(order.up_to(4), [1, 2, 4]);
    assert_eq!(order.up_to(6), [1, 2, 3, 4, 6]);
    assert_eq!(order.up_to(5), [] as [i64; 0]);
    assert_eq!(order.behind(&[2]), [4, 6]);
    assert_eq!(order.behind(&[3]), [6]);
    assert_eq!(order.behind(&[6]), [] as [i64; 0]);
}
