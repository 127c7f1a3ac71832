//! `spockctrl`: the operator's command line for a cluster of nodes.
//!
//! In reading order: [`argv`] and [`cli`] are what was typed, [`command`] makes an [`operation`] of it, [`connect`] runs that on a
//! node of [`config`], [`output`] prints what came of it; [`workflow`] does many of them as one.
//!
//! **Invariants.** stdout is data, stderr everything else. Every failure leaves through [`exit::Failure`], with its exit code and,
//! where there is one, a way out. No secret is printed ([`secret`]).

// A failure is made once and ends the run: its size does not matter, its words do.
#![allow(clippy::result_large_err)]

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

mod argv;
mod cli;
mod command;
mod config;
mod connect;
mod conninfo;
mod exit;
mod json;
mod log;
mod operation;
mod output;
mod secret;
mod value;
mod workflow;

use cli::{Cli, Command, ConfigCommand, Main, RunOptions, Which, WorkflowCommand};
use config::Config;
use connect::Session;
use exit::{Exit, Failure, Result};
use log::Level;
use operation::{Operation, Outcome};
use output::Format;
use secret::mask;

fn main() -> ExitCode {
    let words: std::result::Result<Vec<String>, _> = std::env::args_os().map(OsString::into_string).collect();
    let Ok(words) = words else {
        return report(Format::Table, &Failure::usage("an argument is not UTF-8", "")).into();
    };
    let (words, warnings) = argv::normal(&cli::definition(), words);
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            let help = error.exit_code() == 0;
            if help {
                // Nobody reads where it goes: the exit code says the rest.
                let _closed = error.print();
                return Exit::Done.into();
            }
            eprint!("{}", mask(&error.render().to_string()));
            return Exit::Usage.into();
        }
    };
    let format = cli.main.format;
    match run(cli, &warnings) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => report(format, &failure).into(),
    }
}

fn report(format: Format, failure: &Failure) -> Exit {
    // Again: secrets may have become known since its words were made.
    let failure = &Failure { message: mask(&failure.message), hint: mask(&failure.hint), ..failure.clone() };
    if format == Format::Json
        && let Err(closed) = output::failure(failure)
    {
        log::say(Level::Error, &closed.message);
    }
    log::say(Level::Error, &failure.message);
    if !failure.hint.is_empty() {
        eprintln!("hint: {}", failure.hint);
    }
    failure.exit
}

