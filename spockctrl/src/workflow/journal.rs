//! The journal of a run: one JSON event a line, so that a later run can go on where this one stopped.
//!
//! **Invariant.** A line is on disk before the next step begins, and every text in it is masked.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::vars::Results;
use super::{Origin, Step, Workflow};
use crate::connect::Rows;
use crate::exit::{Exit, Failure, Result};
use crate::output::{SCHEMA, masked};

/// A journal that is written.
pub struct Journal {
    /// Id of the run.
    pub run: String,
    file: File,
}

/// What became of a step.
pub struct Event<'a> {
    /// The step.
    pub step: &'a Step,
    /// `changed`, `unchanged`, `shown`, `failed`, `ignored`, `interrupted`, `skipped`, `undone`.
    pub outcome: &'a str,
    /// When it began.
    pub started: String,
    /// What it ran.
    pub sql: String,
    /// Did that change nothing?
    pub only_reads: bool,
    /// Its result, for later steps.
    pub rows: Option<&'a Rows>,
    /// Why it failed.
    pub failure: Option<&'a Failure>,
}

/// What an earlier run has done.
pub struct Earlier {
    /// Numbers of steps that are done.
    pub done: BTreeSet<usize>,
    /// Results of its steps.
    pub results: Results,
    /// Did a step change anything?
    pub changed: bool,
    begin: Value,
}

/// Where journals are when nobody says where.
pub fn directory(given: Option<&Path>) -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    let state = || std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(home).map(|dir| dir.join("spockctrl"));
    let none =
        || Failure::new(Exit::Precondition, "there is no place for the run's journal", "name one with --state-dir");
    given.map(Path::to_owned).or_else(state).ok_or_else(none)
}

