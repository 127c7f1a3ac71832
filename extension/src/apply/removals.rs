//! What is remembered of keys that were removed here, asked for and added to while remote changes are applied. Between
//! `apply::rows` (one change) and `worker::tombstones` (what all processes share).
//!
//! # Invariants
//! 1. A table from which nothing was removed costs a look at one number for each row.
//! 2. What was removed while a row was being inserted is noticed: [`Removals::state`] is read before and after.
//! 3. Of two transactions of which one writes something down about a key without a row, and the other a row of it, one meets the
//!    other: the first looks for the row when it has written, the second at what is written down, committed or not, when it has
//!    inserted. So what one of them missed is tried again.

use super::displace::Known;
use super::version::Versions;
use crate::catalog::rests;
use crate::catalog::tombstones as catalog;
use crate::error::Report;
use crate::pg::dead_rows::Ends;
use crate::pg::deletes::{self, Removed};
use crate::pg::heap::Target;
use crate::pg::horizon::full_id;
use crate::pg::in_flight::{Noted, noted, wait_for_end};
use crate::pg::relation::ColumnNumber;
use crate::pg::row_image::RowImage;
use crate::worker::tombstones::{self, Marked};
use spock_core::merge::Version;

/// The newest removals of a key that are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Newest {
    /// DELETE.
    pub tombstone: Option<Version>,
    /// TRUNCATE of the table.
    pub truncated: Option<Version>,
}

/// Whether a removal, or an addition, and a row of one key have missed each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossed {
    /// Nothing has happened.
    No,
    /// Something has been removed: the key is to be asked for again.
    Perhaps,
    /// Yes.
    Yes,
}

/// One worker's view.
#[derive(Default)]
pub struct Removals {
    /// The table that was asked about last, when, and the answer.
    last: Option<(u32, u32, Marked)>,
    /// The same of [`Removals::state`].
    state: Option<(u32, u32, u64)>,
    /// Whether nodes beside the provider and this one may send changes. Asked once in each transaction.
    others: Option<bool>,
    /// Tables of which the running transaction has written something down.
    kept_in: Vec<u32>,
    /// Additions that were kept of the key of the current change, when it was looked for.
    pub additions: usize,
    /// Tables with rows that were not removed, but displaced.
    pub displaced: Known,
}

impl Removals {
    /// A transaction begins.
    pub fn begin(&mut self) {
        self.others = None;
        self.kept_in.clear();
    }

    /// Changes when a key of `table` is removed, before that is committed.
    pub fn state(&mut self, table: u32) -> u64 {
        let removals = tombstones::removals();
        match self.state {
            Some((of, at, state)) if (of, at) == (table, removals) => state,
            _ => {
                let state = tombstones::last_removal(table);
                self.state = Some((table, removals, state));
                state
            }
        }
    }

    /// The newest removal of the key of `target.remote` that is remembered. Clears `target.local` when it looks.
    pub fn newest(
        &mut self,
        target: &mut Target,
        versions: &mut Versions,
        ends: Ends,
    ) -> Result<Option<Version>, Report> {
        let Newest { tombstone, truncated } = self.newest_of_each(target, versions, ends)?;
        Ok(tombstone.max(truncated))
    }

    /// The same, by what removed it.
    pub fn newest_of_each(
        &mut self,
        target: &mut Target,
        versions: &mut Versions,
        ends: Ends,
    ) -> Result<Newest, Report> {
        let table = target.table().id().get();
        let marked = self.marked(table);
        if !marked.removed {
            return Ok(Newest::default());
        }
        let mut removers = target.removers(ends);
        let mut truncated = None;
        if marked.written || self.displaced.has_displaced(table) {
            let (displaced, removed): (Vec<_>, Vec<_>) =
                catalog::removers(table, target.key_hash())?.into_iter().partition(|remover| remover.displaced);
            removers.retain(|xid| !displaced.iter().any(|remover| remover.xid == *xid));
            for remover in removed {
                match remover.truncated {
                    true => truncated = truncated.max(Some(versions.of_writer(remover.xid))),
                    false => removers.push(remover.xid),
                }
            }
        }
        Ok(Newest { tombstone: removers.into_iter().map(|xid| versions.of_writer(xid)).max(), truncated })
    }

