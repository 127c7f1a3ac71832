//! How far each group of subscriptions has come, beyond the life of a worker process. In shared memory; `spock/resource.dat`
//! has it as it was at the last clean stop, copy, or drop of a subscription.
//!
//! # Invariants
//! 1. Nothing here decides where replication starts: that is the replication origin's position. These are for people,
//!    views and other nodes that ask.
//! 2. Commit time, commit position and update time of a group change together, and only forward in commit time. Inserted
//!    and received positions only move forward.
//! 3. What a copy told of other nodes is on disk before the copy is begun: nobody says it again. What a stream told may be
//!    older after a crash, until its worker starts.
//! 4. A file that does not fit this server is ignored with a WARNING: it never keeps the server from starting.
//!
//! # Not here
//! Feedback and positions that the provider may rely on (`spock_core::progress`, `apply`).

use crate::pg::process;
use crate::pg::shmem::{self, SharedTable, shareable};
use crate::worker::progress_file;
use spock_core::types::{Lsn, NodeId, PgTime};

/// A group: all subscriptions of one node in one database to one provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgressKey {
    /// Oid of the database.
    pub database: u32,
    /// The subscribing node.
    pub node: NodeId,
    /// The provider.
    pub remote: NodeId,
}

/// What changed. `Default` changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgressUpdate {
    /// A remote commit was applied: its time at the origin of the stream and its end position.
    pub commit: Option<(PgTime, Lsn)>,
    /// The provider's WAL insert position, as its stream told.
    pub insert_lsn: Option<Lsn>,
    /// End of what was received.
    pub received_lsn: Option<Lsn>,
    /// Whether the numbers come from the stream, not from a copy.
    pub by_decode: bool,
}

/// A row of `spock.apply_group_progress()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgressRow {
    /// Database, node and provider.
    pub key: ProgressKey,
    /// Commit time of the last applied remote transaction.
    pub remote_commit_ts: Option<PgTime>,
    /// As the C edition shows it: the same time.
    pub prev_remote_ts: Option<PgTime>,
    /// End position of the last applied remote transaction.
    pub remote_commit_lsn: Option<Lsn>,
    /// Last known insert position of the provider.
    pub remote_insert_lsn: Option<Lsn>,
    /// End of what was received.
    pub received_lsn: Option<Lsn>,
    /// When the last remote transaction was applied, local clock.
    pub last_updated_ts: Option<PgTime>,
    /// Whether the numbers come from the stream.
    pub updated_by_decode: bool,
}

/// Groups beyond `max_worker_processes`: rows of dropped subscriptions stay until their place is needed.
const GROUPS_MIN: usize = 64;

shareable! {
    struct Group {
        database: u32,
        node: u32,
        remote: u32,
        by_decode: u32,
        commit_ts: i64,
        updated_ts: i64,
        touched: i64,
        commit_lsn: u64,
        insert_lsn: u64,
        received_lsn: u64,
    }
}

static GROUPS: SharedTable<Group> = SharedTable::new(c"spock_apply_groups", group_count, |groups| {
    for (place, row) in groups.iter_mut().zip(progress_file::load()) {
        *place = Group::of(&row);
    }
});

fn group_count() -> usize {
    GROUPS_MIN.max(2 * shmem::max_worker_processes())
}

fn time(micros: i64) -> Option<PgTime> {
    (micros != 0).then(|| PgTime::from_micros(micros))
}

fn micros(time: Option<PgTime>) -> i64 {
    time.map_or(0, PgTime::micros)
}

impl Group {
    fn of(row: &ProgressRow) -> Self {
        Self {
            database: row.key.database,
            node: row.key.node.get(),
            remote: row.key.remote.get(),
            by_decode: u32::from(row.updated_by_decode),
            commit_ts: micros(row.remote_commit_ts),
            updated_ts: micros(row.last_updated_ts),
            touched: 0,
            commit_lsn: Lsn::raw(row.remote_commit_lsn),
            insert_lsn: Lsn::raw(row.remote_insert_lsn),
            received_lsn: Lsn::raw(row.received_lsn),
        }
    }

    fn is(&self, key: ProgressKey) -> bool {
        self.database == key.database && self.node == key.node.get() && self.remote == key.remote.get()
    }

    fn row(&self) -> Option<ProgressRow> {
        let key =
            ProgressKey { database: self.database, node: NodeId::new(self.node)?, remote: NodeId::new(self.remote)? };
        Some(ProgressRow {
            key,
            remote_commit_ts: time(self.commit_ts),
            prev_remote_ts: time(self.commit_ts),
            remote_commit_lsn: Lsn::new(self.commit_lsn),
            remote_insert_lsn: Lsn::new(self.insert_lsn),
            received_lsn: Lsn::new(self.received_lsn),
            last_updated_ts: time(self.updated_ts),
            updated_by_decode: self.by_decode != 0,
        })
    }

