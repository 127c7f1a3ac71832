//! Rows of `spock.queue`: messages that travel to subscribers as inserts.

use pgrx::datum::DatumWithOid;

use crate::catalog::query::execute;
use crate::error::Report;

/// Queues a message for the subscribers of `sets`, `None`: for all. `message` is a JSON text.
pub fn enqueue(kind: char, sets: Option<&[String]>, message: &str) -> Result<(), Report> {
    let sets = sets.map(|sets| sets.iter().cloned().map(Some).collect::<Vec<_>>());
    execute(
        "INSERT INTO spock.queue (queued_at, role, replication_sets, message_type, message)
         VALUES (pg_catalog.clock_timestamp(), SESSION_USER, $1, $2::\"char\", $3::json)",
        &[DatumWithOid::from(sets), String::from(kind).into(), message.into()],
    )?;
    Ok(())
}
