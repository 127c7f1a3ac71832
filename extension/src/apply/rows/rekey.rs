//! An UPDATE that changes the key: a DELETE of the old key and an upsert of the new one, both of one version.
//!
//! # Invariants
//! 1. As long as the new key is free, the row is updated in place: its triggers see an UPDATE.
//! 2. Otherwise both keys are decided for themselves, so that nodes end equal in whatever order changes of the two come.

use super::Row;
use super::out_of_sight::Hidden;
use crate::apply::version::Versions;
use crate::conflict::Conflict;
use crate::error::Report;
use crate::pg::heap::Written;
use crate::pg::search::Found;
use spock_core::merge::{Change, ConflictType, Resolution, Values, Write, decide};
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
        self.read(new, true)?;
        let taken =
            self.find() == Found::Row || !matches!(self.displaced(versions)?, Hidden::Nothing) || self.has_kept()? || {
                let known = self.known(versions)?;
                decide(&known, Change::Update(Values::Whole), &versions.remote()).write == Write::Keep
            };
        self.read(old, false)?;
        let moves = self.find() == Found::Row && {
            let local = self.local_version(versions)?;
            versions.remote_wins(local)
        };
        if !taken && moves {
            return Ok(None);
        }
        let gone = self.leave(versions)?;
        crate::pg::heap::next_command();
        self.read(new, true)?;
        self.mapping.deltas.read_first(&self.target.remote);
        if partial {
            return Ok(Some(self.superseded_there(versions)?.or(gone)));
        }
        self.first_value(versions)?;
        let probe = self.target.inserts_fire_before() || taken;
        let stored = self.store(versions, ConflictType::UpdateOriginDiffers, probe)?;
        if stored.is_none() {
            // Whatever the look for the new key left there is not the row that `gone` is about.
            self.target.local.clear();
        }
        Ok(Some(stored.or(gone)))
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

    /// Deletes the row under the old key, which `remote` holds, unless it is newer.
    fn leave(&mut self, versions: &mut Versions) -> Result<Option<Conflict>, Report> {
        loop {
            if self.find() == Found::Missing {
                match self.displaced(versions)? {
                    Hidden::Nothing => {}
                    Hidden::Row(displaced) => return self.leave_displaced(versions, displaced),
                    Hidden::Back => continue,
                }
                // Whoever wrote the old key before this, and is heard of later, loses to it.
                self.delete_missing(versions)?;
                return Ok(Some(Conflict::without_local(ConflictType::UpdateMissing, Resolution::ApplyRemote)));
            }
            let local = self.local_version(versions)?;
            let kind = ConflictType::UpdateOriginDiffers;
            if !versions.remote_wins(local) {
                return Ok(Some(Conflict { kind, outcome: Resolution::KeepLocal, local: Some(local) }));
            }
            if self.target.delete() == Written::Done {
                self.removals.deleted(self.target);
                return Ok(None);
            }
        }
    }
}
