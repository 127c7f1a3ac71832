//! Which columns count, and versions of rows that the server cannot keep: `spock.row_version`.
//!
//! A column counts if it has the option `delta_apply_function` (a patched server), or the security label `spock.delta_apply` of
//! provider `spock`.

use super::query::{execute, select, select_as_is, select_one};
use crate::error::Report;
use crate::pg::horizon::FullXid;
use spock_core::types::PgTime;

/// Numbers of the columns of `table` that count.
pub fn columns(table: u32) -> Result<Vec<i64>, Report> {
    let sql = "SELECT a.attnum::int8 FROM pg_attribute a
        WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped
          AND (EXISTS (SELECT FROM unnest(a.attoptions) o WHERE o LIKE 'delta!_apply!_function=_%' ESCAPE '!')
            OR EXISTS (SELECT FROM pg_seclabel l WHERE l.objoid = a.attrelid AND l.classoid = 'pg_class'::regclass
                AND l.objsubid = a.attnum AND l.provider = 'spock' AND l.label = 'spock.delta_apply'))
        ORDER BY a.attnum";
    select(sql, &[i64::from(table).into()], |row| row.get(1))
}

/// Rows that the part `xid` of the running transaction writes have this version. `origin`: node, 0 for this one.
pub fn write_version(xid: FullXid, time: PgTime, origin: u16) -> Result<(), Report> {
    let sql = "INSERT INTO spock.row_version (written_by, commit_ts, origin)
        VALUES ($1::text::xid8, 'epoch'::timestamptz + ($2 + 946684800000000) * '1 microsecond'::interval, $3::int8::oid)";
    let args = [xid.0.to_string().into(), time.micros().into(), i64::from(origin).into()];
    execute(sql, &args).map(drop)
}

/// Time and node of the rows that `xid` wrote, if they are kept here.
pub fn version_of(xid: FullXid) -> Result<Option<(PgTime, u16)>, Report> {
    let sql = "SELECT (extract(epoch FROM commit_ts) * 1000000)::int8 - 946684800000000, origin::int8
        FROM spock.row_version WHERE written_by = $1::text::xid8";
    select_one(sql, &[xid.0.to_string().into()], |row| {
        Ok((PgTime::from_micros(row.get(1)?), u16::try_from(row.oid(2)?).unwrap_or_default()))
    })
}

/// Forgets versions that were kept longer than `seconds`.
pub fn forget_versions(seconds: u32) -> Result<usize, Report> {
    let sql = "DELETE FROM spock.row_version WHERE kept_since < now() - make_interval(secs => $1)";
    execute(sql, &[f64::from(seconds).into()])
}

/// What decides whether a column can count. Names are quoted and qualified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The table.
    pub table: String,
    /// `relkind`
    pub kind: String,
    /// `relreplident`
    pub identity: String,
    /// The current user owns the table.
    pub owned: bool,
    /// The table has a primary key that is checked at once.
    pub has_key: bool,
    /// The column.
    pub column: String,
    /// Its type as SQL writes it, without a modifier. `None`: there is no such column.
    pub column_type: Option<String>,
    /// It has NOT NULL.
    pub not_null: bool,
    /// It is generated.
    pub generated: bool,
    /// It is part of the primary key.
    pub in_key: bool,
    /// It is part of the index that is the replica identity, beside the whole primary key.
    pub in_identity: bool,
    /// It counts by its option.
    pub option: bool,
    /// It counts by its security label.
    pub label: bool,
}

/// Asked as the current user. `None`: there is no such relation.
pub fn facts(table: u32, column: &str) -> Result<Option<Facts>, Report> {
    let column = format!("'{}'", column.replace('\'', "''")).replace('\\', "\\\\");
    let column = if column.contains('\\') { format!("E{column}") } else { column };
    let sql = format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relreplident::text,
            pg_catalog.pg_has_role(c.relowner, 'USAGE')::text, (k.indexrelid IS NOT NULL)::text,
            pg_catalog.quote_ident(w.name), pg_catalog.format_type(a.atttypid, NULL), a.attnotnull::text,
            (a.attgenerated <> '')::text, (a.attnum = ANY (k.indkey::int2[]))::text,
            (a.attnum = ANY (i.indkey::int2[]) AND i.indkey::int2[] @> k.indkey::int2[])::text,
            EXISTS (SELECT FROM pg_catalog.unnest(a.attoptions) o WHERE o LIKE 'delta!_apply!_function=_%' ESCAPE '!')::text,
            (l.label IS NOT NULL)::text
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         CROSS JOIN (SELECT {column}::pg_catalog.name AS name) w
         LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = w.name AND a.attnum > 0
             AND NOT a.attisdropped
         LEFT JOIN pg_catalog.pg_index k ON k.indrelid = c.oid AND k.indisprimary AND k.indimmediate
         LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i'
         LEFT JOIN pg_catalog.pg_seclabel l ON l.objoid = c.oid AND l.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
             AND l.objsubid = a.attnum AND l.provider = 'spock' AND l.label = 'spock.delta_apply'
         WHERE c.oid = {table}"
    );
    let Some(row) = select_as_is(&sql)?.into_iter().next() else { return Ok(None) };
    let mut values = row.into_iter();
    let mut next = || values.next().flatten();
    let truth = |value: Option<String>| value.as_deref() == Some("true");
    Ok(Some(Facts {
        table: next().unwrap_or_default(),
        kind: next().unwrap_or_default(),
        identity: next().unwrap_or_default(),
        owned: truth(next()),
        has_key: truth(next()),
        column: next().unwrap_or_default(),
        column_type: next(),
        not_null: truth(next()),
        generated: truth(next()),
        in_key: truth(next()),
        in_identity: truth(next()),
        option: truth(next()),
        label: truth(next()),
    }))
}
