//! Sessions with servers: statements with bound values, rows as they come, deadlines, and Ctrl-C.
//!
//! **Invariants.** Every value is bound as text and cast by the server; nothing typed becomes SQL. A signal cancels what runs on
//! every open session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use postgres::config::SslMode;
use postgres::error::SqlState;
use postgres::types::{ToSql, Type};
use postgres::{CancelToken, Client, NoTls, SimpleQueryMessage};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::NodeConfig;
use crate::conninfo;
use crate::exit::{Exit, Failure, Result};
use crate::log;

/// A peer that answers nothing at all for this long is gone, whatever limit a statement has.
const DEAD_PEER_S: u64 = 60;

/// A signal is seen after this time.
const SLICE: Duration = Duration::from_millis(100);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static RUNNING: Mutex<Vec<CancelToken>> = Mutex::new(Vec::new());

/// Has a signal asked to end?
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// The failure of an interrupted run.
pub fn interruption() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted", "")
}

/// From here on Ctrl-C and SIGTERM cancel what runs on servers; a second one ends at once.
pub fn watch_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::new(Exit::Failed, format!("could not handle signals: {error}"), ""))?;
    thread::spawn(move || {
        for _ in signals.forever() {
            if INTERRUPTED.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(Exit::Interrupted as u8));
            }
            for token in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let token = token.clone();
                // A server that cannot be asked ends the wait by other means: the peer is dead, or the second signal comes.
                thread::spawn(move || token.cancel_query(NoTls));
            }
        }
    });
    Ok(())
}

/// Pauses, in short pieces so that a signal ends it.
pub fn pause(length: Duration) -> Result<()> {
    let until = Instant::now() + length;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if interrupted() {
            return Err(interruption());
        }
        thread::park_timeout(left.min(SLICE));
    }
    if interrupted() { Err(interruption()) } else { Ok(()) }
}

/// A statement whose values are bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// With `$1`, `$2`, ..., each a text.
    pub sql: String,
    /// None is NULL.
    pub values: Vec<Option<String>>,
    /// Names of the columns of its result.
    pub columns: Vec<&'static str>,
}

impl Query {
    /// A statement, its values and the names of its columns.
    pub fn new(sql: impl Into<String>, values: Vec<Option<String>>, columns: &[&'static str]) -> Self {
        Self { sql: sql.into(), values, columns: columns.to_vec() }
    }

    /// As people read it, with values in place; not to be run.
    pub fn shown(&self) -> String {
        let mut text = self.sql.clone();
        for (index, value) in self.values.iter().enumerate().rev() {
            // Masked first: quoting would change how a connection string in it ends.
            let masked = value.as_deref().map(crate::secret::mask);
            let shown = masked.as_deref().map_or_else(|| "NULL".to_owned(), crate::value::literal);
            text = text.replace(&format!("${}", index + 1), &shown);
        }
        text
    }
}

/// A result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// As JSON values; texts for statements of users.
    pub rows: Vec<Vec<Value>>,
    /// Row and column of cells that a journal could not keep, because there was a secret in them.
    pub hidden: Vec<(usize, usize)>,
}

impl Rows {
    /// The cell of the first row in that column.
    pub fn first(&self, column: &str) -> Option<&Value> {
        self.cell(0, column)
    }

    /// The cell of a row in that column.
    pub fn cell(&self, row: usize, column: &str) -> Option<&Value> {
        let at = self.columns.iter().position(|name| name == column)?;
        self.rows.get(row)?.get(at)
    }
}

/// A connection to one node.
pub struct Session {
    /// Its key in the configuration.
    pub node: String,
    client: Client,
    limit_s: Option<u64>,
    /// Has this program set a limit for what runs now?
    deadline: bool,
}

impl Session {
    /// Connects.
    pub fn open(node: &NodeConfig) -> Result<Self> {
        let cannot = |why: &str| {
            let what = format!("cannot connect to node \"{}\": {why}", node.name);
            Failure::new(Exit::Connect, what, "is the server up, and are address, user and password right?")
        };
        if interrupted() {
            return Err(interruption());
        }
        let limit_s = node.connect_timeout_s.max(1);
        let client = match connect(target(node), Duration::from_secs(limit_s))? {
            Some(client) => client.map_err(|error| cannot(&reason(&error)))?,
            None => return Err(cannot(&format!("no answer for {limit_s} s"))),
        };
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(client.cancel_token());
        let mut session = Self { node: node.name.clone(), client, limit_s: node.statement_timeout_s, deadline: false };
        if session.limit_s.is_some() {
            session.limit(session.limit_s)?;
        }
        log::debug(&format!("connected to node {}", node.name));
        Ok(session)
    }

