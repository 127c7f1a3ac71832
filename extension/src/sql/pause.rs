//! `pause_apply_workers`, `resume_apply_workers`, `apply_workers_paused`: a joining node calls them around making its slot.

use pgrx::PgSqlErrorCode;

use crate::error::Report;
use crate::pg::authority::require_replication;
use crate::pg::function::{Answer, Call, Value};
use crate::pg::raise::{Level, log};
use crate::worker::pause;

/// `pause_apply_workers()`: returns when no apply worker of this database is inside a transaction.
pub fn pause(_: &Call) -> Result<Answer, Report> {
    require_replication("pause apply workers")?;
    pause::pause()?;
    Ok(Answer::Void)
}

/// `resume_apply_workers()`: releases what this session holds; what others hold stays held.
pub fn resume(_: &Call) -> Result<Answer, Report> {
    require_replication("resume apply workers")?;
    if pause::resume() == Some(false) {
        log(
            Level::Warning,
            &Report::new(
                PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
                "apply workers had gone on before they were released",
            )
            .detail("What was read meanwhile need not belong together.")
            .hint("Raise \"spock.pause_timeout\" and repeat what they were held for."),
        );
    }
    Ok(Answer::Void)
}

/// `apply_workers_paused()`: whether what this session holds has held until now.
pub fn paused(_: &Call) -> Result<Answer, Report> {
    Ok(Answer::One(Value::Bool(pause::holds())))
}
