//! What a subscriber asks of its provider while it copies: a slot with a snapshot, sessions that see that snapshot, the
//! tables of the subscribed sets and what is sent of each.
//!
//! # Invariants
//! 1. Everything that is copied is read under the snapshot of the slot's consistent point: what committed before is copied,
//!    what committed after is streamed.
//! 2. No timeout of the provider's users ends a session of ours.
//! 3. A slot is dropped only when it is inactive, of our plugin and of the provider's own database.

use crate::catalog::topology::{Dsn, Subscription};
use crate::error::Report;
use crate::pg::conn::{ConnError, Connection, CopyOut, Purpose, Rows};
use crate::pg::latch;
use pgrx::PgSqlErrorCode;
use spock_core::names;
use spock_core::settled::Unsettled;
use spock_core::sync::TableName;
use spock_core::types::{Lsn, NodeId, PgTime, TypeOid};
use std::time::{Duration, Instant};

/// A provider that does not answer for so long is tried again later.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// How long a sender may need to notice that its client is gone.
const SLOT_RELEASE_MAX: Duration = Duration::from_secs(30);
/// Between two looks at such a slot.
const SLOT_RELEASE_POLL: Duration = Duration::from_millis(100);
/// Output plugin that our slots name.
const PLUGIN: &str = "spock_output";

/// A slot that was just made, and the connection that keeps its snapshot: drop it when nobody needs the snapshot any more.
pub struct NewSlot {
    /// The slot's consistent point.
    pub lsn: Lsn,
    /// Name of the exported snapshot, for [`Session::see`] and `pg_dump --snapshot`.
    pub snapshot: String,
    /// Which rows of the snapshot have versions of their own in a copy.
    pub unsettled: Unsettled,
    holder: Connection,
}

impl NewSlot {
    /// Whether the snapshot is still kept, as far as can be told.
    pub fn is_alive(&mut self) -> bool {
        self.holder.is_alive()
    }
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
    /// A partition of a table of the same list: its rows come with that one.
    pub with_parent: bool,
}

/// How far the provider has applied the changes of another node: what the copied snapshot holds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerProgress {
    /// The other node.
    pub node: NodeId,
    /// Commit time of its last transaction there.
    pub commit_time: Option<PgTime>,
    /// End of that transaction in the other node's WAL.
    pub commit_lsn: Option<Lsn>,
    /// The other node's insert position, as far as the provider knows it.
    pub insert_lsn: Option<Lsn>,
    /// Received there up to here.
    pub received_lsn: Option<Lsn>,
}

/// A sequence of the provider that has given out a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSequence {
    /// Its name, the same on both sides.
    pub name: TableName,
    /// The last value.
    pub value: i64,
}

/// A key that was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedKey {
    /// Its hash; `None`: all keys.
    pub hash: Option<i64>,
    /// When, in microseconds since 2000.
    pub time: i64,
    /// The node where it was removed.
    pub origin: u32,
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
    match error.hint() {
        Some(hint) => report.hint(hint),
        None => report,
    }
}

/// An ordinary session on the provider, in which no timeout of its users ends a command, and a server that stands still is noticed.
pub struct Session(Connection);

impl Session {
    /// Connects; `suffix` tells in `application_name` what for.
    pub fn open(subscription: &Subscription, suffix: &str) -> Result<Self, Report> {
        connect(subscription, suffix, false).map(Self)
    }

    /// Connects to any node; `name` and `suffix` tell in `application_name` for whom and what.
    pub fn at(dsn: &Dsn, name: &str, suffix: &str) -> Result<Self, Report> {
        connect_to(dsn, &names::application_name(name, Some(suffix)), false, "connect to a node").map(Self)
    }

    /// From now on a node that says nothing for `limit` counts as lost; `None`: for `spock.apply_idle_timeout`. Until then answers
    /// may take as long as it lets others in.
    pub fn wait_within(&mut self, limit: Option<Duration>) {
        self.0.wait_within(limit);
    }

    /// The provider's version, e.g. 170011.
    pub fn server_version_num(&self) -> i32 {
        self.0.server_version_num()
    }

    /// Runs a command. `what` is what it is for: "could not …".
    pub fn query(&mut self, what: &str, sql: &str, params: &[Option<&str>]) -> Result<Rows, Report> {
        self.0.query(sql, params).map_err(|error| failed(what, error))
    }

    /// Whether the provider has that function. `signature` as `regprocedure` reads it.
    pub fn has_function(&mut self, signature: &str) -> Result<bool, Report> {
        let sql = "SELECT pg_catalog.to_regprocedure($1) IS NOT NULL";
        let rows = self.query("look for a function on the provider", sql, &[Some(signature)])?;
        Ok(rows.get(0, 0) == Some("t"))
    }

