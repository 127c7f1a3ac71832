//! Writes applied row changes to the server log, when `spock.apply_change_logging` asks for it.
//! Between `apply::transaction` (what was applied) and `spock_core::change_log` (the line).
//!
//! # Invariants
//! 1. Row values are written to the log only because a superuser asked for them.

use super::relmap::{Mapping, RemoteRelation};
use super::rows::decode_value;
use super::transaction::Change;
use crate::error::Report;
use crate::pg::raise::log_line;
use crate::pg::session::time_text;
use crate::settings::ChangeLogging;
use spock_core::change_log::{Columns, Line};
use spock_core::types::PgTime;
use spock_core::wire::row::{RowKind, Tuple};

/// Writes the line. `made`: name of the node where the change was made, if known, and its commit time there. Runs with the rights of the table's owner: output functions can be the owner's.
pub fn write(
    setting: ChangeLogging,
    applied: &Change<'_>,
    made: (Option<&str>, PgTime),
    remote: &RemoteRelation,
    mapping: &mut Mapping,
) -> Result<(), Report> {
    let keys: Vec<bool> = match &mapping.key {
        Some(key) => {
            mapping.columns.iter().map(|column| column.number.is_some_and(|n| key.columns.contains(&n))).collect()
        }
        None => remote.columns.iter().map(|column| column.in_key).collect(),
    };
    let keyed = applied.new.or(applied.old);
    let pk = keyed.map(|row| texts(row, remote, mapping, Some(&keys))).transpose()?;
    let verbose = setting == ChangeLogging::Verbose;
    let mut whole =
        |row: Option<&Tuple<'_>>| row.filter(|_| verbose).map(|row| texts(row, remote, mapping, None)).transpose();
    let (old, new) = (whole(applied.old)?, whole(applied.new)?);
    let action = match applied.kind {
        RowKind::Insert => "INSERT",
        RowKind::Update => "UPDATE",
        RowKind::Delete => "DELETE",
    };
    let (schema, table) = remote.names();
    let time = time_text(made.1);
    let line = Line {
        action,
        table: Some((&schema, &table)),
        origin: made.0,
        commit_ts: Some(&time),
        pk,
        old,
        new,
        sql: None,
    };
    log_line(line.text());
    Ok(())
}

/// Writes the line of a statement that is about to run. `shown` has no password in it.
pub fn write_statement(shown: &str, made: (Option<&str>, PgTime)) {
    let time = time_text(made.1);
    let line = Line { action: "DDL", origin: made.0, commit_ts: Some(&time), sql: Some(shown), ..Line::default() };
    log_line(line.text());
}

/// The columns of a row that were sent, or those of them that `only` names by place.
pub(super) fn texts(
    row: &Tuple<'_>,
    remote: &RemoteRelation,
    mapping: &mut Mapping,
    only: Option<&[bool]>,
) -> Result<Columns, Report> {
    let mut found = Columns::new();
    for (n, value) in row.columns().enumerate() {
        let name = &remote.subject.columns[n];
        let Some(column) = mapping.columns.get_mut(n) else { break };
        if only.is_some_and(|only| !only[n]) {
            continue;
        }
        if let Some(value) = decode_value(column, &value, &mapping.memory, name)? {
            found.push((name.clone(), column.decoder.output(value)));
        }
    }
    Ok(found)
}
