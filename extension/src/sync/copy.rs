//! One table: the provider's `COPY … TO STDOUT` becomes the server's own COPY FROM in this process.
//!
//! # Invariants
//! 1. Rows, and the state that says that they are here, are one transaction ([`copy_with_state`]). It carries the provider's
//!    node id and a commit time in 1970: any other version of a row is later.
//! 2. In a table that has rows, those whose last version is known to have come from the provider are replaced by what is copied, or go if the
//!    provider has them no more; rows that anybody else wrote last stay as they are.
//! 3. Every column that the provider sends is copied, or nothing is: a column that is missing here is an error that names it.

use super::provider::{RemoteColumn, RemoteTable, SnapshotSession, array_literal, failed};
use crate::catalog::query::{execute, execute_as_is, select_one};
use crate::catalog::relations;
use crate::catalog::topology::Subscription;
use crate::error::{OrRaise, Report};
use crate::pg::attempt::attempt;
use crate::pg::copy::copy_in;
use crate::pg::heap::next_command;
use crate::pg::partition::partitions_exclusive;
use crate::pg::relation::{Kind, LockMode, Table};
use crate::pg::scope::Txn;
use crate::pg::session::OwnerScope;
use crate::pg::{origin, server, session};
use pgrx::PgSqlErrorCode;
use spock_core::copy::{CopyFormat, choose_format};
use spock_core::options::identifiers;
use spock_core::sync::TableName;
use spock_core::types::{NodeId, TypeOid};
use std::ffi::CString;

/// 1970-01-01 in microseconds since 2000: the commit time of copied rows, so that any later change wins.
pub const COPIED_AT_US: i64 = -946_684_800_000_000;

/// How rows get into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Straight into it: it is empty.
    Direct,
    /// Through a temporary table.
    Merge,
}

/// A table of the provider, and how to get at its rows.
pub struct Source<'s> {
    /// Whose table.
    pub subscription: &'s Subscription,
    /// Which.
    pub remote: RemoteTable,
    /// Opens another session that sees the same snapshot.
    pub reopen: &'s dyn Fn() -> Result<SnapshotSession, Report>,
}

/// Copies the table in one transaction with what `settle` writes. `None`: `settle` answered no, and nothing was copied.
/// Otherwise the number of rows that came. Raises what goes wrong; nothing is here then. Outside a transaction; `origin` is
/// this process's own.
pub fn copy_with_state(
    source: &Source<'_>,
    session: SnapshotSession,
    origin: &origin::Session,
    settle: impl Fn() -> bool,
) -> Option<u64> {
    let first = attempt(|| in_transaction(source, session, origin, None, &settle));
    match first {
        Ok(rows) => rows,
        // Somebody wrote the same row while an empty table was being filled.
        Err(caught) if caught.report.code == PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION => {
            let session = (source.reopen)().or_raise();
            in_transaction(source, session, origin, Some(Way::Merge), &settle)
        }
        Err(caught) => caught.report.raise(),
    }
}

fn in_transaction(
    source: &Source<'_>,
    mut session: SnapshotSession,
    origin: &origin::Session,
    way: Option<Way>,
    settle: &impl Fn() -> bool,
) -> Option<u64> {
    session::statement_starts();
    let txn = Txn::begin();
    origin.stamp(source.subscription.origin.id.wire(), COPIED_AT_US);
    let rows = copy_table(source, &mut session, way);
    // What was written must not be seen as older than itself by what `settle` reads.
    next_command();
    let settled = settle();
    if settled {
        session::force_sync_commit();
        txn.commit();
    } else {
        drop(txn);
    }
    origin::clear_stamp();
    settled.then_some(rows)
}

fn copy_table(source: &Source<'_>, session: &mut SnapshotSession, way: Option<Way>) -> u64 {
    let Source { subscription, remote, .. } = source;
    let columns = session.columns(remote, &subscription.replication_sets).or_raise();
    let table = open(&remote.name).or_raise();
    let matched = matching(&table, remote, &columns).or_raise();
    let types: Vec<(TypeOid, TypeOid)> = matched.iter().map(|column| column.types).collect();
    let versions = (session.server_version_num(), server::pg_version_num());
    let format = choose_format(versions, &types, &server::encoding_name(), subscription.force_text);
    let command = copy_command(remote, &matched, &subscription.replication_sets, format);
    let quoted: Vec<String> = matched.iter().map(|column| identifiers::quote(&column.name)).collect();
    let names: Vec<CString> = matched.into_iter().map(|column| column.local).collect();
    let way = way.unwrap_or_else(|| if is_empty(&remote.name).or_raise() { Way::Direct } else { Way::Merge });
    if way == Way::Merge {
        identity(&table, &remote.name).or_raise();
    }
    let staging = (way == Way::Merge).then(|| stage(&remote.name, &quoted).or_raise());
    let copy = session
        .copy_out(&command)
        .map_err(|error| failed(&format!("copy table {} from the provider", remote.name), error))
        .or_raise();
    let rows = copy_in(staging.as_ref().unwrap_or(&table), &names, format, copy);
    if staging.is_some() {
        drop(staging);
        next_command();
        merge(&table, remote, &quoted, subscription.origin.id).or_raise();
    }
    rows
}

