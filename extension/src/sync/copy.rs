//! One table: the provider's `COPY … TO STDOUT` becomes the server's own COPY FROM in this process.
//!
//! # Invariants
//! 1. Rows, and the state that says that they are here, are one transaction ([`copy_with_state`]). It carries the provider's
//!    node id and a commit time in 1970: any other version of a row is later. Rows that something on its way could be older than
//!    are written in parts of it, with their own versions ([`super::unsettled`]).
//! 2. In a table that has rows, those whose last version is known to have come from the provider are replaced by what is copied, or go if the
//!    provider has them no more; rows that anybody else wrote last stay as they are.
//! 3. Every column that the provider sends is copied, or nothing is: a column that is missing here is an error that names it.

use super::displaced;
use super::provider::{RemoteColumn, RemoteTable, SnapshotSession, failed};
use super::unsettled::{Cut, Rows, VERSION_COLUMNS, filtered_rows, take_over_removed, write_rows};
use crate::apply::clock;
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
use spock_core::settled::Unsettled;
use spock_core::sync::TableName;
use spock_core::types::{NodeId, PgTime, TypeOid};
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
    /// What keeps its version.
    pub unsettled: Unsettled,
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
    let (rows, latest) = copy_table(source, &mut session, way);
    // What was written must not be seen as older than itself by what `settle` reads.
    next_command();
    let settled = settle();
    if settled {
        if let Some(latest) = latest {
            clock::before_commit(latest);
        }
        session::force_sync_commit();
        txn.commit();
    } else {
        drop(txn);
    }
    origin::clear_stamp();
    settled.then_some(rows)
}

/// Number of rows, and a time that none of their versions is later than.
fn copy_table(source: &Source<'_>, session: &mut SnapshotSession, way: Option<Way>) -> (u64, Option<PgTime>) {
    let Source { subscription, remote, .. } = source;
    let columns = session.columns(remote, &subscription.replication_sets).or_raise();
    let table = open(&remote.name).or_raise();
    let matched = matching(&table, remote, &columns).or_raise();
    let types: Vec<(TypeOid, TypeOid)> = matched.iter().map(|column| column.types).collect();
    let versions = (session.server_version_num(), server::pg_version_num());
    let format = choose_format(versions, &types, &server::encoding_name(), subscription.force_text);
    let cut = Cut::of(session, remote, &subscription.replication_sets, source.unsettled).or_raise();
    let plain: Vec<String> = matched.iter().map(|column| column.name.clone()).collect();
    let quoted: Vec<String> = matched.iter().map(|column| identifiers::quote(&column.name)).collect();
    let what = what_is_copied(remote, &quoted, &subscription.replication_sets, cut.as_ref());
    let names: Vec<CString> = matched.into_iter().map(|column| column.local).collect();
    let way = way.unwrap_or_else(|| if is_empty(&remote.name).or_raise() { Way::Direct } else { Way::Merge });
    if way == Way::Merge {
        identity(&table, &remote.name).or_raise();
    }
    let staging = (way == Way::Merge).then(|| stage(&remote.name, STAGING, &quoted, &[]).or_raise());
    let mut rows = receive(session, remote, &what, (staging.as_ref().unwrap_or(&table), &names, format));
    let late = cut.map(|cut| {
        let late = stage(&remote.name, LATE, &quoted, &VERSION_COLUMNS).or_raise();
        let mut names = names.clone();
        names.extend(VERSION_COLUMNS.map(|name| CString::new(name.trim_matches('"')).unwrap_or_default()));
        rows += receive(session, remote, &cut.late_rows(&quoted), (&late, &names, format));
    });
    drop(staging);
    next_command();
    if way == Way::Merge {
        merge(&table, remote, &quoted, subscription.origin.id, late.is_some()).or_raise();
    }
    let mut latest = session.latest_time().or_raise();
    if late.is_some() {
        let key = (way == Way::Merge).then(|| identity(&table, &remote.name).or_raise());
        let on_conflict = |time: &str| {
            let older = format!("COALESCE(pg_catalog.pg_xact_commit_timestamp(t.xmin) < {time}, true)");
            let replaced = format!("({} OR {older})", written_by(subscription.origin.id));
            key.as_ref().map_or_else(String::new, |key| on_conflict(key, &quoted, &replaced))
        };
        let (from, name) = (format!("pg_temp.{LATE}"), &remote.name);
        let late = Rows { from: &from, into: &table, name, columns: &quoted, on_conflict: &on_conflict };
        latest = latest.max(write_rows(subscription, &late).or_raise());
    }
    let tables = match remote.partitioned {
        true => session.partitions(remote, &subscription.replication_sets, true).or_raise(),
        false => vec![remote.name.clone()],
    };
    displaced::take_over(session, remote, &tables, &plain, (way == Way::Direct, source.unsettled)).or_raise();
    take_over_removed(subscription, session, &tables, source.unsettled).or_raise();
    (rows, latest)
}

