//! Workflow files: members of the C edition's program as they are, and ours on top.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Parser;

use super::{Kind, OnFailure, Origin, Step, Workflow};
use crate::argv;
use crate::cli::{self, Cli, Command};
use crate::config::Config;
use crate::exit::{Failure, Result};
use crate::json::{At, Document};
use crate::operation::Operation;
use crate::workflow::vars::{self, To};

/// Commands of workflow files, and the words that they stand for.
const COMMANDS: [(&str, [&str; 2]); 12] = [
    ("CREATE NODE", ["node", "create"]),
    ("DROP NODE", ["node", "drop"]),
    ("CREATE SUBSCRIPTION", ["sub", "create"]),
    ("DROP SUBSCRIPTION", ["sub", "drop"]),
    ("ENABLE SUBSCRIPTION", ["sub", "enable"]),
    ("DISABLE SUBSCRIPTION", ["sub", "disable"]),
    ("SHOW SUBSCRIPTION STATUS", ["sub", "show-status"]),
    ("SHOW SUBSCRIPTION TABLE", ["sub", "show-table"]),
    ("CREATE REPSET", ["repset", "create"]),
    ("DROP REPSET", ["repset", "drop"]),
    ("CREATE SLOT", ["slot", "create"]),
    ("DROP SLOT", ["slot", "drop"]),
];
const MEMBERS: [&str; 17] = [
    "node",
    "command",
    "description",
    "args",
    "options",
    "name",
    "sleep",
    "ignore_errors",
    "on_success",
    "on_failure",
    "retries",
    "retry_delay",
    "timeout",
    "when",
    "unless",
    "expect",
    "undo",
];
/// Attempts after the first one when a step says only `retry`.
const RETRIES: u64 = 3;

/// Reads a workflow and checks all of it.
pub fn parse(name: &str, text: &str, origin: Origin, config: &Config) -> Result<Workflow> {
    let document = Document::parse(name, text)?;
    let root = document.root();
    root.knows(&["workflow_name", "description", "steps", "success_step", "failure_step"])?;
    let workflow_name = root.need("workflow_name")?.text()?;
    root.need("description")?.text()?;
    let mut known = Known { config, steps: BTreeSet::new(), nodes: BTreeSet::new() };
    let mut steps = Vec::new();
    for (index, at) in root.need("steps")?.elements()?.iter().enumerate() {
        steps.push(step(at, index + 1, &mut known)?);
    }
    let success = last_step(&root, "success_step", &mut known)?;
    let failure = last_step(&root, "failure_step", &mut known)?;
    let warnings = document.take_warnings();
    Ok(Workflow { name: workflow_name, steps, success, failure, digest: digest(text), origin, warnings })
}

/// Reads a file.
pub fn read(path: &Path, config: &Config) -> Result<Workflow> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::config(format!("could not read {name}: {error}"), "name a workflow file or a built-in one")
    })?;
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    parse(&name, &text, Origin::File(whole), config)
}

/// FNV-1a: tells a changed file from an unchanged one, no more.
fn digest(text: &str) -> String {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// What steps so far can be referred to by.
struct Known<'a> {
    config: &'a Config,
    steps: BTreeSet<String>,
    nodes: BTreeSet<String>,
}

/// `success_step` and `failure_step` have their members in place of a kind.
fn last_step(root: &At<'_>, member: &str, known: &mut Known<'_>) -> Result<Option<Step>> {
    let Some(at) = root.get(member)? else { return Ok(None) };
    if at.members()?.is_empty() {
        return Ok(None);
    }
    if at.get("spock")?.is_some() || at.get("sql")?.is_some() || at.get("shell")?.is_some() {
        return step(&at, 0, known).map(Some);
    }
    let command = at.need("command")?.text()?;
    let kind = if command.eq_ignore_ascii_case("sql") {
        "sql"
    } else if COMMANDS.iter().any(|(name, _)| *name == command) {
        "spock"
    } else {
        "shell"
    };
    body(&at, kind, 0, known).map(Some)
}

