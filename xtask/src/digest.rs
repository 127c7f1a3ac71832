//! SHA-256 digests: of downloads, of trees, of the inputs of a step.
//!
//! **Invariant:** a tree's digest depends on relative paths, contents and executable bits, never on times, owners or the
//! order in which a directory lists its entries.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::exit::{Failure, Result};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a file's content.
    pub fn of_file(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Failure::io("open", path))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = file.read(&mut buffer).map_err(Failure::io("read", path))?;
            if n == 0 {
                return Ok(Self(hasher.finalize().into()));
            }
            hasher.update(&buffer[..n]);
        }
    }

    /// The digest of a directory tree; entries named in `skip` (at any depth) are left out.
    pub fn of_tree(root: &Path, skip: &[&str]) -> Result<Self> {
        let mut hasher = Sha256::new();
        for path in files_below(root, skip)? {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            let meta = fs::symlink_metadata(&path).map_err(Failure::io("look at", &path))?;
            let content = if meta.is_symlink() {
                let goal = fs::read_link(&path).map_err(Failure::io("read", &path))?;
                Self::of_bytes(goal.to_string_lossy().as_bytes())
            } else {
                Self::of_file(&path)?
            };
            let executable = meta.permissions().mode() & 0o100 != 0;
            hasher.update(format!("{name}\0{}\0{content}\n", u8::from(executable)));
        }
        Ok(Self(hasher.finalize().into()))
    }

    /// The first 12 hexadecimal digits: enough to tell patch sets and store entries apart in a listing.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

/// All files and links below `root`, sorted.
pub fn files_below(root: &Path, skip: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).map_err(Failure::io("read", &dir))? {
            let entry = entry.map_err(Failure::io("read", &dir))?;
            if entry.file_name().to_str().is_some_and(|name| skip.contains(&name)) {
                continue;
            }
            let kind = entry.file_type().map_err(Failure::io("look at", entry.path()))?;
            if kind.is_dir() {
                todo.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

impl FromStr for Digest {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let bad = || io::Error::other(format!("{text:?} is not a SHA-256 digest (64 hexadecimal digits)"));
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = io::Error;

    fn try_from(text: String) -> io::Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_refuses_the_rest() {
        let digest = Digest::of_bytes(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.short(), "ba7816bf8f01");
        for wrong in ["", "ba78", &"g".repeat(64), &"é".repeat(32)] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tree_digest_sees_names_contents_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("a"), "1").unwrap();
        fs::write(at("sub/b"), "2").unwrap();
        let before = Digest::of_tree(dir.path(), &["target"]).unwrap();
        fs::create_dir(at("target")).unwrap();
        fs::write(at("target/x"), "3").unwrap();
        assert_eq!(before, Digest::of_tree(dir.path(), &["target"]).unwrap());
        fs::write(at("sub/b"), "3").unwrap();
        assert_ne!(before, Digest::of_tree(dir.path(), &["target"]).unwrap());
    }
}
