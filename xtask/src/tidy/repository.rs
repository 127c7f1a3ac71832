//! Rules about how files belong together.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::Finding;
use crate::exit::Result;
use crate::major::Major;
use crate::matrix::Matrix;
use crate::patchset::{PatchSet, patched_files};
use crate::pins::Pins;
use crate::{manual, workflow};

type Texts = [(String, String)];

fn finding(path: &str, line: usize, rule: impl Into<String>) -> Finding {
    Finding { path: path.to_owned(), line, rule: rule.into() }
}

/// Every fault point (`const NAME: FaultPoint = ...`) is armed by a test.
pub fn fault_points(texts: &Texts) -> Vec<Finding> {
    let marker = concat!(": Fault", "Point =");
    let mut found = Vec::new();
    for (path, text) in texts.iter().filter(|(path, _)| path.ends_with(".rs") && !path.starts_with("xtask/")) {
        for (i, line) in text.lines().enumerate().filter(|(_, line)| line.contains(marker)) {
            let name = line.split(marker).next().unwrap_or_default().split_whitespace().next_back().unwrap_or_default();
            let used = texts.iter().any(|(other, text)| other.starts_with("tests/") && text.contains(name));
            if !used {
                found.push(finding(
                    path,
                    i + 1,
                    format!("fault point {name} is armed by no test: write one, or remove it"),
                ));
            }
        }
    }
    found
}

/// `patches/series.toml`.
#[derive(Debug, Deserialize)]
struct Series {
    #[serde(default)]
    patch: Vec<SeriesEntry>,
}

#[derive(Debug, Deserialize)]
struct SeriesEntry {
    major: u16,
    file: String,
    #[serde(default)]
    files: Vec<String>,
}

/// The series lists every diff and the files it touches; `pg.lock` knows its id.
pub fn patches(root: &Path, texts: &Texts) -> Result<Vec<Finding>> {
    let list = "patches/series.toml";
    let diffs: Vec<&(String, String)> =
        texts.iter().filter(|(path, _)| path.starts_with("patches/") && path.ends_with(".diff")).collect();
    let mut found = Vec::new();
    if !diffs.is_empty() {
        match texts.iter().find(|(path, _)| path == list).map(|(_, text)| toml::from_str::<Series>(text)) {
            None => found.push(finding(list, 0, "it is not there: it lists every patch")),
            Some(Err(e)) => found.push(finding(list, 0, format!("it cannot be read: {}", e.message()))),
            Some(Ok(series)) => found.extend(series_findings(list, &series, &diffs)),
        }
    }
    let pins = Pins::load(root)?;
    for major in Major::ALL {
        let (set, pin) = (PatchSet::load(root, major)?, pins.of(major)?);
        if set.short() != pin.patch_set {
            let rule = format!(
                "pg.{major} pins patch set {:?}, patches/{major} is {:?}: run cargo xtask patch --refresh --pg {major}",
                pin.patch_set,
                set.short()
            );
            found.push(finding("pg.lock", 0, rule));
        }
    }
    let mut pinned = Vec::new();
    for major in Major::ALL {
        let pin = pins.of(major)?;
        pinned.push(format!("{}-spock-{}", pin.version, pin.patch_set));
    }
    found.extend(shown_versions(texts, &pinned));
    let manifest = fs::read_to_string(root.join("extension/Cargo.toml")).unwrap_or_default();
    if !manifest.contains(&format!("version = \"={}\"", pins.pgrx)) {
        found.push(finding("pg.lock", 0, "pins another pgrx than extension/Cargo.toml: make them the same"));
    }
    Ok(found)
}

/// Versions of patched servers in Markdown files that are not pinned any more.
fn shown_versions(texts: &Texts, pinned: &[String]) -> Vec<Finding> {
    let is_version = |word: &&str| {
        let id = word.split_once("-spock-").map_or("", |(_, id)| id);
        id.len() == 12 && id.chars().all(|c| c.is_ascii_hexdigit())
    };
    let mut found = Vec::new();
    for (path, text) in texts.iter().filter(|(path, _)| path.ends_with(".md")) {
        for (i, line) in text.lines().enumerate() {
            let words = line.split(|c: char| c.is_whitespace() || "`()\"".contains(c)).filter(is_version);
            let old = words.filter(|word| !pinned.iter().any(|known| known == word));
            found.extend(old.map(|word| finding(path, i + 1, format!("{word} is no version that pg.lock pins"))));
        }
    }
    found
}

