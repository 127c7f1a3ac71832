//! Columns that count: what a change adds is added whichever version wins, and a row that is newer keeps its version.

use super::Row;
use crate::apply::version::{LocalVersion, Versions};
use crate::catalog::deltas as catalog;
use crate::conflict::Conflict;
use crate::error::Report;
use crate::pg::dead_rows::Ends;
use crate::pg::heap::{Target, Written};
use crate::pg::part::{PartVersion, with_version};
use crate::pg::search::Found;
use spock_core::merge::{Change, ConflictType, Counters, Counting, Known, Resolution, Values, Write, decide};
use spock_core::wire::row::Tuple;

impl Row<'_> {
    /// Version of the row in `local`.
    pub(super) fn local_version(&self, versions: &mut Versions) -> Result<LocalVersion, Report> {
        match self.mapping.deltas.is_empty() {
            true => Ok(versions.of(&self.target.local)),
            false => versions.of_counted(&self.target.local),
        }
    }

    /// What an UPDATE adds.
    pub(super) fn read_deltas(&mut self, old: Option<&Tuple<'_>>, new: &Tuple<'_>) -> Result<(), Report> {
        let mapping = &mut *self.mapping;
        mapping.deltas.read_update(&mut mapping.columns, &mapping.memory, self.remote, (old, new))
    }

    /// An UPDATE found no row; `remote` has its new one, which is written. What the row was before may still be on its way.
    pub(super) fn first_difference(&mut self, versions: &mut Versions) -> Result<(), Report> {
        // Of one provider everything comes in its order.
        if !self.mapping.deltas.adds() || !self.removals.others() {
            return Ok(());
        }
        let known = Known { counting: Counting::Unlogged, ..self.known(versions)? };
        if decide(&known, Change::Update(Values::Whole), &versions.remote()).counters == Counters::Difference {
            self.mapping.deltas.differences(&mut self.target.remote, self.remote)?;
        }
        Ok(())
    }

    /// The removal of the key in `remote` is older than its row. What was added before the removal and comes later counts no more.
    pub(super) fn outlived(&mut self) -> Result<(), Report> {
        if self.mapping.deltas.is_empty() { Ok(()) } else { self.removals.missed(self.target) }
    }

    /// The change is older than the row in `local`: only what it adds is written. `None`: the row changed meanwhile.
    pub(super) fn count_only(
        &mut self,
        versions: &mut Versions,
        kind: ConflictType,
    ) -> Result<Option<Conflict>, Report> {
        let tombstone = self.removals.newest(self.target, versions, Ends::Deletes)?;
        if self.target.local.is_empty() && self.find() != Found::Row {
            return Ok(None);
        }
        let local = self.local_version(versions)?;
        let conflict = Conflict { kind, outcome: Resolution::KeepLocal, local: Some(local) };
        let row = Some(versions.ranked(local));
        let known = Known { row, tombstone, counting: Counting::Unlogged, ..Known::default() };
        let change = match kind {
            ConflictType::InsertExists => Change::Insert,
            _ => Change::Update(Values::Whole),
        };
        match decide(&known, change, &versions.addition()).write {
            Write::Count => {}
            Write::Keep => return Ok(Some(conflict)),
            // It is not older any more.
            _ => return Ok(None),
        }
        let Target { merged, local: row, .. } = &mut *self.target;
        merged.start_from(row);
        self.mapping.deltas.add(merged, row, self.remote)?;
        merged.finish();
        if self.write_under(versions, local)? == Written::Changed {
            return Ok(None);
        }
        self.counts.deltas += 1;
        Ok(Some(conflict))
    }

    /// Replaces the row in `local` by the one in `merged`, which has the same version.
    fn write_under(&mut self, versions: &mut Versions, version: LocalVersion) -> Result<Written, Report> {
        let LocalVersion::Known { time, origin, .. } = version else { return Ok(self.target.update()) };
        let origin = versions.origin_of(origin);
        with_version(PartVersion { time: time.micros(), origin }, |part| {
            if !part.stamped {
                catalog::write_version(part.xid, time, origin)?;
            }
            versions.keeps(part.xid, version);
            Ok(self.target.update())
        })
    }
}
