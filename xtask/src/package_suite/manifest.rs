//! What is installed, as lines that a person can review and a test can compare.
//!
//! **Invariant:** nothing that differs between two builds of one source is in it: no size, time, digest or build id.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::cx::Cx;
use crate::elf;
use crate::exit::{Failure, Result};
use crate::files;

/// Directories with many files of one kind: one line each.
const BULK: [&str; 7] = [
    "/include/",
    "/share/timezone/",
    "/share/timezonesets/",
    "/share/tsearch_data/",
    "/.build-id/",
    "/lib/pgxs/",
    "/html/",
];
/// The extension's library.
const LIBRARY: &str = "/spock.so";
/// The manifest of its symbols.
pub const EXPORTS: &str = "exports.txt";
/// How many lines of a difference are shown.
const SHOWN_MAX: usize = 25;

/// Describes `paths`, which are relative to `root`.
pub fn describe(root: &Path, paths: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut bulk: BTreeMap<String, u32> = BTreeMap::new();
    for path in paths {
        let full = root.join(path);
        let meta = fs::symlink_metadata(&full).map_err(Failure::io("look at", &full))?;
        let (mode, owner) = (meta.permissions().mode() & 0o7777, format!("{}:{}", meta.uid(), meta.gid()));
        let slashed = format!("/{path}");
        if let Some(end) = bulk_end(&slashed) {
            if !meta.is_dir() {
                *bulk.entry(format!("{}** {mode:04o} {owner}", &slashed[1..end])).or_default() += 1;
            }
        } else if meta.is_dir() {
            lines.push(format!("{path}/ {mode:04o} {owner}"));
        } else if meta.is_symlink() {
            let goal = fs::read_link(&full).map_err(Failure::io("read", &full))?;
            lines.push(format!("{path} -> {}", goal.display()));
        } else {
            lines.push(format!("{path} {mode:04o} {owner}"));
            lines.extend(linkage(&full)?);
        }
    }
    lines.extend(bulk.into_iter().map(|(what, count)| format!("{what}: {count} files")));
    Ok(lines)
}

fn bulk_end(path: &str) -> Option<usize> {
    BULK.iter().find_map(|dir| path.find(dir).map(|at| at + dir.len()))
}

/// What an ELF file links, and how much it exports. The extension's symbols are in [`EXPORTS`].
fn linkage(path: &Path) -> Result<Vec<String>> {
    let Some(elf) = elf::read(path)?.filter(|elf| elf.linked) else { return Ok(Vec::new()) };
    // Whether the loader itself is named depends on how far the linker could optimise.
    let needed: Vec<&str> =
        elf.needed.iter().map(String::as_str).filter(|name| !name.starts_with("ld-linux")).collect();
    let mut lines = vec![format!("    needs {}", needed.join(" "))];
    lines.push(format!("    looks in {}", elf.runpath.as_deref().unwrap_or("the system's directories")));
    lines.push(match path.to_string_lossy().ends_with(LIBRARY) {
        true => format!("    exports what {EXPORTS} says"),
        false => format!("    exports {} symbols", elf.exports.len()),
    });
    Ok(lines)
}

/// What the extension's library exports: its contract with catalogs, the same for every server, format and machine.
pub fn exports(root: &Path, paths: &BTreeSet<String>) -> Result<Vec<String>> {
    let path = paths.iter().find(|path| path.ends_with(LIBRARY));
    let path = path.ok_or_else(|| Failure::failed(format!("{LIBRARY} is not there"), ""))?;
    let elf = elf::read(&root.join(path))?;
    Ok(elf.map(|elf| elf.exports.into_iter().collect()).unwrap_or_default())
}

/// Compares with the committed manifest of that name; writes it when `accept` is set.
pub fn compare(cx: &Cx, name: &str, lines: &[String], accept: bool) -> Result<()> {
    let path = cx.root.join("tests/package").join(name);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    if accept {
        return files::write_whole(&path, text.as_bytes());
    }
    let hint = "read the difference; if it is meant, run the suite with --accept and commit the manifest";
    let committed = fs::read_to_string(&path).map_err(|e| {
        Failure::failed(format!("{}: {e}", path.display()), "run the suite with --accept, read and commit it")
    })?;
    let difference = difference(&committed, &text);
    if difference.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("{} says otherwise:{difference}", path.display()), hint))
}

/// Lines of one text that the other has not.
fn difference(committed: &str, found: &str) -> String {
    let count = |text: &str| {
        let mut lines: BTreeMap<String, i32> = BTreeMap::new();
        text.lines().for_each(|line| *lines.entry(line.to_owned()).or_default() += 1);
        lines
    };
    let (old, new) = (count(committed), count(found));
    let more = |a: &BTreeMap<String, i32>, b: &BTreeMap<String, i32>, sign: char| -> Vec<String> {
        let lines = a.iter().filter(|(line, n)| b.get(*line).unwrap_or(&0) < *n);
        lines.map(|(line, _)| format!("\n  {sign} {line}")).collect()
    };
    let mut lines = more(&old, &new, '-');
    lines.extend(more(&new, &old, '+'));
    let hidden = lines.len().saturating_sub(SHOWN_MAX);
    lines.truncate(SHOWN_MAX);
    if hidden > 0 {
        lines.push(format!("\n  and {hidden} more"));
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_described_without_what_changes_between_builds() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, mode: u32| {
            files::write_whole(&dir.path().join(name), b"x").unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        put("p/bin/tool", 0o755);
        put("p/include/a.h", 0o644);
        put("p/include/server/b.h", 0o644);
        std::os::unix::fs::symlink("tool", dir.path().join("p/bin/other")).unwrap();
        let paths = ["p/bin/other", "p/bin/tool", "p/include/a.h", "p/include/server/b.h"].map(str::to_owned);
        let owner = format!("{}:{}", nix::unistd::getuid(), nix::unistd::getgid());
        let lines = describe(dir.path(), &BTreeSet::from(paths)).unwrap();
        let want = [
            "p/bin/other -> tool".to_owned(),
            format!("p/bin/tool 0755 {owner}"),
            format!("p/include/** 0644 {owner}: 2 files"),
        ];
        assert_eq!(lines, want);
    }

    #[test]
    fn a_difference_names_both_sides() {
        assert_eq!(difference("a\nb\n", "b\na\n"), "");
        assert_eq!(difference("a 0755\nb\n", "a 0777\nb\n"), "\n  - a 0755\n  + a 0777");
    }
}
