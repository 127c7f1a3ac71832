//! The test suites: how each is run and counted.

use std::path::Path;

use spock_mesh::story::{PREFIX_VARIABLE, SERVER_VARIABLE};

use crate::args::ServerArgs;
use crate::child::Child;
use crate::command::build;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::extension::{self, cargo};
use crate::major::{Kind, Major};
use crate::package_suite;
use crate::server_suite;
use crate::system::{self, Purpose};
use crate::tally::{Reader, Tally};
use crate::target::Target;

/// A suite of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// clippy of the extension with the server's headers: it knows rules about unsafe code that the compiler does not.
    Lint,
    /// What needs no server: the default members of the workspace.
    Unit,
    /// SQL in, expected output out.
    Regress,
    /// Scenarios on clusters of real servers.
    Stories,
    /// The command blocks of the user manual.
    Manual,
    /// PostgreSQL's own regression, isolation, subscription, recovery and decoding suites on the built server.
    Server,
    /// Packages, installed in clean roots.
    Package,
}

impl Suite {
    /// What `test` runs without `--suite`.
    pub const DEFAULT: [Self; 3] = [Self::Unit, Self::Regress, Self::Stories];
}

/// Tests of the unit suite. They do not depend on a major.
pub fn unit(cx: &Cx) -> Result<Tally> {
    run(cx, "unit", &cx.root.join("target/pg/log/unit.log"), |child| child.args(["test", "--no-fail-fast"]))
}

/// A suite that needs a server. `filter`: only stories, and chapters, whose name contains one of these; empty: all.
pub fn on_server(cx: &Cx, suite: Suite, major: Major, args: &ServerArgs, filter: &[String]) -> Result<Tally> {
    match suite {
        Suite::Lint => lint(cx, major, args),
        Suite::Unit => unit(cx),
        Suite::Server => server_suite::run(cx, major, args),
        Suite::Package => package_suite::run(cx, major, args, false),
        Suite::Regress => on_prefix(cx, "regress", major, args, filter, "regress"),
        Suite::Stories => on_prefix(cx, "stories", major, args, filter, "stories"),
        Suite::Manual => on_prefix(cx, "manual", major, args, filter, "manual"),
    }
}

/// One test: clippy has nothing to say. It needs the server's headers, not a server that runs.
fn lint(cx: &Cx, major: Major, args: &ServerArgs) -> Result<Tally> {
    system::require(cx, &[Purpose::Lint])?;
    let target = build::server_of(cx, major, args)?;
    let label = format!("{}: lint", target.label());
    if cx.flags.plan {
        cx.say.data(&format!("run  {label}"));
        return Ok(Tally::default());
    }
    let _lock = cx.lock(&target.dirs)?;
    let progress = cx.say.begin(&label, "");
    let child = extension::clippy(cx, &target, &progress)?;
    match child.run(&progress) {
        Ok(()) => progress.done(),
        Err(Failure::Interrupted) => return Err(Failure::Interrupted),
        Err(failure) => {
            cx.say.failed(&label, "clippy", &format!(": {failure}"));
            return Ok(Tally { failed: 1, ..Tally::default() });
        }
    }
    let tally = Tally { passed: 1, ..Tally::default() };
    cx.say.note("Counted", &format!("{label}: {tally}"));
    Ok(tally)
}

fn on_prefix(cx: &Cx, name: &str, major: Major, args: &ServerArgs, filter: &[String], binary: &str) -> Result<Tally> {
    let target = build::prefix_with_extension(cx, major, args)?;
    let label = format!("{}: {name}", target.label());
    let filter = if binary == "regress" { &[] } else { filter };
    let log = target.dirs.log(name);
    run(cx, &label, &log, |child| {
        server_environment(child, &target)
            .args(["test", "--no-fail-fast", "-p", "spock-stories", "--test", binary, "--"])
            .args(filter)
    })
}

fn server_environment(child: Child, target: &Target) -> Child {
    let kind = match target.kind {
        Kind::Patched => "patched",
        Kind::Stock => "stock",
    };
    child.env(PREFIX_VARIABLE, target.prefix()).env(SERVER_VARIABLE, kind)
}

fn run(cx: &Cx, label: &str, log: &Path, with: impl FnOnce(Child) -> Child) -> Result<Tally> {
    if cx.flags.plan {
        cx.say.data(&format!("run  {label}"));
        return Ok(Tally::default());
    }
    counted(cx, label, &with(cargo(cx, &cx.root, log)))
}

/// Runs a test program and counts; a program that fails without a failed test is an error.
pub fn counted(cx: &Cx, label: &str, child: &Child) -> Result<Tally> {
    let progress = cx.say.begin(label, "");
    let mut reader = Reader::default();
    let ended = child.run_with(&progress, |line| reader.line(line))?;
    let tally = reader.tally();
    if !ended.success && tally.failed == 0 {
        ended.must_succeed(child)?;
        return Err(Failure::failed(format!("{label}: the program failed"), ""));
    }
    progress.done();
    for skipped in reader.marked() {
        cx.say.note("Skipped", skipped);
    }
    for failure in reader.failures() {
        cx.say.failed(label, failure, &format!(", see {}", child.log().display()));
    }
    for line in reader.told() {
        cx.say.stderr(line);
    }
    cx.say.note("Counted", &format!("{label}: {tally}"));
    Ok(tally)
}
