//! `repset_add_partition`, `repset_remove_partition`: partitions follow their parent into the sets that it is in.
//!
//! # Invariants
//! 1. Only descendants of the named parent are touched.
//! 2. A filter is made for each set and each partition on its own, by column names: partitions can number their columns in
//!    another way than the parent.

use pgrx::PgSqlErrorCode;

use super::membership::{check_table, no_such_relation, null_parameter, parse_filter};
use crate::catalog::relations::{self, Relation};
use crate::catalog::repset;
use crate::catalog::topology;
use crate::error::Report;
use crate::pg::authority::{Owner, lock_relation_against_writes, require_administrator};
use crate::pg::function::{Answer, Call, Value};

/// The parent, and those of its descendants that the call is about. `None`: the parent has no partitions.
fn named(call: &Call) -> Result<Option<(Relation, Vec<Relation>)>, Report> {
    let parent_oid = call.oid(0).ok_or_else(|| null_parameter("the partitioned table"))?;
    let parent = relations::relation(parent_oid)?.ok_or_else(|| no_such_relation(parent_oid))?;
    if parent.kind != 'p' {
        return Ok(None);
    }
    let mut partitions = relations::partitions(parent_oid)?;
    if let Some(wanted) = call.oid(1) {
        let partition = relations::relation(wanted)?.ok_or_else(|| no_such_relation(wanted))?;
        partitions.retain(|candidate| candidate.oid == wanted);
        if partitions.is_empty() {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("table \"{}\" is not a partition of \"{}\"", partition.qualified(), parent.qualified()),
            ));
        }
    }
    Ok(Some((parent, partitions)))
}

fn count(rows: i32) -> Answer {
    Answer::One(Value::Int(rows))
}

/// `repset_add_partition(parent, partition, row_filter)`: how many memberships were added, over all sets.
pub fn add(call: &Call) -> Result<Answer, Report> {
    require_administrator("change a replication set")?;
    let given = call.text(2);
    let local = topology::local_node_locked()?;
    let Some((parent, partitions)) = named(call)? else { return Ok(count(0)) };
    let mut added = 0;
    for membership in repset::memberships_of_parent(local.node.id, parent.oid)? {
        for partition in &partitions {
            if repset::is_member(membership.set.id, partition.oid)? {
                continue;
            }
            lock_relation_against_writes(partition.oid);
            check_table(partition, &membership.set)?;
            let filter = match (&given, &membership.filter) {
                (Some(text), _) => Some(parse_filter(text, partition)?),
                (None, Some(text)) => {
                    // The server wrote this text, with names qualified for this search path and no other.
                    let _owner = Owner::enter();
                    Some(parse_filter(text, partition)?)
                }
                (None, None) => None,
            };
            repset::insert_member(membership.set.id, partition.oid, membership.columns.as_deref(), filter.as_ref())?;
            added += 1;
        }
    }
    Ok(count(added))
}

/// `repset_remove_partition(parent, partition)`: how many memberships were removed, over all sets.
pub fn remove(call: &Call) -> Result<Answer, Report> {
    require_administrator("change a replication set")?;
    let local = topology::local_node_locked()?;
    let Some((parent, partitions)) = named(call)? else { return Ok(count(0)) };
    let mut removed = 0;
    for membership in repset::memberships_of_parent(local.node.id, parent.oid)? {
        for partition in &partitions {
            removed += i32::from(repset::delete_member(membership.set.id, partition.oid)?);
        }
    }
    if removed == 0 && call.oid(1).is_some() {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("the partition is in no replication set that \"{}\" is in", parent.qualified()),
        ));
    }
    Ok(count(removed))
}
