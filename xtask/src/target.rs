//! What will be done: a major, a kind and an origin, resolved from what was typed, `pg.lock` and the machine.
//!
//! **Invariant:** a [`Recipe`] holds everything that the built server depends on, so its key names one content.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::args::{ServerArgs, SourceArg};
use crate::cx::{Cx, Dirs};
use crate::digest::Digest;
use crate::exit::{Failure, Result};
use crate::major::{Kind, Major};
use crate::obtain;
use crate::patchset::PatchSet;
use crate::pins::Prebuilt;
use crate::stamp::Inputs;

/// Changes when the way a server is built changes, so that old store entries are not taken for new ones.
const RECIPE_VERSION: u32 = 1;

/// One server to have, and how.
#[derive(Debug)]
pub struct Target {
    /// Its major.
    pub major: Major,
    /// With or without our patches.
    pub kind: Kind,
    /// Where it comes from.
    pub origin: Origin,
    /// Where it goes.
    pub dirs: Dirs,
}

/// Where a server comes from.
#[derive(Debug)]
pub enum Origin {
    /// Built here.
    Compile(Box<Recipe>),
    /// Unpacked from a wheel.
    Prebuilt(Prebuilt),
    /// Installed already; only the extension is put into it.
    Installed(Installed),
}

/// Everything that a built server depends on.
#[derive(Debug)]
pub struct Recipe {
    /// The source's version, e.g. `17.11`.
    pub version: String,
    /// The source.
    pub code: Code,
    /// The series for it; empty for a stock server.
    pub patches: PatchSet,
    /// Options of `configure`.
    pub options: Vec<String>,
    /// First line of `cc --version`.
    pub compiler: String,
}

/// Source code of a server.
#[derive(Debug)]
pub enum Code {
    /// A release tarball, pinned or trusted.
    Release {
        /// Its digest; none while `--plan` may not fetch an unpinned one.
        digest: Option<Digest>,
        /// The sources to try.
        order: Vec<SourceArg>,
    },
    /// A local tarball.
    File {
        /// Where.
        path: PathBuf,
        /// Of its content.
        digest: Digest,
    },
    /// A local tree.
    Tree {
        /// Where.
        path: PathBuf,
        /// Of its files.
        digest: Digest,
    },
}

impl Code {
    /// Its digest, when known.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Release { digest, .. } => *digest,
            Self::File { digest, .. } | Self::Tree { digest, .. } => Some(*digest),
        }
    }
}

impl Recipe {
    /// What names the source tree after patching.
    pub fn source_inputs(&self) -> Inputs {
        let digest = self.code.digest().map_or_else(|| "not known yet".to_owned(), |digest| digest.to_string());
        Inputs::default().with("source", digest).with("patch set", self.patches.id)
    }

    /// What names the built server.
    pub fn inputs(&self) -> Inputs {
        self.source_inputs()
            .with("configure options", self.options.join(" "))
            .with("compiler", &self.compiler)
            .with("architecture", std::env::consts::ARCH)
            .with("recipe", RECIPE_VERSION)
    }
}

/// A server that somebody else installed.
#[derive(Debug, Clone)]
pub struct Installed {
    /// Its `pg_config`.
    pub pg_config: PathBuf,
    /// What that says about it.
    pub places: Places,
}

/// The directories of an installation, as its `pg_config` tells them.
#[derive(Debug, Clone)]
pub struct Places {
    /// `PostgreSQL 17.11`.
    pub version: String,
    /// Programs.
    pub bin: PathBuf,
    /// libpq.
    pub lib: PathBuf,
    /// Loadable modules.
    pub pkglib: PathBuf,
    /// Data files; the extension's go to `extension/` below.
    pub share: PathBuf,
}

impl Places {
    /// Asks a `pg_config`.
    pub fn ask(cx: &Cx, pg_config: &Path) -> Result<Self> {
        let flags = ["--version", "--bindir", "--libdir", "--pkglibdir", "--sharedir"];
        let said = cx.ask(&pg_config.to_string_lossy(), &flags)?;
        let lines: Vec<&str> = said.lines().collect();
        let [version, bin, lib, pkglib, share] = lines[..] else {
            return Err(Failure::usage(format!("{} is not a pg_config", pg_config.display()), "give the path of one"));
        };
        let version = version.to_owned();
        Ok(Self { version, bin: bin.into(), lib: lib.into(), pkglib: pkglib.into(), share: share.into() })
    }

