//! What `sub_create` and `sub_drop` ask of the provider over the network.
//!
//! # Invariants
//! 1. Texts of the peer and of libpq may be shown; connection strings only as [`Dsn::redacted`].
//! 2. Every connection has a deadline, and all waits can be cancelled.

use pgrx::PgSqlErrorCode;
use spock_core::names;
use spock_core::types::NodeId;
use std::time::{Duration, Instant};

use crate::catalog::topology::Dsn;
use crate::error::Report;
use crate::pg::conn::{ConnError, Connection, Purpose, Rows};
use crate::pg::latch;
use crate::sync::provider::array_literal;

/// As the C edition's connect timeout.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// How long a sender may need to notice that its worker is gone, before its slot can be dropped.
const SLOT_RELEASE_MAX: Duration = Duration::from_secs(30);
/// Between two looks at such a slot.
const SLOT_RELEASE_POLL: Duration = Duration::from_millis(100);

/// What a provider says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// Its node id.
    pub id: NodeId,
    /// Its node name.
    pub name: String,
    /// System identifier of its cluster, decimal.
    pub system: String,
    /// Its database.
    pub database: String,
    /// Its replication sets.
    pub sets: Vec<String>,
    /// As in `spock.node`.
    pub location: Option<String>,
    /// As in `spock.node`.
    pub country: Option<String>,
    /// As in `spock.node`.
    pub info: Option<String>,
}

fn failed(what: &str, dsn: &Dsn, error: ConnError) -> Report {
    let report = Report::new(error.sqlstate(), format!("could not {what}")).detail(failure(dsn, &error));
    match (error.hint(), error) {
        (Some(hint), _) => report.hint(hint),
        (None, ConnError::Server { .. }) => report,
        _ => report.hint("Check the connection string, that the server runs, and its pg_hba.conf."),
    }
}

/// A detail line: which connection, and what libpq or the peer said, on one line.
pub fn failure(dsn: &Dsn, error: &ConnError) -> String {
    let said = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let end = if said.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("Connection \"{}\": {said}{end}", dsn.redacted())
}

/// Connects to `dsn` for `purpose` (a suffix of `application_name`).
fn connect(dsn: &Dsn, subscription: &str, purpose: &str, replication: bool) -> Result<Connection, ConnError> {
    let application_name = names::application_name(subscription, Some(purpose));
    Connection::connect(dsn, Purpose { application_name: &application_name, replication }, CONNECT_DEADLINE)
}

/// A session on the provider.
pub struct ProviderSession {
    connection: Connection,
    dsn: Dsn,
}

impl ProviderSession {
    /// Connects for the creation of `subscription`.
    pub fn open(dsn: &Dsn, subscription: &str) -> Result<Self, Report> {
        let connection = connect(dsn, subscription, "create", false)
            .map_err(|error| failed("connect to the provider", dsn, error))?;
        Ok(Self { connection, dsn: dsn.clone() })
    }

    /// The provider's version, e.g. 170011.
    pub fn server_version_num(&self) -> i32 {
        self.connection.server_version_num()
    }

    /// The provider's `spock.node_info()`.
    pub fn node_info(&mut self) -> Result<Provider, Report> {
        let rows = self.connection.query("SELECT * FROM spock.node_info()", &[]).map_err(|error| {
            failed("ask the provider for its node", &self.dsn, error)
                .hint("The provider's database needs the extension and a node, and its user membership in spock_admin: CREATE EXTENSION spock; SELECT spock.node_create(…).")
        })?;
        let odd = || {
            Report::new(
                PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION,
                "the provider did not describe its node as a spock node does",
            )
        };
        if rows.len() != 1 {
            return Err(odd());
        }
        let text = |column| rows.get(0, column).map(str::to_owned);
        Ok(Provider {
            id: text(0).and_then(|id| id.parse().ok()).and_then(NodeId::new).ok_or_else(odd)?,
            name: text(1).filter(|name| !name.is_empty()).ok_or_else(odd)?,
            system: text(2).unwrap_or_default(),
            database: text(3).unwrap_or_default(),
            sets: identifiers(&text(4).unwrap_or_default()),
            location: text(5),
            country: text(6),
            info: text(7),
        })
    }

