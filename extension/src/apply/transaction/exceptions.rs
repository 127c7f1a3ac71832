//! A transaction that failed before: each change by itself, or none of them, with a record of what was left out.
//! `spock_core::exceptions` says which; here it is done.
//!
//! # Invariants
//! 1. How a transaction is taken is decided once, at its BEGIN, from what was recorded as a failure.
//! 2. What was left out is in `spock.exception_log` by the commit that moves the position past it, or in a warning of the
//!    server log before that commit.
//! 3. An error that may pass is raised on, from within subtransactions too: it never counts as a change that fails.
//! 4. The number of an action in the log is its number in the transaction, counted alike in every way of taking it.

use super::super::exception_log::{self, Found};
use super::{Applier, Change, out_of_order};
use crate::apply::queue::Command;
use crate::apply::recover::{say_disabled, with_statement};
use crate::apply::relmap::RemoteRelation;
use crate::catalog::exceptions::{Entry, RemoteTransaction, insert, record_disable};
use crate::catalog::topology::set_subscription_enabled;
use crate::error::{OrRaise, Report};
use crate::pg::attempt::{Caught, attempt_nested};
use crate::pg::conn::sqlstate_text;
use crate::pg::origin;
use crate::pg::raise::{Level, log, log_line};
use crate::pg::session;
use crate::settings;
use crate::worker::registry;
use pgrx::PgSqlErrorCode;
use spock_core::exceptions::{self, Failures, Logging, Mode, Object, Treatment};
use spock_core::types::{Lsn, RelId};
use spock_core::wire::Message;
use spock_core::wire::row::{OldTuple, RowKind, Truncate};
use spock_core::wire::txn::Begin;

/// How the current transaction is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handling {
    pub(super) treatment: Treatment,
    mode: Mode,
    logging: Logging,
    /// Actions that were left out so far.
    left_out: u32,
}

impl Handling {
    /// As any transaction.
    pub(super) const USUAL: Self =
        Self { treatment: Treatment::Apply, mode: Mode::SubDisable, logging: Logging::All, left_out: 0 };
}

/// What a row of the log says beyond the transaction.
struct LeftOut<'a> {
    number: u32,
    message: &'a str,
    found: Option<Found>,
}

/// An error that counts against the change. Others are raised on.
fn counts(caught: Caught) -> Report {
    if exceptions::may_pass(sqlstate_text(caught.report.code)) { caught.report.raise() } else { caught.report }
}

fn text_of(report: &Report) -> String {
    exceptions::error_text(sqlstate_text(report.code), &report.message)
}

fn row_change<'m>(message: &'m Message<'m>) -> Option<(&'static str, Change<'m>)> {
    match message {
        Message::Insert(insert) => Some(("INSERT", Change::insert(insert.relation, &insert.new))),
        Message::Update(update) => {
            let old = update.old.as_ref().map(OldTuple::as_tuple);
            Some(("UPDATE", Change { kind: RowKind::Update, id: update.relation, old, new: Some(&update.new) }))
        }
        Message::Delete(delete) => Some(("DELETE", Change::delete(delete.relation, delete.old.as_tuple()))),
        _ => None,
    }
}

/// The relation of a row.
fn relation_of(message: &Message<'_>) -> Option<RelId> {
    match message {
        Message::Insert(insert) => Some(insert.relation),
        Message::Update(update) => Some(update.relation),
        Message::Delete(delete) => Some(delete.relation),
        _ => None,
    }
}

