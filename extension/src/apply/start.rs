//! The way to a running stream: origin, connection, options.
//!
//! # Invariants
//! 1. The stream starts where the origin is; slot and origin were made at one LSN (`sync::initial`, `sync::table`).
//! 2. A provider that lacks what was applied from the server before it is refused ([`timeline`]).

use crate::apply::timeline;
use crate::catalog::topology::{self, LocalNode, Node, Subscription};
use crate::error::{OrRaise, Report};
use crate::pg::conn::{ConnError, Connection, Purpose, Stream};
use crate::pg::origin;
use crate::pg::raise::log_line;
use crate::pg::scope::Txn;
use crate::pg::server;
use pgrx::PgSqlErrorCode;
use spock_core::options::BuildFacts;
use spock_core::options::subscriber::{ReplyError, Session, SubscriberOptions, start_replication_command};
use spock_core::sync::TableName;
use spock_core::types::Lsn;
use spock_core::wire::ProtocolVersion;
use spock_core::wire::control::Startup;
use std::time::Duration;

/// A provider that does not answer for so long is tried again later.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// Version 7.0.0 as peers compare it.
const SPOCK_VERSION_NUM: u32 = 70_000;

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

/// Starts the stream of a subscription that is in sync.
pub fn prepare(subscription: &Subscription) -> Begin {
    let txn = Txn::begin();
    let local = topology::require_local_node().or_raise();
    let nodes = topology::nodes().or_raise();
    let number = origin::by_name(&subscription.slot_name).unwrap_or_else(|| no_origin(subscription).raise());
    txn.commit();
    let begin = connect(subscription, origin::Session::open(number), local, nodes, &subscription.slot_name, None);
    log_line(format!(
        "subscription \"{}\" streams from {}",
        subscription.name,
        begin.start.map_or_else(|| "the slot's position".to_owned(), |lsn| lsn.to_string())
    ));
    begin
}

/// A single table, and whether the provider filters its stream by the replication sets as well.
pub type OnlyTable<'s> = Option<(&'s TableName, bool)>;

/// Connects and starts to stream from `slot_name`.
pub fn connect(
    subscription: &Subscription,
    origin: origin::Session,
    local: LocalNode,
    nodes: Vec<Node>,
    slot_name: &str,
    only: OnlyTable<'_>,
) -> Begin {
    let start = Lsn::new(origin.durable_position());
    let stream = start_stream(subscription, slot_name, start, only).unwrap_or_else(|error| lost(&error).raise());
    Begin { stream, origin, local, nodes, start }
}

fn start_stream(
    subscription: &Subscription,
    slot_name: &str,
    start: Option<Lsn>,
    only: OnlyTable<'_>,
) -> Result<Stream, ConnError> {
    let purpose = Purpose { application_name: slot_name, replication: true };
    let mut connection = Connection::connect(&subscription.origin_if.dsn, purpose, CONNECT_DEADLINE)?;
    match only {
        None => timeline::check(&mut connection, slot_name, start)?,
        // A table's slot and position are of the same minute.
        Some(_) => drop(connection.query("IDENTIFY_SYSTEM", &[])?),
    }
    let max_version = common_version(&mut connection)?;
    let by_sets = only.is_none_or(|(_, by_sets)| by_sets);
    let options = SubscriberOptions {
        build: BuildFacts::of_this_machine(server::pg_version_num().unsigned_abs()),
        encoding: server::encoding_name(),
        force_text: subscription.force_text,
        forward_origins: subscription.forward_origins.clone(),
        replication_sets: by_sets.then(|| subscription.replication_sets.clone()),
        only_table: only.map(|(table, _)| (table.schema.clone(), table.table.clone())),
        max_version,
        // Of a table's own stream they would say nothing.
        announcements: only.is_none(),
        spock_version: server::VERSION.to_owned(),
        spock_version_num: SPOCK_VERSION_NUM,
    };
    let command = start_replication_command(slot_name, start, &options.pairs()).unwrap_or_else(|error| {
        Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, error.to_string()).raise()
    });
    connection.start_copy_both(&command)
}

/// The highest protocol to ask for. A C node, or one that does not say, is offered what C nodes know.
fn common_version(connection: &mut Connection) -> Result<ProtocolVersion, ConnError> {
    let rows = match connection.query("SELECT spock.spock_max_proto_version()", &[]) {
        Err(ConnError::Server { .. }) => return Ok(ProtocolVersion::MAX_OF_C),
        answer => answer?,
    };
    let theirs = rows.get(0, 0).and_then(|text| text.parse::<u32>().ok()).unwrap_or_default();
    let ours = ProtocolVersion::MAX;
    Ok(if theirs >= ours.number() { ours } else { ProtocolVersion::MAX_OF_C })
}

/// What the provider says of itself must suit us. Returns what it granted.
pub fn check_startup(startup: &Startup<'_>) -> Session {
    Session::accept(startup, &server::encoding_name()).unwrap_or_else(|error| {
        let code = match error {
            ReplyError::Encoding { .. } => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            ReplyError::Protocol { .. } | ReplyError::BadFlag { .. } => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        };
        Report::new(code, error.to_string()).raise()
    })
}

/// A failure to talk to the provider, as a report.
pub fn lost(error: &ConnError) -> Report {
    let report = Report::new(error.sqlstate(), format!("connection to the provider: {error}"));
    match error.hint() {
        Some(hint) => report.hint(hint),
        None => report,
    }
}

fn no_origin(subscription: &Subscription) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        format!("replication origin \"{}\" does not exist", subscription.slot_name),
    )
    .hint("Drop the subscription and create it again.")
}
