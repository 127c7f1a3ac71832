//! `node_create`, `node_drop`, `node_add_interface`, `node_drop_interface`, `node_info`.
//!
//! # Invariants
//! 1. A database is at most one node: `spock.local_node` is locked to the end of the transaction that decides it.
//! 2. Two nodes with one 16-bit id never get into one catalog.

use pgrx::PgSqlErrorCode;
use pgrx::spi::quote_identifier;
use spock_core::names::{self, NameError};
use spock_core::types::NodeId;

use super::subscription::forget_progress;
use super::{null_argument, required_name};
use crate::catalog::query::select_one;
use crate::catalog::repset::{DEFAULT_SETS, RepSet, delete_set, insert_set, sets_of};
use crate::catalog::topology::{self, Dsn, Node};
use crate::catalog::{query, relations};
use crate::error::Report;
use crate::pg::attempt::attempt_nested;
use crate::pg::authority::{self, TableLock, require_administrator};
use crate::pg::before_commit::before_commit;
use crate::pg::function::{Answer, ArgType, Call, Value};
use crate::pg::log_filter::hide_statement;
use crate::pg::server;
use crate::worker::registry::{Change, signal_at_commit};

/// What to do about an id that cannot be used.
const RENAME: &str = "Node ids are 16 bits of the name's hash. Choose another name for the node.";

/// A connection string of the right form, or 22023. The text is not repeated: it may hold a password.
pub fn checked_dsn(text: String) -> Result<Dsn, Report> {
    let dsn = Dsn::new(text);
    dsn.check().map_err(|error| {
        Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("the connection string is not valid: {error}"),
        )
        .hint("Example: host=n1.example.com port=5432 dbname=app user=spock")
    })?;
    Ok(dsn)
}

/// The error for a node that does not exist.
pub fn no_such_node(name: &str) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("node \"{name}\" does not exist"))
        .hint("spock.node shows the nodes that are known here.")
}

/// The id of a name, when it can be used and no other known node has it.
pub fn usable_id(name: &str) -> Result<NodeId, Report> {
    let id = names::node_id(name).map_err(|error| match error {
        NameError::TooLong { .. } => {
            Report::new(PgSqlErrorCode::ERRCODE_NAME_TOO_LONG, format!("node name \"{name}\" {error}"))
        }
        NameError::Empty | NameError::BadCharacter { .. } => {
            Report::new(PgSqlErrorCode::ERRCODE_INVALID_NAME, format!("node name \"{name}\" {error}"))
                .hint("Choose another name for the node.")
        }
        NameError::ReservedId => {
            Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("node name \"{name}\" {error}"))
                .hint(RENAME)
        }
    })?;
    refuse_taken_id(id, name)?;
    Ok(id)
}

/// 42710 when another known node has the id.
pub fn refuse_taken_id(id: NodeId, name: &str) -> Result<(), Report> {
    match topology::node(id)? {
        Some(other) if other.name != name => Err(Report::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
            format!("node \"{name}\" would have the same id as node \"{}\": {}", other.name, id.get()),
        )
        .hint(RENAME)),
        _ => Ok(()),
    }
}

/// `info` may name a tiebreaker, which then must be an integer.
fn check_info(info: Option<&str>) -> Result<(), Report> {
    let Some(info) = info else {
        return Ok(());
    };
    let tiebreaker =
        select_one("SELECT $1::jsonb->>'tiebreaker'", &[info.into()], |row| row.opt::<String>(1))?.flatten();
    match tiebreaker {
        Some(text) if text.trim().parse::<i32>().is_err() => Err(Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "key \"tiebreaker\" of \"info\" is not an integer",
        )
        .hint("Give every node of the cluster a different integer, or leave the key out.")),
        _ => Ok(()),
    }
}

