//! `ci`: the cells of `ci/matrix.toml`, counted. The last line on stdout is `N passed, N failed, N skipped`; before it stands a
//! line `failed: CELL SUITE TEST` for each test that failed.
//!
//! **Invariant:** a cell that cannot run is skipped, with its reason in its result line; it is never a passed one.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::command::package;

use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::files;
use crate::matrix::{Cell, Machine, Matrix};
use crate::package::publish::{self, Key};
use crate::package::verify;
use crate::say::in_words;
use crate::suites::{self, Suite};
use crate::system::{self, Purpose};
use crate::tally::Tally;
use crate::{tidy, workflow};

/// Run what CI runs, from ci/matrix.toml.
#[derive(Debug, clap::Args)]
pub struct CiArgs {
    /// Run this cell only, without the checks that run once
    #[arg(long, value_name = "NAME")]
    cell: Option<String>,
    /// Run only what does not depend on a server: tidy and the unit suite
    #[arg(long, conflicts_with = "cell")]
    once: bool,
    /// Run these suites in the cells of this machine, or in the one of --cell, instead of those that they list
    #[arg(long, value_name = "SUITES", value_delimiter = ',', conflicts_with = "once")]
    suite: Vec<Suite>,
    /// Print the cells
    #[arg(long, conflicts_with_all = ["cell", "once", "suite"])]
    list: bool,
    /// Write the GitHub Actions files
    #[arg(long, conflicts_with_all = ["cell", "once", "suite", "list"])]
    workflow: bool,
    /// Make and verify the packages that this cell releases
    #[arg(long, value_name = "NAME", conflicts_with_all = ["cell", "once", "suite", "list", "workflow"])]
    packages: Option<String>,
    /// With --packages: where they go
    #[arg(long, value_name = "DIR", default_value = "dist", requires = "packages")]
    out: PathBuf,
    /// Put the manifests of all cells below DIR together, write sums, sign them
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cell", "once", "suite", "list", "workflow", "packages"])]
    publish: Option<PathBuf>,
    /// With --publish: minisign:SECRET_KEY_FILE (without a password) or gpg:KEY_ID
    #[arg(long, value_name = "KEY", requires = "publish")]
    sign: Option<Key>,
}

/// How a cell, or the checks that run once, ended.
enum Outcome {
    Ran(Tally),
    Skipped(String),
    Broken(String),
}

impl CiArgs {
    /// Runs the cells that were asked for; fails when one of them did.
    pub fn run(self, cx: &Cx) -> Result<()> {
        let matrix = Matrix::load(&cx.root)?;
        let machine = Machine::this();
        if self.list {
            matrix.cells.iter().for_each(|cell| cx.say.data(&listed(cell, &machine)));
            return Ok(());
        }
        if self.workflow {
            for (path, text) in workflow::files(&matrix) {
                files::write_whole(&cx.root.join(path), text.as_bytes())?;
                cx.say.result("workflow", path);
            }
            return Ok(());
        }
        if let Some(name) = &self.packages {
            return release(cx, matrix.named(name)?, &self.out);
        }
        if let Some(dir) = &self.publish {
            self.sign.as_ref().map_or(Ok(()), |key| publish::can_sign(cx, key))?;
            let dir = std::path::absolute(dir).map_err(Failure::io("find", dir))?;
            complete(&matrix, &dir)?;
            return publish::merge(cx, &dir, self.sign.as_ref());
        }
        let mut cells: Vec<Cell> = match &self.cell {
            Some(name) => vec![matrix.named(name)?.clone()],
            None if self.once => Vec::new(),
            None => matrix.cells.iter().filter(|cell| cell.fits(&machine)).cloned().collect(),
        };
        if !self.suite.is_empty() {
            cells.iter_mut().for_each(|cell| cell.suites.clone_from(&self.suite));
        }
        system::require(cx, &needs(&cells))?;
        let mut total = Total::default();
        if self.cell.is_none() {
            if self.suite.is_empty() {
                total.add(cx, "tidy and unit tests", Instant::now(), once)?;
            }
            if cells.is_empty() && !self.once {
                let what = format!("ci/matrix.toml has no cell for {} on {}", machine.distribution, machine.arch);
                return Err(Failure::usage(what, "add one, or name one with --cell"));
            }
        }
        for cell in &cells {
            total.add(cx, &cell.name, Instant::now(), |cx| run_cell(cx, &matrix, cell))?;
        }
        total.end(cx)
    }
}