    /// Fails if transactions are parked on the provider: it says that it has them, and the copy would be without.
    ///
    /// # Errors
    /// 55000 they are; otherwise the provider's own.
    pub fn require_nothing_parked(&mut self) -> Result<(), Report> {
        let what = "look for parked transactions on the provider";
        let known = self.query(what, "SELECT pg_catalog.to_regclass('spock.parked_transaction') IS NOT NULL", &[])?;
        if known.get(0, 0) != Some("t") {
            return Ok(());
        }
        let count = self.query(what, "SELECT pg_catalog.count(*) FROM spock.parked_transaction", &[])?;
        match count.get(0, 0) {
            Some("0") | None => Ok(()),
            Some(count) => Err(Report::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the provider has parked transactions ({count}), and a copy would be without them"),
            )
            .hint("Call spock.replay_parked() or spock.discard_parked() there first.")),
        }
    }

    /// Whether the provider filters the stream of a single table by replication sets, too: version 7 and later.
    pub fn filters_single_tables(&mut self) -> Result<bool, Report> {
        let rows = self.query("ask for the provider's version", "SELECT spock.spock_version_num() >= 70000", &[])?;
        Ok(rows.get(0, 0) == Some("t"))
    }

    /// Holds back whoever applies changes of other nodes on the provider, so that a snapshot taken now agrees with the
    /// positions that it tells. Nothing is held where nobody applies. The hold ends with [`Session::resume`], or with the
    /// session on a provider of our edition. Returns whether something is held.
    pub fn pause(&mut self) -> Result<bool, Report> {
        if !self.has_function("spock.pause_apply_workers()")? {
            return Ok(false);
        }
        let sql = "SELECT EXISTS (SELECT FROM spock.subscription WHERE sub_enabled)";
        let rows = self.query("look for subscriptions of the provider", sql, &[])?;
        if rows.get(0, 0) != Some("t") {
            return Ok(false);
        }
        self.query("hold back the provider's apply workers", "SELECT spock.pause_apply_workers()", &[])?;
        Ok(true)
    }

    /// Ends [`Session::pause`].
    pub fn resume(&mut self) -> Result<(), Report> {
        self.query("let the provider's apply workers go on", "SELECT spock.resume_apply_workers()", &[]).map(|_| ())
    }

    /// Drops the slot `name` of an earlier attempt, if it is there, ours and not in use.
    pub fn drop_stale_slot(&mut self, name: &str) -> Result<(), Report> {
        self.query(
            &format!("drop the old replication slot \"{name}\""),
            "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots
              WHERE slot_name = $1 AND plugin IN ('spock_output', 'spock') AND NOT active
                AND database = pg_catalog.current_database()",
            &[Some(name)],
        )
        .map(|_| ())
    }

    /// Drops the slot `name`, if it is there and ours. Waits for a sender that has not noticed yet that its client is gone.
    pub fn drop_slot(&mut self, name: &str) -> Result<(), Report> {
        let started = Instant::now();
        loop {
            let dropped = self.query(
                &format!("drop the replication slot \"{name}\""),
                "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots
                  WHERE slot_name = $1 AND plugin IN ('spock_output', 'spock') AND database = pg_catalog.current_database()",
                &[Some(name)],
            );
            match dropped {
                Err(report)
                    if report.code == PgSqlErrorCode::ERRCODE_OBJECT_IN_USE && started.elapsed() < SLOT_RELEASE_MAX =>
                {
                    latch::wait(SLOT_RELEASE_POLL);
                    latch::check_interrupts();
                }
                other => return other.map(|_| ()),
            }
        }
    }

    /// Sequences of the replication sets `sets`; with `owned`, also those that belong to a column of a table in them. Only
    /// those that have given out a value.
    pub fn sequences(&mut self, sets: &[String], owned: bool) -> Result<Vec<RemoteSequence>, Report> {
        let rows = self.query(
            "read the provider's sequences",
            "WITH member AS (
                 SELECT m.set_seqoid::oid AS oid FROM spock.replication_set_seq m
                   JOIN spock.replication_set s ON s.set_id = m.set_id JOIN spock.local_node l ON l.node_id = s.set_nodeid
                  WHERE s.set_name = ANY ($1::text[])
                 UNION
                 SELECT d.objid FROM pg_catalog.pg_depend d JOIN spock.tables t ON t.relid = d.refobjid
                  WHERE $2::boolean AND t.set_name = ANY ($1::text[]) AND d.deptype IN ('a', 'i')
                    AND d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass)
             SELECT v.nspname, v.relname, v.value
               FROM (SELECT n.nspname, c.relname,
                            CASE WHEN c.relkind = 'S' THEN pg_catalog.pg_sequence_last_value(c.oid) END AS value
                       FROM member m JOIN pg_catalog.pg_class c ON c.oid = m.oid
                       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) v
              WHERE v.value IS NOT NULL ORDER BY 1, 2",
            &[Some(&array_literal(sets)), Some(if owned { "t" } else { "f" })],
        )?;
        (0..rows.len())
            .map(|row| {
                let text = |column| rows.get(row, column).map(str::to_owned).ok_or_else(odd_answer);
                let value = text(2)?.parse().map_err(|_| odd_answer())?;
                Ok(RemoteSequence { name: TableName { schema: text(0)?, table: text(1)? }, value })
            })
            .collect()
    }

    /// All tables of the replication sets `sets`, each once, in the order of their names.
    pub fn tables(&mut self, sets: &[String]) -> Result<Vec<RemoteTable>, Report> {
        let rows = self.query(
            "read the provider's replication sets",
            "WITH t AS (SELECT DISTINCT relid FROM spock.tables WHERE set_name = ANY ($1::text[]))
             SELECT i.relid, i.nspname, i.relname, i.has_row_filter, i.relkind,
                    EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(i.relid) a
                             WHERE a.relid <> i.relid AND a.relid IN (SELECT t.relid FROM t))
               FROM t CROSS JOIN LATERAL spock.repset_show_table(t.relid, $1::text[]) i
              ORDER BY 2, 3",
            &[Some(&array_literal(sets))],
        )?;
        (0..rows.len()).map(|row| read_table(&rows, row)).collect()
    }

    /// From now on this session sees the data of the snapshot that another session exported and still keeps, read only.
    pub fn see(mut self, snapshot: &str) -> Result<SnapshotSession, Report> {
        let quoted = snapshot.replace('\'', "''");
        for command in [
            "SET search_path = ''",
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            &format!("SET TRANSACTION SNAPSHOT '{quoted}'"),
        ] {
            self.query("read the provider's data as of its slot", command, &[])?;
        }
        Ok(SnapshotSession { connection: self })
    }
}

