//! What will be made: formats, versions, names and times, decided before anything is built.

use std::fmt;
use std::path::PathBuf;

use crate::args::ServerArgs;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::major::{Kind, Major};
use crate::matrix::Machine;
use crate::package::layout::{Family, dist_tag};
use crate::package::texts::Facts;
use crate::package::tree::Tree;
use crate::patchset::PatchSet;
use crate::target::{Origin, Places, Target};

/// A package format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Debian and Ubuntu.
    Deb,
    /// Enterprise Linux and Fedora.
    Rpm,
    /// A relocatable prefix.
    Tar,
    /// A container image as a layout directory.
    Oci,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
            Self::Tar => "tar",
            Self::Oci => "oci",
        })
    }
}

/// What a package is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Server, client programs, contrib, headers.
    Server,
    /// The extension.
    Extension,
    /// The operator's program.
    Tools,
    /// All of these, in one tarball or image.
    Both,
    /// Debug symbols of another package.
    Debug,
}

/// Everything that the bytes of the packages of one target depend on beside built files and `packaging/`.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The server and the extension in it.
    pub target: &'a Target,
    /// What to write, each once, sorted.
    pub formats: Vec<Format>,
    /// On what it is built.
    pub machine: Machine,
    /// `packaging/package.toml`.
    pub facts: Facts,
    /// Every time in every archive, in seconds since 1970.
    pub epoch: u64,
    /// Counts packagings of one version, from 1.
    pub revision: u32,
    /// Where the artefacts go.
    pub out: PathBuf,
    /// The server's version: `17.11`.
    pub pg_version: String,
    /// The first 12 digits of the patch set's id; empty for a stock server.
    pub patch_set: String,
}

impl<'a> Plan<'a> {
    /// Decides for one target.
    pub fn of(cx: &Cx, target: &'a Target, wish: &Wish) -> Result<Self> {
        let mut formats = wish.formats.clone();
        formats.sort();
        formats.dedup();
        if target.kind == Kind::Stock {
            refuse_image(&formats)?;
        }
        let (pg_version, patch_set) = match &target.origin {
            Origin::Compile(recipe) => (recipe.version.clone(), recipe.patches.short()),
            Origin::Prebuilt(prebuilt) => (prebuilt.version.clone(), String::new()),
            Origin::Installed(_) => (version_of(&Places::ask(cx, &target.pg_config())?.version), String::new()),
        };
        match (target.kind, &target.origin) {
            (Kind::Patched, Origin::Installed(_)) => return Err(installed_patched()),
            (Kind::Patched, _) => refuse_unpinned(cx, target.major, &patch_set)?,
            (Kind::Stock, _) => {}
        }
        let facts = Facts::load(&cx.root)?;
        let epoch = epoch(cx, &facts)?;
        let (machine, out) = (Machine::this(), wish.out.clone());
        Ok(Self { target, formats, machine, facts, epoch, revision: wish.revision, out, pg_version, patch_set })
    }

    /// The major.
    pub fn major(&self) -> Major {
        self.target.major
    }

    /// Version of the server's package: its own and ours, so that a new patch series is an upgrade.
    pub fn server_version(&self) -> String {
        format!("{}+spock{}", self.pg_version, env!("CARGO_PKG_VERSION"))
    }

    /// Revision and what was built on.
    pub fn release(&self) -> String {
        format!("{}.{}", self.revision, dist_tag(&self.machine))
    }

    /// The server's package in a format.
    pub fn server_name(&self, family: Family) -> String {
        match family {
            Family::Debian => format!("spock-postgresql-{}", self.major()),
            Family::Enterprise => format!("spock-postgresql{}", self.major()),
        }
    }

    /// The package of the extension in a format.
    pub fn extension_name(&self, family: Family) -> String {
        match (self.target.kind, family) {
            (Kind::Patched, _) => format!("{}-spock", self.server_name(family)),
            (Kind::Stock, Family::Debian) => format!("postgresql-{}-spock", self.major()),
            (Kind::Stock, Family::Enterprise) => format!("spock_{}", self.major()),
        }
    }

