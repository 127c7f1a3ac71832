//! Rows of a copy that keep their versions, and keys that were removed: those that a change which is still on its way could be
//! older than. Which these are is `spock_core::settled`; all others are copied by `copy` with one version for all.
//!
//! # Invariants
//! 1. What a provider calls settled is asked for before the snapshot is made.
//! 2. A row is copied once: with its version, or with all others.
//! 3. In doubt a row keeps its version, which is right in any case.

use super::copy::COPIED_AT_US;
use super::provider::{PeerProgress, RemoteTable, Session, SnapshotSession, array_literal};
use crate::catalog::deltas;
use crate::catalog::query::{execute_as_is, select_as_is};
use crate::catalog::tombstones;
use crate::catalog::topology::Subscription;
use crate::error::Report;
use crate::pg::deletes::{self, Removed};
use crate::pg::heap::next_command;
use crate::pg::part::{Part, PartVersion, with_version};
use crate::pg::raise::{Level, log};
use crate::pg::relation::Table;
use crate::pg::session::OwnerScope;
use crate::pg::{horizon, latch, process};
use crate::settings;
use crate::worker::{announcements, progress};
use pgrx::PgSqlErrorCode;
use spock_core::merge::stability::Cause;
use spock_core::options::identifiers;
use spock_core::settled::{Other, Settled, Unsettled};
use spock_core::sync::TableName;
use spock_core::types::{Lsn, NodeId, PgTime};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a provider waits for the others before it says that it cannot tell.
const SETTLED_WAIT_MS: &str = "10000";
/// How long we wait to have read the others as far as the provider has.
const READ_WAIT: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long a change can be on its way from a node that cannot say how far it is, in microseconds.
const UNANNOUNCED_LIMIT_US: i64 = Cause::UNANNOUNCED.as_secs().cast_signed() * 1_000_000;
/// So many versions are looked up at once.
const SLICE: u32 = 5_000;
/// How long the place where removed keys are kept may be in the making.
const KEEPER_WAIT: Duration = Duration::from_secs(30);
/// No row was written before that; later than what copied rows have.
const FIRST_TIME_US: i64 = COPIED_AT_US + 86_400_000_000;
/// A day: an interval of days and one of less are exact.
const DAY_US: i64 = 86_400_000_000;

/// What the provider says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// `None`: it cannot tell, or is of an edition that cannot.
    settled: Option<Settled>,
    /// A change can be on its way for so long, in microseconds.
    limit_us: i64,
}

/// What the provider says is settled. Before the snapshot is made.
pub fn ask(side: &mut Session, subscription: &Subscription) -> Result<Word, Report> {
    let unknown = Word { settled: None, limit_us: UNANNOUNCED_LIMIT_US };
    if !side.has_function("spock.settled(oid,integer)")? {
        return Ok(unknown);
    }
    let target = subscription.target.id.get().to_string();
    let sql = "SELECT before, node_id, read_to FROM spock.settled($1::oid, $2::integer)";
    let rows = side.query("read the provider's settled transactions", sql, &[Some(&target), Some(SETTLED_WAIT_MS)])?;
    if rows.is_empty() {
        return Ok(unknown);
    }
    let limit_us = i64::from(settings::tombstone_retention_s()) * 1_000_000;
    let Some(before) = rows.get(0, 0).and_then(|text| text.parse().ok()) else {
        return Ok(Word { settled: None, limit_us });
    };
    let mut settled = Settled { before, read: Default::default() };
    for row in 0..rows.len() {
        let node = rows.get(row, 1).and_then(|id| id.parse().ok()).and_then(NodeId::new);
        if let Some((node, at)) = node.zip(rows.get(row, 2).and_then(|text| text.parse::<Lsn>().ok())) {
            settled.read.advance(node, at);
        }
    }
    Ok(Word { settled: Some(settled), limit_us })
}

