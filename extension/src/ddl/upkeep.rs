//! Replication sets follow the tables (`spock.include_ddl_repset`), on the node where a statement was given and on each where
//! it is replayed. Between `pg::parse_tree` (which tables), `spock_core::ddl::membership` (the rules) and `catalog::repset`.
//!
//! # Invariants
//! 1. A partition is in the sets of its parent.

use spock_core::ddl::membership::{self, Altered, Change, INSERT_ONLY, Plan};

use crate::catalog::query::{execute, select_one};
use crate::catalog::relations::{self, Relation};
use crate::catalog::repset::{self, RepSet};
use crate::catalog::topology::{self, oid};
use crate::error::Report;
use crate::pg::parse_tree::Table;
use crate::pg::raise::{Level, log, log_line};
use crate::pg::utility::Utility;
use crate::settings;
use pgrx::PgSqlErrorCode;

/// The tables that a statement concerns.
pub struct Upkeep(Vec<Table>);

impl Upkeep {
    /// Read before the statement runs. Nothing, where sets do not follow.
    pub fn of(utility: &Utility) -> Self {
        Self(if settings::include_ddl_repset() { utility.tables() } else { Vec::new() })
    }
}

/// Carries it out, after the statement.
pub fn run(upkeep: Upkeep) -> Result<(), Report> {
    if upkeep.0.is_empty() {
        return Ok(());
    }
    let node = topology::require_local_node()?.node.id;
    let sets = repset::sets_of(node)?;
    for table in upkeep.0 {
        match table {
            Table::New { name, found } => {
                if let Some(oid) = name.find() {
                    settle(oid, if found { Change::Found } else { Change::Created }, &sets)?;
                }
            }
            Table::Altered { oid, altered, attached } => {
                settle_with_partitions(oid, Change::Altered(altered), &sets)?;
                for partition in attached {
                    settle_with_partitions(partition, Change::Altered(Altered::default()), &sets)?;
                    follow_parent(partition, oid, &sets)?;
                }
            }
            Table::Moved(oid) => settle(oid, Change::Moved, &sets)?,
        }
    }
    Ok(())
}

fn settle_with_partitions(table: u32, change: Change, sets: &[RepSet]) -> Result<(), Report> {
    settle(table, change, sets)?;
    for partition in relations::partitions(table)? {
        settle(partition.oid, change, sets)?;
    }
    Ok(())
}

/// Brings one table into the sets where it belongs.
fn settle(table: u32, change: Change, sets: &[RepSet]) -> Result<(), Report> {
    let Some(relation) = relations::relation(table)?.filter(|relation| matches!(relation.kind, 'r' | 'p')) else {
        return Ok(());
    };
    let facts = membership::Table {
        blocked: is_blocked(&relation)?,
        // A table that is kept elsewhere than in a heap can be in no set either.
        permanent: relation.permanent && relation.heap,
        identity: relation.identity.is_some(),
        full: relations::identity_is_full(table)?,
    };
    if change == Change::Created
        && relation.is_partition
        && facts.permanent
        && !facts.blocked
        && let Some(parent) = parent_of(table)?
        && !repset::sets_with(parent)?.is_empty()
    {
        return follow_parent(table, parent, sets);
    }
    let within = within(table, sets)?;
    let insert_only = sets.iter().any(|set| set.name == INSERT_ONLY && set.actions.needs_identity());
    let plan = membership::plan(change, facts, &within, insert_only);
    carry_out(&relation, &plan, sets)
}

fn is_blocked(relation: &Relation) -> Result<bool, Report> {
    if relations::is_blocked("schema", &relation.schema)? {
        return Ok(true);
    }
    match &relation.extension {
        Some(extension) => relations::is_blocked("extension", extension),
        None => Ok(false),
    }
}

/// The sets that a table is in.
fn within(table: u32, sets: &[RepSet]) -> Result<Vec<membership::Set>, Report> {
    let ids = repset::sets_with(table)?;
    let is_in = |set: &&RepSet| ids.iter().any(|(id, _)| *id == set.id);
    let facts = |set: &RepSet| membership::Set { name: set.name.clone(), needs_identity: set.actions.needs_identity() };
    Ok(sets.iter().filter(is_in).map(facts).collect())
}

fn carry_out(table: &Relation, plan: &Plan, sets: &[RepSet]) -> Result<(), Report> {
    let name = table.qualified();
    if plan.kept {
        let message =
            format!("table \"{name}\" has an identity now and stays in the replication sets that were chosen for it");
        log(Level::Notice, &Report::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message));
    }
    if plan.evicted {
        let message =
            format!("table \"{name}\" has no identity any more and leaves a replication set that was chosen for it");
        log(Level::Warning, &Report::new(PgSqlErrorCode::ERRCODE_WARNING, message));
    }
    let by_name = |name: &str| sets.iter().find(|set| set.name == name);
    for set in plan.leave.iter().filter_map(|name| by_name(name)) {
        repset::delete_member(set.id, table.oid)?;
        log_line(format!("table \"{name}\" left replication set \"{}\"", set.name));
    }
    if let Some(set) = plan.join.and_then(by_name) {
        repset::insert_member(set.id, table.oid, None, None)?;
        log_line(format!("table \"{name}\" joined replication set \"{}\"", set.name));
    }
    Ok(())
}

fn parent_of(partition: u32) -> Result<Option<u32>, Report> {
    select_one(
        "SELECT inhparent::int8 FROM pg_catalog.pg_inherits WHERE inhrelid = $1::oid",
        &[oid(partition)],
        |row| row.oid(1),
    )
}

/// Puts a partition into the sets of its parent, with the parent's columns and filter. It leaves built-in sets that the parent
/// is not in.
fn follow_parent(partition: u32, parent: u32, sets: &[RepSet]) -> Result<(), Report> {
    let parents = repset::sets_with(parent)?;
    let Some(relation) = relations::relation(partition)? else { return Ok(()) };
    if parents.is_empty() || !relation.permanent || !relation.heap || is_blocked(&relation)? {
        return Ok(());
    }
    let mut plan = Plan::default();
    for set in within(partition, sets)? {
        let built_in = matches!(set.name.as_str(), membership::DEFAULT | INSERT_ONLY);
        if built_in && !parents.iter().any(|(_, name)| *name == set.name) {
            plan.leave.push(set.name);
        }
    }
    carry_out(&relation, &plan, sets)?;
    execute("SELECT spock.repset_add_partition($1::oid::regclass, $2::oid::regclass)", &[oid(parent), oid(partition)])?;
    Ok(())
}
