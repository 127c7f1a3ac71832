//! One change meets one key: what is written, what is remembered, what is reported.
//!
//! # Invariants
//! 1. A change takes effect if it is not older than what is known of its key: the row, the key's tombstone, the table's
//!    TRUNCATE. The same version again takes effect: it is the next change of one transaction.
//! 2. A DELETE leaves a tombstone whether or not there was a row. An older INSERT or UPDATE never brings a row back.
//! 3. The values of a winning change replace the row's, except counters ([`super::delta`]).
//! 4. A change is never dropped because a part of it is missing: it waits, or its provider has promised a newer state.

use super::conflict::{ConflictType, Resolution};
use super::version::Version;

/// What is known here of a key. `default()`: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Known {
    /// Version of the row, whether users see it or [`super::unique`] displaced it. A row that the running transaction wrote
    /// has that transaction's.
    pub row: Option<Version>,
    /// Version of the newest DELETE of the key that is remembered.
    pub tombstone: Option<Version>,
    /// Version of the newest TRUNCATE of the table that is remembered.
    pub truncated: Option<Version>,
    /// Version of the newest UPDATE that brought the row back over a DELETE, as far as that is remembered. Only where columns count.
    pub revived: Option<Version>,
    /// The table has columns that count.
    pub counts: bool,
}

impl Known {
    /// A key whose row is here. What is remembered of removals makes no difference to it, because the row was written after them, and
    /// its time is not forgotten before they are; unless the table counts and the row is the newer one: then what was added before a
    /// removal is told from what was added after it.
    pub fn of_row(row: Version, counts: bool) -> Self {
        Self { row: Some(row), counts, ..Self::default() }
    }

    /// The newest removal: changes before it have no effect.
    pub fn removed(&self) -> Option<Version> {
        self.tombstone.max(self.truncated)
    }

    /// The newest removal after which a row's counters began anew. A DELETE that lost to an UPDATE is none.
    fn ended(&self) -> Option<Version> {
        let lost = self.counts && self.tombstone < self.revived;
        if lost { self.truncated } else { self.removed() }
    }

    /// Whether the newest removal is a DELETE, so that what was counted before it is still known.
    fn hides(&self) -> bool {
        self.counts && self.tombstone > self.truncated
    }

    /// The newest version of anything.
    pub fn newest(&self) -> Option<Version> {
        // A row is there because it was written after the removal, even if its time is no longer known.
        self.row.max(self.removed())
    }
}

/// How much of the new row an UPDATE carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Values {
    /// All columns that the subscriber has from the provider.
    Whole,
    /// Unchanged out-of-line values are missing, and the provider promises that the key has a newer state in the cluster,
    /// which is on its way: it looked for them and they were gone.
    Superseded,
    /// Unchanged out-of-line values are missing, and nothing is promised: a provider of the C edition.
    Partial,
}

/// What a change does to a key. An UPDATE that changes the key is two: see [`decide_rekey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// A new row, always whole.
    Insert,
    /// New values for a row.
    Update(Values),
    /// The row is gone.
    Delete,
    /// All rows of the table are gone; asked for each row that is here.
    Truncate,
}

/// What to write to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Write {
    /// There is no row: the row that came.
    Insert,
    /// Over the row: every value that came, counters as [`Decision::counters`] says. The row gets the change's version.
    Update,
    /// Only the counters. The row keeps its version and its other values.
    Count,
    /// The row goes.
    Delete,
    /// Nothing.
    Keep,
    /// Nothing now: the transaction waits for what this change was based on. It is retried when a row, a tombstone or a
    /// TRUNCATE of the key arrives.
    Park,
}

/// What becomes of the columns that count. Only meaningful with [`Write::Insert`], [`Write::Update`] and [`Write::Count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counters {
    /// The value that came, as any other column.
    Take,
    /// The local value plus (new - old) of the change, around the limits of the type
    /// ([`super::delta::Amount::plus_difference_around`]). The old value of an INSERT, and of an UPDATE under a new key, is 0.
    Add,
    /// New - old of the change, plus what was kept of changes that came before: what they were added to is still on its way, and will
    /// be added.
    Difference,
    /// The local value.
    Keep,
    /// What the key had when it was removed, plus what was kept of it since ([`Decision::rest`]), plus new - old of the change. The
    /// change brings the row back: it is the newest of [`Known::revived`].
    Restore,
}

/// What is told to people.
pub type Report = (ConflictType, Resolution);

/// What a change comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decision {
    /// For the table.
    pub write: Write,
    /// For its counters.
    pub counters: Counters,
    /// Whether the change's version is to be remembered as the key's tombstone.
    pub remember: bool,
    /// Whether what an INSERT or UPDATE adds is kept beside the table, until the row comes, comes back or begins anew, or the tombstone
    /// goes. The table counts.
    pub rest: bool,
    /// The conflict, if it is one.
    pub report: Option<Report>,
}

impl Decision {
    const NOTHING: Self =
        Self { write: Write::Keep, counters: Counters::Keep, remember: false, rest: false, report: None };
}

/// What `change`, written at `version`, does to a key of which `known` is known.
pub fn decide(known: &Known, change: Change, version: &Version) -> Decision {
    let wins = known.newest().is_none_or(|newest| *version >= newest);
    match change {
        Change::Insert | Change::Update(_) => write(known, change, version, wins),
        Change::Delete | Change::Truncate => remove(known, change, version, wins),
    }
}

