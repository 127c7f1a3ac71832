//! An UPDATE that changes the key: a DELETE of the old key and an upsert of the new one, both of one version.
//!
//! # Invariants
//! 1. As long as the new key is free, the row is updated in place: its triggers see an UPDATE.
//! 2. Otherwise both keys are decided for themselves, so that nodes end equal in whatever order changes of the two come.
//! 3. What a superseded UPDATE lacks is taken from the row under the old key, if that goes.

use super::Row;
use super::out_of_sight::Hidden;
use crate::apply::version::{LocalVersion, Versions};
use crate::conflict::Conflict;
use crate::error::Report;
use crate::pg::heap::{Written, next_command};
use crate::pg::search::Found;
use spock_core::merge::{ConflictType, Known, Resolution, Values, Write, decide_old_key, decide_rekey};
use spock_core::wire::row::{Datum, Tuple};

impl Row<'_> {
    /// Whether the key may be another one in `new` than in `old`: its bytes are.
    pub(super) fn changes_key(&self, old: &Tuple<'_>, new: &Tuple<'_>) -> bool {
        let Some(key) = &self.mapping.key else { return false };
        self.mapping.columns.iter().zip(old.columns().zip(new.columns())).any(|(column, (old, new))| {
            column.number.is_some_and(|number| key.columns.contains(&number)) && new != Datum::Unchanged && old != new
        })
    }

    /// Applies it, if it is more than an UPDATE in place. `None`: it is not. Outer `None` is tried as any UPDATE.
    #[allow(clippy::option_option, reason = "an UPDATE in place, done without a conflict, done with one")]
    pub(super) fn rekey(
        &mut self,
        versions: &mut Versions,
        (old, new): (&Tuple<'_>, &Tuple<'_>),
        superseded: bool,
    ) -> Result<Option<Option<Conflict>>, Report> {
        let partial = new.columns().any(|value| matches!(value, Datum::Unchanged));
        if partial && !superseded {
            // What is missing is in the old row: only an UPDATE in place has it.
            return Ok(None);
        }
        let values = if partial { Values::Superseded } else { Values::Whole };
        loop {
            self.read(new, true)?;
            let kept = self.has_kept()?;
            let (new_key, _) = self.known_now(versions)?;
            self.read(old, false)?;
            let (old_key, row) = self.known_now(versions)?;
            let (gone, there) = decide_rekey(&old_key, &new_key, values, &versions.remote());
            let free = new_key.row.is_none() && there.write == Write::Insert && !kept;
            let row = row.filter(|_| gone.write == Write::Delete);
            if free && row.is_some() {
                return Ok(None);
            }
            let gone = match row {
                Some(local) if partial => {
                    self.read(new, false)?;
                    self.merge()?;
                    self.target.remote_from_merged();
                    if self.target.delete() != Written::Done {
                        continue;
                    }
                    self.removals.deleted(self.target);
                    next_command();
                    Conflict::reported(gone.report, Some(local))
                }
                _ => {
                    let gone = self.remove(versions, decide_old_key)?;
                    next_command();
                    self.read(new, true)?;
                    gone
                }
            };
            self.mapping.deltas.read_first(&self.target.remote);
            if partial && row.is_none() {
                return Ok(Some(self.superseded_there(versions)?.or(gone)));
            }
            self.first_value(versions)?;
            let probe = self.target.inserts_fire_before() || !free;
            let stored = self.store(versions, ConflictType::UpdateOriginDiffers, probe)?;
            if stored.is_none() {
                // Whatever the look for the new key left there is not the row that `gone` is about.
                self.target.local.clear();
            }
            return Ok(Some(stored.or(gone)));
        }
    }

    /// What is known of the key in `remote` now, and the version of its visible row, which is in `local` then.
    fn known_now(&mut self, versions: &mut Versions) -> Result<(Known, Option<LocalVersion>), Report> {
        loop {
            if self.find() == Found::Row {
                let local = self.local_version(versions)?;
                return Ok((self.known_of(versions, local), Some(local)));
            }
            match self.displaced(versions)? {
                Hidden::Nothing => return Ok((self.known(versions)?, None)),
                Hidden::Row((_, row)) => return Ok((self.known_of(versions, row.version.into()), None)),
                Hidden::Back => {}
            }
        }
    }

    /// The new key of a superseded UPDATE, which `remote` holds: what came goes over a row, and nothing is made of it alone.
    fn superseded_there(&mut self, versions: &mut Versions) -> Result<Option<Conflict>, Report> {
        loop {
            if self.find() == Found::Missing {
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
