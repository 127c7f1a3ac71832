//! Tombstones: what is remembered of removed keys until no older change can come any more.
//!
//! Nothing is written for a row that is deleted here: the dead row itself is the tombstone, with the time and the node of its
//! end in the commit data of the transaction that ended it, and vacuum is kept from removing it (`pg::horizon`). Only what
//! leaves no dead row is written down in `spock.tombstone`: the DELETE of a row that was not here, and TRUNCATE.
//!
//! ```text
//! session deletes ─► before its commit: mark the table, hold vacuum back ─► commit
//! manager: note who runs ─► all of them have ended ─► nobody can send anything older ─► let go
//! ```
//!
//! # Invariants
//! 1. A transaction that removes keys has marked its tables, and vacuum is held back, before anybody can see its commit.
//! 2. What is let go was removed by transactions that ended before the wait for the other nodes began.
//! 3. A mark too many costs a look; no mark is ever missing. After a restart every table counts as marked, if anything was held.
//! 4. In a database without subscriptions nothing is kept: nobody sends it anything. An apply worker does not ask its provider
//!    for changes before removals are remembered ([`wait_for_slot`]): what is removed before that is older than what comes.

use crate::catalog::displaced as catalog_of_displaced;
use crate::catalog::rests;
use crate::catalog::tombstones as catalog;
use crate::catalog::topology;
use crate::error::{OrRaise, Report};
use crate::pg::attempt::attempt;
use crate::pg::authority::extension_installed;
use crate::pg::deletes::{self, Removed};
use crate::pg::horizon::{self, FullXid};
use crate::pg::latch;
use crate::pg::origin;
use crate::pg::process;
use crate::pg::scope::Txn;
use crate::pg::shmem::{self, SharedTable, shareable};
use crate::worker::announcements::{self, Sample, Verdict};
use crate::worker::at_start;
use crate::worker::displaced;
use crate::worker::registry;
use core::sync::atomic::{AtomicU32, Ordering};
use pgrx::PgSqlErrorCode;
use spock_core::merge::stability::Cause;
use spock_core::types::NodeId;
use std::time::{Duration, Instant};

/// Tables that are told apart. Beyond that, all tables of the database count as marked.
const MARKS_MAX: usize = 1024;
/// How long an apply worker waits for the slot. Where it cannot be made, the supervisor says so, and replication goes on.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Pause between two looks meanwhile: the supervisor makes it within milliseconds.
const SLOT_POLL: Duration = Duration::from_millis(20);
/// How often the manager looks while something is kept.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

shareable! {
    /// What one database keeps.
    struct Hold {
        /// Its oid; 0: the place is free.
        database: u32,
        /// All its tables count as marked.
        all: u32,
        /// Nodes of its cluster, this one included; 0: not known yet.
        members: u32,
        /// The node whose word is missing before something can be let go; 0: none is.
        waits_for: u32,
        /// Grows with each transaction that removes keys.
        removals: u64,
        /// Dead rows are kept from this transaction on; 0: none are.
        from: u64,
        /// Since when, local clock.
        since: i64,
    }
}

shareable! {
    /// A table from which keys were removed.
    struct Mark {
        database: u32,
        /// 0: the place is free.
        table: u32,
        /// There are rows in `spock.tombstone` for it.
        written: u32,
        unused: u32,
        /// [`Hold::removals`] of the last removal.
        last: u64,
    }
}

static HOLDS: SharedTable<Hold> = SharedTable::new(c"spock_tombstone_holds", shmem::max_worker_processes, |_| {});
static MARKS: SharedTable<Mark> = SharedTable::new(c"spock_tombstone_marks", || MARKS_MAX, |_| {});
/// The first grows whenever a table is newly marked, in whatever database, the second whenever keys are removed.
static EPOCH: SharedTable<AtomicU32> = SharedTable::new(c"spock_tombstone_epoch", || 2, |_| {});

/// Reserves shared memory, and asks to be told of removals. Once, while the library is loaded.
pub fn init() {
    HOLDS.reserve();
    MARKS.reserve();
    EPOCH.reserve();
    deletes::install(before_commit);
}

/// What is to be asked for a key of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marked {
    /// Keys of it may have been removed.
    pub removed: bool,
    /// Some of that may be in `spock.tombstone`.
    pub written: bool,
}

/// Changes whenever a table that was not marked is. To be read before what [`marked`] is asked for.
pub fn epoch() -> u32 {
    EPOCH.cells().first().map_or(0, |cell| cell.load(Ordering::Acquire))
}

/// Changes whenever keys of any table are removed. To be read before what [`last_removal`] is asked for.
pub fn removals() -> u32 {
    EPOCH.cells().get(1).map_or(0, |cell| cell.load(Ordering::Acquire))
}

