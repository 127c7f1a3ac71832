//! The clocks of providers, as measured.

use crate::error::Report;
use crate::pg::function::{Answer, Call, Value};
use crate::pg::server;
use crate::settings;
use crate::worker::skew;

/// `clock_skew_status()`: one row for each provider whose clock was measured since the server started.
pub fn status(_: &Call) -> Result<Answer, Report> {
    let limit_ms = settings::maximum_clock_skew_ms();
    let row = |(node, known): (spock_core::types::NodeId, spock_core::skew::Skew)| {
        vec![
            Value::Oid(node.get()),
            Value::BigInt(known.offset_us),
            Value::BigInt(known.uncertainty_us),
            Value::Time(known.measured_at),
            Value::Int(limit_ms.cast_signed()),
            Value::Bool(known.is_within(i64::from(limit_ms) * 1000)),
        ]
    };
    Ok(Answer::Rows(skew::of_database(server::database_oid()).into_iter().map(row).collect()))
}
