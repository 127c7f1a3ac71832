//! The extension's pipeline: stage, build, check symbols, install.
//!
//! **Invariants.** What is built is the staged tree, which holds nothing of other majors. One cargo target directory per
//! major and kind: bindings depend on the server's headers. An installed library is replaced, never written into: a server
//! may have it loaded.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::child::Child;
use crate::cx::Cx;
use crate::digest::{Digest, files_below};
use crate::exit::{Failure, Result};
use crate::files;
use crate::say::Progress;
use crate::server::store_key;
use crate::stamp::{Inputs, stamp_of};
use crate::step::Step;
use crate::symbols;
use crate::target::{Places, Target};
use crate::upgrade_script;

/// The first rustc that pgrx's manifests accept; it compiles on older ones too.
const PGRX_RUSTC: (u32, u32) = (1, 96);
/// Changes when the compilers get other flags, so that a library built with the old ones is not taken for a new one.
const FLAGS_VERSION: u32 = 2;
/// What `spockctrl` prints of itself: where it is installed, and the words that make it.
const SAYINGS: [(&str, &[&str]); 4] = [
    ("share/man/man1/spockctrl.1", &["man"]),
    ("share/spock/completions/spockctrl.bash", &["completions", "bash"]),
    ("share/spock/completions/spockctrl.fish", &["completions", "fish"]),
    ("share/spock/completions/_spockctrl", &["completions", "zsh"]),
];
/// Directories that are no source.
const NOT_SOURCE: [&str; 2] = ["target", "fuzz"];

/// The steps that put the extension into `target`'s server.
pub fn steps<'a>(cx: &'a Cx, target: &'a Target) -> Result<Vec<Step<'a>>> {
    steps_to(cx, target, true)
}

/// The steps that leave the extension's library and staged files, and the server as it is.
pub fn library_steps<'a>(cx: &'a Cx, target: &'a Target) -> Result<Vec<Step<'a>>> {
    steps_to(cx, target, false)
}

fn steps_to<'a>(cx: &'a Cx, target: &'a Target, installed: bool) -> Result<Vec<Step<'a>>> {
    let compat = target.major.compat();
    let mut inputs = Inputs::default();
    for tree in ["core", "extension", "spockctrl", &compat] {
        let dir = cx.root.join(tree);
        if !dir.is_dir() {
            return Err(Failure::usage(format!("{} is not there", dir.display()), "restore the checkout"));
        }
        inputs = inputs.with(tree, Digest::of_tree(&dir, &NOT_SOURCE)?);
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        inputs = inputs.with(file, Digest::of_file(&cx.root.join(file))?);
    }
    let rustc = cx.ask("rustc", &["--version"])?;
    let inputs = inputs.with("rustc", rustc.trim()).with("profile", profile_overrides()).with("flags", FLAGS_VERSION);
    let built = inputs.clone().with("server", store_key(target));
    let name = |step: &str| format!("{}: {step}", target.label());
    Ok(vec![
        Step {
            name: name("stage"),
            inputs,
            outputs: vec![target.dirs.stage()],
            stamp: stamp_of(&target.dirs.base, "stage"),
            work: Box::new(move |_| stage(cx, target)),
        },
        Step {
            name: name("extension"),
            inputs: built,
            outputs: vec![library(target), program(target)],
            stamp: stamp_of(&target.dirs.base, if installed { "extension" } else { "extension-library" }),
            work: Box::new(move |progress| {
                let places = Places::ask(cx, &target.pg_config())?;
                if installed {
                    writable(&places)?;
                }
                build(cx, target, &places, &rustc, progress)?;
                check_symbols(target, &places)?;
                if installed { install(target, &places) } else { Ok(()) }
            }),
        },
    ])
}

/// Variables that change how cargo optimises a release build, as `name=value`; empty for the build that is released.
pub fn profile_overrides() -> String {
    let all = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let mut set: Vec<String> = all
        .filter(|(name, _)| name.starts_with("CARGO_PROFILE_RELEASE_") || name == "CARGO_INCREMENTAL")
        .map(|(name, value)| format!("{name}={}", value.to_string_lossy()))
        .collect();
    set.sort();
    set.join(" ")
}

/// The built library.
pub fn library(target: &Target) -> PathBuf {
    target.dirs.cargo().join("release/libspock.so")
}