/// Changes whenever keys of `table` are removed, before the transaction that does commits.
pub fn last_removal(table: u32) -> u64 {
    let database = process::own_database();
    let all = HOLDS.read().iter().find(|hold| hold.database == database && hold.all != 0).map(|hold| hold.removals);
    let marks = MARKS.read();
    let mark = marks.iter().find(|mark| mark.database == database && mark.table == table);
    mark.map(|mark| mark.last).max(all).unwrap_or_default()
}

/// The running transaction writes something of keys of `table` into a table of ours. Who inserts such a key looks there from now
/// on, and not only when this has committed.
pub fn announce(table: u32) {
    let Some(xid) = horizon::own_xid().filter(|_| horizon::exists()) else { return };
    note(xid, &[Removed { table, truncated: false, remembered: true }]);
}

/// What is known of `table` in this database.
pub fn marked(table: u32) -> Marked {
    let database = process::own_database();
    match HOLDS.read().iter().find(|hold| hold.database == database) {
        // Nobody has removed anything, or the server has just started: the slot knows.
        None => return if horizon::exists() { Marked { removed: true, written: true } } else { Marked::default() },
        Some(hold) if hold.all != 0 => return Marked { removed: true, written: true },
        Some(_) => {}
    }
    let marks = MARKS.read();
    let mark = marks.iter().find(|mark| mark.database == database && mark.table == table);
    mark.map_or(Marked::default(), |mark| Marked { removed: true, written: mark.written != 0 })
}

/// From which transaction on dead rows of this database are kept. `None`: none are.
pub fn held_from() -> Option<FullXid> {
    let database = process::own_database();
    match HOLDS.read().iter().find(|hold| hold.database == database) {
        Some(hold) => (hold.from != 0).then_some(FullXid(hold.from)),
        None => horizon::held_from(),
    }
}

/// Whether nodes beside this one and one provider may send changes to this database.
pub fn has_others() -> bool {
    let database = process::own_database();
    HOLDS.read().iter().find(|hold| hold.database == database).is_none_or(|hold| hold.members == 0 || hold.members > 2)
}

/// Returns once removed keys are remembered, or after [`SLOT_WAIT_MAX`]. For an apply worker that has not spoken to its provider yet.
pub fn wait_for_slot() {
    let started = Instant::now();
    while !horizon::exists() && started.elapsed() < SLOT_WAIT_MAX {
        latch::wait(SLOT_POLL);
        latch::check_interrupts();
    }
}

/// Called in every process before a transaction commits that has removed keys.
fn before_commit(removed: &[Removed]) {
    for one in removed.iter().filter(|one| one.truncated && displaced::is_marked(one.table)) {
        // What is applied has looked for itself which of them are older.
        if !origin::is_stamped() {
            catalog_of_displaced::delete_of(one.table).or_raise();
        }
    }
    if !horizon::exists() {
        return;
    }
    let Some(xid) = horizon::own_xid().filter(|_| extension_installed()) else { return };
    for one in removed.iter().filter(|one| one.truncated) {
        catalog::write_truncate(one.table).or_raise();
    }
    note(xid, removed);
}

/// Holds vacuum back for the running transaction, and marks the tables.
fn note(xid: FullXid, removed: &[Removed]) {
    let database = process::own_database();
    let first = hold(database, xid);
    let news = mark(database, removed, first.removals);
    let [epoch, removals] = EPOCH.cells() else { return };
    if news {
        epoch.fetch_add(1, Ordering::Release);
    }
    removals.fetch_add(1, Ordering::Release);
    if first.is_first {
        // The manager sleeps longer while nothing is held.
        registry::wake_manager(database);
    }
}

struct Held {
    removals: u64,
    is_first: bool,
}

/// Holds vacuum back for a transaction that is about to commit, and counts it.
fn hold(database: u32, xid: FullXid) -> Held {
    let mut holds = HOLDS.write();
    let place = match holds.iter().position(|hold| hold.database == database) {
        Some(place) => place,
        None => match register(&mut holds, database, horizon::held_from().or_else(at_start::missed_from)) {
            Some(place) => place,
            // More databases than workers: none of them could replicate.
            None => return Held { removals: 0, is_first: false },
        },
    };
    let hold = &mut holds[place];
    hold.removals += 1;
    let removals = hold.removals;
    let is_first = hold.from == 0;
    if is_first {
        hold.from = xid.0;
        hold.since = process::now().micros();
        impose(&holds);
    }
    Held { removals, is_first }
}

