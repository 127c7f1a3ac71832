//! One row change: find the row, ask `spock_core::merge` who wins, write. Between `apply::transaction` (messages in
//! order) and `pg::heap` (rows to disk).
//!
//! # Invariants
//! 1. A row that another transaction changes meanwhile is looked for again, until the outcome is certain.
//! 2. An INSERT is tried first and looked up only when a unique index objects: without a conflict there is no probe.
//! 3. A change that loses, or finds no row, is reported as a conflict; it never fails the transaction.
//! 4. A key without a row may have been removed: no change that is older brings it back.
//! 5. A row that another one keeps out of the table, because of a unique value, is looked for as well (`out_of_sight`).

use super::displace::{self, Met, Way};
use super::relmap::{MappedColumn, Mapping, RemoteRelation};
use super::removals::{Crossed, Newest, Removals};
use super::version::{LocalVersion, Versions};
use crate::conflict::Conflict;
use crate::counters::Counts;
use crate::error::Report;
use crate::pg::dead_rows::Ends;
use crate::pg::error_context::Place;
use crate::pg::heap::{Inserted, Target, Written};
use crate::pg::search::Found;
use crate::pg::tuple::{Slot, Value, ValueError};
use crate::settings;
use pgrx::PgSqlErrorCode;
use spock_core::merge::unique::Placed;
use spock_core::merge::{Change, ConflictType, Decision, Known, Resolution, Values, Version, Write, decide};
use spock_core::wire::row::{Datum, Tuple};

mod delta;
mod out_of_sight;
mod overflow;
mod rekey;

use out_of_sight::Hidden;

/// How often an insert that a unique index objected to is tried again without an error, when the row that objected is
/// gone at the second look. Then the index decides: it waits, and raises 23505 if the row is there.
const INSERT_RETRIES_MAX: u32 = 3;

/// An open table with what is needed to write it.
pub struct Row<'a> {
    /// The table.
    pub target: &'a mut Target,
    /// Its mapping.
    pub mapping: &'a mut Mapping,
    /// Rows of this transaction.
    pub counts: &'a mut Counts,
    /// As the provider described it.
    pub remote: &'a RemoteRelation,
    /// Keys that were removed here.
    pub removals: &'a mut Removals,
    /// Where errors say they happened.
    pub place: &'a Place,
}

