//! `spock.counter_rest`: what is left of columns that count of rows that were removed or have not come yet, see
//! `spock_core::merge::rest`. When and where a change was made is in the commit data of the transaction that wrote the row.

use super::query::{execute, select};
use crate::error::Report;
use crate::pg::horizon::FullXid;
use crate::pg::in_flight::KeyTable;
use crate::pg::row_image::{RowImage, Texts};

/// The table, for who looks at what running transactions write. Counted are additions.
pub const KEYS: KeyTable = KeyTable { name: "counter_rest", index: "counter_rest_relation_idx", counted: 6 };

/// What the running transaction keeps, of a key with that hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The table.
    pub table: u32,
    /// Hash of the key.
    pub hash: i64,
    /// The transaction that removed the key's row here; 0: there was none.
    pub removed_by: u32,
}

/// One row of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The transaction that wrote it.
    pub xid: u32,
    /// The transaction that removed the row, see [`Place`].
    pub removed_by: u32,
    /// An INSERT.
    pub first: bool,
    /// What was added, by column. `None`: the row was brought back.
    pub amounts: Option<RowImage>,
}

/// Keeps what a change adds.
pub fn keep(place: Place, first: bool, amounts: RowImage) -> Result<(), Report> {
    write(place, first, Some(amounts))
}

/// What was kept of the key is in its row now.
pub fn used(place: Place) -> Result<(), Report> {
    let sql =
        "DELETE FROM spock.counter_rest WHERE relation = $1::int8::oid AND key_hash = $2 AND row_values IS NOT NULL";
    execute(sql, &[i64::from(place.table).into(), place.hash.into()]).map(drop)
}

/// What `xid` kept of the key is kept with a later change now. False: somebody else has taken it.
pub fn take(place: Place, xid: u32) -> Result<bool, Report> {
    let sql = "DELETE FROM spock.counter_rest WHERE relation = $1::int8::oid AND key_hash = $2 AND removed_by = $3
        AND written_by::text::numeric % 4294967296 = $4 AND row_values IS NOT NULL";
    let args =
        [i64::from(place.table).into(), place.hash.into(), i64::from(place.removed_by).into(), i64::from(xid).into()];
    Ok(execute(sql, &args)? > 0)
}

/// An UPDATE has brought the row back.
pub fn revived(place: Place) -> Result<(), Report> {
    write(place, false, None)
}

fn write(place: Place, first: bool, amounts: Option<RowImage>) -> Result<(), Report> {
    let (columns, values) = amounts.map(|amounts| (amounts.columns, amounts.values)).unzip();
    execute(
        "INSERT INTO spock.counter_rest (relation, key_hash, removed_by, first, row_columns, row_values)
         VALUES ($1::int8::oid, $2, $3, $4, $5, $6)",
        &[
            i64::from(place.table).into(),
            place.hash.into(),
            i64::from(place.removed_by).into(),
            first.into(),
            columns.into(),
            values.into(),
        ],
    )
    .map(drop)
}

/// All that is kept of keys of `table` with that hash.
pub fn of_key(table: u32, hash: i64) -> Result<Vec<Entry>, Report> {
    let sql = "SELECT (written_by::text::numeric % 4294967296)::int8, removed_by, first, row_values IS NOT NULL,
            coalesce(row_columns, '{}'), coalesce(row_values, '{}')
        FROM spock.counter_rest WHERE relation = $1::int8::oid AND key_hash = $2";
    select(sql, &[i64::from(table).into(), hash.into()], |row| {
        let columns: Vec<Option<i16>> = row.get(5)?;
        let values: Texts = row.get(6)?;
        let image = RowImage { columns: columns.into_iter().flatten().collect(), values };
        let amounts = row.get::<bool>(4)?.then_some(image);
        Ok(Entry { xid: row.oid(1)?, removed_by: row.oid(2)?, first: row.get(3)?, amounts })
    })
}

/// Forgets what transactions before `bound` kept.
pub fn delete_older_than(bound: FullXid) -> Result<usize, Report> {
    execute("DELETE FROM spock.counter_rest WHERE written_by < $1::text::xid8", &[bound.0.to_string().into()])
}
