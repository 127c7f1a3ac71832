//! A table is dropped: its memberships in replication sets are dependents as views on it would be.

use pgrx::PgSqlErrorCode;

use crate::catalog::relations::{self, Relation};
use crate::catalog::{repset, sync, topology};
use crate::error::{OrRaise as _, Report};
use crate::pg::authority::fires_replica_triggers;
use crate::pg::drop_hook::Dependents;
use crate::pg::raise::{Level, log};

/// Called before a table goes. Raises 2BP01 when it is in a set and the statement did not say CASCADE.
pub fn before_drop(relation: u32, dependents: Dependents) {
    check(relation, dependents).or_raise();
}

fn check(relation: u32, dependents: Dependents) -> Result<(), Report> {
    if topology::local_node()?.is_none() {
        return Ok(());
    }
    let Some(table) = relations::relation(relation)? else {
        return Ok(());
    };
    let sets = repset::sets_with(relation)?;
    // What was decided on another node is carried out here.
    if dependents == Dependents::Restrict && !fires_replica_triggers() && !sets.is_empty() {
        return Err(refusal(&table, &sets));
    }
    for (set, name) in sets {
        repset::delete_member(set, relation)?;
        let message = format!("drop cascades to table {} membership in replication set {name}", table.qualified());
        log(Level::Notice, &Report::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message));
    }
    if table.kind == 'r' {
        sync::forget_table(&table.schema, &table.name)?;
    }
    Ok(())
}

fn refusal(table: &Relation, sets: &[(u32, String)]) -> Report {
    let name = table.qualified();
    let lines: Vec<String> = sets
        .iter()
        .map(|(_, set)| format!("table {name} membership in replication set {set} depends on table {name}"))
        .collect();
    Report::new(
        PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
        format!("cannot drop table {name} because other objects depend on it"),
    )
    .detail(lines.join("\n"))
    .hint("Use DROP ... CASCADE to drop the dependent objects too.")
}