    /// Sets the time after which the server ends a statement, in seconds; none: no limit.
    fn limit(&mut self, limit_s: Option<u64>) -> Result<()> {
        let sql = match limit_s {
            Some(limit_s) => format!("set statement_timeout = '{limit_s}s'"),
            None => "reset statement_timeout".to_owned(),
        };
        self.client.batch_execute(&sql).map_err(|error| self.explain(&error))?;
        self.deadline = limit_s.is_some();
        Ok(())
    }

    /// Runs `work` under a deadline of its own; without one, under the node's.
    pub fn within<T>(&mut self, limit_s: Option<u64>, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let Some(limit_s) = limit_s else { return work(self) };
        self.limit(Some(limit_s))?;
        let done = work(self);
        // After a lost connection there is nothing left to reset.
        if !self.client.is_closed() {
            self.limit(self.limit_s)?;
        }
        done
    }

    /// Is the connection lost?
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs a statement with bound values.
    pub fn query(&mut self, query: &Query) -> Result<Rows> {
        log::debug(&format!("{}: {}", self.node, query.shown()));
        if interrupted() {
            return Err(interruption());
        }
        let columns: Vec<String> = query.columns.iter().map(|name| format!("\"{name}\"")).collect();
        let cells: Vec<String> = columns.iter().map(|name| format!("pg_catalog.to_json(q.{name})::text")).collect();
        let sql = format!("select {} from ({}) as q({})", cells.join(", "), query.sql, columns.join(", "));
        let values: Vec<(&(dyn ToSql + Sync), Type)> =
            query.values.iter().map(|value| (value as &(dyn ToSql + Sync), Type::TEXT)).collect();
        let rows = self.client.query_typed(&sql, &values).map_err(|error| self.explain(&error))?;
        let cell = |text: Option<String>| match text {
            Some(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            None => Value::Null,
        };
        let rows = rows.iter().map(|row| (0..row.len()).map(|at| cell(row.get(at))).collect()).collect();
        Ok(Rows { columns: query.columns.iter().map(|name| (*name).to_owned()).collect(), rows, hidden: Vec::new() })
    }

    /// Runs a procedure whose only result is a truth value, outside any transaction block.
    pub fn call(&mut self, query: &Query) -> Result<bool> {
        log::debug(&format!("{}: {}", self.node, query.shown()));
        if interrupted() {
            return Err(interruption());
        }
        let values: Vec<(&(dyn ToSql + Sync), Type)> =
            query.values.iter().map(|value| (value as &(dyn ToSql + Sync), Type::TEXT)).collect();
        let rows = self.client.query_typed(&query.sql, &values).map_err(|error| self.explain(&error))?;
        Ok(rows.first().and_then(|row| row.get::<_, Option<bool>>(0)) == Some(true))
    }

    /// Runs a text of statements as a user wrote it; gives the last result that has rows or columns. A transaction block that it
    /// leaves open is rolled back, and a failure.
    pub fn text(&mut self, sql: &str) -> Result<Rows> {
        log::debug(&format!("{}: {sql}", self.node));
        if interrupted() {
            return Err(interruption());
        }
        let done = self.client.simple_query(sql).map_err(|error| self.explain(&error));
        let open = if self.client.is_closed() { Ok(false) } else { self.roll_back_open_block() };
        let messages = done?;
        if open? {
            let what = format!("node \"{}\": the statements leave a transaction open; it was rolled back", self.node);
            let hint = "end it with commit, or leave begin out: several statements in one text are one transaction";
            return Err(Failure::new(Exit::Failed, what, hint));
        }
        let mut last = Rows::default();
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    let columns = columns.iter().map(|column| column.name().to_owned()).collect();
                    last = Rows { columns, rows: Vec::new(), hidden: Vec::new() };
                }
                SimpleQueryMessage::Row(row) => {
                    let cell = |at| row.get(at).map_or(Value::Null, |text| Value::String(text.to_owned()));
                    last.rows.push((0..row.len()).map(cell).collect());
                }
                _ => {}
            }
        }
        Ok(last)
    }

    /// Rolls a transaction block back that is open or aborted. Was there one?
    fn roll_back_open_block(&mut self) -> Result<bool> {
        // Outside of a block a transaction begins with its statement.
        let asked = self.client.simple_query(
            "select pg_catalog.transaction_timestamp() operator(pg_catalog.=) pg_catalog.statement_timestamp()",
        );
        let open = match asked {
            Ok(messages) => !messages
                .iter()
                .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("t"))),
            Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => true,
            Err(error) => return Err(self.explain(&error)),
        };
        if open {
            self.client.batch_execute("rollback").map_err(|error| self.explain(&error))?;
        }
        Ok(open)
    }

    fn explain(&self, error: &postgres::Error) -> Failure {
        if interrupted() {
            return interruption();
        }
        let Some(server) = error.as_db_error() else {
            let what = format!("node \"{}\": {}", self.node, reason(error));
            let lost = self.client.is_closed();
            return Failure::new(
                Exit::Failed,
                what,
                if lost { "the connection is lost: see the server's log" } else { "" },
            );
        };
        // Servers say it in their language; a cancel request of somebody else is told apart in English only.
        let said = server.message();
        let limited = self.deadline && !said.contains("user request");
        let limit = *server.code() == SqlState::QUERY_CANCELED && (said.contains("statement timeout") || limited);
        let exit = if limit { Exit::TimedOut } else { Exit::Failed };
        let detail = server.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        let what = format!("node \"{}\": {}{detail}", self.node, server.message());
        let hint =
            if limit { "give it more time with --timeout or statement_timeout" } else { server.hint().unwrap_or("") };
        let code = server.code().code().to_owned();
        Failure { sqlstate: Some(code), ..Failure::new(exit, what, hint) }
    }
}

