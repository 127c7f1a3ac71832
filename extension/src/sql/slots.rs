//! `wait_slot_confirm_lsn`, `slot_enable_failover`, `get_lsn_from_commit_ts`: what a provider knows of its subscribers' slots.

use pgrx::PgSqlErrorCode;
use std::time::Duration;

use super::null_argument;
use crate::catalog::slots::{self, Confirmed};
use crate::error::Report;
use crate::pg::attempt::attempt_nested;
use crate::pg::authority::{require_administrator, require_replication};
use crate::pg::function::{Answer, Call, Value};
use crate::pg::raise::{Level, log, warn};
use crate::pg::{latch, slot, wal};

/// Time between two looks at the slots. Nothing wakes us when a subscriber's word comes in.
const CONFIRM_POLL: Duration = Duration::from_millis(200);

fn notice(message: String) {
    log(Level::Notice, &Report::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message));
}

/// `wait_slot_confirm_lsn(slotname, target)`: returns when the subscriber behind the slot, or behind every slot of ours in
/// this database, has what was written up to `target`, or up to now.
pub fn wait_confirm(call: &Call) -> Result<Answer, Report> {
    let name = call.name(0);
    let target = if call.is_null(1) { slot::last_written() } else { call.lsn(1).flatten() };
    loop {
        let found = slots::confirmed(name.as_deref())?;
        if found.is_empty() {
            return Err(no_such_slot(name.as_deref()));
        }
        if let Some(lost) = found.iter().find(|slot| slot.lost) {
            return Err(will_not_move(lost));
        }
        if found.iter().all(|slot| slot.flushed >= target) {
            return Ok(Answer::Void);
        }
        latch::wait(CONFIRM_POLL);
        latch::check_interrupts();
    }
}

fn no_such_slot(name: Option<&str>) -> Report {
    let message = name.map_or_else(
        || "there is no replication slot of a subscriber in this database".to_owned(),
        |name| format!("replication slot \"{name}\" does not exist or is not one of a subscriber of this database"),
    );
    Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, message)
        .hint("spock.sub_show_status() on the subscriber shows the name of its slot.")
}

fn will_not_move(slot: &Confirmed) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("replication slot \"{}\" has lost WAL that it needs and will not move", slot.name),
    )
}

/// `slot_enable_failover()`: slots made without the flag get it, so that a standby takes them over. Returns how many.
pub fn enable_failover(_: &Call) -> Result<Answer, Report> {
    require_administrator("change replication slots")?;
    if !slot::KNOWS_FAILOVER_SLOTS {
        notice("this version of PostgreSQL has no failover slots: nothing to do".to_owned());
        return Ok(Answer::One(Value::Int(0)));
    }
    if slot::in_recovery() {
        notice("slots are changed on the primary server: nothing to do".to_owned());
        return Ok(Answer::One(Value::Int(0)));
    }
    let mut changed = 0;
    for found in slots::without_failover()? {
        if found.active {
            notice(format!("replication slot \"{}\" is in use and was left as it is", found.name));
            continue;
        }
        match attempt_nested(|| slot::set_failover(&found.name)) {
            Ok(()) => {
                changed += 1;
                notice(format!("replication slot \"{}\" will be there after a failover", found.name));
            }
            Err(caught) if caught.is_shutdown() => return Err(caught.report),
            Err(caught) => {
                warn(format!("replication slot \"{}\" could not be changed: {}", found.name, caught.report.message))
            }
        }
    }
    Ok(Answer::One(Value::Int(changed)))
}

/// `get_lsn_from_commit_ts(slot_name, commit_ts)`: where the WAL that the slot keeps says that this node had come to at that
/// time. NULL: that WAL cannot tell.
pub fn lsn_at(call: &Call) -> Result<Answer, Report> {
    require_replication("read WAL")?;
    let name = call.name(0).ok_or_else(|| null_argument("the slot's name"))?;
    let time = call.time(1).ok_or_else(|| null_argument("the commit time"))?;
    if slot::in_recovery() {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "commits cannot be looked up while the server is in recovery",
        )
        .hint("Ask the primary server."));
    }
    let held = slot::HeldSlot::take(&name)?;
    let Some(start) = held.restart_lsn() else {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("replication slot \"{name}\" keeps no WAL yet"),
        ));
    };
    let found = wal::last_local_commit_until(start, time)?;
    Ok(Answer::One(found.map_or(Value::Null, |lsn| Value::Lsn(Some(lsn)))))
}
