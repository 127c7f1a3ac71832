//! Clean roots: a minimal system from debootstrap, made once and copied for each use, entered in namespaces of its own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::child::Child;
use crate::cx::Cx;
use crate::digest::files_below;
use crate::exit::{Failure, Result};
use crate::files;
use crate::matrix::Machine;

/// Directories whose content is the package manager's own, or changes by itself.
const NOT_RESIDUE: [&str; 9] = [
    "var/lib/dpkg/",
    "var/lib/apt/",
    "var/cache/",
    "var/log/",
    "etc/passwd",
    "etc/group",
    "etc/shadow",
    "etc/gshadow",
    "etc/sub",
];
/// How long one command in a root may take, in seconds: apt fetches some 60 MB, everything else takes less than 30 s.
const COMMAND_SECONDS_MAX: &str = "600";
/// A base root and its copies.
const ROOTS_MB: u64 = 1500;

/// Releases of Debian that roots are made of, oldest first: what was built on one runs on the later ones.
const RELEASES: [&str; 3] = ["bookworm", "trixie", "sid"];

/// The name under which debootstrap knows a distribution.
fn release_of(machine: &Machine) -> Option<&'static str> {
    match machine.distribution.as_str() {
        "debian-12" => Some("bookworm"),
        "debian-13" => Some("trixie"),
        _ => None,
    }
}

/// The release in which packages that were built here are tried, or why they cannot be: the machine's own, and for a stock
/// server that this one has not, the release that has it (`suite`).
pub fn release_for(machine: &Machine, stock_suite: Option<&str>) -> std::result::Result<&'static str, String> {
    let own = release_of(machine)
        .ok_or_else(|| format!("clean roots are made with debootstrap, which has none for {}", machine.distribution))?;
    let Some(suite) = stock_suite else { return Ok(own) };
    let place = |name: &str| RELEASES.iter().position(|known| *known == name);
    match place(suite) {
        Some(at) if place(own) <= Some(at) => Ok(RELEASES[at]),
        _ => Err(format!("the server is that of {suite}, and what is built on {own} need not run there")),
    }
}

/// Why roots cannot be made or entered here.
pub fn cannot_be_had(cx: &Cx, release: &str) -> Result<Option<String>> {
    if let Err(why) = cx.ask("unshare", &["--mount", "--pid", "--fork", "true"]) {
        let why = why.to_string().lines().next().unwrap_or_default().to_owned();
        return Ok(Some(format!("no mount namespaces here ({why}); a container needs them allowed")));
    }
    match base(cx, release) {
        Ok(_) => Ok(None),
        Err(Failure::NotObtainable { what, tried, .. }) => Ok(Some(format!("{what}: {}", tried.join("; ")))),
        Err(failure) => Err(failure),
    }
}

/// A root that packages are installed in; removed when dropped.
pub struct Root {
    dir: PathBuf,
    log: PathBuf,
}

impl Drop for Root {
    fn drop(&mut self) {
        // A root that stays is in the way of nothing: the next one replaces it.
        let _ = files::remove_if_there(&self.dir);
    }
}

impl Root {
    /// A copy of the base system of `release` in `dir`.
    pub fn clean(cx: &Cx, release: &str, dir: PathBuf) -> Result<Self> {
        let base = base(cx, release)?;
        files::remove_if_there(&dir)?;
        let log = cx.root.join("target/pg/log/package-suite.log");
        let parent = dir.parent().unwrap_or(Path::new("/"));
        files::make_dir(parent)?;
        Child::new("cp", parent, &log).args(["--archive", "--reflink=auto"]).args([&base, &dir]).read()?;
        // Services are not started by installing them: there is nothing that would stop them.
        files::write_whole(&dir.join("usr/sbin/policy-rc.d"), b"#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(dir.join("usr/sbin/policy-rc.d"), fs::Permissions::from_mode(0o755))
            .map_err(Failure::io("set mode of", dir.join("usr/sbin/policy-rc.d")))?;
        Ok(Self { dir, log })
    }

    /// An empty root, for an image or a payload that brings everything.
    pub fn empty(cx: &Cx, dir: PathBuf) -> Result<Self> {
        files::remove_if_there(&dir)?;
        ["proc", "dev/shm", "tmp"].iter().try_for_each(|name| files::make_dir(&dir.join(name)))?;
        Ok(Self { dir, log: cx.root.join("target/pg/log/package-suite.log") })
    }

    /// Its directory on this machine.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts a file of this machine into it.
    pub fn bring(&self, from: &Path, to: &str) -> Result<()> {
        files::install_file(from, &self.dir.join(to), 0o755)
    }

    /// Runs a command in it, as root; everything that it starts ends with it.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        self.enter(&[], words)
    }

