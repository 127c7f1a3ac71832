//! Displaced rows come back when nothing stands in their way any more: each in a transaction of its own with the version that it
//! has, as a row's version is that of the transaction that wrote it. In an apply worker, between two transactions of the stream.
//!
//! ```text
//! a change of a table with displaced rows commits, here or in a session ─► look at its displaced rows, newest first
//!   visible row of the same key: newer ─► forgotten, older ─► replaced        key removed later ─► forgotten
//!   a newer row holds its value ─► stays      nobody does ─► back in the table, older holders displaced ─► look again
//! ```
//!
//! # Invariants
//! 1. What is done here depends on what is in the tables only, so it can be interrupted anywhere and done again by any worker.
//! 2. Nothing of it is sent on: other nodes have their own copies of the row.
//! 3. A row that cannot be put back stays displaced, and keeps no other from coming back.

use super::displace::{self, Way};
use super::removals::Removals;
use super::version::Versions;
use crate::catalog::displaced::{self as catalog, Entry};
use crate::catalog::topology;
use crate::error::{OrRaise, Report};
use crate::pg::attempt::{Caught, attempt};
use crate::pg::changed;
use crate::pg::conn::sqlstate_text;
use crate::pg::dead_rows::Ends;
use crate::pg::heap::{Defaults, Inserted, Target, Written};
use crate::pg::lock::TryLock;
use crate::pg::origin;
use crate::pg::raise::{Level, log};
use crate::pg::relation::{Kind, LockMode, Table, TableId};
use crate::pg::row_image::RowImage;
use crate::pg::scope::{ActiveSnapshot, MemoryContext, Txn};
use crate::pg::search::Found;
use crate::pg::session::{self, OwnerScope};
use crate::worker::{displaced, pause};
use pgrx::PgSqlErrorCode;
use spock_core::exceptions;
use spock_core::merge::unique::Placed;
use std::cmp::Reverse;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often all displaced rows are looked at although nobody has said that something changed, and what failed is tried again.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Looks take at most one part in so many of a worker's time, as long as they are not further apart than [`PAUSE_MAX`].
const SHARE: u32 = 5;
/// Longest pause between two looks because the last one took long.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often a row is tried again when other transactions come in between.
const TRIES_MAX: u32 = 10;

/// When a worker looks at displaced rows.
pub struct Comeback {
    /// It does at all: not in the stream of a single table.
    whole: bool,
    /// `None`: not yet.
    looked_at: Option<Instant>,
    not_before: Instant,
    /// [`displaced::changes`] at the last look.
    seen: u32,
}

/// What a worker has for it.
pub struct Tools<'t> {
    /// Its origin, which transactions are stamped through.
    pub origin: &'t origin::Session,
    /// Compares versions.
    pub versions: &'t mut Versions,
    /// Keys that were removed here.
    pub removals: &'t mut Removals,
    /// Memory for one row.
    pub memory: &'t MemoryContext,
}

impl Comeback {
    /// Marks the tables that have displaced rows. Outside a transaction.
    pub fn begin(whole: bool) -> Self {
        let txn = Txn::begin();
        for entry in catalog::entries(None).or_raise() {
            displaced::mark(entry.table);
        }
        txn.commit();
        Self { whole, looked_at: None, not_before: Instant::now(), seen: 0 }
    }

    /// Looks at displaced rows if something has changed. `may`: whether something may be applied now; `alive` is called
    /// between two rows. Between two transactions.
    pub fn look(&mut self, tools: &mut Tools<'_>, may: fn() -> bool, alive: &mut dyn FnMut()) {
        let now = Instant::now();
        if !self.whole || now < self.not_before || !displaced::is_any() {
            return;
        }
        let all = self.looked_at.is_none_or(|at| now.duration_since(at) > LOOK_INTERVAL);
        let changes = displaced::changes();
        if !all && changes == self.seen || !may() {
            return;
        }
        self.seen = changes;
        let tables = displaced::take_changed();
        let wanted = if all { None } else { Some(tables.as_slice()) };
        // What could not be tried is, by the next look at all of them.
        if let Err(caught) = attempt(|| look_at(tools, wanted, alive)) {
            failed("could not look at displaced rows", caught);
            self.not_before = now + LOOK_INTERVAL;
        }
        pause::ended();
        if all {
            self.looked_at = Some(now);
        }
        self.not_before = self.not_before.max(Instant::now() + (now.elapsed() * (SHARE - 1)).min(PAUSE_MAX));
    }
}

/// Says what went wrong, and goes on: what may pass is tried again.
fn failed(what: &str, caught: Caught) {
    if caught.is_shutdown() {
        caught.report.raise();
    }
    origin::clear_stamp();
    let passes = exceptions::may_pass(sqlstate_text(caught.report.code));
    let message = format!("{what}: {}", caught.report.message);
    log(if passes { Level::Log } else { Level::Warning }, &Report { message, ..caught.report });
}

