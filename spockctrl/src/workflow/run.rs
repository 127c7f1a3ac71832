//! Runs a workflow: one step after the other, each in the journal before the next begins.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::builtin::Builtin;
use super::journal::{Earlier, Event, Journal, directory, now};
use super::lex;
use super::parse;
use super::preflight;
use super::vars::{Into, Results, substitute};
use super::{Kind, OnFailure, Origin, Step, Workflow};
use crate::cli::{Progress, RunOptions};
use crate::config::Config;
use crate::connect::{self, Rows, Session};
use crate::exit::{Exit, Failure, Result};
use crate::log;
use crate::operation::{Act, Operation, Outcome};
use crate::output::{self, Format, SCHEMA, text_of};

/// What a run is made of.
pub struct Run<'a> {
    config: &'a Config,
    workflow: &'a Workflow,
    options: &'a RunOptions,
    progress: Progress,
    sessions: BTreeMap<String, Session>,
    results: Results,
    journal: Journal,
    /// Indices of steps that changed something in this run.
    changed: Vec<usize>,
    /// Did earlier runs of this journal change anything?
    begun: bool,
}

/// Runs it, or with `--dry-run` prints what it would do. `earlier` is the run that is gone on with.
pub fn run(
    config: &Config,
    workflow: &Workflow,
    options: &RunOptions,
    format: Format,
    earlier: Option<Earlier>,
) -> Result<()> {
    for warning in &workflow.warnings {
        log::warn(warning);
    }
    refuse_shell(workflow, options)?;
    let chosen = chosen(workflow, options, earlier.as_ref())?;
    if options.dry_run {
        return super::dry::print(config, workflow, &chosen, format);
    }
    let directory = directory(options.state_dir.as_deref())?;
    let fresh = earlier.is_none() && options.only.is_empty() && options.from.is_none();
    let sessions = open_all(config, workflow, &chosen, fresh)?;
    let journal = Journal::open(&directory, options.resume.as_deref(), workflow)?;
    let progress = match (options.progress, format) {
        (Progress::Auto, Format::Table) => Progress::Plain,
        (Progress::Auto, Format::Json) => Progress::None,
        (given, _) => given,
    };
    log::info(&format!("run {}", journal.run));
    let begun = earlier.as_ref().is_some_and(|earlier| earlier.changed);
    let results = earlier.map(|earlier| earlier.results).unwrap_or_default();
    let mut run = Run { config, workflow, options, progress, sessions, results, journal, changed: Vec::new(), begun };
    let done = run.all(&chosen);
    run.journal.end(done.as_ref().err().map_or(Exit::Done, |failure| failure.exit))?;
    if format == Format::Json && done.is_ok() {
        let steps = json!({"schema": SCHEMA, "workflow": workflow.name, "run": run.journal.run, "outcome": "done",
            "steps": chosen.len(), "changed": run.changed.len()});
        output::print(&format!("{steps}\n"))?;
    }
    done
}

fn refuse_shell(workflow: &Workflow, options: &RunOptions) -> Result<()> {
    let ends = [&workflow.success, &workflow.failure].into_iter().flatten();
    let shell = workflow.steps.iter().chain(ends).any(has_shell);
    if shell && !options.allow_shell { Err(no_shell()) } else { Ok(()) }
}

/// Is it a shell step, or has it one among those that undo it or follow its failure?
fn has_shell(step: &Step) -> bool {
    let follows = match &step.on_failure {
        OnFailure::Steps(steps) => steps.as_slice(),
        OnFailure::Stop | OnFailure::Continue => &[],
    };
    matches!(step.kind, Kind::Shell(_)) || step.undo.iter().chain(follows).any(has_shell)
}

fn no_shell() -> Failure {
    Failure::usage("the workflow has shell steps", "read them, then allow them with --allow-shell")
}

/// Indices of the steps to run.
fn chosen(workflow: &Workflow, options: &RunOptions, earlier: Option<&Earlier>) -> Result<Vec<usize>> {
    let count = workflow.steps.len();
    for number in options.from.iter().chain(&options.only) {
        if *number == 0 || *number > count {
            return Err(Failure::usage(format!("there is no step {number}"), format!("the workflow has 1 to {count}")));
        }
    }
    let wanted = |number: usize| {
        let only = options.only.is_empty() || options.only.contains(&number);
        only && options.from.is_none_or(|from| from <= number)
            && earlier.is_none_or(|earlier| !earlier.done.contains(&number))
    };
    Ok((0..count).filter(|index| wanted(index + 1)).collect())
}

