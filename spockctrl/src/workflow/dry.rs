//! `--dry-run`: what a workflow would do, step by step; asks servers what is there and changes nothing.

use std::collections::BTreeMap;

use serde_json::json;

use super::vars::Results;
use super::{Kind, Step, Workflow, parse, run};
use crate::config::Config;
use crate::connect::Session;
use crate::exit::Result;
use crate::operation::Operation;
use crate::output::{self, Format, SCHEMA};
use crate::secret::mask;

/// Prints the steps with those indices.
pub fn print(config: &Config, workflow: &Workflow, chosen: &[usize], format: Format) -> Result<()> {
    let mut sessions = BTreeMap::new();
    let mut documents = Vec::new();
    for index in chosen {
        let step = &workflow.steps[*index];
        let (sql, state) = look(config, step, &mut sessions)?;
        match format {
            Format::Table => {
                let head = format!("[Step - {:02}] {} ({})", step.number, step.description, step.node);
                output::print(&mask(&format!("{head}\n    {sql}\n    {state}\n")))?;
            }
            Format::Json => documents.push(json!({"step": step.number, "node": step.node, "sql": sql, "state": state,
                "description": step.description})),
        }
    }
    if format == Format::Json {
        let document = json!({"schema": SCHEMA, "workflow": workflow.name, "outcome": "planned", "steps": documents});
        output::print(&format!("{}\n", output::masked(&document)))?;
    }
    Ok(())
}

/// What a step would run, and what is known of it.
fn look(config: &Config, step: &Step, sessions: &mut BTreeMap<String, Option<Session>>) -> Result<(String, String)> {
    if let Kind::Shell(command) = &step.kind {
        return Ok((command.clone(), "a shell command".to_owned()));
    }
    // References to results cannot be replaced: nothing has run.
    let complete = run::resolved(step, &Results::new(), config);
    let open = complete.is_err();
    let Some(operation) = complete.or_else(|_| parse::operation(&step.kind, &step.node))? else {
        return Ok((String::new(), String::new()));
    };
    let state = if open { "depends on earlier steps".to_owned() } else { state_of(config, step, &operation, sessions) };
    Ok((operation.shown(), state))
}

fn state_of(
    config: &Config,
    step: &Step,
    operation: &Operation,
    sessions: &mut BTreeMap<String, Option<Session>>,
) -> String {
    if operation.check.is_none() {
        return "would run".to_owned();
    }
    let session =
        sessions.entry(step.node.clone()).or_insert_with(|| config.node(&step.node).and_then(Session::open).ok());
    match session.as_mut().map(|session| operation.is_needed(session)) {
        None => "would run; the node cannot be reached now".to_owned(),
        Some(Ok(true)) => "would run".to_owned(),
        Some(Ok(false)) => "nothing to do now".to_owned(),
        // Without the extension there is nothing that could be there already.
        Some(Err(failure)) if failure.sqlstate.is_some() => "would run".to_owned(),
        Some(Err(failure)) => format!("would fail now: {}", failure.message),
    }
}