    /// The package that the distribution's stock server is in.
    pub fn stock_server_name(&self, family: Family) -> String {
        match family {
            Family::Debian => format!("postgresql-{}", self.major()),
            Family::Enterprise => format!("postgresql{}-server", self.major()),
        }
    }

    /// Base name of tarballs and images.
    pub fn bundle_name(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let what = match self.target.kind {
            Kind::Patched => format!("spock-postgresql-{}+spock{version}", self.pg_version),
            Kind::Stock => format!("spock-{version}-for-postgresql-{}", self.major()),
        };
        format!("{what}-{}-linux-{}", self.release(), self.machine.arch)
    }

    /// What `--plan` says about it.
    pub fn lines(&self) -> Vec<String> {
        let parts = match self.target.kind {
            Kind::Patched => "server, extension",
            Kind::Stock => "extension",
        };
        let line = |format: &Format| {
            format!(
                "run  {}: package {format}: {parts}, debug symbols, SBOM, into {}",
                self.target.label(),
                self.out.display()
            )
        };
        self.formats.iter().map(line).collect()
    }
}

/// What was asked for, independent of a major.
#[derive(Debug, Clone)]
pub struct Wish {
    /// In any order.
    pub formats: Vec<Format>,
    /// Directory of the artefacts.
    pub out: PathBuf,
    /// From 1.
    pub revision: u32,
}