/// The built program `spockctrl`.
fn program(target: &Target) -> PathBuf {
    target.dirs.cargo().join("release/spockctrl")
}

/// What the program says of itself: its man page and completions.
fn sayings(target: &Target) -> PathBuf {
    target.dirs.cargo().join("spockctrl")
}

/// Makes the staged tree equal to the sources. Unchanged files keep their times, so cargo rebuilds only what changed.
fn stage(cx: &Cx, target: &Target) -> Result<()> {
    let stage = target.dirs.stage();
    let mut wanted = Vec::new();
    for tree in ["core", "extension", "spockctrl", &target.major.compat()] {
        for file in files_below(&cx.root.join(tree), &NOT_SOURCE)? {
            let name = file.strip_prefix(&cx.root).unwrap_or(&file).to_owned();
            let content = fs::read(&file).map_err(Failure::io("read", &file))?;
            wanted.push((name, content));
        }
    }
    for (name, content) in &mut wanted {
        if name == Path::new("extension/Cargo.toml") {
            let text = String::from_utf8_lossy(content)
                .replace("default = [\"pg17\"]", &format!("default = [\"{}\"]", target.major.feature()));
            *content = text.into_bytes();
        }
        if name == Path::new("core/Cargo.toml") {
            *content = without_tests(&String::from_utf8_lossy(content))?.into_bytes();
        }
    }
    complete_upgrade_scripts(&mut wanted)?;
    let manifest = cx.root.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(Failure::io("read", &manifest))?;
    wanted.push(("Cargo.toml".into(), staged_manifest(&text)?.into_bytes()));
    let lock = cx.root.join("Cargo.lock");
    wanted.push(("Cargo.lock".into(), fs::read(&lock).map_err(Failure::io("read", &lock))?));
    sync(&stage, &wanted)
}

/// A crate's manifest without what only its tests need: some of that is not staged.
fn without_tests(text: &str) -> Result<String> {
    let bad = |why: String| Failure::failed(format!("core/Cargo.toml: {why}"), "");
    let mut manifest: toml::Table = text.parse().map_err(|e: toml::de::Error| bad(e.to_string()))?;
    manifest.remove("dev-dependencies");
    toml::to_string(&manifest).map_err(|e| bad(e.to_string()))
}

/// Puts into upgrade scripts what the install script has.
fn complete_upgrade_scripts(staged: &mut [(PathBuf, Vec<u8>)]) -> Result<()> {
    let base = format!("extension/sql/spock--{}.sql", env!("CARGO_PKG_VERSION"));
    let Some((_, base)) = staged.iter().find(|(name, _)| name == Path::new(&base)) else {
        return Err(Failure::failed(format!("{base} is not there"), "its name holds the workspace's version"));
    };
    let base = String::from_utf8_lossy(base).into_owned();
    for (name, content) in staged.iter_mut().filter(|(name, _)| name.extension().is_some_and(|e| e == "sql")) {
        let text = String::from_utf8_lossy(content).into_owned();
        let whole = upgrade_script::complete(&text, &base);
        *content = whole.map_err(|why| Failure::failed(format!("{}: {why}", name.display()), ""))?.into_bytes();
    }
    Ok(())
}

/// The workspace's manifest with only the crates that are staged.
fn staged_manifest(text: &str) -> Result<String> {
    let bad = |why: String| Failure::failed(format!("Cargo.toml: {why}"), "");
    let mut manifest: toml::Table = text.parse().map_err(|e: toml::de::Error| bad(e.to_string()))?;
    let workspace =
        manifest.get_mut("workspace").and_then(toml::Value::as_table_mut).ok_or_else(|| bad("no workspace".into()))?;
    workspace.insert("members".into(), vec!["core", "extension", "spockctrl"].into());
    workspace.remove("default-members");
    workspace.remove("exclude");
    if let Some(dependencies) = workspace.get_mut("dependencies").and_then(toml::Value::as_table_mut) {
        dependencies.retain(|_, value| match value.get("path").and_then(toml::Value::as_str) {
            Some(path) => path == "core",
            None => true,
        });
    }
    if let Some(dev) = manifest.get_mut("profile").and_then(|p| p.get_mut("dev")).and_then(toml::Value::as_table_mut) {
        dev.remove("package");
    }
    toml::to_string(&manifest).map_err(|e| bad(e.to_string()))
}

