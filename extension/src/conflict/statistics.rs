//! Conflicts counted by subscription and kind. From 18 on they are the server's own statistics; before, a table in shared
//! memory that a clean stop writes to `spock/conflicts.dat`.
//!
//! # Invariants
//! 1. Counted is what transactions that are committed met, whatever the settings say is to be reported of it.
//! 2. The order of the counters is that of [`ConflictType::ALL`].
//! 3. A file that does not fit this server is ignored with a WARNING: it never keeps the server from starting.

use crate::pg::process::{self, TxnEnd};
use crate::pg::raise;
use crate::pg::shmem::{self, SharedTable, shareable};
use crate::pg::statistics::{self, Totals};
use spock_core::merge::ConflictType;
use spock_core::types::{PgTime, SubId};
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

/// Subscriptions beyond `max_worker_processes`: disabled ones keep their counters.
const ENTRIES_MIN: usize = 64;

shareable! {
    struct Entry {
        database: u32,
        /// 0: a free place.
        subscription: u32,
        counts: [u64; 7],
        reset_at: i64,
        touched: i64,
    }
}

const FREE: Entry = Entry { database: 0, subscription: 0, counts: [0; 7], reset_at: 0, touched: 0 };

static ENTRIES: SharedTable<Entry> = SharedTable::new(c"spock_conflicts", entries_max, |entries| {
    for (place, entry) in entries.iter_mut().zip(load()) {
        *place = entry;
    }
});

fn entries_max() -> usize {
    if statistics::are_kept() { 1 } else { ENTRIES_MIN.max(2 * shmem::max_worker_processes()) }
}

/// Asks for shared memory, or makes the statistics known to the server. Only while it preloads libraries.
pub fn reserve() {
    ENTRIES.reserve();
}

impl Entry {
    fn is(&self, database: u32, sub: SubId) -> bool {
        self.database == database && self.subscription == sub.get()
    }
}

/// What one process counts between two commits.
#[derive(Debug, Default)]
pub struct Counted {
    counts: [u64; 7],
    any: bool,
}

impl Counted {
    /// One more of that kind.
    pub fn one(&mut self, kind: ConflictType) {
        if let Some(place) = ConflictType::ALL.iter().position(|known| *known == kind) {
            self.counts[place] += 1;
            self.any = true;
        }
    }

    /// Adds it to what is known of the subscription, after the commit.
    pub fn publish(&mut self, sub: SubId) {
        if !std::mem::take(&mut self.any) {
            return;
        }
        let counts = std::mem::take(&mut self.counts);
        if statistics::are_kept() {
            return statistics::add(sub.get(), &counts);
        }
        let (database, now) = (process::own_database(), process::now().micros());
        let mut entries = ENTRIES.write();
        // Its own place, a free one, or that of the subscription that has been quiet for longest.
        let place = entries.iter().position(|entry| entry.is(database, sub)).or_else(|| {
            let oldest = entries.iter().enumerate().min_by_key(|(_, entry)| (entry.subscription != 0, entry.touched));
            let place = oldest.map(|(place, _)| place)?;
            entries[place] = Entry { database, subscription: sub.get(), ..FREE };
            Some(place)
        });
        if let Some(entry) = place.and_then(|place| entries.get_mut(place)) {
            entry.touched = now;
            for (total, added) in entry.counts.iter_mut().zip(counts) {
                *total += added;
            }
        }
    }
}

/// What is known of a subscription of this database; zeros for one that is not known.
pub fn totals(sub: SubId) -> Totals {
    if statistics::are_kept() {
        return statistics::fetch(sub.get());
    }
    let database = process::own_database();
    let entries = ENTRIES.read();
    let found = entries.iter().find(|entry| entry.is(database, sub));
    found.map_or_else(Totals::default, |entry| Totals {
        counts: entry.counts,
        reset_at: (entry.reset_at != 0).then(|| PgTime::from_micros(entry.reset_at)),
    })
}

