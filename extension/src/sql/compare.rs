//! `table_digest`, `diff`, `repair`.

use pgrx::PgSqlErrorCode;
use spock_core::compare::verdict::Prefer;
use spock_core::merge::Version;
use std::time::Duration;

use super::{null_argument, required_name};
use crate::compare::{self, Found, Here, Plan, Side};
use crate::error::Report;
use crate::pg::authority::{self, require_administrator};
use crate::pg::function::{Answer, Call, Value};
use crate::pg::raise::warn;
use crate::settings::{self, ReadOnly};

/// Waits for ever, near enough.
const NO_TIMEOUT: Duration = Duration::from_secs(u32::MAX as u64);

fn invalid(message: &str) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
}

/// `table_digest(relation, columns)`: as the caller, so row security and column privileges hold.
pub fn table_digest(call: &Call) -> Result<Answer, Report> {
    let oid = call.oid(0).ok_or_else(|| null_argument("the table"))?;
    let columns = call
        .texts(1)
        .map(|columns| {
            columns.into_iter().collect::<Option<Vec<String>>>().ok_or_else(|| null_argument("a column name"))
        })
        .transpose()?;
    let shape = compare::digest_shape(oid, columns.as_deref())?;
    let rows = Here.ask("read a table", &shape.digest())?;
    let value = |n: usize| rows.first().and_then(|row| row[n].clone());
    let count = value(0).and_then(|text| text.parse().ok()).map_or(Value::Null, Value::BigInt);
    Ok(Answer::Record(vec![count, Value::text(value(1))]))
}

/// Arguments that `diff` and `repair` share.
struct Limits {
    max_rows: usize,
    timeout: Duration,
}

impl Limits {
    /// `max_rows` and `timeout`, which follow each other from argument `first` on.
    fn read(call: &Call, first: usize) -> Result<Self, Report> {
        let max_rows = match call.int(first) {
            None => usize::MAX,
            Some(rows) => usize::try_from(rows)
                .ok()
                .filter(|rows| *rows > 0)
                .ok_or_else(|| invalid("\"max_rows\" must be greater than zero, or NULL for no limit"))?,
        };
        let timeout = match call.int(first + 1) {
            None | Some(0) => NO_TIMEOUT,
            Some(seconds) => Duration::from_secs(
                u64::try_from(seconds)
                    .map_err(|_| invalid("\"timeout\" must be a number of seconds, or 0 for no limit"))?,
            ),
        };
        Ok(Self { max_rows, timeout })
    }
}

/// 25001 where the rows of a later cut could not be seen.
fn check_transaction() -> Result<(), Report> {
    if !authority::uses_one_snapshot() {
        return Ok(());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
        "cannot compare nodes in a transaction that keeps one snapshot",
    )
    .hint("Use isolation level READ COMMITTED."))
}

/// Finds what differs; rows by key.
fn found(name: &str, oid: u32, limits: &Limits) -> Result<(Plan, Found), Report> {
    let (plan, mut peer) = Plan::make(name, oid)?;
    let mut found = compare::find(&plan, &mut peer, limits.max_rows, limits.timeout)?;
    found.rows.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    if found.cut_off {
        warn(format!(
            "more than {} rows of table {} differ; the last row of the result says so",
            limits.max_rows, plan.name
        ));
    }
    Ok((plan, found))
}

/// Columns time and origin of a version.
fn version(plan: &Plan, version: Option<Version>) -> [Value; 2] {
    let Some(version) = version else { return [Value::Null, Value::Null] };
    let known = plan.nodes.iter().find(|node| node.id == version.origin);
    let name = known.map_or_else(|| version.origin.get().to_string(), |node| node.name.clone());
    [Value::time(version.time), Value::Text(name)]
}

/// `diff(node_name, relation, max_rows, timeout)`
pub fn diff(call: &Call) -> Result<Answer, Report> {
    let name = required_name(call, 0, "the node's name")?;
    let oid = call.oid(1).ok_or_else(|| null_argument("the table"))?;
    let limits = Limits::read(call, 2)?;
    check_transaction()?;
    let (plan, found) = found(&name, oid, &limits)?;
    let jsonb = |text: Option<&String>| text.map_or(Value::Null, |text| Value::Jsonb(text.clone()));
    let mut rows = Vec::with_capacity(found.rows.len() + 1);
    for difference in &found.rows {
        let (local, remote) = (difference.rows.local.as_ref(), difference.rows.remote.as_ref());
        let side = match (local, remote) {
            (Some(_), Some(_)) => "both",
            (Some(_), None) => "local only",
            _ => "remote only",
        };
        let mut row = vec![
            jsonb(local.or(remote).and_then(|reading| reading.key_json.as_ref())),
            Value::Text(side.to_owned()),
            jsonb(local.and_then(|reading| reading.row_json.as_ref())),
            jsonb(remote.and_then(|reading| reading.row_json.as_ref())),
        ];
        row.extend(version(&plan, local.map(|reading| reading.seen.version)));
        row.extend(version(&plan, remote.map(|reading| reading.seen.version)));
        rows.push(row);
    }
    if found.cut_off {
        let mut row = vec![Value::Null; 8];
        row[1] = Value::Text("cut off".to_owned());
        rows.push(row);
    }
    Ok(Answer::Rows(rows))
}

fn prefer(call: &Call, n: usize) -> Result<Option<Prefer>, Report> {
    match call.text(n).as_deref() {
        None => Ok(None),
        Some("local") => Ok(Some(Prefer::Local)),
        Some("remote") => Ok(Some(Prefer::Remote)),
        Some(_) => {
            Err(invalid("\"prefer\" must be \"local\", \"remote\" or NULL").hint("NULL: the later version wins."))
        }
    }
}

/// `repair(node_name, relation, prefer, dry_run, max_rows, timeout)`
pub fn repair(call: &Call) -> Result<Answer, Report> {
    require_administrator("repair rows")?;
    let name = required_name(call, 0, "the node's name")?;
    let oid = call.oid(1).ok_or_else(|| null_argument("the table"))?;
    let prefer = prefer(call, 2)?;
    let dry_run = call.boolean(3).unwrap_or(false);
    let limits = Limits::read(call, 4)?;
    check_transaction()?;
    if !dry_run {
        if settings::readonly() != ReadOnly::Off {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "cannot repair rows while this node is read-only",
            )
            .hint("Set \"spock.readonly\" to off first."));
        }
        authority::refuse_in_transaction_block(c"spock.repair");
    }
    let (plan, found) = found(&name, oid, &limits)?;
    compare::write::check_writer(&plan.table)?;
    let outcomes = compare::repair::run(&plan, &found.rows, prefer, dry_run)?;
    let mut rows: Vec<Vec<Value>> = outcomes
        .into_iter()
        .map(|outcome| {
            let key = outcome.key.map_or(Value::Null, Value::Jsonb);
            let mut row = vec![key, Value::Text(outcome.action.to_owned())];
            row.extend(version(&plan, outcome.version));
            row
        })
        .collect();
    if found.cut_off {
        rows.push(vec![Value::Null, Value::Text("cut off".to_owned()), Value::Null, Value::Null]);
    }
    Ok(Answer::Rows(rows))
}
