//! `repset_create`, `repset_alter`, `repset_drop`.

use pgrx::PgSqlErrorCode;
use spock_core::names;

use super::required_name;
use crate::catalog::relations::{self, Relation};
use crate::catalog::repset::{self, Actions, RepSet};
use crate::catalog::topology;
use crate::error::Report;
use crate::pg::authority::require_administrator;
use crate::pg::function::{Answer, Call, Value};

/// `repset_create(set_name, replicate_insert, replicate_update, replicate_delete, replicate_truncate)`
pub fn create(call: &Call) -> Result<Answer, Report> {
    require_administrator("create a replication set")?;
    let name = required_name(call, 0, "the replication set's name")?;
    let flag = |n| call.boolean(n).unwrap_or(true);
    let actions = Actions { insert: flag(1), update: flag(2), delete: flag(3), truncate: flag(4) };
    let local = topology::local_node_locked()?;
    if repset::set_by_name(local.node.id, &name)?.is_some() {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
            format!("replication set \"{name}\" already exists"),
        )
        .hint("Choose another name, or change it with spock.repset_alter."));
    }
    let id = names::replication_set_id(local.node.id, &name);
    if let Some(other) = repset::sets_of(local.node.id)?.into_iter().find(|set| set.id == id) {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
            format!("replication set \"{name}\" would have the same id as replication set \"{}\"", other.name),
        )
        .hint("Ids are a hash of the name. Choose another name."));
    }
    repset::insert_set(local.node.id, &RepSet { id, name, actions })?;
    Ok(Answer::One(Value::Oid(id)))
}

/// `repset_alter(set_name, …)`: a NULL flag keeps its value.
pub fn alter(call: &Call) -> Result<Answer, Report> {
    require_administrator("alter a replication set")?;
    let name = call.name(0).ok_or_else(|| {
        Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, "the replication set's name must not be null")
    })?;
    let local = topology::local_node_locked()?;
    let set = repset::require_set(local.node.id, &name)?;
    let actions = Actions {
        insert: call.boolean(1).unwrap_or(set.actions.insert),
        update: call.boolean(2).unwrap_or(set.actions.update),
        delete: call.boolean(3).unwrap_or(set.actions.delete),
        truncate: call.boolean(4).unwrap_or(set.actions.truncate),
    };
    if actions.needs_identity() {
        for member in repset::member_tables(set.id)? {
            if let Some(table) = relations::relation(member)?.filter(|table| table.kind == 'r') {
                require_identity(&table, &set.name)?;
            }
        }
    }
    repset::update_set(set.id, actions)?;
    Ok(Answer::One(Value::Oid(set.id)))
}

/// `repset_drop(set_name, ifexists)`
pub fn drop(call: &Call) -> Result<Answer, Report> {
    require_administrator("drop a replication set")?;
    let name = required_name(call, 0, "the replication set's name")?;
    let if_exists = call.boolean(1).unwrap_or(false);
    let local = topology::local_node_locked()?;
    let Some(set) = repset::set_by_name(local.node.id, &name)? else {
        return if if_exists { Ok(Answer::One(Value::Bool(false))) } else { Err(repset::no_such_set(&name)) };
    };
    repset::delete_set(set.id)?;
    Ok(Answer::One(Value::Bool(true)))
}

/// 22023 when rows of `table` could not be found again on the other side.
pub fn require_identity(table: &Relation, set: &str) -> Result<(), Report> {
    if table.identity.is_some() {
        return Ok(());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("table \"{}\" cannot be in replication set \"{set}\"", table.qualified()),
    )
    .detail(
        "The table has no primary key or replica identity index, and the replication set replicates UPDATE or DELETE.",
    )
    .hint("Add a primary key to the table, or use a replication set that replicates only INSERT and TRUNCATE."))
}
