//! Who is in the cluster as this database knows it: nodes, their interfaces, the local node, subscriptions.
//!
//! # Invariants
//! 1. `spock.local_node` has at most one row; its ShareUpdateExclusive lock is the mutex of everything that changes the
//!    topology. Managers take it each cycle, so they see a change whole or not at all.
//! 2. A subscription's slot on the provider and its local replication origin have one name, `sub_slot_name`.
//! 3. The checks of foreign keys are left to the tables; what a user is told is decided in `sql`.

use pgrx::PgSqlErrorCode;
use pgrx::datum::DatumWithOid;
use spock_core::merge::Tiebreaker;
use spock_core::types::{Lsn, NodeId, PgTime, SubId};

use crate::catalog::query::{Row, execute, execute_returning, select, select_one};
use crate::error::Report;
use crate::pg::authority::{self, TableLock};
use crate::pg::{origin, progress_wal};

pub use crate::catalog::dsn::Dsn;
pub use crate::catalog::sync::{set_sync_state, sync_state};
pub use crate::pg::authority::extension_installed;

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// 16 bits of the name's hash; travels as replication origin of every change made on that node.
    pub id: NodeId,
    /// Unique in the cluster.
    pub name: String,
    /// Free text.
    pub location: Option<String>,
    /// Free text.
    pub country: Option<String>,
    /// `info`, a JSON document as text.
    pub info: Option<String>,
    /// Decides between equal commit times: `info.tiebreaker`, or the node's id.
    pub tiebreaker: Tiebreaker,
}

/// A way to reach a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Interface {
    /// Hash of node and name.
    pub id: u32,
    /// Unique within the node.
    pub name: String,
    /// The node that it leads to.
    pub node: NodeId,
    /// What libpq is given.
    pub dsn: Dsn,
}

/// Which node this database is.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalNode {
    /// The node.
    pub node: Node,
    /// How other nodes reach us.
    pub interface: Interface,
}

/// One stream from a provider to this node.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    /// From a sequence; older databases have hashes.
    pub id: SubId,
    /// Unique in the database.
    pub name: String,
    /// The provider.
    pub origin: Node,
    /// The local node.
    pub target: Node,
    /// How we reach the provider.
    pub origin_if: Interface,
    /// The local node's interface.
    pub target_if: Interface,
    /// Whether a worker should run.
    pub enabled: bool,
    /// Slot on the provider and local replication origin.
    pub slot_name: String,
    /// Names of sets on the provider.
    pub replication_sets: Vec<String>,
    /// Empty: only what was written on the provider itself. `all`: everything that arrived there.
    pub forward_origins: Vec<String>,
    /// By how much a transaction is held back, in microseconds.
    pub apply_delay_us: i64,
    /// Values travel in text form even where the binary form is the same.
    pub force_text: bool,
    /// The remote transaction with this commit LSN is left out.
    pub skip_lsn: Option<Lsn>,
    /// Schemas left out of the initial copy.
    pub skip_schemas: Vec<String>,
    /// When it was made; unknown for old ones.
    pub created_at: Option<PgTime>,
}

/// What is to be written for a new subscription.
#[derive(Debug, Clone)]
pub struct NewSubscription<'a> {
    /// See [`Subscription::name`].
    pub name: &'a str,
    /// See [`Subscription::origin`].
    pub origin: NodeId,
    /// See [`Subscription::target`].
    pub target: NodeId,
    /// Id of [`Subscription::origin_if`].
    pub origin_if: u32,
    /// Id of [`Subscription::target_if`].
    pub target_if: u32,
    /// See [`Subscription::enabled`].
    pub enabled: bool,
    /// See [`Subscription::slot_name`].
    pub slot_name: &'a str,
    /// See [`Subscription::replication_sets`].
    pub replication_sets: &'a [String],
    /// See [`Subscription::forward_origins`].
    pub forward_origins: &'a [String],
    /// An interval in text form.
    pub apply_delay: &'a str,
    /// See [`Subscription::force_text`].
    pub force_text: bool,
    /// See [`Subscription::skip_schemas`].
    pub skip_schemas: &'a [String],
}

/// Columns of a node in the order that [`read_node`] expects, for the table alias `$alias`.
macro_rules! node_columns {
    ($alias:literal) => {
        concat!(
            $alias,
            ".node_id::int8, ",
            $alias,
            ".node_name::text, ",
            $alias,
            ".location, ",
            $alias,
            ".country, ",
            $alias,
            ".info::text, ",
            $alias,
            ".info->>'tiebreaker'"
        )
    };
}