/// A place for `database`. What was kept from `before` on goes on to be: the slot has brought it over a restart.
fn register(holds: &mut [Hold], database: u32, before: Option<FullXid>) -> Option<usize> {
    let place = holds.iter().position(|hold| hold.database == 0)?;
    holds[place] = Hold {
        database,
        all: u32::from(before.is_some()),
        members: 0,
        waits_for: 0,
        removals: 1,
        from: before.map_or(0, |xid| xid.0),
        since: process::now().micros(),
    };
    Some(place)
}

/// The slot holds what the databases need together.
fn impose(holds: &[Hold]) {
    let needed = holds.iter().filter(|hold| hold.database != 0 && hold.from != 0).map(|hold| hold.from);
    horizon::hold(needed.chain(at_start::rows_from()).min().map(FullXid));
}

/// After what was kept since the start is not any more.
pub fn impose_again() {
    impose(&HOLDS.write());
}

/// Whether a table is newly marked, or newly has rows in `spock.tombstone`.
fn mark(database: u32, removed: &[Removed], removals: u64) -> bool {
    let mut news = false;
    let mut full = false;
    let mut marks = MARKS.write();
    for one in removed {
        let written = u32::from(one.truncated || one.remembered);
        let known = marks.iter().position(|mark| mark.database == database && mark.table == one.table);
        let Some(place) = known.or_else(|| marks.iter().position(|mark| mark.table == 0)) else {
            full = true;
            continue;
        };
        let before = if known.is_some() { marks[place].written } else { 0 };
        news |= known.is_none() || before < written;
        marks[place] = Mark { database, table: one.table, written: before | written, unused: 0, last: removals };
    }
    drop(marks);
    if full {
        for hold in HOLDS.write().iter_mut().filter(|hold| hold.database == database && hold.all == 0) {
            hold.all = 1;
            news = true;
        }
    }
    news
}

/// A point in time: everything that was removed before it is let go together.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// [`Hold::removals`] then.
    removals: u64,
    /// The next transaction then.
    next: FullXid,
}

#[derive(Debug)]
enum Phase {
    Nothing,
    /// Transactions that ran at the point have not all ended.
    Running(Point),
    /// They have: from here on the others are waited for.
    Waiting(Point, Wait),
}

/// Waiting for the other nodes to be as far as this one was.
#[derive(Debug)]
struct Wait {
    since: Instant,
    sample: Sample,
}

/// The manager's part: lets go what nobody needs.
pub struct Upkeep {
    database: u32,
    phase: Phase,
}

impl Upkeep {
    /// For the manager of `database`.
    pub fn new(database: u32) -> Self {
        Self { database, phase: Phase::Nothing }
    }

    /// One look. Says when to look again; `None`: when a session wakes the manager.
    pub fn tick(&mut self, has_subscriptions: bool, members: usize) -> Option<Duration> {
        let hold = self.register(has_subscriptions, members)?;
        if hold.from == 0 && hold.all == 0 {
            self.phase = Phase::Nothing;
            return None;
        }
        // A catalog that cannot be read now can be at the next look.
        match attempt(|| self.step(hold.removals)) {
            Ok(Ok(())) => {}
            Ok(Err(report)) => crate::worker::complain(&report),
            Err(caught) if caught.report.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {}
            Err(caught) => crate::worker::complain(&caught.report),
        }
        Some(LOOK_INTERVAL)
    }

    fn step(&mut self, removals: u64) -> Result<(), Report> {
        let over = match &mut self.phase {
            Phase::Nothing => {
                self.phase = Phase::Running(Point { removals, next: horizon::next_xid() });
                return Ok(());
            }
            Phase::Running(point) => {
                if horizon::oldest_running() >= point.next {
                    announcements::set_holding(true);
                    let wait = Wait { since: Instant::now(), sample: announcements::sample()? };
                    self.phase = Phase::Waiting(*point, wait);
                }
                return Ok(());
            }
            Phase::Waiting(point, wait) => (*point, is_over(self.database, wait)?),
        };
        if let (point, true) = over {
            self.let_go(point)?;
            self.phase = Phase::Nothing;
        }
        Ok(())
    }

    /// The database's place. `None`: nobody sends anything to it.
    fn register(&self, has_subscriptions: bool, members: usize) -> Option<Hold> {
        let missed = if has_subscriptions { missed_from() } else { None };
        let mut holds = HOLDS.write();
        let known = holds.iter().position(|hold| hold.database == self.database);
        if !has_subscriptions {
            if let Some(place) = known {
                holds[place] = Hold { database: 0, all: 0, members: 0, waits_for: 0, removals: 0, from: 0, since: 0 };
                impose(&holds);
                drop(holds);
                // It drops the slot, unless another database needs it.
                registry::wake_supervisor();
            }
            return None;
        }
        let place = known.or_else(|| register(&mut holds, self.database, horizon::held_from().or(missed)))?;
        holds[place].members = u32::try_from(members).unwrap_or(u32::MAX);
        let hold = holds[place];
        drop(holds);
        if known.is_none() {
            // It makes the slot.
            registry::wake_supervisor();
        }
        Some(hold)
    }

