//! PostgreSQL's own test suites on the server that was built here, as an unprivileged user.
//!
//! They run in the object tree. Where the account that servers run as cannot reach this clone, source and objects are made
//! again in a directory of its own below the system's temporary directory, and kept there for the next run.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use spock_mesh::account::Account;

use crate::args::ServerArgs;
use crate::child::Child;
use crate::cx::{Cx, Dirs};
use crate::digest::{Digest, files_below};
use crate::exit::{Failure, Result};
use crate::files;
use crate::major::Major;
use crate::suites::counted;
use crate::system::{self, Purpose};
use crate::tally::Tally;
use crate::target::{Origin, Target};
use crate::{server, step};

/// Directory in the object tree and target of make, in the order of how much breaks when they fail.
const SUITES: [(&str, &str); 6] = [
    ("src/test/regress", "check"),
    ("src/test/isolation", "check"),
    ("contrib/test_decoding", "check"),
    ("src/test/subscription", "check"),
    ("src/test/recovery", "check"),
    ("src/test/modules/test_spock_patches", "check"),
];

/// Runs all suites on a major; the tally counts regression tests and TAP files.
pub fn run(cx: &Cx, major: Major, args: &ServerArgs) -> Result<Tally> {
    system::require(cx, &[Purpose::Extension, Purpose::Server, Purpose::ServerTests])?;
    let mut target = Target::resolve(cx, major, args)?;
    let account = Account::for_servers().map_err(|e| Failure::failed(e.to_string(), "create the account by hand"))?;
    if let Some(account) = &account
        && !reachable(account, &cx.root)
    {
        let clone = Digest::of_bytes(cx.root.as_os_str().as_encoded_bytes()).short();
        let name = format!("spock-server-suite-{clone}/{major}-{}", target.kind);
        target.dirs = Dirs { base: std::env::temp_dir().join(name) };
    }
    let Origin::Compile(recipe) = &target.origin else {
        return Err(Failure::usage(
            "the server suite needs a server that is built here",
            "leave out --source prebuilt and --pg-config",
        ));
    };
    let _lock = cx.lock(&target.dirs)?;
    step::perform(cx, server::object_steps(cx, &target, recipe, &target.dirs, args.trust_new_digest))?;
    let mut tally = Tally::default();
    if cx.flags.plan {
        SUITES.iter().for_each(|(dir, _)| cx.say.data(&format!("run  {}: {dir}", target.label())));
        return Ok(tally);
    }
    if let Some(account) = &account {
        give(&target.dirs.build(), account)?;
    }
    for (dir, goal) in SUITES {
        // The tests of our own patches come with the patches.
        if !target.dirs.src().join(dir).is_dir() {
            continue;
        }
        let log = target.dirs.log(&format!("suite-{}", dir.replace('/', "-")));
        files::remove_if_there(&log)?;
        let child = Child::new("make", &target.dirs.build(), &log)
            .args(["-C", dir, goal])
            // PostgreSQL's own timeouts are made for machines with nothing else to do.
            .env("PG_TEST_TIMEOUT_DEFAULT", "600")
            .env("HOME", target.dirs.build())
            .account(account.as_ref().map(|account| (account.uid, account.gid)));
        let label = format!("{}: {dir}", target.label());
        match counted(cx, &label, &child) {
            Ok(one) => tally += one,
            Err(failure) => {
                stop_servers(&target.dirs.build())?;
                return Err(failure);
            }
        }
    }
    Ok(tally)
}

/// Can the account read a file in this directory?
fn reachable(account: &Account, dir: &Path) -> bool {
    let child = Child::new("test", Path::new("/"), Path::new("/dev/null")).args(["-r"]).args([dir.join("pg.lock")]);
    let child = child.account(Some((account.uid, account.gid)));
    child.read().is_ok()
}

/// Stops what an interrupted suite left: pg_ctl starts servers in sessions of their own, out of reach of a group's signal.
fn stop_servers(build: &Path) -> Result<()> {
    for file in files_below(build, &[])?.iter().filter(|path| path.ends_with("postmaster.pid")) {
        let text = fs::read_to_string(file).unwrap_or_default();
        let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else { continue };
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(&*build.to_string_lossy()) {
            // One that has ended since is what is wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        }
    }
    Ok(())
}

/// Hands a tree over to the account.
fn give(dir: &Path, account: &Account) -> Result<()> {
    let own = |path: &Path| {
        let meta = fs::symlink_metadata(path).map_err(Failure::io("look at", path))?;
        if meta.is_symlink() {
            return Ok(());
        }
        chown(path, Some(account.uid), Some(account.gid)).map_err(Failure::io("give away", path))
    };
    own(dir)?;
    for entry in fs::read_dir(dir).map_err(Failure::io("read", dir))? {
        let entry = entry.map_err(Failure::io("read", dir))?;
        if entry.file_type().map_err(Failure::io("look at", entry.path()))?.is_dir() {
            give(&entry.path(), account)?;
        } else {
            own(&entry.path())?;
        }
    }
    Ok(())
}