/// Runs the provider's COPY of `what` into columns of a table.
fn receive(
    session: &mut SnapshotSession,
    remote: &RemoteTable,
    what: &str,
    (into, names, format): (&Table, &[CString], CopyFormat),
) -> u64 {
    let word = match format {
        CopyFormat::Text => "text",
        CopyFormat::Binary => "binary",
    };
    let copy = session
        .copy_out(&format!("COPY {what} TO STDOUT WITH (FORMAT {word})"))
        .map_err(|error| failed(&format!("copy table {} from the provider", remote.name), error))
        .or_raise();
    copy_in(into, names, format, copy)
}

/// Whether the provider is known to have written the row `t` last.
fn written_by(provider: NodeId) -> String {
    format!(
        "(SELECT o.roident FROM pg_catalog.pg_xact_commit_timestamp_origin(t.xmin) o) OPERATOR(pg_catalog.=) {}::oid",
        provider.get()
    )
}

/// What becomes of a row that is here already: replaced if `replaced`.
fn on_conflict(key: &[String], columns: &[String], replaced: &str) -> String {
    let key: Vec<String> = key.iter().map(|name| identifiers::quote(name)).collect();
    let changes: Vec<String> =
        columns.iter().filter(|name| !key.contains(name)).map(|name| format!("{name} = EXCLUDED.{name}")).collect();
    if changes.is_empty() {
        "ON CONFLICT DO NOTHING".to_owned()
    } else {
        format!("ON CONFLICT ({}) DO UPDATE SET {} WHERE {replaced}", key.join(", "), changes.join(", "))
    }
}

/// Brings the settled rows, which are in a temporary table, into `table`, as its owner; with `late`, others are in one, too.
fn merge(table: &Table, remote: &RemoteTable, columns: &[String], provider: NodeId, late: bool) -> Result<(), Report> {
    let key = identity(table, &remote.name)?;
    let same = key.iter().map(|name| identifiers::quote(name)).map(|name| format!("t.{name} = s.{name}"));
    let same = same.collect::<Vec<_>>().join(" AND ");
    let (target, list, theirs) = (remote.name.quoted(), columns.join(", "), written_by(provider));
    let absent = |from: &str| format!(" AND NOT EXISTS (SELECT FROM pg_temp.{from} s WHERE {same})");
    let absent = absent(STAGING) + &if late { absent(LATE) } else { String::new() };
    let _owner = OwnerScope::enter(table);
    execute_as_is(&format!("DELETE FROM {target} t WHERE {theirs}{absent}"))?;
    next_command();
    execute_as_is(&format!(
        "INSERT INTO {target} AS t ({list}) OVERRIDING SYSTEM VALUE SELECT {list} FROM pg_temp.{STAGING} {}",
        on_conflict(&key, columns, &theirs)
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
/// Name of that for rows with versions of their own.
const LATE: &str = "spock_late_rows";

fn is_empty(name: &TableName) -> Result<bool, Report> {
    let found = select_one(&format!("SELECT 1 FROM {} LIMIT 1", name.quoted()), &[], |_| Ok(()))?;
    Ok(found.is_none())
}

/// Makes a temporary table, which lives until the transaction ends, with `numbers` behind the columns.
fn stage(name: &TableName, called: &str, columns: &[String], numbers: &[&str]) -> Result<Table, Report> {
    let target = name.quoted();
    let numbers = numbers.iter().map(|name| format!("NULL::int8 AS {name}"));
    let list = columns.iter().cloned().chain(numbers).collect::<Vec<_>>().join(", ");
    // Only what is copied: a column that is only here may have to have a value.
    execute(
        &format!("CREATE TEMPORARY TABLE {called} ON COMMIT DROP AS SELECT {list} FROM {target} WITH NO DATA"),
        &[],
    )?;
    execute(&format!("GRANT SELECT ON pg_temp.{called} TO PUBLIC"), &[])?;
    next_command();
    let staging = CString::new(called).unwrap_or_default();
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

/// The table of that name, to be written, if it is here and holds rows itself.
pub fn open_if_here(name: &TableName) -> Option<Table> {
    open(name).ok().filter(|table| table.kind() == Kind::Table)
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

/// What the provider's COPY takes; with `cut`, only the rows that are settled.
fn what_is_copied(remote: &RemoteTable, columns: &[String], sets: &[String], cut: Option<&Cut>) -> String {
    let (table, list) = (remote.name.quoted(), columns.join(", "));
    if let Some(cut) = cut {
        cut.settled_rows(columns)
    } else if remote.filtered {
        format!("(SELECT {list} FROM {})", filtered_rows(&table, sets))
    } else if remote.partitioned {
        format!("(SELECT {list} FROM {table})")
    } else if list.is_empty() {
        table
    } else {
        format!("{table} ({list})")
    }
}
