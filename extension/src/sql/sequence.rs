//! `repset_add_seq`, `repset_add_all_seqs`, `repset_remove_seq`, `sync_seq`.
//!
//! # Invariants
//! 1. Only permanent sequences of users become members; a relation of another kind is refused before anything is read.

use pgrx::PgSqlErrorCode;

use super::membership::{check_member, no_such_relation};
use super::{null_argument, required_name};
use crate::catalog::relations::{self, Relation};
use crate::catalog::repset::{self, RepSet};
use crate::catalog::sequence::{self, Member};
use crate::catalog::topology;
use crate::error::Report;
use crate::pg::authority::{lock_relation_against_writes, require_administrator};
use crate::pg::function::{Answer, Call, Value};
use crate::pg::raise::warn;
use crate::sequences;

/// 42809 when `relation` is no sequence.
fn require_sequence(relation: &Relation) -> Result<(), Report> {
    if relation.kind == 'S' {
        return Ok(());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
        format!("\"{}\" is not a sequence", relation.qualified()),
    )
    .hint("Tables are added with spock.repset_add_table."))
}

fn named(call: &Call, n: usize) -> Result<Relation, Report> {
    let oid = call.oid(n).ok_or_else(|| null_argument("the sequence"))?;
    relations::relation(oid)?.ok_or_else(|| no_such_relation(oid))
}

/// Puts a sequence into a set; with `tell`, subscribers of that set get its value.
fn add(relation: &Relation, set: &RepSet, tell: bool) -> Result<(), Report> {
    let stands = sequence::read(relation.oid)?.ok_or_else(|| no_such_relation(relation.oid))?;
    sequence::insert_member(set.id, relation.oid, stands.last)?;
    if tell {
        let member = member(relation);
        sequences::announce(&member, stands.last, std::slice::from_ref(&set.name))?;
    }
    Ok(())
}

fn member(relation: &Relation) -> Member {
    Member { oid: relation.oid, schema: relation.schema.clone(), name: relation.name.clone() }
}

/// `repset_add_seq(set_name, relation, synchronize_data)`
pub fn add_sequence(call: &Call) -> Result<Answer, Report> {
    require_administrator("change a replication set")?;
    let set_name = required_name(call, 0, "the replication set's name")?;
    let oid = call.oid(1).ok_or_else(|| null_argument("the sequence"))?;
    let tell = call.boolean(2).unwrap_or(false);
    let local = topology::local_node_locked()?;
    let set = repset::require_set(local.node.id, &set_name)?;
    require_sequence(&named(call, 1)?)?;
    lock_relation_against_writes(oid);
    // Read again: it may have been dropped or changed before the lock was granted.
    let relation = named(call, 1)?;
    require_sequence(&relation)?;
    check_member(&relation, &set.name)?;
    if sequence::sets_with(oid)?.iter().any(|(id, _)| *id == set.id) {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
            format!("sequence \"{}\" is already in replication set \"{}\"", relation.qualified(), set.name),
        ));
    }
    add(&relation, &set, tell)?;
    Ok(Answer::One(Value::Bool(true)))
}

/// `repset_add_all_seqs(set_name, schema_names, synchronize_data)`
pub fn add_all_sequences(call: &Call) -> Result<Answer, Report> {
    require_administrator("change a replication set")?;
    let set_name = required_name(call, 0, "the replication set's name")?;
    let schemas: Option<Vec<String>> = call.texts(1).unwrap_or_default().into_iter().collect();
    let schemas = schemas.ok_or_else(|| null_argument("a schema name"))?;
    let tell = call.boolean(2).unwrap_or(false);
    let local = topology::local_node_locked()?;
    let set = repset::require_set(local.node.id, &set_name)?;
    for schema in schemas {
        if !relations::schema_exists(&schema)? {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME,
                format!("schema \"{schema}\" does not exist"),
            ));
        }
        if relations::is_blocked("schema", &schema)? {
            warn(format!("schema \"{schema}\" is kept out of replication sets, skipping it"));
            continue;
        }
        for relation in relations::candidate_sequences(&schema, set.id)? {
            match &relation.extension {
                Some(extension) if relations::is_blocked("extension", extension)? => warn(format!(
                    "extension \"{extension}\" is kept out of replication sets, skipping sequence \"{}\"",
                    relation.qualified()
                )),
                _ => add(&relation, &set, tell)?,
            }
        }
    }
    Ok(Answer::One(Value::Bool(true)))
}

/// `repset_remove_seq(set_name, relation)`
pub fn remove_sequence(call: &Call) -> Result<Answer, Report> {
    require_administrator("change a replication set")?;
    let set_name = required_name(call, 0, "the replication set's name")?;
    let local = topology::local_node_locked()?;
    let set = repset::require_set(local.node.id, &set_name)?;
    let relation = named(call, 1)?;
    if !sequence::delete_member(set.id, relation.oid)? {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("sequence \"{}\" is not in replication set \"{}\"", relation.qualified(), set.name),
        ));
    }
    Ok(Answer::One(Value::Bool(true)))
}

/// `sync_seq(relation)`: subscribers of every set of the sequence get a value ahead of its use.
pub fn synchronize(call: &Call) -> Result<Answer, Report> {
    require_administrator("synchronize a sequence")?;
    topology::local_node_locked()?;
    let relation = named(call, 0)?;
    require_sequence(&relation)?;
    if !sequences::synchronize(&member(&relation))? {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("sequence \"{}\" is in no replication set", relation.qualified()),
        )
        .hint("Add it with spock.repset_add_seq first."));
    }
    Ok(Answer::One(Value::Bool(true)))
}
