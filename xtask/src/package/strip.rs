//! Parts programs and libraries from their debug symbols, which debuggers find again by build id.
//!
//! **Invariant:** modes are 0755 for programs and 0644 for the rest, libraries too, whatever the umask of the build was.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection};

use crate::child::Child;
use crate::digest::files_below;
use crate::elf;
use crate::exit::{Failure, Result};
use crate::files;
use crate::package::tree::{Content, Tree};
use crate::say::Progress;

/// Where debuggers look.
const DEBUG_DIR: &str = "usr/lib/debug/.build-id";

/// A tree without debug symbols, and the symbols.
#[derive(Debug, Clone, Default)]
pub struct Stripped {
    /// As installed.
    pub tree: Tree,
    /// Below `usr/lib/debug`.
    pub debug: Tree,
}

/// A file on its way into a package.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it is.
    pub from: PathBuf,
    /// Where it goes in the tree.
    pub to: String,
}

/// All files and links below `dir`, to go below `to`.
pub fn sources(dir: &Path, to: &str) -> Result<Vec<Source>> {
    let found = files_below(dir, &[])?;
    let source = |from: PathBuf| {
        let name = from.strip_prefix(dir).unwrap_or(&from).to_string_lossy().into_owned();
        Source { from, to: format!("{to}/{name}") }
    };
    Ok(found.into_iter().map(source).collect())
}

/// Puts stripped copies into `work` and the result together.
pub fn strip(sources: &[Source], work: &Path, log: &Path, progress: &Progress<'_>) -> Result<Stripped> {
    files::remove_if_there(work)?;
    files::make_dir(work)?;
    let mut result = Stripped::default();
    for (number, Source { from, to }) in sources.iter().enumerate() {
        let meta = fs::symlink_metadata(from).map_err(Failure::io("look at", from))?;
        if meta.is_symlink() {
            let goal = fs::read_link(from).map_err(Failure::io("read", from))?;
            result.tree.link(to, goal.to_string_lossy());
            continue;
        }
        let library = to.ends_with(".so") || to.contains(".so.");
        let mode = if meta.permissions().mode() & 0o100 != 0 && !library { 0o755 } else { 0o644 };
        let bytes = fs::read(from).map_err(Failure::io("read", from))?;
        let archive = bytes.starts_with(b"!<arch>\n");
        if !archive && !elf::is_elf(&bytes) {
            result.tree.file(to, mode, Content::From(from.clone()));
            continue;
        }
        let (stripped, debug) = (work.join(format!("{number}.stripped")), work.join(format!("{number}.debug")));
        let objcopy = |args: &[&str], to: &Path| {
            Child::new("objcopy", work, log).args(args).args([from.as_path(), to]).run(progress)
        };
        if archive {
            // A static library: its symbols are what it is for.
            objcopy(&["--strip-debug", "--enable-deterministic-archives"], &stripped)?;
        } else {
            if let Some(id) = debug_id(&bytes, from)? {
                objcopy(&["--only-keep-debug", "--compress-debug-sections"], &debug)?;
                result.debug.file(&debug_path(&id), 0o644, Content::From(debug));
            }
            objcopy(&["--strip-unneeded"], &stripped)?;
        }
        result.tree.file(to, mode, Content::From(stripped));
    }
    Ok(result)
}

/// The build id of a linked file that has debug information.
fn debug_id(bytes: &[u8], path: &Path) -> Result<Option<String>> {
    let file = object::File::parse(bytes).map_err(|e| elf::not_elf(path, &e))?;
    let has = file.sections().any(|section| section.name().is_ok_and(|name| name.starts_with(".debug_line")));
    let elf = elf::parse(bytes).map_err(|e| elf::not_elf(path, &e))?;
    if !has || !elf.linked {
        return Ok(None);
    }
    let none = || Failure::failed(format!("{} has no build id", path.display()), "link with --build-id");
    elf.build_id.filter(|id| id.len() > 2).map(Some).ok_or_else(none)
}

/// `usr/lib/debug/.build-id/ab/cdef.debug`
fn debug_path(id: &str) -> String {
    format!("{DEBUG_DIR}/{}/{}.debug", &id[..2], &id[2..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::say::{Say, Voice};

    #[test]
    fn a_program_loses_its_symbols_and_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let own = std::env::current_exe().unwrap();
        let sources = [Source { from: own.clone(), to: "usr/bin/x".to_owned() }];
        let say = Say::new(Voice::Plain, false);
        let log = dir.path().join("log");
        let stripped = strip(&sources, &dir.path().join("work"), &log, &say.begin("test", "")).unwrap();
        let id = elf::read(&own).unwrap().unwrap().build_id.unwrap();
        let (path, _) = stripped.debug.files().next().unwrap();
        assert_eq!(path, debug_path(&id));
        let (_, content) = stripped.tree.files().next().unwrap();
        let bytes = content.read().unwrap();
        assert!((bytes.len() as u64) < fs::metadata(&own).unwrap().len());
        assert_eq!(elf::parse(&bytes).unwrap().build_id.unwrap(), id);
    }
}
