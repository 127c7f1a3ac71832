//! How far the initial synchronisation of a subscription, or of one of its tables, has come.
//!
//! # Invariants
//! 1. One row with both names NULL per subscription; one row per table that is synchronised on its own.
//! 2. Which state may follow which is decided by `spock_core::sync`.

use pgrx::PgSqlErrorCode;
use spock_core::sync::{SyncKind, SyncState};
use spock_core::types::{Lsn, SubId};

use crate::catalog::query::{Row, execute, select, select_one};
use crate::catalog::topology::{lsn_text, oid, parse_lsn};
use crate::error::Report;

/// One row of `spock.local_sync_status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRow {
    /// What is copied.
    pub kind: SyncKind,
    /// Schema and name of the table; `None`: the subscription itself.
    pub table: Option<(String, String)>,
    /// How far it is.
    pub state: SyncState,
    /// Where in the provider's WAL that state was reached.
    pub lsn: Option<Lsn>,
}

const COLUMNS: &str = "SELECT pg_catalog.ascii(sync_kind::text), sync_nspname::text, sync_relname::text,
    pg_catalog.ascii(sync_status::text), sync_statuslsn::text FROM spock.local_sync_status WHERE sync_subid = $1::oid";

fn read(row: &Row<'_>) -> Result<SyncRow, Report> {
    let lsn: String = row.get(5)?;
    let table = row.opt(2)?.zip(row.opt(3)?);
    let unknown =
        || Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "a row of spock.local_sync_status has an unknown state");
    Ok(SyncRow {
        kind: letter(row, 1)?.and_then(SyncKind::from_char).ok_or_else(unknown)?,
        table,
        state: letter(row, 4)?.and_then(SyncState::from_char).ok_or_else(unknown)?,
        lsn: parse_lsn(&lsn),
    })
}

fn letter(row: &Row<'_>, n: usize) -> Result<Option<char>, Report> {
    Ok(u8::try_from(row.get::<i32>(n)?).ok().map(char::from))
}

/// The state of the subscription itself.
pub fn sync_state(id: SubId) -> Result<Option<SyncRow>, Report> {
    let sql = format!("{COLUMNS} AND sync_nspname IS NULL AND sync_relname IS NULL");
    select_one(&sql, &[oid(id.get())], read)
}

/// The states of the subscription itself and of all its tables.
pub fn sync_states(id: SubId) -> Result<Vec<SyncRow>, Report> {
    select(COLUMNS, &[oid(id.get())], read)
}

/// The state of one table.
pub fn table_sync_state(id: SubId, schema: &str, table: &str) -> Result<Option<SyncRow>, Report> {
    let sql = format!("{COLUMNS} AND sync_nspname = $2::name AND sync_relname = $3::name");
    select_one(&sql, &[oid(id.get()), schema.into(), table.into()], read)
}

/// Writes the first state of a subscription.
pub fn insert_sync_state(id: SubId, kind: SyncKind, state: SyncState) -> Result<(), Report> {
    execute(
        "INSERT INTO spock.local_sync_status (sync_kind, sync_subid, sync_nspname, sync_relname, sync_status, sync_statuslsn)
         VALUES ($2::\"char\", $1::oid, NULL, NULL, $3::\"char\", '0/0')",
        &[oid(id.get()), String::from(kind.as_char()).into(), String::from(state.as_char()).into()],
    )?;
    Ok(())
}

/// A table is gone: so are the states of its own, of all subscriptions.
pub fn forget_table(schema: &str, table: &str) -> Result<(), Report> {
    execute(
        "DELETE FROM spock.local_sync_status WHERE sync_nspname = $1::name AND sync_relname = $2::name",
        &[schema.into(), table.into()],
    )?;
    Ok(())
}

/// Moves the subscription itself to `state`, reached at `lsn` of the provider's WAL.
pub fn set_sync_state(id: SubId, state: SyncState, lsn: Option<Lsn>) -> Result<(), Report> {
    let changed = execute(
        "UPDATE spock.local_sync_status SET sync_status = $2::\"char\", sync_statuslsn = $3::pg_lsn
         WHERE sync_subid = $1::oid AND sync_nspname IS NULL AND sync_relname IS NULL",
        &[oid(id.get()), String::from(state.as_char()).into(), lsn_text(lsn).into()],
    )?;
    if changed == 1 {
        return Ok(());
    }
    Err(Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, "the subscription has no row in spock.local_sync_status"))
}
