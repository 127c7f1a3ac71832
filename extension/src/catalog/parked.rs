//! Transactions that are put aside: one row for each, its messages in parts in a second table.
//!
//! # Invariants
//! 1. Both are written in the transaction that moves the position past it, and deleted in the one that applies it or writes it
//!    to `spock.exception_log`.
//! 2. Nothing is written to a transaction's content once it is parked.

use spock_core::park::content;
use spock_core::park::order::{Bounds, Order};
use spock_core::park::touched::{Extent, Touched};
use spock_core::types::{Lsn, NodeId, PgTime, SubId};

use crate::catalog::exceptions::RemoteTransaction;
use crate::catalog::query::{execute, execute_returning, select, select_one};
use crate::catalog::topology::{lsn_text, oid};
use crate::error::Report;
use pgrx::PgSqlErrorCode;
use std::collections::HashMap;

/// Why a transaction is parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// SQLSTATE of its error; `None`: it only waits for others.
    pub sqlstate: Option<String>,
    /// The error, or what it waits for.
    pub message: String,
    /// The table that the error was about, quoted.
    pub relation: Option<String>,
}

/// A transaction as it is parked.
#[derive(Debug)]
pub struct NewParked<'a> {
    /// From [`next_id`].
    pub id: i64,
    /// Whose stream it came in.
    pub subscription: SubId,
    /// Where it was made, when, and its number.
    pub transaction: RemoteTransaction,
    /// Start of its commit record.
    pub commit_lsn: Option<Lsn>,
    /// Size of its content.
    pub bytes: u64,
    /// Changes in it.
    pub changes: u64,
    /// Ids of those that must be applied before it.
    pub waits_for: &'a [i64],
    /// Why.
    pub cause: &'a Cause,
    /// What it touches.
    pub touched: &'a Touched,
}

/// What waits because of parked transactions, by subscription: `nothing`, `keys`, `tables` or `everything`.
pub fn blocked() -> Result<HashMap<String, String>, Report> {
    let rows =
        select("SELECT sub_name::text, blocked FROM spock.parked_status", &[], |row| Ok((row.get(1)?, row.get(2)?)))?;
    Ok(rows.into_iter().collect())
}

/// The id of the next one.
pub fn next_id() -> Result<i64, Report> {
    let id = execute_returning(
        "SELECT pg_catalog.nextval(pg_catalog.pg_get_serial_sequence('spock.parked_transaction', 'parked_id'))",
        &[],
        |row| row.get(1),
    )?;
    id.into_iter()
        .next()
        .ok_or_else(|| Report::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "a sequence gives no value"))
}

/// Writes one part of the content, numbered from 0.
pub fn insert_part(id: i64, part: i32, bytes: &[u8]) -> Result<(), Report> {
    execute(
        "INSERT INTO spock.parked_content (parked_id, part, content) VALUES ($1, $2, $3)",
        &[id.into(), part.into(), bytes.to_vec().into()],
    )?;
    Ok(())
}

/// Reads one part.
pub fn part(id: i64, part: i32) -> Result<Option<Vec<u8>>, Report> {
    select_one(
        "SELECT content FROM spock.parked_content WHERE parked_id = $1 AND part = $2",
        &[id.into(), part.into()],
        |row| row.get(1),
    )
}

/// A table's name as people read it.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).replace('\0', ".")
}

/// Writes the row itself.
pub fn insert(new: &NewParked<'_>) -> Result<(), Report> {
    let whole: Vec<Option<String>> = new
        .touched
        .tables()
        .filter(|(_, extent)| **extent == Extent::Whole)
        .map(|(name, _)| Some(shown(name)))
        .collect();
    let blocks = match (new.touched.is_everything(), whole.is_empty()) {
        (true, _) => "everything",
        (false, false) => "tables",
        (false, true) => "keys",
    };
    let Cause { sqlstate, message, relation } = new.cause;
    execute(
        "INSERT INTO spock.parked_transaction (parked_id, sub_id, remote_origin, remote_xid, remote_commit_lsn, remote_commit_ts,
             parked_at, format, bytes, changes, waits_for, blocks, blocked_tables, cause_sqlstate, cause_message, cause_relation,
             touched)
         OVERRIDING SYSTEM VALUE
         VALUES ($1, $2::oid, $3::oid, $4, $5::pg_lsn, 'epoch'::timestamptz + ($6 + 946684800000000) * '1 microsecond'::interval,
             pg_catalog.clock_timestamp(), $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        &[
            new.id.into(),
            oid(new.subscription.get()),
            oid(new.transaction.origin.get()),
            i64::from(new.transaction.xid).into(),
            lsn_text(new.commit_lsn).into(),
            new.transaction.commit_ts.micros().into(),
            content::FORMAT.number().cast_signed().into(),
            new.bytes.cast_signed().into(),
            new.changes.cast_signed().into(),
            new.waits_for.to_vec().into(),
            blocks.into(),
            whole.into(),
            sqlstate.as_deref().into(),
            message.as_str().into(),
            relation.as_deref().into(),
            new.touched.to_bytes().into(),
        ],
    )?;
    Ok(())
}

/// Keeps these from being discarded until the transaction ends. False: one of them is gone.
pub fn keep(ids: &[i64]) -> Result<bool, Report> {
    let found = execute_returning(
        "SELECT parked_id FROM spock.parked_transaction WHERE parked_id = ANY ($1) FOR KEY SHARE",
        &[ids.to_vec().into()],
        |row| row.get::<i64>(1),
    )?;
    Ok(found.len() == ids.len())
}