/// What is not settled for this node. `peers`: how far the provider had applied other nodes when the snapshot was made. Waits until
/// this node has read those that it reads as far as the provider had when it answered. Outside a transaction, or inside.
pub fn decide(subscription: &Subscription, word: &Word, peers: &[PeerProgress]) -> Result<Unsettled, Report> {
    let settled = word.settled.as_ref();
    let (local, provider) = (subscription.target.id, subscription.origin.id);
    let started = Instant::now();
    let (read, unread) = loop {
        // What was not read yet is read from where the provider is, once the copy is done.
        let (unread, read): (Vec<_>, Vec<_>) =
            announcements::read_here(provider)?.into_iter().partition(|(_, at)| at.is_none());
        if settled.is_none_or(|settled| settled.reaches(&read)) || started.elapsed() >= READ_WAIT {
            break (read, unread);
        }
        latch::wait(LOOK_INTERVAL);
        latch::check_interrupts();
    };
    let mut last: BTreeMap<NodeId, Option<PgTime>> =
        peers.iter().map(|peer| (peer.node, peer.commit_time)).filter(|(node, _)| *node != local).collect();
    let rows = progress::snapshot();
    for (node, _) in &read {
        let own = |row: &&progress::ProgressRow| {
            (row.key.database, row.key.node, row.key.remote) == (process::own_database(), local, *node)
        };
        last.insert(*node, rows.iter().find(own).and_then(|row| row.remote_commit_ts));
    }
    for (node, _) in unread {
        last.entry(node).or_insert(None);
    }
    last.remove(&provider);
    let others: Vec<Other> = last.into_iter().map(|(node, last)| Other { node, last }).collect();
    Ok(Unsettled::of(settled, &read, &others, process::now(), word.limit_us))
}

/// A constant.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A time (microseconds since 2000) as an expression that no setting of the session changes.
pub fn time_expression(time: i64) -> String {
    format!(
        "('2000-01-01 00:00:00+00'::pg_catalog.timestamptz + {} * '1 day'::pg_catalog.interval + {} * '1 microsecond'::pg_catalog.interval)",
        time.div_euclid(DAY_US),
        time.rem_euclid(DAY_US)
    )
}

/// How the rows of one table are told apart in the statements that read them.
pub struct Cut {
    /// What a row is called in `late` and `settled`.
    row: &'static str,
    late: String,
    settled: String,
    time: String,
    origin: String,
}

impl Cut {
    /// `None`: all rows are settled, or, without a key in a filtered table, count as such.
    pub fn of(
        session: &mut SnapshotSession,
        remote: &RemoteTable,
        sets: &[String],
        unsettled: Unsettled,
    ) -> Result<Option<Self>, Report> {
        let kept = unsettled != Unsettled::Nothing && session.keeps_row_versions()?;
        let (time, origin) = version_expressions(kept);
        let later = |than: i64| format!("COALESCE({time} > {}, false)", time_expression(than));
        let condition = match unsettled {
            Unsettled::Nothing => return Ok(None),
            Unsettled::From(xid) => format!(
                "CASE WHEN pg_catalog.age(t.xmin) <= pg_catalog.age('{}'::pg_catalog.xid) THEN {} ELSE false END",
                xid as u32,
                later(FIRST_TIME_US)
            ),
            Unsettled::Since(since) => later(since.micros().max(FIRST_TIME_US)),
        };
        let table = remote.name.quoted();
        let place = format!("{}{table} t", if remote.partitioned { "" } else { "ONLY " });
        let cut = if remote.filtered {
            let Some(key) = session.key(remote)? else { return Ok(None) };
            let key = key.iter().map(|name| identifiers::quote(name));
            let same = key.map(|name| format!("t.{name}::text = r.{name}::text")).collect::<Vec<_>>().join(" AND ");
            let rows = filtered_rows(&table, sets);
            Self {
                row: "r",
                late: format!("{rows} r JOIN {place} ON {same} WHERE {condition}"),
                settled: format!("{rows} r WHERE NOT EXISTS (SELECT FROM {place} WHERE {condition} AND {same})"),
                time,
                origin,
            }
        } else {
            let (late, settled) = (format!("{place} WHERE {condition}"), format!("{place} WHERE NOT {condition}"));
            Self { row: "t", late, settled, time, origin }
        };
        Ok(session.has_rows(&remote.name, &cut.late)?.then_some(cut))
    }

