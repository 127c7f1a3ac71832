//! Giving up parked transactions: their changes go to `spock.exception_log`, in the transaction that takes them away. Runs in
//! the session of whoever decides so.
//!
//! # Invariants
//! 1. What cannot be read any more is written down without values; nothing goes without a row.

use super::exception_log;
use super::may_pass;
use super::queue::Command;
use super::relmap::{RelMap, RemoteRelation};
use crate::catalog::exceptions::{Entry, RemoteTransaction, insert};
use crate::catalog::parked::{self, Facts};
use crate::error::Report;
use crate::pg::attempt::Caught;
use pgrx::PgSqlErrorCode;
use spock_core::exceptions::{error_text, quoted};
use spock_core::park::content::{self, Reader};
use spock_core::types::RelId;
use spock_core::wire::Message;
use spock_core::wire::row::{OldTuple, Tuple};

/// Takes a parked transaction away and writes its changes down. 42704 when it is not there.
pub fn give_up(id: i64) -> Result<(), Report> {
    let Some(facts) = parked::facts_locked(id)? else {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("parked transaction {id} does not exist"),
        )
        .hint("spock.parked() lists those that do."));
    };
    let mut log = Log { facts: &facts, reason: reason(&facts), relations: RelMap::default(), number: 0 };
    let mut reader = Reader::default();
    let mut part = 0;
    let readable = facts.format == content::FORMAT.number().cast_signed();
    while readable && let Some(bytes) = parked::part(id, part)? {
        reader.load(&bytes);
        while let Some(message) = reader.next_message() {
            match content::read(message) {
                Ok(message) => log.message(&message)?,
                Err(_) => log.write(&Entry::default())?,
            }
        }
        part += 1;
    }
    if log.number == 0 {
        log.write(&Entry::default())?;
    }
    parked::delete(id)?;
    Ok(())
}

fn reason(facts: &Facts) -> String {
    let cause = &facts.cause;
    let mut code = *b"XX000";
    if let Some(known) = cause.sqlstate.as_ref().filter(|known| known.len() == code.len()) {
        code.copy_from_slice(known.as_bytes());
    }
    format!("parked transaction {} was discarded: {}", facts.id, error_text(code, &cause.message))
}

/// Values that cannot be read are left out; what may pass by itself, as a cancel, is raised on.
fn readable(tuple: Result<Option<String>, Caught>) -> Option<String> {
    match tuple {
        Ok(tuple) => tuple,
        Err(caught) if may_pass(caught.report.code) => caught.report.raise(),
        Err(_) => None,
    }
}

struct Log<'a> {
    facts: &'a Facts,
    reason: String,
    relations: RelMap,
    number: u32,
}

impl Log<'_> {
    fn write(&mut self, entry: &Entry<'_>) -> Result<(), Report> {
        self.number = self.number.saturating_add(1);
        let transaction: RemoteTransaction = self.facts.transaction;
        insert(&transaction, &Entry { counter: self.number, message: &self.reason, ..entry.clone() })
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), Report> {
        match message {
            Message::Relation(relation) => self.relations.describe(relation.id, RemoteRelation::new(relation)),
            Message::Insert(insert) => {
                self.row("INSERT", insert.relation, None, Some(&insert.new))?;
                if self.relations.remote(insert.relation)?.is_queue() {
                    return self.command(insert.relation, &insert.new);
                }
            }
            Message::Update(update) => {
                let old = update.old.as_ref().map(OldTuple::as_tuple);
                self.row("UPDATE", update.relation, old, Some(&update.new))?;
            }
            Message::Delete(delete) => self.row("DELETE", delete.relation, Some(delete.old.as_tuple()), None)?,
            Message::Truncate(command) => {
                for id in command.relations() {
                    let (schema, table) = self.relations.remote(id)?.names();
                    self.write(&Entry { operation: "TRUNCATE", table: Some((&schema, &table)), ..Entry::default() })?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn row(
        &mut self,
        operation: &'static str,
        id: RelId,
        old: Option<&Tuple<'_>>,
        new: Option<&Tuple<'_>>,
    ) -> Result<(), Report> {
        let remote = self.relations.remote(id)?;
        let (schema, table) = remote.names();
        let entry = Entry { operation, table: Some((&schema, &table)), ..Entry::default() };
        // A queued command is written as what it is, and not with all of its text.
        if remote.is_queue() {
            return self.write(&entry);
        }
        let old = readable(exception_log::tuple(&mut self.relations, id, old));
        let new = readable(exception_log::tuple(&mut self.relations, id, new));
        self.write(&Entry { old: old.as_deref(), new: new.as_deref(), ..entry })
    }

    fn command(&mut self, id: RelId, row: &Tuple<'_>) -> Result<(), Report> {
        let (_table, mapping, remote) = self.relations.look(id)?;
        let command = Command::read(row, remote, mapping)?;
        let text = command.statement()?.map(|queued| quoted(&queued.shown().text));
        let statement = text.as_deref().or(Some(command.message()));
        self.write(&Entry { operation: "DDL", statement, user: command.role(), ..Entry::default() })
    }
}