impl Row<'_> {
    /// Applies an INSERT.
    pub fn insert(&mut self, versions: &mut Versions, new: &Tuple<'_>) -> Result<Option<Conflict>, Report> {
        self.target.next_row();
        self.removals.additions = 0;
        self.read(new, true)?;
        self.mapping.deltas.read_first(&self.target.remote);
        self.first_value(versions)?;
        // Triggers must not see the insert of a row that exists.
        let probe = self.target.inserts_fire_before();
        let done = self.store(versions, ConflictType::InsertExists, probe)?;
        self.overflowed(versions)?;
        Ok(done)
    }

    /// Applies an UPDATE. `old` has the identity of the row if it changed, or all of it under REPLICA IDENTITY FULL.
    /// `superseded`: a newer state of the key is on its way, so what is missing may be left as it is, or with it the row.
    pub fn update(
        &mut self,
        versions: &mut Versions,
        values: (Option<&Tuple<'_>>, &Tuple<'_>),
        superseded: bool,
    ) -> Result<Option<Conflict>, Report> {
        let done = self.update_row(versions, values, superseded)?;
        self.overflowed(versions)?;
        Ok(done)
    }

    fn update_row(
        &mut self,
        versions: &mut Versions,
        (old, new): (Option<&Tuple<'_>>, &Tuple<'_>),
        superseded: bool,
    ) -> Result<Option<Conflict>, Report> {
        self.target.next_row();
        self.removals.additions = 0;
        self.mapping.deltas.forget();
        if old.is_none() && self.mapping.key.is_none() {
            return Err(self.no_identity("UPDATE"));
        }
        if let Some(old) = old
            && self.changes_key(old, new)?
        {
            return self.rekey(versions, (old, new), superseded);
        }
        self.read_deltas(old, new)?;
        self.read(old.unwrap_or(new), false)?;
        loop {
            let found = self.find();
            let displaced = match found {
                Found::Missing => self.displaced(versions)?,
                Found::Row => Hidden::Nothing,
            };
            let displaced = match displaced {
                Hidden::Nothing => None,
                Hidden::Row(row) => Some(row),
                Hidden::Back => continue,
            };
            if old.is_some() {
                // The search is done: from here on `remote` is the new row.
                self.read(new, false)?;
            }
            if let Some(displaced) = displaced {
                return self.update_displaced(versions, &displaced);
            }
            if found == Found::Missing {
                return self.update_missing(versions, new, superseded);
            }
            if let Some(done) = self.resolve_update(versions, ConflictType::UpdateOriginDiffers)? {
                return Ok(done);
            }
            if let Some(old) = old {
                self.read(old, false)?;
            }
        }
    }

    /// Applies a DELETE of the row with the identity in `old`.
    pub fn delete(&mut self, versions: &mut Versions, old: &Tuple<'_>) -> Result<Option<Conflict>, Report> {
        self.target.next_row();
        self.read(old, false)?;
        self.remove(versions, |known, version| decide(known, Change::Delete, version))
    }

    /// Removes the row with the key in `remote`, as `rule` decides, or remembers the removal.
    fn remove(
        &mut self,
        versions: &mut Versions,
        rule: fn(&Known, &Version) -> Decision,
    ) -> Result<Option<Conflict>, Report> {
        loop {
            if self.find() == Found::Missing {
                match self.displaced(versions)? {
                    Hidden::Row(displaced) => return self.remove_displaced(versions, &displaced, rule),
                    Hidden::Nothing => {}
                    Hidden::Back => continue,
                }
                let decision = rule(&self.known(versions)?, &versions.remote());
                // Whoever wrote the key before this, and is heard of later, loses to it.
                if decision.remember && self.removals.missed(self.target)? {
                    self.check_absent()?;
                }
                return Ok(Conflict::reported(decision.report, None));
            }
            let local = self.local_version(versions)?;
            let decision = rule(&self.known_of(versions, local), &versions.remote());
            let conflict = Conflict::reported(decision.report, Some(local));
            if decision.write != Write::Delete {
                return Ok(conflict);
            }
            if self.target.delete() == Written::Done {
                self.removals.deleted(self.target);
                return Ok(conflict);
            }
        }
    }

    /// What is known of a key whose row, visible or displaced, is of version `local`.
    fn known_of(&self, versions: &Versions, local: LocalVersion) -> Known {
        Known::of_row(versions.ranked(local), self.mapping.deltas.adds())
    }

    /// What is known of the key in `remote`, which has no row here.
    fn known(&mut self, versions: &mut Versions) -> Result<Known, Report> {
        // Without a key there is nothing that could have been removed: rows are told apart by all they hold.
        let counts = !self.mapping.deltas.is_empty();
        let Newest { tombstone, truncated } = match self.mapping.key {
            Some(_) => self.removals.newest_of_each(self.target, versions, Ends::Any)?,
            None => Newest::default(),
        };
        Ok(Known { tombstone, truncated, counts, ..Known::default() })
    }

    /// Looks for the row with the identity in `key`, for who only wants to see it.
    pub fn look(&mut self, key: &Tuple<'_>) -> Result<Found, Report> {
        self.target.next_row();
        self.read(key, false)?;
        Ok(self.find())
    }

    /// Nothing to update: the whole row is inserted, a part of it cannot be. If that is not superseded, `decide` has it wait; but
    /// what a C provider left out is not known to come, so it is written down as any other conflict.
    fn update_missing(
        &mut self,
        versions: &mut Versions,
        new: &Tuple<'_>,
        superseded: bool,
    ) -> Result<Option<Conflict>, Report> {
        let whole = self.mapping.columns.iter().all(|c| c.number.is_none_or(|n| self.mapping.present[n.index()]));
        if !whole {
            if superseded {
                self.keep_superseded(versions)?;
            }
            return Ok(Some(Conflict::without_local(ConflictType::UpdateMissing, Resolution::Skip)));
        }
        self.read(new, true)?;
        self.first_difference(versions)?;
        let probe = self.target.inserts_fire_before();
        let stored = self.store(versions, ConflictType::UpdateOriginDiffers, probe)?;
        Ok(stored.or(Some(Conflict::without_local(ConflictType::UpdateMissing, Resolution::ApplyRemote))))
    }

    /// Inserts `remote`; when the row exists, resolves the conflict as `kind`.
    fn store(
        &mut self,
        versions: &mut Versions,
        kind: ConflictType,
        probe_first: bool,
    ) -> Result<Option<Conflict>, Report> {
        self.store_over(versions, kind, probe_first, None)
    }

    /// The same; with `over`, it takes the place of what was here of the key, and ends as this conflict if it meets no other.
    fn store_over(
        &mut self,
        versions: &mut Versions,
        kind: ConflictType,
        probe_first: bool,
        mut over: Option<Option<Conflict>>,
    ) -> Result<Option<Conflict>, Report> {
        let keyed = self.mapping.key.is_some();
        if !keyed {
            self.target.insert(true);
            return Ok(None);
        }
        let change = change_of(kind);
        let mut look = probe_first;
        let mut tries = 0;
        loop {
            let before = self.removals.state(self.target.table().id().get());
            if look && (self.find() == Found::Row || self.met_elsewhere(kind)) {
                match self.resolve_update(versions, kind)? {
                    Some(done) => return Ok(done),
                    None => continue,
                }
            }
            if over.is_none() {
                match self.displaced(versions)? {
                    Hidden::Row((id, row)) => match self.replaces(versions, kind, id, &row)? {
                        Ok(conflict) => over = Some(conflict),
                        Err(lost) => return Ok(lost),
                    },
                    Hidden::Nothing => {
                        if let Some(lost) = self.lost(versions, change)? {
                            return Ok(Some(lost));
                        }
                    }
                    Hidden::Back => {
                        look = true;
                        continue;
                    }
                }
            }
            // A possible duplicate without a row under our key: it went away, or it is another unique key.
            if look {
                match displace::clear_way(self.target, self.removals, versions, Placed::Written)? {
                    Way::Free => {}
                    Way::Changed => continue,
                    Way::Cleared(found) => {
                        over = Some(Some(self.met(kind, Resolution::ApplyRemote, found)));
                        tries = 0;
                    }
                    Way::Blocked(found) => {
                        displace::put_aside(self.target, versions, &found)?;
                        return Ok(Some(self.met(kind, Resolution::KeepLocal, found)));
                    }
                }
            }
            let last = tries >= INSERT_RETRIES_MAX;
            if self.target.insert(last) == Inserted::Done {
                self.check_crossed(versions, change, before, over.is_none())?;
                return Ok(over.flatten());
            }
            tries += 1;
            look = true;
        }
    }

    /// The row in `remote` has been written. Fails if what was written down of its key since `before` ([`Removals::state`]) asks for
    /// another outcome. `alone`: it did not take the place of a displaced row.
    fn check_crossed(
        &mut self,
        versions: &mut Versions,
        change: Change,
        before: u64,
        alone: bool,
    ) -> Result<(), Report> {
        let news = self.removals.state(self.target.table().id().get()) != before;
        let counts = !self.mapping.deltas.is_empty();
        let crossed = match self.removals.crossed(self.target, news, counts) {
            Crossed::No => false,
            Crossed::Perhaps => alone && self.lost(versions, change)?.is_some(),
            Crossed::Yes => true,
        };
        if crossed { Err(removed_meanwhile()) } else { Ok(()) }
    }

    /// What is known of the key in `remote`, which has no row, has been written down. Fails if there is a row by now: its writer did
    /// not see it.
    fn check_absent(&mut self) -> Result<(), Report> {
        if self.find() == Found::Row { Err(removed_meanwhile()) } else { Ok(()) }
    }

    /// The conflict, if the key in `remote` was removed later than `change` was made.
    fn lost(&mut self, versions: &mut Versions, change: Change) -> Result<Option<Conflict>, Report> {
        let known = self.known(versions)?;
        let decision = decide(&known, change, &versions.remote());
        if decision.rest {
            self.keep_rest(versions, false)?;
        }
        let report = decision.report.filter(|_| decision.write == Write::Keep);
        Ok(Conflict::reported(report, None))
    }

    /// The conflict with a row that holds a value of `remote`.
    fn met(&mut self, kind: ConflictType, outcome: Resolution, met: Met) -> Conflict {
        let insert = kind == ConflictType::InsertExists;
        let kind = if insert { kind } else { ConflictType::UpdateExists };
        self.target.met_in = Some(met.index);
        Conflict { kind, outcome, local: Some(met.local) }
    }

    /// Whether an INSERT whose key is free meets a row in another unique index, if that is asked for.
    fn met_elsewhere(&mut self, kind: ConflictType) -> bool {
        let met = kind == ConflictType::InsertExists
            && settings::check_all_unique_indexes()
            && self.target.find_by_other_unique() == Found::Row;
        if met {
            // A row of another key: nothing is added to it.
            self.mapping.deltas.forget();
        }
        met
    }

    /// `local` holds the row that is here, `remote` the row that came. Outer `None`: the row changed meanwhile.
    #[allow(clippy::option_option, reason = "try again, done without a conflict, done with one")]
    fn resolve_update(
        &mut self,
        versions: &mut Versions,
        kind: ConflictType,
    ) -> Result<Option<Option<Conflict>>, Report> {
        let local = self.local_version(versions)?;
        let decision = decide(&self.known_of(versions, local), change_of(kind), &versions.remote());
        // Of a row that came into the way of another one, the caller knows more.
        let conflict = decision.report.map(|(_, outcome)| Conflict { kind, outcome, local: Some(local) });
        match decision.write {
            Write::Update => {}
            Write::Count => return Ok(self.count_only(versions, kind)?.map(Some)),
            _ => return Ok(Some(conflict)),
        }
        self.merge()?;
        let written = self.target.update();
        if written == Written::Changed {
            return Ok(None);
        }
        if written == Written::Duplicate {
            // The old row has gone: the new one is written as a new one, or displaced.
            self.target.remote_from_merged();
            return self.store_over(versions, ConflictType::UpdateExists, true, Some(conflict)).map(Some);
        }
        Ok(Some(conflict))
    }

    /// The row to write: what is here, with every value that came in its place, and sums of what counts.
    fn merge(&mut self) -> Result<(), Report> {
        let Target { merged, local, remote, .. } = &mut *self.target;
        merged.start_from(local);
        for column in &self.mapping.columns {
            let Some(number) = column.number.filter(|number| self.mapping.present[number.index()]) else { continue };
            let value = remote.get(number);
            // Most UPDATEs leave large values alone: they need not be stored once more.
            if !(column.decoder.is_varlena() && local.stores_same(number, value)) {
                merged.set(number, value);
            }
        }
        self.mapping.deltas.add(merged, local, self.remote)?;
        merged.finish();
        Ok(())
    }

    fn find(&mut self) -> Found {
        match self.target.find_by_key() {
            Some(found) => found,
            None => self.target.find_by_scan(&mut self.mapping.equality),
        }
    }

    /// Reads a tuple into the slot `remote`. Without `defaults`, columns that only we have are NULL.
    fn read(&mut self, tuple: &Tuple<'_>, defaults: bool) -> Result<(), Report> {
        self.mapping.present.fill(false);
        self.target.remote.start();
        if defaults {
            self.target.fill_defaults();
        }
        let mut count = 0;
        for (n, value) in tuple.columns().enumerate() {
            self.place.column.set(u16::try_from(n).ok());
            let Some(column) = self.mapping.columns.get_mut(n) else { return Err(self.column_count()) };
            count += 1;
            let Some(number) = column.number else { continue };
            let read = decode(column, &value, &self.mapping.memory);
            match read {
                Ok(Some(value)) => {
                    self.target.remote.set(number, value);
                    self.mapping.present[number.index()] = true;
                }
                Ok(None) => {}
                Err(cause) => return Err(cause.report(&self.remote.subject.columns[n])),
            }
        }
        if count != self.mapping.columns.len() {
            return Err(self.column_count());
        }
        self.place.column.set(None);
        self.target.remote.finish();
        Ok(())
    }

    fn column_count(&self) -> Report {
        Report::new(
            PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION,
            format!("a row of {} has another number of columns than was described", self.remote.subject.relation),
        )
    }

    fn no_identity(&self, operation: &str) -> Report {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("cannot apply {operation} to {}: it has no key here", self.remote.subject.relation),
        )
        .hint("Add a primary key, or set REPLICA IDENTITY FULL for the table on the provider.")
    }
}

