//! Builds everything twice under circumstances that must not matter, and compares every byte.
//!
//! The two builds differ in directory, cargo's home, user (as root), locale, time zone, umask and clock; the clock is another one
//! for all programs but Rust's own. Compiled twice are the extension with all its crates and every package; the server too when
//! asked for, otherwise both take it from the store.
//!
//! **Invariant:** what was not done twice, or not differently, is said.

use std::fs;
use std::path::{Path, PathBuf};

use spock_mesh::account::Account;

use crate::args::{Pick, ServerArgs, SourceArg};
use crate::child::{Child, VERIFYING};
use crate::command::{build, package};
use crate::cx::Cx;
use crate::digest::files_below;
use crate::exit::{Failure, Result};
use crate::extension;
use crate::files::{self, Room};
use crate::major::{Kind, Major};
use crate::obtain;
use crate::package::plan::{self, Format, Plan, Wish};
use crate::package::{compare, sbom};
use crate::server;
use crate::system::{self, Purpose};
use crate::target::{Code, Origin, Target};

/// What is not copied into the two source trees.
const NOT_SOURCE: [&str; 4] = [".git", "target", ".pgrx", "dist"];
/// Two source trees, two builds of the extension and two servers.
const VERIFY_MB: u64 = 6000;

/// How one of the two builds is made.
struct Way<'a> {
    name: &'static str,
    dir: PathBuf,
    umask: &'static str,
    locale: &'static str,
    zone: &'static str,
    /// As in `faketime -f`; none: the machine's clock.
    clock: Option<&'static str>,
    account: Option<&'a Account>,
}

/// Verifies each major in turn; fails when a byte differs.
pub fn run(cx: &Cx, pick: &Pick, formats: &[Format], server_too: bool) -> Result<()> {
    let mut bad = 0;
    for major in &pick.pg.0 {
        bad += of_major(cx, *major, &pick.server, formats, server_too)?;
    }
    match bad {
        0 => Ok(()),
        n => Err(Failure::failed(format!("{n} files differ between two builds"), "the lines above say where")),
    }
}

/// Verifies one major; the number of differences.
pub fn of_major(cx: &Cx, major: Major, args: &ServerArgs, formats: &[Format], server_too: bool) -> Result<usize> {
    let args = &package::distribution_server(cx, major, args);
    plan::refuse_server(cx, major, args)?;
    let deb = formats.contains(&Format::Deb).then_some(Purpose::DebPackages);
    system::require(cx, &[Purpose::Packages].into_iter().chain(deb).collect::<Vec<_>>())?;
    system::require_named(cx, "faketime")?;
    let target = build::server_of(cx, major, args)?;
    let wish = Wish { formats: formats.to_vec(), out: PathBuf::new(), revision: 1 };
    let plan = Plan::of(cx, &target, &wish)?;
    if server_too && !matches!(target.origin, Origin::Compile(_)) {
        return Err(Failure::usage(
            "only a server that is compiled here can be compiled twice",
            "leave out --verify-server",
        ));
    }
    if cx.flags.plan {
        cx.say.data(&format!("run  {}: build extension and packages twice, compare", target.label()));
        return Ok(0);
    }
    let base = std::env::temp_dir().join(format!("spock-verify-{}", std::process::id()));
    files::need_space(&std::env::temp_dir(), Room::Temporary, VERIFY_MB, "building twice")?;
    let account = Account::for_servers().map_err(|e| Failure::failed(e.to_string(), "create the account by hand"))?;
    let ways = ways(&base, account.as_ref());
    say_what_is_done(cx, &target, &ways, server_too);
    let done = both(cx, &plan, &ways, args, server_too).and_then(|()| {
        let outs = ways.each_ref().map(|way| way.dir.join("out"));
        compare::directories(cx, &outs[0], &outs[1], &base.join("differences"))
    });
    files::remove_if_there(&base)?;
    let found = done?;
    for name in &found.same {
        cx.say.data(&format!("same    {name}"));
    }
    for line in &found.differences {
        cx.say.data(&format!("DIFFERS {line}"));
    }
    cx.say.result(
        "verified",
        &format!("{}: {} files the same, {} differences", target.label(), found.same.len(), found.differences.len()),
    );
    Ok(found.differences.len())
}