/// Columns of an interface in the order that [`read_interface`] expects.
macro_rules! interface_columns {
    ($alias:literal) => {
        concat!($alias, ".if_id::int8, ", $alias, ".if_name::text, ", $alias, ".if_nodeid::int8, ", $alias, ".if_dsn")
    };
}

const SUBSCRIPTION: &str = concat!(
    "SELECT s.sub_id::int8, s.sub_name::text, s.sub_enabled, s.sub_slot_name::text, s.sub_replication_sets,
            s.sub_forward_origins, (extract(epoch FROM s.sub_apply_delay) * 1000000)::int8, s.sub_force_text_transfer,
            s.sub_skip_lsn::text, s.sub_skip_schema,
            (extract(epoch FROM s.sub_created_at) * 1000000)::int8 - 946684800000000, ",
    node_columns!("o"),
    ", ",
    node_columns!("t"),
    ", ",
    interface_columns!("oi"),
    ", ",
    interface_columns!("ti"),
    " FROM spock.subscription s
      JOIN spock.node o ON o.node_id = s.sub_origin
      JOIN spock.node t ON t.node_id = s.sub_target
      JOIN spock.node_interface oi ON oi.if_id = s.sub_origin_if
      JOIN spock.node_interface ti ON ti.if_id = s.sub_target_if "
);

fn read_node(row: &Row<'_>, first: usize) -> Result<Node, Report> {
    let id = node_id(row.oid(first)?)?;
    let name: String = row.get(first + 1)?;
    let tiebreaker = match row.opt::<String>(first + 5)? {
        None => Tiebreaker::of_node(id),
        Some(text) => Tiebreaker(text.trim().parse::<i32>().map(i64::from).map_err(|_| {
            Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION,
                format!("the tiebreaker of node \"{name}\" is not an integer"),
            )
            .hint("Correct key \"tiebreaker\" of column \"info\" in spock.node.")
        })?),
    };
    Ok(Node {
        id,
        name,
        location: row.opt(first + 2)?,
        country: row.opt(first + 3)?,
        info: row.opt(first + 4)?,
        tiebreaker,
    })
}

fn read_interface(row: &Row<'_>, first: usize) -> Result<Interface, Report> {
    Ok(Interface {
        id: row.oid(first)?,
        name: row.get(first + 1)?,
        node: node_id(row.oid(first + 2)?)?,
        dsn: Dsn::new(row.get::<String>(first + 3)?),
    })
}

fn read_subscription(row: &Row<'_>) -> Result<Subscription, Report> {
    let skip_lsn: String = row.get(9)?;
    Ok(Subscription {
        id: sub_id(row.oid(1)?)?,
        name: row.get(2)?,
        enabled: row.get(3)?,
        slot_name: row.get(4)?,
        replication_sets: row.texts(5)?,
        forward_origins: row.texts(6)?,
        apply_delay_us: row.get(7)?,
        force_text: row.get(8)?,
        skip_lsn: parse_lsn(&skip_lsn),
        skip_schemas: row.texts(10)?,
        created_at: row.opt::<i64>(11)?.map(PgTime::from_micros),
        origin: read_node(row, 12)?,
        target: read_node(row, 18)?,
        origin_if: read_interface(row, 24)?,
        target_if: read_interface(row, 28)?,
    })
}

/// The position that the server's `pg_lsn` output names. `None` for `0/0`.
pub fn parse_lsn(text: &str) -> Option<Lsn> {
    let (high, low) = text.split_once('/')?;
    let high = u64::from_str_radix(high, 16).ok()?;
    let low = u64::from_str_radix(low, 16).ok()?;
    Lsn::new(high << 32 | low)
}

/// The text that the server's `pg_lsn` input takes.
pub fn lsn_text(lsn: Option<Lsn>) -> String {
    let raw = lsn.map_or(0, Lsn::get);
    format!("{:X}/{:X}", raw >> 32, raw & 0xFFFF_FFFF)
}

fn node_id(raw: u32) -> Result<NodeId, Report> {
    NodeId::new(raw)
        .ok_or_else(|| Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "a row of spock.node has the id 0"))
}

fn sub_id(raw: u32) -> Result<SubId, Report> {
    SubId::new(raw)
        .ok_or_else(|| Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "a row of spock.subscription has the id 0"))
}

