//! Rows that cannot be beside each other, because they hold one value of a second unique index: which of them users see, by
//! `spock_core::merge::unique`. Between `apply::rows` (one change) and `spock.displaced_row`.
//!
//! # Invariants
//! 1. A row is displaced in the transaction that writes the row which takes its value, or instead of being written.
//! 2. Nothing comes back here: that needs a transaction with the row's own version, see `apply::comeback`.
//! 3. The dead row of a displaced one is told apart from those that are tombstones.

use super::removals::Removals;
use super::version::{LocalVersion, Versions};
use crate::catalog::displaced::{self as catalog, Displaced, Written as Version};
use crate::catalog::tombstones;
use crate::error::Report;
use crate::pg::changed;
use crate::pg::heap::{Target, Written, next_command};
use crate::pg::row_image::RowImage;
use crate::pg::session;
use crate::sync::copy::COPIED_AT_US;
use crate::worker::displaced;
use pgrx::PgSqlErrorCode;
use spock_core::merge;
use spock_core::merge::unique::{self, Holders, Placed};
use spock_core::types::PgTime;

/// What stands for a time that is not known: older than any that is, that of copied rows included.
const UNKNOWN_TIME: PgTime = PgTime::from_micros(COPIED_AT_US - 1);

/// Rows that are taken out of one row's way at most: more than a table has unique indexes.
const HOLDERS_MAX: u32 = 1000;

/// A row that another one met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// Its version.
    pub local: LocalVersion,
    /// Name of the unique index that they met in.
    pub index: String,
}

/// What stood in the way of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Nothing does.
    Free,
    /// The last of the rows that were displaced for it. `Target::local` has it.
    Cleared(Met),
    /// A row that keeps its value. `Target::local` has it.
    Blocked(Met),
    /// Another transaction came in between: look again.
    Changed,
}

/// What of the tables with displaced rows is known in this process.
#[derive(Debug, Default)]
pub struct Known {
    /// The table that was asked about last, when, and the answer.
    last: Option<(u32, u32, bool)>,
}

/// Where a row may be that is not in its table.
pub enum Unseen {
    /// Nowhere.
    Nowhere,
    /// Displaced: its id, and what it is. `Target::merged` has its values. Nobody else changes it until the transaction ends.
    Displaced(i64, Displaced),
    /// Nowhere now, but it may have come back into its table since that was looked at.
    MayBeBack,
}

impl Known {
    /// Whether rows of `table` may be displaced. A look at one number, as long as the answer is that of before.
    pub fn has_displaced(&mut self, table: u32) -> bool {
        let epoch = displaced::epoch();
        match self.last {
            Some((of, at, marked)) if (of, at) == (table, epoch) => marked,
            _ => {
                let marked = displaced::is_marked(table);
                self.last = Some((table, epoch, marked));
                marked
            }
        }
    }

    /// Whether rows of `table` may be displaced, or may have been since this process last asked about any.
    fn had_displaced(&mut self, table: u32) -> (bool, bool) {
        let before = self.last.map(|(_, epoch, _)| epoch);
        let has = self.has_displaced(table);
        (has, has || before != self.last.map(|(_, epoch, _)| epoch))
    }
}

impl From<Version> for LocalVersion {
    fn from(version: Version) -> Self {
        Self::Known { xid: version.xid, time: version.time, origin: version.origin }
    }
}

/// A version as it is kept.
fn kept(version: &merge::Version, xid: Option<u32>) -> Version {
    let time = version.time.unwrap_or(UNKNOWN_TIME);
    Version { time, origin: version.origin, xid: xid.unwrap_or_default() }
}

/// The displaced row with the key of `remote`, which had no visible row a moment ago. Two workers may have displaced two states of
/// it: only the newest counts, and older ones go.
pub fn of_key(target: &mut Target, removals: &mut Removals, versions: &Versions) -> Result<Unseen, Report> {
    let table = target.table().id().get();
    let (has, had) = removals.displaced.had_displaced(table);
    let rows = if has { catalog::of_key_locked(table, target.key_hash())? } else { Vec::new() };
    let mut newest: Option<(i64, Displaced)> = None;
    for (id, row) in rows {
        target.start_merged(&row.image);
        target.merged.finish();
        if !target.merged_has_key_of_remote() {
            continue;
        }
        let rank = |row: &Displaced| versions.ranked(row.version.into());
        let older = match &newest {
            Some((_, known)) if rank(known) >= rank(&row) => Some(id),
            _ => newest.replace((id, row)).map(|(older, _)| older),
        };
        if let Some(older) = older {
            catalog::delete(older)?;
        }
    }
    match newest {
        Some((id, row)) => {
            target.start_merged(&row.image);
            target.merged.finish();
            Ok(Unseen::Displaced(id, row))
        }
        None => {
            target.merged.clear();
            Ok(if had { Unseen::MayBeBack } else { Unseen::Nowhere })
        }
    }
}

/// What the row in `remote`, whose key has no visible row, meets in its table.
struct Meets<'t> {
    target: &'t mut Target,
    removals: &'t Removals,
    versions: &'t mut Versions,
    /// The holder found last, which `Target::local` has, and its version.
    met: Option<(Met, merge::Version)>,
    /// How many were displaced.
    displaced: u32,
}

