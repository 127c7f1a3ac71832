//! Asking the primary for its slots.

use crate::catalog::dsn::Dsn;
use crate::pg::conn::{ConnError, Connection, Purpose, Rows};
use crate::pg::standby;
use crate::settings::failover as settings;
use spock_core::failover::standby::RemoteSlot;
use spock_core::types::{Lsn, Xid};
use std::time::Duration;

/// A primary that does not answer for so long is tried again later.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// Where slots can be seen from, when nothing else is said.
const DATABASE: &str = "postgres";

/// A connection to the primary. Drop closes it.
pub struct Primary {
    connection: Connection,
    dsn: Dsn,
}

fn text(error: ConnError) -> String {
    error.to_string()
}

impl Primary {
    /// Connects as `spock.primary_dsn` says, else as the server does.
    pub fn connect() -> Result<Self, String> {
        let dsn = wanted_dsn()?;
        let purpose = Purpose { application_name: "spock_failover_slots", replication: false };
        let connection = Connection::connect(&dsn, purpose, CONNECT_DEADLINE).map_err(text)?;
        Ok(Self { connection, dsn })
    }

    /// Whether settings name the same primary still.
    pub fn is_wanted(&self) -> bool {
        wanted_dsn().is_ok_and(|dsn| dsn == self.dsn)
    }

    /// Whether the primary keeps what this standby needs in the physical slot `name`.
    pub fn has_slot(&mut self, name: &str) -> Result<bool, String> {
        let rows = self
            .connection
            .query(
                "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND slot_type = 'physical'",
                &[Some(name)],
            )
            .map_err(text)?;
        Ok(!rows.is_empty())
    }

    /// Its logical slots that stay.
    pub fn logical_slots(&mut self) -> Result<Vec<RemoteSlot>, String> {
        let version = self.connection.server_version_num();
        let failover = if version >= 170_000 { "failover" } else { "false" };
        let lost = match version {
            ..160_000 => "wal_status = 'lost'",
            160_000..170_000 => "wal_status = 'lost' OR conflicting",
            _ => "wal_status = 'lost' OR invalidation_reason IS NOT NULL",
        };
        let rows = self
            .connection
            .query(
                &format!(
                    "SELECT slot_name, plugin, database, two_phase, {failover}, catalog_xmin, restart_lsn,
                            confirmed_flush_lsn, COALESCE({lost}, false)
                       FROM pg_catalog.pg_replication_slots
                      WHERE slot_type = 'logical' AND NOT temporary
                      ORDER BY slot_name"
                ),
                &[],
            )
            .map_err(text)?;
        (0..rows.len()).map(|row| read_slot(&rows, row).ok_or_else(|| "its answer is not as expected".into())).collect()
    }
}

fn wanted_dsn() -> Result<Dsn, String> {
    let dsn = match settings::primary_dsn() {
        Some(dsn) => Dsn::new(dsn),
        None => Dsn::new(standby::primary_conninfo().ok_or("\"primary_conninfo\" is empty")?),
    };
    dsn.for_queries(DATABASE).ok_or_else(|| "the connection string is not valid".to_owned())
}

fn read_slot(rows: &Rows, row: usize) -> Option<RemoteSlot> {
    let required = |column| rows.get(row, column).map(str::to_owned);
    let lsn = |column| rows.get(row, column).map_or(Some(None), |text| Lsn::parse(text).ok());
    Some(RemoteSlot {
        name: required(0)?,
        plugin: required(1)?,
        database: required(2)?,
        two_phase: rows.get(row, 3)? == "t",
        failover: rows.get(row, 4)? == "t",
        // Unsigned, as the server counts them.
        catalog_xmin: match rows.get(row, 5) {
            None => None,
            Some(xid) => Some(Xid(xid.parse().ok()?)),
        },
        restart: lsn(6)?,
        confirmed: lsn(7)?,
        lost: rows.get(row, 8)? == "t",
    })
}