fn sync(stage: &Path, wanted: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    files::make_dir(stage)?;
    for old in files_below(stage, &[])? {
        let name = old.strip_prefix(stage).unwrap_or(&old);
        if !wanted.iter().any(|(wanted, _)| wanted == name) {
            files::remove_if_there(&old)?;
        }
    }
    for (name, content) in wanted {
        let path = stage.join(name);
        if !fs::read(&path).is_ok_and(|old| old == *content) {
            files::write_whole(&path, content)?;
        }
    }
    Ok(())
}

fn writable(places: &Places) -> Result<()> {
    for dir in [&places.pkglib, &places.bin, &places.share.join("extension")] {
        let probe = files::beside(&dir.join("probe"));
        fs::write(&probe, b"").map_err(Failure::io("write into", dir))?;
        files::remove_if_there(&probe)?;
    }
    Ok(())
}

fn build(cx: &Cx, target: &Target, places: &Places, rustc: &str, progress: &Progress<'_>) -> Result<()> {
    forget_stale_bindings(cx, target, &target.dirs.cargo(), "release", progress)?;
    let mut flags = remaps(cx, &[(target.dirs.cargo(), "/build"), (target.dirs.stage(), "/spock")]);
    flags.push("-Lnative=".to_owned() + &places.lib.to_string_lossy());
    flags.extend(rpath(places).map(|path| format!("-Clink-arg=-Wl,-rpath,{path}")));
    let log = target.dirs.log("extension");
    let mut child = cargo(cx, &target.dirs.stage(), &log)
        .args(["build", "--release", "-p", "spock", "--no-default-features", "--features", &target.major.feature()])
        .args(["--target-dir".into(), target.dirs.cargo().into_os_string()])
        .args(["--jobs".to_owned(), cx.jobs().to_string()])
        .env("PGRX_PG_CONFIG_PATH", target.pg_config())
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // pgrx compiles a file of C with the server's headers, whose error messages name their file.
        .env("CFLAGS", prefix_maps(target));
    if older_than_pgrx_wants(rustc) {
        child = child.args(["--ignore-rust-version"]);
    }
    child.run(progress)?;
    build_program(cx, target, &flags, progress)
}

/// Builds `spockctrl` with the same flags, so that crates that both need are compiled once, and lets it write its man page and
/// completions.
fn build_program(cx: &Cx, target: &Target, flags: &[String], progress: &Progress<'_>) -> Result<()> {
    cargo(cx, &target.dirs.stage(), &target.dirs.log("spockctrl"))
        .args(["build", "--release", "-p", "spockctrl"])
        .args(["--target-dir".into(), target.dirs.cargo().into_os_string()])
        .args(["--jobs".to_owned(), cx.jobs().to_string()])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .run(progress)?;
    let program = program(target).to_string_lossy().into_owned();
    for (name, words) in SAYINGS {
        let text = cx.ask(&program, words)?;
        files::write_whole(&sayings(target).join(name.rsplit('/').next().unwrap_or(name)), text.as_bytes())?;
    }
    Ok(())
}

/// Cargo, with `--offline` when no socket may be opened.
pub fn cargo(cx: &Cx, dir: &Path, log: &Path) -> Child {
    let child = Child::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), dir, log);
    if cx.flags.offline { child.env("CARGO_NET_OFFLINE", "true") } else { child }
}

/// clippy of the extension and the core with the headers of `target`'s server, in a directory of its own: it shares nothing
/// with a release build. It looks at the sources, not at the staged tree, so that messages name files that can be edited.
pub fn clippy(cx: &Cx, target: &Target, progress: &Progress<'_>) -> Result<Child> {
    let dir = target.dirs.base.join("lint");
    forget_stale_bindings(cx, target, &dir, "dev", progress)?;
    let mut child = cargo(cx, &cx.root, &target.dirs.log("lint"))
        .args(["clippy", "-p", "spock", "--no-default-features", "--features", &target.major.feature()])
        .args(["--target-dir".into(), dir.into_os_string()])
        .args(["--jobs".to_owned(), cx.jobs().to_string()])
        .env("PGRX_PG_CONFIG_PATH", target.pg_config());
    if older_than_pgrx_wants(&cx.ask("rustc", &["--version"])?) {
        child = child.args(["--ignore-rust-version"]);
    }
    Ok(child.args(["--", "-D", "warnings"]))
}