/// Connects in a thread of its own, so that the limit and signals hold for the whole set-up; none: the limit has passed.
fn connect(target: postgres::Config, limit: Duration) -> Result<Option<std::result::Result<Client, postgres::Error>>> {
    let (done, answer) = mpsc::channel();
    // A thread that is given up ends with the program, or when the server answers after all.
    thread::spawn(move || done.send(target.connect(NoTls)));
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match answer.recv_timeout(left.min(SLICE)) {
            Ok(client) => return Ok(Some(client)),
            Err(_) if interrupted() => return Err(interruption()),
            Err(RecvTimeoutError::Timeout) if !left.is_zero() => {}
            Err(_) => return Ok(None),
        }
    }
}

/// The message of a server, or what went wrong on the way to it.
fn reason(error: &postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        return server.message().to_owned();
    }
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}").split(": ").next().unwrap_or_default().to_owned() + &source
}

fn target(node: &NodeConfig) -> postgres::Config {
    let mut target = postgres::Config::new();
    target.application_name("spockctrl").connect_timeout(Duration::from_secs(node.connect_timeout_s.max(1)));
    target.keepalives_idle(Duration::from_secs(DEAD_PEER_S / 2)).tcp_user_timeout(Duration::from_secs(DEAD_PEER_S));
    let last = |key: &str| node.keywords.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
    let env = |name: &str| std::env::var(name).ok();
    let host =
        last("host").map(str::to_owned).or_else(|| env("PGHOST")).unwrap_or_else(|| "/var/run/postgresql".to_owned());
    target.host(&host);
    if let Some(Ok(port)) = last("port").map(str::to_owned).or_else(|| env("PGPORT")).map(|port| port.parse()) {
        target.port(port);
    }
    if let Some(Ok(address)) = last("hostaddr").map(str::parse) {
        target.hostaddr(address);
    }
    let user = last("user").map(str::to_owned).or_else(|| env("PGUSER")).or_else(|| env("USER"));
    target.user(user.as_deref().unwrap_or("postgres"));
    if let Some(database) = last("dbname").map(str::to_owned).or_else(|| env("PGDATABASE")) {
        target.dbname(&database);
    }
    if let Some(options) = last("options") {
        target.options(options);
    }
    if let Some(name) = last("application_name") {
        target.application_name(name);
    }
    if last("keepalives") == Some("0") {
        target.keepalives(false);
    }
    if let Some(Ok(idle)) = last("keepalives_idle").map(str::parse) {
        target.keepalives_idle(Duration::from_secs(idle));
    }
    target.ssl_mode(SslMode::Disable);
    if let Some(password) = node.password.clone().or_else(|| conninfo::default_password(&node.keywords)) {
        target.password(password.expose());
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_accepts_and_never_answers_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let text = format!(
            r#"{{"spock-nodes":[{{"node_name":"n1","dsn":"host=127.0.0.1 port={port} user=u password=p","connect_timeout":1}}]}}"#
        );
        let config = crate::config::Config::parse(std::path::Path::new("c"), &text).unwrap();
        let begin = Instant::now();
        let failure = Session::open(&config.nodes[0]).err().unwrap();
        assert_eq!(failure.exit, Exit::Connect);
        assert!(failure.message.contains("no answer for 1 s"), "{}", failure.message);
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn shown_statements_have_their_values_and_no_secrets() {
        let values = vec![Some("it's".to_owned()), None, Some(r"host=h password='s3\'cr e\t' x=y".to_owned())];
        let query = Query::new("select f($1::name, $2, $3)", values, &["f"]);
        assert_eq!(query.shown(), "select f('it''s'::name, NULL, 'host=h password=**** x=y')");
    }
}
