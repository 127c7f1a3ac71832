//! Changes of a row that is displaced: users do not see it, but its key has a state like any other.
//!
//! # Invariants
//! 1. The row is found before the key counts as one without a row: what is remembered of removals is older than it.
//! 2. A change that wins takes the row's place, and is then visible or displaced by itself.
//! 3. What a change adds is added to the row, whichever is newer.
//! 4. It is locked before its version is compared, so what was decided holds. A key without one counts as missing only when its
//!    row has not come back meanwhile.

use super::{Row, change_of};
use crate::apply::displace::{self, Unseen};
use crate::apply::version::{LocalVersion, Versions};
use crate::catalog::displaced::{self as catalog, Displaced};
use crate::conflict::Conflict;
use crate::error::Report;
use crate::pg::heap::Target;
use crate::pg::row_image::RowImage;
use crate::pg::search;
use spock_core::merge::{ConflictType, Decision, Known, Resolution, Version, Write, decide};

/// A displaced row and its id.
pub(super) type DisplacedRow = (i64, Displaced);

/// What there is of a key that had no visible row.
pub(super) enum Hidden {
    /// Nothing.
    Nothing,
    /// A displaced row, whose values are in `merged`.
    Row(DisplacedRow),
    /// It has a visible row now: look again.
    Back,
}

impl Row<'_> {
    /// What there is of the key in `remote`, of which no visible row was found.
    pub(super) fn displaced(&mut self, versions: &Versions) -> Result<Hidden, Report> {
        if self.mapping.key.is_none() {
            return Ok(Hidden::Nothing);
        }
        Ok(match displace::of_key(self.target, self.removals, versions)? {
            Unseen::Displaced(id, row) => Hidden::Row((id, row)),
            Unseen::MayBeBack if self.find() == search::Found::Row => Hidden::Back,
            Unseen::MayBeBack | Unseen::Nowhere => Hidden::Nothing,
        })
    }

    /// A new row for its key takes its place, and ends as a conflict or none; `Err`: the same of one that is older, of which only
    /// additions are taken.
    #[allow(
        clippy::type_complexity,
        reason = "an error, a change that loses, one that wins with or without a conflict"
    )]
    pub(super) fn replaces(
        &mut self,
        versions: &Versions,
        kind: ConflictType,
        id: i64,
        row: &Displaced,
    ) -> Result<Result<Option<Conflict>, Option<Conflict>>, Report> {
        let local = LocalVersion::from(row.version);
        let decision = decide(&self.known_of(versions, local), change_of(kind), &versions.remote());
        let conflict = decision.report.map(|(_, outcome)| self.unseen(kind, outcome, local));
        let deltas = &self.mapping.deltas;
        let Target { remote, merged, .. } = &mut *self.target;
        match decision.write {
            Write::Update => {
                deltas.add(remote, merged, self.remote)?;
                catalog::delete(id)?;
                return Ok(Ok(conflict));
            }
            Write::Count => {
                deltas.add_onto(merged, self.remote)?;
                catalog::set_image(id, RowImage::of(&self.target.merged, self.target.table()))?;
                self.counts.deltas += 1;
            }
            _ => {}
        }
        Ok(Err(conflict))
    }

    /// An UPDATE of it. `remote` has what came, `merged` the row.
    pub(super) fn update_displaced(
        &mut self,
        versions: &mut Versions,
        (id, row): &DisplacedRow,
    ) -> Result<Option<Conflict>, Report> {
        let kind = ConflictType::UpdateOriginDiffers;
        let conflict = match self.replaces(versions, kind, *id, row)? {
            Ok(conflict) => conflict,
            Err(lost) => return Ok(lost),
        };
        self.complete_from_merged();
        let probe = self.target.inserts_fire_before();
        self.store_over(versions, kind, probe, Some(conflict))
    }

    /// Puts into `remote` what did not come, from the row in `merged`.
    pub(super) fn complete_from_merged(&mut self) {
        for number in self.mapping.columns.iter().filter_map(|column| column.number) {
            if self.mapping.present[number.index()] {
                let value = self.target.remote.get(number);
                self.target.merged.set(number, value);
            }
        }
        self.complete();
    }

    /// The row in `merged`, which has all values, is the one that came.
    pub(super) fn complete(&mut self) {
        self.target.remote_from_merged();
        self.mapping.present.fill(true);
    }

    /// A DELETE of it, or an UPDATE that gives it another key, under which it is written by itself. `rule` decides.
    pub(super) fn remove_displaced(
        &mut self,
        versions: &mut Versions,
        (id, row): &DisplacedRow,
        rule: fn(&Known, &Version) -> Decision,
    ) -> Result<Option<Conflict>, Report> {
        let local = LocalVersion::from(row.version);
        let decision = rule(&self.known_of(versions, local), &versions.remote());
        let conflict = decision.report.map(|(kind, outcome)| self.unseen(kind, outcome, local));
        if decision.write != Write::Delete {
            return Ok(conflict);
        }
        catalog::delete(*id)?;
        self.removals.missed(self.target)?;
        if !self.mapping.deltas.is_empty() {
            // No dead row tells what it had.
            self.keep_merged(versions, true)?;
        }
        Ok(conflict)
    }

    /// A conflict with a row that is in no table.
    fn unseen(&mut self, kind: ConflictType, outcome: Resolution, local: LocalVersion) -> Conflict {
        self.target.local.clear();
        Conflict { kind, outcome, local: Some(local) }
    }
}