impl Holders for Meets<'_> {
    type Key = Vec<Option<Vec<u8>>>;
    type Error = Report;

    fn next(&mut self, from: usize) -> Result<Option<(usize, merge::Version)>, Report> {
        let Some((place, index)) = self.target.next_collision(from) else { return Ok(None) };
        let local = holder(self.target, self.versions)?;
        let version = self.versions.ranked(local);
        self.met = Some((Met { local, index }, version));
        Ok(Some((place, version)))
    }

    fn keys(&mut self) -> (Self::Key, Self::Key) {
        (self.target.key_texts(&self.target.local), self.target.key_texts(&self.target.remote))
    }

    fn displace(&mut self) -> Result<bool, Report> {
        let Some((met, version)) = &self.met else { return Ok(false) };
        match self.displaced {
            // Rows of the current command cannot be changed by it.
            0 => next_command(),
            HOLDERS_MAX => return Err(stays_in_table()),
            _ => {}
        }
        self.displaced += 1;
        let by = kept(&self.versions.remote(), None);
        displace(self.target, self.removals, (version, &by), &met.index)
    }
}

impl Meets<'_> {
    fn way(self, way: unique::Way) -> Way {
        match (way, self.met) {
            (unique::Way::Cleared, Some((met, _))) => Way::Cleared(met),
            (unique::Way::Blocked, Some((met, _))) => Way::Blocked(met),
            (unique::Way::Changed, _) => Way::Changed,
            _ => Way::Free,
        }
    }
}

/// Who stands in the way of the row in `remote`, which was displaced and whose key has no visible row, without changing anything.
pub fn look(target: &mut Target, removals: &Removals, versions: &mut Versions) -> Result<Way, Report> {
    let placed = Placed::Again(versions.remote());
    let mut meets = Meets { target, removals, versions, met: None, displaced: 0 };
    let way = unique::look(&mut meets, &placed)?;
    Ok(meets.way(way))
}

/// Displaces whoever stands in the way of the row in `remote`, if it prevails over all of them; its key has no visible row.
pub fn clear_way(
    target: &mut Target,
    removals: &Removals,
    versions: &mut Versions,
    placed: fn(merge::Version) -> Placed,
) -> Result<Way, Report> {
    let placed = placed(versions.remote());
    let mut meets = Meets { target, removals, versions, met: None, displaced: 0 };
    let way = unique::clear_way(&mut meets, &placed)?;
    Ok(meets.way(way))
}

fn stays_in_table() -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
        "a row that holds a unique value of a newer one cannot be taken out of its table",
    )
    .hint("A trigger of the table that fires on replicas may keep rows from being deleted.")
}

/// Displaces the row in `local`, of that version, for the one in `remote`, of version `by`. False: another transaction changed it.
fn displace(
    target: &mut Target,
    removals: &Removals,
    (version, by): (&merge::Version, &Version),
    index: &str,
) -> Result<bool, Report> {
    let image = RowImage::of(&target.local, target.table());
    let (hash, xid) = (target.key_hash_of(&target.local), target.local.writer());
    if target.displace() != Written::Done {
        return Ok(false);
    }
    let table = target.table().id().get();
    keep(table, hash, Displaced { version: kept(version, xid), image }, index)?;
    if let Some(own) = target.key_hash() {
        catalog::keep_holder(table, own, by)?;
    }
    tombstones::write_displaced(table, hash)?;
    removals.displaced_one(table);
    next_command();
    Ok(true)
}

/// Version of the row in `local`, which holds a unique value: the server may have forgotten it, since others are displaced for it.
fn holder(target: &Target, versions: &mut Versions) -> Result<LocalVersion, Report> {
    let local = versions.of_counted(&target.local)?;
    let LocalVersion::Unknown = local else { return Ok(local) };
    let Some(hash) = target.key_hash_of(&target.local) else { return Ok(local) };
    Ok(catalog::holder(target.table().id().get(), hash)?.map_or(local, LocalVersion::from))
}

/// Keeps the versions of all rows that hold values of the one in `remote`, which stays displaced, as far as they are known.
pub fn keep_holders(target: &mut Target, versions: &mut Versions) -> Result<(), Report> {
    let mut from = 0;
    while let Some((place, _)) = target.next_collision(from) {
        let local = versions.of_counted(&target.local)?;
        keep_holder(target, versions, local)?;
        from = place + 1;
    }
    Ok(())
}

/// The same of the one in `local`.
fn keep_holder(target: &Target, versions: &Versions, local: LocalVersion) -> Result<(), Report> {
    let version = versions.ranked(local);
    match target.key_hash_of(&target.local).filter(|_| version.time.is_some()) {
        Some(hash) => catalog::keep_holder(target.table().id().get(), hash, &kept(&version, None)),
        None => Ok(()),
    }
}

/// The row in `remote`, which is of the transaction that is being applied, is displaced instead of being written, because of the one
/// in `local`.
pub fn put_aside(target: &mut Target, versions: &Versions, met: &Met) -> Result<(), Report> {
    session::assign_xid();
    let image = RowImage::of(&target.remote, target.table());
    let version = kept(&versions.remote(), session::current_xid());
    keep(target.table().id().get(), target.key_hash(), Displaced { version, image }, &met.index)?;
    // Afterwards: as long as nothing of the table is displaced, versions of holders are forgotten.
    keep_holder(target, versions, met.local)
}

fn keep(table: u32, hash: Option<i64>, row: Displaced, index: &str) -> Result<(), Report> {
    catalog::insert(table, hash, row, index)?;
    displaced::mark(table);
    changed::note(table);
    Ok(())
}

/// A TRUNCATE of the transaction that is being applied takes the displaced rows that are older.
pub fn truncate(table: u32, versions: &mut Versions) -> Result<(), Report> {
    if !displaced::is_marked(table) {
        return Ok(());
    }
    for entry in catalog::entries(Some(&[table]))? {
        if versions.truncates(entry.version.into()) {
            catalog::delete(entry.id)?;
        }
    }
    changed::note(table);
    Ok(())
}