fn ways<'a>(base: &Path, account: Option<&'a Account>) -> [Way<'a>; 2] {
    let first =
        Way { name: "first", dir: base.join("a"), umask: "022", locale: "C", zone: "UTC", clock: None, account: None };
    let second = Way {
        name: "second",
        dir: base.join("b/in/a/longer-directory"),
        umask: "077",
        locale: "C.UTF-8",
        zone: "Asia/Kathmandu",
        clock: Some("+400d"),
        account,
    };
    [first, second]
}

fn say_what_is_done(cx: &Cx, target: &Target, ways: &[Way<'_>; 2], server_too: bool) {
    for way in ways {
        let user = way.account.map_or("this user", |account| account.name.as_str());
        let clock = way.clock.unwrap_or("the machine's");
        cx.say.note(
            "Build",
            &format!(
                "{}: in {}, as {user}, umask {}, locale {}, zone {}, clock {clock}",
                way.name,
                way.dir.display(),
                way.umask,
                way.locale,
                way.zone
            ),
        );
    }
    let server = match (target.kind, server_too) {
        (_, true) => "server, extension and packages are each built twice",
        (Kind::Patched, false) => {
            "extension and packages are each built twice; the server comes from the store both times (--verify-server builds it twice)"
        }
        (Kind::Stock, _) => "extension and packages are each built twice; the server is not ours",
    };
    cx.say.note("Twice", &format!("{}: {server}", target.label()));
    if ways[1].account.is_none() {
        cx.say.note("Once", "the same user both times: only root can build as another one");
    }
    cx.say.note("Once", "cargo and rustc see the machine's clock both times: they do not run under faketime");
}

fn both(cx: &Cx, plan: &Plan<'_>, ways: &[Way<'_>; 2], args: &ServerArgs, server_too: bool) -> Result<()> {
    // Neither build fetches: what one of them gets must be what the other one gets.
    extension::cargo(cx, &cx.root, Path::new("/dev/null"))
        .args(["fetch", "--quiet", "--locked", "--target", &sbom::triple()])
        .read()?;
    // A build takes minutes: this program may be another one, or gone, when the second begins.
    let xtask = std::env::current_exe().map_err(Failure::io("find", "this program"))?;
    ways.iter().try_for_each(|way| copy(&xtask, &way.dir.join("xtask")))?;
    for way in ways {
        let name = format!("{}: {} build", plan.target.label(), way.name);
        let progress = cx.say.begin(&name, "");
        prepare(cx, plan.target, way, server_too)?;
        let source = source(cx, plan.target, way, args)?;
        let log = cx.root.join(format!("target/pg/log/verify-{}.log", way.name));
        files::remove_if_there(&log)?;
        command(cx, plan, way, source, &log)?.run(&progress)?;
        progress.done();
    }
    Ok(())
}

