//! Making rows that differ the same: what wins on the other node is written here, through a connection to this node, in one
//! transaction for each version.
//!
//! # Invariants
//! 1. What wins here stays: the other node repairs it.
//! 2. Each transaction is committed for itself. An error ends the repair; what was committed before stays.
//! 3. One repair at a time in a database.

use super::find::Difference;
use super::plan::Plan;
use super::side::{Peer, Side};
use crate::error::Report;
use crate::pg::origin::origin_name_of_repairs;
use crate::pg::session;
use crate::sync::copy::COPIED_AT_US;
use crate::sync::provider::Session;
use pgrx::PgSqlErrorCode;
use spock_core::compare::text::literal;
use spock_core::compare::verdict::{Prefer, Repair, repair};
use spock_core::merge::Version;
use std::collections::BTreeMap;

/// Key of the advisory lock: two numbers that say nothing.
const LOCK: &str = "1397772107, 1380273234";
/// A lock of somebody else is waited for so long.
const LOCK_TIMEOUT: &str = "10s";

/// What became of a row.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its key, as JSON.
    pub key: Option<String>,
    /// In a word.
    pub action: &'static str,
    /// The version that is here now, or stays. `None`: no row, or undecided.
    pub version: Option<Version>,
}

const fn word(action: Repair) -> &'static str {
    match action {
        Repair::Insert => "inserted",
        Repair::Update => "updated",
        Repair::Delete => "deleted",
        Repair::Keep => "kept",
        Repair::Undecided => "undecided",
    }
}

/// Time (microseconds since 2000) and origin of a transaction.
type Stamp = (i64, u32);

/// A row to be written.
struct Order<'d> {
    place: usize,
    difference: &'d Difference,
    action: Repair,
}

/// Decides about each row and, unless it is a `dry_run`, carries it out.
pub fn run(plan: &Plan, rows: &[Difference], prefer: Option<Prefer>, dry_run: bool) -> Result<Vec<Outcome>, Report> {
    let mut outcomes = Vec::with_capacity(rows.len());
    let mut groups: BTreeMap<Stamp, Vec<Order<'_>>> = BTreeMap::new();
    let now = session::now();
    for (place, difference) in rows.iter().enumerate() {
        let (local, remote) = (difference.rows.local.as_ref(), difference.rows.remote.as_ref());
        let version = |side: Option<&super::side::Reading>| side.map(|reading| reading.seen.version);
        let (ours, theirs) = (version(local), version(remote));
        let action = repair(ours.as_ref(), theirs.as_ref(), prefer);
        let stays = match action {
            Repair::Insert | Repair::Update => theirs,
            Repair::Keep => ours,
            Repair::Delete | Repair::Undecided => None,
        };
        let key = local.or(remote).and_then(|reading| reading.key_json.clone());
        outcomes.push(Outcome { key, action: word(action), version: stays });
        let stamp = match (action, theirs) {
            (Repair::Insert | Repair::Update, Some(theirs)) => {
                (theirs.time.map_or(COPIED_AT_US, spock_core::types::PgTime::micros), theirs.origin.get())
            }
            (Repair::Delete, _) => (now, plan.node.id.get()),
            _ => continue,
        };
        groups.entry(stamp).or_default().push(Order { place, difference, action });
    }
    if !dry_run && !groups.is_empty() {
        let mut writer = Writer::open(plan)?;
        let changed = writer.write(&groups);
        let closed = writer.close(changed.is_err());
        for place in changed? {
            outcomes[place].action = "changed";
            outcomes[place].version = None;
        }
        closed?;
    }
    Ok(outcomes)
}

/// The connection to this node.
struct Writer<'p> {
    plan: &'p Plan,
    session: Peer,
}

fn text_array(values: impl Iterator<Item = Option<String>>) -> String {
    let list = values.map(|value| value.map_or_else(|| "NULL".to_owned(), |value| literal(&value)));
    format!("ARRAY[{}]::pg_catalog.text[]", list.collect::<Vec<_>>().join(", "))
}

