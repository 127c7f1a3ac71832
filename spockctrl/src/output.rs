//! Results on stdout: a table for people, one JSON document for programs, from the same rows.
//!
//! **Invariant.** Cells are masked here, those of users' own queries too.

use std::io::Write;

use serde_json::{Map, Value, json};

use crate::connect::Rows;
use crate::exit::{Exit, Failure, Result};
use crate::operation::Outcome;
use crate::secret::mask;

/// Version of the documents' members; a member is only ever added within one.
pub const SCHEMA: u64 = 1;

/// In which form results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns under their names.
    #[default]
    Table,
    /// One document.
    Json,
}

/// Prints what came of a command.
pub fn outcome(format: Format, node: &str, outcome: &Outcome) -> Result<()> {
    let (word, rows) = match outcome {
        Outcome::Changed(_) => ("changed", None),
        Outcome::Unchanged => ("unchanged", None),
        Outcome::Shown(rows) => ("shown", Some(rows)),
    };
    match (format, rows) {
        (Format::Table, None) => Ok(()),
        (Format::Table, Some(rows)) => print(&table(rows)),
        (Format::Json, rows) => {
            let mut document = json!({"schema": SCHEMA, "node": node, "outcome": word});
            if let Some(rows) = rows {
                document["columns"] = json!(rows.columns);
                document["rows"] = objects(rows);
            }
            print(&format!("{document}\n"))
        }
    }
}

/// Prints a failure's document; for people it goes to stderr elsewhere.
pub fn failure(failure: &Failure) -> Result<()> {
    let error = json!({"message": failure.message, "hint": failure.hint, "sqlstate": failure.sqlstate});
    print(&format!("{}\n", json!({"schema": SCHEMA, "error": error, "exit_code": failure.exit as u8})))
}

/// Prints text that is a result.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let done = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match done {
        // Whoever read it has read enough: `| head` is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::new(Exit::Failed, format!("could not write: {error}"), "")),
    }
}

fn objects(rows: &Rows) -> Value {
    let object = |row: &Vec<Value>| {
        Value::Object(rows.columns.iter().cloned().zip(row.iter().map(masked)).collect::<Map<_, _>>())
    };
    Value::Array(rows.rows.iter().map(object).collect())
}

/// The value with secrets left out, also inside of lists.
pub fn masked(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(mask(text)),
        Value::Array(values) => Value::Array(values.iter().map(masked).collect()),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), masked(value))).collect())
        }
        other => other.clone(),
    }
}

/// A value as the server would print it; NULL is nothing.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "t".to_owned(),
        Value::Bool(false) => "f".to_owned(),
        Value::Array(values) => format!("{{{}}}", values.iter().map(text_of).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn table(rows: &Rows) -> String {
    if rows.columns.is_empty() {
        return String::new();
    }
    let clean = |text: String| text.replace(['\n', '\r', '\t'], " ");
    let mut lines = vec![rows.columns.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>()];
    lines.extend(rows.rows.iter().map(|row| row.iter().map(|value| clean(mask(&text_of(value)))).collect()));
    let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..rows.columns.len()).map(|at| width(at).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_hold_no_secret() {
        let rows = Rows {
            columns: vec!["name".into(), "dsn".into(), "on".into()],
            rows: vec![
                vec![json!("n1"), json!("host=h password=s3cret"), json!(true)],
                vec![json!("node2"), Value::Null, json!(["a", "b"])],
            ],
            ..Rows::default()
        };
        assert_eq!(
            table(&rows),
            "NAME   DSN                   ON\nn1     host=h password=****  t\nnode2                        {a,b}\n"
        );
        let document = objects(&rows).to_string();
        assert!(document.contains("password=****") && !document.contains("s3cret"), "{document}");
    }
}
