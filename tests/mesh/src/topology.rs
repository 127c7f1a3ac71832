//! What is said to nodes in order to make a mesh of them, and what is asked to know that they are equal.

use std::fmt;

use crate::error::MeshError;
use crate::node::Node;
use crate::wait::{Deadline, Probe, wait_until};

/// Creates the extension and makes the database a node named like the server.
pub fn create_node(node: &Node) -> Result<(), MeshError> {
    node.execute("create extension if not exists spock")?;
    node.execute(&format!("select spock.node_create({}, {})", literal(node.name()), literal(&node.dsn())))?;
    Ok(())
}

/// The subscription's name: `sub_n2_n1` is what `n1` gets from `n2`.
pub fn subscription_name(provider: &str, subscriber: &str) -> String {
    format!("sub_{provider}_{subscriber}")
}

/// Subscribes `subscriber` to `provider`, without copying anything; `more` are further named arguments, each with a
/// leading comma.
pub fn subscribe(subscriber: &Node, provider: &Node, more: &str) -> Result<(), MeshError> {
    let name = subscription_name(provider.name(), subscriber.name());
    let dsn = literal(&provider.dsn());
    subscriber.execute(&format!("select spock.sub_create({}, {dsn}{more})", literal(&name)))?;
    Ok(())
}

/// Waits until the subscription replicates: it is in sync, and its worker streams or is held. A worker that is only just
/// connecting makes it `replicating` as well.
pub fn wait_replicating(subscriber: &Node, name: &str, deadline: Deadline) -> Result<(), MeshError> {
    let name_in_sql = literal(name);
    let ask = format!(
        "select case when w.status in ('running', 'paused') then s.status else w.status end
         from spock.sub_show_status({name_in_sql}) s, spock.sub_worker_status({name_in_sql}) w"
    );
    wait_until(deadline, &format!("subscription {name} on {} to replicate", subscriber.name()), || {
        let status = subscriber.execute(&ask)?.to_string();
        Ok(if status == "replicating" { Probe::Ready(()) } else { Probe::NotYet(format!("status {status:?}")) })
    })
}

/// Subscribes every node to every other one and waits until all of that replicates.
pub fn join_all(nodes: &[&Node], more: &str, deadline: Deadline) -> Result<(), MeshError> {
    let pairs = || {
        let pair =
            |s: &usize| (0..nodes.len()).filter(move |p| p != s).map(|p| (nodes[*s], nodes[p])).collect::<Vec<_>>();
        (0..nodes.len()).flat_map(|s| pair(&s)).collect::<Vec<_>>()
    };
    for (subscriber, provider) in pairs() {
        subscribe(subscriber, provider, more)?;
    }
    for (subscriber, provider) in pairs() {
        let name = subscription_name(provider.name(), subscriber.name());
        subscriber.execute(&format!("select spock.sub_wait_for_sync({})", literal(&name)))?;
        wait_replicating(subscriber, &name, deadline)?;
    }
    Ok(())
}

/// One subscription, as seen from its subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its name.
    pub name: String,
    /// The node it gets changes from.
    pub provider: String,
    /// Name of slot (on the provider) and origin (on the subscriber).
    pub slot: String,
    /// The words of `sub_show_status`.
    pub status: String,
}

/// All subscriptions of a node.
pub fn subscriptions(node: &Node) -> Result<Vec<Subscription>, MeshError> {
    let rows =
        node.execute("select subscription_name, provider_node, slot_name, status from spock.sub_show_status()")?;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    rows.0
        .iter()
        .map(|row| match row.as_slice() {
            [name, provider, slot, status] => {
                Ok(Subscription { name: text(name), provider: text(provider), slot: text(slot), status: text(status) })
            }
            other => Err(MeshError::Unexpected(format!("sub_show_status gave {other:?}"))),
        })
        .collect()
}

/// A position in a node's WAL behind everything committed so far, and on disk.
///
/// A small transaction of our own is committed for it: its synchronous commit flushes all that came before, also what
/// was committed asynchronously. (The insert position would not do: at a page boundary it is ahead of what can be sent.)
pub fn position_behind_all(node: &Node) -> Result<String, MeshError> {
    node.execute("set synchronous_commit = on")?;
    node.execute("select pg_logical_emit_message(true, 'mesh', 'position')")?;
    Ok(node.execute("select pg_current_wal_flush_lsn()")?.to_string())
}

/// Waits until everything committed before the call, on any of `nodes`, is applied on all that subscribe to it.
/// Subscriptions listed in `cut` are left out; any other that is disabled is an error at once.
pub fn settle(nodes: &[&Node], cut: &[String], deadline: Deadline) -> Result<(), MeshError> {
    let mut targets = Vec::new();
    for node in nodes {
        targets.push((*node, position_behind_all(node)?));
    }
    for subscriber in nodes {
        for subscription in subscriptions(subscriber)? {
            let provider = targets.iter().find(|(node, _)| node.name() == subscription.provider);
            if let (Some((provider, target)), false) = (provider, cut.contains(&subscription.name)) {
                wait_confirmed(subscriber, provider, &subscription, target, deadline)?;
            }
        }
    }
    Ok(())
}

fn wait_confirmed(
    subscriber: &Node,
    provider: &Node,
    subscription: &Subscription,
    target: &str,
    deadline: Deadline,
) -> Result<(), MeshError> {
    let Subscription { name, slot, .. } = subscription;
    let ask = format!(
        "select confirmed_flush_lsn >= {}::pg_lsn, confirmed_flush_lsn from pg_replication_slots where slot_name = {}",
        literal(target),
        literal(slot)
    );
    let status = format!("select status from spock.sub_show_status({})", literal(name));
    wait_until(deadline, &format!("{name} to confirm {target} of {}", provider.name()), || {
        let seen = provider.execute(&ask)?.to_string();
        if seen.starts_with("t|") {
            return Ok(Probe::Ready(()));
        }
        let status = subscriber.execute(&status)?.to_string();
        if status == "disabled" {
            let why =
                subscriber.execute(&format!("select last_error from spock.sub_worker_status({})", literal(name)))?;
            return Err(MeshError::Unexpected(format!("{name} is disabled, {target} will not be applied: {why}")));
        }
        Ok(Probe::NotYet(format!("slot {slot}: {seen:?}, subscription {status:?}")))
    })
}

/// What a table holds, independent of the order of rows and columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Number of rows.
    pub rows: u64,
    /// MD5 of all rows, `-` for none.
    pub md5: String,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, {}", self.rows, self.md5)
    }
}

/// The digest of one table on one node. `table` is quoted as SQL needs it.
pub fn digest(node: &Node, table: &str) -> Result<Digest, MeshError> {
    let columns = node.execute(&format!(
        "select string_agg(quote_ident(attname), ', ' order by attname) from pg_attribute
         where attrelid = {}::regclass and attnum > 0 and not attisdropped",
        literal(table)
    ))?;
    let got = node.execute(&format!(
        "select count(*), coalesce(md5(string_agg(h, '' order by h)), '-')
         from (select md5(row({columns})::text) as h from {table}) as rows"
    ))?;
    match got.to_string().split_once('|') {
        Some((rows, md5)) => {
            let rows = rows.parse().map_err(|e| MeshError::Unexpected(format!("count {rows:?}: {e}")))?;
            Ok(Digest { rows, md5: md5.to_owned() })
        }
        None => Err(MeshError::Unexpected(format!("digest of {table}: {got}"))),
    }
}

/// A string as an SQL literal (`standard_conforming_strings` is on).
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