/// Connects to every node that takes part, takes their locks, and asks what the workflow needs of them.
fn open_all(config: &Config, workflow: &Workflow, chosen: &[usize], fresh: bool) -> Result<BTreeMap<String, Session>> {
    let steps = || chosen.iter().map(|index| &workflow.steps[*index]).filter(|step| !step.node.is_empty());
    let nodes: BTreeSet<&str> = steps().map(|step| step.node.as_str()).collect();
    let mut sessions = BTreeMap::new();
    for node in nodes {
        match Session::open(config.node(node)?) {
            Ok(session) => drop(sessions.insert(node.to_owned(), session)),
            // A step that may fail may also find nobody there.
            Err(failure) if steps().filter(|step| step.node == node).all(|step| step.ignore_errors) => {
                log::warn(&failure.message);
            }
            Err(failure) => return Err(failure),
        }
    }
    for session in sessions.values_mut() {
        preflight::lock(session)?;
        if fresh {
            preflight::check(&workflow.origin, session)?;
        }
    }
    if fresh {
        preflight::is_whole(&workflow.origin, &mut sessions)?;
    }
    Ok(sessions)
}

impl Run<'_> {
    fn all(&mut self, chosen: &[usize]) -> Result<()> {
        let workflow = self.workflow;
        for index in chosen {
            let step = &workflow.steps[*index];
            let done = self.step(step, Some(*index));
            if let Err(failure) = done {
                return Err(self.after_failure(step, failure));
            }
        }
        match &workflow.success {
            Some(step) => self.step(step, None),
            None => Ok(()),
        }
    }

    /// Runs a step with its attempts, and writes it down. An error is one that ends the run.
    fn step(&mut self, step: &Step, index: Option<usize>) -> Result<()> {
        self.announce(step)?;
        let (begin, started) = (Instant::now(), now());
        let mut attempt = 0;
        let done = loop {
            let done = self.attempt(step);
            attempt += 1;
            match &done {
                Err(failure) if failure.exit != Exit::Interrupted && attempt <= step.retries => {
                    log::warn(&format!("step {}: {}; trying again", step.number, failure.message));
                    connect::pause(Duration::from_secs(step.retry_delay_s))?;
                }
                _ => break done,
            }
        };
        let goes_on = step.ignore_errors || matches!(step.on_failure, OnFailure::Continue);
        let (outcome, sql, rows, failure) = match done {
            Ok((sql, Some(Outcome::Changed(rows)))) => ("changed", sql, Some(rows), None),
            Ok((sql, Some(Outcome::Shown(rows)))) => ("shown", sql, Some(rows), None),
            Ok((sql, Some(Outcome::Unchanged))) => ("unchanged", sql, None, None),
            Ok((sql, None)) => ("skipped", sql, None, None),
            Err(failure) if failure.exit == Exit::Interrupted => ("interrupted", String::new(), None, Some(failure)),
            Err(failure) if goes_on => ("ignored", String::new(), None, Some(failure)),
            Err(failure) => ("failed", String::new(), None, Some(failure)),
        };
        self.finish(step, outcome, begin, failure.as_ref())?;
        let shown = outcome == "shown";
        let only_reads = shown && (!matches!(step.kind, Kind::Sql(_)) || lex::only_reads(&sql));
        let event = Event { step, outcome, started, sql, only_reads, rows: rows.as_ref(), failure: failure.as_ref() };
        self.journal.step(&event)?;
        if let Some(rows) = rows.filter(|rows| !rows.columns.is_empty()) {
            self.remember(step, rows)?;
        }
        // Statements may have changed something, and a failed step may have done a part. One that was refused has done nothing: what
        // is there is somebody else's.
        let refused = failure.as_ref().is_some_and(|failure| failure.exit == Exit::Precondition);
        let partly = outcome == "failed" && !step.undo.is_empty() && !refused;
        if outcome == "changed" || (shown && !only_reads) || partly {
            self.changed.extend(index);
        }
        match failure {
            Some(failure) if goes_on && outcome != "interrupted" => log::warn(&failure.message),
            Some(failure) => return Err(failure),
            None => {}
        }
        if step.sleep_s > 0 { connect::pause(Duration::from_secs(step.sleep_s)) } else { Ok(()) }
    }

    /// Runs it once: what was run, and what came of it; none when a condition kept it from running.
    fn attempt(&mut self, step: &Step) -> Result<(String, Option<Outcome>)> {
        if connect::interrupted() {
            return Err(connect::interruption());
        }
        for (condition, wanted) in [(&step.when, true), (&step.unless, false)] {
            if let Some(condition) = condition {
                let sql = substitute(condition, Into::Sql, &self.results, self.config)?;
                let rows = self.session(&step.node)?.text(&sql)?;
                if is_true(&rows) != wanted {
                    return Ok((sql, None));
                }
            }
        }
        if let Kind::Shell(command) = &step.kind {
            if !self.options.allow_shell {
                return Err(no_shell());
            }
            return shell(command).map(|()| (command.clone(), Some(Outcome::Changed(Rows::default()))));
        }
        let Some(mut operation) = resolved(step, &self.results, self.config)? else { return Ok((String::new(), None)) };
        operation.limit_s = step.timeout_s.or(operation.limit_s);
        let sql = operation.shown();
        let outcome = operation.run(self.session(&step.node)?)?;
        if let Outcome::Shown(rows) = &outcome {
            expect(step, &operation, rows)?;
        }
        Ok((sql, Some(outcome)))
    }

    /// The node's session, made anew when it was lost.
    fn session(&mut self, node: &str) -> Result<&mut Session> {
        let lost = self.sessions.get(node).is_none_or(Session::is_closed);
        if lost {
            let mut session = Session::open(self.config.node(node)?)?;
            preflight::lock(&mut session)?;
            self.sessions.insert(node.to_owned(), session);
        }
        self.sessions.get_mut(node).ok_or_else(|| Failure::new(Exit::Failed, format!("node \"{node}\" is gone"), ""))
    }

    fn remember(&mut self, step: &Step, rows: Rows) -> Result<()> {
        if let Some(directory) = self.options.out_files.as_ref().filter(|_| step.sets_node()) {
            write_out_file(directory, &step.node, &rows)?;
        }
        if let Some(name) = &step.name {
            self.results.insert(name.clone(), rows.clone());
        }
        if step.sets_node() {
            self.results.insert(step.node.clone(), rows);
        }
        Ok(())
    }

    /// What follows a failed step; gives the failure that the run ends with.
    fn after_failure(&mut self, step: &Step, failure: Failure) -> Failure {
        if failure.exit == Exit::Interrupted {
            let hint = if self.begun || !self.changed.is_empty() { self.resume_hint() } else { String::new() };
            return Failure { hint, ..failure };
        }
        if let OnFailure::Steps(steps) = &step.on_failure {
            self.afterwards(steps);
        }
        let undoable = self.workflow.steps.iter().any(|step| !step.undo.is_empty());
        let rolls_back = undoable && !self.options.keep && !self.begun;
        let began = !self.changed.is_empty();
        let left = if rolls_back { self.roll_back() } else { self.begun || !self.changed.is_empty() };
        if let Some(last) = &self.workflow.failure {
            self.afterwards(std::slice::from_ref(last));
        }
        let mut failure = failure.within(&format!("step {}", step.number));
        // What a check waits for in vain is what it has found.
        let checks = matches!(&self.workflow.origin, Origin::Builtin(which) if which.builtin() == Some(Builtin::Check));
        let undone = began && failure.exit == Exit::Precondition;
        if (checks && failure.exit == Exit::TimedOut) || undone {
            failure.exit = Exit::Failed;
        }
        if !left {
            return failure;
        }
        let hint = format!("{}{}{}", failure.hint, if failure.hint.is_empty() { "" } else { "; " }, self.resume_hint());
        Failure { exit: Exit::Partial, hint, ..failure }
    }

    fn resume_hint(&self) -> String {
        format!("what was done stays; go on with: spockctrl workflow run --resume {}", self.journal.run)
    }

    /// Undoes what this run did, last first. Is anything left?
    fn roll_back(&mut self) -> bool {
        let mut left = false;
        for index in std::mem::take(&mut self.changed).into_iter().rev() {
            let step = &self.workflow.steps[index];
            let undone = step.undo.iter().all(|undo| match self.attempt(undo) {
                Ok(_) => true,
                Err(failure) => {
                    log::warn(&format!("could not undo step {}: {}", step.number, failure.message));
                    false
                }
            });
            left |= !undone;
            let event = Event {
                step,
                outcome: "undone",
                started: now(),
                sql: String::new(),
                only_reads: false,
                rows: None,
                failure: None,
            };
            if undone && let Err(failure) = self.journal.step(&event) {
                log::warn(&failure.message);
            }
        }
        left
    }

    fn afterwards(&mut self, steps: &[Step]) {
        for step in steps {
            if let Err(failure) = self.step(step, None) {
                log::warn(&failure.message);
            }
        }
    }

    fn announce(&self, step: &Step) -> Result<()> {
        if self.progress != Progress::Plain {
            return Ok(());
        }
        let now = chrono::Local::now().format("%Y-%m-%d %H:%M:%S");
        output::print(&crate::secret::mask(&format!("[{now}] [Step - {:02}] {} ", step.number, step.description)))
    }

    fn finish(&self, step: &Step, outcome: &str, begin: Instant, failure: Option<&Failure>) -> Result<()> {
        let elapsed_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        log::info(&format!("step {}: {outcome} after {elapsed_ms} ms", step.number));
        match self.progress {
            Progress::Plain => output::print(if failure.is_some() { "[FAILED]\n" } else { "[OK]\n" }),
            Progress::Json => {
                let event = json!({"event": "step", "run": self.journal.run, "step": step.number, "node": step.node,
                    "description": step.description, "outcome": outcome, "elapsed_ms": elapsed_ms,
                    "error": failure.map(|failure| &failure.message)});
                output::print(&format!("{}\n", output::masked(&event)))
            }
            Progress::Auto | Progress::None => Ok(()),
        }
    }
}

