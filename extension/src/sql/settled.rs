//! `settled`, `removed_keys`: what a node that copies from here asks of versions, see `crate::sync::unsettled`.

use super::null_argument;
use crate::apply::version::LocalVersion;
use crate::apply::version::Versions;
use crate::catalog::tombstones as catalog;
use crate::catalog::topology;
use crate::error::Report;
use crate::pg::authority::require_replication;
use crate::pg::function::{Answer, Call, Value};
use crate::pg::heap::{Defaults, Target};
use crate::pg::horizon::full_id;
use crate::pg::relation::{Kind, LockMode, Table, TableId};
use crate::worker::{announcements, tombstones};
use pgrx::PgSqlErrorCode;
use spock_core::settled::Unsettled;
use spock_core::types::{NodeId, PgTime};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

/// `settled(subscriber, wait)`: the transaction before which everything is settled, then how far this node has read each of the
/// others. NULL: one of them has not said within `wait` milliseconds how far it is. No row: one of them cannot say.
pub fn settled(call: &Call) -> Result<Answer, Report> {
    require_replication("ask which rows are settled")?;
    let subscriber = NodeId::new(call.oid(0).unwrap_or_default());
    let wait = u64::try_from(call.int(1).ok_or_else(|| null_argument("wait"))?).unwrap_or_default();
    let settled = match announcements::settled(subscriber, Duration::from_millis(wait))? {
        announcements::Answer::Settled(settled) => settled,
        announcements::Answer::NotYet => return Ok(Answer::Rows(vec![vec![Value::Null, Value::Null, Value::Null]])),
        announcements::Answer::Unknown => return Ok(Answer::Rows(Vec::new())),
    };
    let before = || Value::BigInt(settled.before.cast_signed());
    let mut rows = vec![vec![before(), Value::Null, Value::Null]];
    rows.extend(settled.read.iter().map(|(node, at)| vec![before(), Value::Oid(node.get()), Value::Lsn(Some(at))]));
    Ok(Answer::Rows(rows))
}

/// `removed_keys(relation, unsettled)`: hashes of keys that were removed from the table, NULL for all of them, when and where.
pub fn removed_keys(call: &Call) -> Result<Answer, Report> {
    require_replication("read which keys were removed")?;
    let relation = call.oid(0).ok_or_else(|| null_argument("relation"))?;
    let word = call.text(1).ok_or_else(|| null_argument("unsettled"))?;
    let unsettled: Unsettled = word.parse().map_err(|_| {
        Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("\"{word}\" does not say what is unsettled"),
        )
        .hint("This is for nodes that copy from here.")
    })?;
    if unsettled == Unsettled::Nothing || !tombstones::marked(relation).removed {
        return Ok(Answer::Rows(Vec::new()));
    }
    let table = Table::try_open(TableId::of(relation), LockMode::AccessShare).filter(|one| one.kind() == Kind::Table);
    let Some(table) = table else { return Ok(Answer::Rows(Vec::new())) };
    let rows = removals(table, unsettled)?.into_iter().map(|(hash, (time, origin))| {
        vec![hash.map_or(Value::Null, Value::BigInt), Value::Time(time), Value::Oid(origin.get())]
    });
    Ok(Answer::Rows(rows.collect()))
}

type Newest = HashMap<Option<i64>, (PgTime, NodeId)>;

/// The newest removal of each key that is not settled.
fn removals(table: Table, unsettled: Unsettled) -> Result<Newest, Report> {
    let local = topology::require_local_node()?.node;
    let mut versions = Versions::new(&local, &[], local.id);
    let (displaced, written): (Vec<_>, Vec<_>) =
        catalog::of_table(table.id().get())?.into_iter().partition(|(_, remover)| remover.displaced);
    let displaced: HashSet<(i64, u32)> =
        displaced.into_iter().filter_map(|(hash, remover)| Some((hash?, remover.xid))).collect();
    let may = |xid: u32| match unsettled {
        Unsettled::From(from) => full_id(xid).0 >= from,
        Unsettled::Since(_) | Unsettled::Nothing => true,
    };
    let mut removers: Vec<(Option<i64>, u32)> =
        written.into_iter().map(|(hash, remover)| (hash, remover.xid)).filter(|(_, xid)| may(*xid)).collect();
    let key = table.key_index().map(Rc::new);
    let defaults = Defaults::plan(&table, &[]);
    let mut target = Target::prepare(table, key.as_ref(), &[], &defaults);
    // The dead row of an older end may have lost its next state to vacuum, and look like one that was removed.
    let held = tombstones::held_from();
    let ended = |xid: u32| held.is_some_and(|held| full_id(xid) >= held) && may(xid);
    target.each_removed(ended, |hash, xid| {
        if !displaced.contains(&(hash, xid)) {
            removers.push((Some(hash), xid));
        }
    });
    drop(target);
    let mut newest = Newest::new();
    for (hash, xid) in removers {
        let LocalVersion::Known { time, origin, .. } = versions.of_transaction(xid) else { continue };
        if matches!(unsettled, Unsettled::Since(since) if time <= since) {
            continue;
        }
        let place = newest.entry(hash).or_insert((time, origin));
        *place = (*place).max((time, origin));
    }
    Ok(newest)
}