    /// The query for the rows that are settled. Names are quoted.
    pub fn settled_rows(&self, columns: &[String]) -> String {
        let list = columns.iter().map(|name| format!("{}.{name}", self.row)).collect::<Vec<_>>().join(", ");
        format!("(SELECT {list} FROM {})", self.settled)
    }

    /// The query for the others, each with its time (microseconds since 2000) and node (0: the provider) behind its values.
    pub fn late_rows(&self, columns: &[String]) -> String {
        let list = columns.iter().map(|name| format!("{}.{name}, ", self.row)).collect::<String>();
        format!(
            "(SELECT {list}(extract(epoch FROM {}) * 1000000)::int8 - 946684800000000, ({})::int8 FROM {})",
            self.time, self.origin, self.late
        )
    }
}

/// What a provider sends of a table with row filters, as a function call.
pub fn filtered_rows(table: &str, sets: &[String]) -> String {
    format!(
        "spock.table_data_filtered(NULL::{table}, {}::regclass, {}::text[])",
        literal(table),
        literal(&array_literal(sets))
    )
}

/// Time and node of the row `t`. With `kept`, the provider keeps some versions by transaction with epoch, as a stock server must.
fn version_expressions(kept: bool) -> (String, String) {
    let newest = "pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::int8";
    let writer = format!("({newest} - ({newest} + 4294967296 - t.xmin::text::int8) % 4294967296)::text::xid8");
    let or_kept = |column: &str, otherwise: &str| match kept {
        true => {
            format!("COALESCE((SELECT v.{column} FROM spock.row_version v WHERE v.written_by = {writer}), {otherwise})")
        }
        false => otherwise.to_owned(),
    };
    (
        or_kept("commit_ts", "pg_catalog.pg_xact_commit_timestamp(t.xmin)"),
        or_kept("origin", "(pg_catalog.pg_xact_commit_timestamp_origin(t.xmin)).roident"),
    )
}

/// Names of the columns that hold the version in the temporary table. No table that is copied has them: they end in a space.
pub const VERSION_COLUMNS: [&str; 2] = ["\"spock time \"", "\"spock origin \""];

/// The version of what is written, from what the provider says: microseconds since 2000, and a node or 0.
fn part_version(subscription: &Subscription, time: i64, origin: u32) -> PartVersion {
    let node = NodeId::new(origin).unwrap_or(subscription.origin.id);
    PartVersion { time, origin: if node == subscription.target.id { 0 } else { node.wire() } }
}

fn in_part<R>(version: PartVersion, write: impl FnOnce(Part) -> Result<R, Report>) -> Result<R, Report> {
    with_version(version, |part| {
        if !part.stamped {
            deltas::write_version(part.xid, PgTime::from_micros(version.time), version.origin)?;
        }
        write(part)
    })
}

/// How rows get from the temporary table into the one that is copied.
pub struct Rows<'r> {
    /// Qualified name of the temporary table, which has [`VERSION_COLUMNS`].
    pub from: &'r str,
    /// What is copied, locked for writing.
    pub into: &'r Table,
    /// Its name.
    pub name: &'r TableName,
    /// Columns, quoted.
    pub columns: &'r [String],
    /// Behind INSERT, for a version's time as an expression.
    pub on_conflict: &'r dyn Fn(&str) -> String,
}

