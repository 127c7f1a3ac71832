//! The patch series of a major: reading it, its id, and trying it on pristine source.
//!
//! **Invariants.** Diffs apply in the order of their names, with no fuzz. The id depends on names and contents of the
//! diffs and on nothing else, so two clones with the same series build the same server.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::child::Child;
use crate::cx::Cx;
use crate::digest::Digest;
use crate::exit::{Failure, Result};
use crate::major::Major;
use crate::say::Progress;

/// Beyond this many lines of offset a hunk may have landed in another function: `--check` refuses it.
pub const OFFSET_LINES_MAX: u32 = 200;

/// The diffs of one major.
#[derive(Debug, Clone)]
pub struct PatchSet {
    /// In the order in which they apply.
    pub diffs: Vec<PathBuf>,
    /// Over names and contents, in order.
    pub id: Digest,
}

impl PatchSet {
    /// Reads `patches/<major>/`; an empty or missing directory is an empty series.
    pub fn load(root: &Path, major: Major) -> Result<Self> {
        let dir = root.join("patches").join(major.to_string());
        let mut diffs = Vec::new();
        if dir.is_dir() {
            for entry in fs::read_dir(&dir).map_err(Failure::io("read", &dir))? {
                let path = entry.map_err(Failure::io("read", &dir))?.path();
                if path.extension().is_some_and(|extension| extension == "diff") {
                    diffs.push(path);
                }
            }
        }
        diffs.sort();
        let mut text = String::new();
        for diff in &diffs {
            let _ = writeln!(text, "{}\0{}", name_of(diff), Digest::of_file(diff)?);
        }
        Ok(Self { diffs, id: Digest::of_bytes(text.as_bytes()) })
    }

    /// The id as people see it; empty for an empty series, which leaves the server stock.
    pub fn short(&self) -> String {
        if self.diffs.is_empty() { String::new() } else { self.id.short() }
    }

    /// Applies the series to the tree in `dir`; says which hunks were not where the diff said.
    pub fn apply(&self, dir: &Path, version: &str, log: &Path, progress: &Progress<'_>) -> Result<Vec<Moved>> {
        let mut moved = Vec::new();
        for diff in &self.diffs {
            let child = Child::new("patch", dir, log)
                .args(["-p1", "--fuzz=0", "--forward", "--batch", "--no-backup-if-mismatch", "-i"])
                .args([diff]);
            let mut said = Vec::new();
            let ended = child.run_with(progress, |line| said.push(line.to_owned()))?;
            let outcome = read_patch_output(&said);
            if let Some(detail) = outcome.first_reject {
                return Err(Failure::Reject { patch: name_of(diff), version: version.to_owned(), detail });
            }
            ended.must_succeed(&child)?;
            moved.extend(outcome.moved.into_iter().map(|(place, offset)| Moved { diff: name_of(diff), place, offset }));
        }
        Ok(moved)
    }
}

/// A hunk that applied, at another line than the diff says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// File name of the diff.
    pub diff: String,
    /// File and hunk.
    pub place: String,
    /// How many lines away, in either direction.
    pub offset: u32,
}

/// What `patch` said.
#[derive(Debug, Default, PartialEq, Eq)]
struct PatchOutput {
    first_reject: Option<String>,
    moved: Vec<(String, u32)>,
}

fn read_patch_output(lines: &[String]) -> PatchOutput {
    let mut output = PatchOutput::default();
    let mut file = String::new();
    for line in lines {
        if let Some(name) = line.strip_prefix("patching file ").or_else(|| line.strip_prefix("checking file ")) {
            file = name.trim_matches('\'').to_owned();
        } else if let Some(rest) = line.strip_prefix("Hunk #") {
            let hunk = rest.split(' ').next().unwrap_or_default();
            let place = format!("{file}, hunk {hunk}");
            if rest.contains("FAILED") {
                output.first_reject.get_or_insert(format!("{place} was rejected"));
            } else if let Some((_, offset)) = rest.split_once("(offset ") {
                let number = offset.split(' ').next().unwrap_or_default();
                output.moved.push((place, number.trim_start_matches('-').parse().unwrap_or(u32::MAX)));
            }
        } else if line.starts_with("can't find file to patch") {
            output.first_reject.get_or_insert_with(|| format!("{line} (after {file:?})"));
        } else if line.starts_with("Reversed (or previously applied) patch detected") {
            output.first_reject.get_or_insert_with(|| format!("{file} has the change already"));
        } else if line.contains("malformed patch") {
            output.first_reject.get_or_insert_with(|| line.clone());
        }
    }
    output
}