    /// The major of the version text.
    fn major(&self) -> &str {
        let number = self.version.split_whitespace().nth(1).unwrap_or_default();
        number.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default()
    }
}

impl Target {
    /// Decides what `args` mean for one major.
    pub fn resolve(cx: &Cx, major: Major, args: &ServerArgs) -> Result<Self> {
        if let Some(pg_config) = &args.pg_config {
            return Self::installed(cx, major, pg_config, args.server);
        }
        if Self::is_prebuilt(cx, major, args)? {
            if args.server == Some(Kind::Patched) {
                return Err(Failure::usage(
                    "a prebuilt server is unpatched",
                    "add --server stock, or leave --source out",
                ));
            }
            let pin = cx.pins.of(major)?.prebuilt.clone();
            let none = || Failure::usage(format!("pg.lock pins no prebuilt server of {major}"), "use another --source");
            let origin = Origin::Prebuilt(pin.ok_or_else(none)?);
            return Ok(Self { major, kind: Kind::Stock, origin, dirs: cx.dirs(major, Kind::Stock) });
        }
        let kind = args.server.unwrap_or(Kind::Patched);
        let origin = Origin::Compile(Box::new(recipe(cx, major, kind, args)?));
        Ok(Self { major, kind, origin, dirs: cx.dirs(major, kind) })
    }

    /// Whether the server is the prebuilt one: because it was asked for, or because a stock server was and no tarball of
    /// this major has a pinned digest, so that none could be compiled.
    pub fn is_prebuilt(cx: &Cx, major: Major, args: &ServerArgs) -> Result<bool> {
        let unpinned_stock = args.source.is_none() && args.pg_config.is_none() && args.server == Some(Kind::Stock);
        if unpinned_stock && !args.trust_new_digest {
            let pin = cx.pins.of(major)?;
            return Ok(pin.sha256.is_none() && pin.prebuilt.is_some());
        }
        Ok(args.source == Some(SourceArg::Prebuilt))
    }

    fn installed(cx: &Cx, major: Major, pg_config: &Path, wanted: Option<Kind>) -> Result<Self> {
        let pg_config = fs::canonicalize(pg_config).map_err(|e| {
            Failure::usage(format!("--pg-config {}: {e}", pg_config.display()), "give the path of a pg_config")
        })?;
        let runs = fs::metadata(&pg_config).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
        if !runs {
            return Err(Failure::usage(
                format!("{} is not a program", pg_config.display()),
                "give the path of a pg_config",
            ));
        }
        let places = Places::ask(cx, &pg_config)?;
        if places.major() != major.to_string() {
            let what = format!("{} belongs to {}, not to PostgreSQL {major}", pg_config.display(), places.version);
            return Err(Failure::usage(what, format!("use --pg {}, or the pg_config of {major}", places.major())));
        }
        let kind = if places.share.join(crate::server::PATCH_SET_FILE).is_file() { Kind::Patched } else { Kind::Stock };
        if let Some(wanted) = wanted.filter(|wanted| *wanted != kind) {
            let what = format!("the server of {} is {kind}, not {wanted}", pg_config.display());
            return Err(Failure::usage(what, format!("use --server {kind}")));
        }
        let digest = Digest::of_bytes(pg_config.as_os_str().as_encoded_bytes()).short();
        let base = cx.root.join(format!("target/pg/{major}-installed-{digest}"));
        Ok(Self { major, kind, origin: Origin::Installed(Installed { pg_config, places }), dirs: Dirs { base } })
    }

    /// `17 patched`: how steps of this target are called.
    pub fn label(&self) -> String {
        format!("{} {}", self.major, self.kind)
    }

    /// The directory that holds `bin/`.
    pub fn prefix(&self) -> PathBuf {
        match &self.origin {
            Origin::Compile(_) | Origin::Prebuilt(_) => self.dirs.install(),
            Origin::Installed(installed) => match installed.places.bin.parent() {
                Some(prefix) => prefix.to_owned(),
                None => installed.places.bin.clone(),
            },
        }
    }

    /// The `pg_config` of the server.
    pub fn pg_config(&self) -> PathBuf {
        match &self.origin {
            Origin::Compile(_) | Origin::Prebuilt(_) => self.dirs.install().join("bin/pg_config"),
            Origin::Installed(installed) => installed.pg_config.clone(),
        }
    }
}