/// Writes each of `rows` with its version. Returns the latest time.
pub fn write_rows(subscription: &Subscription, rows: &Rows<'_>) -> Result<Option<PgTime>, Report> {
    let [time_column, origin_column] = VERSION_COLUMNS;
    execute_as_is(&format!("CREATE INDEX ON {} ({time_column}, {origin_column})", rows.from))?;
    let number = |group: &[Option<String>], at: usize| group[at].as_deref().and_then(|text| text.parse::<i64>().ok());
    let list = rows.columns.join(", ");
    let mut last: Option<(i64, i64)> = None;
    let mut groups = Vec::new().into_iter();
    loop {
        let Some(group) = groups.next() else {
            // A node that was away for long leaves many of them.
            let (time, origin) = last.unwrap_or((i64::MIN, i64::MIN));
            let next = select_as_is(&format!(
                "SELECT s.{time_column}::pg_catalog.text, s.{origin_column}::pg_catalog.text FROM {} s
                  WHERE (s.{time_column}, s.{origin_column}) > ({time}, {origin})
                  GROUP BY s.{time_column}, s.{origin_column} ORDER BY s.{time_column}, s.{origin_column} LIMIT {SLICE}",
                rows.from
            ))?;
            if next.is_empty() {
                break;
            }
            groups = next.into_iter();
            continue;
        };
        let (Some(time), Some(origin)) = (number(&group, 0), number(&group, 1)) else { continue };
        last = Some((time, origin));
        let version = part_version(subscription, time, u32::try_from(origin).unwrap_or_default());
        in_part(version, |_| {
            let _owner = OwnerScope::enter(rows.into);
            execute_as_is(&format!(
                "INSERT INTO {} AS t ({list}) OVERRIDING SYSTEM VALUE SELECT {list} FROM {} s
                  WHERE s.{time_column} = {time} AND s.{origin_column} = {origin} {}",
                rows.name.quoted(),
                rows.from,
                (rows.on_conflict)(&time_expression(time))
            ))
        })?;
    }
    next_command();
    Ok(last.map(|(time, _)| PgTime::from_micros(time)))
}

/// Takes over which keys of `tables`, on both sides under these names, the provider knows to be removed, and which rows of
/// them are displaced there. Those without a storage of their own here are left out.
pub fn take_over_removed(
    subscription: &Subscription,
    session: &mut SnapshotSession,
    tables: &[TableName],
    unsettled: Unsettled,
) -> Result<(), Report> {
    if unsettled == Unsettled::Nothing {
        return Ok(());
    }
    for name in tables {
        let Some(table) = super::copy::open_if_here(name) else { continue };
        let removed = session.removed_keys(name, &unsettled.to_string())?;
        if removed.is_empty() {
            continue;
        }
        wait_for_keeper();
        let mut groups: BTreeMap<(i64, u32), Vec<Option<i64>>> = BTreeMap::new();
        for key in removed {
            groups.entry((key.time, key.origin)).or_default().push(key.hash);
        }
        let oid = table.id().get();
        for ((time, origin), hashes) in groups {
            let version = part_version(subscription, time, origin);
            in_part(version, |part| tombstones::write_copied(oid, &hashes, part.xid))?;
        }
        deletes::note(Removed { table: oid, truncated: false, remembered: true });
    }
    Ok(())
}

thread_local! {
    /// The place did not come: no other table waits for it.
    static NO_KEEPER: Cell<bool> = const { Cell::new(false) };
}

/// What was removed is remembered only where vacuum can be held back, and that is in the making when the first subscription is.
fn wait_for_keeper() {
    let started = Instant::now();
    while !horizon::exists() && !NO_KEEPER.get() {
        if started.elapsed() >= KEEPER_WAIT {
            log(
                Level::Warning,
                &Report::new(
                    PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                    "keys that the provider knows to be removed cannot be remembered: there is no slot for that",
                )
                .hint("See \"max_replication_slots\"."),
            );
            NO_KEEPER.set(true);
            return;
        }
        latch::wait(LOOK_INTERVAL);
        latch::check_interrupts();
    }
}
