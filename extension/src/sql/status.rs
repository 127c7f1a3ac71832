//! What is going on: subscriptions, their workers, how far they have come; and waiting for it.

use pgrx::PgSqlErrorCode;
use spock_core::sync::{SyncState, TableName};
use spock_core::types::SubId;
use std::time::{Duration, Instant};

use super::membership::no_such_relation;
use super::{null_argument, required_name, subscription};
use crate::catalog::sync::SyncRow;
use crate::catalog::topology::{self, Subscription};
use crate::catalog::{parked, relations, sync};
use crate::conflict::statistics;
use crate::counters;
use crate::error::Report;
use crate::pg::function::{Answer, Call, Value};
use crate::pg::statistics::Totals;
use crate::pg::{authority, latch, server};
use crate::settings;
use crate::worker::progress;
use crate::worker::registry::{self, Role, WorkerStatus, WorkerView};
use crate::worker::skew;

/// Between two looks at the sync states, as in the C edition.
const SYNC_POLL: Duration = Duration::from_millis(200);

/// The subscription that is named by argument 0, or all of this node by name.
fn chosen(call: &Call) -> Result<Vec<Subscription>, Report> {
    let local = topology::require_local_node()?;
    match call.name(0) {
        Some(name) => Ok(vec![subscription::require(&name)?]),
        None => topology::subscriptions_of(local.node.id),
    }
}

fn attached(subscription: &Subscription) -> Option<WorkerView> {
    registry::apply_worker(server::database_oid(), subscription.id).filter(|worker| worker.pid.is_some())
}

fn status_word(subscription: &Subscription) -> Result<&'static str, Report> {
    Ok(match (attached(subscription), sync::sync_state(subscription.id)?) {
        (Some(_), None) => "unknown",
        (Some(_), Some(row)) if row.state == SyncState::Ready => "replicating",
        (Some(_), Some(_)) => "initializing",
        (None, _) if subscription.enabled => "down",
        (None, _) => "disabled",
    })
}

/// Subscriptions that a call asks for, each with its columns as the C edition has them.
pub(super) fn subscription_rows(call: &Call) -> Result<Vec<(Subscription, Vec<Value>)>, Report> {
    let row = |subscription: Subscription| {
        let values = vec![
            Value::Text(subscription.name.clone()),
            Value::Text(status_word(&subscription)?.to_owned()),
            Value::Text(subscription.origin.name.clone()),
            Value::Text(subscription.origin_if.dsn.shown()),
            Value::Text(subscription.slot_name.clone()),
            Value::texts(&subscription.replication_sets),
            Value::texts(&subscription.forward_origins),
        ];
        Ok((subscription, values))
    };
    chosen(call)?.into_iter().map(row).collect()
}

/// `sub_show_status(subscription_name)`
pub fn show_subscriptions(call: &Call) -> Result<Answer, Report> {
    let rows = subscription_rows(call)?;
    let measured = skew::of_database(server::database_oid());
    let blocked = parked::blocked()?;
    let with_more = |(subscription, mut row): (Subscription, Vec<Value>)| {
        let known = measured.iter().find(|(node, _)| *node == subscription.origin.id);
        row.push(known.map_or(Value::Null, |(_, skew)| Value::Interval(skew.offset_us)));
        row.push(Value::text(blocked.get(&subscription.name).cloned()));
        row
    };
    Ok(Answer::Rows(rows.into_iter().map(with_more).collect()))
}

/// `sub_worker_status(subscription_name)`: one row per subscription, also when nothing runs.
pub fn show_workers(call: &Call) -> Result<Answer, Report> {
    let row = |subscription: Subscription| {
        let worker = registry::apply_worker(server::database_oid(), subscription.id);
        let status = match &worker {
            Some(worker) => worker.status.as_str(),
            None if subscription.enabled => "none",
            None => "disabled",
        };
        vec![
            Value::Text(subscription.name),
            worker.as_ref().and_then(|worker| worker.pid).map_or(Value::Null, Value::Int),
            Value::Text(status.to_owned()),
            Value::Int(worker.as_ref().map_or(0, |worker| worker.attempts).cast_signed()),
            Value::time(worker.as_ref().and_then(|worker| worker.retry_at)),
            Value::text(worker.and_then(|worker| worker.last_error)),
        ]
    };
    Ok(Answer::Rows(chosen(call)?.into_iter().map(row).collect()))
}

/// `sub_show_table(subscription_name, relation)`
pub fn show_table(call: &Call) -> Result<Answer, Report> {
    let name = required_name(call, 0, "the subscription's name")?;
    let oid = call.oid(1).ok_or_else(|| null_argument("the table"))?;
    let subscription = subscription::require(&name)?;
    let table = relations::relation(oid)?.ok_or_else(|| no_such_relation(oid))?;
    let name = TableName { schema: table.schema.clone(), table: table.name.clone() };
    let state = sync::table_sync_state(subscription.id, &name)?.map(|row| row.state);
    Ok(Answer::Record(vec![
        Value::Text(table.schema),
        Value::Text(table.name),
        Value::Text(state.map_or("unknown", SyncState::shown_as).to_owned()),
    ]))
}

/// `sub_wait_for_sync(subscription_name)`
pub fn wait_for_sync(call: &Call) -> Result<Answer, Report> {
    let name = required_name(call, 0, "the subscription's name")?;
    wait_until_ready(&name, None)
}