impl Applier<'_> {
    /// For a transaction that begins.
    pub(super) fn handling(&mut self, begin: &Begin) -> Handling {
        let before = match &self.failure {
            Some(failure) if Some(failure.commit_lsn) == begin.commit_lsn => failure.failures,
            Some(_) => {
                // It did not come again: what is sent has changed.
                self.passed();
                Failures::default()
            }
            None => return Handling::USUAL,
        };
        let mode = settings::exception_behaviour();
        let treatment = exceptions::treatment(mode, before);
        let how = match treatment {
            Treatment::Apply => "as usual",
            Treatment::EachAlone => "each change by itself",
            Treatment::LeaveOut => "to leave it out",
            Treatment::LogAndDisable => "to write it down",
            Treatment::Park => "to park it",
        };
        log_line(format!("subscription \"{}\" takes transaction {} again, {how}", self.subscription.name, begin.xid.0));
        Handling { treatment, mode, logging: settings::exception_logging(), left_out: 0 }
    }

    /// The transaction that failed has passed, or will not come again.
    pub(super) fn passed(&mut self) {
        if self.failure.take().is_some() {
            registry::remember_failure(None);
        }
    }

    fn current_handling(&self) -> Handling {
        self.current.as_ref().filter(|current| !current.ignored).map_or(Handling::USUAL, |current| current.handling)
    }

    fn next_number(&self) -> u32 {
        let number = self.place.number.get().saturating_add(1);
        self.place.number.set(number);
        number
    }

    /// Carries out one change in the way that its transaction is taken.
    pub(super) fn change(&mut self, message: &Message<'_>) -> Result<(), Report> {
        if self.hold(message)? {
            return Ok(());
        }
        let number = self.next_number();
        if let Some(id) = relation_of(message)
            && self.leaves_out(id)?
        {
            return Ok(());
        }
        match self.current_handling().treatment {
            // What is parked was kept back.
            Treatment::Apply | Treatment::Park => {
                if let Some(command) = self.apply_change(message)? {
                    self.next_number();
                    self.carry_out(&command)?;
                }
                Ok(())
            }
            Treatment::EachAlone => self.change_alone(message, number),
            Treatment::LeaveOut | Treatment::LogAndDisable => self.leave_out(message, number),
        }
    }

    /// Runs one action in a subtransaction. `Err`: it was rolled back.
    fn alone<R>(&mut self, action: impl FnOnce(&mut Self) -> Result<R, Report>) -> Result<R, Report> {
        self.leave_owner()?;
        let done = attempt_nested(|| {
            let result = action(self).or_raise();
            if let Some(open) = self.current.as_mut().and_then(|current| current.open.as_mut()) {
                open.owner = None;
            }
            self.relations.close_all();
            result
        });
        done.map_err(|caught| {
            self.relations.abandon_all();
            self.versions.end_row();
            if let Some(open) = self.current.as_mut().and_then(|current| current.open.as_mut()) {
                // The rollback has put back user and settings.
                core::mem::forget(open.owner.take());
            }
            self.place.column.set(None);
            with_statement(counts(caught), &self.place)
        })
    }

    /// The transaction is open, and nothing of a table's owner is in force.
    pub(super) fn leave_owner(&mut self) -> Result<(), Report> {
        if let Some(open) = &mut self.open()?.open {
            open.owner = None;
        }
        Ok(())
    }

    fn change_alone(&mut self, message: &Message<'_>, number: u32) -> Result<(), Report> {
        match self.alone(|me| me.apply_change(message)) {
            Ok(None) => Ok(()),
            Ok(Some(command)) => self.command_alone(&command),
            Err(report) => {
                self.count_left_out(&report);
                let logging = self.current_handling().logging;
                if logging == Logging::None {
                    return Ok(());
                }
                let found = match row_change(message) {
                    Some((_, change)) => self.find_local(&change)?,
                    None => None,
                };
                self.write_change(message, &LeftOut { number, message: &text_of(&report), found })
            }
        }
    }

    fn command_alone(&mut self, command: &Command) -> Result<(), Report> {
        let number = self.next_number();
        let logging = self.current_handling().logging;
        match self.alone(|me| me.carry_out(command)) {
            Ok(()) if logging != Logging::All => Ok(()),
            Ok(()) => self.write_command(command, (number, false), "discard: statement executed"),
            Err(report) => {
                self.count_left_out(&report);
                if logging == Logging::None {
                    return Ok(());
                }
                self.write_command(command, (number, false), &text_of(&report))
            }
        }
    }

    /// One more; without a log the server log has its error.
    fn count_left_out(&mut self, report: &Report) {
        let Some(current) = &mut self.current else { return };
        current.handling.left_out = current.handling.left_out.saturating_add(1);
        if current.handling.logging == Logging::None {
            let message = format!("change {} is left out: {}", self.place.number.get(), report.message);
            log(Level::Warning, &Report { message, ..report.clone() });
        }
    }

    /// Writes a change down instead of carrying it out.
    fn leave_out(&mut self, message: &Message<'_>, number: u32) -> Result<(), Report> {
        let handling = self.current_handling();
        let queue = match message {
            Message::Insert(insert) => self.relations.remote(insert.relation).is_ok_and(|remote| remote.is_queue()),
            _ => false,
        };
        if let Message::Truncate(command) = message
            && self.truncated(command)?.is_empty()
        {
            return Ok(());
        }
        // The command counts by itself.
        let numbers = if queue { [number, self.next_number()] } else { [number, number] };
        if let Some(current) = &mut self.current {
            current.handling.left_out += if queue { 2 } else { 1 };
        }
        if handling.logging == Logging::None {
            return Ok(());
        }
        self.leave_owner()?;
        let reason = |me: &Self, object, number| {
            let failure = me.failure.as_ref().map(|failure| (failure.action, failure.text.as_str()));
            exceptions::reason(handling.mode, object, number, failure)
        };
        let text = reason(self, Object::Tuple, numbers[0]);
        self.write_change(message, &LeftOut { number: numbers[0], message: &text, found: None })?;
        if let (true, Message::Insert(insert)) = (queue, message) {
            let (_table, mapping, remote) = self.relations.look(insert.relation)?;
            let command = Command::read(&insert.new, remote, mapping)?;
            let text = reason(self, Object::Statement, numbers[1]);
            self.write_command(&command, (numbers[1], true), &text)?;
        }
        Ok(())
    }

    pub(super) fn transaction(&self) -> Result<RemoteTransaction, Report> {
        let current = self.current.as_ref().ok_or_else(|| out_of_order("a change"))?;
        Ok(RemoteTransaction {
            origin: current.origin.unwrap_or(self.subscription.origin.id),
            commit_ts: current.begin.committed_at,
            xid: current.begin.xid.0,
        })
    }

    /// The row that a change that failed was about, if it is here.
    fn find_local(&mut self, change: &Change<'_>) -> Result<Option<Found>, Report> {
        let node = self.local.node.id;
        let key = change.key()?;
        let looked = attempt_nested(|| {
            let found = exception_log::find(
                &mut self.relations,
                &mut self.versions,
                &self.place,
                (change.kind, change.id),
                key,
                node,
            )
            .or_raise();
            self.relations.close_all();
            found
        });
        match looked {
            Ok(found) => Ok(found),
            Err(caught) => {
                self.relations.abandon_all();
                // It cannot even be looked at: a table that does not exist, a key that cannot be read.
                counts(caught);
                Ok(None)
            }
        }
    }

    /// Writes one row of the log.
    fn record(&self, entry: &Entry<'_>) -> Result<(), Report> {
        let transaction = self.transaction()?;
        self.stream.recording.set(true);
        insert(&transaction, entry)?;
        self.stream.recording.set(false);
        Ok(())
    }

    fn write_change(&mut self, message: &Message<'_>, what: &LeftOut<'_>) -> Result<(), Report> {
        let entry = Entry { counter: what.number, message: what.message, ..Entry::default() };
        let Some((operation, change)) = row_change(message) else {
            let Message::Truncate(command) = message else { return Ok(()) };
            let names = match self.truncated(command)?.as_slice() {
                [id] => self.relations.remote(*id)?.names(),
                several => {
                    let quoted = several.iter().map(|id| Ok(self.relations.remote(*id)?.subject.relation.clone()));
                    (String::new(), quoted.collect::<Result<Vec<_>, Report>>()?.join(", "))
                }
            };
            let table = Some((names.0.as_str(), names.1.as_str()));
            return self.record(&Entry { operation: "TRUNCATE", table, ..entry });
        };
        let (schema, table) = self.relations.remote(change.id).map(|remote| remote.names()).unwrap_or_default();
        // A queued statement is recorded as what it is, and not with all of its text.
        if self.relations.remote(change.id).is_ok_and(RemoteRelation::is_queue) {
            return self.record(&Entry { operation, table: Some((&schema, &table)), ..entry });
        }
        let old = exception_log::tuple(&mut self.relations, change.id, change.old).map_err(counts).unwrap_or_default();
        let new = exception_log::tuple(&mut self.relations, change.id, change.new).map_err(counts).unwrap_or_default();
        let found = what.found.as_ref();
        self.record(&Entry {
            operation,
            table: Some((&schema, &table)),
            local: found.map(|found| found.version),
            local_tup: found.and_then(|found| found.tuple.as_deref()),
            old: old.as_deref(),
            new: new.as_deref(),
            ..entry
        })
    }

    /// The tables that were to be emptied, without those that are being copied.
    pub(super) fn truncated(&self, command: &Truncate<'_>) -> Result<Vec<RelId>, Report> {
        let mut ids = Vec::new();
        for id in command.relations() {
            if !self.leaves_out(id)? {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// `quoted`: a statement that was not even tried is a JSON string.
    fn write_command(&self, command: &Command, (number, quoted): (u32, bool), message: &str) -> Result<(), Report> {
        let queued = command.statement()?.map(|queued| queued.shown().text);
        let queued = queued.map(|text| if quoted { exceptions::quoted(&text) } else { text });
        let (statement, user) = (queued.as_deref().or(Some(command.message())), command.role());
        let entry = Entry { counter: number, operation: "DDL", statement, user, message, ..Entry::default() };
        self.record(&entry)
    }

    /// Before the commit: says what was left out, or writes down that the subscription is disabled, commits and returns
    /// true.
    pub(super) fn settle_exceptions(&mut self) -> Result<bool, Report> {
        let handling = self.current_handling();
        match handling.treatment {
            Treatment::Apply | Treatment::Park => return Ok(false),
            Treatment::EachAlone if handling.left_out == 0 => return Ok(false),
            Treatment::EachAlone => {}
            Treatment::LeaveOut => {
                // The position moves on disk, too, when nothing is logged.
                self.leave_owner()?;
                session::assign_xid();
            }
            Treatment::LogAndDisable => {
                self.commit_disabled()?;
                return Ok(true);
            }
        }
        let hint = if handling.logging == Logging::None {
            "Nothing of it is in spock.exception_log, because \"spock.exception_logging\" is \"none\"."
        } else {
            "It is in spock.exception_log."
        };
        let all = self.place.number.get();
        let what =
            if handling.treatment == Treatment::LeaveOut { "all".to_owned() } else { handling.left_out.to_string() };
        let mut warning = Report::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!(
                "subscription \"{}\" leaves out {what} of {all} changes of transaction {} at {}",
                self.subscription.name,
                self.place.xid.get(),
                Lsn::new(self.place.commit_lsn.get()).map_or_else(String::new, |lsn| lsn.to_string()),
            ),
        )
        .hint(hint);
        if let Some(failure) = &self.failure {
            warning = warning.detail(failure.text.clone());
        }
        log(Level::Warning, &warning);
        Ok(false)
    }

    /// Commits the record of the transaction without its position, and disables the subscription with it.
    fn commit_disabled(&mut self) -> Result<(), Report> {
        let transaction = self.transaction()?;
        let commit_lsn = Lsn::new(self.place.commit_lsn.get());
        let text =
            self.failure.as_ref().map_or_else(|| "no cause was captured".to_owned(), |failure| failure.text.clone());
        self.leave_owner()?;
        let counter = self.next_number();
        self.stream.recording.set(true);
        record_disable(&transaction, counter, commit_lsn, &text)?;
        self.stream.recording.set(false);
        set_subscription_enabled(self.subscription.id, false)?;
        let Some(current) = self.current.take() else { return Ok(()) };
        let Some(open) = current.open else { return Ok(()) };
        let super::Open { owner, snapshot, txn } = open;
        drop((owner, snapshot));
        // What is written here is this node's own.
        origin::clear_stamp();
        txn.commit();
        self.place.leave_transaction();
        self.passed();
        say_disabled(self.subscription, commit_lsn, &text);
        Ok(())
    }
}