fn run(cli: Cli, warnings: &[String]) -> Result<()> {
    let Cli { main, workflow, run, command } = cli;
    if let Some(path) = workflow {
        if command.is_some() {
            return Err(Failure::usage("--workflow and a command are two things", "give one of them"));
        }
        let config = configured(&main, warnings)?;
        return run_workflow(&config, &Which::file(&path), &run, main.format);
    }
    refuse_stray_options(&run)?;
    let Some(command) = command else {
        return output::print(&cli::definition().render_help().to_string());
    };
    match &command {
        Command::Version => output::print(&format!("spockctrl {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut cli::definition(), "spockctrl", &mut text);
            output::print(&String::from_utf8_lossy(&text))
        }
        Command::Man => output::print(&man_page()?),
        Command::Config(ConfigCommand::Check { connect }) => {
            check_config(&configured(&main, warnings)?, *connect, main.format)
        }
        Command::Workflow(WorkflowCommand::Run(args)) => {
            run_workflow(&configured(&main, warnings)?, &args.which, &args.options, main.format)
        }
        Command::Workflow(WorkflowCommand::Render(args)) => {
            let config = configured(&main, warnings)?;
            let Some(kind) = args.which.builtin() else {
                return Err(Failure::usage(
                    "render writes built-in workflows",
                    "add-node, remove-node, cross-wire, uncross-wire, check",
                ));
            };
            output::print(&(kind.render(&args.which, &config)? + "\n"))
        }
        _ => match command.operation() {
            Some(operation) => {
                let operation = operation?;
                let config = configured(&main, warnings)?;
                let done = operate(&config, operation, main.format);
                let ignore = matches!(&command, Command::Sql(args) if args.ignore_errors);
                match done {
                    Err(failure) if ignore && matches!(failure.exit, Exit::Failed | Exit::TimedOut) => {
                        log::warn(&failure.message);
                        Ok(())
                    }
                    done => done,
                }
            }
            None => Err(Failure::usage("this command does nothing", "see --help")),
        },
    }
}

/// In front of a command the options of runs are for `--workflow`; elsewhere they would have no effect.
fn refuse_stray_options(run: &RunOptions) -> Result<()> {
    if *run == RunOptions::default() {
        return Ok(());
    }
    let hint = "write them behind: spockctrl workflow run WORKFLOW --dry-run; other commands have no such options";
    Err(Failure::usage("options of a workflow's run stand in front of the command", hint))
}

/// Reads the configuration and chooses how much is said.
fn configured(main: &Main, warnings: &[String]) -> Result<Config> {
    let config = Config::find(main.config.as_deref(), main.strict)?;
    let levels = [Level::Error, Level::Warning, Level::Info, Level::Debug];
    let given = main.verbose.and_then(|level| levels.get(usize::from(level)).copied());
    let level = given.or(config.log_level).unwrap_or(Level::Warning);
    log::choose(level, config.log_destination.clone());
    log::info(&format!("configuration {}", config.path.display()));
    for warning in warnings.iter().chain(&config.warnings) {
        log::warn(warning);
    }
    connect::watch_signals()?;
    Ok(config)
}

fn run_workflow(config: &Config, which: &Which, options: &RunOptions, format: Format) -> Result<()> {
    let (workflow, earlier) = workflow::run::load(config, which, options)?;
    workflow::run::run(config, &workflow, options, format, earlier)
}

/// Runs one operation on its node.
fn operate(config: &Config, mut operation: Operation, format: Format) -> Result<()> {
    let named = operation.named.as_ref().filter(|name| config.node(name).is_ok());
    let node = match (&operation.node, named, config.nodes.as_slice()) {
        (Some(node), ..) => config.node(node)?,
        (None, Some(name), _) => config.node(name)?,
        (None, None, [only]) => only,
        (None, None, nodes) => {
            let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            return Err(Failure::usage("on which node?", format!("name one with --node: {}", names.join(", "))));
        }
    };
    operation.name_dsns(config)?;
    let mut session = Session::open(node)?;
    if operation.changes() {
        workflow::preflight::lock(&mut session)?;
    }
    let outcome = operation.run(&mut session)?;
    match &outcome {
        Outcome::Changed(_) => log::info(&format!("{}: done", operation.what)),
        Outcome::Unchanged => log::info(&format!("{}: nothing to do", operation.what)),
        Outcome::Shown(_) => {}
    }
    output::outcome(format, &node.name, &outcome)
}

fn check_config(config: &Config, connects: bool, format: Format) -> Result<()> {
    let mut rows = connect::Rows { columns: vec!["node".into(), "dsn".into(), "state".into()], ..Default::default() };
    let mut worst = None;
    for node in &config.nodes {
        let mut state = "valid".to_owned();
        if connects {
            match Session::open(node) {
                Ok(_) => state = "reachable".to_owned(),
                Err(failure) => {
                    state.clone_from(&failure.message);
                    worst = Some(failure);
                }
            }
        }
        rows.rows.push(vec![node.name.clone().into(), node.peer_dsn().into(), state.into()]);
    }
    if let Some(failure) = worst {
        return Err(failure);
    }
    output::outcome(format, "", &Outcome::Shown(rows))
}

/// The man page: each command with its options.
fn man_page() -> Result<String> {
    let mut page = Vec::new();
    let mut definition = cli::definition();
    definition.build();
    let rendered = clap_mangen::Man::new(definition.clone()).section("1").render(&mut page);
    let rendered = rendered.and_then(|()| sections(&definition, "spockctrl", &mut page));
    rendered.map_err(|error| Failure::new(Exit::Failed, error.to_string(), ""))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// A section for each command that does something, with its options.
fn sections(command: &clap::Command, path: &str, page: &mut Vec<u8>) -> std::io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let path = format!("{path} {}", sub.get_name());
        if sub.has_subcommands() {
            sections(sub, &path, page)?;
            continue;
        }
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(page, ".SH \"{}\"\n{about}", path.to_uppercase())?;
        clap_mangen::Man::new(sub.clone()).render_options_section(page)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        cli::definition().debug_assert();
    }

    #[test]
    fn options_of_runs_are_refused_where_they_have_no_effect() {
        for options in ["--dry-run", "--keep", "--allow-shell", "--only 1", "--from 2", "--resume r", "--state-dir d"] {
            for command in ["version", "node drop n1", "workflow run check", ""] {
                let line = format!("spockctrl {options} {command}");
                let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
                let failure = run(cli, &[]).unwrap_err();
                assert_eq!(failure.exit, Exit::Usage, "{line}");
                assert!(failure.message.contains("in front of the command"), "{line}: {}", failure.message);
            }
        }
        let cli = Cli::try_parse_from(["spockctrl", "version"]).unwrap();
        assert!(refuse_stray_options(&cli.run).is_ok());
    }

    #[test]
    fn the_man_page_names_every_command() {
        let page = man_page().unwrap();
        for command in cli::definition().get_subcommands() {
            assert!(page.contains(&command.get_name().replace('-', "\\-")), "{}", command.get_name());
        }
        assert!(page.contains("SPOCKCTRL SUB CREATE"));
    }
}
