//! `spock.displaced_row`: rows that are out of their tables as long as newer ones hold their values in unique indexes; and
//! `spock.holder_version`: versions of these newer ones, which the server forgets.
//!
//! # Invariants
//! 1. A row is written and deleted in the transaction that takes it out of its table or puts it back.
//! 2. Times are microseconds since 2000. A version of unknown time has a time before that of copied rows.

use super::query::{Row, execute, execute_returning, select, select_one};
use super::topology::oid;
use crate::error::Report;
use crate::pg::row_image::{RowImage, Texts};
use pgrx::PgSqlErrorCode;
use spock_core::types::{NodeId, PgTime};

macro_rules! version_columns {
    () => {
        "(extract(epoch FROM version_time) * 1000000)::int8 - 946684800000000, version_origin::int8, version_xid"
    };
}

/// A row that is displaced.
#[derive(Debug, Clone)]
pub struct Displaced {
    /// Where and when it was written.
    pub version: Written,
    /// Its values.
    pub image: RowImage,
}

/// When and where a row was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Commit time on the node where it was written.
    pub time: PgTime,
    /// That node.
    pub origin: NodeId,
    /// The transaction that wrote it here.
    pub xid: u32,
}

/// A row of the table, without values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: i64,
    /// Table that it is of.
    pub table: u32,
    /// Its version.
    pub version: Written,
}

/// The running transaction displaces a row of `table`, whose key has that hash, through `index`.
pub fn insert(table: u32, hash: Option<i64>, row: Displaced, index: &str) -> Result<(), Report> {
    let Displaced { version, image } = row;
    execute(
        "INSERT INTO spock.displaced_row (relation, key_hash, row_columns, row_values, version_time, version_origin, version_xid,
             index_name)
         VALUES ($1::oid, $2, $3, $4, 'epoch'::timestamptz + ($5 + 946684800000000) * '1 microsecond'::interval, $6::oid, $7, $8)",
        &[
            oid(table),
            hash.into(),
            image.columns.into(),
            image.values.into(),
            version.time.micros().into(),
            oid(version.origin.get()),
            i64::from(version.xid).into(),
            index.into(),
        ],
    )
    .map(drop)
}

/// Keeps the version of the row of `table` whose key has that hash, for which others are displaced, unless a newer one is kept.
pub fn keep_holder(table: u32, hash: i64, version: &Written) -> Result<(), Report> {
    execute(
        "WITH new (written) AS (SELECT 'epoch'::timestamptz + ($3 + 946684800000000) * '1 microsecond'::interval)
         INSERT INTO spock.holder_version AS kept (relation, key_hash, version_time, version_origin)
         SELECT $1::oid, $2, new.written, $4::oid FROM new WHERE NOT EXISTS (SELECT FROM spock.holder_version h
             WHERE h.relation = $1::oid AND h.key_hash = $2 AND h.version_time >= new.written)
         ON CONFLICT (relation, key_hash) DO UPDATE
             SET version_time = excluded.version_time, version_origin = excluded.version_origin
             WHERE kept.version_time < excluded.version_time",
        &[oid(table), hash.into(), version.time.micros().into(), oid(version.origin.get())],
    )
    .map(drop)
}

/// The version of the row of `table` whose key has that hash, if it is kept. Who wrote it here is not.
pub fn holder(table: u32, hash: i64) -> Result<Option<Written>, Report> {
    let sql = concat!(
        "SELECT ",
        version_columns!(),
        " FROM (SELECT version_time, version_origin, 0::int8 FROM spock.holder_version
                 WHERE relation = $1::oid AND key_hash = $2) kept (version_time, version_origin, version_xid)"
    );
    select_one(sql, &[oid(table), hash.into()], |row| version(row, 1))
}

/// Forgets versions of rows of tables of which nothing is displaced.
pub fn forget_holders() -> Result<usize, Report> {
    execute(
        "DELETE FROM spock.holder_version h
          WHERE NOT EXISTS (SELECT FROM spock.displaced_row d WHERE d.relation = h.relation)",
        &[],
    )
}