/// The operation of a step with its references replaced.
pub fn resolved(step: &Step, results: &Results, config: &Config) -> Result<Option<Operation>> {
    let replace = |word: &String, sql: bool| {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if word.starts_with("--") => (format!("{option}="), value),
            _ => (String::new(), word.as_str()),
        };
        let into = if sql { Into::Sql } else { Into::Value };
        substitute(value, into, results, config).map(|value| option + &value)
    };
    let kind = match &step.kind {
        Kind::Command(words) => Kind::Command(words.iter().map(|word| replace(word, false)).collect::<Result<_>>()?),
        Kind::Sql(words) => Kind::Sql(words.iter().map(|word| replace(word, true)).collect::<Result<_>>()?),
        Kind::Shell(_) => return Ok(None),
    };
    let mut operation = parse::operation(&kind, &step.node)?;
    operation.as_mut().map(|operation| operation.name_dsns(config)).transpose()?;
    Ok(operation)
}

fn is_true(rows: &Rows) -> bool {
    let first = rows.rows.first().and_then(|row| row.first());
    first.is_some_and(|value| matches!(text_of(value).as_str(), "t" | "true"))
}

/// What a step's first value must be; a wait that gives false has failed.
fn expect(step: &Step, operation: &Operation, rows: &Rows) -> Result<()> {
    let first = rows.rows.first().and_then(|row| row.first()).map(text_of);
    if let Some(wanted) = &step.expect
        && first.as_deref() != Some(wanted)
    {
        let what = format!("node \"{}\": the first value is {first:?}, expected \"{wanted}\"", step.node);
        return Err(Failure::new(Exit::Failed, what, ""));
    }
    let Act::Text(sql) = &operation.act else { return Ok(()) };
    let wait = sql.to_ascii_lowercase().contains("wait_for_sync_event");
    if wait && rows.columns == ["result"] && first.as_deref() != Some("t") {
        let what = format!("node \"{}\": what was waited for did not come in time", step.node);
        return Err(Failure::new(Exit::TimedOut, what, "its last argument is in seconds"));
    }
    Ok(())
}