fn series_findings(list: &str, series: &Series, diffs: &[&(String, String)]) -> Vec<Finding> {
    let mut found = Vec::new();
    let path_of = |entry: &SeriesEntry| match entry.file.contains('/') {
        true => format!("patches/{}", entry.file),
        false => format!("patches/{}/{}", entry.major, entry.file),
    };
    for (path, text) in diffs.iter().copied() {
        match series.patch.iter().find(|entry| path_of(entry) == *path) {
            None => found.push(finding(path, 1, "patches/series.toml does not list it: add an entry")),
            Some(entry) => {
                let listed: BTreeSet<String> = entry.files.iter().cloned().collect();
                let touched: BTreeSet<String> = patched_files(text).into_iter().collect();
                if listed != touched {
                    let rule = format!("patches/series.toml lists other files than it touches: {:?}", touched);
                    found.push(finding(path, 1, rule));
                }
            }
        }
        if !text.lines().take(3).any(|line| line.starts_with("Why:")) {
            found.push(finding(
                path,
                1,
                "no header: begin with Why, Touches, Without it, Upstream, How to get rid of it",
            ));
        }
    }
    let lost = series.patch.iter().filter(|entry| !diffs.iter().any(|(path, _)| *path == path_of(entry)));
    found.extend(lost.map(|entry| finding(list, 0, format!("lists {}, which is not there", path_of(entry)))));
    found
}

/// Generated files are as they would be generated now.
pub fn generated(root: &Path) -> Result<Vec<Finding>> {
    let fresh = workflow::files(&Matrix::load(root)?);
    let stale = fresh.iter().filter(|(path, text)| fs::read_to_string(root.join(path)).ok().as_ref() != Some(text));
    let rule = "is not what ci/matrix.toml says: run cargo xtask ci --workflow";
    let mut found: Vec<Finding> = stale.map(|(path, _)| finding(path, 0, rule)).collect();
    let chapters = manual::chapters(root)?;
    let stale = chapters.iter().filter(|(path, text)| fs::read_to_string(root.join(path)).ok().as_ref() != Some(text));
    found.extend(stale.map(|(path, _)| finding(path, 0, "is not what code and contract say: run cargo xtask manual")));
    Ok(found)
}

/// The version that is built has release notes, for readers and for packages.
pub fn released(texts: &Texts) -> Vec<Finding> {
    let version = env!("CARGO_PKG_VERSION");
    let places = [
        ("manual/src/releases.md", format!("## {version}")),
        ("packaging/package.toml", format!("version = \"{version}\"")),
    ];
    let has = |path: &str, line: &str| {
        texts.iter().any(|(other, text)| other == path && text.lines().any(|other| other == line))
    };
    let lacking = places.iter().filter(|(path, line)| !has(path, line));
    lacking.map(|(path, line)| finding(path, 0, format!("no line {line:?}: say what the release does"))).collect()
}

/// Links lead somewhere, and commands that are written down can be typed.
pub fn links(root: &Path, texts: &Texts) -> Vec<Finding> {
    let wrong = manual::links::check(texts, |path| root.join(path).exists());
    wrong.into_iter().map(|(path, line, what)| finding(&path, line, what)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_point_that_no_test_arms_is_found() {
        let point = |name: &str| format!("pub const {name}{} FaultPoint::new(\"x\");", concat!(": Fault", "Point ="));
        let texts = [
            ("extension/src/faults.rs".to_owned(), point("BEFORE_COMMIT") + "\n" + &point("AFTER_COMMIT")),
            ("tests/stories/tests/crash.rs".to_owned(), "arm(BEFORE_COMMIT)".to_owned()),
        ];
        let found = fault_points(&texts);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].rule.contains("AFTER_COMMIT")), (2, true));
    }

    #[test]
    fn a_version_without_release_notes_is_found() {
        let notes = |heading: &str| {
            let line = format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
            let texts = [
                ("manual/src/releases.md".to_owned(), heading.to_owned()),
                ("packaging/package.toml".to_owned(), line),
            ];
            released(&texts).len()
        };
        assert_eq!((notes(concat!("# Notes\n\n## ", env!("CARGO_PKG_VERSION"))), notes("## 0.1")), (0, 1));
    }

    #[test]
    fn a_server_that_is_not_built_any_more_is_found() {
        let text =
            "PostgreSQL 17.11-spock-2a190e50fa4b (patched)\n`17.11-spock-000000000000` postgresql-17-spock-dbgsym\n";
        let texts = [("README.md".to_owned(), text.to_owned())];
        let found = shown_versions(&texts, &["17.11-spock-2a190e50fa4b".to_owned()]);
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_patch_and_its_entry_belong_together() {
        let diff = ("patches/17/a.diff".to_owned(), "Why: x\n--- a/f.c\n+++ b/f.c\n@@ -1 +1 @@\n".to_owned());
        let check = |text: &str| {
            let series: Series = toml::from_str(text).unwrap();
            series_findings("patches/series.toml", &series, &[&diff]).len()
        };
        assert_eq!(check("[[patch]]\nmajor = 17\nfile = \"a.diff\"\nfiles = [\"f.c\"]"), 0);
        assert_eq!(check("[[patch]]\nmajor = 17\nfile = \"a.diff\"\nfiles = [\"g.c\"]"), 1);
        assert_eq!(check(""), 1);
        assert_eq!(
            check(
                "[[patch]]\nmajor = 17\nfile = \"17/a.diff\"\nfiles = [\"f.c\"]\n[[patch]]\nmajor = 17\nfile = \"b.diff\""
            ),
            1
        );
    }
}