/// `PostgreSQL 15.18 (Debian 15.18-0+deb12u1)`: `15.18`.
fn version_of(text: &str) -> String {
    text.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

/// `SOURCE_DATE_EPOCH`, else the time of the last commit, else the date of the release.
fn epoch(cx: &Cx, facts: &Facts) -> Result<u64> {
    if let Some(given) = given_epoch()? {
        return Ok(given);
    }
    let commit = cx.ask("git", &["log", "-1", "--format=%ct"]).ok().and_then(|text| text.trim().parse().ok());
    Ok(commit.unwrap_or_else(|| facts.release.first().map_or(0, super::texts::Release::epoch)))
}

/// For a stock server, asked before anything is built.
pub fn refuse_image(formats: &[Format]) -> Result<()> {
    if formats.contains(&Format::Oci) {
        return Err(Failure::usage(
            "an image holds a server, and a stock server is the distribution's",
            "leave oci out",
        ));
    }
    Ok(())
}

/// Refuses a server that cannot be packaged, before anything is built.
pub fn refuse_server(cx: &Cx, major: Major, args: &ServerArgs) -> Result<()> {
    if args.pg_config.is_some() {
        // Asks the program; nothing is fetched for an installed server.
        return match Target::resolve(cx, major, args)?.kind {
            Kind::Patched => Err(installed_patched()),
            Kind::Stock => Ok(()),
        };
    }
    if args.server == Some(Kind::Stock) || Target::is_prebuilt(cx, major, args)? {
        return Ok(());
    }
    refuse_unpinned(cx, major, &PatchSet::load(&cx.root, major)?.short())
}

/// The packages' relations name the patch set, so it has to be the one that `pg.lock` says.
fn refuse_unpinned(cx: &Cx, major: Major, patch_set: &str) -> Result<()> {
    let pinned = &cx.pins.of(major)?.patch_set;
    if patch_set == pinned {
        return Ok(());
    }
    let what = format!("patches/{major} is patch set {patch_set:?}, and pg.lock pins {pinned:?}");
    Err(Failure::usage(what, format!("run: cargo xtask patch --pin --pg {major}")))
}

fn installed_patched() -> Failure {
    Failure::usage("a patched server that somebody else installed is not packaged here", "leave out --pg-config")
}

/// `SOURCE_DATE_EPOCH`, if it is set.
pub fn given_epoch() -> Result<Option<u64>> {
    let Some(given) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let text = given.to_string_lossy();
    // Archives hold times in 32 bits.
    let number = text.parse::<u64>().ok().filter(|epoch| *epoch < u64::from(u32::MAX));
    let wrong = || Failure::usage(format!("SOURCE_DATE_EPOCH is {text:?}"), "give seconds since 1970");
    number.map(Some).ok_or_else(wrong)
}

/// How a package depends on, provides or conflicts with another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relation {
    /// The other package, or a capability.
    pub name: String,
    /// `=` or `>=`, and a version.
    pub version: Option<(&'static str, String)>,
}

impl Relation {
    /// Any version.
    pub fn any(name: impl Into<String>) -> Self {
        Self { name: name.into(), version: None }
    }

    /// Exactly this version.
    pub fn exactly(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: Some(("=", version.into())) }
    }

    /// This version or a later one.
    pub fn since(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: Some((">=", version.into())) }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some((op, version)) => write!(f, "{} ({op} {version})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Shell text that runs when a package comes and goes.
#[derive(Debug, Clone)]
pub struct Scripts {
    /// After it was installed or upgraded.
    pub configure: String,
    /// Before it is removed; not before an upgrade.
    pub stop: String,
    /// After it was removed.
    pub remove: String,
}

/// One package, complete but for its bytes.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, without the release.
    pub version: String,
    /// Revision and what it was built on.
    pub release: String,
    /// As in Rust: `x86_64`.
    pub arch: String,
    /// What it is for.
    pub role: Role,
    /// One line.
    pub summary: String,
    /// A paragraph.
    pub description: String,
    /// `Name <address>`.
    pub maintainer: String,
    /// Needs these.
    pub depends: Vec<Relation>,
    /// Counts as these too.
    pub provides: Vec<Relation>,
    /// Never together with these.
    pub conflicts: Vec<Relation>,
    /// Its files.
    pub tree: Tree,
    /// What runs.
    pub scripts: Option<Scripts>,
    /// Changes, newest release first.
    pub changelog: Vec<super::texts::Release>,
}

impl Package {
    /// Version and release.
    pub fn full_version(&self) -> String {
        format!("{}-{}", self.version, self.release)
    }
}

#[cfg(test)]
pub mod tests {
    //! What the writers' tests write.
    use super::*;
    use crate::package::texts::Release;
    use crate::package::tree::Content;

    /// A small package.
    pub fn sample() -> Package {
        let mut tree = Tree::default();
        tree.file("usr/lib/spock/a", 0o755, Content::Bytes(b"#!/bin/sh\n".to_vec()));
        tree.link("usr/lib/spock/b", "a");
        let text = str::to_owned;
        Package {
            name: text("spock-postgresql-17"),
            version: text("17.11+spock7.0.0"),
            release: text("1.deb12"),
            arch: text("x86_64"),
            role: Role::Server,
            summary: text("one line"),
            description: text("several\nlines"),
            maintainer: text("M <m@x>"),
            depends: vec![Relation::since("libc6", "2.36")],
            provides: vec![Relation::any("p")],
            conflicts: Vec::new(),
            tree,
            scripts: None,
            changelog: vec![Release {
                version: text("7.0.0"),
                date: text("2026-11-28"),
                changes: vec![text("First.")],
            }],
        }
    }

    #[test]
    fn a_series_that_is_not_pinned_is_refused_before_anything_is_built() {
        let dir = tempfile::tempdir().unwrap();
        let mut cx = Cx::for_tests();
        let (major, patched) = ("17".parse().unwrap(), ServerArgs::default());
        refuse_server(&cx, major, &patched).unwrap();
        cx.root = dir.path().to_owned();
        crate::files::write_whole(&dir.path().join("patches/17/pg17-010-a.diff"), b"changed").unwrap();
        let failure = refuse_server(&cx, major, &patched).unwrap_err();
        assert_eq!(failure.exit() as u8, 2, "{failure}");
        assert_eq!(failure.hint(), "run: cargo xtask patch --pin --pg 17");
        refuse_server(&cx, major, &ServerArgs { server: Some(Kind::Stock), ..patched }).unwrap();
    }

    #[test]
    fn versions_are_read_from_what_pg_config_says() {
        assert_eq!(version_of("PostgreSQL 15.18 (Debian 15.18-0+deb12u1)"), "15.18");
    }

    #[test]
    fn relations_as_debian_writes_them() {
        assert_eq!(Relation::since("libc6", "2.36").to_string(), "libc6 (>= 2.36)");
        assert_eq!(Relation::any("libc6").to_string(), "libc6");
    }
}