/// Now, in UTC, as RFC 3339 has it.
pub fn now() -> String {
    chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

impl Journal {
    /// Opens the journal of a run, for an earlier run to go on with it.
    pub fn open(directory: &Path, run: Option<&str>, workflow: &Workflow) -> Result<Self> {
        let cannot = |error: std::io::Error| {
            let what = format!("could not write the journal in {}: {error}", directory.display());
            Failure::new(Exit::Precondition, what, "name another place with --state-dir")
        };
        fs::create_dir_all(directory).map_err(cannot)?;
        let fresh = format!("{}-{}", chrono::Utc::now().format("%Y%m%dT%H%M%S"), std::process::id());
        let id = run.unwrap_or(&fresh).to_owned();
        let path = directory.join(format!("{id}.jsonl"));
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(cannot)?;
        let mut journal = Self { run: id, file };
        if run.is_none() {
            let of = match &workflow.origin {
                Origin::File(path) => json!({"file": path}),
                Origin::Builtin(which) => json!({"builtin": which.name, "new": which.new, "source": which.source,
                    "node": which.node, "nodes": which.nodes, "force": which.force, "timeout": which.timeout}),
            };
            journal.line(
                &json!({"event": "begin", "schema": SCHEMA, "run": journal.run, "name": workflow.name, "of": of,
                "digest": workflow.digest, "steps": workflow.steps.len(), "at": now()}),
            )?;
        }
        Ok(journal)
    }

    /// Writes what became of a step.
    pub fn step(&mut self, event: &Event<'_>) -> Result<()> {
        let step = event.step;
        let mut line = json!({"event": "step", "run": self.run, "step": step.number, "name": step.name, "node": step.node,
            "description": step.description, "outcome": event.outcome, "started": event.started, "ended": now(),
            "sql": event.sql, "only_reads": event.only_reads, "sets_node": step.sets_node()});
        if let Some(rows) = event.rows {
            line["columns"] = json!(rows.columns);
            line["rows"] = json!(rows.rows);
            line["hidden"] = json!(hidden(rows));
        }
        if let Some(failure) = event.failure {
            line["error"] = json!(failure.message);
            line["sqlstate"] = json!(failure.sqlstate);
        }
        self.line(&line)
    }

    /// Writes how the run ended.
    pub fn end(&mut self, exit: Exit) -> Result<()> {
        self.line(&json!({"event": "end", "run": self.run, "exit_code": exit as u8, "at": now()}))
    }

    fn line(&mut self, event: &Value) -> Result<()> {
        let text = format!("{}\n", masked(event));
        let done = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        done.map_err(|error| Failure::new(Exit::Failed, format!("could not write the journal: {error}"), ""))
    }
}

fn index_of(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

/// Row and column of the cells that masking changes.
fn hidden(rows: &Rows) -> Vec<(usize, usize)> {
    let cells = rows.rows.iter().enumerate().flat_map(|(at, row)| row.iter().enumerate().map(move |cell| (at, cell)));
    cells.filter(|(_, (_, value))| masked(value) != **value).map(|(row, (column, _))| (row, column)).collect()
}

impl Earlier {
    /// Reads the journal of a run.
    pub fn read(directory: &Path, run: &str) -> Result<Self> {
        let path = directory.join(format!("{run}.jsonl"));
        let bad =
            |what: &str| Failure::config(format!("{}: {what}", path.display()), "runs are the files NAME.jsonl there");
        if run.contains('/') {
            return Err(bad("this is no name of a run"));
        }
        let text = fs::read_to_string(&path).map_err(|error| bad(&error.to_string()))?;
        // The last line can be half written by a run that was killed.
        let mut events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let begin = events.next().filter(|event| event["event"] == "begin").ok_or_else(|| bad("this is no journal"))?;
        let mut earlier = Self { done: BTreeSet::new(), results: Results::new(), changed: false, begin };
        for event in events.filter(|event| event["event"] == "step") {
            earlier.take(&event);
        }
        Ok(earlier)
    }

    fn take(&mut self, event: &Value) {
        let number = usize::try_from(event["step"].as_u64().unwrap_or(0)).unwrap_or(0);
        match event["outcome"].as_str().unwrap_or_default() {
            "changed" | "unchanged" | "shown" | "ignored" | "skipped" => self.done.insert(number),
            "undone" => self.done.remove(&number),
            _ => false,
        };
        let reads = event["only_reads"] == Value::Bool(true);
        self.changed |= matches!(event["outcome"].as_str(), Some("changed" | "shown" | "undone")) && !reads;
        let columns = event["columns"].as_array();
        let Some((columns, rows)) = columns.zip(event["rows"].as_array()) else { return };
        let pair = |pair: &Value| Some((index_of(&pair[0])?, index_of(&pair[1])?));
        let hidden =
            event["hidden"].as_array().map(|cells| cells.iter().filter_map(pair).collect()).unwrap_or_default();
        let rows = Rows {
            hidden,
            columns: columns.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            rows: rows.iter().filter_map(|row| row.as_array().cloned()).collect(),
        };
        for key in ["node", "name"] {
            let sets = key == "name" || event["sets_node"] != Value::Bool(false);
            if let Some(name) = event[key].as_str().filter(|_| sets) {
                self.results.insert(name.to_owned(), rows.clone());
            }
        }
    }

    /// The file that it ran, or words of the built-in workflow.
    pub fn of(&self) -> &Value {
        &self.begin["of"]
    }

    /// Refuses to go on with another workflow.
    pub fn is_of(&self, workflow: &Workflow) -> Result<()> {
        if self.begin["digest"] == json!(workflow.digest) {
            return Ok(());
        }
        let hint = "put the file or the configuration back, or run the remaining steps with --from";
        Err(Failure::new(Exit::Precondition, "the workflow is no longer the one that was run", hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::vars::{Into, substitute};

    #[test]
    fn what_a_journal_masks_is_no_value_for_a_resumed_run() {
        let rows = Rows {
            columns: vec!["dsn".into(), "name".into()],
            rows: vec![vec![json!("host=h"), json!("a")], vec![json!("host=h password=s3cret"), json!("b")]],
            ..Rows::default()
        };
        let mut event = json!({"event": "step", "step": 1, "node": "n1", "name": "ask", "outcome": "shown",
            "columns": rows.columns, "rows": rows.rows, "hidden": hidden(&rows)});
        event = masked(&event);
        let mut earlier =
            Earlier { done: BTreeSet::new(), results: Results::new(), changed: false, begin: Value::Null };
        earlier.take(&event);
        let config = include_str!("../../share/spockctrl.json");
        let config = crate::config::Config::parse(Path::new("c"), config).unwrap();
        let get = |text: &str| substitute(text, Into::Sql, &earlier.results, &config);
        assert_eq!(get("$ask.dsn $ask[1].name").unwrap(), "'host=h' 'b'");
        let failure = get("$ask[1].dsn").unwrap_err();
        assert!(failure.message.contains("secret in it") && failure.hint.contains("--from"), "{failure:?}");
    }
}