/// `node_create(node_name, dsn, location, country, info)`
pub fn create(call: &Call) -> Result<Answer, Report> {
    hide_statement();
    require_administrator("create a node")?;
    let name = required_name(call, 0, "the node's name")?;
    let dsn = checked_dsn(call.text(1).ok_or_else(|| null_argument("the connection string"))?)?;
    let (location, country, info) = (call.text(2), call.text(3), call.output(4, ArgType::Jsonb));
    check_info(info.as_deref())?;
    authority::lock_table(c"spock", c"local_node", TableLock::AccessExclusive);
    if topology::node_by_name(&name)?.is_some() {
        return Err(Report::new(PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT, format!("node \"{name}\" already exists"))
            .hint("Choose another name; every node of a cluster needs one of its own."));
    }
    if let Some(local) = topology::local_node()? {
        let message = format!("this database is already node \"{}\"", local.node.name);
        return Err(Report::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
            .hint("A database is one node. Drop it first with spock.node_drop, or use another database."));
    }
    let id = usable_id(&name)?;
    topology::insert_node(id, &name, location.as_deref(), country.as_deref(), info.as_deref())?;
    let interface = names::interface_id(id, &name);
    topology::insert_interface(interface, &name, id, &dsn)?;
    for (set, actions) in DEFAULT_SETS {
        insert_set(id, &RepSet { id: names::replication_set_id(id, set), name: set.to_owned(), actions })?;
    }
    topology::insert_local_node(id, interface)?;
    signal_at_commit(Change::Topology);
    Ok(Answer::One(Value::Oid(id.get())))
}

/// `node_drop(node_name, ifexists)`
pub fn drop(call: &Call) -> Result<Answer, Report> {
    require_administrator("drop a node")?;
    let name = required_name(call, 0, "the node's name")?;
    let if_exists = call.boolean(1).unwrap_or(false);
    let Some(node) = topology::node_by_name(&name)? else {
        return if if_exists { Ok(Answer::One(Value::Bool(false))) } else { Err(no_such_node(&name)) };
    };
    authority::lock_table(c"spock", c"local_node", TableLock::ShareUpdateExclusive);
    refuse_subscribed(&node)?;
    let is_local = topology::local_node()?.is_some_and(|local| local.node.id == node.id);
    if is_local {
        refuse_streaming(&node)?;
    }
    for set in sets_of(node.id)? {
        delete_set(set.id)?;
    }
    if is_local {
        topology::delete_local_node()?;
    }
    topology::delete_node(node.id)?;
    if is_local {
        before_commit(move || drop_own_slots(&node));
    }
    signal_at_commit(Change::Topology);
    Ok(Answer::One(Value::Bool(true)))
}

fn refuse_subscribed(node: &Node) -> Result<(), Report> {
    let names: Vec<String> =
        topology::subscriptions_with(node.id)?.into_iter().map(|subscription| subscription.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("cannot drop node \"{}\" because subscriptions use it", node.name),
    )
    .detail(format!("Subscriptions: {}.", names.join(", ")))
    .hint("Drop the subscriptions first with spock.sub_drop."))
}

/// The error for slots that somebody still streams from.
fn slots_in_use(node: &str, detail: String) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("cannot drop node \"{node}\" because replication slots on it are still active"),
    )
    .detail(detail)
    .hint("Drop the subscriptions of the other nodes to this one first.")
}

fn refuse_streaming(node: &Node) -> Result<(), Report> {
    let active: Vec<String> = relations::own_slots()?
        .into_iter()
        .filter(|slot| slot.active)
        .map(|slot| format!("\"{}\"", slot.name))
        .collect();
    if active.is_empty() {
        Ok(())
    } else {
        Err(slots_in_use(&node.name, format!("Active slots: {}.", active.join(", "))))
    }
}

