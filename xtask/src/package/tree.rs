//! What a package holds: paths with content, mode and owner, as a value.
//!
//! **Invariants.** Paths are relative to the root they are installed in, without `.` and `..`; the order is that of their
//! bytes, parents before children. Modes come from here, never from a umask; times come from the epoch, never from a clock.

use std::collections::BTreeMap;
use std::fs::{self, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::exit::{Failure, Result};
use crate::files;

/// Bytes of a file.
#[derive(Debug, Clone)]
pub enum Content {
    /// Made here.
    Bytes(Vec<u8>),
    /// Read when it is written.
    From(PathBuf),
}

impl Content {
    /// How many bytes.
    pub fn size(&self) -> Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::From(path) => Ok(fs::metadata(path).map_err(Failure::io("look at", path))?.len()),
        }
    }

    /// All of it.
    pub fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::From(path) => fs::read(path).map_err(Failure::io("read", path)),
        }
    }
}

/// What stands at a path.
#[derive(Debug, Clone)]
pub enum Node {
    /// A directory.
    Dir,
    /// A file.
    File(Content),
    /// A symbolic link and where it points.
    Link(String),
}

/// A path's node, mode and owner.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is.
    pub node: Node,
    /// Permission bits; links have 0o777.
    pub mode: u32,
    /// User and group id; 0 but in images.
    pub owner: u32,
}

/// The content of a package.
#[derive(Debug, Clone, Default)]
pub struct Tree(BTreeMap<String, Entry>);

impl Tree {
    /// Adds a file and the directories above it.
    pub fn file(&mut self, path: &str, mode: u32, content: Content) {
        self.put(path, Entry { node: Node::File(content), mode, owner: 0 });
    }

    /// Adds a file that is text.
    pub fn text(&mut self, path: &str, mode: u32, text: impl Into<String>) {
        self.file(path, mode, Content::Bytes(text.into().into_bytes()));
    }

    /// Adds a link and the directories above it.
    pub fn link(&mut self, path: &str, to: impl Into<String>) {
        self.put(path, Entry { node: Node::Link(to.into()), mode: 0o777, owner: 0 });
    }

    /// Adds a directory and those above it.
    pub fn dir(&mut self, path: &str, mode: u32, owner: u32) {
        self.put(path, Entry { node: Node::Dir, mode, owner });
    }

    /// Adds everything of another tree.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The same content at other paths; what `place` gives none for is left out. Directories come with their files.
    #[must_use]
    pub fn placed(&self, place: impl Fn(&str) -> Option<String>) -> Self {
        let mut tree = Self::default();
        for (path, entry) in self.entries().filter(|(_, entry)| !matches!(entry.node, Node::Dir)) {
            if let Some(to) = place(path) {
                tree.put(&to, entry.clone());
            }
        }
        tree
    }

    /// Each path with its entry, sorted.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Each file with its content, sorted.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Content)> {
        self.entries().filter_map(|(path, entry)| match &entry.node {
            Node::File(content) => Some((path, content)),
            Node::Dir | Node::Link(_) => None,
        })
    }

    /// Has it no file?
    pub fn is_empty(&self) -> bool {
        self.files().next().is_none()
    }

    fn put(&mut self, path: &str, entry: Entry) {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        for parent in parents.filter(|parent| !parent.is_empty()) {
            let dir = || Entry { node: Node::Dir, mode: 0o755, owner: 0 };
            self.0.entry(parent.to_owned()).or_insert_with(dir);
        }
        self.0.insert(path.to_owned(), entry);
    }

    /// Writes it below `root`, with its modes whatever the umask, all times `epoch`. Owners stay those of this process.
    pub fn materialise(&self, root: &Path, epoch: u64) -> Result<()> {
        files::make_dir(root)?;
        let mut dirs = vec![(root.to_owned(), 0o755)];
        for (path, entry) in self.entries() {
            let to = root.join(path);
            match &entry.node {
                Node::Dir => {
                    files::make_dir(&to)?;
                    dirs.push((to, entry.mode));
                }
                Node::Link(goal) => symlink(goal, &to).map_err(Failure::io("make", &to))?,
                Node::File(content) => {
                    fs::write(&to, content.read()?).map_err(Failure::io("write", &to))?;
                    set(&to, entry.mode, epoch)?;
                }
            }
        }
        // Last, and children first: what is put into a directory moves its time.
        dirs.iter().rev().try_for_each(|(dir, mode)| set(dir, *mode, epoch))
    }
}

fn set(path: &Path, mode: u32, epoch: u64) -> Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch);
    fs::set_permissions(path, Permissions::from_mode(mode))
        .and_then(|()| fs::File::open(path)?.set_times(FileTimes::new().set_modified(time).set_accessed(time)))
        .map_err(Failure::io("set mode and time of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_modes_do_not_follow_the_umask() {
        let mut tree = Tree::default();
        tree.text("usr/share/doc/x/copyright", 0o644, "c");
        tree.link("usr/lib/b.so", "a.so");
        tree.file("usr/lib/a.so", 0o755, Content::Bytes(vec![1]));
        let paths: Vec<&str> = tree.entries().map(|(path, _)| path).collect();
        let want = ["usr", "usr/lib", "usr/lib/a.so", "usr/lib/b.so", "usr/share", "usr/share/doc", "usr/share/doc/x"];
        assert_eq!(paths[..7], want);
        let dir = tempfile::tempdir().unwrap();
        tree.materialise(&dir.path().join("root"), 86_400).unwrap();
        let meta = fs::metadata(dir.path().join("root/usr/lib/a.so")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o755);
        assert_eq!(meta.modified().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 86_400);
        let lib = fs::metadata(dir.path().join("root/usr/lib")).unwrap();
        assert_eq!(lib.modified().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 86_400);
    }
}
