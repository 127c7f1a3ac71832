//! One applied change as a line of JSON for the server log (`spock.apply_change_logging`). Programs read it.
//!
//! # Invariants
//! 1. Every value is a string or null, whatever the column's type.
//! 2. The line has no line end in it: control characters are escaped.

use std::fmt::Write;

/// What the line begins with.
pub const PREFIX: &str = "spock apply change: ";

/// Columns in order, with their values as text; `None` is NULL.
pub type Columns = Vec<(String, Option<String>)>;

/// One change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line<'a> {
    /// INSERT, UPDATE, DELETE or DDL.
    pub action: &'a str,
    /// Schema and table, as the provider names them; `None` for a statement.
    pub table: Option<(&'a str, &'a str)>,
    /// Name of the node where the change was made, if the provider told it.
    pub origin: Option<&'a str>,
    /// Commit time there, as the server writes times.
    pub commit_ts: Option<&'a str>,
    /// Values of the key.
    pub pk: Option<Columns>,
    /// The old row as far as it came.
    pub old: Option<Columns>,
    /// The new row.
    pub new: Option<Columns>,
    /// The statement.
    pub sql: Option<&'a str>,
}

impl Line<'_> {
    /// The line, prefix included.
    pub fn text(&self) -> String {
        let mut out = format!("{PREFIX}{{\"action\":");
        string(&mut out, self.action);
        let (schema, table) = self.table.unzip();
        let texts = [("schema", schema), ("table", table), ("origin", self.origin), ("commit_ts", self.commit_ts)];
        for (key, value) in texts {
            if let Some(value) = value {
                member(&mut out, key);
                string(&mut out, value);
            }
        }
        for (key, columns) in [("pk", &self.pk), ("old", &self.old), ("new", &self.new)] {
            if let Some(columns) = columns {
                member(&mut out, key);
                object(&mut out, columns);
            }
        }
        if let Some(sql) = self.sql {
            member(&mut out, "sql");
            string(&mut out, sql);
        }
        out.push('}');
        out
    }
}

fn member(out: &mut String, key: &str) {
    out.push(',');
    string(out, key);
    out.push(':');
}

fn object(out: &mut String, columns: &Columns) {
    out.push('{');
    for (n, (name, value)) in columns.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        string(out, name);
        out.push(':');
        match value {
            Some(value) => string(out, value),
            None => out.push_str("null"),
        }
    }
    out.push('}');
}

/// Appends a JSON string.
pub(crate) fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a String cannot fail.
            c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let columns = |pairs: &[(&str, Option<&str>)]| {
            Some(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect())
        };
        let row = Line {
            action: "UPDATE",
            table: Some(("public", "a\"b")),
            origin: Some("n1"),
            commit_ts: Some("2026-11-23 00:00:00+00"),
            pk: columns(&[("id", Some("1"))]),
            old: columns(&[]),
            new: columns(&[("id", Some("1")), ("note", None), ("what", Some("two\nlines\u{1}\\"))]),
            sql: None,
        };
        let statement = Line { action: "DDL", sql: Some("create table t (id int)"), ..Line::default() };
        let cases = [
            (
                row,
                r#"spock apply change: {"action":"UPDATE","schema":"public","table":"a\"b","origin":"n1","commit_ts":"2026-11-23 00:00:00+00","pk":{"id":"1"},"old":{},"new":{"id":"1","note":null,"what":"two\nlines\u0001\\"}}"#,
            ),
            (statement, r#"spock apply change: {"action":"DDL","sql":"create table t (id int)"}"#),
        ];
        for (line, want) in cases {
            assert_eq!(line.text(), want);
        }
    }
}