/// An OID column's parameter.
pub fn oid(value: u32) -> DatumWithOid<'static> {
    DatumWithOid::from(i64::from(value))
}

/// The local node, or `None` when this database is not part of a cluster.
pub fn local_node() -> Result<Option<LocalNode>, Report> {
    const SQL: &str = concat!(
        "SELECT ",
        node_columns!("n"),
        ", ",
        interface_columns!("i"),
        " FROM spock.local_node l
          JOIN spock.node n ON n.node_id = l.node_id
          JOIN spock.node_interface i ON i.if_id = l.node_local_interface"
    );
    select_one(SQL, &[], |row| Ok(LocalNode { node: read_node(row, 1)?, interface: read_interface(row, 7)? }))
}

/// The error of a function that needs the local node.
pub fn no_local_node() -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "this database is not a spock node")
        .hint("Create the local node first: SELECT spock.node_create('name', 'dsn').")
}

/// The local node; 55000 when there is none.
pub fn require_local_node() -> Result<LocalNode, Report> {
    local_node()?.ok_or_else(no_local_node)
}

/// The local node, with the topology's mutex held to the end of the transaction; 55000 when there is none.
pub fn local_node_locked() -> Result<LocalNode, Report> {
    if !authority::lock_table(c"spock", c"local_node", TableLock::ShareUpdateExclusive) {
        return Err(no_local_node());
    }
    require_local_node()
}

/// The node with that id.
pub fn node(id: NodeId) -> Result<Option<Node>, Report> {
    const SQL: &str = concat!("SELECT ", node_columns!("n"), " FROM spock.node n WHERE n.node_id = $1::oid");
    select_one(SQL, &[oid(id.get())], |row| read_node(row, 1))
}

/// The node with that name.
pub fn node_by_name(name: &str) -> Result<Option<Node>, Report> {
    const SQL: &str = concat!("SELECT ", node_columns!("n"), " FROM spock.node n WHERE n.node_name = $1::name");
    select_one(SQL, &[name.into()], |row| read_node(row, 1))
}

/// All known nodes, by name.
pub fn nodes() -> Result<Vec<Node>, Report> {
    const SQL: &str = concat!("SELECT ", node_columns!("n"), " FROM spock.node n ORDER BY n.node_name");
    select(SQL, &[], |row| read_node(row, 1))
}

/// Writes a node. 23505 when id or name are taken.
pub fn insert_node(
    id: NodeId,
    name: &str,
    location: Option<&str>,
    country: Option<&str>,
    info: Option<&str>,
) -> Result<(), Report> {
    execute(
        "INSERT INTO spock.node (node_id, node_name, location, country, info)
         VALUES ($1::oid, $2::name, $3, $4, $5::jsonb)",
        &[oid(id.get()), name.into(), location.into(), country.into(), info.into()],
    )?;
    Ok(())
}

/// Removes a node and its interfaces. Its replication sets are removed before.
pub fn delete_node(id: NodeId) -> Result<(), Report> {
    execute("DELETE FROM spock.node_interface WHERE if_nodeid = $1::oid", &[oid(id.get())])?;
    execute("DELETE FROM spock.node WHERE node_id = $1::oid", &[oid(id.get())])?;
    Ok(())
}

/// Makes `node` the local one.
pub fn insert_local_node(node: NodeId, interface: u32) -> Result<(), Report> {
    execute(
        "INSERT INTO spock.local_node (node_id, node_local_interface) VALUES ($1::oid, $2::oid)",
        &[oid(node.get()), oid(interface)],
    )?;
    Ok(())
}

/// The database stops being a node.
pub fn delete_local_node() -> Result<(), Report> {
    execute("DELETE FROM spock.local_node", &[])?;
    Ok(())
}

/// The interface of `node` with that name.
pub fn interface_by_name(node: NodeId, name: &str) -> Result<Option<Interface>, Report> {
    const SQL: &str = concat!(
        "SELECT ",
        interface_columns!("i"),
        " FROM spock.node_interface i WHERE i.if_nodeid = $1::oid AND i.if_name = $2::name"
    );
    select_one(SQL, &[oid(node.get()), name.into()], |row| read_interface(row, 1))
}

/// The interface with that id.
pub fn interface(id: u32) -> Result<Option<Interface>, Report> {
    const SQL: &str =
        concat!("SELECT ", interface_columns!("i"), " FROM spock.node_interface i WHERE i.if_id = $1::oid");
    select_one(SQL, &[oid(id)], |row| read_interface(row, 1))
}

