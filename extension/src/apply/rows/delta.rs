//! Columns that count: what a change adds is added whichever version wins, and a row that is newer keeps its version. What is added
//! to a row that was removed later, or has not come yet and cannot be made of the change, is kept in `spock.counter_rest`: until the
//! row comes, or nothing older can.

use super::{Row, change_of, removed_meanwhile};
use crate::apply::removals::Newest;
use crate::apply::version::{LocalVersion, Versions};
use crate::catalog::deltas as catalog;
use crate::catalog::rests::{self, Place};
use crate::conflict::Conflict;
use crate::error::Report;
use crate::pg::dead_rows::Ends;
use crate::pg::heap::{Target, Written};
use crate::pg::part::{PartVersion, with_version};
use crate::pg::row_image::RowImage;
use crate::pg::search::Found;
use spock_core::merge::rest::{Kept, Rest};
use spock_core::merge::{Change, ConflictType, Counters, Known, Resolution, Values, Version, Write, decide};
use spock_core::wire::row::Tuple;
use std::collections::BTreeSet;

/// What is left of the counters of a key without a row.
struct Left {
    /// Where it is kept. `None`: nothing can be.
    place: Option<Place>,
    rest: Rest<RowImage>,
    /// The transactions that kept it.
    writers: BTreeSet<u32>,
}

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

    /// An UPDATE found no row; `remote` has its new one, which is written. What the row was before may still be on its way, or is
    /// what was removed here.
    pub(super) fn first_difference(&mut self, versions: &mut Versions) -> Result<(), Report> {
        match self.mapping.deltas.is_empty() {
            true => Ok(()),
            false => self.begin_counting(versions, Change::Update(Values::Whole)),
        }
    }

    /// The same for an INSERT, whose row may be there. Only what was kept for it makes a difference.
    pub(super) fn first_value(&mut self, versions: &mut Versions) -> Result<(), Report> {
        if self.has_kept()? { self.begin_counting(versions, Change::Insert) } else { Ok(()) }
    }

    /// Whether something that was added to the key in `remote` waits for its row.
    pub(super) fn has_kept(&mut self) -> Result<bool, Report> {
        let table = self.target.table().id().get();
        if self.mapping.deltas.is_empty() || !self.removals.is_written(table) || !self.removals.others() {
            return Ok(false);
        }
        let Some(hash) = self.target.key_hash() else { return Ok(false) };
        self.removals.additions = rests::of_key(table, hash)?.iter().filter(|entry| entry.amounts.is_some()).count();
        Ok(self.removals.additions > 0)
    }

    fn begin_counting(&mut self, versions: &mut Versions, change: Change) -> Result<(), Report> {
        let known = self.known(versions)?;
        let decision = decide(&known, change, &versions.remote());
        // Of one provider everything comes in its order.
        let others = self.removals.others();
        let counts_on = match decision.counters {
            Counters::Restore => true,
            Counters::Difference => others,
            _ => false,
        };
        if decision.write != Write::Insert || !(counts_on || others) {
            return Ok(());
        }
        let Left { place, rest, .. } = self.rest(versions)?;
        if counts_on {
            self.count_on(&rest)?;
        }
        let Some(place) = place.filter(|_| others) else { return Ok(()) };
        if !rest.kept.is_empty() {
            rests::used(place)?;
            self.removals.additions = 0;
        }
        if decision.counters == Counters::Restore {
            rests::revived(place)?;
            self.removals.kept(place.table);
        }
        Ok(())
    }

    /// Puts into `remote` what the change adds, and what the key had. What was kept is added by the change from here on, whether it
    /// makes the row or meets one that has come meanwhile.
    fn count_on(&mut self, rest: &Rest<RowImage>) -> Result<(), Report> {
        for kept in &rest.kept {
            self.target.start_merged(&kept.amount);
            self.target.merged.finish();
            self.mapping.deltas.add_to_change(&self.target.merged, self.remote)?;
        }
        self.mapping.deltas.differences(&mut self.target.remote, self.remote)?;
        if let Some(left) = rest.left_over() {
            self.target.start_merged(left);
            self.target.merged.finish();
            let Target { remote, merged, .. } = &mut *self.target;
            self.mapping.deltas.add_part(remote, merged, self.remote)?;
        }
        self.target.merged.clear();
        Ok(())
    }

    /// Nothing could be made of the UPDATE in `remote`, because a part of it is missing: what it adds is kept for the row that comes.
    pub(super) fn keep_superseded(&mut self, versions: &mut Versions) -> Result<(), Report> {
        if !self.mapping.deltas.adds() || !self.removals.others() {
            return Ok(());
        }
        let known = self.known(versions)?;
        let decision = decide(&known, Change::Update(Values::Superseded), &versions.remote());
        if !decision.rest {
            return Ok(());
        }
        let back = decision.counters == Counters::Restore && !self.mapping.deltas.is_first();
        if back {
            self.take_along(versions)?;
        }
        self.keep_rest(versions, back)
    }

    /// The removal may be let go before the row comes: what is left of it, and what was kept before, becomes a part of the change.
    fn take_along(&mut self, versions: &mut Versions) -> Result<(), Report> {
        let Left { place, rest, writers } = self.rest(versions)?;
        let version = versions.remote();
        for part in rest.taken_by(&version) {
            self.target.start_merged(part);
            self.target.merged.finish();
            self.mapping.deltas.add_to_change(&self.target.merged, self.remote)?;
        }
        let Some(place) = place else { return Ok(()) };
        for xid in writers.into_iter().filter(|xid| versions.of_writer(*xid) <= version) {
            if !rests::take(place, xid)? {
                return Err(removed_meanwhile());
            }
        }
        Ok(())
    }

    /// Where what is added to the key in `remote`, which has no row, is kept, and the removed row. Without a hash there is no place.
    #[allow(clippy::type_complexity, reason = "the row with who removed it")]
    fn place(&mut self, versions: &mut Versions) -> Result<(Option<Place>, Option<(u32, RowImage)>), Report> {
        let deltas = &self.mapping.deltas;
        let removed = self.removals.removed_row(self.target, versions, |number| deltas.contains(number))?;
        let removed_by = removed.as_ref().map_or(0, |(xid, _)| *xid);
        let table = self.target.table().id().get();
        Ok((self.target.key_hash().map(|hash| Place { table, hash, removed_by }), removed))
    }

    /// What is left of the counters of the key in `remote`, which has no row.
    fn rest(&mut self, versions: &mut Versions) -> Result<Left, Report> {
        let (place, removed) = self.place(versions)?;
        let left = removed.map(|(xid, image)| (versions.of_writer(xid), image));
        let mut writers = BTreeSet::new();
        let Some(place) = place else {
            return Ok(Left { place: None, rest: Rest { left, kept: Vec::new() }, writers });
        };
        let (hash, removed_by) = (place.hash, place.removed_by);
        let mut kept = Vec::new();
        if self.removals.is_written(place.table) {
            let entries = rests::of_key(place.table, hash)?;
            self.removals.additions = entries.iter().filter(|entry| entry.amounts.is_some()).count();
            for entry in entries {
                let Some(amount) = entry.amounts.filter(|_| entry.removed_by == removed_by) else { continue };
                writers.insert(entry.xid);
                kept.push(Kept { version: versions.of_writer(entry.xid), first: entry.first, amount });
            }
        }
        Ok(Left { place: Some(place), rest: Rest { left, kept }, writers })
    }

    /// What the change adds is kept for the case that the row with the key in `remote` comes, or comes back.
    /// `whole`: what the removed row had is in it.
    pub(super) fn keep_rest(&mut self, versions: &mut Versions, whole: bool) -> Result<(), Report> {
        if !self.mapping.deltas.adds() {
            return Ok(());
        }
        let Target { remote, merged, .. } = &mut *self.target;
        merged.start_from(remote);
        self.mapping.deltas.differences(merged, self.remote)?;
        merged.finish();
        self.keep_merged(versions, whole || self.mapping.deltas.is_first())?;
        self.check_absent()
    }

    /// The same of the amounts in `merged`.
    pub(super) fn keep_merged(&mut self, versions: &mut Versions, first: bool) -> Result<(), Report> {
        let deltas = &self.mapping.deltas;
        let amounts = RowImage::of_columns(&self.target.merged, self.target.table(), |number| deltas.contains(number));
        if let (Some(place), _) = self.place(versions)? {
            rests::keep(place, first, amounts)?;
            self.removals.kept(place.table);
        }
        Ok(())
    }

    /// The newest UPDATE that is known to have brought the row with the key in `remote` back.
    fn revived(&mut self, versions: &mut Versions) -> Result<Option<Version>, Report> {
        let table = self.target.table().id().get();
        let Some(hash) = self.target.key_hash().filter(|_| self.removals.is_written(table)) else { return Ok(None) };
        let entries = rests::of_key(table, hash)?;
        let revived = entries.iter().filter(|entry| entry.amounts.is_none());
        Ok(revived.map(|entry| versions.of_writer(entry.xid)).max())
    }

    /// The change is older than the row in `local`: only what it adds is written. `None`: the row changed meanwhile.
    pub(super) fn count_only(
        &mut self,
        versions: &mut Versions,
        kind: ConflictType,
    ) -> Result<Option<Conflict>, Report> {
        let Newest { tombstone, truncated } = self.removals.newest_of_each(self.target, versions, Ends::Deletes)?;
        let revived = if tombstone.is_some() { self.revived(versions)? } else { None };
        if self.target.local.is_empty() && self.find() != Found::Row {
            return Ok(None);
        }
        let local = self.local_version(versions)?;
        let conflict = Conflict { kind, outcome: Resolution::KeepLocal, local: Some(local) };
        let row = Some(versions.ranked(local));
        let known = Known { row, tombstone, truncated, revived, counts: true };
        match decide(&known, change_of(kind), &versions.addition()).write {
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
