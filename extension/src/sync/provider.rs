//! What a subscriber asks of its provider while it copies: a slot with a snapshot, sessions that see that snapshot, the
//! tables of the subscribed sets and what is sent of each.
//!
//! # Invariants
//! 1. Everything that is copied is read under the snapshot of the slot's consistent point: what committed before is copied,
//!    what committed after is streamed.
//! 2. No timeout of the provider's users ends a session of ours.
//! 3. A slot is dropped only when it is inactive, of our plugin and of the provider's own database.

use crate::catalog::topology::Subscription;
use crate::error::Report;
use crate::pg::conn::{ConnError, Connection, CopyOut, Purpose};
use pgrx::PgSqlErrorCode;
use spock_core::names;
use spock_core::sync::TableName;
use spock_core::types::{Lsn, TypeOid};
use std::time::Duration;

/// A provider that does not answer for so long is tried again later.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// Output plugin that our slots name.
const PLUGIN: &str = "spock_output";

/// A slot that was just made, and the connection that keeps its snapshot: drop it when nobody needs the snapshot any more.
pub struct NewSlot {
    /// The slot's consistent point.
    pub lsn: Lsn,
    /// Name of the exported snapshot, for [`SnapshotSession::open`] and `pg_dump --snapshot`.
    pub snapshot: String,
    _holder: Connection,
}

/// What is copied of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTable {
    /// Its name, the same on both sides.
    pub name: TableName,
    /// The provider's oid of it.
    pub relid: u32,
    /// Some rows are left out by a row filter.
    pub filtered: bool,
    /// A partitioned table: its rows are those of its partitions.
    pub partitioned: bool,
    /// A partition of another table.
    pub is_partition: bool,
}

/// A column that the provider sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteColumn {
    /// Its name.
    pub name: String,
    /// Its type there.
    pub kind: TypeOid,
}

/// A failure to ask the provider, as a report.
pub fn failed(what: &str, error: ConnError) -> Report {
    let code = error.sqlstate();
    let report = Report::new(code, format!("could not {what}")).detail(format!("{error}."));
    match error {
        ConnError::Server { hint: Some(hint), .. } => report.hint(hint),
        _ => report,
    }
}

