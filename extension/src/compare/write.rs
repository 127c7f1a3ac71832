//! One row of another node's version, written here: `spock.apply_version`. A connection of `repair` to this node calls it.
//!
//! # Invariants
//! 1. A row is replaced or deleted only as long as it is the version that was compared.
//! 2. Whoever calls may write the table; code of its owner (index expressions, checks, defaults) runs as the owner.
//! 3. All rows of a transaction have one time and origin, and it is not sent on as a change of this node.
//! 4. What a session writes afterwards is later than that time, as after a change that was applied.

use super::plan::writable;
use super::side::settings;
use crate::apply::clock;
use crate::catalog::query::{execute_as_is, select_as_is};
use crate::catalog::relations::Relation;
use crate::error::Report;
use crate::pg::authority::{fires_replica_triggers, require_administrator};
use crate::pg::function::{Answer, Call, Value};
use crate::pg::origin::{self, origin_name_of_repairs};
use crate::pg::relation::{LockMode, Table};
use crate::pg::session::OwnerScope;
use pgrx::PgSqlErrorCode;
use spock_core::types::{NodeId, PgTime};
use std::ffi::CString;

fn invalid(what: &str) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, what)
}

/// 42501 unless the caller may write rows of the table; 0A000 for tables of the server and of ours.
pub fn check_writer(table: &Relation) -> Result<(), Report> {
    if table.is_system() || table.schema == "spock" {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("table \"{}\" is not a table of users", table.qualified()),
        ));
    }
    let rows = select_as_is(&format!(
        "SELECT pg_catalog.bool_and(pg_catalog.has_table_privilege({}::pg_catalog.oid, p))::pg_catalog.text
           FROM pg_catalog.unnest('{{SELECT,INSERT,UPDATE,DELETE}}'::pg_catalog.text[]) p",
        table.oid
    ))?;
    if rows.first().is_some_and(|row| row[0].as_deref() == Some("true")) {
        return Ok(());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("permission denied to repair table \"{}\"", table.qualified()),
    )
    .hint("It takes SELECT, INSERT, UPDATE and DELETE on the table."))
}

/// Arguments behind the relation.
struct Order {
    change: String,
    columns: Vec<String>,
    values: Vec<Option<String>>,
    key: Vec<String>,
    xmin: Option<u32>,
    time: PgTime,
    origin: NodeId,
}

fn order(call: &Call) -> Result<Order, Report> {
    let columns: Option<Vec<String>> = call.texts(2).unwrap_or_default().into_iter().collect();
    let key: Option<Vec<String>> = call.texts(4).unwrap_or_default().into_iter().collect();
    Ok(Order {
        change: call.text(1).ok_or_else(|| invalid("the change must not be null"))?,
        columns: columns.ok_or_else(|| invalid("a column name must not be null"))?,
        values: call.texts(3).unwrap_or_default(),
        key: key.ok_or_else(|| invalid("a value of the key must not be null"))?,
        xmin: call.xid(5),
        time: call.time(6).ok_or_else(|| invalid("the version's time must not be null"))?,
        origin: call
            .oid(7)
            .and_then(NodeId::new)
            .filter(|node| node.get() <= u32::from(u16::MAX))
            .ok_or_else(|| invalid("the version's origin must be the id of a node"))?,
    })
}

/// `apply_version(relation, change, columns, row_values, key_values, expected, version_time, version_origin)`: whether the
/// row was written; it is not when it changed meanwhile.
pub fn apply_version(call: &Call) -> Result<Answer, Report> {
    require_administrator("write versions of other nodes")?;
    let relation = call.oid(0).ok_or_else(|| invalid("the table must not be null"))?;
    let order = order(call)?;
    let (table, shape) = writable(relation, &order.columns)?;
    check_writer(&table)?;
    if !fires_replica_triggers() {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "versions of other nodes are written with \"session_replication_role\" set to replica",
        )
        .hint("This is for spock.repair, which sets it."));
    }
    let values: Option<Vec<Option<String>>> = shape
        .columns
        .iter()
        .map(|column| {
            let place = order.columns.iter().position(|name| *name == column.name)?;
            order.values.get(place).cloned()
        })
        .collect();
    let statement = match (order.change.as_str(), order.xmin, values) {
        ("insert", None, Some(values)) => shape.insert(&values),
        ("update", Some(xmin), Some(values)) if order.key.len() == shape.key.len() => {
            shape.update(&order.key, xmin, &values)
        }
        ("delete", Some(xmin), _) if order.key.len() == shape.key.len() => shape.delete(&order.key, xmin),
        _ => return Err(invalid("the arguments do not describe a change of one row")),
    };
    let written = write(&table, &order, &statement)?;
    Ok(Answer::One(Value::Bool(written)))
}

fn write(table: &Relation, order: &Order, statement: &str) -> Result<bool, Report> {
    let number = origin::by_name(&origin_name_of_repairs()).ok_or_else(|| {
        Report::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "no repair is under way")
            .hint("This is for spock.repair.")
    })?;
    let c = |text: &str| CString::new(text).unwrap_or_default();
    let opened = Table::open_by_name(&c(&table.schema), &c(&table.name), LockMode::RowExclusive);
    let Some(opened) = opened.filter(|opened| opened.id().get() == table.oid) else {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            format!("table \"{}\" was dropped", table.qualified()),
        ));
    };
    if !origin::stamp_transaction(number, order.origin.wire(), order.time.micros()) {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the transaction already has another time and origin",
        ));
    }
    let scope = settings();
    // A policy that hides the row from its owner must not pass for a row that has changed.
    scope.set(c"row_security", "off");
    let owner = OwnerScope::enter(&opened);
    let written = execute_as_is(statement)?;
    drop(owner);
    drop(scope);
    if written > 0 {
        clock::before_commit(order.time);
    }
    Ok(written > 0)
}
