//! The server's pipeline: fetch, source, configure, compile, store, install.
//!
//! A finished server goes to the store in the user's cache, under a key that names its recipe; `install` in this clone is
//! a copy of that entry. A clone that finds its key in the store compiles nothing.
//!
//! **Invariants.** A store entry never has the extension in it and is never written to again. It is relocatable: programs
//! find libraries and data relative to themselves.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::archive;
use crate::child::Child;
use crate::cx::{Cx, Dirs};
use crate::digest::Digest;
use crate::exit::{Failure, Result};
use crate::files::{self, Room};
use crate::obtain;
use crate::pins::Prebuilt;
use crate::say::Progress;
use crate::stamp::{Inputs, Stamp, stamp_of};
use crate::step::Step;
use crate::target::{Code, Origin, Recipe, Target, version_of_tree};

/// Below sharedir: which series the server carries.
pub const PATCH_SET_FILE: &str = "spock-patchset.toml";
/// Source, objects and installation of one major.
const BUILD_MB: u64 = 2500;
/// A store entry and its copy.
const STORE_MB: u64 = 400;

/// The steps that give `target` an installed server; none for one that is installed already.
pub fn steps<'a>(cx: &'a Cx, target: &'a Target, trust_new: bool) -> Vec<Step<'a>> {
    let (key, mut steps) = match &target.origin {
        Origin::Installed(_) => return Vec::new(),
        Origin::Prebuilt(pin) => (store_key(target), vec![store_prebuilt(cx, target, pin)]),
        Origin::Compile(recipe) => {
            let mut steps = object_steps(cx, target, recipe, &target.dirs, trust_new);
            steps.push(store_built(cx, target, recipe));
            (store_key(target), steps)
        }
    };
    if entry_dir(cx, &key).is_dir() && !cx.flags.force {
        steps.clear();
    }
    steps.push(install(cx, target, key));
    steps
}

/// The steps that leave a compiled object tree in `dirs`: what the server's own test suites need.
pub fn object_steps<'a>(
    cx: &'a Cx,
    target: &'a Target,
    recipe: &'a Recipe,
    dirs: &Dirs,
    trust_new: bool,
) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    if let Code::Release { order, digest } = &recipe.code {
        let have = digest.map(|digest| cx.cache.downloads().join(format!("{digest}-{}", pin_file(cx, target))));
        steps.push(Step {
            name: format!("{}: fetch", target.major),
            inputs: Inputs::default()
                .with("source", digest.map_or_else(|| "not known yet".to_owned(), |d| d.to_string())),
            outputs: have.into_iter().collect(),
            stamp: Stamp(cx.cache.downloads().join(format!(".{}.toml", target.major))),
            work: Box::new(move |progress| obtain::tarball(cx, target.major, order, trust_new, progress).map(drop)),
        });
    }
    let name = |step: &str| format!("{}: {step}", target.label());
    let (at, built) = (dirs.clone(), dirs.clone());
    steps.push(Step {
        name: name("source"),
        inputs: recipe.source_inputs(),
        outputs: vec![dirs.src()],
        stamp: stamp_of(&dirs.base, "source"),
        work: Box::new(move |progress| unpack_source(cx, target, recipe, &at, progress)),
    });
    let at = dirs.clone();
    steps.push(Step {
        name: name("configure"),
        inputs: recipe.inputs(),
        outputs: vec![dirs.build().join("config.status")],
        stamp: stamp_of(&dirs.base, "configure"),
        work: Box::new(move |progress| configure(target, recipe, &at, progress)),
    });
    steps.push(Step {
        name: name("compile"),
        inputs: recipe.inputs(),
        outputs: vec![dirs.build().join("src/backend/postgres")],
        stamp: stamp_of(&dirs.base, "compile"),
        work: Box::new(move |progress| {
            make(&built).args([format!("-j{}", cx.jobs()), "world-bin".to_owned()]).run(progress)
        }),
    });
    steps
}

/// The digest that names the server of this target in the store; the same content gives the same key everywhere.
pub fn store_key(target: &Target) -> Digest {
    match &target.origin {
        Origin::Compile(recipe) => recipe.inputs().digest(),
        Origin::Prebuilt(pin) => Inputs::default().with("wheel", pin.sha256).digest(),
        Origin::Installed(installed) => {
            let places = &installed.places;
            let postgres =
                Digest::of_file(&places.bin.join("postgres")).map_or_else(|_| String::new(), |d| d.to_string());
            Inputs::default().with("pg_config", installed.pg_config.display()).with("postgres", postgres).digest()
        }
    }
}

fn pin_file(cx: &Cx, target: &Target) -> String {
    cx.pins.of(target.major).map_or_else(|_| String::new(), |pin| pin.file.clone())
}

/// Where the store keeps the server of a key.
pub fn entry_dir(cx: &Cx, key: &Digest) -> PathBuf {
    cx.cache.servers().join(key.to_string())
}

/// The prefix that is compiled in. Programs do not look there: they find their files relative to themselves.
fn compiled_prefix(target: &Target) -> String {
    format!("/usr/lib/spock-postgresql/{}", target.major)
}

/// Unpacks a recipe's source into `to`, unpatched; checks that it is the wanted major.
pub fn unpack_pristine(cx: &Cx, target: &Target, recipe: &Recipe, to: &Path, progress: &Progress<'_>) -> Result<()> {
    match &recipe.code {
        Code::Release { order, .. } => {
            let obtained = obtain::tarball(cx, target.major, order, true, progress)?;
            archive::unpack(&obtained.path, to)?;
        }
        Code::File { path, .. } => archive::unpack(path, to)?,
        Code::Tree { path, .. } => {
            files::copy_tree(path, to)?;
            files::remove_if_there(&to.join(".git"))?;
        }
    }
    match version_of_tree(to) {
        Some(version) if version.starts_with(&target.major.to_string()) => Ok(()),
        found => {
            let found = found.map_or("no PostgreSQL source".to_owned(), |version| format!("PostgreSQL {version}"));
            let what = format!("the source given for PostgreSQL {} holds {found}", target.major);
            Err(Failure::usage(what, format!("give the source of {}", target.major)))
        }
    }
}

