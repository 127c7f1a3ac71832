//! `repset_add_table`, `repset_add_all_tables`, `repset_remove_table`, `repset_show_table`, `table_data_filtered`.
//!
//! # Invariants
//! 1. Whatever is checked of a table is checked of each of its partitions too, and a row filter is made for each.
//! 2. The columns that identify a row always go out.

use pgrx::PgSqlErrorCode;

use super::{null_argument, required_name};
use crate::catalog::queue;
use crate::catalog::relations::{self, Relation};
use crate::catalog::repset::{self, RepSet};
use crate::catalog::topology;
use crate::error::Report;
use crate::pg::attempt::attempt_nested;
use crate::pg::authority::{lock_relation_against_changes, lock_relation_against_writes, require_administrator};
use crate::pg::filtered_rows::{FilteredRows, row_type, type_name};
use crate::pg::function::{Answer, Call, Value};
use crate::pg::raise::warn;
use crate::pg::row_filter::RowFilter;
use crate::sql::repset::require_identity;
use spock_core::filter::copied_rows;
use spock_core::types::NodeId;

pub(super) fn null_parameter(what: &str) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("{what} must not be null"))
}

pub(super) fn no_such_relation(oid: u32) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, format!("relation with OID {oid} does not exist"))
        .hint("It may have been dropped meanwhile. Give the table by its name.")
}

/// `repset_add_table(set_name, relation, synchronize_data, columns, row_filter, include_partitions)`
pub fn add_table(call: &Call) -> Result<Answer, Report> {
    require_administrator("change a replication set")?;
    let set_name = call.name(0).ok_or_else(|| null_parameter("the replication set's name"))?;
    let oid = call.oid(1).ok_or_else(|| null_parameter("the table"))?;
    let copy = call.boolean(2).ok_or_else(|| null_parameter("synchronize_data"))?;
    let wanted = column_list(call)?;
    let filter = call.text(4);
    let include_partitions = call.boolean(5).unwrap_or(false);
    let local = topology::local_node_locked()?;
    let set = repset::require_set(local.node.id, &set_name)?;
    lock_relation_against_writes(oid);
    let table = relations::relation(oid)?.ok_or_else(|| no_such_relation(oid))?;
    let columns = wanted.map(|wanted| check_columns(&table, wanted, &set)).transpose()?;
    let mut members = vec![table];
    if include_partitions && members[0].kind == 'p' {
        members.extend(relations::partitions(oid)?);
    }
    for (place, member) in members.iter().enumerate() {
        check_table(member, &set)?;
        if repset::is_member(set.id, member.oid)? {
            // A partition may have been added on its own before.
            if place > 0 {
                continue;
            }
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
                format!("table \"{}\" is already in replication set \"{}\"", member.qualified(), set.name),
            )
            .hint("To change its columns or its filter, remove it first with spock.repset_remove_table."));
        }
        let filter = filter.as_deref().map(|text| parse_filter(text, member)).transpose()?;
        repset::insert_member(set.id, member.oid, columns.as_deref(), filter.as_ref())?;
    }
    if copy {
        queue::enqueue_table(&set.name, &members[0].schema, &members[0].name)?;
    }
    Ok(Answer::One(Value::Bool(true)))
}

/// The filter for one table. The server's message about it names the table; its position would point into the caller's
/// statement, where the filter is a string.
pub(super) fn parse_filter(text: &str, table: &Relation) -> Result<RowFilter, Report> {
    match attempt_nested(|| RowFilter::parse(text, table.oid)) {
        Ok(parsed) => parsed,
        Err(caught) => {
            let mut report = caught.report;
            report.message = format!("invalid row filter for table \"{}\": {}", table.qualified(), report.message);
            Err(report)
        }
    }
}

/// The `columns` argument. An empty list means all columns, as the C edition stores it.
fn column_list(call: &Call) -> Result<Option<Vec<String>>, Report> {
    let Some(columns) = call.texts(3) else {
        return Ok(None);
    };
    let columns: Option<Vec<String>> = columns.into_iter().collect();
    let columns = columns.ok_or_else(|| null_argument("a column name"))?;
    Ok((!columns.is_empty()).then_some(columns))
}

