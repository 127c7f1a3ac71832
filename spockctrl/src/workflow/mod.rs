//! Workflows: several steps on several nodes as one. [`parse`] reads a file or what [`builtin`] made from the configuration,
//! [`vars`] puts results of steps into later ones, [`run`] runs them and writes the [`journal`].
//!
//! # Invariants
//! 1. A file is valid as a whole before its first step runs.
//! 2. A step's values become bound values or quoted constants of SQL, never its text.
//! 3. What was done is in the journal before the next step begins; secrets are not.

pub mod builtin;
pub mod dry;
pub mod journal;
pub mod lex;
pub mod parse;
pub mod preflight;
pub mod run;
pub mod vars;

use crate::cli::Which;

/// A workflow that is valid.
#[derive(Debug)]
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// In order.
    pub steps: Vec<Step>,
    /// Runs after all steps.
    pub success: Option<Step>,
    /// Runs after a step that ended the run.
    pub failure: Option<Step>,
    /// What a resumed run must have been of.
    pub digest: String,
    /// Where it came from.
    pub origin: Origin,
    /// What is strange in its file.
    pub warnings: Vec<String>,
}

/// Where a workflow comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A file.
    File(std::path::PathBuf),
    /// Made from the configuration.
    Builtin(Which),
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// From 1.
    pub number: usize,
    /// How later steps refer to its result.
    pub name: Option<String>,
    /// Node of the configuration.
    pub node: String,
    /// Printed with its progress.
    pub description: String,
    /// What it does.
    pub kind: Kind,
    /// Seconds of pause afterwards.
    pub sleep_s: u64,
    /// A failure is only warned of.
    pub ignore_errors: bool,
    /// What follows a failure.
    pub on_failure: OnFailure,
    /// Further attempts.
    pub retries: u64,
    /// Seconds between attempts.
    pub retry_delay_s: u64,
    /// Seconds after which it is given up.
    pub timeout_s: Option<u64>,
    /// It runs only if this query's first value is true.
    pub when: Option<String>,
    /// It does not run if this query's first value is true.
    pub unless: Option<String>,
    /// What its first value must be.
    pub expect: Option<String>,
    /// What undoes it.
    pub undo: Vec<Self>,
}

impl Step {
    /// Is its result that of its node too, as in the C edition's program? Other steps leave the last one there.
    pub fn sets_node(&self) -> bool {
        match &self.kind {
            Kind::Sql(_) => true,
            Kind::Command(words) => words.starts_with(&["sub".to_owned(), "create".to_owned()]),
            Kind::Shell(_) => false,
        }
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A command of this program: its words, without the node.
    Command(Vec<String>),
    /// The command `sql` with its words.
    Sql(Vec<String>),
    /// A shell command.
    Shell(String),
}

/// What follows a failed step.
#[derive(Debug, Clone)]
pub enum OnFailure {
    /// The run ends.
    Stop,
    /// The next step.
    Continue,
    /// These steps, then the run ends.
    Steps(Vec<Step>),
}