/// What the release workflow runs for a cell: packages, then the same twice over and compared.
fn release(cx: &Cx, cell: &Cell, out: &Path) -> Result<()> {
    let args = cell.server_args();
    if let Err(failure) = package::make_packages(cx, cell.major, &args, &cell.packages, out) {
        let Some(why) = lack(cell, &failure) else { return Err(failure) };
        cx.say.result("cell", &format!("{:<22} skipped: {why}", cell.name));
        // The manifest of all cells says so too.
        return publish::skipped(&std::path::absolute(out).map_err(Failure::io("find", out))?, &cell.name, &why);
    }
    verify::of_major(cx, cell.major, &args, &cell.packages, false).and_then(|bad| match bad {
        0 => Ok(()),
        bad => Err(Failure::failed(format!("{bad} files differ between two builds"), "the lines above say where")),
    })
}

/// Fails unless each cell that releases something has left packages below `dir`, or was skipped and may be.
fn complete(matrix: &Matrix, dir: &Path) -> Result<()> {
    for cell in matrix.cells.iter().filter(|cell| !cell.packages.is_empty()) {
        let path = dir.join(&cell.name).join(publish::MANIFEST);
        let lacking = |why: &str| {
            Failure::failed(
                format!("cell {} made no packages: {why}", cell.name),
                format!("cargo xtask ci --packages {} makes them", cell.name),
            )
        };
        let unread = |e: &dyn fmt::Display| lacking(&format!("{}: {e}", path.display()));
        let bytes = fs::read(&path).map_err(|e| unread(&e))?;
        let manifest: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| unread(&e))?;
        let made = manifest["artefacts"].as_array().is_some_and(|made| !made.is_empty());
        let may_be_skipped = cell.may_lack_source && manifest["skipped"].is_object();
        if !made && !may_be_skipped {
            return Err(lacking(manifest["skipped"]["why"].as_str().unwrap_or("its manifest lists nothing")));
        }
    }
    Ok(())
}

/// Why a cell has no source, if that is what failed and the cell may lack one.
fn lack(cell: &Cell, failure: &Failure) -> Option<String> {
    match failure {
        Failure::NotObtainable { tried, .. } if cell.may_lack_source => {
            Some(format!("source not obtainable ({})", tried.join("; ")))
        }
        Failure::Unpinned { file, .. } if cell.may_lack_source => Some(format!("no digest pinned for {file}")),
        _ => None,
    }
}

fn needs(cells: &[Cell]) -> Vec<Purpose> {
    let mut purposes = vec![Purpose::Extension];
    let prebuilt = |cell: &Cell| cell.source.as_deref() == Some("prebuilt");
    if cells.iter().any(&prebuilt) {
        purposes.push(Purpose::Prebuilt);
    }
    if cells.iter().any(|cell| cell.suites.contains(&Suite::Package)) {
        purposes.extend([Purpose::Packages, Purpose::DebPackages, Purpose::PackageTests]);
    }
    if cells.iter().any(|cell| cell.suites.contains(&Suite::Lint)) {
        purposes.push(Purpose::Lint);
    }
    if !cells.iter().all(prebuilt) {
        purposes.extend([Purpose::Server, Purpose::ServerTests]);
    }
    purposes
}

fn once(cx: &Cx) -> Result<Outcome> {
    let found = tidy::findings(&cx.root)?;
    for one in &found {
        cx.say.failed("tidy", &one.to_string(), "");
    }
    let mut tally = suites::unit(cx)?;
    // The unit suite holds the same rules as a test; here they count once more, by name, as a check of their own.
    tally += Tally { passed: u32::from(found.is_empty()), failed: u32::from(!found.is_empty()), skipped: 0 };
    Ok(Outcome::Ran(tally))
}