/// Copies the sources, cargo's downloads and the server, or its tarball, to a directory of the way's own.
fn prepare(cx: &Cx, target: &Target, way: &Way<'_>, server_too: bool) -> Result<()> {
    for file in files_below(&cx.root, &NOT_SOURCE)? {
        let name = file.strip_prefix(&cx.root).unwrap_or(&file);
        copy(&file, &way.dir.join("src").join(name))?;
    }
    let home = |variable: &str, below: &str| {
        let given = std::env::var_os(variable).map(PathBuf::from);
        given.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(below)))
    };
    for part in ["registry/index", "registry/cache"] {
        if let Some(from) = home("CARGO_HOME", ".cargo").map(|home| home.join(part)).filter(|from| from.is_dir()) {
            files::copy_tree(&from, &way.dir.join("cargo").join(part))?;
        }
    }
    // A toolchain in a home directory is out of another user's reach.
    let sysroot = cx.ask("rustc", &["--print", "sysroot"])?;
    if way.account.is_some() {
        files::copy_tree(Path::new(sysroot.trim()), &way.dir.join("toolchain"))?;
    }
    let key = server::store_key(target);
    let entry = server::entry_dir(cx, &key);
    let cache = way.dir.join("cache");
    if server_too {
        files::copy_tree(&cx.cache.downloads(), &cache.join("downloads"))?;
    } else if entry.is_dir() {
        files::copy_tree(&entry, &cache.join("servers").join(key.to_string()))?;
    }
    files::make_dir(&way.dir.join("home"))?;
    match way.account {
        Some(account) => give(&way.dir, account),
        None => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        files::make_dir(parent)?;
    }
    if fs::symlink_metadata(from).is_ok_and(|meta| meta.is_symlink()) {
        let goal = fs::read_link(from).map_err(Failure::io("read", from))?;
        return std::os::unix::fs::symlink(goal, to).map_err(Failure::io("make", to));
    }
    fs::copy(from, to).map(drop).map_err(Failure::io("copy", from))
}

fn give(dir: &Path, account: &Account) -> Result<()> {
    let owner = format!("{}:{}", account.uid, account.gid);
    let child = Child::new("chown", Path::new("/"), Path::new("/dev/null"));
    child.args(["--recursive", "--no-dereference", &owner]).args([dir]).read().map(drop)
}

/// The words that choose the same server in a build of its own. A local source is copied: the other user may not read it.
fn source(cx: &Cx, target: &Target, way: &Way<'_>, args: &ServerArgs) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut say = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    let local = match &target.origin {
        Origin::Installed(installed) => {
            say("--pg-config", installed.pg_config.to_string_lossy().into_owned());
            None
        }
        Origin::Prebuilt(_) => {
            say("--source", obtain::name_of(&SourceArg::Prebuilt).to_owned());
            None
        }
        Origin::Compile(recipe) => match &recipe.code {
            Code::File { path, .. } | Code::Tree { path, .. } => Some(path.clone()),
            // Without a pin it would be fetched again, and may be another one by then.
            Code::Release { digest: Some(digest), .. } if cx.pins.of(target.major)?.sha256.is_none() => {
                let file = &cx.pins.of(target.major)?.file;
                Some(cx.cache.downloads().join(format!("{digest}-{file}")))
            }
            Code::Release { .. } => {
                if let Some(source) = &args.source {
                    say("--source", obtain::name_of(source).to_owned());
                }
                None
            }
        },
    };
    if let Some(from) = local {
        let to = way.dir.join("source").join(from.file_name().unwrap_or_default());
        if from.is_dir() {
            files::copy_tree(&from, &to)?
        } else {
            copy(&from, &to)?
        }
        if let Some(account) = way.account {
            give(&way.dir.join("source"), account)?;
        }
        say("--source", format!("path:{}", to.display()));
    }
    if args.trust_new_digest {
        words.push("--trust-new-digest".to_owned());
    }
    if cx.flags.offline {
        words.push("--offline".to_owned());
    }
    Ok(words)
}

