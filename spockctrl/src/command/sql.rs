//! `sql`, `sync-event` and `wait-for-sync-event`.

use clap::Args;

use super::one_of;
use crate::connect::Query;
use crate::exit::{Failure, Result};
use crate::operation::{Act, Operation};

/// `sql`.
#[derive(Debug, Args)]
pub struct Sql {
    /// Node and statements: sql n1 "select 1"
    #[arg(value_name = "NODE|SQL", num_args = 0..=2)]
    words: Vec<String>,
    /// Node of the configuration
    #[arg(long, short = 'n')]
    node: Option<String>,
    /// Statements; several run as one transaction
    #[arg(long, short = 's')]
    sql: Option<String>,
    /// Exit with 0 whatever the server says
    #[arg(long, short = 'i')]
    pub ignore_errors: bool,
}

/// `sync-event`.
#[derive(Debug, Args)]
pub struct SyncEvent {
    /// Node of the configuration that writes the marker
    #[arg(long, short = 'n')]
    node: Option<String>,
    /// The same by its place
    #[arg(value_name = "NODE")]
    placed: Option<String>,
}

/// `wait-for-sync-event`.
#[derive(Debug, Args)]
pub struct WaitForSyncEvent {
    /// Node of the configuration that waits
    #[arg(long, short = 'n')]
    node: Option<String>,
    /// Name of the node that wrote the marker
    #[arg(long, alias = "origin-name")]
    origin: String,
    /// Its position, as sync-event printed it
    #[arg(long)]
    lsn: String,
    /// Give up after this many seconds; 0 waits for ever
    #[arg(long, default_value_t = 60)]
    timeout: u32,
}

impl Sql {
    /// What is to be done.
    pub fn operation(&self) -> Result<Operation> {
        let (node, sql) = match (self.words.as_slice(), &self.node, &self.sql) {
            ([], node, Some(sql)) => (node.as_ref(), sql),
            ([sql], Some(node), None) => (Some(node), sql),
            ([node, sql], None, None) => (Some(node), sql),
            ([node], None, Some(sql)) => (Some(node), sql),
            ([sql], None, None) => (None, sql),
            _ => {
                return Err(Failure::usage(
                    "give one node and one text of statements",
                    "spockctrl sql n1 \"select 1\"",
                ));
            }
        };
        Ok(Operation::new(node, "run statements", Act::Text(sql.clone())))
    }
}

impl SyncEvent {
    /// What is to be done.
    pub fn operation(&self) -> Result<Operation> {
        let node = match (&self.placed, &self.node) {
            (None, None) => None,
            (placed, node) => Some(one_of(placed.as_ref(), node.as_ref(), "the node")?.to_owned()),
        };
        let query = Query::new("select spock.sync_event()", Vec::new(), &["sync_event"]);
        Ok(Operation::new(node.as_ref(), "write a marker", Act::Show(query)))
    }
}

impl WaitForSyncEvent {
    /// What is to be done.
    pub fn operation(&self) -> Result<Operation> {
        let query = Query::new(
            "call spock.wait_for_sync_event(null, $1::name, $2::pg_lsn, $3::integer)",
            vec![Some(self.origin.clone()), Some(self.lsn.clone()), Some(self.timeout.to_string())],
            &["result"],
        );
        let what = format!("wait for the marker {} of {}", self.lsn, self.origin);
        Ok(Operation::new(self.node.as_ref(), what, Act::Wait(query)))
    }
}
