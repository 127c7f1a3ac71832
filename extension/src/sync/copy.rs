//! One table: the provider's `COPY … TO STDOUT` becomes the server's own COPY FROM in this process.
//!
//! # Invariants
//! 1. Rows are part of the caller's transaction, which the caller has stamped ([`stamp`]) and commits together with the state
//!    that says that they are here.
//! 2. Every column that the provider sends is copied, or nothing is: a column that is missing here is an error that names it.

use super::provider::{RemoteColumn, RemoteTable, SnapshotSession, array_literal, failed};
use crate::catalog::topology::Subscription;
use crate::error::{OrRaise, Report};
use crate::pg::copy::copy_in;
use crate::pg::origin;
use crate::pg::relation::{Kind, LockMode, Table};
use crate::pg::server;
use pgrx::PgSqlErrorCode;
use spock_core::copy::{CopyFormat, choose_format};
use spock_core::options::identifiers;
use spock_core::sync::TableName;
use spock_core::types::TypeOid;
use std::ffi::CString;

/// 1970-01-01 in microseconds since 2000: the commit time of copied rows, so that any later change wins.
const COPIED_AT_US: i64 = -946_684_800_000_000;

/// Rows that the open transaction writes come from the provider, as old as can be. The session has the subscription's origin
/// (`origin::Session`); undo it with `origin::clear_stamp` after the commit.
pub fn stamp(session: &origin::Session, subscription: &Subscription) {
    session.stamp(subscription.origin.id.wire(), COPIED_AT_US);
}

/// Copies one table of the subscribed sets under `snapshot`, on a connection of its own. Inside an open transaction that is
/// stamped. Raises what goes wrong: nothing of the table is here then.
pub fn one_table(subscription: &Subscription, table: &TableName, snapshot: &str) {
    let mut session = SnapshotSession::open(subscription, "copy", snapshot).or_raise();
    let remote = session.table(table, &subscription.replication_sets).or_raise();
    copy_table(subscription, &mut session, &remote);
}

/// Copies `remote` through `session`, inside an open transaction that is stamped. Returns the number of rows. Raises what
/// goes wrong; the session is good for nothing then.
pub fn copy_table(subscription: &Subscription, session: &mut SnapshotSession, remote: &RemoteTable) -> u64 {
    let columns = session.columns(remote, &subscription.replication_sets).or_raise();
    let table = open(&remote.name).or_raise();
    let matched = matching(&table, remote, &columns).or_raise();
    let types: Vec<(TypeOid, TypeOid)> = matched.iter().map(|column| column.types).collect();
    let versions = (session.server_version_num(), server::pg_version_num());
    let format = choose_format(versions, &types, &server::encoding_name(), subscription.force_text);
    let command = copy_command(remote, &matched, &subscription.replication_sets, format);
    let names: Vec<CString> = matched.into_iter().map(|column| column.local).collect();
    let copy = session
        .copy_out(&command)
        .map_err(|error| failed(&format!("copy table {} from the provider", remote.name), error))
        .or_raise();
    copy_in(&table, &names, format, copy)
}

fn open(name: &TableName) -> Result<Table, Report> {
    let missing = || {
        Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, format!("table {name} does not exist on this node"))
            .hint("Create it here, or let the subscription copy the structure.")
    };
    let c = |text: &str| CString::new(text).map_err(|_| missing());
    let table = Table::open_by_name(&c(&name.schema)?, &c(&name.table)?, LockMode::RowExclusive).ok_or_else(missing)?;
    if table.kind() == Kind::Other {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("{name} is not a table on this node"),
        ));
    }
    Ok(table)
}

/// A column on both sides.
struct Matched {
    name: String,
    local: CString,
    types: (TypeOid, TypeOid),
}

/// The local columns that the provider sends, in local order. A column that is generated here is computed here, as in the
/// stream.
fn matching(table: &Table, remote: &RemoteTable, columns: &[RemoteColumn]) -> Result<Vec<Matched>, Report> {
    let here = table.columns();
    let missing: Vec<&str> = columns
        .iter()
        .map(|column| column.name.as_str())
        .filter(|name| !here.iter().any(|column| column.name.to_bytes() == name.as_bytes()))
        .collect();
    if !missing.is_empty() {
        let names = identifiers::join(&missing);
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            format!("table {} lacks columns on this node that the provider sends: {names}", remote.name),
        )
        .hint("Add them here, or leave them out with a column list of the replication set."));
    }
    Ok(here
        .into_iter()
        .filter(|column| !column.generated)
        .filter_map(|column| {
            let there = columns.iter().find(|there| there.name.as_bytes() == column.name.to_bytes())?;
            Some(Matched {
                name: there.name.clone(),
                types: (there.kind, TypeOid(column.type_oid)),
                local: column.name,
            })
        })
        .collect())
}

fn copy_command(remote: &RemoteTable, columns: &[Matched], sets: &[String], format: CopyFormat) -> String {
    let table = remote.name.quoted();
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let list = names.iter().map(|name| identifiers::quote(name)).collect::<Vec<_>>().join(", ");
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let what = if remote.filtered {
        format!(
            "(SELECT {list} FROM spock.table_data_filtered(NULL::{table}, {}::regclass, {}::text[]))",
            literal(&table),
            literal(&array_literal(sets))
        )
    } else if remote.partitioned {
        format!("(SELECT {list} FROM {table})")
    } else if list.is_empty() {
        table
    } else {
        format!("{table} ({list})")
    };
    let format = match format {
        CopyFormat::Text => "text",
        CopyFormat::Binary => "binary",
    };
    format!("COPY {what} TO STDOUT WITH (FORMAT {format})")
}
