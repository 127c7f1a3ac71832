//! What a command does on one node, as a value: made without a server, tested without one, run in one place.

use serde_json::Value;

use crate::config::Config;
use crate::connect::{Query, Rows, Session};
use crate::conninfo;
use crate::exit::{Exit, Failure, Result};

/// One thing to do on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Whose connection is used; none: the only node there is, or the one of the object's name.
    pub node: Option<String>,
    /// The name that stands for a node when none is given.
    pub named: Option<String>,
    /// What is done, in a few words.
    pub what: String,
    /// What is run.
    pub act: Act,
    /// Seconds after which it is given up.
    pub limit_s: Option<u64>,
    /// Asked first: is there anything to do?
    pub check: Option<Check>,
    /// The connection string among its values as it was typed: only there `@NODE` is one of the configuration.
    pub dsn: Option<String>,
}

/// How an operation runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Changes something; its rows say only that it was done.
    Change(Query),
    /// As [`Act::Change`], where a single `false` means that there was nothing to do.
    ChangeIf(Query),
    /// Shows rows.
    Show(Query),
    /// Waits by a procedure; `false` means that it did not come in time.
    Wait(Query),
    /// Statements as the user wrote them.
    Text(String),
}

/// Asks whether an object is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Gives no row when the object is not there; else one of truth values, each says whether that part is as wanted.
    pub query: Query,
    /// Does it have to be there (a removal), or not (a creation)?
    pub wants: Wants,
}

/// What a [`Check`] looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// A creation: the same object there is fine.
    Absent,
    /// A removal that may find nothing.
    Present,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done; rows to remember, not to show.
    Changed(Rows),
    /// There was nothing to do.
    Unchanged,
    /// Rows to show.
    Shown(Rows),
}

impl Operation {
    /// Of a command that acts on `node`.
    pub fn new(node: Option<&String>, what: impl Into<String>, act: Act) -> Self {
        Self { node: node.cloned(), named: None, what: what.into(), act, limit_s: None, check: None, dsn: None }
    }

    /// Adds what is asked first.
    pub fn checked(mut self, wants: Wants, query: Query) -> Self {
        self.check = Some(Check { query, wants });
        self
    }

    /// Sets a deadline in seconds.
    pub fn within(mut self, limit_s: Option<u64>) -> Self {
        self.limit_s = limit_s;
        self
    }

    /// Sets the name that stands for a node when none is given.
    pub fn named(mut self, name: &str) -> Self {
        self.named = Some(name.to_owned());
        self
    }

    /// Says which of its values is a connection string, whose password becomes known.
    pub fn reaches(mut self, dsn: &str) -> Self {
        let password = conninfo::parse(dsn).ok().and_then(|mut keywords| conninfo::take(&mut keywords, "password"));
        password.iter().for_each(|password| crate::secret::register(password));
        self.dsn = Some(dsn.to_owned());
        self
    }

    /// The node of the configuration whose connection string is among its values.
    pub fn dsn_node(&self) -> Option<&str> {
        self.dsn.as_deref()?.strip_prefix('@')
    }

    /// Puts the connection string of a configured node in the place of `@NODE`.
    pub fn name_dsns(&mut self, config: &Config) -> Result<()> {
        let Some(name) = self.dsn_node() else { return Ok(()) };
        let (typed, dsn) = (format!("@{name}"), config.node(name)?.peer_dsn());
        let act = match &mut self.act {
            Act::Change(query) | Act::ChangeIf(query) | Act::Show(query) | Act::Wait(query) => query,
            Act::Text(_) => return Ok(()),
        };
        let checked = self.check.iter_mut().flat_map(|check| check.query.values.iter_mut());
        for value in act.values.iter_mut().chain(checked).flatten().filter(|value| **value == typed) {
            value.clone_from(&dsn);
        }
        Ok(())
    }

    /// What is run, as people read it.
    pub fn shown(&self) -> String {
        match &self.act {
            Act::Change(query) | Act::ChangeIf(query) | Act::Show(query) | Act::Wait(query) => query.shown(),
            Act::Text(sql) => crate::secret::mask(sql),
        }
    }

    /// Does it change the cluster's shape, so that two operators must not do it at once?
    pub fn changes(&self) -> bool {
        matches!(self.act, Act::Change(_) | Act::ChangeIf(_))
    }

    /// Runs it.
    pub fn run(&self, session: &mut Session) -> Result<Outcome> {
        session.within(self.limit_s, |session| {
            if !self.is_needed(session)? {
                return Ok(Outcome::Unchanged);
            }
            match &self.act {
                Act::Change(query) => Ok(Outcome::Changed(session.query(query)?)),
                Act::ChangeIf(query) => {
                    let rows = session.query(query)?;
                    let nothing = matches!(rows.rows.as_slice(), [row] if row.as_slice() == [Value::Bool(false)]);
                    Ok(if nothing || rows.rows.is_empty() { Outcome::Unchanged } else { Outcome::Changed(rows) })
                }
                Act::Show(query) => Ok(Outcome::Shown(session.query(query)?)),
                Act::Text(sql) => Ok(Outcome::Shown(session.text(sql)?)),
                Act::Wait(query) => match session.call(query)? {
                    true => Ok(Outcome::Shown(Rows::default())),
                    false => {
                        let what = format!("node \"{}\": {}: it did not come in time", session.node, self.what);
                        Err(Failure::new(
                            Exit::TimedOut,
                            what,
                            "see spockctrl sub list on that node for what holds it up",
                        ))
                    }
                },
            }
        })
    }

    /// Is there something to do? An object that is there and differs is an error that lists what differs.
    pub fn is_needed(&self, session: &mut Session) -> Result<bool> {
        let Some(check) = &self.check else { return Ok(true) };
        let found = session.query(&check.query)?;
        let Some(row) = found.rows.first() else { return Ok(check.wants == Wants::Absent) };
        if check.wants == Wants::Present {
            return Ok(true);
        }
        let same = |value: &Value| *value == Value::Bool(true);
        let differs: Vec<&str> =
            found.columns.iter().zip(row).filter(|(_, value)| !same(value)).map(|(name, _)| name.as_str()).collect();
        if differs.is_empty() {
            return Ok(false);
        }
        let what = format!("node \"{}\": {}: it exists with another definition", session.node, self.what);
        Err(Failure::new(Exit::Precondition, what, format!("these differ: {}", differs.join(", "))))
    }
}

/// A call of a function with named arguments, each bound and cast.
#[derive(Debug, Clone)]
pub struct Call {
    function: &'static str,
    arguments: Vec<String>,
    values: Vec<Option<String>>,
}

impl Call {
    /// Of a function with its schema.
    pub const fn of(function: &'static str) -> Self {
        Self { function, arguments: Vec::new(), values: Vec::new() }
    }

    /// An argument with its type.
    pub fn with(mut self, name: &str, kind: &str, value: impl ToString) -> Self {
        self.values.push(Some(value.to_string()));
        self.arguments.push(format!("{name} := ${}::{kind}", self.values.len()));
        self
    }

    /// An argument that is left to the function's default when it is not given.
    pub fn maybe(self, name: &str, kind: &str, value: Option<&impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, kind, value.to_string()),
            None => self,
        }
    }

    /// As a query with one column, which has the function's name.
    pub fn query(self) -> Query {
        let sql = format!("select {}({})", self.function, self.arguments.join(", "));
        Query { sql, values: self.values, columns: vec![self.function.rsplit('.').next().unwrap_or_default()] }
    }
}
