//! Running SQL on our own tables: parameters in, typed columns out. The other files of this folder hold the statements.
//!
//! # Invariants
//! 1. Every statement runs as the owner with `pg_catalog` as its search path ([`Owner`]), so all names of ours are qualified.
//! 2. Values travel as parameters, never inside the text.
//! 3. A server error is raised, not returned; [`Report`] is for rows that do not look as they must.

use pgrx::datum::DatumWithOid;
use pgrx::spi::{SpiError, SpiHeapTupleData};
use pgrx::{FromDatum, IntoDatum, PgSqlErrorCode, Spi};

use crate::error::Report;
use crate::pg::authority::Owner;
use crate::pg::scope::ActiveSnapshot;

/// One row of a result; columns are numbered from 1.
pub struct Row<'a>(SpiHeapTupleData<'a>);

impl Row<'_> {
    /// Column `n`, which may be null.
    pub fn opt<T: IntoDatum + FromDatum>(&self, n: usize) -> Result<Option<T>, Report> {
        self.0.get::<T>(n).map_err(|error| broken(&error))
    }

    /// Column `n`, which must not be null.
    pub fn get<T: IntoDatum + FromDatum>(&self, n: usize) -> Result<T, Report> {
        self.opt(n)?.ok_or_else(|| {
            Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, format!("column {n} of a row in schema spock is null"))
        })
    }

    /// Column `n`, an OID that the statement casts to `int8`.
    pub fn oid(&self, n: usize) -> Result<u32, Report> {
        let value: i64 = self.get(n)?;
        u32::try_from(value).map_err(|_| {
            Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, format!("\"{value}\" is not an object identifier"))
        })
    }

    /// Column `n`, a `text[]`. Null and null elements count as nothing.
    pub fn texts(&self, n: usize) -> Result<Vec<String>, Report> {
        let values: Option<Vec<Option<String>>> = self.opt(n)?;
        Ok(values.unwrap_or_default().into_iter().flatten().collect())
    }
}

fn broken(error: &SpiError) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "could not read the catalogs of the extension")
        .detail(format!("{error}."))
}

/// Reads all rows of a query that changes nothing.
pub fn select<T>(
    sql: &str,
    args: &[DatumWithOid<'_>],
    read: impl Fn(&Row<'_>) -> Result<T, Report>,
) -> Result<Vec<T>, Report> {
    let _owner = Owner::enter();
    let _snapshot = ActiveSnapshot::push();
    Spi::connect(|client| {
        let table = client.select(sql, None, args).map_err(|error| broken(&error))?;
        table.map(|row| read(&Row(row))).collect()
    })
}

/// Reads the first row of a query that changes nothing.
pub fn select_one<T>(
    sql: &str,
    args: &[DatumWithOid<'_>],
    read: impl Fn(&Row<'_>) -> Result<T, Report>,
) -> Result<Option<T>, Report> {
    Ok(select(sql, args, read)?.into_iter().next())
}

/// Runs a statement that changes rows; returns how many.
pub fn execute(sql: &str, args: &[DatumWithOid<'_>]) -> Result<usize, Report> {
    let _owner = Owner::enter();
    let _snapshot = ActiveSnapshot::push();
    Spi::connect_mut(|client| Ok(client.update(sql, None, args).map_err(|error| broken(&error))?.len()))
}

/// Runs a statement that changes rows and returns some of their columns.
pub fn execute_returning<T>(
    sql: &str,
    args: &[DatumWithOid<'_>],
    read: impl Fn(&Row<'_>) -> Result<T, Report>,
) -> Result<Vec<T>, Report> {
    let _owner = Owner::enter();
    let _snapshot = ActiveSnapshot::push();
    Spi::connect_mut(|client| {
        let table = client.update(sql, None, args).map_err(|error| broken(&error))?;
        table.map(|row| read(&Row(row))).collect()
    })
}

/// Reads all rows of a query as whoever this process is now, under its settings. Every column of the query is text.
pub fn select_as_is(sql: &str) -> Result<Vec<Vec<Option<String>>>, Report> {
    let _snapshot = ActiveSnapshot::push();
    Spi::connect(|client| {
        let table = client.select(sql, None, &[]).map_err(|error| broken(&error))?;
        let columns = table.columns().map_err(|error| broken(&error))?;
        table
            .map(|row| {
                let row = Row(row);
                (1..=columns).map(|n| row.opt(n)).collect()
            })
            .collect()
    })
}

/// Runs a statement that changes rows as whoever this process is now, without parameters.
pub fn execute_as_is(sql: &str) -> Result<usize, Report> {
    let _snapshot = ActiveSnapshot::push();
    Spi::connect_mut(|client| Ok(client.update(sql, None, &[]).map_err(|error| broken(&error))?.len()))
}