impl<'p> Writer<'p> {
    fn open(plan: &'p Plan) -> Result<Self, Report> {
        let session = Session::at(&plan.local.interface.dsn, &plan.node.name, "repair")?;
        let mut writer = Self { plan, session: Peer::new(session)? };
        writer.check_identity()?;
        let held = writer.ask(&format!("SELECT pg_try_advisory_lock({LOCK})::pg_catalog.text"))?;
        if held.first().is_none_or(|row| row[0].as_deref() != Some("true")) {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
                "another repair is under way in this database",
            ));
        }
        writer.ask(&format!("SET lock_timeout = '{LOCK_TIMEOUT}'"))?;
        writer.ask("SET session_replication_role = replica")?;
        let name = literal(&origin_name_of_repairs());
        writer.ask(&format!(
            "SELECT pg_replication_origin_create({name})::pg_catalog.text
              WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_replication_origin o WHERE o.roname = {name})"
        ))?;
        Ok(writer)
    }

    fn ask(&mut self, sql: &str) -> Result<super::side::Texts, Report> {
        self.session.ask("repair rows through a connection to this node", sql)
    }

    /// The connection must lead here, as a superuser.
    fn check_identity(&mut self) -> Result<(), Report> {
        let rows = self.ask(
            "SELECT l.node_id::pg_catalog.int8::pg_catalog.text, current_setting('is_superuser') FROM spock.local_node l",
        )?;
        let id = self.plan.local.node.id.get().to_string();
        let right = rows.first().is_some_and(|row| row[0].as_deref() == Some(&id) && row[1].as_deref() == Some("on"));
        if right {
            return Ok(());
        }
        Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("the interface \"{}\" does not lead to this node as a superuser", self.plan.local.interface.name),
        )
        .hint("Rows are repaired through the connection string that spock.node_create was given."))
    }

    /// Writes all rows; returns the places of those that had changed meanwhile.
    fn write(&mut self, groups: &BTreeMap<Stamp, Vec<Order<'_>>>) -> Result<Vec<usize>, Report> {
        let mut changed = Vec::new();
        for (stamp, orders) in groups {
            changed.extend(self.transaction(*stamp, orders)?);
        }
        Ok(changed)
    }

    /// Writes the rows of one version; returns the places of those that had changed meanwhile.
    fn transaction(&mut self, stamp: Stamp, orders: &[Order<'_>]) -> Result<Vec<usize>, Report> {
        let mut changed = Vec::new();
        self.ask("BEGIN")?;
        for order in orders {
            let rows = self.ask(&self.statement(stamp, order))?;
            if rows.first().is_none_or(|row| row[0].as_deref() != Some("true")) {
                changed.push(order.place);
            }
        }
        self.ask("COMMIT")?;
        Ok(changed)
    }

    fn statement(&self, (time, origin): Stamp, order: &Order<'_>) -> String {
        let names = self.plan.there.columns.iter().map(|column| Some(column.name.clone()));
        let rows = &order.difference.rows;
        let values = rows.remote.as_ref().map(|remote| remote.values.clone()).unwrap_or_default();
        let change = match order.action {
            Repair::Insert => "insert",
            Repair::Delete => "delete",
            Repair::Update | Repair::Keep | Repair::Undecided => "update",
        };
        let xmin = rows.local.as_ref().map_or_else(|| "NULL".to_owned(), |local| format!("'{}'", local.xmin));
        format!(
            "SELECT spock.apply_version({}::pg_catalog.regclass, '{change}', {}, {}, {}, {xmin}::pg_catalog.xid,
                 '2000-01-01 00:00:00+00'::pg_catalog.timestamptz + {} * '1 day'::pg_catalog.interval
                     + {} * '1 microsecond'::pg_catalog.interval, {origin}::pg_catalog.oid)::pg_catalog.text",
            literal(&self.plan.name.quoted()),
            text_array(names),
            text_array(values.into_iter()),
            text_array(order.difference.key.iter().cloned().map(Some)),
            time.div_euclid(DAY_US),
            time.rem_euclid(DAY_US),
        )
    }

    fn close(mut self, failed: bool) -> Result<(), Report> {
        if failed {
            self.ask("ROLLBACK")?;
        }
        let name = literal(&origin_name_of_repairs());
        self.ask(&format!("SELECT pg_replication_origin_drop({name})::pg_catalog.text"))?;
        Ok(())
    }
}

/// A day in microseconds: an interval of days and one of less are exact.
const DAY_US: i64 = 86_400_000_000;