/// A connection to the provider of `subscription`; `suffix` tells in `application_name` what it is for. No timeout ends it.
fn connect(subscription: &Subscription, suffix: &str, replication: bool) -> Result<Connection, Report> {
    let name = names::application_name(&subscription.name, Some(suffix));
    connect_to(&subscription.origin_if.dsn, &name, replication, "connect to the provider")
}

/// As [`connect`], to any node. `what`: for the error.
fn connect_to(dsn: &Dsn, application_name: &str, replication: bool, what: &str) -> Result<Connection, Report> {
    let purpose = Purpose { application_name, replication };
    let mut connection = Connection::connect(dsn, purpose, CONNECT_DEADLINE).map_err(|error| failed(what, error))?;
    let mut settings =
        vec!["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"];
    if connection.server_version_num() >= 170_000 {
        settings.push("transaction_timeout");
    }
    for setting in settings {
        connection.query(&format!("SET {setting} = 0"), &[]).map_err(|error| failed("prepare the session", error))?;
    }
    connection.wait_while_it_lives(dsn);
    Ok(connection)
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
        Some((lsn, snapshot)) => {
            Ok(NewSlot { lsn, snapshot: snapshot.to_owned(), unsettled: Unsettled::Nothing, holder })
        }
        None => {
            let odd = ConnError::Unexpected("the answer to CREATE_REPLICATION_SLOT is not complete");
            Err(failed("create the replication slot", odd))
        }
    }
}

/// A session on the provider that sees the data of one snapshot, read only. Drop ends it.
pub struct SnapshotSession {
    connection: Session,
}

impl SnapshotSession {
    /// The provider's version, e.g. 170011.
    pub fn server_version_num(&self) -> i32 {
        self.connection.server_version_num()
    }

    /// Back to an ordinary session.
    pub fn leave(mut self) -> Result<Session, Report> {
        self.query("leave the snapshot", "ROLLBACK", &[])?;
        Ok(self.connection)
    }

    fn query(&mut self, what: &str, sql: &str, params: &[Option<&str>]) -> Result<Rows, Report> {
        self.connection.query(what, sql, params)
    }

    /// [`Session::tables`], as the snapshot has them.
    pub fn tables(&mut self, sets: &[String]) -> Result<Vec<RemoteTable>, Report> {
        self.connection.tables(sets)
    }