/// Writes an interface. 23505 when its id is taken.
pub fn insert_interface(id: u32, name: &str, node: NodeId, dsn: &Dsn) -> Result<(), Report> {
    execute(
        "INSERT INTO spock.node_interface (if_id, if_name, if_nodeid, if_dsn) VALUES ($1::oid, $2::name, $3::oid, $4)",
        &[oid(id), name.into(), oid(node.get()), dsn.as_str().into()],
    )?;
    Ok(())
}

/// Removes an interface.
pub fn delete_interface(id: u32) -> Result<(), Report> {
    execute("DELETE FROM spock.node_interface WHERE if_id = $1::oid", &[oid(id)])?;
    Ok(())
}

/// The subscription with that id.
pub fn subscription(id: SubId) -> Result<Option<Subscription>, Report> {
    let sql = format!("{SUBSCRIPTION} WHERE s.sub_id = $1::oid");
    select_one(&sql, &[oid(id.get())], read_subscription)
}

/// The subscription with that name.
pub fn subscription_by_name(name: &str) -> Result<Option<Subscription>, Report> {
    let sql = format!("{SUBSCRIPTION} WHERE s.sub_name = $1::name");
    select_one(&sql, &[name.into()], read_subscription)
}

/// All subscriptions of `target`, by name.
pub fn subscriptions_of(target: NodeId) -> Result<Vec<Subscription>, Report> {
    let sql = format!("{SUBSCRIPTION} WHERE s.sub_target = $1::oid ORDER BY s.sub_name");
    select(&sql, &[oid(target.get())], read_subscription)
}

/// All subscriptions that have `node` at either end, by name.
pub fn subscriptions_with(node: NodeId) -> Result<Vec<Subscription>, Report> {
    let sql = format!("{SUBSCRIPTION} WHERE s.sub_target = $1::oid OR s.sub_origin = $1::oid ORDER BY s.sub_name");
    select(&sql, &[oid(node.get())], read_subscription)
}

/// Writes a subscription; its id comes from the sequence. 23505 when the name is taken.
pub fn insert_subscription(new: &NewSubscription<'_>) -> Result<SubId, Report> {
    let ids = execute_returning(
        "INSERT INTO spock.subscription (sub_id, sub_name, sub_origin, sub_target, sub_origin_if, sub_target_if, sub_enabled,
             sub_slot_name, sub_replication_sets, sub_forward_origins, sub_apply_delay, sub_force_text_transfer,
             sub_skip_schema, sub_created_at)
         VALUES (pg_catalog.nextval('spock.sub_id_generator')::oid, $1::name, $2::oid, $3::oid, $4::oid, $5::oid, $6, $7::name,
             $8, $9, $10::interval, $11, $12, pg_catalog.now())
         RETURNING sub_id::int8",
        &[
            new.name.into(),
            oid(new.origin.get()),
            oid(new.target.get()),
            oid(new.origin_if),
            oid(new.target_if),
            new.enabled.into(),
            new.slot_name.into(),
            list(new.replication_sets),
            list(new.forward_origins),
            new.apply_delay.into(),
            new.force_text.into(),
            list(new.skip_schemas),
        ],
        |row| sub_id(row.oid(1)?),
    )?;
    ids.into_iter()
        .next()
        .ok_or_else(|| Report::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "the new subscription has no id"))
}

/// A `text[]` parameter; empty lists are stored as NULL.
fn list(values: &[String]) -> DatumWithOid<'static> {
    let values = (!values.is_empty()).then(|| values.iter().cloned().map(Some).collect::<Vec<Option<String>>>());
    DatumWithOid::from(values)
}

/// Removes a subscription and its sync states.
pub fn delete_subscription(id: SubId) -> Result<(), Report> {
    execute("DELETE FROM spock.local_sync_status WHERE sync_subid = $1::oid", &[oid(id.get())])?;
    execute("DELETE FROM spock.subscription WHERE sub_id = $1::oid", &[oid(id.get())])?;
    Ok(())
}

/// Turns a subscription on or off.
pub fn set_subscription_enabled(id: SubId, enabled: bool) -> Result<(), Report> {
    execute("UPDATE spock.subscription SET sub_enabled = $2 WHERE sub_id = $1::oid", &[oid(id.get()), enabled.into()])?;
    Ok(())
}

