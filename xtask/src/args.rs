//! What was typed. What will be done with it is decided in [`crate::target`] and in each command's `run`.

use std::path::PathBuf;
use std::str::FromStr;

use crate::command;
use crate::major::{Kind, Majors};

/// From a PostgreSQL major to an installed, tested server with the extension.
///
/// Exit codes: 0 done, 1 a step failed, 2 usage, 3 missing system package, 4 source not obtainable, 5 digest mismatch,
/// 6 patch does not apply, 130 interrupted.
#[derive(Debug, clap::Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", verbatim_doc_comment)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Run at most N jobs at once (default: one per processor)
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// Open no socket: use only what is in the cache
    #[arg(long, global = true)]
    pub offline: bool,
    /// Print what would run and why, and run nothing
    #[arg(long, global = true)]
    pub plan: bool,
    /// Do every step again, also when nothing changed
    #[arg(long, global = true)]
    pub force: bool,
    /// Print one JSON event a line on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Show everything that children print
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Install missing system packages without asking
    #[arg(long, global = true)]
    pub yes: bool,
}

/// Which server.
#[derive(Debug, Clone, clap::Args)]
pub struct Pick {
    /// PostgreSQL majors: 15, 16, 17, 18, a list with commas, or `all`
    #[arg(long, value_name = "MAJORS")]
    pub pg: Majors,
    /// Everything else about the choice.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Which kind of server, and from where.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServerArgs {
    /// With our patches or without (default: patched; stock for `--source prebuilt`)
    #[arg(long, value_name = "KIND")]
    pub server: Option<Kind>,
    /// Where the server comes from: official, debian, path:DIR_OR_TARBALL or prebuilt (default: official, then debian; a
    /// stock server whose tarball has no pinned digest, 16 today: prebuilt)
    #[arg(long, value_name = "SOURCE", conflicts_with = "pg_config")]
    pub source: Option<SourceArg>,
    /// Use the installed server that this pg_config belongs to
    #[arg(long, value_name = "PATH")]
    pub pg_config: Option<PathBuf>,
    /// Go on with a tarball whose digest is not pinned (never with one that differs from its pin)
    #[arg(long)]
    pub trust_new_digest: bool,
}

/// What `--source` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceArg {
    /// The PostgreSQL project's site and its mirrors.
    Official,
    /// The distribution's source package.
    Debian,
    /// A local tree or tarball.
    Path(PathBuf),
    /// An unpatched binary.
    Prebuilt,
}

impl FromStr for SourceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("path:")) {
            ("official", _) => Ok(Self::Official),
            ("debian", _) => Ok(Self::Debian),
            ("prebuilt", _) => Ok(Self::Prebuilt),
            (_, Some(path)) if !path.is_empty() => Ok(Self::Path(path.into())),
            _ => Err("the sources are official, debian, path:DIR_OR_TARBALL and prebuilt".to_owned()),
        }
    }
}

/// The commands, in the order in which they build on each other.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Build and install server and extension; the last line on stdout is the prefix
    Build(command::build::BuildArgs),
    /// Fetch and verify the server's source
    Fetch(command::fetch::FetchArgs),
    /// Move the pin of a major to its newest minor release
    Update(command::update::UpdateArgs),
    /// Unpack and patch the source; check or refresh the patch series
    Patch(command::patch::PatchArgs),
    /// Build and install the server alone
    Server(command::server::ServerCommandArgs),
    /// Stage, build and install the extension
    Extension(command::extension::ExtensionArgs),
    /// Start two to five nodes, write to all of them at once, and compare
    Demo(command::demo::DemoArgs),
    /// Compare the speed with that of the server's own logical replication
    Bench(command::bench::BenchArgs),
    /// Kill, cut and skew a mesh under colliding load, then check that nothing is lost, twice or different
    Chaos(command::chaos::ChaosArgs),
    /// Run test suites; ends with `N passed, N failed, N skipped`
    Test(command::test::TestArgs),
    /// Make deb, rpm, tar and OCI packages of server and extension
    Package(command::package::PackageArgs),

    /// Simulate a mesh that runs the core's rules, from a seed; a failure names the seed that replays it
    Sim(command::sim::SimArgs),
    /// Write the generated chapters of the user manual, and make HTML of it
    Manual(command::manual::ManualArgs),
    /// Check the rules that no linter knows
    Tidy(command::tidy::TidyArgs),
    /// Run what CI runs, from ci/matrix.toml
    Ci(command::ci::CiArgs),
    /// List what a build needs from the system
    Doctor(command::doctor::DoctorArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sources_are_read() {
        let cases = [
            ("official", Some(SourceArg::Official)),
            ("path:/a b", Some(SourceArg::Path("/a b".into()))),
            ("path:", None),
            ("web", None),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse().ok(), want, "{text}");
        }
    }

    #[test]
    fn flags_may_follow_the_command() {
        let cli = Cli::try_parse_from(["cargo xtask", "build", "--pg", "15,18", "--plan", "--jobs", "2"]).unwrap();
        assert!(cli.common.plan && cli.common.jobs == Some(2));
        // What would be ignored is refused.
        for ignored in [["--out", "x"], ["--revision", "2"], ["--sign", "gpg:K"]] {
            let words = ["cargo xtask", "package", "--pg", "17", "--verify"];
            assert!(Cli::try_parse_from(words).is_ok());
            assert!(Cli::try_parse_from([&words[..], &ignored[..]].concat()).is_err(), "{ignored:?}");
        }
        for wrong in [&["build"][..], &["build", "--pg", "14"], &["build", "--pg", "17", "--jobs", "0"], &["bild"]] {
            assert!(Cli::try_parse_from([&["cargo xtask"][..], wrong].concat()).is_err(), "{wrong:?}");
        }
    }
}