/// The change whose conflicts are of this kind.
fn change_of(kind: ConflictType) -> Change {
    match kind {
        ConflictType::InsertExists => Change::Insert,
        _ => Change::Update(Values::Whole),
    }
}

/// Tried again from the start, the removal is seen before the row is written.
fn removed_meanwhile() -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
        "a key was removed here, or added to, while a row of it was being inserted",
    )
}

/// Why a column's bytes were refused.
enum Refused {
    Value(ValueError),
    Types,
}

impl Refused {
    fn report(&self, column: &str) -> Report {
        match self {
            Self::Types => Report::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("column \"{column}\" has another type here than on the provider"),
            )
            .hint("Give the column the same type on both nodes, or set force_text_transfer for the subscription."),
            Self::Value(ValueError::Length) => Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION,
                format!("a value of column \"{column}\" does not have the length of its type"),
            ),
            Self::Value(ValueError::NotInternal) => Report::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("values of column \"{column}\" cannot be taken in internal form"),
            ),
        }
    }
}

/// `None`: the value did not change and was not sent.
fn decode(
    column: &mut MappedColumn,
    value: &Datum<'_>,
    memory: &crate::pg::tuple::OwnedContext,
) -> Result<Option<Value>, Refused> {
    Ok(Some(match *value {
        Datum::Null => Value::NULL,
        Datum::Unchanged => return Ok(None),
        Datum::Internal(bytes) if column.same_type => column.decoder.internal(bytes).map_err(Refused::Value)?,
        Datum::Internal(_) => return Err(Refused::Types),
        Datum::Binary(_) if column.types_clash => return Err(Refused::Types),
        Datum::Binary(bytes) => column.decoder.binary(bytes, memory),
        Datum::Text(bytes) => column.decoder.text(bytes, memory),
    }))
}

/// One value of a row, for who is not writing it. `name` is the column's, for the error. `None`: it was not sent.
pub fn decode_value(
    column: &mut MappedColumn,
    value: &Datum<'_>,
    memory: &crate::pg::tuple::OwnedContext,
    name: &str,
) -> Result<Option<Value>, Report> {
    decode(column, value, memory).map_err(|cause| cause.report(name))
}

/// The slot that a conflict of this kind found the local row in, if it still holds it.
pub fn local_row<'t>(target: &'t Target, conflict: &Conflict) -> Option<&'t Slot> {
    (conflict.local.is_some() && !target.local.is_empty()).then_some(&target.local)
}