    fn merge(&mut self, update: &ProgressUpdate, now: i64) {
        if let Some((commit_ts, commit_lsn)) = update.commit {
            if commit_ts.micros() > self.commit_ts {
                self.commit_ts = commit_ts.micros();
                self.commit_lsn = commit_lsn.get();
                self.updated_ts = now;
                self.by_decode = u32::from(update.by_decode);
            }
            self.insert_lsn = self.insert_lsn.max(commit_lsn.get());
        }
        self.insert_lsn = self.insert_lsn.max(Lsn::raw(update.insert_lsn));
        self.received_lsn = self.received_lsn.max(Lsn::raw(update.received_lsn));
        self.touched = now;
    }
}

/// Asks for the shared memory. Only while the server preloads libraries.
pub fn reserve() {
    GROUPS.reserve();
}

/// Takes over what an earlier version kept of a group, as far as it is newer than what is known.
pub fn adopt(row: &ProgressRow) {
    let old = Group::of(row);
    let known =
        ProgressUpdate { insert_lsn: row.remote_insert_lsn, received_lsn: row.received_lsn, ..Default::default() };
    update(row.key, &known);
    let mut groups = GROUPS.write();
    if let Some(group) = groups.iter_mut().find(|group| group.is(row.key) && group.commit_ts < old.commit_ts) {
        group.commit_ts = old.commit_ts;
        group.commit_lsn = old.commit_lsn;
        group.updated_ts = old.updated_ts;
        group.by_decode = old.by_decode;
    }
}

/// Merges `update` into the group's row, making it if needed. One lock, no allocation: for each commit and each drained
/// buffer, not for each row.
pub fn update(key: ProgressKey, update: &ProgressUpdate) {
    let now = process::now().micros();
    let mut groups = GROUPS.write();
    let place = groups.iter().position(|group| group.is(key)).or_else(|| {
        // A free place, else the row that nobody has touched for longest: its subscription is gone.
        let place = groups
            .iter()
            .enumerate()
            .min_by_key(|(_, group)| (group.node != 0, group.touched))
            .map(|(place, _)| place)?;
        groups[place] = Group { database: key.database, node: key.node.get(), remote: key.remote.get(), ..FREE };
        Some(place)
    });
    if let Some(place) = place {
        groups[place].merge(update, now);
    }
}

const FREE: Group = Group {
    database: 0,
    node: 0,
    remote: 0,
    by_decode: 0,
    commit_ts: 0,
    updated_ts: 0,
    touched: 0,
    commit_lsn: 0,
    insert_lsn: 0,
    received_lsn: 0,
};

/// An apply worker starts at `origin`, the position that its replication origin has: the group's row is put right when it
/// says something else. Times of commits that are not known are forgotten, not guessed.
pub fn reconcile(key: ProgressKey, origin: Option<Lsn>) {
    update(key, &ProgressUpdate::default());
    let position = Lsn::raw(origin);
    if let Some(group) = GROUPS.write().iter_mut().find(|group| group.is(key) && group.commit_lsn != position) {
        group.commit_lsn = position;
        group.commit_ts = 0;
        group.updated_ts = 0;
        group.insert_lsn = group.insert_lsn.max(position);
        group.received_lsn = position;
    }
}

/// What a copy tells of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    /// The group that it is about.
    pub key: ProgressKey,
    /// Commit time and end of the last transaction that the copy holds.
    pub commit: (Option<PgTime>, Option<Lsn>),
    /// End of what the copy's provider had received.
    pub received: Option<Lsn>,
}

/// What a copy brought with it of other nodes: replaces what was known, backwards too, and is on disk when this returns.
pub fn seed(seeds: &[Seed]) -> std::io::Result<()> {
    if seeds.is_empty() {
        return Ok(());
    }
    for seed in seeds {
        update(seed.key, &ProgressUpdate::default());
        if let Some(group) = GROUPS.write().iter_mut().find(|group| group.is(seed.key)) {
            let (time, end) = seed.commit;
            group.commit_ts = micros(time);
            group.updated_ts = micros(time);
            group.commit_lsn = Lsn::raw(end);
            group.received_lsn = Lsn::raw(seed.received).max(group.commit_lsn);
            group.insert_lsn = group.received_lsn;
            group.by_decode = 0;
        }
    }
    save()
}

/// Forgets the groups of a node that is dropped, or with `remote` the one to that provider: a later life of that name knows
/// nothing yet.
pub fn forget(database: u32, node: NodeId, remote: Option<NodeId>) -> std::io::Result<()> {
    let gone = |group: &Group| {
        group.database == database
            && group.node == node.get()
            && remote.is_none_or(|remote| group.remote == remote.get())
    };
    let mut found = false;
    for group in GROUPS.write().iter_mut().filter(|group| gone(group)) {
        *group = FREE;
        found = true;
    }
    if found { save() } else { Ok(()) }
}

/// Writes all groups to disk. Under the lock, so that two processes do not write at once.
pub fn save() -> std::io::Result<()> {
    let groups = GROUPS.write();
    let rows: Vec<ProgressRow> = groups.iter().filter_map(Group::row).collect();
    progress_file::save(&rows)
}

/// All groups of the server.
pub fn snapshot() -> Vec<ProgressRow> {
    GROUPS.read().iter().filter_map(Group::row).collect()
}
