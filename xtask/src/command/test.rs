//! `test`: the suites, counted. The last line on stdout is `N passed, N failed, N skipped`.

use crate::args::ServerArgs;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::major::Majors;
use crate::package_suite;
use crate::suites::{self, Suite};
use crate::system;
use crate::tally::Tally;

/// Run test suites.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// PostgreSQL majors: 15, 16, 17, 18, a list with commas, or `all`
    #[arg(long, value_name = "MAJORS")]
    pg: Majors,
    #[command(flatten)]
    server: ServerArgs,
    /// Which suites: unit, regress, stories, lint, manual, server, package (default: the first three)
    #[arg(long, value_name = "SUITES", value_delimiter = ',')]
    suite: Vec<Suite>,
    /// Only stories, and chapters of the manual, whose name contains one of these words
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    story: Vec<String>,
    /// Write the manifests of the package suite instead of comparing with them
    #[arg(long)]
    accept: bool,
}

impl TestArgs {
    /// Runs the unit suite once, the others for each major; fails when a test failed.
    pub fn run(self, cx: &Cx) -> Result<()> {
        let suites = if self.suite.is_empty() { Suite::DEFAULT.to_vec() } else { self.suite };
        if self.accept && !suites.contains(&Suite::Package) {
            return Err(Failure::usage("--accept writes what the package suite compares with", "add --suite package"));
        }
        let has_names = |suite: &Suite| matches!(suite, Suite::Stories | Suite::Manual);
        if !self.story.is_empty() && !suites.iter().any(has_names) {
            return Err(Failure::usage(
                "--story chooses stories and chapters",
                "add --suite stories or --suite manual",
            ));
        }
        if cx.flags.yes && suites.contains(&Suite::Stories) {
            // Without it some are skipped; nobody who has not said yes is stopped for it.
            system::require_named(cx, "faketime")?;
        }
        let (mut tally, mut chosen) = (Tally::default(), Tally::default());
        if suites.contains(&Suite::Unit) {
            tally += suites::unit(cx)?;
        }
        for major in &self.pg.0 {
            for suite in suites.iter().filter(|suite| **suite != Suite::Unit) {
                let one = match suite {
                    Suite::Package => package_suite::run(cx, *major, &self.server, self.accept)?,
                    _ => suites::on_server(cx, *suite, *major, &self.server, &self.story)?,
                };
                tally += one;
                chosen += if has_names(suite) { one } else { Tally::default() };
            }
        }
        if !self.story.is_empty() && chosen == Tally::default() && !cx.flags.plan {
            let what = format!("no story or chapter is called like {}", self.story.join(" or "));
            return Err(Failure::usage(what, "a word is a part of a name: crash::, d13_, usage"));
        }
        cx.say.result("tests", &tally.to_string());
        if tally.failed > 0 {
            return Err(Failure::failed(
                format!("{} tests failed", tally.failed),
                "the logs named above have the details",
            ));
        }
        Ok(())
    }
}