    fn let_go(&self, point: Point) -> Result<(), Report> {
        // Before the marks go: a row without a mark would not be found, one with a mark too many is no harm.
        let txn = Txn::begin();
        catalog::delete_older_than(point.next)?;
        rests::delete_older_than(point.next)?;
        txn.commit();
        let mut holds = HOLDS.write();
        let Some(hold) = holds.iter_mut().find(|hold| hold.database == self.database) else { return Ok(()) };
        hold.all = 0;
        hold.waits_for = 0;
        // Nothing was removed since: nothing is kept.
        hold.from = if hold.removals == point.removals { 0 } else { point.next.0 };
        hold.since = process::now().micros();
        let nothing = hold.from == 0;
        impose(&holds);
        drop(holds);
        if nothing {
            announcements::set_holding(false);
        }
        let of_us = |mark: &&mut Mark| mark.database == self.database && mark.last <= point.removals;
        for mark in MARKS.write().iter_mut().filter(of_us) {
            *mark = Mark { database: 0, table: 0, written: 0, unused: 0, last: 0 };
        }
        Ok(())
    }
}

/// From where on dead rows are worth keeping although nobody has kept them so far: a subscription has brought something, and the
/// slot was missing when the server started. In a transaction of its own.
pub fn missed_from() -> Option<FullXid> {
    let from = at_start::missed_from()?;
    let looked = attempt(|| {
        let txn = Txn::begin();
        let local = topology::require_local_node()?;
        let received = topology::subscriptions_of(local.node.id)?
            .iter()
            .any(|sub| origin::by_name(&sub.slot_name).and_then(origin::committed_position).is_some());
        txn.commit();
        Ok::<_, Report>(received)
    });
    match looked {
        Ok(Ok(received)) => received.then_some(from),
        // The catalogs have just been read: this does not happen. Then as much is kept as may be needed.
        Ok(Err(_)) | Err(_) => Some(from),
    }
}

/// Whether nobody can send anything older, or has had all the time that is given.
fn is_over(database: u32, wait: &mut Wait) -> Result<bool, Report> {
    let waited = wait.since.elapsed();
    let verdict = announcements::verdict(&wait.sample)?;
    let node = match verdict {
        Verdict::Stable => return Ok(true),
        Verdict::WaitsFor(node) | Verdict::Unknown(node, _) => node,
    };
    if matches!(verdict, Verdict::Unknown(_, Cause::NotSampled)) {
        // Its stream had just begun then. A later sample covers the earlier one.
        wait.sample = announcements::sample()?;
    }
    if let Some(hold) = HOLDS.write().iter_mut().find(|hold| hold.database == database) {
        hold.waits_for = node.get();
    }
    Ok(waited >= verdict.longest())
}

/// Whether any database of this server keeps something, or might.
pub fn wanted() -> bool {
    HOLDS.read().iter().any(|hold| hold.database != 0)
}

/// Databases that are not there any more keep nothing.
pub fn forget_dropped(databases: &[u32]) {
    let gone = |hold: &Hold| hold.database != 0 && !databases.contains(&hold.database);
    if !HOLDS.read().iter().any(gone) {
        return;
    }
    let mut holds = HOLDS.write();
    for hold in holds.iter_mut().filter(|hold| gone(hold)) {
        *hold = Hold { database: 0, all: 0, members: 0, waits_for: 0, removals: 0, from: 0, since: 0 };
    }
    impose(&holds);
}

/// What a database keeps, for people.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// Dead rows are kept from this transaction on.
    pub from: Option<FullXid>,
    /// Since when, local clock, microseconds since 2000.
    pub since: i64,
    /// Tables with removed keys; `None`: all count.
    pub tables: Option<usize>,
    /// The node whose word is missing.
    pub waits_for: Option<NodeId>,
}

/// What this database keeps. `None`: nobody sends anything to it.
pub fn kept() -> Option<Kept> {
    let database = process::own_database();
    let hold = *HOLDS.read().iter().find(|hold| hold.database == database)?;
    let marks = MARKS.read().iter().filter(|mark| mark.database == database && mark.table != 0).count();
    Some(Kept {
        from: (hold.from != 0).then_some(FullXid(hold.from)),
        since: hold.since,
        tables: (hold.all == 0).then_some(marks),
        waits_for: NodeId::new(hold.waits_for),
    })
}