/// Runs when the transaction that dropped the local node is about to commit, because a dropped slot does not come back.
fn drop_own_slots(node: &Node) -> Result<(), Report> {
    if topology::node(node.id)?.is_some() {
        // The savepoint in which it was dropped was rolled back.
        return Ok(());
    }
    forget_progress(node.id, None);
    for slot in relations::own_slots()? {
        let dropped = attempt_nested(|| {
            query::select("SELECT pg_catalog.pg_drop_replication_slot($1::name)", &[slot.name.as_str().into()], |_| {
                Ok(())
            })
        });
        let failure = match dropped {
            Ok(Ok(_)) => continue,
            Ok(Err(report)) => report,
            Err(caught) if caught.is_shutdown() => caught.report.raise(),
            Err(caught) => caught.report,
        };
        return Err(slots_in_use(&node.name, format!("Replication slot \"{}\": {}.", slot.name, failure.message)));
    }
    Ok(())
}

/// `node_add_interface(node_name, interface_name, dsn)`
pub fn add_interface(call: &Call) -> Result<Answer, Report> {
    hide_statement();
    require_administrator("change a node")?;
    let name = required_name(call, 0, "the node's name")?;
    let interface = required_name(call, 1, "the interface's name")?;
    let dsn = checked_dsn(call.text(2).ok_or_else(|| null_argument("the connection string"))?)?;
    let node = topology::node_by_name(&name)?.ok_or_else(|| no_such_node(&name))?;
    if topology::interface_by_name(node.id, &interface)?.is_some() {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("node \"{name}\" already has an interface named \"{interface}\""),
        )
        .hint("Choose another name, or drop it first with spock.node_drop_interface."));
    }
    let id = names::interface_id(node.id, &interface);
    if let Some(other) = topology::interface(id)? {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
            format!("interface \"{interface}\" would have the same id as interface \"{}\"", other.name),
        )
        .hint("Interface ids are a hash of the name. Choose another name."));
    }
    topology::insert_interface(id, &interface, node.id, &dsn)?;
    Ok(Answer::One(Value::Oid(id)))
}

/// `node_drop_interface(node_name, interface_name)`
pub fn drop_interface(call: &Call) -> Result<Answer, Report> {
    require_administrator("change a node")?;
    let name = required_name(call, 0, "the node's name")?;
    let interface_name = required_name(call, 1, "the interface's name")?;
    let node = topology::node_by_name(&name)?.ok_or_else(|| no_such_node(&name))?;
    let interface = topology::interface_by_name(node.id, &interface_name)?.ok_or_else(|| {
        Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("node \"{name}\" has no interface named \"{interface_name}\""),
        )
        .hint("spock.node_interface shows the interfaces.")
    })?;
    let in_use = |by: &str| {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("cannot drop interface \"{interface_name}\" of node \"{name}\" because {by} uses it"),
        )
        .hint(
            "A subscription takes another one by spock.sub_alter_interface; that of the local node goes with the node.",
        )
    };
    let user = topology::subscriptions_with(node.id)?
        .into_iter()
        .find(|subscription| subscription.origin_if.id == interface.id || subscription.target_if.id == interface.id);
    if let Some(subscription) = user {
        return Err(in_use(&format!("subscription \"{}\"", subscription.name)));
    }
    if topology::local_node()?.is_some_and(|local| local.interface.id == interface.id) {
        return Err(in_use("the local node"));
    }
    topology::delete_interface(interface.id)?;
    Ok(Answer::One(Value::Bool(true)))
}

/// `node_info()`: what a subscriber asks of its provider before anything else.
pub fn info(_: &Call) -> Result<Answer, Report> {
    let local = topology::require_local_node()?;
    let sets: Vec<String> = sets_of(local.node.id)?.iter().map(|set| quote_identifier(&set.name)).collect();
    let node = local.node;
    Ok(Answer::Record(vec![
        Value::Oid(node.id.get()),
        Value::Text(node.name),
        Value::Text(server::system_identifier().to_string()),
        Value::Text(server::database_name()),
        Value::Text(sets.join(",")),
        Value::text(node.location),
        Value::text(node.country),
        node.info.map_or(Value::Null, Value::Jsonb),
    ]))
}
