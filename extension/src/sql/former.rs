//! Symbols that catalogs of earlier versions name and the current install script does not: they work, or say why not, from
//! the moment the library is exchanged until the extension is updated.

use pgrx::PgSqlErrorCode;
use spock_core::types::{NodeId, PgTime};

use crate::error::Report;
use crate::pg::authority::require_administrator;
use crate::pg::delta::{Number, local_plus_difference};
use crate::pg::function::{Answer, Call, Value};
use crate::pg::{origin, process};
use crate::worker::progress::{self, ProgressKey, ProgressRow};

/// Functions of versions before 5: they have done nothing since.
pub fn nothing(_: &Call) -> Result<Answer, Report> {
    Ok(Answer::Void)
}

/// `show_repset_table_info_by_target(...)` of versions before 5.
pub fn gone(_: &Call) -> Result<Answer, Report> {
    Err(Report::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, "this function no longer exists")
        .hint("Use spock.repset_show_table()."))
}

/// `sub_show_status(subscription_name)`, before it had the columns `clock_skew` and `blocked`.
pub fn show_subscriptions(call: &Call) -> Result<Answer, Report> {
    let rows = super::status::subscription_rows(call)?;
    Ok(Answer::Rows(rows.into_iter().map(|(_, row)| row).collect()))
}

/// `xact_commit_timestamp_origin(xid)`
pub fn commit_timestamp_origin(call: &Call) -> Result<Answer, Report> {
    let Some((time, origin)) = call.xid(0).and_then(origin::commit_data) else {
        return Ok(Answer::Record(vec![Value::Null, Value::Null]));
    };
    Ok(Answer::Record(vec![Value::Time(PgTime::from_micros(time)), Value::Oid(u32::from(origin))]))
}

/// `adopt_progress(node_id, remote_node_id, remote_commit_ts, remote_lsn, remote_insert_lsn, last_updated_ts,
/// updated_by_decode)`: a row of the table that 5.0 keeps, taken over by the upgrade script. What is known already and is
/// newer stays.
pub fn adopt_progress(call: &Call) -> Result<Answer, Report> {
    require_administrator("take over progress")?;
    let ids = (call.oid(0).and_then(NodeId::new), call.oid(1).and_then(NodeId::new));
    let (Some(node), Some(remote)) = ids else { return Ok(Answer::Void) };
    let commit_lsn = call.lsn(3).flatten();
    progress::adopt(&ProgressRow {
        key: ProgressKey { database: process::own_database(), node, remote },
        remote_commit_ts: call.time(2),
        prev_remote_ts: call.time(2),
        remote_commit_lsn: commit_lsn,
        remote_insert_lsn: call.lsn(4).flatten(),
        received_lsn: commit_lsn,
        last_updated_ts: call.time(5),
        updated_by_decode: call.boolean(6).unwrap_or(false),
    });
    Ok(Answer::Void)
}

macro_rules! deltas {
    ($($name:ident => $number:ident,)+) => { $(
        /// `delta_apply` of one type
        pub fn $name(call: &Call) -> Result<Answer, Report> {
            Ok(Answer::One(local_plus_difference(call, Number::$number)))
        }
    )+ };
}

deltas! {
    delta_int2 => Int2,
    delta_int4 => Int4,
    delta_int8 => Int8,
    delta_float4 => Float4,
    delta_float8 => Float8,
    delta_numeric => Numeric,
    delta_money => Money,
}