    /// Partitions of a partitioned table that are in the replication sets `sets`, by name: all, or only the leaves, which the
    /// stream names.
    pub fn partitions(&mut self, table: &RemoteTable, sets: &[String], leaves: bool) -> Result<Vec<TableName>, Report> {
        let rows = self.query(
            "look for partitions on the provider",
            "SELECT DISTINCT n.nspname, c.relname
               FROM pg_catalog.pg_partition_tree($1::oid::regclass) p
               JOIN pg_catalog.pg_class c ON c.oid = p.relid
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               JOIN spock.tables t ON t.relid = c.oid AND t.set_name = ANY ($2::text[])
              WHERE p.level > 0 AND (p.isleaf OR NOT $3::boolean) ORDER BY 1, 2",
            &[Some(&table.relid.to_string()), Some(&array_literal(sets)), Some(if leaves { "t" } else { "f" })],
        )?;
        let name = |row| rows.get(row, 0).zip(rows.get(row, 1));
        (0..rows.len())
            .map(|row| {
                let (schema, table) = name(row).ok_or_else(odd_answer)?;
                Ok(TableName { schema: schema.to_owned(), table: table.to_owned() })
            })
            .collect()
    }

    /// 55P03 when the provider's workers have gone on before they were released: then what it says about other nodes need
    /// not fit the snapshot. A provider of the C edition cannot tell.
    pub fn require_paused(&mut self) -> Result<(), Report> {
        if !self.connection.has_function("spock.apply_workers_paused()")? {
            return Ok(());
        }
        let rows =
            self.query("ask whether the provider still stands still", "SELECT spock.apply_workers_paused()", &[])?;
        if rows.get(0, 0) == Some("t") {
            return Ok(());
        }
        Err(Report::new(
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            "the provider's apply workers had gone on before its snapshot was taken",
        )
        .hint("It is tried again. Raise \"spock.pause_timeout\" on the provider, or end its long transactions."))
    }

    /// What the snapshot holds of other nodes. Empty where the provider cannot say: version 5.0.
    pub fn peer_progress(&mut self, slot: &str, local: NodeId, provider: NodeId) -> Result<Vec<PeerProgress>, Report> {
        let what = "read how far the provider is with other nodes";
        if !self.connection.has_function("spock.read_peer_progress(text,oid,oid)")? {
            return Ok(Vec::new());
        }
        let (provider, local) = (provider.get().to_string(), local.get().to_string());
        let rows = self.query(
            what,
            "SELECT remote_node_id, (extract(epoch FROM remote_commit_ts) * 1000000)::int8 - 946684800000000,
                    remote_commit_lsn, remote_insert_lsn, received_lsn
               FROM spock.read_peer_progress($1, $2::oid, $3::oid) WHERE remote_node_id IS NOT NULL",
            &[Some(slot), Some(&provider), Some(&local)],
        )?;
        let lsn = |row, column| rows.get(row, column).and_then(|text| text.parse::<Lsn>().ok());
        (0..rows.len())
            .map(|row| {
                let node = rows.get(row, 0).and_then(|id| id.parse().ok()).and_then(NodeId::new);
                Ok(PeerProgress {
                    node: node.ok_or_else(odd_answer)?,
                    commit_time: rows.get(row, 1).and_then(|text| text.parse().ok()).map(PgTime::from_micros),
                    commit_lsn: lsn(row, 2),
                    insert_lsn: lsn(row, 3),
                    received_lsn: lsn(row, 4),
                })
            })
            .collect()
    }

    /// [`Session::require_nothing_parked`], as the snapshot has it.
    pub fn require_nothing_parked(&mut self) -> Result<(), Report> {
        self.connection.require_nothing_parked()
    }