/// Brings the rows of the temporary table into `table`, as its owner.
fn merge(table: &Table, remote: &RemoteTable, columns: &[String], provider: NodeId) -> Result<(), Report> {
    let key: Vec<String> = identity(table, &remote.name)?.iter().map(|name| identifiers::quote(name)).collect();
    let target = remote.name.quoted();
    let list = columns.join(", ");
    let same = key.iter().map(|name| format!("t.{name} = s.{name}")).collect::<Vec<_>>().join(" AND ");
    let theirs = format!(
        "(SELECT o.roident FROM pg_catalog.pg_xact_commit_timestamp_origin(t.xmin) o) OPERATOR(pg_catalog.=) {}::oid",
        provider.get()
    );
    let changes: Vec<String> =
        columns.iter().filter(|name| !key.contains(name)).map(|name| format!("{name} = EXCLUDED.{name}")).collect();
    let on_conflict = if changes.is_empty() {
        "DO NOTHING".to_owned()
    } else {
        format!("({}) DO UPDATE SET {} WHERE {theirs}", key.join(", "), changes.join(", "))
    };
    let _owner = OwnerScope::enter(table);
    execute_as_is(&format!(
        "DELETE FROM {target} t WHERE {theirs} AND NOT EXISTS (SELECT FROM pg_temp.{STAGING} s WHERE {same})"
    ))?;
    next_command();
    execute_as_is(&format!(
        "INSERT INTO {target} AS t ({list}) OVERRIDING SYSTEM VALUE SELECT {list} FROM pg_temp.{STAGING} ON CONFLICT {on_conflict}"
    ))?;
    Ok(())
}

/// Columns that identify rows of a table which has some.
fn identity(table: &Table, name: &TableName) -> Result<Vec<String>, Report> {
    relations::relation(table.id().get())?.and_then(|relation| relation.identity).ok_or_else(|| {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "table {name} already has rows on this node, and no key tells which of the provider's are among them"
            ),
        )
        .hint("Use spock.sub_resync_table with truncate, or empty the table first.")
    })
}

/// Name of the temporary table through which rows are merged.
const STAGING: &str = "spock_copied_rows";

fn is_empty(name: &TableName) -> Result<bool, Report> {
    let found = select_one(&format!("SELECT 1 FROM {} LIMIT 1", name.quoted()), &[], |_| Ok(()))?;
    Ok(found.is_none())
}

/// Makes the temporary table, which lives until the transaction ends.
fn stage(name: &TableName, columns: &[String]) -> Result<Table, Report> {
    let (target, list) = (name.quoted(), columns.join(", "));
    // Only what is copied: a column that is only here may have to have a value.
    execute(
        &format!("CREATE TEMPORARY TABLE {STAGING} ON COMMIT DROP AS SELECT {list} FROM {target} WITH NO DATA"),
        &[],
    )?;
    execute(&format!("GRANT SELECT ON pg_temp.{STAGING} TO PUBLIC"), &[])?;
    next_command();
    let staging = CString::new(STAGING).unwrap_or_default();
    Table::open_by_name(c"pg_temp", &staging, LockMode::RowExclusive).ok_or_else(|| {
        Report::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "the temporary table for copied rows is not there")
    })
}

/// Opens tables to empty them, with the partitions below them. Those that are not here need no emptying.
pub fn open_to_empty<'n>(names: impl IntoIterator<Item = &'n TableName>) -> Vec<Table> {
    let mut tables: Vec<Table> = names.into_iter().filter_map(open_exclusive).collect();
    let partitioned = tables.iter().filter(|table| table.kind() == Kind::Partitioned);
    let below: Vec<_> = partitioned.flat_map(partitions_exclusive).collect();
    for leaf in below {
        if !tables.iter().any(|table| table.id() == leaf) {
            tables.extend(Table::try_open(leaf, LockMode::AccessExclusive));
        }
    }
    tables
}

fn open_exclusive(name: &TableName) -> Option<Table> {
    let c = |text: &str| CString::new(text).ok();
    Table::open_by_name(&c(&name.schema)?, &c(&name.table)?, LockMode::AccessExclusive)
        .filter(|table| table.kind() != Kind::Other)
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
