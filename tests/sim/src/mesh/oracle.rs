//! What every node must hold: the acknowledged transactions, replayed one after another in the order of their versions. Shares
//! no code with the merge rule, apart from the definition of who is visible.

use crate::replica::{Key, Op, Row, Txn};
use spock_core::merge::Version;
use spock_core::merge::unique;
use std::collections::BTreeMap;

/// Rows, and whether users see them.
pub fn table(all: &[Txn]) -> BTreeMap<Key, (Row, bool)> {
    let mut order: Vec<&Txn> = all.iter().collect();
    order.sort_by_key(|txn| txn.mark.version);
    let mut rows: BTreeMap<Key, (Row, Version)> = BTreeMap::new();
    for txn in order {
        let version = txn.mark.version;
        for op in &txn.ops {
            match *op {
                Op::Insert(key, row) => {
                    rows.insert(key, (row, version));
                }
                Op::Update { key, new, old_counter, .. } => {
                    let counter = rows.get(&key).map_or(new.counter, |(row, _)| {
                        let sum = i32::from(row.counter) + i32::from(new.counter) - i32::from(old_counter);
                        sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16
                    });
                    rows.insert(key, (Row { counter, ..new }, version));
                }
                Op::Rekey { from, to, row } => {
                    rows.remove(&from);
                    rows.insert(to, (row, version));
                }
                Op::Delete(key) => {
                    rows.remove(&key);
                }
                Op::Truncate => rows.clear(),
            }
        }
    }
    let claims: Vec<_> = rows
        .iter()
        .map(|(key, (row, version))| (*key, *version, vec![Some(row.unique).filter(|value| *value != 0)]))
        .collect();
    let visible = unique::visible(&claims);
    rows.into_iter().map(|(key, (row, _))| (key, (row, visible.contains(&key)))).collect()
}