/// Waits until the subscription and its tables are ready, or only `table`.
pub fn wait_until_ready(name: &str, table: Option<&TableName>) -> Result<Answer, Report> {
    if authority::uses_one_snapshot() {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "cannot wait for a subscription in a transaction that keeps one snapshot",
        )
        .hint("Use isolation level READ COMMITTED."));
    }
    let (started, limit) = (Instant::now(), Duration::from_secs(u64::from(settings::sync_timeout_s())));
    loop {
        let subscription = subscription::require(name)?;
        let rows = sync::sync_states(subscription.id)?;
        let concerned: Vec<&SyncRow> =
            rows.iter().filter(|row| table.is_none() || row.table.as_ref() == table).collect();
        if let Some(failed) = concerned.iter().find(|row| row.state == SyncState::Failed) {
            let what = failed.table.as_ref().map_or_else(|| name.to_owned(), ToString::to_string);
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("synchronization of \"{what}\" has failed"),
            )
            .hint("See spock.exception_log and the server log, then start it again with spock.sub_resync_table."));
        }
        match table {
            Some(table) if concerned.is_empty() => {
                return Err(Report::new(
                    PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                    format!("subscription \"{name}\" does not synchronize table {table} on its own"),
                )
                .hint(
                    "Tables are copied with the subscription, by spock.sub_alter_sync or by spock.sub_resync_table.",
                ));
            }
            _ if rows.iter().any(|row| row.table.is_none())
                && concerned.iter().all(|row| row.state == SyncState::Ready) =>
            {
                return Ok(Answer::Void);
            }
            _ => {}
        }
        if !subscription.enabled {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("subscription \"{name}\" is disabled and will not become synchronized"),
            )
            .hint("Enable it with spock.sub_enable."));
        }
        if !limit.is_zero() && started.elapsed() >= limit {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
                format!("subscription \"{name}\" was not synchronized within {} s", limit.as_secs()),
            )
            .hint("See \"spock.sync_timeout\"."));
        }
        latch::wait(SYNC_POLL);
        latch::check_interrupts();
    }
}

/// `apply_group_progress()`: all databases of the server.
pub fn group_progress(_: &Call) -> Result<Answer, Report> {
    let rows = progress::snapshot().into_iter().map(|row| {
        vec![
            Value::Oid(row.key.database),
            Value::Oid(row.key.node.get()),
            Value::Oid(row.key.remote.get()),
            Value::time(row.remote_commit_ts),
            Value::time(row.prev_remote_ts),
            Value::Lsn(row.remote_commit_lsn),
            Value::Lsn(row.remote_insert_lsn),
            Value::Lsn(row.received_lsn),
            Value::time(row.last_updated_ts),
            Value::Bool(row.updated_by_decode),
        ]
    });
    Ok(Answer::Rows(rows.collect()))
}

/// The words that the C edition has for it.
const fn legacy_status(status: WorkerStatus) -> &'static str {
    match status {
        WorkerStatus::Starting | WorkerStatus::Connecting | WorkerStatus::Initializing => "idle",
        WorkerStatus::Running | WorkerStatus::Paused => "running",
        WorkerStatus::Stopped => "stopped",
        WorkerStatus::Failed => "failed",
    }
}

/// `get_apply_worker_status()`: attached apply workers of all databases.
pub fn apply_workers(_: &Call) -> Result<Answer, Report> {
    let rows = registry::workers().into_iter().filter_map(|worker| {
        let (Role::Apply, Some(pid), Some(subscription)) = (worker.role, worker.pid, worker.subscription) else {
            return None;
        };
        Some(vec![
            Value::BigInt(i64::from(pid)),
            Value::Int(worker.database.cast_signed()),
            Value::BigInt(i64::from(subscription.get())),
            Value::Text(legacy_status(worker.status).to_owned()),
        ])
    });
    Ok(Answer::Rows(rows.collect()))
}

/// `get_channel_stats()`: rows counted in this database since the server started.
pub fn channel_stats(_: &Call) -> Result<Answer, Report> {
    let rows = counters::counts(server::database_oid()).into_iter().map(|(key, counts)| {
        let count = |value: u64| Value::BigInt(value.cast_signed());
        vec![
            Value::Oid(key.subscription),
            Value::Oid(key.relation),
            count(counts.inserted),
            count(counts.updated),
            count(counts.deleted),
            count(counts.conflicts),
            count(counts.deltas),
        ]
    });
    Ok(Answer::Rows(rows.collect()))
}

/// `reset_channel_stats()`: of this database only.
pub fn reset_channel_stats(_: &Call) -> Result<Answer, Report> {
    authority::require_administrator("reset the counters")?;
    counters::reset(server::database_oid());
    Ok(Answer::Void)
}

/// `get_subscription_stats(subid)`: conflicts of a subscription by kind.
pub fn subscription_stats(call: &Call) -> Result<Answer, Report> {
    let given = call.oid(0).ok_or_else(|| null_argument("the subscription's id"))?;
    let totals = SubId::new(given).map_or_else(Totals::default, statistics::totals);
    let mut row = vec![Value::Oid(given)];
    row.extend(totals.counts.map(|count| Value::BigInt(count.cast_signed())));
    row.push(Value::time(totals.reset_at));
    Ok(Answer::Record(row))
}

/// `reset_subscription_stats(subid)`: of one subscription, or of all of this database.
pub fn reset_subscription_stats(call: &Call) -> Result<Answer, Report> {
    authority::require_administrator("reset the counters")?;
    match call.oid(0).map(SubId::new) {
        Some(Some(sub)) => statistics::reset(sub),
        Some(None) => {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "0 is not the id of a subscription",
            )
            .hint("Leave it out to reset the counters of all subscriptions."));
        }
        None => {
            for sub in topology::subscriptions_of(topology::require_local_node()?.node.id)? {
                statistics::reset(sub.id);
            }
        }
    }
    Ok(Answer::Void)
}