fn step(at: &At<'_>, number: usize, known: &mut Known<'_>) -> Result<Step> {
    at.knows(&["spock", "sql", "shell", "on_success", "on_failure"])?;
    for member in ["on_success", "on_failure"] {
        if let Some(inert) = at.get(member)? {
            inert.warn("has no effect here");
        }
    }
    for kind in ["spock", "sql", "shell"] {
        if let Some(inner) = at.get(kind)? {
            return body(&inner, kind, number, known);
        }
    }
    Err(at.error("has none of the members spock, sql and shell", ""))
}

fn body(at: &At<'_>, kind: &str, number: usize, known: &mut Known<'_>) -> Result<Step> {
    at.knows(&MEMBERS)?;
    if let Some(inert) = at.get("on_success")? {
        inert.warn("has no effect here");
    }
    let command_at = at.need("command")?;
    let command = command_at.text()?;
    let description = at.need("description")?.text()?;
    let node = match at.get("node")? {
        Some(node) => {
            let name = node.text()?;
            known.config.node(&name).map_err(|failure| node.error(&failure.message, &failure.hint))?;
            name
        }
        None if kind == "shell" => String::new(),
        None => return Err(at.error("member \"node\" is missing", "name a node of the configuration")),
    };
    let mut args = Vec::new();
    for arg in at.get("args")?.map(|args| args.elements()).transpose()?.unwrap_or_default() {
        let text = arg.text()?;
        known.check(&arg, &text)?;
        args.push(text);
    }
    let kind = match kind {
        "shell" => Kind::Shell(command),
        "sql" => Kind::Sql([vec!["sql".to_owned()], args].concat()),
        _ => Kind::Command([words_of(&command_at, &command)?, args].concat()),
    };
    // Parsed now, so that what is wrong is found before anything runs.
    let valid = operation(&kind, &node);
    let valid = valid.and_then(|operation| match operation.as_ref().and_then(Operation::dsn_node) {
        Some(peer) => known.config.node(peer).map(|_| ()),
        None => Ok(()),
    });
    valid.map_err(|failure| at.error(&failure.message, &failure.hint))?;
    let name = at.text_of("name")?;
    let (on_failure, default_retries) = on_failure(at, known)?;
    let undo = match at.get("undo")? {
        Some(undo) => undo.elements()?.iter().map(|at| step(at, number, known)).collect::<Result<_>>()?,
        None => Vec::new(),
    };
    let step = Step {
        number,
        name,
        node,
        description,
        kind,
        sleep_s: at.number_of("sleep")?.unwrap_or(0),
        ignore_errors: at.truth_of("ignore_errors")?.unwrap_or(false),
        on_failure,
        retries: at.number_of("retries")?.unwrap_or(default_retries),
        retry_delay_s: at.number_of("retry_delay")?.unwrap_or(1),
        timeout_s: at.number_of("timeout")?.filter(|limit| *limit > 0),
        when: known.condition(at, "when")?,
        unless: known.condition(at, "unless")?,
        expect: at.text_of("expect")?,
        undo,
    };
    if step.sets_node() {
        known.nodes.insert(step.node.clone());
    }
    known.steps.extend(step.name.clone());
    Ok(step)
}

/// A command of workflow files, or the words of a command of this program.
fn words_of(at: &At<'_>, command: &str) -> Result<Vec<String>> {
    if let Some((_, words)) = COMMANDS.iter().find(|(name, _)| *name == command) {
        return Ok(words.map(str::to_owned).to_vec());
    }
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let definition = cli::definition();
    let mut found = Some(&definition);
    for word in &words {
        found = found.and_then(|command| command.find_subcommand(word));
    }
    if words.is_empty() || found.is_none() {
        let names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
        let hint = format!("one of {}, or the words of a command such as \"sub wait-for-sync\"", names.join(", "));
        return Err(at.error(&format!("there is no command \"{command}\""), &hint));
    }
    Ok(words)
}

