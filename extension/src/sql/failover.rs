//! What a standby has of the primary's logical slots.

use crate::error::Report;
use crate::pg::function::{Answer, Call, Value};
use crate::worker::failover::state;
use spock_core::types::Lsn;

fn lsn(position: Option<Lsn>) -> Value {
    position.map_or(Value::Null, |position| Value::Lsn(Some(position)))
}

/// `failover_slot_status()`: no row where nothing is synchronized. Readable by everybody, as `pg_replication_slots` is.
pub fn slot_status(_: &Call) -> Result<Answer, Report> {
    let Some((condition, since)) = state::worker() else {
        return Ok(Answer::Rows(Vec::new()));
    };
    let own = vec![
        Value::Null,
        Value::Text(condition.word().to_owned()),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Time(since),
    ];
    let slots = state::slots().into_iter().map(|(slot, since)| {
        vec![
            Value::Name(slot.name),
            Value::Text(slot.wait.word().to_owned()),
            Value::Bool(slot.ready),
            lsn(slot.restart),
            lsn(slot.confirmed),
            Value::Time(since),
        ]
    });
    Ok(Answer::Rows(core::iter::once(own).chain(slots).collect()))
}