    /// Installs packages with apt. The index is as old as the base system: when a package has moved on, it is read again.
    pub fn apt_install(&self, packages: &[&str]) -> Result<()> {
        let words = [&["apt-get", "install", "--yes", "--no-install-recommends"], packages].concat();
        if self.run(&words).is_ok() {
            return Ok(());
        }
        self.run(&["apt-get", "update"])?;
        self.run(&words).map(drop)
    }

    /// Runs a command in it as an account, which is looked up inside.
    pub fn run_as(&self, account: &str, words: &[&str]) -> Result<String> {
        self.enter(&[&format!("--userspec={account}")], words)
    }

    fn enter(&self, options: &[&str], words: &[&str]) -> Result<String> {
        let script = "set -e; root=$1; shift\n\
            mount -t proc proc \"$root/proc\"; mount -t tmpfs -o mode=1777 tmpfs \"$root/dev/shm\"\n\
            for node in null zero urandom; do\n\
            [ -e \"$root/dev/$node\" ] || : > \"$root/dev/$node\"; mount --bind \"/dev/$node\" \"$root/dev/$node\"\n\
            done; exec chroot \"$@\"";
        Child::new("timeout", Path::new("/"), &self.log)
            .args(["--signal=KILL", COMMAND_SECONDS_MAX, "unshare"])
            .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"])
            .args([&self.dir])
            .args(options)
            .args([&self.dir])
            .args(words)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("HOME", "/")
            .read()
    }

    /// Every path in it that a removed package has to take along.
    pub fn paths(&self) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for path in files_below(&self.dir, &["proc", "dev", "sys"])? {
            let name = path.strip_prefix(&self.dir).unwrap_or(&path).to_string_lossy().into_owned();
            if !NOT_RESIDUE.iter().any(|begin| name.starts_with(begin)) {
                found.insert(name);
            }
        }
        Ok(found)
    }
}

/// The base system, from the user's cache; made with the mirror that the machine's own apt uses.
fn base(cx: &Cx, release: &str) -> Result<PathBuf> {
    let dir = cx.cache.0.join("roots").join(format!("{release}-{}", std::env::consts::ARCH));
    let _lock = cx.lock_entry(&dir)?;
    if dir.is_dir() {
        return Ok(dir);
    }
    if cx.flags.offline {
        return Err(Failure::NotObtainable {
            what: format!("a clean root of {release}"),
            tried: vec!["the cache: it is not there, and --offline forbids debootstrap".to_owned()],
            hint: "run it once without --offline".to_owned(),
        });
    }
    files::need_space(&cx.cache.0, files::Room::Cache, ROOTS_MB, "clean roots")?;
    let log = cx.root.join("target/pg/log/debootstrap.log");
    let name = format!("debootstrap {release}");
    let progress = cx.say.begin(&name, "not done yet");
    let lacking = |why: String| Failure::NotObtainable {
        what: format!("a clean root of {release}"),
        tried: vec![why],
        hint: "the mirror is the one of the machine's own apt".to_owned(),
    };
    let mirror = crate::obtain::debian_mirror(cx).ok_or_else(|| lacking("apt has no Debian mirror".to_owned()))?;
    let made = files::replace_dir(&dir, |part| {
        Child::new("debootstrap", &cx.cache.0, &log)
            .args(["--variant=minbase", "--include=ca-certificates", release])
            .args([part])
            .args([&mirror])
            .run(&progress)?;
        let root = Root { dir: part.to_owned(), log: log.clone() };
        // A mirror may be older than unstable's index allows; what it has is still signed.
        let lenient = b"Acquire::Check-Valid-Until \"false\";\n";
        let updated = files::write_whole(&part.join("etc/apt/apt.conf.d/90mirror"), lenient)
            .and_then(|()| root.run(&["apt-get", "update"]).map(drop));
        // The copy is the result: it must outlive this handle.
        std::mem::forget(root);
        updated?;
        fs::remove_dir_all(part.join("var/cache/apt/archives")).map_err(Failure::io("remove", part))?;
        files::make_dir(&part.join("var/cache/apt/archives/partial"))
    });
    match made {
        Ok(()) => progress.done(),
        Err(Failure::Interrupted) => return Err(Failure::Interrupted),
        Err(failure) => {
            let first = failure.to_string().lines().next().unwrap_or_default().to_owned();
            return Err(lacking(format!("debootstrap from {mirror}: {first}, see {}", log.display())));
        }
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_by_their_release() {
        let machine = |distribution: &str| Machine { distribution: distribution.into(), arch: "x86_64".into() };
        let release = |distribution, suite| release_for(&machine(distribution), suite);
        assert_eq!(release("debian-12", None), Ok("bookworm"));
        assert_eq!(release("debian-12", Some("bookworm")), Ok("bookworm"));
        assert_eq!(release("debian-12", Some("sid")), Ok("sid"));
        assert!(release("debian-13", Some("bookworm")).unwrap_err().contains("the server is that of bookworm"));
        assert!(release("rocky-9.4", None).unwrap_err().contains("rocky-9.4"));
    }
}
