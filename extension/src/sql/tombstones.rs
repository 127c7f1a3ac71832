//! What is remembered of removed keys.

use crate::catalog::tombstones as catalog;
use crate::error::Report;
use crate::pg::function::{Answer, Call, Value};
use crate::worker::tombstones;
use spock_core::types::PgTime;

/// `tombstone_status()`: no row where nobody sends changes to this database.
pub fn status(_: &Call) -> Result<Answer, Report> {
    let Some(kept) = tombstones::kept() else { return Ok(Answer::Rows(Vec::new())) };
    let since = kept.from.map_or(Value::Null, |_| Value::Time(PgTime::from_micros(kept.since)));
    let from = kept.from.map_or(Value::Null, |xid| Value::BigInt(xid.0.cast_signed()));
    let tables = kept.tables.map_or(Value::Null, |tables| Value::BigInt(tables as i64));
    let waits_for = kept.waits_for.map_or(Value::Null, |node| Value::Oid(node.get()));
    Ok(Answer::Rows(vec![vec![from, since, tables, Value::BigInt(catalog::count()?), waits_for]]))
}