    /// A table that is in one of `these` replication sets and in one of `those`.
    pub fn shared_table(&mut self, these: &[String], those: &[String]) -> Result<Option<String>, Report> {
        let sql = "SELECT pg_catalog.format('%s.%s', nspname, relname) FROM (
                 SELECT nspname, relname FROM spock.tables WHERE set_name = ANY ($1::pg_catalog.text[])
                 INTERSECT
                 SELECT nspname, relname FROM spock.tables WHERE set_name = ANY ($2::pg_catalog.text[])) t
              ORDER BY 1 LIMIT 1";
        let rows = self
            .connection
            .query(sql, &[Some(&array_literal(these)), Some(&array_literal(those))])
            .map_err(|error| failed("read the provider's replication sets", &self.dsn, error))?;
        Ok(rows.get(0, 0).map(str::to_owned))
    }

    /// 55000 when the provider's server would refuse our output plugin.
    pub fn check_output_plugin(&mut self) -> Result<(), Report> {
        let rows = self
            .connection
            .query("SELECT pg_catalog.current_setting('output_plugin_libraries', true)", &[])
            .or_else(|error| match error {
                // Only superusers and pg_read_all_settings may see it. Making the slot will tell.
                ConnError::Server { code: PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, .. } => Ok(Rows::default()),
                error => Err(failed("read a setting of the provider", &self.dsn, error)),
            })?;
        let Some(list) = rows.get(0, 0) else {
            return Ok(());
        };
        if list.is_empty() || list.split(',').any(|name| name.trim().trim_matches('"') == "spock_output") {
            return Ok(());
        }
        Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the provider's \"output_plugin_libraries\" does not list \"spock_output\"",
        )
        .hint(format!("On the provider: {}", crate::requirements::ALLOW_OUTPUT_PLUGIN)))
    }

    /// 42710 when the provider has a slot of that name: another subscriber's, or one that a failed drop has left.
    pub fn refuse_existing_slot(&mut self, slot: &str) -> Result<(), Report> {
        let rows = self
            .connection
            .query("SELECT active FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", &[Some(slot)])
            .map_err(|error| failed("look for a replication slot on the provider", &self.dsn, error))?;
        if rows.is_empty() {
            return Ok(());
        }
        Err(Report::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
            format!("the provider already has a replication slot named \"{slot}\""),
        )
        .detail("It may serve another subscriber whose database and subscription have the same names.")
        .hint("Choose another subscription name, or drop the slot on the provider with pg_drop_replication_slot when nobody uses it."))
    }

    /// Whether a replication connection is let in, too: it has its own line in pg_hba.conf and needs its own privilege.
    pub fn check_replication_login(&self, subscription: &str) -> Result<(), Report> {
        let mut connection = connect(&self.dsn, subscription, "create", true)
            .map_err(|error| failed("make a replication connection to the provider", &self.dsn, error))?;
        connection
            .query("IDENTIFY_SYSTEM", &[])
            .map(|_| ())
            .map_err(|error| failed("use a replication connection to the provider", &self.dsn, error))
    }
}

/// Whether this node can be reached by its own interface, which other nodes use.
pub fn check_local_login(dsn: &Dsn, subscription: &str) -> Result<(), Report> {
    connect(dsn, subscription, "create", false)
        .map(|_| ())
        .map_err(|error| failed("connect to the local node by its own interface", dsn, error))
}

/// Drops a subscription's slot on the provider, if it is there and ours.
pub fn drop_slot(dsn: &Dsn, subscription: &str, slot: &str) -> Result<(), ConnError> {
    let mut connection = connect(dsn, subscription, "cleanup", false)?;
    let started = Instant::now();
    loop {
        let dropped = connection.query(
            "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots
              WHERE slot_name = $1 AND plugin IN ('spock_output', 'spock') AND database = pg_catalog.current_database()",
            &[Some(slot)],
        );
        match dropped {
            Err(ConnError::Server { code: PgSqlErrorCode::ERRCODE_OBJECT_IN_USE, .. })
                if started.elapsed() < SLOT_RELEASE_MAX =>
            {
                latch::wait(SLOT_RELEASE_POLL);
                latch::check_interrupts();
            }
            other => return other.map(|_| ()),
        }
    }
}

/// The names in a comma-separated list of quoted identifiers, as `node_info` gives its sets.
fn identifiers(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut name = String::new();
    let mut quoted = false;
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => name.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => names.push(core::mem::take(&mut name)),
            c => name.push(c),
        }
    }
    names.push(name);
    names.retain(|name| !name.is_empty());
    names
}