/// A connection to the provider of `subscription`; `suffix` tells in `application_name` what it is for. No timeout ends it.
pub fn connect(subscription: &Subscription, suffix: &str, replication: bool) -> Result<Connection, Report> {
    let name = names::application_name(&subscription.name, Some(suffix));
    let purpose = Purpose { application_name: &name, replication };
    let mut connection = Connection::connect(&subscription.origin_if.dsn, purpose, CONNECT_DEADLINE)
        .map_err(|error| failed("connect to the provider", error))?;
    let mut settings = vec!["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];
    if connection.server_version_num() >= 170_000 {
        settings.push("transaction_timeout");
    }
    for setting in settings {
        connection.query(&format!("SET {setting} = 0"), &[]).map_err(|error| failed("prepare the session", error))?;
    }
    Ok(connection)
}

/// Drops the slot `name` of an earlier attempt, if it is there, ours and not in use.
pub fn drop_stale_slot(connection: &mut Connection, name: &str) -> Result<(), Report> {
    connection
        .query(
            "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots
              WHERE slot_name = $1 AND plugin IN ('spock_output', 'spock') AND NOT active
                AND database = pg_catalog.current_database()",
            &[Some(name)],
        )
        .map(|_| ())
        .map_err(|error| failed(&format!("drop the old replication slot \"{name}\""), error))
}

/// Makes the logical slot `name` and exports the snapshot of its consistent point. Waits until all transactions that run on
/// the provider now are over. `failover`: the slot is to be kept on standbys of the provider, where its server can do that.
pub fn create_slot(subscription: &Subscription, name: &str, failover: bool) -> Result<NewSlot, Report> {
    let mut holder = connect(subscription, "snap", true)?;
    let option = if failover && holder.server_version_num() >= 170_000 { " (FAILOVER)" } else { "" };
    let command = format!("CREATE_REPLICATION_SLOT \"{name}\" LOGICAL {PLUGIN}{option}");
    let rows = holder.query(&command, &[]).map_err(|error| {
        let taken = error.sqlstate() == PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT;
        let report = failed(&format!("create the replication slot \"{name}\" on the provider"), error);
        if taken {
            report.hint("Another subscriber may use it. If nobody does, drop it there with pg_drop_replication_slot.")
        } else {
            report
        }
    })?;
    let lsn = rows.get(0, 1).and_then(|text| text.parse::<Lsn>().ok());
    match lsn.zip(rows.get(0, 2)) {
        Some((lsn, snapshot)) => Ok(NewSlot { lsn, snapshot: snapshot.to_owned(), _holder: holder }),
        None => {
            let odd = ConnError::Unexpected("the answer to CREATE_REPLICATION_SLOT is not complete");
            Err(failed("create the replication slot", odd))
        }
    }
}

/// A session on the provider that sees the data of one snapshot, read only. Drop ends it.
pub struct SnapshotSession {
    connection: Connection,
}

impl SnapshotSession {
    /// Connects and takes the snapshot that another session exported and still keeps. `suffix` as for [`connect`].
    pub fn open(subscription: &Subscription, suffix: &str, snapshot: &str) -> Result<Self, Report> {
        let mut connection = connect(subscription, suffix, false)?;
        let quoted = snapshot.replace('\'', "''");
        for command in [
            "SET search_path = ''",
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            &format!("SET TRANSACTION SNAPSHOT '{quoted}'"),
        ] {
            connection.query(command, &[]).map_err(|error| failed("read the provider's data as of its slot", error))?;
        }
        Ok(Self { connection })
    }

    /// The provider's version, e.g. 170011.
    pub fn server_version_num(&self) -> i32 {
        self.connection.server_version_num()
    }

    /// Asks for rows.
    pub fn query(&mut self, what: &str, sql: &str, params: &[Option<&str>]) -> Result<crate::pg::conn::Rows, Report> {
        self.connection.query(sql, params).map_err(|error| failed(what, error))
    }

    /// All tables of the replication sets `sets`, each once, in the order of their names.
    pub fn tables(&mut self, sets: &[String]) -> Result<Vec<RemoteTable>, Report> {
        let rows = self.query(
            "read the provider's replication sets",
            "SELECT i.relid, i.nspname, i.relname, i.has_row_filter, i.relkind, i.relispartition
               FROM (SELECT DISTINCT relid FROM spock.tables WHERE set_name = ANY ($1::text[])) t
               CROSS JOIN LATERAL spock.repset_show_table(t.relid, $1::text[]) i
              ORDER BY 2, 3",
            &[Some(&array_literal(sets))],
        )?;
        (0..rows.len()).map(|row| read_table(&rows, row)).collect()
    }

    /// One table of the replication sets `sets`. 42P01 when the provider has none of that name, 55000 when it is in none of
    /// the sets.
    pub fn table(&mut self, name: &TableName, sets: &[String]) -> Result<RemoteTable, Report> {
        let rows = self.query(
            "look for a table on the provider",
            "SELECT i.relid, i.nspname, i.relname, i.has_row_filter, i.relkind, i.relispartition,
                    EXISTS (SELECT FROM spock.tables s WHERE s.relid = $1::regclass AND s.set_name = ANY ($2::text[]))
               FROM spock.repset_show_table($1::regclass, $2::text[]) i",
            &[Some(&name.quoted()), Some(&array_literal(sets))],
        )?;
        if rows.get(0, 6) != Some("t") {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("table {name} is in none of the subscribed replication sets of the provider"),
            ));
        }
        read_table(&rows, 0)
    }

    /// What the provider sends of `table`, in its order: generated columns and those outside column lists are left out.
    pub fn columns(&mut self, table: &RemoteTable, sets: &[String]) -> Result<Vec<RemoteColumn>, Report> {
        let rows = self.query(
            &format!("read the columns of table {}", table.name),
            "SELECT a.attname, a.atttypid
               FROM spock.repset_show_table($1::oid::regclass, $2::text[]) i
               CROSS JOIN LATERAL pg_catalog.unnest(i.att_list) WITH ORDINALITY u (name, place)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = i.relid AND a.attname = u.name AND a.attgenerated = ''
              ORDER BY u.place",
            &[Some(&table.relid.to_string()), Some(&array_literal(sets))],
        )?;
        (0..rows.len())
            .map(|row| {
                let name = rows.get(row, 0).map(str::to_owned);
                let kind = rows.get(row, 1).and_then(|oid| oid.parse().ok()).map(TypeOid);
                name.zip(kind).map(|(name, kind)| RemoteColumn { name, kind }).ok_or_else(odd_answer)
            })
            .collect()
    }

    /// Runs `COPY … TO STDOUT`.
    pub fn copy_out(&mut self, command: &str) -> Result<CopyOut<'_>, ConnError> {
        self.connection.start_copy_out(command)
    }
}

fn read_table(rows: &crate::pg::conn::Rows, row: usize) -> Result<RemoteTable, Report> {
    let text = |column| rows.get(row, column).map(str::to_owned);
    let name = text(1).zip(text(2)).map(|(schema, table)| TableName { schema, table }).ok_or_else(odd_answer)?;
    Ok(RemoteTable {
        name,
        relid: text(0).and_then(|oid| oid.parse().ok()).ok_or_else(odd_answer)?,
        filtered: rows.get(row, 3) == Some("t"),
        partitioned: rows.get(row, 4) == Some("p"),
        is_partition: rows.get(row, 5) == Some("t"),
    })
}

fn odd_answer() -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION,
        "the provider did not describe its tables as a spock node does",
    )
}

/// Names as the text of a `text[]`, also inside a quoted literal of a statement once quotes are doubled.
pub fn array_literal(names: &[String]) -> String {
    let quoted = names.iter().map(|name| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")));
    format!("{{{}}}", quoted.collect::<Vec<_>>().join(","))
}