/// Each column exists, is not computed, is named once, and the identity is complete.
fn check_columns(table: &Relation, wanted: Vec<String>, set: &RepSet) -> Result<Vec<String>, Report> {
    let existing = relations::columns(table.oid)?;
    for (place, name) in wanted.iter().enumerate() {
        let column = existing.iter().find(|column| column.name == *name).ok_or_else(|| {
            Report::new(
                PgSqlErrorCode::ERRCODE_SYNTAX_ERROR,
                format!("table \"{}\" has no column \"{name}\"", table.qualified()),
            )
            .hint("Names in the list are not quoted, and capitals count.")
        })?;
        if column.generated {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!(
                    "column \"{name}\" of table \"{}\" is generated and cannot be in a column list",
                    table.qualified()
                ),
            )
            .hint("Each node computes generated columns itself."));
        }
        if wanted[..place].contains(name) {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("column \"{name}\" is in the column list twice"),
            )
            .hint("Name each column once."));
        }
    }
    let missing = table.identity.iter().flatten().find(|name| !wanted.contains(name));
    if let Some(name) = missing {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_SYNTAX_ERROR,
            format!("the column list of table \"{}\" must have column \"{name}\"", table.qualified()),
        )
        .detail(format!(
            "The column belongs to the replica identity, by which replication set \"{}\" finds rows.",
            set.name
        )));
    }
    Ok(wanted)
}

fn refuse(relation: &Relation, set: &str, why: String) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("relation \"{}\" cannot be in replication set \"{set}\"", relation.qualified()),
    )
    .detail(why)
    .hint("Replication sets take permanent tables and sequences of users; an unlogged one becomes permanent by SET LOGGED.")
}

/// Why only the server's own heap will do: what a row says of who wrote it is read there.
const NOT_HEAP: &str = "Its table access method is not heap, so nobody can tell when and where its rows were written.";

/// Whether a table may be in a set.
pub(super) fn check_table(table: &Relation, set: &RepSet) -> Result<(), Report> {
    if !matches!(table.kind, 'r' | 'p') {
        return Err(refuse(table, &set.name, "Only tables can be replicated.".to_owned()));
    }
    if !table.heap {
        return Err(refuse(table, &set.name, NOT_HEAP.to_owned()));
    }
    check_member(table, &set.name)?;
    if set.actions.needs_identity() {
        require_identity(table, &set.name)?;
    }
    Ok(())
}

/// What holds for members of every kind: permanent, of a user, not reserved.
pub(super) fn check_member(table: &Relation, set: &str) -> Result<(), Report> {
    let refuse = |why: String| refuse(table, set, why);
    let kind = if table.kind == 'S' { "sequences" } else { "tables" };
    if !table.permanent {
        return Err(refuse(format!("Temporary and unlogged {kind} cannot be replicated.")));
    }
    if table.is_system() {
        return Err(refuse(format!("The server's own {kind} cannot be replicated.")));
    }
    if relations::is_blocked("schema", &table.schema)? {
        return Err(refuse(format!(
            "Schema \"{}\" is kept out of replication sets (spock.reserved_object).",
            table.schema
        )));
    }
    if let Some(extension) = &table.extension
        && relations::is_blocked("extension", extension)?
    {
        return Err(refuse(format!(
            "Extension \"{extension}\" is kept out of replication sets (spock.reserved_object)."
        )));
    }
    Ok(())
}

/// `repset_add_all_tables(set_name, schema_names, synchronize_data)`
pub fn add_all_tables(call: &Call) -> Result<Answer, Report> {
    require_administrator("change a replication set")?;
    let set_name = required_name(call, 0, "the replication set's name")?;
    let schemas: Option<Vec<String>> = call.texts(1).unwrap_or_default().into_iter().collect();
    let schemas = schemas.ok_or_else(|| null_argument("a schema name"))?;
    let copy = call.boolean(2).unwrap_or(false);
    let local = topology::local_node_locked()?;
    let set = repset::require_set(local.node.id, &set_name)?;
    for schema in schemas {
        if !relations::schema_exists(&schema)? {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME,
                format!("schema \"{schema}\" does not exist"),
            )
            .hint("Names in the list are not quoted, and capitals count."));
        }
        if relations::is_blocked("schema", &schema)? {
            warn(format!("schema \"{schema}\" is kept out of replication sets, skipping it"));
            continue;
        }
        for table in relations::candidates(&schema, set.id)? {
            // The rows of a partition come with those of its parent.
            if add_candidate(&table, &set)? && copy && !table.is_partition {
                queue::enqueue_table(&set.name, &table.schema, &table.name)?;
            }
        }
    }
    Ok(Answer::One(Value::Bool(true)))
}

