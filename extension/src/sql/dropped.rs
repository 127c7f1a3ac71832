//! Something is dropped that a membership in a replication set needs: the member, a column, function, operator, type or
//! collation of its row filter. Memberships are dependents as views on a table would be.

use pgrx::PgSqlErrorCode;

use crate::catalog::dependency::{self, Dependent};
use crate::catalog::relations::{self, Relation};
use crate::catalog::{extension, repset, sequence, sync, topology};
use crate::ddl::capture;
use crate::error::{OrRaise as _, Report};
use crate::pg::authority::fires_replica_triggers;
use crate::pg::drop_hook::{Class, Dependents, Dropped};
use crate::pg::raise::{Level, log};
use crate::pg::utility::{After, Utility};
use crate::settings;

/// Sees every utility statement: what forbids one as a whole, then what replicates it.
pub fn watch(statement: &Utility) -> Option<After> {
    if statement.drops_extension(c"spock") {
        refuse_with_subscriptions().or_raise();
    }
    capture::watch(statement)
}

/// 2BP01 while there are subscriptions: nobody could drop their slots on the providers any more.
fn refuse_with_subscriptions() -> Result<(), Report> {
    if extension::installed_version()?.is_none() {
        return Ok(());
    }
    let Some(local) = topology::local_node()? else { return Ok(()) };
    let subscriptions = topology::subscriptions_of(local.node.id)?;
    if subscriptions.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = subscriptions.iter().map(|subscription| subscription.name.as_str()).collect();
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
        format!("cannot drop extension spock because node \"{}\" has subscriptions", local.node.name),
    )
    .detail(format!("Subscriptions: {}.", names.join(", ")))
    .hint("Drop them first with spock.sub_drop. DROP EXTENSION ... CASCADE leaves their slots on the providers."))
}

/// Called before an object goes. Raises 2BP01 when a membership needs it and the statement did not say CASCADE.
pub fn before_drop(dropped: Dropped, dependents: Dependents) {
    check(dropped, dependents).or_raise();
}

fn check(dropped: Dropped, dependents: Dependents) -> Result<(), Report> {
    if topology::local_node()?.is_none() {
        return Ok(());
    }
    let mut needing = dependency::dependents(dropped)?;
    let whole = dropped.class == Class::Relation && dropped.part == 0;
    let relation = if whole { relations::relation(dropped.object)? } else { None };
    if let Some(relation) = &relation {
        needing.extend(unrecorded(relation, &needing)?);
    }
    // What was decided on another node is carried out here; where statements replicate, memberships follow the tables.
    let follows = fires_replica_triggers() || settings::enable_ddl_replication();
    if dependents == Dependents::Restrict && !follows && !needing.is_empty() {
        return Err(refusal(dropped, &needing)?);
    }
    for dependent in needing {
        if dependent.sequence {
            sequence::delete_member(dependent.set, dependent.relation)?;
        } else {
            repset::delete_member(dependent.set, dependent.relation)?;
        }
        let message = format!("drop cascades to {}", membership(&dependent));
        log(Level::Notice, &Report::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message));
    }
    if let Some(table) = relation.filter(|relation| relation.kind == 'r') {
        sync::forget_table(&table.schema, &table.name)?;
    }
    Ok(())
}

/// Memberships of a relation that `spock.depend` does not know: rows that were written by hand.
fn unrecorded(relation: &Relation, known: &[Dependent]) -> Result<Vec<Dependent>, Report> {
    let sequence = relation.kind == 'S';
    let sets = if sequence { sequence::sets_with(relation.oid)? } else { repset::sets_with(relation.oid)? };
    let of = |(set, set_name): (u32, String)| Dependent {
        set,
        set_name,
        relation: relation.oid,
        sequence,
        name: relation.qualified(),
    };
    let unknown = |set: u32| !known.iter().any(|dependent| dependent.set == set && dependent.relation == relation.oid);
    Ok(sets.into_iter().filter(|(set, _)| unknown(*set)).map(of).collect())
}

fn membership(dependent: &Dependent) -> String {
    let kind = if dependent.sequence { "sequence" } else { "table" };
    format!("{kind} {} membership in replication set {}", dependent.name, dependent.set_name)
}

fn refusal(dropped: Dropped, needing: &[Dependent]) -> Result<Report, Report> {
    let object = dependency::describe(dropped)?;
    let lines: Vec<String> =
        needing.iter().map(|dependent| format!("{} depends on {object}", membership(dependent))).collect();
    Ok(Report::new(
        PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
        format!("cannot drop {object} because other objects depend on it"),
    )
    .detail(lines.join("\n"))
    .hint("Use DROP ... CASCADE to drop the dependent objects too."))
}