/// Writes the line numbers of the applied result back into the diffs: `before` is pristine source, `after` a copy to patch.
pub fn refresh(cx: &Cx, set: &PatchSet, before: &Path, after: &Path, version: &str, log: &Path) -> Result<Vec<String>> {
    let mut rewritten = Vec::new();
    for diff in &set.diffs {
        let one = PatchSet { diffs: vec![diff.clone()], id: set.id };
        let progress = cx.say.begin("refresh", "");
        let moved = one.apply(after, version, log, &progress)?;
        let old = fs::read_to_string(diff).map_err(Failure::io("read", diff))?;
        if !moved.is_empty() {
            let new = shifted(&old, &fresh_headers(cx, &old, before, after)?);
            crate::files::write_whole(diff, new.as_bytes())?;
            rewritten.push(name_of(diff));
        }
        // The next diff of the series is made against what this one left.
        let child = Child::new("patch", before, log).args([
            "-p1",
            "--fuzz=0",
            "--forward",
            "--batch",
            "-s",
            "--no-backup-if-mismatch",
            "-i",
        ]);
        child.args([diff]).run(&progress)?;
    }
    Ok(rewritten)
}

/// The hunk headers that `diff` gives today, per file of the patch, in the patch's order.
fn fresh_headers(cx: &Cx, text: &str, before: &Path, after: &Path) -> Result<Vec<String>> {
    let mut headers = Vec::new();
    for file in patched_files(text) {
        let pair = [before.join(&file), after.join(&file)].map(|path| path.to_string_lossy().into_owned());
        let script = "diff -u -N \"$1\" \"$2\"; test $? -le 1";
        let said = cx.ask("sh", &["-c", script, "sh", &pair[0], &pair[1]])?;
        headers.extend(said.lines().filter(|line| line.starts_with("@@ ")).map(str::to_owned));
    }
    Ok(headers)
}

/// The files a diff changes, without the first path component.
pub fn patched_files(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| line.strip_prefix("+++ "));
    let names = names.map(|name| name.split(['\t', ' ']).next().unwrap_or_default());
    let names = names.filter(|name| *name != "/dev/null");
    names.filter_map(|name| name.split_once('/')).map(|(_, rest)| rest.to_owned()).collect()
}

/// The diff with fresh line numbers; as it was when the hunks do not correspond one to one.
fn shifted(text: &str, headers: &[String]) -> String {
    let is_header = |line: &str| line.starts_with("@@ -");
    if text.lines().filter(|line| is_header(line)).count() != headers.len() {
        return text.to_owned();
    }
    let mut fresh = headers.iter();
    let lines = text.lines().map(|line| match is_header(line).then(|| fresh.next()).flatten() {
        Some(header) => {
            let context = line.rsplit_once("@@").map_or("", |(_, context)| context);
            let numbers = header.rsplit_once("@@").map_or(header.as_str(), |(numbers, _)| numbers);
            format!("{}@@{context}\n", numbers)
        }
        None => format!("{line}\n"),
    });
    lines.collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn offsets_and_rejects_are_read() {
        let output = read_patch_output(&lines(
            "patching file src/a.c\nHunk #2 succeeded at 120 (offset 5 lines).\nHunk #3 succeeded at 9 (offset -201 lines).\n\
             patching file 'src/b c.c'\nHunk #1 FAILED at 7.\n1 out of 1 hunk FAILED -- saving rejects to file src/b c.c.rej",
        ));
        assert_eq!(output.moved, [("src/a.c, hunk 2".to_owned(), 5), ("src/a.c, hunk 3".to_owned(), 201)]);
        assert_eq!(output.first_reject.as_deref(), Some("src/b c.c, hunk 1 was rejected"));
        assert_eq!(read_patch_output(&lines("patching file src/a.c")), PatchOutput::default());
        for text in ["can't find file to patch at input line 3", "patch: **** malformed patch at line 9:"] {
            assert!(read_patch_output(&lines(text)).first_reject.is_some(), "{text}");
        }
    }

    #[test]
    fn only_line_numbers_are_rewritten() {
        let diff = "Why: x\n--- a/f.c\n+++ b/f.c\n@@ -1,2 +1,3 @@ static int f(void)\n x\n+y\n z\n";
        assert_eq!(patched_files(diff), ["f.c"]);
        let fresh = shifted(diff, &["@@ -11,2 +11,3 @@".to_owned()]);
        assert_eq!(fresh, diff.replace("@@ -1,2 +1,3 @@", "@@ -11,2 +11,3 @@"));
        assert_eq!(shifted(diff, &[]), diff);
    }

    #[test]
    fn the_id_follows_names_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        let major: Major = "17".parse().unwrap();
        let load = || PatchSet::load(dir.path(), major).unwrap();
        assert_eq!(load().short(), "");
        let at = |name: &str| dir.path().join("patches/17").join(name);
        fs::create_dir_all(at("")).unwrap();
        fs::write(at("pg17-020-b.diff"), "b").unwrap();
        fs::write(at("pg17-010-a.diff"), "a").unwrap();
        let first = load();
        assert_eq!(
            first.diffs.iter().map(|path| name_of(path)).collect::<Vec<_>>(),
            ["pg17-010-a.diff", "pg17-020-b.diff"]
        );
        fs::write(at("README"), "ignored").unwrap();
        assert_eq!(load().id, first.id);
        fs::write(at("pg17-020-b.diff"), "c").unwrap();
        assert_ne!(load().id, first.id);
    }
}