fn recipe(cx: &Cx, major: Major, kind: Kind, args: &ServerArgs) -> Result<Recipe> {
    let pin = cx.pins.of(major)?;
    let patches = match kind {
        Kind::Patched => PatchSet::load(&cx.root, major)?,
        Kind::Stock => PatchSet { diffs: Vec::new(), id: Digest::of_bytes(b"") },
    };
    let (version, code) = match &args.source {
        Some(SourceArg::Path(path)) => local_code(cx, major, path, args.trust_new_digest)?,
        given => {
            let order = given.clone().map_or_else(|| vec![SourceArg::Official, SourceArg::Debian], |one| vec![one]);
            (pin.version.clone(), release_code(cx, major, order, args.trust_new_digest)?)
        }
    };
    let mut options = options(cx, major)?;
    if !patches.diffs.is_empty() {
        options.push(format!("--with-extra-version=-spock-{}", patches.short()));
    }
    let said = cx.ask("cc", &["--version"]).unwrap_or_default();
    let compiler = said.lines().next().unwrap_or("no compiler").to_owned();
    Ok(Recipe { version, code, patches, options, compiler })
}

/// A pinned release is known by its digest; one without a pin has to be fetched before anything can be said about it.
fn release_code(cx: &Cx, major: Major, order: Vec<SourceArg>, trust_new: bool) -> Result<Code> {
    let digest = match cx.pins.of(major)?.sha256 {
        Some(digest) => Some(digest),
        None if cx.flags.plan => None,
        None => {
            let name = format!("{major}: fetch");
            let progress = cx.say.begin(&name, "its digest is not pinned");
            Some(obtain::tarball(cx, major, &order, trust_new, &progress)?.digest)
        }
    };
    Ok(Code::Release { digest, order })
}

fn local_code(cx: &Cx, major: Major, path: &Path, trust_new: bool) -> Result<(String, Code)> {
    let gone = |e: std::io::Error| Failure::NotObtainable {
        what: format!("the source of PostgreSQL {major}"),
        tried: vec![format!("path:{}: {e}", path.display())],
        hint: "give a source tree or a tarball".to_owned(),
    };
    let path = fs::canonicalize(path).map_err(gone)?;
    if path.is_dir() {
        let version = version_of_tree(&path).filter(|version| version.starts_with(&format!("{major}")));
        let version = version.ok_or_else(|| {
            let found = version_of_tree(&path).map_or("no PostgreSQL source".to_owned(), |v| format!("PostgreSQL {v}"));
            Failure::usage(
                format!("{} holds {found}, not {major}", path.display()),
                format!("give a source tree of {major}"),
            )
        })?;
        if path.join("src/include/pg_config.h").exists() {
            let what = format!("{} was built in place", path.display());
            return Err(Failure::usage(what, "run make distclean there, or give a clean tree"));
        }
        let digest = Digest::of_tree(&path, &[".git"])?;
        return Ok((version, Code::Tree { path, digest }));
    }
    let digest = Digest::of_file(&path).map_err(|e| gone(std::io::Error::other(e.to_string())))?;
    let pin = cx.pins.of(major)?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let source_name = format!("path:{}", path.display());
    match pin.sha256 {
        Some(expected) if expected != digest && !trust_new => {
            let hint = "if it is another tarball on purpose, say so with --trust-new-digest".to_owned();
            return Err(Failure::WrongDigest { expected, computed: digest, file, source_name, hint });
        }
        None if !trust_new => return Err(Failure::Unpinned { file, computed: digest, source_name }),
        _ => {}
    }
    Ok((pin.version.clone(), Code::File { path, digest }))
}

/// `PACKAGE_VERSION` of a source tree.
pub fn version_of_tree(dir: &Path) -> Option<String> {
    let text = fs::read(dir.join("configure")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.strip_prefix("PACKAGE_VERSION='"))?;
    Some(line.trim_end_matches('\'').to_owned())
}

/// The configure options of the pinned profile on this machine.
fn options(cx: &Cx, major: Major) -> Result<Vec<String>> {
    let profile = cx.pins.profile(cx.pins.of(major)?)?;
    let mut options = profile.options.clone();
    for probe in &profile.probes {
        let header = probe.header.as_deref().is_none_or(|name| Path::new("/usr/include").join(name).exists());
        let perl = probe.perl.as_deref().is_none_or(|module| cx.ask("perl", &[&format!("-M{module}"), "-e1"]).is_ok());
        options.extend(if header && perl { probe.option.clone() } else { probe.otherwise.clone() });
    }
    Ok(options)
}
