//! One connection to one node. Statements go through the simple protocol and results are text, as psql -At shows them.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use postgres::error::ErrorPosition;
use postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// A server's error, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// SQLSTATE.
    pub code: String,
    /// Primary message.
    pub message: String,
    /// DETAIL, empty when there is none.
    pub detail: String,
    /// HINT, empty when there is none.
    pub hint: String,
    /// Position in the statement (characters, from 1), 0 when there is none.
    pub position: u32,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        for (label, text) in [("DETAIL", &self.detail), ("HINT", &self.hint)] {
            if !text.is_empty() {
                write!(f, "\n  {label}: {text}")?;
            }
        }
        Ok(())
    }
}

/// The result of the last statement that returned rows; NULL is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows(pub Vec<Vec<Option<String>>>);

impl fmt::Display for Rows {
    /// Columns separated by `|`, rows by line ends, NULL as nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, row) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            for (m, value) in row.iter().enumerate() {
                if m > 0 {
                    f.write_str("|")?;
                }
                f.write_str(value.as_deref().unwrap_or(""))?;
            }
        }
        Ok(())
    }
}

/// Why a statement gave no result.
#[derive(Debug)]
pub enum Failure {
    /// The server refused it.
    Sql(SqlError),
    /// The connection is gone; whether the statement took effect is not known.
    Lost(String),
}

/// A connection.
pub struct Session {
    client: Client,
}

impl Session {
    /// Connects through the socket in `directory`.
    pub fn open(directory: &Path, port: u16, database: &str) -> Result<Self, Failure> {
        let mut config = Config::new();
        config.host_path(directory).port(port).user("postgres").dbname(database).application_name("mesh");
        config.connect_timeout(Duration::from_secs(10));
        config.connect(NoTls).map(|client| Self { client }).map_err(|e| failure(&e))
    }

    /// Is the connection known to be gone?
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs one or more statements; several in one text are one transaction, as always in the simple protocol.
    pub fn run(&mut self, sql: &str) -> Result<Rows, Failure> {
        let messages = self.client.simple_query(sql).map_err(|e| failure(&e))?;
        let mut rows = Rows::default();
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(_) => rows.0.clear(),
                SimpleQueryMessage::Row(row) => {
                    rows.0.push((0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect());
                }
                // Command tags, and whatever later versions of the client library add.
                _ => {}
            }
        }
        Ok(rows)
    }
}

fn failure(error: &postgres::Error) -> Failure {
    let Some(db) = error.as_db_error() else {
        // The library's own text is often only "error communicating with the server"; the cause says more.
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        return Failure::Lost(format!("{error}{cause}"));
    };
    let position = match db.position() {
        Some(ErrorPosition::Original(at)) => *at,
        Some(ErrorPosition::Internal { .. }) | None => 0,
    };
    Failure::Sql(SqlError {
        code: db.code().code().to_owned(),
        message: db.message().to_owned(),
        detail: db.detail().unwrap_or_default().to_owned(),
        hint: db.hint().unwrap_or_default().to_owned(),
        position,
    })
}