fn shell(command: &str) -> Result<()> {
    let failed = |why: String| Failure::new(Exit::Failed, format!("shell step: {why}"), "");
    // What it prints is progress, not this program's result.
    let out =
        std::process::Command::new("sh").args(["-c", command]).output().map_err(|error| failed(error.to_string()))?;
    let mut stderr = std::io::stderr().lock();
    let said = |bytes: &[u8]| crate::secret::mask(&String::from_utf8_lossy(bytes));
    let _closed = stderr.write_all(said(&out.stdout).as_bytes());
    let _closed = stderr.write_all(said(&out.stderr).as_bytes());
    if out.status.success() { Ok(()) } else { Err(failed(out.status.to_string())) }
}

/// As the C edition's program writes it: `column=value`, tabs between columns, a line for each row.
fn write_out_file(directory: &std::path::Path, node: &str, rows: &Rows) -> Result<()> {
    let line = |row: &Vec<Value>| {
        let cells = rows.columns.iter().zip(row).map(|(name, value)| format!("{name}={}", text_of(value)));
        crate::secret::mask(&cells.collect::<Vec<_>>().join("\t")) + "\n"
    };
    let path = directory.join(format!("{}.out", node.replace('/', "_")));
    std::fs::write(&path, rows.rows.iter().map(line).collect::<String>())
        .map_err(|error| Failure::new(Exit::Failed, format!("could not write {}: {error}", path.display()), ""))
}

