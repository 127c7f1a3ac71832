//! Rows of `spock.queue`: messages that travel to subscribers as inserts.

use pgrx::PgSqlErrorCode;
use pgrx::datum::DatumWithOid;

use crate::catalog::query::{execute, select, select_one};
use crate::error::Report;

/// Queues a message for the subscribers of `sets`, `None`: for all. `message` is a JSON text.
pub fn enqueue(kind: char, sets: Option<&[String]>, message: &str) -> Result<(), Report> {
    insert(kind, None, sets, "$3::json", message)
}

/// Queues an SQL text of `role`.
pub fn enqueue_text(kind: char, role: &str, sets: Option<&[String]>, sql: &str) -> Result<(), Report> {
    insert(kind, Some(role), sets, "pg_catalog.to_json($3::text)", sql)
}

/// `role`: `None` is the user of the session.
fn insert(kind: char, role: Option<&str>, sets: Option<&[String]>, json: &str, message: &str) -> Result<(), Report> {
    let sets = sets.map(|sets| sets.iter().cloned().map(Some).collect::<Vec<_>>());
    let sql = format!(
        "INSERT INTO spock.queue (queued_at, role, replication_sets, message_type, message)
         VALUES (pg_catalog.clock_timestamp(), coalesce($4::name, SESSION_USER), $1, $2::\"char\", {json})"
    );
    execute(
        &sql,
        &[
            DatumWithOid::from(sets),
            String::from(kind).into(),
            message.into(),
            DatumWithOid::from(role.map(str::to_owned)),
        ],
    )?;
    Ok(())
}

/// The SQL text of a message `Q` or `D`; `None`: the message is something else.
pub fn sql_text(message: &str) -> Result<Option<String>, Report> {
    let text = select_one(
        "SELECT CASE WHEN pg_catalog.json_typeof($1::json) = 'string' THEN $1::json #>> '{}' END",
        &[message.into()],
        |row| row.opt::<String>(1),
    )?;
    Ok(text.flatten())
}

/// A row, by its place and the transaction that wrote it: a place that another row has taken since is not mistaken for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    place: String,
    transaction: String,
}

/// Rows that were queued longer than `seconds` ago, `at_most` of them.
pub fn older_than(seconds: u32, at_most: i64) -> Result<Vec<Queued>, Report> {
    select(
        "SELECT ctid::text, xmin::text FROM spock.queue
          WHERE queued_at <= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1) LIMIT $2",
        &[f64::from(seconds).into(), at_most.into()],
        |row| Ok(Queued { place: row.get(1)?, transaction: row.get(2)? }),
    )
}

/// The end of WAL.
pub fn position() -> Result<String, Report> {
    select_one("SELECT pg_catalog.pg_current_wal_insert_lsn()::text", &[], |row| row.get::<String>(1))?
        .ok_or_else(|| Report::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "the server does not tell the end of WAL"))
}

/// Whether every slot of ours in this database has confirmed what lies before `position`. A slot that can never go on does
/// not count.
pub fn all_slots_confirmed(position: &str) -> Result<bool, Report> {
    let confirmed = select_one(
        "SELECT coalesce(pg_catalog.bool_and(coalesce(confirmed_flush_lsn >= $1::pg_lsn, false)), true)
           FROM pg_catalog.pg_replication_slots
          WHERE database = pg_catalog.current_database() AND plugin IN ('spock_output', 'spock') AND wal_status <> 'lost'",
        &[position.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(confirmed == Some(true))
}

/// Removes rows.
pub fn delete(rows: &[Queued]) -> Result<(), Report> {
    let of = |part: fn(&Queued) -> &String| rows.iter().map(|row| Some(part(row).clone())).collect::<Vec<_>>();
    execute(
        "DELETE FROM spock.queue q USING ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) gone (place, transaction)
          WHERE q.ctid = gone.place::tid AND q.xmin::text = gone.transaction",
        &[DatumWithOid::from(of(|row| &row.place)), DatumWithOid::from(of(|row| &row.transaction))],
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
