//! Copying tables again or for the first time after a subscription was made: `sub_alter_sync`, `sub_resync_table`, and waiting
//! for a table.
//!
//! # Invariants
//! 1. A TRUNCATE that prepares a copy is not replicated: no other node loses rows by it.
//! 2. Only the table itself is emptied. One that others refer to is refused, because those would not be copied again.
//! 3. What is emptied is at the provider: what this node, and other nodes, had written in it. No stream brings it here again.

use pgrx::PgSqlErrorCode;
use spock_core::sync::{SyncKind, SyncState, TableName};

use super::marker::repair_mode;
use super::membership::no_such_relation;
use super::{null_argument, required_name, status, subscription};
use crate::catalog::displaced as rows_of_displaced;
use crate::catalog::relations::{self, Relation};
use crate::catalog::sync as states;
use crate::catalog::topology::{self, Subscription};
use crate::error::Report;
use crate::pg::authority::require_administrator;
use crate::pg::function::{Answer, Call, Value};
use crate::pg::heap;
use crate::settings::{self, ReadOnly};
use crate::sync::ahead::Ahead;
use crate::sync::copy;
use crate::sync::provider::Session;
use crate::worker::displaced;
use crate::worker::registry::{Change, signal_at_commit};

fn named(relation: &Relation) -> TableName {
    TableName { schema: relation.schema.clone(), table: relation.name.clone() }
}

fn table_of(call: &Call, n: usize) -> Result<Relation, Report> {
    let oid = call.oid(n).ok_or_else(|| null_argument("the table"))?;
    let relation = relations::relation(oid)?.ok_or_else(|| no_such_relation(oid))?;
    if matches!(relation.kind, 'r' | 'p') {
        return Ok(relation);
    }
    Err(Report::new(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, format!("\"{}\" is not a table", relation.qualified()))
        .hint("Only tables are copied on their own."))
}

/// The server's tables, temporary ones and those of reserved schemas, ours among them, belong to this node alone: 22023.
fn refuse_own(table: &Relation) -> Result<(), Report> {
    let own =
        table.is_system() || table.schema.starts_with("pg_temp") || relations::is_blocked("schema", &table.schema)?;
    if !own {
        return Ok(());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("table \"{}\" cannot be synchronized", table.qualified()),
    )
    .detail("It belongs to the server, to a session or to a reserved schema.")
    .hint("Tables that a replication set of the provider has can be synchronized."))
}

/// 22023 when the provider does not send the table to this subscription: it would be emptied and not filled again. The session
/// with the provider.
fn require_provided(subscription: &Subscription, table: &TableName) -> Result<Session, Report> {
    let mut session = Session::open(subscription, "sync")?;
    let remote = session.tables(&subscription.replication_sets)?;
    if remote.iter().any(|remote| remote.name == *table) {
        return Ok(session);
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("table {table} is in no replication set that subscription \"{}\" receives", subscription.name),
    )
    .hint("Add it on the provider with spock.repset_add_table, or the set here with spock.sub_add_repset."))
}

/// Empties tables here, and only here. A table that is missing needs no emptying. They are locked by the time this waits for what
/// has come since `ahead` was asked first.
fn truncate(names: &[TableName], ahead: &mut Ahead<'_>) -> Result<(), Report> {
    let tables = copy::open_to_empty(names);
    if tables.is_empty() {
        return Ok(());
    }
    ahead.wait()?;
    for table in tables.iter().map(|table| table.id().get()).filter(|table| displaced::is_marked(*table)) {
        rows_of_displaced::delete_of(table)?;
    }
    repair_mode(true);
    heap::truncate(&tables, false);
    repair_mode(false);
    Ok(())
}

/// A table may be copied again when nobody is copying it now.
fn require_idle(subscription: &Subscription, table: &TableName) -> Result<(), Report> {
    let Some(row) = states::table_sync_state(subscription.id, table)? else { return Ok(()) };
    if matches!(row.state, SyncState::Ready | SyncState::SyncDone | SyncState::Failed) {
        return Ok(());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
        format!("table {table} is already being synchronized by subscription \"{}\"", subscription.name),
    )
    .hint("Wait for it with spock.table_wait_for_sync."))
}