    /// The removed row with the key of `target.remote` that counters go on from: who removed it, and its values in `wanted`
    /// columns. What was let go, or displaced, is none. Clears `target.local`.
    pub fn removed_row(
        &mut self,
        target: &mut Target,
        versions: &mut Versions,
        wanted: impl Fn(ColumnNumber) -> bool,
    ) -> Result<Option<(u32, RowImage)>, Report> {
        let table = target.table().id().get();
        let marked = self.marked(table);
        let Some(held) = tombstones::held_from().filter(|_| marked.removed) else { return Ok(None) };
        let mut displaced = Vec::new();
        if marked.written || self.displaced.has_displaced(table) {
            displaced = catalog::removers(table, target.key_hash())?;
            displaced.retain(|remover| remover.displaced);
        }
        let counts = |xid| full_id(xid) >= held && !displaced.iter().any(|remover| remover.xid == xid);
        Ok(target.removed_row(wanted, |xid| counts(xid).then(|| versions.of_writer(xid))))
    }

    /// Something is kept of a key of `table`: it goes when the tombstones do.
    pub fn kept(&mut self, table: u32) {
        self.tell(table);
        deletes::note(Removed { table, truncated: false, remembered: true });
    }

    /// Whether something is kept of keys of `table` beside dead rows.
    pub fn is_written(&mut self, table: u32) -> bool {
        // Tables are marked when the transaction commits.
        self.kept_in.contains(&table) || self.marked(table).written
    }

    /// Before the first thing is written down of keys of `table`.
    fn tell(&mut self, table: u32) {
        if !self.kept_in.contains(&table) {
            self.kept_in.push(table);
            tombstones::announce(table);
        }
    }

    /// Of the key of `target.remote`, of which a row has just been written: whether something was written down that was not there
    /// when it was looked for. `news`: [`Removals::state`] has changed. Waits for the transaction that has written it.
    pub fn crossed(&mut self, target: &Target, news: bool, counts: bool) -> Crossed {
        let table = target.table().id().get();
        let Some(hash) = target.key_hash().filter(|_| self.is_written(table) && self.others()) else {
            return if news { Crossed::Perhaps } else { Crossed::No };
        };
        let removed = noted(catalog::KEYS, table, hash);
        let added = if counts { noted(rests::KEYS, table, hash) } else { Noted::default() };
        if let Some(xid) = removed.running.or(added.running) {
            wait_for_end(xid);
            return Crossed::Yes;
        }
        match added.rows > self.additions {
            true => Crossed::Yes,
            false if news || removed.rows > 0 => Crossed::Perhaps,
            false => Crossed::No,
        }
    }

    fn marked(&mut self, table: u32) -> Marked {
        let epoch = tombstones::epoch();
        match self.last {
            Some((of, at, marked)) if (of, at) == (table, epoch) => marked,
            _ => {
                let marked = tombstones::marked(table);
                self.last = Some((table, epoch, marked));
                marked
            }
        }
    }

    /// The transaction that is being applied deleted the row: its dead row tells nodes that come later.
    pub fn deleted(&mut self, target: &Target) {
        if self.others() {
            deletes::note(Removed { table: target.table().id().get(), ..Removed::default() });
        }
    }

    /// It displaced a row: until no older change can come, the dead row must be told from a tombstone.
    pub fn displaced_one(&self, table: u32) {
        deletes::note(Removed { table, truncated: false, remembered: true });
    }

    /// It deleted a key of which there is no row. Nobody but its provider sends changes in a cluster of two, and those come
    /// in their order.
    /// False: it is not remembered.
    pub fn missed(&mut self, target: &Target) -> Result<bool, Report> {
        if !self.others() {
            return Ok(false);
        }
        let Some(hash) = target.key_hash() else { return Ok(false) };
        let table = target.table().id().get();
        catalog::write_key(table, hash)?;
        self.tell(table);
        deletes::note(Removed { table, truncated: false, remembered: true });
        Ok(true)
    }

    /// Whether nodes beside the provider and this one may send changes.
    pub fn others(&mut self) -> bool {
        *self.others.get_or_insert_with(tombstones::has_others)
    }
}
