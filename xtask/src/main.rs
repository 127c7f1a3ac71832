//! The front door: from a PostgreSQL major to an installed, tested server with the extension.
//!
//! In reading order: [`args`] is what was typed, [`target`] what will be done, [`step`] decides which steps run, [`server`]
//! and [`extension`] are the two pipelines. Under them [`obtain`], [`archive`], [`patchset`], [`symbols`] do the work, and
//! [`child`], [`files`], [`stamp`], [`digest`] keep it whole. [`say`] speaks, [`exit`] ends.
//!
//! **Invariants.** stdout is data, stderr everything else. Every failure leaves through [`exit::Failure`], with an exit code
//! and, where there is one, a way out.

// A failure is made once and ends the run: its size does not matter, its words do.
#![allow(clippy::result_large_err)]

use std::process::ExitCode;

use clap::Parser;

mod archive;
mod args;
mod child;
mod command;
mod cx;
mod digest;
mod elf;
mod exit;
mod extension;
mod files;
mod major;
mod manual;
mod matrix;
mod obtain;
mod package;
mod package_suite;
mod patchset;
mod pins;
mod say;
mod server;
mod server_suite;
mod show;
mod stamp;
mod step;
mod suites;
mod symbols;
mod system;
mod tally;
mod target;
mod tidy;
mod upgrade_script;
mod workflow;

use args::{Cli, Command};
use cx::Cx;
use exit::{Exit, Failure, Result};
use say::{Event, Say, Voice};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let voice = Voice::choose(cli.common.json);
    let say = Say::new(voice, cli.common.verbose);
    match run(cli, say) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            report(&Say::new(voice, false), &failure);
            failure.exit().into()
        }
    }
}

fn run(cli: Cli, say: Say) -> Result<()> {
    child::watch_for_interrupts()?;
    let cx = Cx::new(cli.common, say)?;
    match cli.command {
        Command::Build(args) => args.run(&cx),
        Command::Fetch(args) => args.run(&cx),
        Command::Update(args) => args.run(&cx),
        Command::Patch(args) => args.run(&cx),
        Command::Server(args) => args.run(&cx),
        Command::Extension(args) => args.run(&cx),
        Command::Demo(args) => args.run(&cx),
        Command::Bench(args) => args.run(&cx),
        Command::Chaos(args) => args.run(&cx),
        Command::Test(args) => args.run(&cx),
        Command::Package(args) => args.run(&cx),

        Command::Sim(args) => args.run(&cx),
        Command::Manual(args) => args.run(&cx),
        Command::Tidy(args) => args.run(&cx),
        Command::Ci(args) => args.run(&cx),
        Command::Doctor(args) => args.run(&cx),
    }
}

fn report(say: &Say, failure: &Failure) {
    let (message, hint) = (failure.to_string(), failure.hint());
    say.event(Event::Failed { message: &message, hint: &hint, exit_code: failure.exit() as u8 });
    say.stderr(&format!("error: {message}"));
    if !hint.is_empty() {
        say.stderr(&format!("hint: {hint}"));
    }
}