fn run_cell(cx: &Cx, matrix: &Matrix, cell: &Cell) -> Result<Outcome> {
    let args = cell.server_args();
    let mut tally = Tally::default();
    for suite in &cell.suites {
        let words = if *suite == suites::Suite::Stories { matrix.stories_of(cell) } else { Vec::new() };
        match suites::on_server(cx, *suite, cell.major, &args, &words) {
            Ok(one) if !words.is_empty() && one == Tally::default() && !cx.flags.plan => {
                return Err(Failure::failed(format!("no story is called like {}", words.join(" or ")), ""));
            }
            Ok(one) => tally += one,
            Err(failure) => return lack(cell, &failure).map(Outcome::Skipped).ok_or(failure),
        }
    }
    Ok(Outcome::Ran(tally))
}

#[derive(Default)]
struct Total {
    tests: Tally,
    cells: Tally,
    lines: Vec<String>,
    /// `failed: CELL SUITE TEST`.
    failures: Vec<String>,
}

impl Total {
    /// Runs one part; anything but an interrupt is an outcome, so that the other cells still run.
    fn add(&mut self, cx: &Cx, name: &str, began: Instant, work: impl FnOnce(&Cx) -> Result<Outcome>) -> Result<()> {
        let outcome = match work(cx) {
            Ok(outcome) => outcome,
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(failure) => {
                cx.say.stderr(&format!("error: {failure}"));
                Outcome::Broken(failure.to_string().lines().next().unwrap_or_default().to_owned())
            }
        };
        match &outcome {
            Outcome::Ran(tally) => {
                self.tests += *tally;
                let bad = u32::from(tally.failed > 0);
                self.cells += Tally { passed: 1 - bad, failed: bad, skipped: 0 };
            }
            Outcome::Skipped(_) => {
                self.tests.skipped += 1;
                self.cells.skipped += 1;
            }
            Outcome::Broken(_) => {
                self.tests.failed += 1;
                self.cells.failed += 1;
            }
        }
        self.failures.extend(failures_of(name, &outcome, cx.say.take_failures()));
        let line = format!("{name:<22} {outcome} ({})", in_words(began.elapsed()));
        cx.say.result("cell", &line);
        self.lines.push(line);
        Ok(())
    }

    fn end(self, cx: &Cx) -> Result<()> {
        cx.say.note("Finished", &format!("{} parts: {}", self.lines.len(), self.cells));
        for failure in &self.failures {
            cx.say.result("failed", failure);
        }
        cx.say.result("tests", &self.tests.to_string());
        if self.tests.failed > 0 {
            return Err(Failure::failed(
                format!("{} of {} parts failed", self.cells.failed, self.lines.len()),
                "lines that begin with failed: name them, the log of each is named above",
            ));
        }
        Ok(())
    }
}

/// The lines for one part. One that failed has a line of its own where no test of it is known.
fn failures_of(name: &str, outcome: &Outcome, tests: Vec<String>) -> Vec<String> {
    let mut lines: Vec<String> = tests.into_iter().map(|test| format!("failed: {name} {test}")).collect();
    match outcome {
        Outcome::Broken(why) => lines.push(format!("failed: {name}: {why}")),
        Outcome::Ran(tally) if tally.failed > 0 && lines.is_empty() => lines.push(format!("failed: {name}: {tally}")),
        Outcome::Ran(_) | Outcome::Skipped(_) => {}
    }
    lines
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ran(tally) if tally.failed > 0 => write!(f, "FAILED   {tally}"),
            Self::Ran(tally) => write!(f, "passed   {tally}"),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
            Self::Broken(why) => write!(f, "FAILED   {why}"),
        }
    }
}

