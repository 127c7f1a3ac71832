//! Everything that can go wrong below the story verbs, with what a person needs in order to act.
//!
//! **Invariant:** no message holds a connection string; nodes are named, not addressed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::session::SqlError;

/// Why an operation on a cluster failed.
#[derive(Debug)]
pub enum MeshError {
    /// A file or directory operation failed.
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program could not be started or ended with a failure.
    Child {
        /// The command line.
        command: String,
        /// Exit status, or why it did not start.
        status: String,
        /// The last lines that it wrote.
        tail: String,
    },
    /// The given directory is no usable installation.
    Prefix {
        /// The directory.
        path: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// No account other than root can run a server.
    Account(String),
    /// A statement failed.
    Sql {
        /// The node's name.
        node: String,
        /// The statement, shortened.
        statement: String,
        /// The server's answer.
        error: Box<SqlError>,
    },
    /// No connection to a node, or it broke.
    Connection {
        /// The node's name.
        node: String,
        /// The client library's words.
        why: String,
    },
    /// Something awaited did not happen in time.
    Deadline {
        /// What was awaited.
        what: String,
        /// How long.
        waited: Duration,
        /// What was seen last.
        last: String,
    },
    /// A result has another shape than expected.
    Unexpected(String),
}

impl MeshError {
    /// For `map_err` on file operations: `io("write", path)`.
    pub(crate) fn io(what: &str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let what = format!("{what} {}", path.display());
        move |source| Self::Io { what, source }
    }
}

impl fmt::Display for MeshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { what, source } => write!(f, "could not {what}: {source}"),
            Self::Child { command, status, tail } => {
                write!(f, "`{command}` failed: {status}")?;
                if tail.is_empty() { Ok(()) } else { write!(f, "\n{tail}") }
            }
            Self::Prefix { path, why } => write!(f, "{} is no usable installation: {why}", path.display()),
            Self::Account(why) => {
                write!(f, "PostgreSQL refuses to run as root, and no other account can be used: {why}")
            }
            Self::Sql { node, statement, error } => write!(f, "{node}: {error}\n  in: {statement}"),
            Self::Connection { node, why } => write!(f, "{node}: no connection: {why}"),
            Self::Deadline { what, waited, last } => {
                write!(f, "waited {:.1} s in vain for {what}; last seen: {last}", waited.as_secs_f64())
            }
            Self::Unexpected(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for MeshError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Child { .. }
            | Self::Prefix { .. }
            | Self::Account(_)
            | Self::Sql { .. }
            | Self::Connection { .. }
            | Self::Deadline { .. }
            | Self::Unexpected(_) => None,
        }
    }
}
