//! An installed server: where its programs are, what it knows, and a copy of it when the servers' account cannot read it.
//!
//! **Invariant:** every child gets its environment from [`Prefix::command`]: nothing of the caller's `PG*`, locale or
//! `RUST_BACKTRACE` reaches a server.

use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::account::Account;
use crate::error::MeshError;
use crate::process;

/// How long a copy of an installation is kept at least.
const MIRROR_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// A PostgreSQL major version, 15 to 18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Major(pub u16);

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Does the server carry our patches?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// With the series of `patches/`.
    Patched,
    /// As released.
    Stock,
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Patched => "patched",
            Self::Stock => "stock",
        })
    }
}

/// An installation with the extension in it.
#[derive(Debug, Clone)]
pub struct Prefix {
    root: PathBuf,
    account: Option<Account>,
    major: Major,
    version: String,
    lists_output_plugins: bool,
}

impl Prefix {
    /// Opens the installation below `path` (the directory that holds `bin/`), copying it when the account that servers
    /// run as cannot read it there.
    pub fn open(path: &Path) -> Result<Self, MeshError> {
        let bad = |why: String| MeshError::Prefix { path: path.to_owned(), why };
        let given = fs::canonicalize(path).map_err(|e| bad(e.to_string()))?;
        if !given.join("bin/postgres").is_file() {
            return Err(bad("there is no bin/postgres in it".to_owned()));
        }
        let account = Account::for_servers()?;
        let mut prefix =
            Self { root: given, account, major: Major(0), version: String::new(), lists_output_plugins: false };
        if prefix.account.is_some() && prefix.command("postgres").arg("--version").output().is_err() {
            prefix.root = mirror(&prefix.root)?;
        }
        let said = process::output_of(prefix.command("postgres").arg("--version"))?;
        (prefix.major, prefix.version) =
            parse_version(&said).ok_or_else(|| bad(format!("it calls itself {said:?}")))?;
        let settings = process::output_of(prefix.command("postgres").arg("--describe-config"))?;
        prefix.lists_output_plugins = settings.lines().any(|line| line.starts_with("output_plugin_libraries\t"));
        Ok(prefix)
    }

    /// The directory that holds `bin/`; a readable copy when the one given was not.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The server's major version.
    pub fn major(&self) -> Major {
        self.major
    }

    /// The server's version as it prints it, e.g. `17.11`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The account that servers run as; none: the caller's own.
    pub fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// Does the server know `output_plugin_libraries`? One that does refuses plugins that are not listed there, one
    /// that does not refuses to start when it is set.
    pub fn lists_output_plugins(&self) -> bool {
        self.lists_output_plugins
    }

    /// One of the installation's programs, run as the servers' account in a clean environment, without input.
    pub fn command(&self, program: &str) -> Command {
        self.wrapped(&[], program)
    }

    /// Like [`Prefix::command`], started through `wrapper` (a program and its arguments).
    pub(crate) fn wrapped(&self, wrapper: &[&str], program: &str) -> Command {
        let path = self.root.join("bin").join(program);
        let mut command = match wrapper {
            [] => Command::new(&path),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&path);
                command
            }
        };
        command.env_clear().stdin(Stdio::null()).current_dir("/");
        command.envs([("LC_ALL", "C"), ("TZ", "UTC"), ("PATH", "/usr/bin:/bin")]);
        command.env("LD_LIBRARY_PATH", self.root.join("lib"));
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }
}

/// `postgres (PostgreSQL) 17.11 (spock abc)` gives 17 and `17.11`.
fn parse_version(said: &str) -> Option<(Major, String)> {
    let version = said.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((Major(digits.parse().ok()?), version.to_owned()))
}

/// A copy of an installation that everybody may read, made once per content (paths, sizes and times of its files).
fn mirror(root: &Path) -> Result<PathBuf, MeshError> {
    /// Tests of one process are threads: what is made beside is named after the process.
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    let family = format!("spock-prefix-{:08x}-", hasher.finish() >> 32);
    fingerprint(root, &mut hasher)?;
    let target = std::env::temp_dir().join(format!("{family}{:016x}", hasher.finish()));
    if target.is_dir() {
        return Ok(target);
    }
    remove_outdated(&family)?;
    let beside = target.with_extension(format!("{}", std::process::id()));
    copy_tree(root, &beside, &mut Vec::new())?;
    match fs::rename(&beside, &target) {
        Ok(()) => Ok(target),
        // Somebody else was faster; his copy is as good as ours.
        Err(_) if target.is_dir() => {
            fs::remove_dir_all(&beside).map_err(MeshError::io("remove", &beside))?;
            Ok(target)
        }
        Err(e) => Err(MeshError::io("make", &target)(e)),
    }
}