/// Takes a transaction away. False: it is gone already.
pub fn delete(id: i64) -> Result<bool, Report> {
    execute("DELETE FROM spock.parked_content WHERE parked_id = $1", &[id.into()])?;
    Ok(execute("DELETE FROM spock.parked_transaction WHERE parked_id = $1", &[id.into()])? == 1)
}

/// It was tried again in vain.
pub fn set_cause(id: i64, cause: &Cause) -> Result<(), Report> {
    execute(
        "UPDATE spock.parked_transaction
            SET tried_at = pg_catalog.clock_timestamp(), cause_sqlstate = $2, cause_message = $3, cause_relation = $4
          WHERE parked_id = $1",
        &[id.into(), cause.sqlstate.as_deref().into(), cause.message.as_str().into(), cause.relation.as_deref().into()],
    )?;
    Ok(())
}

/// What tells later transactions whether they must wait.
#[derive(Debug)]
pub struct Holder {
    /// Its id.
    pub id: i64,
    /// What it touches.
    pub touched: Touched,
    /// What it waits for.
    pub waits_for: Vec<i64>,
    /// Size of its content.
    pub bytes: u64,
}

fn ids(row: &crate::catalog::query::Row<'_>, n: usize) -> Result<Vec<i64>, Report> {
    let values: Option<Vec<Option<i64>>> = row.opt(n)?;
    Ok(values.unwrap_or_default().into_iter().flatten().collect())
}

/// All that is parked for a subscription, in order.
pub fn holders(subscription: SubId) -> Result<Vec<Holder>, Report> {
    select(
        "SELECT parked_id, touched, waits_for, bytes FROM spock.parked_transaction WHERE sub_id = $1::oid ORDER BY parked_id",
        &[oid(subscription.get())],
        |row| {
            Ok(Holder {
                id: row.get(1)?,
                touched: Touched::from_bytes(&row.get::<Vec<u8>>(2)?),
                waits_for: ids(row, 3)?,
                bytes: row.get::<i64>(4)?.unsigned_abs(),
            })
        },
    )
}

/// Whether not even the smallest transaction can be parked any more.
pub fn is_full(subscription: SubId, bounds: Bounds) -> Result<bool, Report> {
    let full = select_one(
        "SELECT pg_catalog.count(*) >= $2 OR coalesce(pg_catalog.sum(bytes), 0) >= $3 FROM spock.parked_transaction
          WHERE sub_id = $1::oid",
        &[oid(subscription.get()), bounds.transactions.cast_signed().into(), bounds.bytes.cast_signed().into()],
        |row| row.get(1),
    )?;
    Ok(full.unwrap_or_default())
}

/// Who waits for whom.
pub fn order(subscription: SubId) -> Result<Order, Report> {
    let rows = select(
        "SELECT parked_id, waits_for FROM spock.parked_transaction WHERE sub_id = $1::oid",
        &[oid(subscription.get())],
        |row| Ok((row.get::<i64>(1)?, ids(row, 2)?)),
    )?;
    Ok(Order::new(rows))
}

/// Subscriptions that something is parked for.
pub fn subscriptions() -> Result<Vec<SubId>, Report> {
    let found = select("SELECT DISTINCT sub_id::int8 FROM spock.parked_transaction ORDER BY 1", &[], |row| row.oid(1))?;
    Ok(found.into_iter().filter_map(SubId::new).collect())
}

/// A parked transaction, for people and for the log.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its id.
    pub id: i64,
    /// Whose stream it came in.
    pub subscription: Option<SubId>,
    /// Where it was made, when, and its number.
    pub transaction: RemoteTransaction,
    /// Why it is parked.
    pub cause: Cause,
    /// Layout of its content.
    pub format: i32,
    /// It was tried since that time (microseconds since 2000-01-01).
    pub tried_at: Option<i64>,
}

macro_rules! facts {
    () => {
        "SELECT parked_id, sub_id::int8, remote_origin::int8,
                (extract(epoch FROM remote_commit_ts) * 1000000)::int8 - 946684800000000, remote_xid,
                cause_sqlstate, cause_message, cause_relation, format,
                (extract(epoch FROM tried_at) * 1000000)::int8 - 946684800000000
           FROM spock.parked_transaction"
    };
}

fn read_facts(row: &crate::catalog::query::Row<'_>) -> Result<Facts, Report> {
    let origin = NodeId::new(row.oid(3)?).ok_or_else(|| {
        Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "a row of spock.parked_transaction has no origin")
    })?;
    Ok(Facts {
        id: row.get(1)?,
        subscription: SubId::new(row.oid(2)?),
        transaction: RemoteTransaction { origin, commit_ts: PgTime::from_micros(row.get(4)?), xid: row.oid(5)? },
        cause: Cause { sqlstate: row.opt(6)?, message: row.get(7)?, relation: row.opt(8)? },
        format: row.get(9)?,
        tried_at: row.opt(10)?,
    })
}

/// One of them.
pub fn facts(id: i64) -> Result<Option<Facts>, Report> {
    select_one(concat!(facts!(), " WHERE parked_id = $1"), &[id.into()], read_facts)
}

/// One of them, locked to the end of the transaction.
pub fn facts_locked(id: i64) -> Result<Option<Facts>, Report> {
    let found = execute_returning(concat!(facts!(), " WHERE parked_id = $1 FOR UPDATE"), &[id.into()], read_facts)?;
    Ok(found.into_iter().next())
}
