//! `terminate_active_transactions`, `cleanup_resolutions`.

use crate::catalog::resolutions;
use crate::error::Report;
use crate::pg::authority::require_administrator;
use crate::pg::function::{Answer, Call, Value};
use crate::pg::session;
use crate::settings;

/// `terminate_active_transactions()`: every other transaction of the server ends with an error, or its session does.
pub fn terminate_active_transactions(_: &Call) -> Result<Answer, Report> {
    require_administrator("terminate transactions")?;
    session::cancel_other_transactions();
    Ok(Answer::One(Value::Bool(true)))
}

/// `cleanup_resolutions(days)`: forgets conflicts that are older than that, or than the setting says. Returns how many.
pub fn cleanup_resolutions(call: &Call) -> Result<Answer, Report> {
    require_administrator("delete the history of conflicts")?;
    let days = call.int(0).unwrap_or_else(|| settings::resolutions_retention_days().cast_signed());
    let gone = resolutions::delete_older_than(days)?;
    Ok(Answer::One(Value::BigInt(i64::try_from(gone).unwrap_or(i64::MAX))))
}