/// `umask`, then `faketime`, then this program in the way's source tree.
fn command(cx: &Cx, plan: &Plan<'_>, way: &Way<'_>, source: Vec<String>, log: &Path) -> Result<Child> {
    let own = way.dir.join("xtask");
    let formats: Vec<String> = plan.formats.iter().map(ToString::to_string).collect();
    let mut words =
        vec!["-c".to_owned(), "umask \"$1\"; shift; exec \"$@\"".to_owned(), "sh".to_owned(), way.umask.to_owned()];
    if let Some(clock) = way.clock {
        words.extend(["faketime", "-f", clock].map(str::to_owned));
    }
    words.push(own.to_string_lossy().into_owned());
    words.extend(["package", "--pg", &plan.major().to_string(), "--format", &formats.join(",")].map(str::to_owned));
    words.extend(["--server".to_owned(), plan.target.kind.to_string(), "--jobs".to_owned(), cx.jobs().to_string()]);
    words.extend(["--out".to_owned(), way.dir.join("out").to_string_lossy().into_owned()]);
    words.extend(source);
    let path = std::env::var("PATH").unwrap_or_default();
    let path = match way.account {
        Some(_) => format!("{}:{path}", way.dir.join("toolchain/bin").display()),
        None => path,
    };
    let mut child = Child::new("sh", &way.dir.join("src"), log).args(words);
    for (name, value) in [("CARGO_HOME", "cargo"), ("SPOCK_CACHE_DIR", "cache"), ("HOME", "home")] {
        child = child.env(name, way.dir.join(value));
    }
    if way.account.is_some() {
        let cargo = way.dir.join("toolchain/bin/cargo");
        child = child.env("CARGO", &cargo).env("RUSTUP_HOME", way.dir.join("toolchain"));
    } else if let Some(home) = std::env::var_os("HOME") {
        let rustup = std::env::var_os("RUSTUP_HOME").unwrap_or_else(|| Path::new(&home).join(".rustup").into());
        child = child.env("RUSTUP_HOME", rustup);
    }
    let account = way.account.map(|account| (account.uid, account.gid));
    Ok(child
        .env("PATH", path)
        .env("LC_ALL", way.locale)
        .env("TZ", way.zone)
        .env(VERIFYING, "1")
        .env("CARGO_NET_OFFLINE", "true")
        .env("USER", way.account.map_or("one", |account| account.name.as_str()))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        // The clock is another one; times of files are what the program sets.
        .env("NO_FAKE_STAT", "1")
        .env("FAKE_UTIME", "0")
        .env("SOURCE_DATE_EPOCH", plan.epoch.to_string())
        .account(account))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::patchset::PatchSet;
    use crate::target::Recipe;

    #[test]
    fn both_builds_choose_the_server_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut cx = Cx::for_tests();
        let way = &ways(&dir.path().join("work"), None)[0];
        let major: Major = "17".parse().unwrap();
        let target = |code: Code| {
            let patches = PatchSet { diffs: Vec::new(), id: Digest::of_bytes(b"") };
            let (options, compiler) = (Vec::new(), String::new());
            let recipe = Recipe { version: "17.11".to_owned(), code, patches, options, compiler };
            Target {
                major,
                kind: Kind::Patched,
                origin: Origin::Compile(Box::new(recipe)),
                dirs: cx.dirs(major, Kind::Patched),
            }
        };
        let path = dir.path().join("pg.tar.bz2");
        fs::write(&path, "tarball").unwrap();
        let digest = Digest::of_file(&path).unwrap();
        let local = target(Code::File { path: path.clone(), digest });
        let args = ServerArgs { source: Some(SourceArg::Path(path)), trust_new_digest: true, ..ServerArgs::default() };
        let copied = way.dir.join("source/pg.tar.bz2");
        let from = format!("path:{}", copied.display());
        assert_eq!(source(&cx, &local, way, &args).unwrap(), ["--source", &from, "--trust-new-digest", "--offline"]);
        assert_eq!(Digest::of_file(&copied).unwrap(), digest);
        let pinned = target(Code::Release { digest: cx.pins.of(major).unwrap().sha256, order: Vec::new() });
        let args = ServerArgs { source: Some(SourceArg::Debian), ..ServerArgs::default() };
        cx.flags.offline = false;
        assert_eq!(source(&cx, &pinned, way, &args).unwrap(), ["--source", "debian"]);
        assert!(source(&cx, &pinned, way, &ServerArgs::default()).unwrap().is_empty());
    }
}
