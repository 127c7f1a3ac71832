//! How far the initial synchronisation of a subscription, or of one of its tables, has come.
//!
//! # Invariants
//! 1. One row with both names NULL per subscription; one row per table that is synchronised on its own.
//! 2. Which state may follow which is decided by `spock_core::sync`.

use pgrx::PgSqlErrorCode;
use pgrx::datum::DatumWithOid;
use spock_core::sync::{SyncKind, SyncState, TableName};
use spock_core::types::{Lsn, SubId};

use crate::catalog::query::{Row, execute, execute_returning, select, select_one};
use crate::catalog::topology::{lsn_text, oid, parse_lsn};
use crate::error::Report;

/// One row of `spock.local_sync_status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRow {
    /// What is copied.
    pub kind: SyncKind,
    /// The table; `None`: the subscription itself.
    pub table: Option<TableName>,
    /// How far it is.
    pub state: SyncState,
    /// Where in the provider's WAL that state was reached.
    pub lsn: Option<Lsn>,
}

const COLUMNS: &str = "SELECT pg_catalog.ascii(sync_kind::text), sync_nspname::text, sync_relname::text,
    pg_catalog.ascii(sync_status::text), sync_statuslsn::text FROM spock.local_sync_status WHERE sync_subid = $1::oid";

fn read(row: &Row<'_>) -> Result<SyncRow, Report> {
    let lsn: String = row.get(5)?;
    let table = row.opt(2)?.zip(row.opt(3)?).map(|(schema, table)| TableName { schema, table });
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

/// The states of the subscription itself and of all its tables, in the order of their names.
pub fn sync_states(id: SubId) -> Result<Vec<SyncRow>, Report> {
    let sql = format!("{COLUMNS} ORDER BY sync_nspname, sync_relname");
    select(&sql, &[oid(id.get())], read)
}

/// The state of one table.
pub fn table_sync_state(id: SubId, table: &TableName) -> Result<Option<SyncRow>, Report> {
    let sql = format!("{COLUMNS} AND sync_nspname = $2::name AND sync_relname = $3::name");
    select_one(&sql, &[oid(id.get()), table.schema.as_str().into(), table.table.as_str().into()], read)
}

/// Writes the state of a table, whether it has a row or not.
pub fn put_table_state(
    id: SubId,
    kind: SyncKind,
    table: &TableName,
    state: SyncState,
    lsn: Option<Lsn>,
) -> Result<(), Report> {
    let args = [
        oid(id.get()),
        table.schema.as_str().into(),
        table.table.as_str().into(),
        String::from(kind.as_char()).into(),
        String::from(state.as_char()).into(),
        lsn_text(lsn).into(),
    ];
    let changed = execute(
        "UPDATE spock.local_sync_status SET sync_kind = $4::\"char\", sync_status = $5::\"char\", sync_statuslsn = $6::pg_lsn
         WHERE sync_subid = $1::oid AND sync_nspname = $2::name AND sync_relname = $3::name",
        &args,
    )?;
    if changed == 0 {
        execute(
            "INSERT INTO spock.local_sync_status (sync_kind, sync_subid, sync_nspname, sync_relname, sync_status, sync_statuslsn)
             VALUES ($4::\"char\", $1::oid, $2::name, $3::name, $5::\"char\", $6::pg_lsn)",
            &args,
        )?;
    }
    Ok(())
}

/// Moves a table from one of the states `from` to `to`, reached at `lsn`. False: it is in another state, or its row is gone.
pub fn move_table_state(
    id: SubId,
    table: &TableName,
    from: &[SyncState],
    to: SyncState,
    lsn: Option<Lsn>,
) -> Result<bool, Report> {
    debug_assert!(from.iter().all(|from| from.table_may_become(to)), "{from:?} to {to:?}");
    let from: Vec<Option<String>> = from.iter().map(|state| Some(String::from(state.as_char()))).collect();
    let changed = execute(
        "UPDATE spock.local_sync_status SET sync_status = $4::\"char\", sync_statuslsn = $5::pg_lsn
         WHERE sync_subid = $1::oid AND sync_nspname = $2::name AND sync_relname = $3::name
           AND sync_status::text = ANY ($6)",
        &[
            oid(id.get()),
            table.schema.as_str().into(),
            table.table.as_str().into(),
            String::from(to.as_char()).into(),
            lsn_text(lsn).into(),
            DatumWithOid::from(from),
        ],
    )?;
    Ok(changed == 1)
}

/// Whether the subscription itself is in `state` at `lsn`; its row stays as it is until the transaction ends.
pub fn hold_sync_state(id: SubId, state: SyncState, lsn: Option<Lsn>) -> Result<bool, Report> {
    let rows = execute_returning(
        "SELECT 1 FROM spock.local_sync_status
          WHERE sync_subid = $1::oid AND sync_nspname IS NULL AND sync_relname IS NULL
            AND sync_status = $2::\"char\" AND sync_statuslsn = $3::pg_lsn FOR SHARE",
        &[oid(id.get()), String::from(state.as_char()).into(), lsn_text(lsn).into()],
        |row| row.get::<i32>(1),
    )?;
    Ok(!rows.is_empty())
}

/// Removes the states of the tables that the initial copy brought.
pub fn forget_copied_tables(id: SubId) -> Result<(), Report> {
    execute(
        "DELETE FROM spock.local_sync_status
          WHERE sync_subid = $1::oid AND sync_nspname IS NOT NULL AND sync_kind = 'f'",
        &[oid(id.get())],
    )?;
    Ok(())
}

/// Tables that were told how far to catch up wait for a new word.
pub fn take_back_targets(id: SubId) -> Result<(), Report> {
    debug_assert!(SyncState::Catchup.table_may_become(SyncState::SyncWait));
    execute(
        "UPDATE spock.local_sync_status SET sync_status = 'w'
          WHERE sync_subid = $1::oid AND sync_nspname IS NOT NULL AND sync_status = 'u'",
        &[oid(id.get())],
    )?;
    Ok(())
}

/// Removes the state of one table of one subscription.
pub fn delete_table_state(id: SubId, table: &TableName) -> Result<(), Report> {
    execute(
        "DELETE FROM spock.local_sync_status
          WHERE sync_subid = $1::oid AND sync_nspname = $2::name AND sync_relname = $3::name",
        &[oid(id.get()), table.schema.as_str().into(), table.table.as_str().into()],
    )?;
    Ok(())
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
