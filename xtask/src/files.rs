//! Files and trees: everything is made beside its place and renamed into it, so nothing is ever half there.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::child::check_interrupt;
use crate::exit::{Failure, Result};

/// Makes a directory and its parents.
pub fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Failure::io("make", path))
}

/// A path beside `path`, on the same disk, that no other process uses.
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.part", std::process::id()))
}

/// Writes a file: afterwards it holds all of `content`, or what it held before.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    let part = beside(path);
    fs::write(&part, content).map_err(Failure::io("write", &part))?;
    fs::rename(&part, path).map_err(Failure::io("write", path))
}

/// Removes a file, a link or a tree; fine when there is none.
pub fn remove_if_there(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Failure::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Removes what killed runs left beside `path`.
fn remove_leftovers(path: &Path) -> Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let begin = format!(".{}.", name.to_string_lossy());
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let found = entry.file_name().to_string_lossy().into_owned();
        let pid = found.strip_prefix(&begin).and_then(|rest| rest.strip_suffix(".part"));
        if pid.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// Fills a new directory through `fill` and then puts it in place of `target`. A failure leaves `target` as it was.
pub fn replace_dir(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let part = beside(target);
    remove_leftovers(target)?;
    remove_if_there(&part)?;
    make_dir(&part)?;
    let filled = fill(&part).and_then(|()| {
        remove_if_there(target)?;
        fs::rename(&part, target).map_err(Failure::io("make", target))
    });
    if filled.is_err() {
        remove_if_there(&part)?;
    }
    filled
}

/// Copies a tree: files with their mode, links as links.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    check_interrupt()?;
    make_dir(to)?;
    for entry in fs::read_dir(from).map_err(Failure::io("read", from))? {
        let entry = entry.map_err(Failure::io("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(Failure::io("look at", &source))?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            let goal = fs::read_link(&source).map_err(Failure::io("read", &source))?;
            symlink(goal, &target).map_err(Failure::io("make", &target))?;
        } else {
            fs::copy(&source, &target).map_err(Failure::io("copy", &source))?;
        }
    }
    Ok(())
}

/// Puts a file in place by renaming, never by writing into the old one: a running server may have it mapped.
pub fn install_file(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(parent) = to.parent() {
        make_dir(parent)?;
    }
    let part = beside(to);
    let copied =
        fs::copy(from, &part).map(|_| ()).and_then(|()| fs::set_permissions(&part, fs::Permissions::from_mode(mode)));
    copied.map_err(Failure::io("write", &part))?;
    fs::rename(&part, to).map_err(Failure::io("write", to))
}

/// Free space below `dir` or its nearest existing parent, in megabytes.
pub fn free_mb(dir: &Path) -> Result<u64> {
    let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let stat = nix::sys::statvfs::statvfs(existing).map_err(|e| Failure::io("look at", existing)(e.into()))?;
    Ok(stat.blocks_available() * stat.fragment_size() / (1 << 20))
}

/// What chooses the disk that is too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The cache.
    Cache,
    /// `target/` of this clone.
    Clone,
    /// A directory for temporary files.
    Temporary,
    /// The directory of artefacts.
    Out,
}

impl Room {
    fn hint(self) -> &'static str {
        match self {
            Self::Cache => "free some space, or let SPOCK_CACHE_DIR name a directory on a larger disk",
            Self::Clone => "free some space, or work in a clone on a larger disk",
            Self::Temporary => "free some space, or let TMPDIR name a directory on a larger disk",
            Self::Out => "free some space, or let --out name a directory on a larger disk",
        }
    }
}

/// Fails before anything is written when `dir` has less room than `needed_mb`.
pub fn need_space(dir: &Path, room: Room, needed_mb: u64, what: &str) -> Result<()> {
    let free_mb = free_mb(dir)?;
    if free_mb < needed_mb {
        let (dir, what, hint) = (dir.to_owned(), what.to_owned(), room.hint().to_owned());
        return Err(Failure::NoSpace { dir, free_mb, needed_mb, what, hint });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_fill_leaves_the_old_tree_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("src");
        replace_dir(&target, |part| write_whole(&part.join("a"), b"1")).unwrap();
        let failed = replace_dir(&target, |part| {
            write_whole(&part.join("b"), b"2")?;
            Err(Failure::failed("no", ""))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "1");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_run_left_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        // Beyond the largest process id of Linux, so nobody runs under it.
        let (old, mine) = (dir.path().join(".src.4194305.part"), dir.path().join(".src.1.part"));
        make_dir(&old).and_then(|()| make_dir(&mine)).unwrap();
        replace_dir(&dir.path().join("src"), |_| Ok(())).unwrap();
        assert!(!old.exists() && mine.exists());
    }

    #[test]
    fn too_little_room_is_found_before() {
        let dir = tempfile::tempdir().unwrap();
        need_space(dir.path(), Room::Cache, 0, "nothing").unwrap();
        for (room, word) in [
            (Room::Cache, "SPOCK_CACHE_DIR"),
            (Room::Clone, "a clone"),
            (Room::Temporary, "TMPDIR"),
            (Room::Out, "--out"),
        ] {
            let failure = need_space(&dir.path().join("not/yet"), room, u64::MAX, "everything").unwrap_err();
            assert!(failure.to_string().contains("everything needs about"), "{failure}");
            assert!(failure.hint().contains(word), "{}", failure.hint());
        }
    }
}