/// The workflow of a command line: a built-in one, a file, or what an earlier run was of.
pub fn load(config: &Config, which: &crate::cli::Which, options: &RunOptions) -> Result<(Workflow, Option<Earlier>)> {
    let earlier = match &options.resume {
        Some(run) => Some(Earlier::read(&directory(options.state_dir.as_deref())?, run)?),
        None => None,
    };
    let mut which = which.clone();
    if let (Some(earlier), None) = (&earlier, &which.name) {
        let of = earlier.of();
        let text = |key: &str| of[key].as_str().map(str::to_owned);
        let nodes = of["nodes"].as_array().map(|nodes| nodes.iter().map(text_of).collect()).unwrap_or_default();
        which.name = text("builtin").or_else(|| text("file"));
        (which.new, which.source, which.node, which.nodes) = (text("new"), text("source"), text("node"), nodes);
        which.force = of["force"] == Value::Bool(true);
        which.timeout = of["timeout"].as_u64().and_then(|limit| u32::try_from(limit).ok()).unwrap_or(which.timeout);
    }
    let workflow = match (which.builtin(), &which.name) {
        (Some(kind), _) => {
            let text = kind.render(&which, config)?;
            parse::parse(kind.name(), &text, Origin::Builtin(which), config)?
        }
        (None, Some(path)) => parse::read(path.as_ref(), config)?,
        (None, None) => {
            return Err(Failure::usage(
                "which workflow?",
                "add-node, remove-node, cross-wire, uncross-wire, check, or a file",
            ));
        }
    };
    if let Some(earlier) = &earlier {
        earlier.is_of(&workflow)?;
    }
    Ok((workflow, earlier))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workflow(step: &str) -> Workflow {
        let text = format!(r#"{{"workflow_name":"w","description":"d","steps":[{step}]}}"#);
        let config = include_str!("../../share/spockctrl.json");
        let config = Config::parse(std::path::Path::new("c"), config).unwrap();
        parse::parse("w", &text, Origin::File("w".into()), &config).unwrap()
    }

    #[test]
    fn shell_steps_are_refused_wherever_they_are() {
        let shell = r#"{"shell":{"command":"true","description":"d"}}"#;
        let sql = |more: &str| {
            format!(r#"{{"sql":{{"node":"n1","command":"SQL","description":"d","args":["--sql=select 1"]{more}}}}}"#)
        };
        let nested = sql(&format!(r#","undo":[{shell}]"#));
        for (step, refused) in [
            (shell.to_owned(), true),
            (sql(&format!(r#","undo":[{shell}]"#)), true),
            (sql(&format!(r#","on_failure":[{shell}]"#)), true),
            (sql(&format!(r#","on_failure":[{nested}]"#)), true),
            (sql(""), false),
        ] {
            let workflow = workflow(&step);
            let done = refuse_shell(&workflow, &RunOptions::default());
            assert_eq!(done.err().map(|failure| failure.exit), refused.then_some(Exit::Usage), "{step}");
            assert!(refuse_shell(&workflow, &RunOptions { allow_shell: true, ..RunOptions::default() }).is_ok());
        }
    }
}