/// Bindings are made again when a variable changes, not when headers under the same prefix do: see to that here.
fn forget_stale_bindings(cx: &Cx, target: &Target, dir: &Path, profile: &str, progress: &Progress<'_>) -> Result<()> {
    let marker = dir.join("server-key");
    let key = store_key(target).to_string();
    match fs::read_to_string(&marker) {
        Ok(old) if old == key => return Ok(()),
        Ok(_) => {
            let log = target.dirs.log("extension");
            cargo(cx, &cx.root, &log)
                .args(["clean", "--profile", profile, "-p", "pgrx-pg-sys", "--target-dir"])
                .args([dir])
                .run(progress)?;
        }
        Err(_) => {}
    }
    files::write_whole(&marker, key.as_bytes())
}

/// Flags that keep this machine's directories out of messages and debug information, so that a build elsewhere gives the same
/// bytes; `own` is what the build adds. Of several that fit the last one counts.
pub fn remaps(cx: &Cx, own: &[(PathBuf, &'static str)]) -> Vec<String> {
    let given = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = given.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let sysroot = cx.ask("rustc", &["--print", "sysroot"]).ok().map(|said| PathBuf::from(said.trim()));
    let own = own.iter().map(|(dir, name)| (Some(dir.clone()), *name));
    let known = [(home, "/cargo"), (sysroot, "/rust")].into_iter().chain(own);
    let remap = |(from, to): (Option<PathBuf>, &str)| Some(format!("--remap-path-prefix={}={to}", from?.display()));
    known.filter_map(remap).collect()
}

/// The same for the C compiler; the server's own headers keep the names that they have below its prefix.
fn prefix_maps(target: &Target) -> String {
    let maps = [(target.prefix(), "."), (target.dirs.cargo(), "/build"), (target.dirs.stage(), "/spock")];
    let map = |(from, to): &(PathBuf, &str)| format!("-ffile-prefix-map={}={to}", from.display());
    maps.iter().map(map).collect::<Vec<_>>().join(" ")
}

/// Where the library looks for libpq: relative to itself when both belong to one prefix, nowhere of its own when the system
/// looks there anyway.
fn rpath(places: &Places) -> Option<String> {
    if symbols::SYSTEM_DIRS.iter().any(|dir| places.lib == Path::new(dir)) {
        return None;
    }
    let prefix = places.bin.parent().unwrap_or(&places.bin);
    match (places.pkglib.strip_prefix(prefix), places.lib.strip_prefix(prefix)) {
        (Ok(from), Ok(to)) => {
            let up: PathBuf = from.components().map(|_| "..").collect();
            Some(Path::new("$ORIGIN").join(up).join(to).to_string_lossy().into_owned())
        }
        _ => Some(places.lib.to_string_lossy().into_owned()),
    }
}

/// Does `rustc 1.95.0 (...)` need `--ignore-rust-version`?
pub fn older_than_pgrx_wants(rustc: &str) -> bool {
    let mut numbers = rustc.split_whitespace().nth(1).unwrap_or_default().split('.').map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < PGRX_RUSTC
}

fn check_symbols(target: &Target, places: &Places) -> Result<()> {
    let missing = symbols::missing(&library(target), &places.bin.join("postgres"), &places.lib)?;
    if missing.is_empty() {
        return Ok(());
    }
    let what = format!(
        "the extension needs symbols that the {} server does not export: {}",
        target.label(),
        missing.join(", ")
    );
    Err(Failure::failed(what, "features of a patched server are looked up at run time, never linked"))
}

/// The extension's files and where they go: below `pkglib/` or `share/`. A second name of the library is not among them.
pub fn library_files(target: &Target) -> Result<Vec<(PathBuf, String)>> {
    let source = target.dirs.stage().join("extension");
    let mut found = vec![
        (library(target), "pkglib/spock.so".to_owned()),
        (source.join("spock.control"), "share/extension/spock.control".to_owned()),
    ];
    let scripts = source.join("sql");
    if scripts.is_dir() {
        for script in
            files_below(&scripts, &[])?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "sql"))
        {
            let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push((script, format!("share/extension/{name}")));
        }
    }
    Ok(found)
}