fn write(known: &Known, change: Change, version: &Version, wins: bool) -> Decision {
    let insert = change == Change::Insert;
    let late = if insert { ConflictType::InsertExists } else { ConflictType::UpdateMissing };
    let before = |removed: Option<Version>| removed.is_some_and(|removed| *version < removed);
    let Some(_) = known.row else {
        if before(known.removed()) {
            let rest = known.hides() && !before(known.truncated);
            return Decision { rest, report: Some((late, Resolution::Skip)), ..Decision::NOTHING };
        }
        return absent(known, change);
    };
    if before(known.ended()) {
        // The row was written over the removal, and is newer still.
        return Decision { report: report_row(known, change, version, false), ..Decision::NOTHING };
    }
    let report = report_row(known, change, version, wins);
    let (write, counters) = match (wins, known.counts) {
        (true, false) => (Write::Update, Counters::Take),
        (true, true) => (Write::Update, Counters::Add),
        (false, false) => (Write::Keep, Counters::Keep),
        (false, true) => (Write::Count, Counters::Add),
    };
    Decision { write, counters, report, ..Decision::NOTHING }
}

/// There is no row, and no newer removal.
fn absent(known: &Known, change: Change) -> Decision {
    let counters = match known.counts {
        true if known.removed().is_none() => Counters::Difference,
        true if known.hides() && change != Change::Insert => Counters::Restore,
        _ => Counters::Take,
    };
    let insert = Decision { write: Write::Insert, counters, ..Decision::NOTHING };
    match change {
        Change::Update(Values::Superseded) => {
            let report = Some((ConflictType::UpdateMissing, Resolution::Skip));
            Decision { write: Write::Keep, rest: counters != Counters::Take, report, ..insert }
        }
        Change::Update(Values::Partial) => Decision { write: Write::Park, ..Decision::NOTHING },
        Change::Update(Values::Whole) => {
            Decision { report: Some((ConflictType::UpdateMissing, Resolution::ApplyRemote)), ..insert }
        }
        Change::Insert | Change::Delete | Change::Truncate => insert,
    }
}

fn remove(known: &Known, change: Change, version: &Version, wins: bool) -> Decision {
    let newer_removal = known.removed().is_some_and(|removed| removed > *version);
    let remember = change == Change::Delete && !newer_removal;
    match known.row {
        None => {
            let report = (change == Change::Delete).then_some((ConflictType::DeleteMissing, Resolution::Skip));
            Decision { remember, report, ..Decision::NOTHING }
        }
        Some(row) if wins => {
            let differs = row.time.is_some() && row.origin != version.origin && change == Change::Delete;
            let report = differs.then_some((ConflictType::DeleteOriginDiffers, Resolution::ApplyRemote));
            Decision { write: Write::Delete, remember, report, ..Decision::NOTHING }
        }
        Some(_) => {
            // The row outlives the removal, which has had no effect.
            Decision { report: Some((ConflictType::DeleteExists, Resolution::Skip)), ..Decision::NOTHING }
        }
    }
}

/// How an INSERT or UPDATE that meets a row is reported. A row of the same version is of the same transaction.
fn report_row(known: &Known, change: Change, version: &Version, wins: bool) -> Option<Report> {
    let row = known.row.filter(|row| row != version)?;
    let outcome = if wins { Resolution::ApplyRemote } else { Resolution::KeepLocal };
    match change {
        Change::Insert => Some((ConflictType::InsertExists, outcome)),
        _ if !wins || (row.time.is_some() && row.origin != version.origin) => {
            Some((ConflictType::UpdateOriginDiffers, outcome))
        }
        _ => None,
    }
}

/// An UPDATE that changes the key: a DELETE of the old key and an upsert of the new one, both of the UPDATE's version. First
/// the old key's decision, then the new one's; a later change of the old key that another node made keeps its row beside the new
/// one, on every node. Only what the message lacks ties them: a row that goes from the old key has it.
pub fn decide_rekey(old: &Known, new: &Known, values: Values, version: &Version) -> (Decision, Decision) {
    let gone = decide_old_key(old, version);
    let values = if gone.write == Write::Delete { Values::Whole } else { values };
    let there = decide_new_key(new, values, version);
    match there.write {
        Write::Park => (Decision { write: Write::Park, ..Decision::NOTHING }, there),
        _ => (gone, there),
    }
}

/// The old key's part of [`decide_rekey`]: a DELETE that is reported as the UPDATE it is.
pub fn decide_old_key(known: &Known, version: &Version) -> Decision {
    let gone = decide(known, Change::Delete, version);
    let report = gone.report.map(|(kind, resolution)| match kind {
        // That there is no row under the new key yet is as it should be; that there is none under the old one is the news.
        ConflictType::DeleteMissing => (ConflictType::UpdateMissing, Resolution::ApplyRemote),
        ConflictType::DeleteExists => (ConflictType::UpdateOriginDiffers, Resolution::KeepLocal),
        _ => (ConflictType::UpdateOriginDiffers, resolution),
    });
    Decision { report, ..gone }
}

/// The new key's part of [`decide_rekey`]. Counters are under the new key what an INSERT makes of them: a first value.
fn decide_new_key(known: &Known, values: Values, version: &Version) -> Decision {
    let there = decide(known, Change::Update(values), version);
    let counters = if there.counters == Counters::Restore { Counters::Take } else { there.counters };
    let report = there.report.filter(|report| *report != (ConflictType::UpdateMissing, Resolution::ApplyRemote));
    Decision { counters, report, ..there }
}

#[cfg(test)]
mod tests;
