//! The log of remote changes that could not be applied. Tools of the C edition read it, so the columns keep their meaning.
//!
//! # Invariants
//! 1. A row is part of the transaction that moves the position past what was left out, or that disables the subscription.

use spock_core::sync::TableName;
use spock_core::types::{Lsn, NodeId, PgTime};

use crate::catalog::query::execute;
use crate::catalog::topology::{Subscription, lsn_text, oid};
use crate::error::Report;

/// The remote transaction that a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteTransaction {
    /// Node where it was made.
    pub origin: NodeId,
    /// Its commit time there.
    pub commit_ts: PgTime,
    /// Its number on the provider; 0: not known.
    pub xid: u32,
}

/// One row. Texts hold no secrets; the tuples are as secret as the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Number of the action in its transaction.
    pub counter: u32,
    /// Origin and commit time of the row that was found here; 0 and 2000-01-01 if not known.
    pub local: Option<(u32, PgTime)>,
    /// Schema and table, as the provider names them.
    pub table: Option<(&'a str, &'a str)>,
    /// What was to be done.
    pub operation: &'static str,
    /// The row that was found here.
    pub local_tup: Option<&'a str>,
    /// The old row, as far as it was sent.
    pub old: Option<&'a str>,
    /// The new row.
    pub new: Option<&'a str>,
    /// The queued command.
    pub statement: Option<&'a str>,
    /// Role that is to run it.
    pub user: Option<&'a str>,
    /// Why it was left out.
    pub message: &'a str,
}

/// Writes one row.
pub fn insert(transaction: &RemoteTransaction, entry: &Entry<'_>) -> Result<(), Report> {
    let (schema, table) = entry.table.unzip();
    let (local_origin, local_ts) = entry.local.unzip();
    execute(
        "INSERT INTO spock.exception_log (remote_origin, remote_commit_ts, command_counter, retry_errored_at, remote_xid,
             local_origin, local_commit_ts, table_schema, table_name, operation,
             local_tup, remote_old_tup, remote_new_tup, ddl_statement, ddl_user, error_message)
         VALUES ($1::oid, 'epoch'::timestamptz + ($2 + 946684800000000) * '1 microsecond'::interval, $3,
             pg_catalog.clock_timestamp(), $4,
             $5::oid, 'epoch'::timestamptz + ($6 + 946684800000000) * '1 microsecond'::interval, $7, $8, $9,
             $10::jsonb, $11::jsonb, $12::jsonb, $13, $14, $15)",
        &[
            oid(transaction.origin.get()),
            transaction.commit_ts.micros().into(),
            i32::try_from(entry.counter).unwrap_or(i32::MAX).into(),
            i64::from(transaction.xid).into(),
            local_origin.map(i64::from).into(),
            local_ts.map(PgTime::micros).into(),
            schema.into(),
            table.into(),
            entry.operation.into(),
            entry.local_tup.into(),
            entry.old.into(),
            entry.new.into(),
            entry.statement.into(),
            entry.user.into(),
            entry.message.into(),
        ],
    )?;
    Ok(())
}

/// Records that a subscription is disabled because `transaction` cannot be applied. `skip_lsn` is what
/// `spock.sub_alter_skiplsn` takes to leave it out; tools read it from the message as `skip_lsn = X/X`. `counter`: after
/// the actions that are recorded with it.
pub fn record_disable(
    transaction: &RemoteTransaction,
    counter: u32,
    skip_lsn: Option<Lsn>,
    message: &str,
) -> Result<(), Report> {
    let message = format!("{message} (skip_lsn = {})", lsn_text(skip_lsn));
    let entry =
        Entry { counter, table: Some(("", "")), operation: "SUB_DISABLE", message: &message, ..Entry::default() };
    insert(transaction, &entry)
}

/// Records that a table could not be copied; operation `SYNC`.
pub fn record_table(subscription: &Subscription, table: &TableName, report: &Report) -> Result<(), Report> {
    let transaction = RemoteTransaction { origin: subscription.origin.id, commit_ts: PgTime::from_micros(0), xid: 0 };
    // The detail can hold values of rows.
    let entry = Entry {
        table: Some((&table.schema, &table.table)),
        operation: "SYNC",
        message: &report.message,
        ..Entry::default()
    };
    insert(&transaction, &entry)
}
