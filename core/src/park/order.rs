//! Who waits for whom among parked transactions, and whether there is room for one more.
//!
//! ```text
//! a transaction comes ──touches nothing that is parked──► is applied
//!                     └─touches what a parked one touches─► is parked, and waits for the newest such ones
//! ```
//! Waiting is transitive, so it is enough to name the newest transaction that touches a key: that one waits for the others.
//!
//! # Invariants
//! 1. A transaction waits only for earlier ones: ids grow in the order of the stream.
//! 2. Applied in the order of their ids, no parked transaction comes before one that it waits for.

use super::touched::{Extent, Touched};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Parked transactions that touch one table.
#[derive(Debug, Default)]
struct Holders {
    /// The newest one that touches all of it.
    whole: Option<i64>,
    /// Those after it, or all.
    since: BTreeSet<i64>,
    /// The newest for each key.
    keys: HashMap<u64, i64>,
    shape: Option<u64>,
    /// Keys of several shapes: they cannot be compared.
    mixed: bool,
}

/// The most that may be parked for one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Transactions.
    pub transactions: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Of transactions.
    Transactions,
    /// Of bytes.
    Bytes,
}

/// What is parked for one subscription.
#[derive(Debug, Default)]
pub struct Parked {
    count: u64,
    bytes: u64,
    everything: Option<i64>,
    tables: HashMap<Vec<u8>, Holders>,
    /// Those that no other one waits for.
    last: BTreeSet<i64>,
}

impl Parked {
    /// Whether there is nothing.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a transaction of `bytes` may be parked as well.
    ///
    /// # Errors
    /// [`Full`] says which bound it would exceed.
    pub const fn check_room(&self, bounds: Bounds, bytes: u64) -> Result<(), Full> {
        if self.count >= bounds.transactions {
            return Err(Full::Transactions);
        }
        if self.bytes.saturating_add(bytes) > bounds.bytes {
            return Err(Full::Bytes);
        }
        Ok(())
    }

    /// One more, newer than all others.
    pub fn add(&mut self, id: i64, touched: &Touched, waits_for: &[i64], bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        for before in waits_for {
            self.last.remove(before);
        }
        self.last.insert(id);
        if touched.is_everything() {
            self.everything = Some(id);
            // Whoever comes later waits for this one at least.
            self.tables.clear();
            return;
        }
        for (table, extent) in touched.tables() {
            let holders = match self.tables.get_mut(table) {
                Some(holders) => holders,
                None => self.tables.entry(table.to_vec()).or_default(),
            };
            match extent {
                Extent::Whole => *holders = Holders { whole: Some(id), ..Holders::default() },
                Extent::Keys { shape, keys } => {
                    holders.mixed |= holders.shape.is_some_and(|known| known != *shape);
                    holders.shape = Some(*shape);
                    holders.since.insert(id);
                    holders.keys.extend(keys.iter().map(|key| (*key, id)));
                }
            }
        }
    }

    /// For which parked transactions one that touches this must wait, in their order. Empty: for none.
    pub fn waits_for(&self, touched: &Touched) -> Vec<i64> {
        if touched.is_everything() {
            return self.last.iter().copied().collect();
        }
        let mut found = BTreeSet::new();
        let mut touches = false;
        for (table, extent) in touched.tables() {
            touches = true;
            let Some(holders) = self.tables.get(table) else { continue };
            match extent {
                Extent::Keys { shape, keys } if !holders.mixed && holders.shape.is_none_or(|known| known == *shape) => {
                    let newest = keys.iter().filter_map(|key| holders.keys.get(key).copied());
                    found.extend(newest.chain(holders.whole));
                }
                _ => found.extend(holders.since.iter().copied().chain(holders.whole)),
            }
        }
        found.extend(self.everything.filter(|_| touches));
        found.into_iter().collect()
    }
}

/// Parked transactions and what each of them waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order(BTreeMap<i64, Vec<i64>>);

impl Order {
    /// From ids with the ids that each waits for; those that are not parked any more may be among the latter.
    pub fn new(transactions: impl IntoIterator<Item = (i64, Vec<i64>)>) -> Self {
        Self(transactions.into_iter().collect())
    }

    /// All, in the order in which they are applied.
    pub fn all(&self) -> Vec<i64> {
        self.0.keys().copied().collect()
    }

    /// `id` and all that must be applied before it, in order. Empty: it is not parked.
    pub fn up_to(&self, id: i64) -> Vec<i64> {
        let mut found = BTreeSet::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if let Some(before) = self.0.get(&id)
                && found.insert(id)
            {
                open.extend(before);
            }
        }
        found.into_iter().collect()
    }

    /// All that wait for one of `ids`, directly or through others, in order.
    pub fn behind(&self, ids: &[i64]) -> Vec<i64> {
        let mut held: BTreeSet<i64> = ids.iter().copied().collect();
        let mut found = Vec::new();
        // Whoever waits is newer than what it waits for.
        for (id, before) in &self.0 {
            if before.iter().any(|before| held.contains(before)) && held.insert(*id) {
                found.push(*id);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
