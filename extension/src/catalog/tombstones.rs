//! `spock.tombstone`: removed keys of which no dead row is left to tell: of rows that were not here, and of emptied tables.
//! When and where they were removed is in the commit data of the transaction that wrote the row.

use super::query::{execute, select, select_one};
use crate::error::Report;
use crate::pg::horizon::FullXid;
use crate::pg::in_flight::KeyTable;

/// The running transaction deleted the key with that hash, of which there was no row.
pub fn write_key(table: u32, hash: i64) -> Result<(), Report> {
    let sql = "INSERT INTO spock.tombstone (relation, key_hash) VALUES ($1::int8::oid, $2)";
    execute(sql, &[i64::from(table).into(), hash.into()]).map(drop)
}

/// The table, for who looks at what running transactions write.
pub const KEYS: KeyTable = KeyTable { name: "tombstone", index: "tombstone_relation_idx", counted: 1 };

/// The running transaction emptied the table.
pub fn write_truncate(table: u32) -> Result<(), Report> {
    let sql = "INSERT INTO spock.tombstone (relation) VALUES ($1::int8::oid)";
    execute(sql, &[i64::from(table).into()]).map(drop)
}

/// The running transaction displaced the row with a key of that hash: the dead row that it leaves is no tombstone.
pub fn write_displaced(table: u32, hash: Option<i64>) -> Result<(), Report> {
    let sql = "INSERT INTO spock.tombstone (relation, key_hash, displaced) VALUES ($1::int8::oid, $2, true)";
    execute(sql, &[i64::from(table).into(), hash.into()]).map(drop)
}

/// What a transaction did to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remover {
    /// The transaction.
    pub xid: u32,
    /// It displaced the key's row: there is a dead row that is no tombstone. Otherwise it removed the key.
    pub displaced: bool,
    /// It emptied the table.
    pub truncated: bool,
}

/// The transactions that removed the key with that hash, or emptied the table, and those that displaced a row of the key.
pub fn removers(table: u32, hash: Option<i64>) -> Result<Vec<Remover>, Report> {
    let sql = "SELECT (removed_by::text::numeric % 4294967296)::int8, displaced,
            key_hash IS NULL AND NOT displaced
        FROM spock.tombstone
        WHERE relation = $1::int8::oid AND (key_hash IS NULL OR key_hash = $2)";
    select(sql, &[i64::from(table).into(), hash.into()], |row| {
        Ok(Remover { xid: row.oid(1)?, displaced: row.get(2)?, truncated: row.get(3)? })
    })
}

/// All that is written down for the table: the hash of the key, `None`: of all, and what was done.
pub fn of_table(table: u32) -> Result<Vec<(Option<i64>, Remover)>, Report> {
    let sql = "SELECT key_hash, (removed_by::text::numeric % 4294967296)::int8, displaced,
            key_hash IS NULL AND NOT displaced
        FROM spock.tombstone
        WHERE relation = $1::int8::oid";
    select(sql, &[i64::from(table).into()], |row| {
        Ok((row.opt(1)?, Remover { xid: row.oid(2)?, displaced: row.get(3)?, truncated: row.get(4)? }))
    })
}

/// The part `by` of the running transaction stands for the removal of the keys with these hashes; `None`: of all keys.
pub fn write_copied(table: u32, hashes: &[Option<i64>], by: FullXid) -> Result<(), Report> {
    let sql = "INSERT INTO spock.tombstone (relation, key_hash, removed_by)
        SELECT $1::int8::oid, h, $3::text::xid8 FROM unnest($2::int8[]) h";
    execute(sql, &[i64::from(table).into(), hashes.to_vec().into(), by.0.to_string().into()]).map(drop)
}

/// How many rows there are.
pub fn count() -> Result<i64, Report> {
    let count =
        select_one("SELECT pg_catalog.count(*) FROM spock.tombstone WHERE NOT displaced", &[], |row| row.get(1))?;
    Ok(count.unwrap_or_default())
}

/// Forgets what transactions before `bound` removed.
pub fn delete_older_than(bound: FullXid) -> Result<usize, Report> {
    // As long as the row is displaced, its dead row must not be taken for a tombstone when it comes back.
    execute(
        "DELETE FROM spock.tombstone t WHERE removed_by < $1::text::xid8
            AND NOT (displaced AND EXISTS (SELECT FROM spock.displaced_row d
                WHERE d.relation = t.relation AND d.key_hash IS NOT DISTINCT FROM t.key_hash))",
        &[bound.0.to_string().into()],
    )
}
