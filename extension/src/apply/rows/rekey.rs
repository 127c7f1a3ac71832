//! An UPDATE that changes the key: a DELETE of the old key and an upsert of the new one, both of one version.
//!
//! # Invariants
//! 1. A row that goes to a key which is free, and for which nothing was kept, is updated in place: its triggers see an UPDATE.
//! 2. Otherwise both keys are decided for themselves, so that nodes end equal in whatever order changes of the two come.
//! 3. What did not come is taken from the row under the old key, if that goes.
//! 4. Whoever changes a visible old row meanwhile makes both keys be decided again.

use super::Row;
use super::out_of_sight::{DisplacedRow, Hidden};
use crate::apply::version::{LocalVersion, Versions};
use crate::conflict::Conflict;
use crate::error::Report;
use crate::pg::heap::{Written, next_command};
use crate::pg::search::Found;
use spock_core::merge::{
    Change, ConflictType, Known, Resolution, Values, Version, Write, decide_old_key, decide_rekey,
};
use spock_core::wire::row::{Datum, Tuple};

impl Row<'_> {
    /// Whether the key is another one in `new` than in `old`, and not just written in another way.
    pub(super) fn changes_key(&mut self, old: &Tuple<'_>, new: &Tuple<'_>) -> Result<bool, Report> {
        let Some(key) = &self.mapping.key else { return Ok(false) };
        let mut both = self.mapping.columns.iter().zip(old.columns().zip(new.columns()));
        let differs = both.any(|(column, (old, new))| {
            column.number.is_some_and(|number| key.columns.contains(&number)) && new != Datum::Unchanged && old != new
        });
        if !differs {
            return Ok(false);
        }
        self.read(old, false)?;
        self.target.merged.start_from(&self.target.remote);
        self.target.merged.finish();
        self.read(new, false)?;
        let same = self.target.merged_has_key_of_remote();
        self.target.merged.clear();
        Ok(!same)
    }

    /// Applies it.
    pub(super) fn rekey(
        &mut self,
        versions: &mut Versions,
        (old, new): (&Tuple<'_>, &Tuple<'_>),
        superseded: bool,
    ) -> Result<Option<Conflict>, Report> {
        let values = what_came(new, superseded);
        loop {
            let before = self.removals.state(self.target.table().id().get());
            self.mapping.deltas.forget();
            self.read(new, true)?;
            let kept = self.has_kept()?;
            let (new_key, _) = self.known_now(versions)?;
            self.read(old, false)?;
            let (old_key, here) = self.known_now(versions)?;
            let (gone, there) = decide_rekey(&old_key, &new_key, values, &versions.remote());
            if there.write == Write::Park {
                self.read(new, false)?;
                return Ok(Some(left_out(&old_key, &here, &versions.remote())));
            }
            let free = new_key.row.is_none() && there.write == Write::Insert && !kept;
            let row = match here {
                _ if gone.write != Write::Delete => None,
                Here::Visible(local) => {
                    self.read(new, false)?;
                    self.merge()?;
                    let written = if free { self.target.update() } else { Written::Duplicate };
                    match written {
                        Written::Changed => continue,
                        Written::Done => {
                            self.removals.deleted(self.target);
                            self.complete();
                            self.check_crossed(versions, Change::Update(Values::Whole), before, true)?;
                            return Ok(Conflict::reported(gone.report, Some(local)));
                        }
                        Written::Duplicate => {}
                    }
                    self.complete();
                    // A duplicate in another index: the old row has gone.
                    if !free && self.target.delete() != Written::Done {
                        continue;
                    }
                    self.removals.deleted(self.target);
                    Some(Conflict::reported(gone.report, Some(local)))
                }
                Here::Displaced(found) => {
                    let gone = self.remove_displaced(versions, &found, decide_old_key)?;
                    self.read(new, false)?;
                    self.complete_from_merged();
                    Some(gone)
                }
                Here::Nowhere => None,
            };
            return match row {
                Some(gone) => {
                    next_command();
                    // Either the new key is not free, or another unique value was not.
                    self.arrive(versions, Values::Whole, true, gone)
                }
                None => {
                    let gone = self.remove(versions, decide_old_key)?;
                    next_command();
                    self.read(new, true)?;
                    self.arrive(versions, values, !free, gone)
                }
            };
        }
    }

    /// The first half of one that moves a row out of this table: its old key. For UPDATEs between partitions that only we have.
    pub fn leave(&mut self, versions: &mut Versions, old: &Tuple<'_>) -> Result<Option<Conflict>, Report> {
        self.target.next_row();
        self.mapping.deltas.forget();
        self.read(old, false)?;
        self.remove(versions, decide_old_key)
    }

    /// The second half: its new key.
    pub fn enter(&mut self, versions: &mut Versions, new: &Tuple<'_>) -> Result<Option<Conflict>, Report> {
        self.target.next_row();
        self.removals.additions = 0;
        self.read(new, true)?;
        let done = self.arrive(versions, what_came(new, true), false, None)?;
        self.overflowed(versions)?;
        Ok(done)
    }

    /// The new key, of the row in `remote`. `gone`: how the old one ended.
    fn arrive(
        &mut self,
        versions: &mut Versions,
        values: Values,
        probe: bool,
        gone: Option<Conflict>,
    ) -> Result<Option<Conflict>, Report> {
        self.mapping.deltas.read_first(&self.target.remote);
        let stored = match values {
            Values::Whole => {
                self.first_value(versions)?;
                let probe = probe || self.target.inserts_fire_before();
                self.store(versions, ConflictType::UpdateOriginDiffers, probe)?
            }
            Values::Superseded | Values::Partial => self.partly_there(versions)?,
        };
        if stored.is_none() {
            // Whatever the look for the new key left there is not the row that `gone` is about.
            self.target.local.clear();
        }
        Ok(stored.or(gone))
    }

    /// What is known of the key in `remote` now. A visible row is in `local` then, a displaced one in `merged`.
    fn known_now(&mut self, versions: &mut Versions) -> Result<(Known, Here), Report> {
        loop {
            if self.find() == Found::Row {
                let local = self.local_version(versions)?;
                return Ok((self.known_of(versions, local), Here::Visible(local)));
            }
            match self.displaced(versions)? {
                Hidden::Nothing => return Ok((self.known(versions)?, Here::Nowhere)),
                Hidden::Row(found) => {
                    let known = self.known_of(versions, found.1.version.into());
                    return Ok((known, Here::Displaced(found)));
                }
                Hidden::Back => {}
            }
        }
    }

    /// The new key of an UPDATE that is not whole: what came, which is in `remote`, goes over a row, and nothing is made of it alone.
    fn partly_there(&mut self, versions: &mut Versions) -> Result<Option<Conflict>, Report> {
        loop {
            // Without a key nothing but the whole row tells which it is.
            if self.mapping.key.is_none() || self.find() == Found::Missing {
                match self.displaced(versions)? {
                    Hidden::Row(found) => return self.update_displaced(versions, &found),
                    Hidden::Back => continue,
                    Hidden::Nothing => {}
                }
                self.keep_superseded(versions)?;
                self.target.local.clear();
                return Ok(Some(Conflict::without_local(ConflictType::UpdateMissing, Resolution::Skip)));
            }
            if let Some(done) = self.resolve_update(versions, ConflictType::UpdateOriginDiffers)? {
                return Ok(done);
            }
        }
    }
}

fn what_came(new: &Tuple<'_>, superseded: bool) -> Values {
    match (new.columns().any(|value| matches!(value, Datum::Unchanged)), superseded) {
        (false, _) => Values::Whole,
        (true, true) => Values::Superseded,
        (true, false) => Values::Partial,
    }
}

/// What a C provider left out is not known to come, so the change does not wait, but is written down as any other conflict.
fn left_out(old_key: &Known, here: &Here, version: &Version) -> Conflict {
    let report = decide_old_key(old_key, version).report;
    match (report, here) {
        (Some((kind, Resolution::KeepLocal)), Here::Visible(local)) => {
            Conflict { kind, outcome: Resolution::KeepLocal, local: Some(*local) }
        }
        _ => Conflict::without_local(ConflictType::UpdateMissing, Resolution::Skip),
    }
}

/// Where the row of a key is.
enum Here {
    /// In the table, of this version.
    Visible(LocalVersion),
    /// Displaced.
    Displaced(DisplacedRow),
    /// There is none.
    Nowhere,
}