fn listed(cell: &Cell, machine: &Machine) -> String {
    let here = if cell.fits(machine) { "here" } else { "elsewhere" };
    let suites: Vec<String> = cell.suites.iter().map(|suite| format!("{suite:?}").to_lowercase()).collect();
    let stories = cell.stories.map_or_else(String::new, |stories| format!(" ({stories})"));
    format!(
        "{:<22} {} {:<7} {:<10} {:<7} {:<9} {}{stories}",
        cell.name,
        cell.major,
        cell.server.to_string(),
        cell.distribution,
        cell.arch,
        here,
        suites.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failed_test_has_a_line() {
        let lines = |outcome: Outcome, tests: &[&str]| {
            failures_of("patched-17", &outcome, tests.iter().map(|test| (*test).to_owned()).collect())
        };
        let ran = |failed| Outcome::Ran(Tally { passed: 3, failed, skipped: 0 });
        assert_eq!(lines(ran(0), &[]), [""; 0]);
        assert_eq!(lines(Outcome::Skipped("no digest pinned".to_owned()), &[]), [""; 0]);
        assert_eq!(
            lines(ran(2), &["stories crash::c", "regress filters"]),
            ["failed: patched-17 stories crash::c", "failed: patched-17 regress filters"]
        );
        assert_eq!(lines(ran(1), &[]), ["failed: patched-17: 3 passed, 1 failed, 0 skipped"]);
        assert_eq!(
            lines(Outcome::Broken("make failed".to_owned()), &["regress a"]),
            ["failed: patched-17 regress a", "failed: patched-17: make failed"]
        );
    }

    #[test]
    fn a_missing_source_is_no_failure_only_where_nothing_is_pinned() {
        let matrix = Matrix::load(&Cx::for_tests().root).unwrap();
        let nowhere = |name: &str| {
            let tried = vec!["official: cannot connect".to_owned()];
            lack(
                matrix.named(name).unwrap(),
                &Failure::NotObtainable { what: "x".to_owned(), tried, hint: String::new() },
            )
        };
        let said = Some("source not obtainable (official: cannot connect)".to_owned());
        assert_eq!((nowhere("patched-16"), nowhere("patched-17")), (said.clone(), None));
        assert_eq!((nowhere("stock-16-rocky-9-aarch64"), nowhere("stock-16-rocky-9-x86_64")), (said, None));
        let digest = crate::digest::Digest::of_bytes(b"");
        let unpinned =
            Failure::Unpinned { file: "p.tar".to_owned(), computed: digest, source_name: "official".to_owned() };
        let cell = matrix.named("patched-16").unwrap();
        assert_eq!(lack(cell, &unpinned), Some("no digest pinned for p.tar".to_owned()));
        assert_eq!(lack(cell, &Failure::failed("make failed", "")), None);
    }

    #[test]
    fn a_release_lacks_no_cell() {
        let (matrix, dir) = (Matrix::load(&Cx::for_tests().root).unwrap(), tempfile::tempdir().unwrap());
        let put = |name: &str, text: &str| {
            files::write_whole(&dir.path().join(name).join(publish::MANIFEST), text.as_bytes()).unwrap();
        };
        let whole = r#"{"schema":1,"artefacts":[{"file":"x.deb","sbom":"x.json"}]}"#;
        matrix.cells.iter().for_each(|cell| put(&cell.name, whole));
        publish::skipped(&dir.path().join("patched-16"), "patched-16", "no digest pinned").unwrap();
        complete(&matrix, dir.path()).unwrap();
        publish::skipped(&dir.path().join("patched-18"), "patched-18", "source not obtainable").unwrap();
        let error = complete(&matrix, dir.path()).unwrap_err().to_string();
        assert_eq!(error, "cell patched-18 made no packages: source not obtainable");
        put("patched-18", r#"{"schema":1,"artefacts":[]}"#);
        let error = complete(&matrix, dir.path()).unwrap_err().to_string();
        assert_eq!(error, "cell patched-18 made no packages: its manifest lists nothing");
        fs::remove_dir_all(dir.path().join("patched-18")).unwrap();
        let error = complete(&matrix, dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("cell patched-18 made no packages: ") && error.contains("manifest.json"), "{error}");
    }
}
