//! `replay_parked`, `discard_parked`. What is parked is shown by SQL alone, see `spock.parked()`.
//!
//! # Invariants
//! 1. Parked transactions are applied by the apply worker, never here: each is a transaction with a version of its own, and
//!    nothing of the stream comes in between.
//! 2. What is discarded is written down by the transaction that takes it away.

use pgrx::PgSqlErrorCode;
use spock_core::types::SubId;
use std::time::Duration;

use super::null_argument;
use crate::apply::discard::give_up;
use crate::catalog::parked;
use crate::catalog::topology::{self, Subscription};
use crate::error::Report;
use crate::pg::authority::{self, TableLock, lock_table, refuse_in_transaction_block, require_administrator};
use crate::pg::function::{Answer, Call, Value};
use crate::pg::{latch, process, server};
use crate::worker::registry::{self, Change, signal_at_commit};

/// Between two looks whether the worker has answered.
const ANSWER_POLL: Duration = Duration::from_millis(20);

fn no_such(id: i64) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("parked transaction {id} does not exist"))
        .hint("spock.parked() lists those that do.")
}

/// One session at a time decides about what is parked. The worker goes on writing.
fn lock() {
    lock_table(c"spock", c"parked_transaction", TableLock::ShareUpdateExclusive);
}

/// `replay_parked(id)`
pub fn replay(call: &Call) -> Result<Answer, Report> {
    require_administrator("apply parked transactions")?;
    let id = call.bigint(0);
    if id.is_some_and(|id| id <= 0) {
        return Err(no_such(id.unwrap_or_default()));
    }
    refuse_in_transaction_block(c"spock.replay_parked()");
    if authority::uses_one_snapshot() {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "cannot wait for the apply worker in a transaction that keeps one snapshot",
        )
        .hint("Use isolation level READ COMMITTED."));
    }
    lock();
    let subscriptions = match id {
        Some(id) => {
            let facts = parked::facts(id)?.ok_or_else(|| no_such(id))?;
            facts.subscription.into_iter().collect()
        }
        None => parked::subscriptions()?,
    };
    let mut applied = 0;
    let mut failures = Vec::new();
    for sub in subscriptions {
        let subscription = topology::subscription(sub)?.ok_or_else(|| {
            Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, "a parked transaction belongs to no subscription")
        })?;
        let order = parked::order(sub)?;
        let wanted = id.map_or_else(|| order.all(), |id| order.up_to(id));
        let started = process::now().micros();
        ask_and_wait(&subscription, id.unwrap_or(0))?;
        let left = parked::order(sub)?.all();
        let stays: Vec<i64> = wanted.iter().copied().filter(|id| left.contains(id)).collect();
        applied += wanted.len() - stays.len();
        failures.extend(first_failure(&stays, started)?);
    }
    match failures.into_iter().next() {
        None => Ok(Answer::One(Value::BigInt(i64::try_from(applied).unwrap_or(i64::MAX)))),
        Some(report) if applied == 0 => Err(report),
        Some(report) => {
            let detail = report.detail.unwrap_or_default();
            Err(Report { detail: Some(format!("{detail} {applied} others were applied.")), ..report })
        }
    }
}

fn ask_and_wait(subscription: &Subscription, id: i64) -> Result<(), Report> {
    let Subscription { id: sub, name, .. } = subscription;
    let database = server::database_oid();
    if !subscription.enabled {
        return Err(disabled(name));
    }
    let Some(number) = registry::request_replay(database, *sub, id) else {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("subscription \"{name}\" has no apply worker"),
        )
        .hint("Wait until the manager has started it; spock.sub_worker_status() shows it."));
    };
    while !registry::replay_answered(database, *sub, number) {
        latch::wait(ANSWER_POLL);
        latch::check_interrupts();
        if topology::subscription(*sub)?.is_none_or(|now| !now.enabled) {
            return Err(disabled(name));
        }
    }
    Ok(())
}

fn disabled(name: &str) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("subscription \"{name}\" is disabled"),
    )
    .hint("Enable it with spock.sub_enable: what is parked is tried first.")
}

/// Of those that stay, the first that was tried.
fn first_failure(stays: &[i64], since: i64) -> Result<Option<Report>, Report> {
    for id in stays {
        let Some(facts) = parked::facts(*id)? else { continue };
        if facts.tried_at.is_none_or(|tried| tried < since) {
            continue;
        }
        let cause = &facts.cause;
        let message = format!("parked transaction {id} cannot be applied: {}", cause.message);
        let code = cause.sqlstate.as_deref().unwrap_or("XX000");
        let others = stays.len() - 1;
        return Ok(Some(
            Report::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                .detail(format!("SQLSTATE {code}. It stays parked, with {others} others."))
                .hint("Remove the cause and try again, or give it up with spock.discard_parked."),
        ));
    }
    Ok(None)
}

/// `discard_parked(id, cascade)`
pub fn discard(call: &Call) -> Result<Answer, Report> {
    require_administrator("discard parked transactions")?;
    let id = call.bigint(0).ok_or_else(|| null_argument("the id"))?;
    let cascade = call.boolean(1) == Some(true);
    lock();
    // Locked before it is asked who waits: the worker does not park another one behind it meanwhile.
    let facts = parked::facts_locked(id)?.ok_or_else(|| no_such(id))?;
    let sub: Option<SubId> = facts.subscription;
    let behind = match sub {
        Some(sub) => parked::order(sub)?.behind(&[id]),
        None => Vec::new(),
    };
    if !behind.is_empty() && !cascade {
        let names: Vec<String> = behind.iter().map(i64::to_string).collect();
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("other parked transactions wait for {id}"),
        )
        .detail(format!("They are {}.", names.join(", ")))
        .hint("Use cascade := true to discard them, too."));
    }
    let all: Vec<i64> = core::iter::once(id).chain(behind).collect();
    for id in &all {
        give_up(*id)?;
    }
    if let Some(sub) = sub {
        signal_at_commit(Change::Parked(sub));
    }
    Ok(Answer::One(Value::BigInt(i64::try_from(all.len()).unwrap_or(i64::MAX))))
}