/// Until nothing moves.
fn look_at(tools: &mut Tools<'_>, tables: Option<&[u32]>, alive: &mut dyn FnMut()) {
    let (mut moved, mut complete) = (true, true);
    while moved && complete {
        moved = false;
        for entry in ranked(tools, tables) {
            alive();
            match attempt(|| put_back(tools, &entry).or_raise()) {
                Ok(back) => moved |= back,
                Err(caught) => {
                    complete = false;
                    failed(&format!("displaced row {} stays displaced", entry.id), caught);
                }
            }
        }
    }
    tools.memory.reset();
    forget_marks();
}

/// Displaced rows, newest first.
fn ranked(tools: &mut Tools<'_>, tables: Option<&[u32]>) -> Vec<Entry> {
    let txn = Txn::begin();
    let mut entries = catalog::entries(tables).or_raise();
    for origin in entries.iter().map(|entry| entry.version.origin) {
        if !tools.versions.knows(origin) {
            tools.versions.learn(origin, topology::node(origin).or_raise().as_ref());
        }
    }
    txn.commit();
    entries.sort_by_key(|entry| Reverse(tools.versions.ranked(entry.version.into())));
    entries
}

/// Tables of which nothing is displaced any more cost nothing any more.
fn forget_marks() {
    let txn = Txn::begin();
    let lock = TryLock::against_writes(catalog::own_table().or_raise());
    if lock.is_held() {
        let entries = catalog::entries(None).or_raise();
        catalog::forget_holders().or_raise();
        displaced::unmark(|table| entries.iter().any(|entry| entry.table == table));
    }
    // Who writes while this is not committed would see what is being deleted.
    lock.until_commit();
    txn.commit();
}

/// One transaction with the version of one row. Whether it came back.
fn put_back(tools: &mut Tools<'_>, entry: &Entry) -> Result<bool, Report> {
    tools.memory.reset();
    let _scope = tools.memory.enter();
    session::statement_starts();
    let txn = Txn::begin();
    let snapshot = ActiveSnapshot::push();
    tools.memory.make_current();
    let version = entry.version;
    tools.origin.stamp(version.origin.wire(), version.time.micros());
    tools.versions.begin(version.time, version.origin);
    tools.removals.begin();
    let back = in_transaction(tools, entry)?;
    drop(snapshot);
    txn.commit();
    origin::clear_stamp();
    Ok(back)
}

fn in_transaction(tools: &mut Tools<'_>, entry: &Entry) -> Result<bool, Report> {
    let Some(table) = Table::try_open(TableId::of(entry.table), LockMode::RowExclusive) else {
        catalog::delete_of(entry.table)?;
        return Ok(false);
    };
    let (Kind::Table, Some(row), Some(key)) = (table.kind(), catalog::by_id(entry.id)?, table.key_index()) else {
        return Ok(false);
    };
    let owner = OwnerScope::enter(&table);
    let columns: Vec<_> = table.columns().iter().filter(|one| !one.generated).map(|one| one.number).collect();
    let defaults = Defaults::plan(&table, &row.image.lacks(&table));
    let mut target = Target::prepare(table, Some(&Rc::new(key)), &columns, &defaults);
    target.start_remote(&row.image);
    target.remote.finish();
    let back = place(tools, &mut target, (entry.id, row.image))?;
    drop(target);
    drop(owner);
    Ok(back)
}

/// Puts the row in `remote` into its table, if it is to be visible.
fn place(tools: &mut Tools<'_>, target: &mut Target, (id, image): (i64, RowImage)) -> Result<bool, Report> {
    let Tools { versions, removals, .. } = tools;
    let mut claimed = false;
    for _ in 0..TRIES_MAX {
        let here = target.find_by_key() == Some(Found::Row);
        let newer = match here {
            true => {
                let local = versions.of_counted(&target.local)?;
                Some(versions.ranked(local))
            }
            false => removals.newest(target, versions, Ends::Deletes)?,
        };
        // Somebody has written or removed the key since.
        if newer.is_some_and(|newer| newer > versions.remote() || here && newer == versions.remote()) {
            if !claimed {
                catalog::delete(id)?;
            }
            return Ok(false);
        }
        if !here && let Way::Blocked(met) = displace::look(target, removals, versions)? {
            if claimed {
                displace::put_aside(target, versions, &met)?;
            }
            displace::keep_holders(target, versions)?;
            return Ok(false);
        }
        // Another worker may have added to it meanwhile: then it is looked at again.
        if !claimed && !catalog::delete_as(id, image.clone())? {
            return Ok(false);
        }
        claimed = true;
        if here {
            target.merged.start_from(&target.remote);
            target.merged.finish();
            match target.update() {
                Written::Done => return Ok(true),
                Written::Changed => {}
                Written::Duplicate => target.remote_from_merged(),
            }
            continue;
        }
        match displace::clear_way(target, removals, versions, Placed::Again)? {
            Way::Changed | Way::Blocked(_) => continue,
            Way::Free | Way::Cleared(_) => {}
        }
        if target.insert(false) == Inserted::Done {
            changed::note(target.table().id().get());
            return Ok(true);
        }
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
        "other transactions write the same keys and values all the time",
    ))
}
