//! Asking one of the two nodes.

use crate::catalog::query::select_as_is;
use crate::catalog::topology::Node;
use crate::error::Report;
use crate::pg::script::SettingsScope;
use crate::sync::provider::Session;
use pgrx::PgSqlErrorCode;
use spock_core::compare::text::{ROW_FACTS, SETTINGS, Shape, literal};
use spock_core::compare::verdict::Seen;
use spock_core::merge::{Tiebreaker, Version};
use spock_core::types::{NodeId, PgTime};
use std::collections::HashMap;

/// Rows of an answer; every column is text.
pub type Texts = Vec<Vec<Option<String>>>;

/// One of the two nodes.
pub trait Side {
    /// Runs a query under the settings of `spock_core::compare::text`. `what` is for the error.
    fn ask(&mut self, what: &str, sql: &str) -> Result<Texts, Report>;
}

/// This node, as the caller.
pub struct Here;

/// Enters the settings under which tables are compared.
pub fn settings() -> SettingsScope {
    let scope = SettingsScope::enter();
    for (name, value) in SETTINGS {
        scope.set(name, value);
    }
    scope
}

impl Side for Here {
    fn ask(&mut self, _what: &str, sql: &str) -> Result<Texts, Report> {
        let _settings = settings();
        select_as_is(sql)
    }
}

/// The other node.
pub struct Peer(Session);

impl Peer {
    /// Takes a session.
    pub fn new(mut session: Session) -> Result<Self, Report> {
        let set = |(name, value): &(&core::ffi::CStr, &str)| {
            format!("set_config({}, {}, false)", literal(&name.to_string_lossy()), literal(value))
        };
        let sql = format!("SELECT {}", SETTINGS.iter().map(set).collect::<Vec<_>>().join(", "));
        session.query("prepare the session on the other node", &sql, &[])?;
        Ok(Self(session))
    }
}

impl Side for Peer {
    fn ask(&mut self, what: &str, sql: &str) -> Result<Texts, Report> {
        Ok(self.0.query(what, sql, &[])?.into_values())
    }
}

/// A value that must be there.
pub fn required(row: &[Option<String>], n: usize) -> Result<&str, Report> {
    row.get(n).and_then(Option::as_deref).ok_or_else(odd_answer)
}

/// A value that must be there, as something else than text.
pub fn parsed<T: core::str::FromStr>(row: &[Option<String>], n: usize) -> Result<T, Report> {
    required(row, n)?.parse().map_err(|_| odd_answer())
}

fn odd_answer() -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION, "a node did not answer as it was asked")
}

/// A row as one side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What is compared.
    pub seen: Seen,
    /// The local transaction that wrote it.
    pub xmin: u32,
    /// Its key, as JSON. `None`: was not asked for.
    pub key_json: Option<String>,
    /// The row, as JSON. `None`: was not asked for.
    pub row_json: Option<String>,
    /// Compared columns as text; empty: were not asked for.
    pub values: Vec<Option<String>>,
}

/// Rows of one side by the texts of their keys.
pub type Readings = HashMap<Vec<String>, Reading>;

/// Reads an answer to [`Shape::rows`] or [`Shape::rows_of`] of the node `own`.
pub fn readings(rows: Texts, shape: &Shape, own: NodeId, nodes: &[Node]) -> Result<Readings, Report> {
    let read = |row: Vec<Option<String>>| {
        let number: Option<u32> = row.get(2).and_then(Option::as_deref).and_then(|text| text.parse().ok());
        // Where it was written here, and where nobody knows: the node itself.
        let origin = number.and_then(NodeId::new).unwrap_or(own);
        let known = nodes.iter().find(|node| node.id == origin);
        let seen = Seen {
            hash: required(&row, 0)?.to_owned(),
            version: Version {
                time: row[1].as_deref().and_then(|text| text.parse().ok()).map(PgTime::from_micros),
                tiebreaker: known.map_or_else(|| Tiebreaker::of_node(origin), |node| node.tiebreaker),
                origin,
            },
        };
        let key_end = ROW_FACTS + shape.key.len();
        let key = (ROW_FACTS..key_end).map(|n| required(&row, n).map(str::to_owned)).collect::<Result<_, _>>()?;
        let reading = Reading {
            seen,
            xmin: parsed(&row, 3)?,
            key_json: row[4].clone(),
            row_json: row[5].clone(),
            values: row.get(key_end..).map(<[_]>::to_vec).unwrap_or_default(),
        };
        Ok((key, reading))
    };
    rows.into_iter().map(read).collect()
}
