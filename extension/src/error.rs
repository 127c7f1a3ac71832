//! What a failure looks like at the edge where a person or another node reads it: SQLSTATE, message, detail, hint.
//! Error enums of the modules turn into a [`Report`]; `pg::raise` turns a `Report` into the server's ERROR.
//!
//! # Invariants
//! 1. A report never holds a password, a whole connection string or a row value.
//! 2. Messages follow PostgreSQL's guide: the primary line in lower case without a full stop; detail and hint are sentences.

use pgrx::PgSqlErrorCode;

/// One error or warning for a person to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// SQLSTATE that programs match on.
    pub code: PgSqlErrorCode,
    /// Primary message.
    pub message: String,
    /// More facts, as sentences.
    pub detail: Option<String>,
    /// What to do, as sentences.
    pub hint: Option<String>,
}

impl Report {
    /// A report with a primary message only.
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None }
    }

    /// Adds the detail line.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the hint line.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Raises it as an ERROR. See [`crate::pg::raise::raise`].
    pub fn raise(self) -> ! {
        crate::pg::raise::raise(&self)
    }
}

/// `?` inside, ERROR at the SQL edge.
pub trait OrRaise<T> {
    /// The value, or the report as an ERROR.
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Result<T, Report> {
    fn or_raise(self) -> T {
        self.unwrap_or_else(|report| report.raise())
    }
}
