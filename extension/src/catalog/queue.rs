//! Rows of `spock.queue`: messages that travel to subscribers as inserts.

use pgrx::datum::DatumWithOid;

use pgrx::PgSqlErrorCode;

use crate::catalog::query::{execute, select};
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

/// Queues a request to copy a table for the subscribers of `set`. Message `A`: two strings, spaced as the C edition does.
pub fn enqueue_table(set: &str, schema: &str, table: &str) -> Result<(), Report> {
    let message = select(
        "SELECT '{\"schema_name\": ' || pg_catalog.to_json($1::text) || ',\"table_name\": ' || pg_catalog.to_json($2::text) || '}'",
        &[schema.into(), table.into()],
        |row| row.get::<String>(1),
    )?;
    message.iter().try_for_each(|text| enqueue('A', Some(&[set.to_owned()]), text))
}

/// The texts of a message that is a JSON object of exactly these keys, each a string.
pub fn message_texts<const N: usize>(message: &str, keys: [&str; N]) -> Result<[String; N], Report> {
    let invalid = || {
        Report::new(PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION, "the provider sent an invalid queued message")
            .detail(format!("It must have the texts {}, and nothing else.", keys.join(", ")))
    };
    let pairs = select(
        "SELECT key, pg_catalog.json_typeof(value), value #>> '{}' FROM pg_catalog.json_each($1::json)",
        &[message.into()],
        |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?, row.opt::<String>(3)?)),
    )?;
    let mut found: [Option<String>; N] = [const { None }; N];
    for (key, kind, text) in pairs {
        let place = keys.iter().position(|wanted| *wanted == key).ok_or_else(invalid)?;
        if kind != "string" || found[place].is_some() {
            return Err(invalid());
        }
        found[place] = text;
    }
    let mut texts: [String; N] = [const { String::new() }; N];
    for (text, found) in texts.iter_mut().zip(found) {
        *text = found.ok_or_else(invalid)?;
    }
    Ok(texts)
}
