//! Rows that are displaced at the provider, see `apply::displace`: a node that copies from it keeps them as well, so that they come
//! back on all nodes once their unique values are free.
//!
//! # Invariants
//! 1. They are taken over in the transaction that copies the table. Rows that keep them out count as written in 1970 if they are
//!    settled, so these count as older. A version is kept where it is certain that those of all newer rows are.
//! 2. Only columns that are sent are taken over, and nothing of a table with row filters.

use super::copy::{COPIED_AT_US, open_if_here};
use super::provider::{RemoteTable, SnapshotSession, failed};
use super::unsettled::{literal, time_expression};
use crate::catalog::displaced as catalog;
use crate::catalog::query::{execute, execute_as_is};
use crate::error::Report;
use crate::pg::copy::copy_in;
use crate::pg::heap::next_command;
use crate::pg::relation::{LockMode, Table};
use crate::worker::displaced;
use pgrx::PgSqlErrorCode;
use spock_core::copy::CopyFormat;
use spock_core::settled::Unsettled;
use spock_core::sync::TableName;
use std::ffi::CString;

/// Name of the temporary table that they come through.
const STAGING: &str = "spock_displaced_rows";
const COLUMNS: [&str; 6] = ["key_hash", "names", "texts", "version_time", "version_origin", "index_name"];

/// Takes over what is displaced from `tables`, which are those of `remote` that hold rows. `columns`: names of those that are copied. `empty`: the
/// tables were, so what was displaced here before goes.
pub fn take_over(
    session: &mut SnapshotSession,
    remote: &RemoteTable,
    tables: &[TableName],
    columns: &[String],
    (empty, unsettled): (bool, Unsettled),
) -> Result<(), Report> {
    let there = !remote.filtered && session.has_displaced_rows()?;
    for name in tables {
        let Some(table) = open_if_here(name) else { continue };
        let oid = table.id().get();
        if empty && displaced::is_marked(oid) {
            catalog::delete_of(oid)?;
        }
        let of_table = format!("d.relation = {}::regclass", literal(&name.quoted()));
        if !there || !session.has_rows(name, &format!("spock.displaced_row d WHERE {of_table}"))? {
            continue;
        }
        receive(session, name, &of_table, columns)?;
        write(oid, unsettled)?;
        displaced::mark(oid);
    }
    Ok(())
}

/// Brings them into the temporary table. Values are those of the columns by name, because numbers differ between nodes.
fn receive(session: &mut SnapshotSession, name: &TableName, of_table: &str, columns: &[String]) -> Result<(), Report> {
    execute(
        &format!(
            "CREATE TEMPORARY TABLE {STAGING} (key_hash int8, names text[], texts text[], version_time timestamptz,
                 version_origin int8, index_name text) ON COMMIT DROP"
        ),
        &[],
    )?;
    next_command();
    let staging = CString::new(STAGING).unwrap_or_default();
    let staging = Table::open_by_name(c"pg_temp", &staging, LockMode::RowExclusive).ok_or_else(|| {
        Report::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "the temporary table for displaced rows is not there")
    })?;
    let wanted = columns.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
    let command = format!(
        "COPY (SELECT d.key_hash, v.names, v.texts, d.version_time, d.version_origin::int8, d.index_name
           FROM spock.displaced_row d CROSS JOIN LATERAL (
                SELECT pg_catalog.array_agg(a.attname::text ORDER BY u.place) AS names,
                       pg_catalog.array_agg(u.value ORDER BY u.place) AS texts
                  FROM ROWS FROM (pg_catalog.unnest(d.row_columns), pg_catalog.unnest(d.row_values))
                       WITH ORDINALITY u (number, value, place)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.relation AND a.attnum = u.number AND NOT a.attisdropped
                 WHERE a.attname::text = ANY (ARRAY[{wanted}]::text[])) v
          WHERE {of_table}) TO STDOUT WITH (FORMAT text)"
    );
    let copy = session
        .copy_out(&command)
        .map_err(|error| failed(&format!("read the provider's displaced rows of table {name}"), error))?;
    let names = COLUMNS.map(|column| CString::new(column).unwrap_or_default());
    copy_in(&staging, &names, CopyFormat::Text, copy);
    next_command();
    Ok(())
}

/// Out of the temporary table, which goes.
fn write(table: u32, unsettled: Unsettled) -> Result<(), Report> {
    let copied = time_expression(COPIED_AT_US);
    // Among each other they stay in their order.
    let older =
        format!("({copied} - dense_rank() OVER (ORDER BY s.version_time DESC) * '1 microsecond'::pg_catalog.interval)");
    let time = match unsettled {
        Unsettled::Since(since) => {
            format!(
                "CASE WHEN s.version_time > {} THEN s.version_time ELSE {older} END",
                time_expression(since.micros())
            )
        }
        Unsettled::Nothing | Unsettled::From(_) => older,
    };
    execute(
        &format!(
            "INSERT INTO spock.displaced_row (relation, key_hash, row_columns, row_values, version_time, version_origin, version_xid,
                 index_name)
             SELECT {table}, s.key_hash, v.numbers, v.texts, {time}, s.version_origin::oid, 0, s.index_name
               FROM pg_temp.{STAGING} s CROSS JOIN LATERAL (
                    SELECT array_agg(a.attnum ORDER BY u.place) AS numbers, array_agg(u.value ORDER BY u.place) AS texts
                      FROM ROWS FROM (unnest(s.names), unnest(s.texts)) WITH ORDINALITY u (name, value, place)
                      JOIN pg_attribute a ON a.attrelid = {table} AND a.attname = u.name AND NOT a.attisdropped
                       AND a.attgenerated = '') v
              WHERE v.numbers IS NOT NULL AND NOT EXISTS (SELECT FROM spock.displaced_row d
                    WHERE d.relation = {table}::regclass AND d.key_hash IS NOT DISTINCT FROM s.key_hash)"
        ),
        &[],
    )?;
    execute_as_is(&format!("DROP TABLE pg_temp.{STAGING}"))?;
    next_command();
    Ok(())
}
