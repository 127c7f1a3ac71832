//! Rows of `spock.queue` that arrive are messages: the row is written as any row, then its message is carried out.
//! Between `apply::transaction` and whoever knows what a type of message means.
//!
//! # Invariants
//! 1. A message is carried out in the transaction that brought it, with the worker's own rights, after its row was written: a
//!    node that forwards hands it on.
//! 2. A type that is not known stops the subscription; nothing is skipped.

use super::change_log::texts;
use super::relmap::{Mapping, RemoteRelation};
use crate::catalog::queue::{self, message_texts};
use crate::error::Report;
use crate::pg::error_context::StatementShown;
use crate::sequences;
use pgrx::PgSqlErrorCode;
use spock_core::redact::without_passwords;
use spock_core::sync::TableName;
use spock_core::wire::row::Tuple;

/// One message.
pub struct Command {
    /// `message_type`
    kind: String,
    /// `role`
    role: Option<String>,
    /// `message`, a JSON text.
    message: String,
}

/// SQL text to run.
pub struct QueuedStatement {
    /// One or more statements.
    pub text: String,
    /// As whom.
    pub role: String,
    /// It was captured, not given to `replicate_ddl`.
    pub automatic: bool,
}

impl QueuedStatement {
    /// As logs and records show it: without passwords.
    pub fn shown(&self) -> StatementShown {
        StatementShown { text: without_passwords(&self.text), role: self.role.clone() }
    }
}

impl Command {
    /// From a row of the queue.
    pub fn read(row: &Tuple<'_>, remote: &RemoteRelation, mapping: &mut Mapping) -> Result<Self, Report> {
        let mut columns = texts(row, remote, mapping, None)?;
        let mut take = |name: &str| {
            let at = columns.iter().position(|(column, _)| column == name)?;
            columns.swap_remove(at).1
        };
        let role = take("role");
        match (take("message_type"), take("message")) {
            (Some(kind), Some(message)) => Ok(Self { kind, role, message }),
            _ => Err(Report::new(
                PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION,
                "the provider sent a row of spock.queue without type or message",
            )),
        }
    }

    /// The message itself.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The role that queued it.
    pub fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    /// The table that a message of type `A` asks to copy. `None`: it is of another type.
    pub fn table_request(&self) -> Result<Option<TableName>, Report> {
        if self.kind != "A" {
            return Ok(None);
        }
        let [schema, table] = message_texts(&self.message, ["schema_name", "table_name"])?;
        Ok(Some(TableName { schema, table }))
    }

    /// The SQL text, when the message is one to run.
    pub fn statement(&self) -> Result<Option<QueuedStatement>, Report> {
        if !matches!(self.kind.as_str(), "Q" | "D") {
            return Ok(None);
        }
        match (queue::sql_text(&self.message)?, &self.role) {
            (Some(text), Some(role)) => {
                Ok(Some(QueuedStatement { text, role: role.clone(), automatic: self.kind == "D" }))
            }
            _ => Err(Report::new(
                PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION,
                "the provider sent a queued statement that is no string, or without a role",
            )),
        }
    }

    /// Carries out a message that is no SQL text.
    pub fn run(&self) -> Result<(), Report> {
        match self.kind.as_str() {
            "S" => sequences::apply_value(&self.message),
            other => Err(Report::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("the provider sent a queued command of type \"{other}\", which this version does not execute"),
            )
            .hint("Run the command on this node, then leave the transaction out with spock.sub_alter_skiplsn.")),
        }
    }
}
