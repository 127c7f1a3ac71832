//! What every node must hold: the acknowledged transactions, replayed one after another in the order of their versions; and of a
//! column that counts, all that was added to the key. Shares no code with the merge rule, apart from the definition of who is visible.

use crate::replica::{Key, Op, Row, Txn};
use spock_core::merge::Version;
use spock_core::merge::unique;
use std::collections::BTreeMap;

/// Rows, and whether users see them. `counts`: the table has a column that counts.
pub fn table(all: &[Txn], counts: bool) -> BTreeMap<Key, (Row, bool)> {
    let mut order: Vec<&Txn> = all.iter().collect();
    order.sort_by_key(|txn| txn.mark.version);
    let mut rows: BTreeMap<Key, (Row, Version)> = BTreeMap::new();
    let mut sums: BTreeMap<Key, i16> = BTreeMap::new();
    let mut add = |key: Key, new: i16, old: i16| {
        let sum = sums.entry(key).or_default();
        *sum = sum.wrapping_add(new).wrapping_sub(old);
    };
    for txn in order {
        let version = txn.mark.version;
        for op in &txn.ops {
            match *op {
                Op::Insert(key, row) => {
                    add(key, row.counter, 0);
                    rows.insert(key, (row, version));
                }
                Op::Update { key, new, old_counter, .. } => {
                    add(key, new.counter, old_counter);
                    rows.insert(key, (new, version));
                }
                Op::Rekey { from, to, row } => {
                    rows.remove(&from);
                    add(to, row.counter, 0);
                    rows.insert(to, (row, version));
                }
                Op::Delete(key) => {
                    rows.remove(&key);
                }
                Op::Truncate => rows.clear(),
            }
        }
    }
    if counts {
        rows.iter_mut().for_each(|(key, (row, _))| row.counter = sums[key]);
    }
    let claims: Vec<_> = rows
        .iter()
        .map(|(key, (row, version))| (*key, *version, vec![Some(row.unique).filter(|value| *value != 0)]))
        .collect();
    let visible = unique::visible(&claims);
    rows.into_iter().map(|(key, (row, _))| (key, (row, visible.contains(&key)))).collect()
}