fn on_failure(at: &At<'_>, known: &mut Known<'_>) -> Result<(OnFailure, u64)> {
    let Some(at) = at.get("on_failure")? else { return Ok((OnFailure::Stop, 0)) };
    if at.value.is_object() {
        at.warn("has no effect here; write stop, continue, retry, or a list of steps");
        return Ok((OnFailure::Stop, 0));
    }
    if at.value.is_array() {
        let steps = at.elements()?.iter().map(|at| step(at, 0, known)).collect::<Result<_>>()?;
        return Ok((OnFailure::Steps(steps), 0));
    }
    match at.text()?.as_str() {
        "stop" => Ok((OnFailure::Stop, 0)),
        "continue" => Ok((OnFailure::Continue, 0)),
        "retry" => Ok((OnFailure::Stop, RETRIES)),
        _ => Err(at.error("must be stop, continue, retry, or a list of steps", "")),
    }
}

impl Known<'_> {
    /// Every reference has something that it can name.
    fn check(&self, at: &At<'_>, text: &str) -> Result<()> {
        let value = text.strip_prefix("--").and_then(|option| option.split_once('=')).map_or(text, |(_, value)| value);
        for reference in vars::references(value) {
            match reference.to {
                To::Dsn(node) => {
                    self.config.node(&node).map_err(|failure| at.error(&failure.message, &failure.hint))?;
                }
                To::Cell(name, _, column) => {
                    if !self.nodes.contains(&name) && !self.steps.contains(&name) {
                        let what = format!(
                            "${name}.{column}: no earlier step has this name, or is sql or sub create on this node"
                        );
                        return Err(at.error(&what, ""));
                    }
                }
                To::Env(_) | To::File(_) => {}
            }
        }
        Ok(())
    }

    fn condition(&self, at: &At<'_>, member: &str) -> Result<Option<String>> {
        let Some(at) = at.get(member)? else { return Ok(None) };
        let text = at.text()?;
        self.check(&at, &text)?;
        Ok(Some(text))
    }
}

