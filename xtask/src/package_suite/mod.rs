//! Contract tests of the packages: each is installed in a clean root, compared with its manifest, used, upgraded and removed.
//!
//! [`root`] makes clean roots, [`manifest`] describes what is installed, [`needs`] what an rpm asks for, [`cases`] are the tests of
//! each format, [`beside`] those with packages of others, [`removal`] those of what a removal stops and keeps, [`papers`] those of SBOMs, sums
//! and symbols.
//!
//! **Invariants.** Roots are private: nothing is installed on this machine, and servers die with the namespace that they run
//! in. What cannot run here is said and counts as skipped.

use std::path::PathBuf;

use nix::unistd::geteuid;

use crate::args::ServerArgs;
use crate::command::package;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::files;
use crate::major::{Kind, Major};
use crate::matrix::Machine;
use crate::package::layout::{Family, Layout};
use crate::package::plan::{Format, Wish};
use crate::package::publish::Artefact;
use crate::system::{self, Purpose};
use crate::tally::Tally;

mod beside;
mod cases;
mod manifest;
mod needs;
mod papers;
mod removal;
mod root;

use cases::Suite;

/// Counts what the tests say.
pub struct Checks<'a> {
    cx: &'a Cx,
    label: String,
    tally: Tally,
}

impl Checks<'_> {
    /// Runs one test; a failure is said and the others go on, an interrupt ends all.
    fn check(&mut self, name: &str, test: impl FnOnce() -> Result<()>) -> Result<bool> {
        let title = format!("{}: {name}", self.label);
        let progress = self.cx.say.begin(&title, "");
        match test() {
            Ok(()) => {
                progress.done();
                self.tally.passed += 1;
                Ok(true)
            }
            Err(Failure::Interrupted) => Err(Failure::Interrupted),
            Err(failure) => {
                drop(progress);
                self.cx.say.failed(&self.label, name, &format!(": {failure}"));
                self.tally.failed += 1;
                Ok(false)
            }
        }
    }

    /// Says why a test cannot run.
    fn skip(&mut self, name: &str, why: &str) {
        self.cx.say.note("Skipped", &format!("{}: {name}: {why}", self.label));
        self.tally.skipped += 1;
    }
}

/// Makes the packages of a major and tests them. `accept` writes the manifests first.
pub fn run(cx: &Cx, major: Major, args: &ServerArgs, accept: bool) -> Result<Tally> {
    let kind = args.server.unwrap_or(Kind::Patched);
    let formats = match kind {
        Kind::Patched => vec![Format::Deb, Format::Rpm, Format::Tar, Format::Oci],
        Kind::Stock => vec![Format::Deb, Format::Rpm, Format::Tar],
    };
    let label = format!("{major} {kind}: package");
    let mut checks = Checks { cx, label, tally: Tally::default() };
    let machine = Machine::this();
    if cx.flags.plan {
        package::of_major(cx, major, args, &wish(cx, major, kind, &formats, 1))?;
        cx.say.data(&format!("run  {}: install, compare, use, upgrade, remove", checks.label));
        return Ok(checks.tally);
    }
    if !geteuid().is_root() {
        formats.iter().for_each(|format| checks.skip(&format.to_string(), "only root can make a clean root"));
        return Ok(checks.tally);
    }
    system::require(cx, &[Purpose::PackageTests])?;
    let suite = (kind == Kind::Stock).then(|| cx.pins.of(major).map(|pin| pin.debian_suite.clone())).transpose()?;
    let release = match root::release_for(&machine, suite.flatten().as_deref()) {
        Ok(release) => root::cannot_be_had(cx, release)?.map_or(Ok(release), Err),
        Err(why) => Err(why),
    };
    let release = match release {
        Ok(release) => release,
        Err(why) => {
            formats.iter().for_each(|format| checks.skip(&format.to_string(), &why));
            return Ok(checks.tally);
        }
    };
    // Names change with versions: what an earlier run left would be taken for a part of this one.
    [1, 2].iter().try_for_each(|revision| files::remove_if_there(&packages_dir(cx, major, kind, *revision)))?;
    let artefacts = package::of_major(cx, major, args, &wish(cx, major, kind, &formats, 1))?;
    let newer = package::of_major(cx, major, args, &wish(cx, major, kind, &[Format::Deb, Format::Rpm], 2))?;
    let suite = Suite { cx, major, kind, machine, release, artefacts, newer, accept };
    for format in formats {
        suite.papers(format, &mut checks)?;
        suite.format(format, &mut checks)?;
    }
    suite.sums(&mut checks)?;
    cx.say.note("Counted", &format!("{}: {}", checks.label, checks.tally));
    Ok(checks.tally)
}

fn wish(cx: &Cx, major: Major, kind: Kind, formats: &[Format], revision: u32) -> Wish {
    Wish { formats: formats.to_vec(), out: packages_dir(cx, major, kind, revision), revision }
}

/// Where the packages of one revision are.
fn packages_dir(cx: &Cx, major: Major, kind: Kind, revision: u32) -> PathBuf {
    cx.dirs(major, kind).base.join("package-suite").join(revision.to_string())
}

impl Suite<'_> {
    /// The artefacts of a format, debug symbols among them.
    fn of(&self, format: Format) -> Vec<&Artefact> {
        self.artefacts.iter().filter(|artefact| artefact.format == format).collect()
    }

    /// The same, of the later revision.
    fn newer_of(&self, format: Format) -> Vec<&Artefact> {
        self.newer.iter().filter(|artefact| artefact.format == format).collect()
    }

    /// Where a format puts the server's programs.
    fn bin(&self, family: Family) -> String {
        match self.kind {
            Kind::Patched => Layout::own(self.major).bin,
            Kind::Stock => Layout::of_distribution(self.major, family).bin,
        }
    }

    /// A scratch directory of this suite.
    fn scratch(&self, name: &str) -> PathBuf {
        self.cx.dirs(self.major, self.kind).base.join("package-suite").join(name)
    }
}