/// Sets the counters of a subscription of this database to zero.
pub fn reset(sub: SubId) {
    if statistics::are_kept() {
        return statistics::reset(sub.get());
    }
    let (database, now) = (process::own_database(), process::now().micros());
    if let Some(entry) = ENTRIES.write().iter_mut().find(|entry| entry.is(database, sub)) {
        entry.counts = [0; 7];
        entry.reset_at = now;
    }
}

thread_local! {
    static DROPPED: RefCell<Vec<SubId>> = const { RefCell::new(Vec::new()) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Forgets a subscription of this database when the open transaction commits.
pub fn drop_at_commit(sub: SubId) {
    if statistics::are_kept() {
        return statistics::drop_at_commit(sub.get());
    }
    if !LISTENING.replace(true) {
        process::at_transaction_end(|end| {
            let dropped = DROPPED.with_borrow_mut(core::mem::take);
            if end == TxnEnd::Commit && !dropped.is_empty() {
                let database = process::own_database();
                for entry in ENTRIES.write().iter_mut() {
                    if dropped.iter().any(|sub| entry.is(database, *sub)) {
                        *entry = FREE;
                    }
                }
            }
        });
    }
    DROPPED.with_borrow_mut(|dropped| dropped.push(sub));
}

/// Layout of the file: this number, the number of entries, the server's identity, then the entries, all in native order.
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const RECORD_BYTES: usize = 8 + 7 * 8 + 8;

fn path() -> PathBuf {
    process::data_directory().join("spock").join("conflicts.dat")
}

/// At a clean stop, after the last apply worker.
pub fn save() {
    if statistics::are_kept() {
        return;
    }
    let entries: Vec<Entry> = ENTRIES.read().iter().filter(|entry| entry.subscription != 0).copied().collect();
    if let Err(error) = write(&entries) {
        raise::warn(format!("could not write spock/conflicts.dat: {error}"));
    }
}

fn write(entries: &[Entry]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + entries.len() * RECORD_BYTES);
    bytes.extend(VERSION.to_ne_bytes());
    bytes.extend((entries.len() as u32).to_ne_bytes());
    bytes.extend(process::system_identifier().to_ne_bytes());
    for entry in entries {
        bytes.extend(entry.database.to_ne_bytes());
        bytes.extend(entry.subscription.to_ne_bytes());
        entry.counts.iter().for_each(|count| bytes.extend(count.to_ne_bytes()));
        bytes.extend(entry.reset_at.to_ne_bytes());
    }
    let (target, temporary) = (path(), path().with_extension("dat.tmp"));
    let folder = target.parent().unwrap_or(&target);
    fs::create_dir_all(folder)?;
    let mut file = File::create(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, &target)?;
    File::open(folder)?.sync_all()
}

fn load() -> Vec<Entry> {
    if statistics::are_kept() {
        return Vec::new();
    }
    let read = match fs::read(path()) {
        Ok(bytes) => decode(&bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => Err(error.to_string()),
    };
    read.unwrap_or_else(|why| {
        raise::warn(format!("spock/conflicts.dat is ignored, conflicts are counted anew: {why}"));
        Vec::new()
    })
}

fn decode(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let long = |at: usize| bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_ne_bytes);
    if word(0) != VERSION {
        return Err("its version is not known".to_owned());
    }
    if long(8) != process::system_identifier() {
        return Err("it belongs to another server".to_owned());
    }
    let count = word(4) as usize;
    if bytes.len() != HEADER_BYTES + count * RECORD_BYTES {
        return Err("its length does not fit".to_owned());
    }
    let entry = |at: usize| Entry {
        database: word(at),
        subscription: word(at + 4),
        counts: core::array::from_fn(|n| long(at + 8 + 8 * n)),
        reset_at: long(at + 64).cast_signed(),
        touched: 0,
    };
    Ok((0..count).map(|n| entry(HEADER_BYTES + n * RECORD_BYTES)).collect())
}