/// The files of `spockctrl` and where they go: below `bin/` or `share/`.
fn program_files(target: &Target) -> Result<Vec<(PathBuf, String)>> {
    let mut found = vec![(program(target), "bin/spockctrl".to_owned())];
    let samples = target.dirs.stage().join("spockctrl/share");
    for sample in files_below(&samples, &[])? {
        let name = sample.strip_prefix(&samples).unwrap_or(&sample).to_string_lossy().into_owned();
        found.push((sample, format!("share/spock/{name}")));
    }
    for (name, _) in SAYINGS {
        let file = sayings(target).join(name.rsplit('/').next().unwrap_or(name));
        found.push((file, name.to_owned()));
    }
    Ok(found)
}

fn install(target: &Target, places: &Places) -> Result<()> {
    remove_old_scripts(&places.share.join("extension"))?;
    for (from, to) in library_files(target)?.into_iter().chain(program_files(target)?) {
        let (to, mode) = match to.split_once('/') {
            Some(("pkglib", name)) => (places.pkglib.join(name), 0o755),
            Some(("bin", name)) => (places.bin.join(name), 0o755),
            _ => (places.share.join(to.trim_start_matches("share/")), 0o644),
        };
        if let Some(dir) = to.parent() {
            files::make_dir(dir)?;
        }
        files::install_file(&from, &to, mode)?;
    }
    // A link, not a copy: the server must see one file, or it loads it twice.
    let link = places.pkglib.join("spock_output.so");
    files::remove_if_there(&link)?;
    symlink("spock.so", &link).map_err(Failure::io("make", &link))
}

fn remove_old_scripts(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Failure::io("read", dir))? {
        let path = entry.map_err(Failure::io("read", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("spock--") && name.ends_with(".sql") {
            files::remove_if_there(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_for_older_compilers() {
        for (version, older) in
            [("rustc 1.95.0 (x)", true), ("rustc 1.96.0", false), ("rustc 2.0.0-nightly", false), ("", true)]
        {
            assert_eq!(older_than_pgrx_wants(version), older, "{version}");
        }
    }

    #[test]
    fn the_staged_workspace_stands_alone() {
        let text = staged_manifest(include_str!("../../Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let workspace = manifest["workspace"].as_table().unwrap();
        assert_eq!(workspace["members"].as_array().unwrap().len(), 3);
        assert!(workspace["dependencies"].get("spock-core").is_some());
        assert!(workspace["dependencies"].get("spock-mesh").is_none());
        assert_eq!(manifest["profile"]["release"]["panic"].as_str(), Some("unwind"));
        let core: toml::Table = without_tests(include_str!("../../core/Cargo.toml")).unwrap().parse().unwrap();
        assert!(core.get("dev-dependencies").is_none() && core.get("package").is_some());
    }

    #[test]
    fn libpq_is_found_relative_to_the_library() {
        let at = |bin: &str, lib: &str, pkglib: &str| Places {
            version: String::new(),
            bin: bin.into(),
            lib: lib.into(),
            pkglib: pkglib.into(),
            share: "/s".into(),
        };
        let cases = [
            (at("/p/bin", "/p/lib", "/p/lib"), Some("$ORIGIN/../lib")),
            (at("/p/bin", "/p/lib", "/p/lib/postgresql"), Some("$ORIGIN/../../lib")),
            (at("/usr/lib/postgresql/15/bin", "/usr/lib/x", "/usr/lib/postgresql/15/lib"), Some("/usr/lib/x")),
            (at("/usr/lib/postgresql/15/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/postgresql/15/lib"), None),
        ];
        for (places, want) in cases {
            assert_eq!(rpath(&places).as_deref(), want, "{places:?}");
        }
    }

    #[test]
    fn staging_keeps_unchanged_files_and_drops_old_ones() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| (PathBuf::from(name), text.as_bytes().to_vec());
        sync(dir.path(), &[file("a", "1"), file("sub/b", "2")]).unwrap();
        let before = fs::metadata(dir.path().join("a")).unwrap().modified().unwrap();
        sync(dir.path(), &[file("a", "1"), file("c", "3")]).unwrap();
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().modified().unwrap(), before);
        assert!(!dir.path().join("sub/b").exists() && dir.path().join("c").exists());
    }
}
