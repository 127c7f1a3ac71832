//! What every command gets: the repository, the cache, the pins, the voice and the flags.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::args::Common;
use crate::child::{Child, check_interrupt};
use crate::exit::{Failure, Result};
use crate::files;
use crate::major::{Kind, Major};
use crate::pins::Pins;
use crate::say::Say;

/// How often a run that waits for another one looks whether that has ended.
const LOCK_EVERY: Duration = Duration::from_millis(200);

/// The context of one run.
pub struct Cx {
    /// The repository's root.
    pub root: PathBuf,
    /// Where downloads and built servers outlive a clone.
    pub cache: Cache,
    /// `pg.lock`.
    pub pins: Pins,
    /// The only way to say something.
    pub say: Say,
    /// The flags that every command takes.
    pub flags: Common,
}

/// Directories that all clones of this user share.
#[derive(Debug, Clone)]
pub struct Cache(pub PathBuf);

impl Cache {
    /// `$SPOCK_CACHE_DIR`, else `$XDG_CACHE_HOME/spock`, else `~/.cache/spock`.
    pub fn find() -> Result<Self> {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let found = var("SPOCK_CACHE_DIR")
            .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("spock")))
            .or_else(|| var("HOME").map(|dir| dir.join(".cache/spock")));
        let dir = found
            .ok_or_else(|| Failure::usage("there is no cache directory: HOME is not set", "set SPOCK_CACHE_DIR"))?;
        Ok(Self(std::path::absolute(&dir).map_err(Failure::io("find", dir))?))
    }

    /// `<sha256>-<name>` per file.
    pub fn downloads(&self) -> PathBuf {
        self.0.join("downloads")
    }

    /// One pristine installation per recipe.
    pub fn servers(&self) -> PathBuf {
        self.0.join("servers")
    }

    /// The private apt directory of a suite.
    pub fn apt(&self, suite: &str) -> PathBuf {
        self.0.join("apt").join(suite)
    }
}

/// The directories of one major and kind in this clone.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// `target/pg/17`, `target/pg/17-stock`.
    pub base: PathBuf,
}

impl Dirs {
    /// The unpacked and patched source.
    pub fn src(&self) -> PathBuf {
        self.base.join("src")
    }

    /// The server's object tree.
    pub fn build(&self) -> PathBuf {
        self.base.join("build")
    }

    /// The installed server with the extension in it.
    pub fn install(&self) -> PathBuf {
        self.base.join("install")
    }

    /// The staged source tree of the extension.
    pub fn stage(&self) -> PathBuf {
        self.base.join("stage/spock")
    }

    /// Cargo's target directory for the extension: never shared, because bindings depend on the server's headers.
    pub fn cargo(&self) -> PathBuf {
        self.base.join("cargo")
    }

    /// The log of a step.
    pub fn log(&self, step: &str) -> PathBuf {
        self.base.join("log").join(format!("{step}.log"))
    }
}

impl Cx {
    /// Finds the repository, reads its pins.
    pub fn new(flags: Common, say: Say) -> Result<Self> {
        let root = repository()?;
        Ok(Self { pins: Pins::load(&root)?, cache: Cache::find()?, root, say, flags })
    }

    /// The directories of a major and kind.
    pub fn dirs(&self, major: Major, kind: Kind) -> Dirs {
        let name = match kind {
            Kind::Patched => major.to_string(),
            Kind::Stock => format!("{major}-stock"),
        };
        Dirs { base: self.root.join("target/pg").join(name) }
    }

    /// Holds other runs off these directories until the returned file is dropped; `--plan` changes nothing there.
    pub fn lock(&self, dirs: &Dirs) -> Result<Option<File>> {
        self.lock_file(&dirs.base.join(".lock"), &format!("works in {}", dirs.base.display()))
    }

    /// The same for one entry of the store: two clones that want the same server build it once.
    pub fn lock_entry(&self, entry: &Path) -> Result<Option<File>> {
        self.lock_file(&entry.with_extension("lock"), "builds the same server")
    }

    fn lock_file(&self, path: &Path, other_run: &str) -> Result<Option<File>> {
        if self.flags.plan {
            return Ok(None);
        }
        if let Some(dir) = path.parent() {
            files::make_dir(dir)?;
        }
        let file = File::create(path).map_err(Failure::io("make", path))?;
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => self.say.note("Waiting", &format!("for another run that {other_run}")),
            Err(TryLockError::Error(e)) => return Err(Failure::io("lock", path)(e)),
        }
        while let Err(error) = file.try_lock() {
            check_interrupt()?;
            match error {
                TryLockError::WouldBlock => std::thread::sleep(LOCK_EVERY),
                TryLockError::Error(e) => return Err(Failure::io("lock", path)(e)),
            }
        }
        Ok(Some(file))
    }

    /// How many jobs children may run at once.
    pub fn jobs(&self) -> usize {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        self.flags.jobs.map_or(all, usize::from)
    }

    /// A short child that is run for its output, in the repository's root.
    pub fn ask(&self, program: &str, args: &[&str]) -> Result<String> {
        Child::new(program, &self.root, Path::new("/dev/null")).args(args).read()
    }
}

/// The root of the repository: where cargo said this crate is, or the nearest parent with a `pg.lock`.
fn repository() -> Result<PathBuf> {
    let here = std::env::current_dir().map_err(Failure::io("find", "the current directory"))?;
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let starts = manifest.iter().chain(std::iter::once(&here));
    let mut parents = starts.flat_map(|start| start.ancestors());
    let found = parents.find(|dir| dir.join("pg.lock").is_file() && dir.join("xtask").is_dir());
    let root = found.ok_or_else(|| Failure::usage("this is not a checkout of spock", "run cargo xtask inside one"))?;
    fs::canonicalize(root).map_err(Failure::io("find", root))
}

#[cfg(test)]
impl Cx {
    /// One that opens no socket.
    pub fn for_tests() -> Self {
        let flags =
            Common { jobs: None, offline: true, plan: false, force: false, json: false, verbose: false, yes: false };
        Self::new(flags, Say::new(crate::say::Voice::Plain, false)).expect("this is a checkout")
    }
}
