//! Rows counted by subscription and table: what apply workers have applied, and under subscription 0 what was sent from here.
//! In shared memory, until the server stops. Written once per transaction by `apply` and `output`, read by `sql`.
//!
//! # Invariants
//! 1. The first place of the table counts the others that are taken; an entry is where its key's chain of taken places
//!    leads to. At least a quarter of the places stays free, so chains are short, also for a key that is not there.
//! 2. What does not fit is not counted, and said once in each process. Nothing else suffers.

use crate::pg::process;
use crate::pg::raise;
use crate::pg::shmem::{self, SharedTable, shareable};
use crate::settings;
use std::cell::Cell;

shareable! {
    /// Whose rows of which table.
    #[derive(Debug, PartialEq, Eq, Hash)]
    pub struct CounterKey {
        /// Oid of the database.
        pub database: u32,
        /// The subscription's id, 0 for what was sent.
        pub subscription: u32,
        /// Oid of the table.
        pub relation: u32,
    }
}

shareable! {
    /// Counts to add, or totals.
    #[derive(Debug, PartialEq, Eq, Default)]
    pub struct Counts {
        /// Rows inserted.
        pub inserted: u64,
        /// Rows updated.
        pub updated: u64,
        /// Rows deleted.
        pub deleted: u64,
        /// Conflicts.
        pub conflicts: u64,
        /// Delta overrides.
        pub deltas: u64,
    }
}

impl Counts {
    /// Adds other rows of the same table.
    pub fn add(&mut self, other: &Self) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.conflicts += other.conflicts;
        self.deltas += other.deltas;
    }
}

shareable! {
    struct Counter {
        key: CounterKey,
        counts: Counts,
    }
}

const NOBODY: CounterKey = CounterKey { database: 0, subscription: 0, relation: 0 };
/// `spock.stats_max_entries` = -1 means so many for each possible worker.
const ENTRIES_PER_WORKER: usize = 1000;

static COUNTERS: SharedTable<Counter> = SharedTable::new(c"spock_counters", places, |_| {});

/// Tables that can be counted.
fn entries_max() -> usize {
    settings::stats_max_entries().unwrap_or_else(|| ENTRIES_PER_WORKER * shmem::max_worker_processes())
}

/// The place that counts, and a third more than there can be entries.
fn places() -> usize {
    let entries = entries_max();
    2 + entries + entries / 3
}

/// Asks for the shared memory. Only while the server preloads libraries.
pub fn reserve() {
    COUNTERS.reserve();
}

/// Where the chain of `key` begins among so many places.
fn first_place(key: CounterKey, places: usize) -> usize {
    let mixed = key.relation.wrapping_mul(0x9e37_79b1)
        ^ key.subscription.wrapping_mul(0x85eb_ca6b)
        ^ key.database.rotate_left(16);
    1 + (mixed ^ (mixed >> 15)) as usize % (places - 1)
}

/// The place of `key`, or the free one where it would go.
fn place_of(counters: &[Counter], key: CounterKey) -> Option<usize> {
    let first = first_place(key, counters.len());
    (first..counters.len())
        .chain(1..first)
        .find(|&place| counters[place].key == key || counters[place].key.relation == NOBODY.relation)
}

/// Adds to one entry. `false`: the table is full.
fn add(counters: &mut [Counter], key: CounterKey, counts: &Counts, entries_max: u64) -> bool {
    let Some(place) = place_of(counters, key) else { return false };
    if counters[place].key != key {
        if counters[0].counts.inserted >= entries_max {
            return false;
        }
        counters[0].counts.inserted += 1;
        counters[place].key = key;
    }
    counters[place].counts.add(counts);
    true
}

/// Adds what a process has counted since its last call.
fn add_all(added: impl Iterator<Item = (CounterKey, Counts)>) {
    thread_local! {
        static SAID: Cell<bool> = const { Cell::new(false) };
    }
    if !COUNTERS.exists() {
        return;
    }
    let limit = entries_max() as u64;
    let mut counters = COUNTERS.write();
    let mut complete = true;
    for (key, counts) in added {
        complete &= add(&mut counters, key, &counts, limit);
    }
    drop(counters);
    if !complete && !SAID.replace(true) {
        raise::log_line(format!("more than {limit} tables were counted: see \"spock.stats_max_entries\""));
    }
}

/// All counters of one database.
pub fn counts(database: u32) -> Vec<(CounterKey, Counts)> {
    let counters = COUNTERS.read();
    counters
        .iter()
        .skip(1)
        .filter(|counter| counter.key.relation != NOBODY.relation && counter.key.database == database)
        .map(|counter| (counter.key, counter.counts))
        .collect()
}

/// Forgets all counters of one database and frees their places.
pub fn reset(database: u32) {
    let mut counters = COUNTERS.write();
    let keep: Vec<Counter> = counters
        .iter()
        .skip(1)
        .filter(|counter| counter.key.relation != NOBODY.relation && counter.key.database != database)
        .copied()
        .collect();
    counters.fill(Counter { key: NOBODY, counts: Counts::default() });
    for counter in keep {
        // There was room for all of them and more.
        add(&mut counters, counter.key, &counter.counts, u64::MAX);
    }
}

/// What one process counts between two visits of the shared table.
pub struct Tally {
    subscription: u32,
    on: bool,
    /// In the order of the relations.
    entries: Vec<(u32, Counts)>,
    /// The entry of the last row: runs of rows of one table are the rule.
    last: usize,
}

impl Tally {
    /// For rows of a subscription, or with 0 for rows that are sent. Counts nothing with `spock.channel_counters` off.
    pub fn new(subscription: u32) -> Self {
        Self { subscription, on: settings::channel_counters(), entries: Vec::new(), last: 0 }
    }

    /// Counts rows of a table.
    #[inline]
    pub fn count(&mut self, relation: u32, counts: &Counts) {
        if !self.on {
            return;
        }
        if self.entries.get(self.last).is_none_or(|(last, _)| *last != relation) {
            self.last = self.entries.binary_search_by_key(&relation, |(known, _)| *known).unwrap_or_else(|place| {
                self.entries.insert(place, (relation, Counts::default()));
                place
            });
        }
        self.entries[self.last].1.add(counts);
    }

    /// Forgets what was counted of a transaction that came to nothing.
    pub fn forget(&mut self) {
        self.entries.clear();
        self.last = 0;
    }

    /// Adds what was counted to the shared table. Once per transaction.
    pub fn publish(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        let (database, subscription) = (process::own_database(), self.subscription);
        let key = |relation| CounterKey { database, subscription, relation };
        add_all(self.entries.iter().map(|(relation, counts)| (key(*relation), *counts)));
        self.forget();
    }
}