/// Copies of earlier builds in the same place take 100 MB each. A day is longer than any test or demo runs from one.
fn remove_outdated(family: &str) -> Result<(), MeshError> {
    for path in entries(&std::env::temp_dir())? {
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(family));
        let made = fs::metadata(&path).and_then(|meta| meta.modified()).ok();
        let old = made.and_then(|made| made.elapsed().ok()).is_some_and(|age| age > MIRROR_AGE_MAX);
        if ours && old {
            fs::remove_dir_all(&path).map_err(MeshError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, MeshError> {
    let listing = fs::read_dir(dir).and_then(|all| all.map(|one| one.map(|entry| entry.path())).collect());
    let mut paths: Vec<PathBuf> = listing.map_err(MeshError::io("read", dir))?;
    paths.sort();
    Ok(paths)
}

fn fingerprint(dir: &Path, hasher: &mut DefaultHasher) -> Result<(), MeshError> {
    for path in entries(dir)? {
        let meta = fs::symlink_metadata(&path).map_err(MeshError::io("look at", &path))?;
        path.hash(hasher);
        if meta.is_dir() {
            fingerprint(&path, hasher)?;
        } else {
            (meta.len(), meta.mtime(), meta.mtime_nsec()).hash(hasher);
        }
    }
    Ok(())
}

/// Copies files, links as links, and hard links as hard links: `spock_output.so` must stay one file with `spock.so`.
fn copy_tree(from: &Path, to: &Path, linked: &mut Vec<(u64, PathBuf)>) -> Result<(), MeshError> {
    fs::create_dir_all(to).map_err(MeshError::io("make", to))?;
    for path in entries(from)? {
        let target = to.join(path.file_name().unwrap_or_default());
        let meta = fs::symlink_metadata(&path).map_err(MeshError::io("look at", &path))?;
        if meta.is_dir() {
            copy_tree(&path, &target, linked)?;
        } else if meta.is_symlink() {
            let goal = fs::read_link(&path).map_err(MeshError::io("read", &path))?;
            symlink(goal, &target).map_err(MeshError::io("make", &target))?;
        } else if let Some((_, first)) = linked.iter().find(|(inode, _)| *inode == meta.ino()) {
            fs::hard_link(first, &target).map_err(MeshError::io("make", &target))?;
        } else {
            fs::copy(&path, &target).map_err(MeshError::io("copy", &path))?;
            if meta.nlink() > 1 {
                linked.push((meta.ino(), target));
            }
        }
    }
    Ok(())
}

/// The same tree under another name: files as hard links where the file system allows, as copies otherwise.
pub(crate) fn link_tree(from: &Path, to: &Path) -> Result<(), MeshError> {
    fs::create_dir_all(to).map_err(MeshError::io("make", to))?;
    for path in entries(from)? {
        let target = to.join(path.file_name().unwrap_or_default());
        let meta = fs::symlink_metadata(&path).map_err(MeshError::io("look at", &path))?;
        if meta.is_dir() {
            link_tree(&path, &target)?;
        } else if meta.is_symlink() {
            let goal = fs::read_link(&path).map_err(MeshError::io("read", &path))?;
            symlink(goal, &target).map_err(MeshError::io("make", &target))?;
        } else if fs::hard_link(&path, &target).is_err() {
            fs::copy(&path, &target).map_err(MeshError::io("copy", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_an_extra_version() {
        let cases = [
            ("postgres (PostgreSQL) 17.11", 17, "17.11"),
            ("postgres (PostgreSQL) 15.18 (spock 1a2b)", 15, "15.18"),
            ("postgres (PostgreSQL) 17.11-spock.1a2b", 17, "17.11-spock.1a2b"),
            ("postgres (PostgreSQL) 19beta1", 19, "19beta1"),
        ];
        for (said, major, version) in cases {
            assert_eq!(parse_version(said), Some((Major(major), version.to_owned())), "{said}");
        }
        assert_eq!(parse_version("something else"), None);
    }
}
