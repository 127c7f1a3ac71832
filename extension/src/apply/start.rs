//! The way to a running stream: session settings, initial synchronisation, slot, origin, connection, options.
//!
//! ```text
//! INIT ──slot on the provider, origin here──► CATCHUP ──► READY ──► START_REPLICATION
//! ```
//!
//! # Invariants
//! 1. Slot and origin start at one LSN: nothing between them is lost or applied twice.
//! 2. A slot of ours that an earlier attempt left behind is dropped before a new one is made, never used.

use crate::catalog::topology::{self, LocalNode, Node, Subscription};
use crate::error::{OrRaise, Report};
use crate::pg::conn::{ConnError, Connection, Purpose, Stream};
use crate::pg::origin;
use crate::pg::raise::log_line;
use crate::pg::scope::Txn;
use crate::pg::{server, session};
use pgrx::PgSqlErrorCode;
use spock_core::options::BuildFacts;
use spock_core::options::subscriber::{ReplyError, Session, SubscriberOptions, start_replication_command};
use spock_core::sync::SyncState;
use spock_core::types::Lsn;
use spock_core::wire::ProtocolVersion;
use spock_core::wire::control::Startup;
use std::time::Duration;

/// A provider that does not answer for so long is tried again later.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// Version 7.0.0 as peers compare it.
const SPOCK_VERSION_NUM: u32 = 70_000;
/// Output plugin that our slots name.
const PLUGIN: &str = "spock_output";

/// Everything that a stream needs.
pub struct Begin {
    /// The stream. Dropped before the origin.
    pub stream: Stream,
    /// The origin, bound to this process.
    pub origin: origin::Session,
    /// Who we are.
    pub local: LocalNode,
    /// All nodes that the catalog knows.
    pub nodes: Vec<Node>,
    /// Where the stream starts; `None`: at the slot's own position.
    pub start: Option<Lsn>,
}

/// Brings the subscription to the state in which its stream runs.
pub fn prepare(subscription: &Subscription) -> Begin {
    synchronise(subscription);
    let txn = Txn::begin();
    let local = topology::local_node().or_raise().unwrap_or_else(|| no_local_node().raise());
    let nodes = topology::nodes().or_raise();
    let number = origin::by_name(&subscription.slot_name).unwrap_or_else(|| no_origin(subscription).raise());
    txn.commit();
    let origin = origin::Session::open(number);
    let start = Lsn::new(origin.position());
    let stream = start_stream(subscription, start).unwrap_or_else(|error| lost(&error).raise());
    log_line(format!(
        "subscription \"{}\" streams from {}",
        subscription.name,
        start.map_or_else(|| "the slot's position".to_owned(), |lsn| lsn.to_string())
    ));
    Begin { stream, origin, local, nodes, start }
}

fn synchronise(subscription: &Subscription) {
    let txn = Txn::begin();
    let row = topology::sync_state(subscription.id).or_raise().unwrap_or_else(|| no_state(subscription).raise());
    txn.commit();
    match row.state {
        SyncState::Ready => {}
        SyncState::Init => {
            let lsn = create_slot(subscription).unwrap_or_else(|error| lost(&error).raise());
            let txn = Txn::begin();
            origin::create_at(&subscription.slot_name, lsn.get());
            topology::set_sync_state(subscription.id, SyncState::Catchup, Some(lsn)).or_raise();
            // Lost in a crash, this would make the next start replace the slot, and what it held would be gone.
            session::force_sync_commit();
            txn.commit();
            ready(subscription, lsn);
        }
        _ => match row.lsn {
            Some(lsn) => ready(subscription, lsn),
            None => no_state(subscription).raise(),
        },
    }
}

fn ready(subscription: &Subscription, lsn: Lsn) {
    let txn = Txn::begin();
    topology::set_sync_state(subscription.id, SyncState::Ready, Some(lsn)).or_raise();
    session::force_sync_commit();
    txn.commit();
}

fn connect(subscription: &Subscription, application_name: &str, replication: bool) -> Result<Connection, ConnError> {
    let purpose = Purpose { application_name, replication };
    Connection::connect(&subscription.origin_if.dsn, purpose, CONNECT_DEADLINE)
}

/// Makes the slot; its position is where the origin starts.
fn create_slot(subscription: &Subscription) -> Result<Lsn, ConnError> {
    let slot = &subscription.slot_name;
    let name = spock_core::names::application_name(&subscription.name, Some("snap"));
    drop_stale_slot(subscription, &name)?;
    let mut connection = connect(subscription, &name, true)?;
    let failover = if connection.server_version_num() >= 170_000 { " (FAILOVER)" } else { "" };
    let rows = connection.query(&format!("CREATE_REPLICATION_SLOT \"{slot}\" LOGICAL {PLUGIN}{failover}"), &[])?;
    rows.get(0, 1)
        .and_then(|text| text.parse::<Lsn>().ok())
        .ok_or(ConnError::Unexpected("the answer to CREATE_REPLICATION_SLOT has no position"))
}

/// A slot of ours that nobody uses is what an interrupted attempt left.
fn drop_stale_slot(subscription: &Subscription, name: &str) -> Result<(), ConnError> {
    let mut connection = connect(subscription, name, false)?;
    connection.query(
        "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots
          WHERE slot_name = $1 AND plugin IN ('spock_output', 'spock') AND NOT active",
        &[Some(&subscription.slot_name)],
    )?;
    Ok(())
}

fn start_stream(subscription: &Subscription, start: Option<Lsn>) -> Result<Stream, ConnError> {
    let mut connection = connect(subscription, &subscription.slot_name, true)?;
    connection.query("IDENTIFY_SYSTEM", &[])?;
    let options = SubscriberOptions {
        build: BuildFacts::of_this_machine(server::pg_version_num().unsigned_abs()),
        encoding: server::encoding_name(),
        force_text: subscription.force_text,
        forward_origins: subscription.forward_origins.clone(),
        replication_sets: subscription.replication_sets.clone(),
        only_table: None,
        spock_version: server::VERSION.to_owned(),
        spock_version_num: SPOCK_VERSION_NUM,
    };
    let command = start_replication_command(&subscription.slot_name, start, &options.pairs()).unwrap_or_else(|error| {
        Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, error.to_string()).raise()
    });
    connection.start_copy_both(&command)
}

/// What the provider says of itself must suit us. Returns the version that it speaks.
pub fn check_startup(startup: &Startup<'_>) -> ProtocolVersion {
    let session = Session::accept(startup, &server::encoding_name()).unwrap_or_else(|error| {
        let code = match error {
            ReplyError::Encoding { .. } => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            ReplyError::Protocol { .. } | ReplyError::BadFlag { .. } => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        };
        Report::new(code, error.to_string()).raise()
    });
    session.version
}

/// A failure to talk to the provider, as a report.
pub fn lost(error: &ConnError) -> Report {
    Report::new(error.sqlstate(), format!("connection to the provider: {error}"))
}

fn no_local_node() -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "this database is not a node")
}

fn no_origin(subscription: &Subscription) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        format!("replication origin \"{}\" does not exist", subscription.slot_name),
    )
    .hint("Drop the subscription and create it again.")
}

fn no_state(subscription: &Subscription) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        format!("subscription \"{}\" has no usable row in spock.local_sync_status", subscription.name),
    )
}
