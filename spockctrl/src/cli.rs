//! The one definition of the command line: parser, help, completions, man page and the manual come from it.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::command::node::NodeCommand;
use crate::command::repset::RepsetCommand;
use crate::command::slot::SlotCommand;
use crate::command::sql::{Sql, SyncEvent, WaitForSyncEvent};
use crate::command::sub::SubCommand;
use crate::exit::Result;
use crate::operation::Operation;
use crate::output::Format;
use crate::workflow::builtin::Builtin;

/// Operate a cluster of nodes that replicate to each other
#[derive(Debug, Parser)]
#[command(name = "spockctrl", version, infer_long_args = true, max_term_width = 100)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub main: Main,
    /// Run the workflow in a file; the same as: workflow run FILE
    #[arg(long, value_name = "FILE")]
    pub workflow: Option<PathBuf>,
    /// How it is run.
    #[command(flatten)]
    pub run: RunOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Main options, in front of the command or behind it.
#[derive(Debug, Clone, Args)]
pub struct Main {
    /// Configuration of the cluster [short: -c, in front of the command]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Form of results [short: -f, in front of the command]
    #[arg(long, global = true, value_enum, default_value_t)]
    pub format: Format,
    /// How much is said: 0 errors, 1 warnings, 2 what is done, 3 statements [short: -v]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=3))]
    pub verbose: Option<u8>,
    /// A password that others can read in the configuration is an error
    #[arg(long, global = true)]
    pub strict: bool,
}

/// How a workflow is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RunOptions {
    /// Print what would be done, ask servers what is there, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Go on with an earlier run, without the steps that it has done
    #[arg(long, value_name = "RUN")]
    pub resume: Option<String>,
    /// Begin with this step
    #[arg(long, value_name = "STEP", conflicts_with = "resume")]
    pub from: Option<usize>,
    /// Only these steps: 1,3
    #[arg(long, value_name = "STEPS", value_delimiter = ',', conflicts_with_all = ["resume", "from"])]
    pub only: Vec<usize>,
    /// Leave what was done when a step fails, to resume later, instead of undoing it
    #[arg(long)]
    pub keep: bool,
    /// Run shell steps, which are refused otherwise
    #[arg(long)]
    pub allow_shell: bool,
    /// Write results to NODE.out in this directory too, as the C edition's program does in the working directory
    #[arg(long, value_name = "DIR")]
    pub out_files: Option<PathBuf>,
    /// Progress on stdout: plain lines, JSON events, or none; auto is plain, or none with --format json
    #[arg(long, value_enum, default_value_t)]
    pub progress: Progress,
    /// Where journals of runs are [default: $XDG_STATE_HOME/spockctrl or ~/.local/state/spockctrl]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Progress {
    /// Plain, or none where stdout is for a document.
    #[default]
    Auto,
    /// A line for each step.
    Plain,
    /// A JSON event for each step.
    Json,
    /// Nothing.
    None,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Nodes and their interfaces
    #[command(subcommand)]
    Node(NodeCommand),
    /// Replication sets and what is in them
    #[command(subcommand)]
    Repset(RepsetCommand),
    /// Subscriptions
    #[command(subcommand)]
    Sub(SubCommand),
    /// Replication slots
    #[command(subcommand)]
    Slot(SlotCommand),
    /// Run statements on a node
    Sql(Sql),
    /// Write a marker into a node's stream and print its position
    SyncEvent(SyncEvent),
    /// Wait until a node has applied all that came before a marker
    WaitForSyncEvent(WaitForSyncEvent),
    /// Run or write several steps as one
    #[command(subcommand)]
    Workflow(WorkflowCommand),
    /// The configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print this program's man page
    Man,
    /// Print this program's version
    Version,
}

/// `workflow`.
#[derive(Debug, Subcommand)]
pub enum WorkflowCommand {
    /// Run a workflow
    Run(Box<WorkflowRun>),
    /// Print a built-in workflow's steps as a workflow file
    Render(WorkflowRender),
}

/// `workflow run`.
#[derive(Debug, Args)]
pub struct WorkflowRun {
    /// What is run.
    #[command(flatten)]
    pub which: Which,
    /// How.
    #[command(flatten)]
    pub options: RunOptions,
}

/// `workflow render`.
#[derive(Debug, Args)]
pub struct WorkflowRender {
    /// What is written.
    #[command(flatten)]
    pub which: Which,
}

/// A workflow and its nodes.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// add-node, remove-node, cross-wire, uncross-wire, check, or a file
    #[arg(value_name = "WORKFLOW")]
    pub name: Option<String>,
    /// The node that is added (add-node)
    #[arg(long, value_name = "NODE")]
    pub new: Option<String>,
    /// The node whose data is copied (add-node, cross-wire)
    #[arg(long, value_name = "NODE")]
    pub source: Option<String>,
    /// The node that is removed (remove-node)
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// The nodes of the cluster: n1,n2; by default all of the configuration
    #[arg(long, value_name = "NODES", value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// The node is lost: clear it away on the others without asking it (remove-node)
    #[arg(long)]
    pub force: bool,
    /// Give up each wait after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u32,
}

impl Which {
    /// The built-in workflow of that name, if it is one.
    pub fn builtin(&self) -> Option<Builtin> {
        Builtin::named(self.name.as_deref()?)
    }
}

/// `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration file
    Check {
        /// Connect to each node too
        #[arg(long)]
        connect: bool,
    },
}

impl Command {
    /// The operation, for a command that is one on a node.
    pub fn operation(&self) -> Option<Result<Operation>> {
        match self {
            Self::Node(command) => Some(command.operation()),
            Self::Repset(command) => Some(command.operation()),
            Self::Sub(command) => Some(command.operation()),
            Self::Slot(command) => Some(command.operation()),
            Self::Sql(args) => Some(args.operation()),
            Self::SyncEvent(args) => Some(args.operation()),
            Self::WaitForSyncEvent(args) => Some(args.operation()),
            Self::Workflow(_) | Self::Config(_) | Self::Completions { .. } | Self::Man | Self::Version => None,
        }
    }
}

/// The definition as a value.
pub fn definition() -> clap::Command {
    Cli::command()
}

impl Which {
    /// A file that is run.
    pub fn file(path: &std::path::Path) -> Self {
        Self {
            name: Some(path.display().to_string()),
            new: None,
            source: None,
            node: None,
            nodes: Vec::new(),
            force: false,
            timeout: 0,
        }
    }
}