/// False: it cannot be in the set, and a warning says why.
fn add_candidate(table: &Relation, set: &RepSet) -> Result<bool, Report> {
    if let Some(extension) = &table.extension
        && relations::is_blocked("extension", extension)?
    {
        warn(format!(
            "extension \"{extension}\" is kept out of replication sets, skipping table \"{}\"",
            table.qualified()
        ));
        return Ok(false);
    }
    if !table.heap {
        warn(format!("table \"{}\" is skipped: {NOT_HEAP}", table.qualified()));
        return Ok(false);
    }
    if set.actions.needs_identity() && table.identity.is_none() {
        warn(format!(
            "table \"{}\" has no primary key or replica identity index, skipping it for replication set \"{}\"",
            table.qualified(),
            set.name
        ));
        return Ok(false);
    }
    repset::insert_member(set.id, table.oid, None, None)?;
    Ok(true)
}

/// `repset_remove_table(set_name, relation, include_partitions)`
pub fn remove_table(call: &Call) -> Result<Answer, Report> {
    require_administrator("change a replication set")?;
    let set_name = required_name(call, 0, "the replication set's name")?;
    let oid = call.oid(1).ok_or_else(|| null_argument("the table"))?;
    let include_partitions = call.boolean(2).unwrap_or(false);
    let local = topology::local_node_locked()?;
    let set = repset::require_set(local.node.id, &set_name)?;
    let table = relations::relation(oid)?.ok_or_else(|| no_such_relation(oid))?;
    if !repset::delete_member(set.id, oid)? {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("table \"{}\" is not in replication set \"{}\"", table.qualified(), set.name),
        )
        .hint("spock.tables shows which table is in which set."));
    }
    if include_partitions && table.kind == 'p' {
        for partition in relations::partitions(oid)? {
            repset::delete_member(set.id, partition.oid)?;
        }
    }
    Ok(Answer::One(Value::Bool(true)))
}

/// `repset_show_table(relation, repsets)`: a subscriber asks this of its provider.
pub fn show_table(call: &Call) -> Result<Answer, Report> {
    let oid = call.oid(0).ok_or_else(|| null_argument("the table"))?;
    let sets: Vec<String> = call.texts(1).unwrap_or_default().into_iter().flatten().collect();
    let local = topology::require_local_node()?;
    require_sets(local.node.id, &sets)?;
    let table = relations::relation(oid)?.ok_or_else(|| no_such_relation(oid))?;
    let memberships = repset::memberships(local.node.id, oid, &sets)?;
    // A membership without a list sends all columns, so no list of another set can take one away.
    let all = memberships.iter().any(|membership| membership.columns.is_none());
    let listed = |name: &String| {
        memberships.iter().flat_map(|membership| membership.columns.iter().flatten()).any(|n| n == name)
    };
    let columns: Vec<String> = relations::columns(oid)?
        .into_iter()
        .filter(|column| !column.generated && (all || memberships.is_empty() || listed(&column.name)))
        .map(|column| column.name)
        .collect();
    Ok(Answer::Record(vec![
        Value::Oid(table.oid),
        Value::Text(table.schema.clone()),
        Value::Text(table.name.clone()),
        Value::Texts(columns),
        Value::Bool(memberships.iter().any(|membership| membership.has_row_filter)),
        Value::Char(u8::try_from(table.kind).unwrap_or(b'?')),
        Value::Bool(table.is_partition),
    ]))
}

/// 22023 for the first set that does not exist.
fn require_sets(node: NodeId, sets: &[String]) -> Result<(), Report> {
    for name in sets {
        if repset::set_by_name(node, name)?.is_none() {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("replication set \"{name}\" does not exist"),
            )
            .hint("spock.replication_set shows the sets of this node."));
        }
    }
    Ok(())
}

/// `table_data_filtered(reltyp, relation, repsets)`: a subscriber copies a table with it. Reads as the caller.
pub fn table_data_filtered(call: &Call) -> Result<Answer, Report> {
    let oid = call.oid(1).ok_or_else(|| null_parameter("the table"))?;
    let sets = call.texts(2).ok_or_else(|| null_parameter("the replication sets"))?;
    let sets: Vec<String> = sets.into_iter().flatten().collect();
    let local = topology::require_local_node()?;
    lock_relation_against_changes(oid);
    let table = relations::relation(oid)?.ok_or_else(|| no_such_relation(oid))?;
    let given = call.argument_type(0);
    if given.is_none() || given != row_type(oid) {
        let name = given.map_or_else(|| "unknown".to_owned(), type_name);
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("the first argument is of type {name}, not of the row type of table \"{}\"", table.qualified()),
        )
        .hint("Pass NULL cast to the table's row type: NULL::schema.table."));
    }
    require_sets(local.node.id, &sets)?;
    let filters = copied_rows(repset::row_filters(local.node.id, oid, &sets)?);
    Ok(Answer::Table(FilteredRows {
        relation: oid,
        partitioned: table.kind == 'p',
        schema: table.schema,
        name: table.name,
        filters,
    }))
}
