//! `delta_apply(rel, att_name, to_drop)`: makes a column one that counts, if that can be exact.

use super::required_name;
use crate::catalog::deltas::{self, Facts};
use crate::catalog::query::execute_as_is;
use crate::catalog::topology;
use crate::error::Report;
use crate::pg::function::{Answer, Call, Value};
use crate::pg::raise::{Level, log};
use crate::pg::server::features;
use crate::settings;
use pgrx::PgSqlErrorCode;

/// What says that a column counts.
const FUNCTION: &str = "spock.delta_apply";
/// Types of exact numbers.
const EXACT: [&str; 5] = ["smallint", "integer", "bigint", "numeric", "money"];
/// Types of numbers whose sum depends on the order.
const INEXACT: [&str; 2] = ["real", "double precision"];

/// `delta_apply(rel, att_name, to_drop)`. The table's owner may call it. False: nothing was changed, and a NOTICE says why.
pub fn delta_apply(call: &Call) -> Result<Answer, Report> {
    let relation = call.oid(0).unwrap_or_default();
    let column = required_name(call, 1, "column name")?;
    let facts = deltas::facts(relation, &column)?.ok_or_else(|| {
        Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, format!("relation with OID {relation} does not exist"))
    })?;
    if !facts.owned {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("must be owner of table {}", facts.table),
        ));
    }
    if facts.column_type.is_none() {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            format!("column \"{column}\" of relation {} does not exist", facts.table),
        ));
    }
    let changed = if call.boolean(2).unwrap_or(false) { drop(&facts)? } else { set(&facts, &column)? };
    Ok(Answer::One(Value::Bool(changed)))
}

fn set(facts: &Facts, column: &str) -> Result<bool, Report> {
    check_table(facts)?;
    check_type(facts, column)?;
    if facts.in_key {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("column \"{column}\" of {} cannot count, because it is part of the key", facts.table),
        )
        .detail("The key says which row is meant, so it cannot differ between nodes."));
    }
    if !facts.not_null {
        let report = Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("column \"{column}\" of {} does not count, because it can be NULL", facts.table),
        )
        .hint(format!("First run: ALTER TABLE {} ALTER COLUMN {} SET NOT NULL", facts.table, facts.column));
        log(Level::Notice, &report);
        return Ok(false);
    }
    check_old_values(facts, column)?;
    warn_if_it_stays_here()?;
    let (table, name) = (&facts.table, &facts.column);
    if features().old_values_in_wal {
        execute_as_is(&format!(
            "ALTER TABLE {table} ALTER COLUMN {name} SET (log_old_value = true, delta_apply_function = '{FUNCTION}')"
        ))?;
    } else {
        execute_as_is(&format!("SECURITY LABEL FOR spock ON COLUMN {table}.{name} IS '{FUNCTION}'"))?;
    }
    Ok(true)
}

fn drop(facts: &Facts) -> Result<bool, Report> {
    let (table, name) = (&facts.table, &facts.column);
    if !facts.option && !facts.label {
        let report = Report::new(
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("column {name} of {table} does not count, nothing to be done"),
        );
        log(Level::Notice, &report);
        return Ok(false);
    }
    warn_if_it_stays_here()?;
    if facts.option {
        execute_as_is(&format!("ALTER TABLE {table} ALTER COLUMN {name} RESET (log_old_value, delta_apply_function)"))?;
    }
    if facts.label {
        execute_as_is(&format!("SECURITY LABEL FOR spock ON COLUMN {table}.{name} IS NULL"))?;
    }
    Ok(true)
}

fn check_table(facts: &Facts) -> Result<(), Report> {
    let table = &facts.table;
    if facts.kind != "r" {
        let report = Report::new(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("columns of {table} cannot count, because it is not an ordinary table"),
        );
        return Err(if facts.kind == "p" { report.hint("Call it for each partition.") } else { report });
    }
    if !facts.has_key || facts.identity == "n" {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("columns of {table} cannot count, because it has no primary key, or REPLICA IDENTITY NOTHING"),
        )
        .detail("Additions of several nodes meet in a row that the key finds.")
        .hint("Add a primary key."));
    }
    Ok(())
}

fn check_type(facts: &Facts, column: &str) -> Result<(), Report> {
    let kind = facts.column_type.as_deref().unwrap_or_default();
    if EXACT.contains(&kind) && !facts.generated {
        return Ok(());
    }
    let what = if facts.generated { "is generated" } else { "has a type that cannot be added exactly" };
    let report = Report::new(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("column \"{column}\" of {} cannot count, because it {what}", facts.table),
    );
    Err(if facts.generated {
        report
    } else if INEXACT.contains(&kind) {
        report
            .detail(format!(
                "The sum of values of type {kind} depends on their order, so nodes would end with different values."
            ))
            .hint(format!("Use numeric: ALTER TABLE {} ALTER COLUMN {} TYPE numeric", facts.table, facts.column))
    } else {
        report.hint("Columns of type smallint, integer, bigint, numeric and money can count, not those of a domain.")
    })
}

/// WAL must have the value before each UPDATE.
fn check_old_values(facts: &Facts, column: &str) -> Result<(), Report> {
    if features().old_values_in_wal || facts.identity == "f" || facts.in_identity {
        return Ok(());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("column \"{column}\" of {} cannot count, because its old values are not in the WAL", facts.table),
    )
    .detail("This server is not patched to log old values of single columns.")
    .hint(format!("First run: ALTER TABLE {} REPLICA IDENTITY FULL", facts.table)))
}

fn warn_if_it_stays_here() -> Result<(), Report> {
    if (settings::enable_ddl_replication() && settings::allow_ddl_from_functions())
        || settings::repair_mode()
        || topology::local_node()?.is_none()
    {
        return Ok(());
    }
    let report = Report::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        "the statement is not replicated, because \"spock.enable_ddl_replication\" or \"spock.allow_ddl_from_functions\" is off",
    )
    .hint("Call spock.delta_apply() on every node.");
    log(Level::Warning, &report);
    Ok(())
}