/// The operation of a step, or none for a shell step. References in it are replaced already, or stand for texts.
pub fn operation(kind: &Kind, node: &str) -> Result<Option<Operation>> {
    let (Kind::Command(words) | Kind::Sql(words)) = kind else { return Ok(None) };
    let depth = words.iter().take_while(|word| !word.starts_with('-')).count().min(2);
    let depth = if matches!(kind, Kind::Sql(_)) { 1 } else { depth };
    let mut line = vec!["spockctrl".to_owned()];
    line.extend(words[..depth].iter().cloned());
    // A step may name its node again; the parser takes one.
    if !words.iter().any(|word| word.starts_with("--node=")) {
        line.push(format!("--node={node}"));
    }
    line.extend(words[depth..].iter().cloned());
    let (line, _) = argv::normal(&cli::definition(), line);
    let cli = Cli::try_parse_from(line).map_err(|error| {
        let text = error.to_string();
        Failure::usage(text.lines().next().unwrap_or_default().trim_start_matches("error: "), "")
    })?;
    let operation = cli.command.as_ref().and_then(Command::operation);
    operation.unwrap_or_else(|| Err(Failure::usage("this command cannot be a step", ""))).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::parse(Path::new("c.json"), include_str!("../../share/spockctrl.json")).unwrap()
    }

    fn read_text(text: &str) -> Result<Workflow> {
        parse("w.json", text, Origin::File("w.json".into()), &config())
    }

    fn with_step(step: &str) -> String {
        format!(r#"{{"workflow_name":"w","description":"d","steps":[{step}]}}"#)
    }

    #[test]
    fn a_file_of_the_former_program_is_read_as_it_is() {
        let text = r#"{"workflow_name":"Add","description":"d","steps":[
          {"spock":{"node":"n2","command":"CREATE NODE","description":"a","args":["--node_name=n2","--dsn=host=h",
             "--location=x","--country=y","--info={\"k\": \"v\"}"],"on_success":{},"on_failure":{}}},
          {"spock":{"node":"n2","command":"CREATE SUBSCRIPTION","description":"b","sleep":5,"args":["--sub_name=s",
             "--provider_dsn=host=h password=p","--replication_sets=ARRAY['default', 'ddl_sql']","--synchronize_structure=false",
             "--synchronize_data=false","--forward_origins='{}'::text[]","--apply_delay='0'::interval",
             "--force_text_transfer=false","--enabled=false"]}},
          {"spock":{"node":"n1","command":"CREATE SLOT","description":"c","args":["--slot=s","--plugin=spock_output"]}},
          {"spock":{"node":"n2","command":"ENABLE SUBSCRIPTION","description":"e","args":["--sub_name=s","--immediate=true"]}},
          {"sql":{"node":"n1","command":"SQL","description":"f","args":["--sql=SELECT spock.sync_event()"],
             "ignore_errors":false}},
          {"sql":{"node":"n2","command":"SQL","description":"g",
             "args":["--sql=CALL spock.wait_for_sync_event(true, 'n1', '$n1.sync_event'::pg_lsn, 1200000)"]}}]}"#;
        let workflow = read_text(text).unwrap();
        assert_eq!(workflow.steps.len(), 6);
        assert_eq!(workflow.steps[1].sleep_s, 5);
        assert!(workflow.warnings.iter().all(|warning| warning.contains("has no effect")), "{:?}", workflow.warnings);
        let operation = operation(&workflow.steps[1].kind, "n2").unwrap().unwrap();
        assert!(operation.shown().contains("password=****"), "{}", operation.shown());
        assert!(operation.shown().contains(r#"'{"default","ddl_sql"}'::text[]"#), "{}", operation.shown());
    }

    #[test]
    fn what_is_wrong_is_said_before_anything_runs() {
        let sql = |args: &str| {
            with_step(&format!(r#"{{"sql":{{"node":"n1","command":"SQL","description":"d","args":[{args}]}}}}"#))
        };
        let cases = [
            (with_step("1"), "steps[0]: must be an object"),
            (with_step("{}"), "steps[0]: has none of the members"),
            (with_step(r#"{"sql":{"node":"n9","command":"SQL","description":"d"}}"#), "node \"n9\" is not in"),
            (
                with_step(r#"{"spock":{"node":"n1","command":"CREATE TABLE","description":"d"}}"#),
                "there is no command \"CREATE TABLE\"",
            ),
            (
                with_step(r#"{"spock":{"node":"n1","command":"CREATE NODE","description":"d","args":["--colour=1"]}}"#),
                "'--colour'",
            ),
            (
                with_step(r#"{"spock":{"node":"n1","command":"workflow run","description":"d","args":[]}}"#),
                "cannot be a step",
            ),
            (sql("7"), "w.json:1:111: steps[0].sql.args[0]: must be a string"),
            (sql(r#""--sql=select $n2.lsn""#), "$n2.lsn: no earlier step"),
            (
                with_step(
                    r#"{"spock":{"node":"n1","command":"node list","description":"d"}},
                       {"sql":{"node":"n1","command":"SQL","description":"d","args":["--sql=select $n1.node_name"]}}"#,
                ),
                "$n1.node_name: no earlier step",
            ),
            (sql(r#""--sql=select '${n9.dsn}'""#), "node \"n9\" is not in"),
            (
                with_step(
                    r#"{"spock":{"node":"n1","command":"CREATE NODE","description":"d","args":["--node-name=@n1","--dsn=@n9"]}}"#,
                ),
                "node \"n9\" is not in",
            ),
            (sql(r#""--nothing""#), "'--nothing'"),
            (r#"{"workflow_name":"w","steps":[]}"#.to_owned(), "member \"description\" is missing"),
        ];
        for (text, want) in cases {
            let failure = read_text(&text).err().unwrap_or_else(|| panic!("valid: {text}"));
            assert!(failure.message.contains(want), "{text}: {}", failure.message);
            assert_eq!(failure.exit, crate::exit::Exit::Config);
        }
    }
}