    /// One table of the replication sets `sets`. 42P01 when the provider has none of that name, 55000 when it is in none of
    /// the sets.
    pub fn table(&mut self, name: &TableName, sets: &[String]) -> Result<RemoteTable, Report> {
        let rows = self.query(
            "look for a table on the provider",
            "SELECT i.relid, i.nspname, i.relname, i.has_row_filter, i.relkind, false,
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

    /// Whether the provider keeps versions of rows beside their transactions: only a stock server does.
    pub fn keeps_row_versions(&mut self) -> Result<bool, Report> {
        let what = "read the provider's versions of rows";
        let rows = self.query(what, "SELECT pg_catalog.to_regclass('spock.row_version') IS NOT NULL", &[])?;
        if rows.get(0, 0) != Some("t") {
            return Ok(false);
        }
        let rows = self.query(what, "SELECT EXISTS (SELECT FROM spock.row_version)", &[])?;
        Ok(rows.get(0, 0) == Some("t"))
    }

    /// Whether the provider keeps rows out of their tables because of unique values.
    pub fn has_displaced_rows(&mut self) -> Result<bool, Report> {
        let sql = "SELECT pg_catalog.to_regclass('spock.displaced_row') IS NOT NULL";
        let rows = self.query("read the provider's displaced rows", sql, &[])?;
        Ok(rows.get(0, 0) == Some("t"))
    }

    /// Whether a query that is given from its FROM clause on has rows. `name`: the table, for an error.
    pub fn has_rows(&mut self, name: &TableName, from: &str) -> Result<bool, Report> {
        let sql = format!("SELECT EXISTS (SELECT FROM {from})");
        let rows = self.query(&format!("read the provider's new rows of table {name}"), &sql, &[])?;
        Ok(rows.get(0, 0) == Some("t"))
    }

    /// Columns of the key by which the provider identifies rows of the table. `None`: it has none.
    pub fn key(&mut self, table: &RemoteTable) -> Result<Option<Vec<String>>, Report> {
        let rows = self.query(
            &format!("read the provider's key of table {}", table.name),
            "SELECT a.attname FROM (SELECT i.indrelid, i.indkey FROM pg_catalog.pg_index i
                  WHERE i.indrelid = $1::oid AND i.indisvalid AND (i.indisreplident OR i.indisprimary)
                  ORDER BY i.indisreplident DESC LIMIT 1) k
               JOIN pg_catalog.pg_attribute a ON a.attrelid = k.indrelid AND a.attnum = ANY (k.indkey::int2[])",
            &[Some(&table.relid.to_string())],
        )?;
        let names: Vec<String> = (0..rows.len()).filter_map(|row| rows.get(row, 0).map(str::to_owned)).collect();
        Ok((!names.is_empty()).then_some(names))
    }

    /// Keys of the table that the provider remembers to be removed, of what is not settled. None where it cannot say.
    pub fn removed_keys(&mut self, table: &TableName, unsettled: &str) -> Result<Vec<RemovedKey>, Report> {
        if !self.connection.has_function("spock.removed_keys(regclass,text)")? {
            return Ok(Vec::new());
        }
        let rows = self.query(
            &format!("read the provider's removed keys of table {table}"),
            "SELECT key_hash, (extract(epoch FROM removed_at) * 1000000)::int8 - 946684800000000, removed_on
               FROM spock.removed_keys($1::regclass, $2)",
            &[Some(&table.quoted()), Some(unsettled)],
        )?;
        (0..rows.len())
            .map(|row| {
                let number =
                    |column| rows.get(row, column).map(str::parse::<i64>).transpose().map_err(|_| odd_answer());
                let origin = number(2)?.and_then(|origin| u32::try_from(origin).ok());
                Ok(RemovedKey {
                    hash: number(0)?,
                    time: number(1)?.ok_or_else(odd_answer)?,
                    origin: origin.ok_or_else(odd_answer)?,
                })
            })
            .collect()
    }

    /// A time that is later than any version of a row that the provider has now: its clock's, or that of a newer commit.
    pub fn latest_time(&mut self) -> Result<Option<PgTime>, Report> {
        let rows = self.query(
            "read the provider's clock",
            "SELECT (extract(epoch FROM greatest(pg_catalog.clock_timestamp(), l.timestamp)) * 1000000)::int8 - 946684800000000
               FROM pg_catalog.pg_last_committed_xact() l",
            &[],
        )?;
        Ok(rows.get(0, 0).and_then(|text| text.parse().ok()).map(PgTime::from_micros))
    }

    /// Runs `COPY … TO STDOUT`.
    pub fn copy_out(&mut self, command: &str) -> Result<CopyOut<'_>, ConnError> {
        self.connection.0.start_copy_out(command)
    }
}

fn read_table(rows: &Rows, row: usize) -> Result<RemoteTable, Report> {
    let text = |column| rows.get(row, column).map(str::to_owned);
    let name = text(1).zip(text(2)).map(|(schema, table)| TableName { schema, table }).ok_or_else(odd_answer)?;
    Ok(RemoteTable {
        name,
        relid: text(0).and_then(|oid| oid.parse().ok()).ok_or_else(odd_answer)?,
        filtered: rows.get(row, 3) == Some("t"),
        partitioned: rows.get(row, 4) == Some("p"),
        with_parent: rows.get(row, 5) == Some("t"),
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