fn unpack_source(cx: &Cx, target: &Target, recipe: &Recipe, dirs: &Dirs, progress: &Progress<'_>) -> Result<()> {
    files::need_space(&dirs.base, Room::Clone, BUILD_MB, &format!("building PostgreSQL {}", target.major))?;
    let log = dirs.log("source");
    files::replace_dir(&dirs.src(), |part| {
        unpack_pristine(cx, target, recipe, part, progress)?;
        let moved = recipe.patches.apply(part, &recipe.version, &log, progress)?;
        for hunk in moved {
            cx.say.note("Moved", &format!("{}: {} by {} lines", hunk.diff, hunk.place, hunk.offset));
        }
        Ok(())
    })
}

fn configure(target: &Target, recipe: &Recipe, dirs: &Dirs, progress: &Progress<'_>) -> Result<()> {
    files::remove_if_there(&dirs.build())?;
    files::make_dir(&dirs.build())?;
    let flags = format!("-O2 -g -ffile-prefix-map={}=.", dirs.src().display());
    with_compiler_cache(Child::new(dirs.src().join("configure"), &dirs.build(), &dirs.log("configure")))
        .args([format!("--prefix={}", compiled_prefix(target)), "--disable-rpath".to_owned()])
        .args(&recipe.options)
        .args([format!("CFLAGS={flags}"), "LDFLAGS=-Wl,-rpath,'$$ORIGIN/../lib',--enable-new-dtags".to_owned()])
        .run(progress)
}

/// `make` in the object tree.
pub fn make(dirs: &Dirs) -> Child {
    with_compiler_cache(Child::new("make", &dirs.build(), &dirs.log("compile")))
}

/// ccache's directory of compiler names first in PATH, where a distribution has one.
fn with_compiler_cache(child: Child) -> Child {
    let path = std::env::var("PATH").unwrap_or_default();
    match ["/usr/lib/ccache", "/usr/lib64/ccache"].into_iter().find(|dir| Path::new(dir).is_dir()) {
        Some(dir) => child.env("PATH", format!("{dir}:{path}")),
        None => child,
    }
}

fn store_built<'a>(cx: &'a Cx, target: &'a Target, recipe: &'a Recipe) -> Step<'a> {
    let dirs = target.dirs.clone();
    store_step(cx, target, recipe.inputs(), move |entry, progress| {
        make(&dirs)
            .args(["install-world-bin".to_owned(), format!("DESTDIR={}", entry.join("root").display())])
            .run(progress)?;
        let made = entry.join("root").join(compiled_prefix(target).trim_start_matches('/'));
        fs::rename(&made, entry.join("prefix")).map_err(Failure::io("move", &made))?;
        files::remove_if_there(&entry.join("root"))?;
        if !recipe.patches.diffs.is_empty() {
            let file = entry.join("prefix/share").join(PATCH_SET_FILE);
            files::write_whole(&file, patch_set_text(target, recipe).as_bytes())?;
        }
        Ok(())
    })
}

fn store_prebuilt<'a>(cx: &'a Cx, target: &'a Target, pin: &'a Prebuilt) -> Step<'a> {
    let inputs = Inputs::default().with("wheel", pin.sha256);
    store_step(cx, target, inputs, move |entry, progress| {
        let wheel = obtain::wheel(cx, pin, progress)?;
        archive::unpack_wheel(&wheel.path, &entry.join("prefix"))
    })
}

fn store_step<'a>(
    cx: &'a Cx,
    target: &'a Target,
    inputs: Inputs,
    fill: impl FnOnce(&Path, &Progress<'_>) -> Result<()> + 'a,
) -> Step<'a> {
    let entry = entry_dir(cx, &store_key(target));
    let stamp = Stamp(entry.with_extension("toml"));
    Step {
        name: format!("{}: store", target.label()),
        inputs,
        outputs: vec![entry.clone()],
        stamp,
        work: Box::new(move |progress| {
            files::need_space(&cx.cache.0, Room::Cache, STORE_MB, "the store of built servers")?;
            files::make_dir(&cx.cache.servers())?;
            files::replace_dir(&entry, |part| fill(part, progress))
        }),
    }
}

fn install<'a>(cx: &'a Cx, target: &'a Target, key: Digest) -> Step<'a> {
    let (to, from) = (target.dirs.install(), entry_dir(cx, &key).join("prefix"));
    Step {
        name: format!("{}: install", target.label()),
        inputs: Inputs::default().with("server", key),
        outputs: vec![to.join("bin/postgres")],
        stamp: stamp_of(&target.dirs.base, "install"),
        work: Box::new(move |_| {
            files::need_space(&target.dirs.base, Room::Clone, STORE_MB, "an installed server")?;
            // The extension goes with the old installation.
            stamp_of(&target.dirs.base, "extension").remove()?;
            files::replace_dir(&to, |part| files::copy_tree(&from, part))
        }),
    }
}

fn patch_set_text(target: &Target, recipe: &Recipe) -> String {
    let mut text = format!(
        "major = {}\nversion = \"{}\"\nid = \"{}\"\npatches = [\n",
        target.major, recipe.version, recipe.patches.id
    );
    for diff in &recipe.patches.diffs {
        let _ = writeln!(text, "    \"{}\",", diff.file_name().unwrap_or_default().to_string_lossy());
    }
    text + "]\n"
}