fn version(row: &Row<'_>, from: usize) -> Result<Written, Report> {
    let origin = NodeId::new(row.oid(from + 1)?).ok_or_else(|| {
        Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "a row of spock.displaced_row has no origin")
    })?;
    Ok(Written { time: PgTime::from_micros(row.get(from)?), origin, xid: row.oid(from + 2)? })
}

fn whole(row: &Row<'_>) -> Result<(i64, Displaced), Report> {
    let columns: Vec<Option<i16>> = row.get(5)?;
    let values: Texts = row.get(6)?;
    let image = RowImage { columns: columns.into_iter().flatten().collect(), values };
    Ok((row.get(1)?, Displaced { version: version(row, 2)?, image }))
}

/// Displaced rows of `table` whose keys have that hash. They stay as they are until the transaction ends: somebody who is about to
/// put one of them back, or to change it, is waited for, and then it is not, or otherwise, in the answer.
pub fn of_key_locked(table: u32, hash: Option<i64>) -> Result<Vec<(i64, Displaced)>, Report> {
    let sql = concat!(
        "SELECT displaced_id, ",
        version_columns!(),
        ", row_columns, row_values FROM spock.displaced_row
         WHERE relation = $1::oid AND (key_hash = $2 OR $2 IS NULL AND key_hash IS NULL) ORDER BY displaced_id FOR UPDATE"
    );
    execute_returning(sql, &[oid(table), hash.into()], whole)
}

/// One of them.
pub fn by_id(id: i64) -> Result<Option<Displaced>, Report> {
    let sql = concat!(
        "SELECT displaced_id, ",
        version_columns!(),
        ", row_columns, row_values FROM spock.displaced_row WHERE displaced_id = $1"
    );
    Ok(select_one(sql, &[id.into()], whole)?.map(|(_, row)| row))
}

/// All of them. With `tables`, those of these only.
pub fn entries(tables: Option<&[u32]>) -> Result<Vec<Entry>, Report> {
    let wanted: Option<Vec<i64>> = tables.map(|tables| tables.iter().copied().map(i64::from).collect());
    let sql = concat!(
        "SELECT displaced_id, relation::oid::int8, ",
        version_columns!(),
        " FROM spock.displaced_row WHERE $1 IS NULL OR relation::oid::int8 = ANY ($1)"
    );
    select(sql, &[wanted.into()], |row| Ok(Entry { id: row.get(1)?, table: row.oid(2)?, version: version(row, 3)? }))
}

/// The table itself.
pub fn own_table() -> Result<u32, Report> {
    let found = select_one("SELECT 'spock.displaced_row'::regclass::oid::int8", &[], |row| row.oid(1))?;
    found.ok_or_else(|| Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, "spock.displaced_row is not there"))
}

/// The displaced row has these values from now on; its version stays.
pub fn set_image(id: i64, image: RowImage) -> Result<(), Report> {
    execute(
        "UPDATE spock.displaced_row SET row_columns = $2, row_values = $3 WHERE displaced_id = $1",
        &[id.into(), image.columns.into(), image.values.into()],
    )
    .map(drop)
}

/// It is displaced no more, if it still has that image. False: somebody else was faster.
pub fn delete_as(id: i64, image: RowImage) -> Result<bool, Report> {
    let sql = "DELETE FROM spock.displaced_row WHERE displaced_id = $1 AND row_columns = $2 AND row_values = $3";
    Ok(execute(sql, &[id.into(), image.columns.into(), image.values.into()])? == 1)
}

/// It is displaced no more. False: it was not, somebody else was faster.
pub fn delete(id: i64) -> Result<bool, Report> {
    Ok(execute("DELETE FROM spock.displaced_row WHERE displaced_id = $1", &[id.into()])? == 1)
}

/// Nothing of that table is displaced any more.
pub fn delete_of(table: u32) -> Result<usize, Report> {
    execute("DELETE FROM spock.holder_version WHERE relation = $1::oid", &[oid(table)])?;
    execute("DELETE FROM spock.displaced_row WHERE relation = $1::oid", &[oid(table)])
}