fn require_ready(subscription: &Subscription) -> Result<(), Report> {
    if states::sync_state(subscription.id)?.is_some_and(|row| row.state == SyncState::Ready) {
        return Ok(());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("subscription \"{}\" is not synchronized itself", subscription.name),
    )
    .hint("Wait for it with spock.sub_wait_for_sync."))
}

/// A node that takes no writes does not empty tables or fill them either. 55000.
fn refuse_while_read_only() -> Result<(), Report> {
    if settings::readonly() == ReadOnly::Off {
        return Ok(());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "cannot synchronize tables while this node is read-only",
    )
    .hint("Set \"spock.readonly\" to off first."))
}

/// `sub_resync_table(subscription_name, relation, truncate)`
pub fn resync_table(call: &Call) -> Result<Answer, Report> {
    require_administrator("synchronize a table")?;
    let name = required_name(call, 0, "the subscription's name")?;
    let empties = call.boolean(2).unwrap_or(true);
    topology::require_local_node()?;
    let subscription = subscription::require(&name)?;
    let relation = table_of(call, 1)?;
    refuse_own(&relation)?;
    refuse_while_read_only()?;
    let table = named(&relation);
    let mut ahead = Ahead::new(&subscription, require_provided(&subscription, &table)?);
    if empties {
        ahead.wait()?;
    }

    topology::local_node_locked()?;
    let subscription = subscription::require(&name)?;
    require_ready(&subscription)?;
    require_idle(&subscription, &table)?;
    states::put_table_state(subscription.id, SyncKind::Data, &table, SyncState::Init, None)?;
    if empties {
        truncate(&[table], &mut ahead)?;
    }
    signal_at_commit(Change::Tables(subscription.id));
    Ok(Answer::One(Value::Bool(true)))
}

/// `sub_alter_sync(subscription_name, truncate)`: tables of the subscribed sets that have no state of their own are copied,
/// states of tables that are in no set any more go.
pub fn alter_sync(call: &Call) -> Result<Answer, Report> {
    require_administrator("synchronize a subscription")?;
    let name = required_name(call, 0, "the subscription's name")?;
    let empties = call.boolean(1).unwrap_or(false);
    topology::require_local_node()?;
    let subscription = subscription::require(&name)?;
    refuse_while_read_only()?;
    require_ready(&subscription)?;
    let mut session = Session::open(&subscription, "sync")?;
    let remote = session.tables(&subscription.replication_sets)?;
    let mut ahead = Ahead::new(&subscription, session);
    if empties {
        ahead.wait()?;
    }
    let blocked = relations::blocked_schemas()?;
    let skipped = |schema: &String| blocked.contains(schema) || subscription.skip_schemas.contains(schema);

    topology::local_node_locked()?;
    let known = states::sync_states(subscription.id)?;
    let has_row = |table: &TableName| known.iter().any(|row| row.table.as_ref() == Some(table));
    let mut empty = Vec::new();
    for table in remote.iter().filter(|table| !skipped(&table.name.schema) && !has_row(&table.name)) {
        // Rows of a partition come with those of its parent, which is brought up partition by partition.
        if table.with_parent {
            continue;
        }
        states::put_table_state(subscription.id, SyncKind::Data, &table.name, SyncState::Init, None)?;
        empty.push(table.name.clone());
    }
    let gone = |table: &TableName| !remote.iter().any(|remote| remote.name == *table);
    for table in known.iter().filter_map(|row| row.table.as_ref()).filter(|table| gone(table)) {
        states::delete_table_state(subscription.id, table)?;
    }
    if empties {
        truncate(&empty, &mut ahead)?;
    }
    signal_at_commit(Change::Tables(subscription.id));
    Ok(Answer::One(Value::Bool(true)))
}

/// `table_wait_for_sync(subscription_name, relation)`
pub fn wait_for_table(call: &Call) -> Result<Answer, Report> {
    let name = required_name(call, 0, "the subscription's name")?;
    let table = named(&table_of(call, 1)?);
    status::wait_until_ready(&name, Some(&table))
}