/// Sets the sets that a subscription asks for.
pub fn set_subscription_sets(id: SubId, sets: &[String]) -> Result<(), Report> {
    execute(
        "UPDATE spock.subscription SET sub_replication_sets = $2 WHERE sub_id = $1::oid",
        &[oid(id.get()), list(sets)],
    )?;
    Ok(())
}

/// What `sub_alter_options` changes; `None` keeps what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Empty, or `all`.
    pub forward_origins: Option<Vec<String>>,
    /// An interval in the server's text form.
    pub apply_delay: Option<String>,
    /// Schemas that the initial copy leaves out.
    pub skip_schemas: Option<Vec<String>>,
}

/// Changes what a subscription asks for. An `apply_delay` that is no interval is raised by the server.
pub fn set_subscription_options(id: SubId, options: &SubscriptionOptions) -> Result<(), Report> {
    if let Some(origins) = &options.forward_origins {
        let sql = "UPDATE spock.subscription SET sub_forward_origins = $2 WHERE sub_id = $1::oid";
        execute(sql, &[oid(id.get()), list(origins)])?;
    }
    if let Some(delay) = &options.apply_delay {
        let sql = "UPDATE spock.subscription SET sub_apply_delay = $2::interval WHERE sub_id = $1::oid";
        execute(sql, &[oid(id.get()), delay.as_str().into()])?;
    }
    if let Some(schemas) = &options.skip_schemas {
        let sql = "UPDATE spock.subscription SET sub_skip_schema = $2 WHERE sub_id = $1::oid";
        execute(sql, &[oid(id.get()), list(schemas)])?;
    }
    Ok(())
}

/// Sets the interface by which the provider is reached.
pub fn set_subscription_interface(id: SubId, interface: u32) -> Result<(), Report> {
    execute(
        "UPDATE spock.subscription SET sub_origin_if = $2::oid WHERE sub_id = $1::oid",
        &[oid(id.get()), oid(interface)],
    )?;
    Ok(())
}

/// How many replication origin states recovery from a crash can need in the end, and how many the server has room for.
/// Commit records carry the id of the node where a change was made, so recovery makes one state for each such node beside
/// those of the subscriptions, and stops when none is free.
pub fn origin_states() -> Result<(i64, i64), Report> {
    let both = select_one(
        "SELECT (SELECT count(*) FROM pg_catalog.pg_replication_origin
                  WHERE roname NOT IN (SELECT sub_slot_name FROM spock.subscription))
              + (SELECT count(*) + count(DISTINCT sub_origin) FROM spock.subscription),
                coalesce(pg_catalog.current_setting('max_active_replication_origins', true),
                         pg_catalog.current_setting('max_replication_slots'))::int8",
        &[],
        |row| Ok((row.get(1)?, row.get(2)?)),
    )?;
    Ok(both.unwrap_or_default())
}

/// Makes the local replication origin of a subscription; 42710 when there is one of that name.
pub fn create_origin(slot_name: &str) -> Result<(), Report> {
    execute("SELECT pg_catalog.pg_replication_origin_create($1)", &[slot_name.into()])?;
    if let Some(number) = origin::by_name(slot_name) {
        progress_wal::forget(number);
    }
    Ok(())
}

/// Removes the local replication origin of a subscription, if there is one. Waits while a process uses it.
pub fn drop_origin(slot_name: &str) -> Result<(), Report> {
    if let Some(number) = origin::by_name(slot_name) {
        progress_wal::forget(number);
    }
    execute(
        "SELECT pg_catalog.pg_replication_origin_drop(roname) FROM pg_catalog.pg_replication_origin WHERE roname = $1",
        &[slot_name.into()],
    )?;
    Ok(())
}

/// Sets the remote commit LSN to leave out. `None`: none.
pub fn set_skip_lsn(id: SubId, lsn: Option<Lsn>) -> Result<(), Report> {
    execute(
        "UPDATE spock.subscription SET sub_skip_lsn = $2::pg_lsn WHERE sub_id = $1::oid",
        &[oid(id.get()), lsn_text(lsn).into()],
    )?;
    Ok(())
}

/// After the transaction was left out: forgets `lsn`, unless another was set meanwhile. Returns whether it was still set.
pub fn clear_skip_lsn(id: SubId, lsn: Lsn) -> Result<bool, Report> {
    let changed = execute(
        "UPDATE spock.subscription SET sub_skip_lsn = '0/0' WHERE sub_id = $1::oid AND sub_skip_lsn = $2::pg_lsn",
        &[oid(id.get()), lsn_text(Some(lsn)).into()],
    )?;
    Ok(changed > 0)
}
