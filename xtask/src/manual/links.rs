//! Links between Markdown files lead somewhere, the manual's table of contents is complete, and commands of ours that are
//! written down can be typed. Nothing outside the repository is looked at.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::Cli;

/// The manual's chapters.
const BOOK: &str = "manual/src/";
const CONTENTS: &str = "manual/src/SUMMARY.md";
/// Begins a line that stands for another file.
pub(super) const INCLUDE: &str = "{{#include ";

/// What is wrong: path, line from 1, what.
pub type Wrong = (String, usize, String);

/// Checks all Markdown files among `texts` (path from the root, text); `exists` says whether the repository has a path.
pub fn check(texts: &[(String, String)], exists: impl Fn(&Path) -> bool) -> Vec<Wrong> {
    let files: BTreeMap<&str, &str> = texts
        .iter()
        .filter(|(path, _)| path.ends_with(".md"))
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let mut wrong = Vec::new();
    for (path, text) in &files {
        for (line, part) in parts(&files, path, text) {
            for target in targets(&part) {
                if let Some(why) = leads_nowhere(&files, path, &target, &exists) {
                    wrong.push(((*path).to_owned(), line, format!("the link {target} {why}")));
                }
            }
            for command in commands(&part) {
                if let Some(why) = cannot_be_typed(&command) {
                    wrong.push(((*path).to_owned(), line, format!("`{command}` cannot be typed: {why}")));
                }
            }
        }
    }
    wrong.extend(not_in_contents(&files));
    wrong
}

fn not_in_contents(files: &BTreeMap<&str, &str>) -> Vec<Wrong> {
    let contents = files.get(CONTENTS).copied().unwrap_or_default();
    let chapters = files.keys().filter_map(|path| path.strip_prefix(BOOK)).filter(|name| *name != "SUMMARY.md");
    chapters
        .filter(|name| !contents.contains(&format!("({name})")))
        .map(|name| (format!("{BOOK}{name}"), 0, "SUMMARY.md does not list it: no reader would find it".to_owned()))
        .collect()
}

/// A line of text, or the code of a console block, with the line's number; included files stand in place of their line.
enum Part {
    Prose(String),
    Console(String),
}

fn parts(files: &BTreeMap<&str, &str>, path: &str, text: &str) -> Vec<(usize, Part)> {
    let mut parts = Vec::new();
    let mut fence: Option<(usize, bool)> = None;
    for (i, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let ticks = start.len() - start.trim_start_matches('`').len();
        match fence {
            Some((open, _)) if ticks >= open && start.trim_matches('`').trim().is_empty() => fence = None,
            Some((_, true)) => parts.push((i + 1, Part::Console(line.to_owned()))),
            Some((_, false)) => {}
            None if ticks >= 3 => fence = Some((ticks, start[ticks..].starts_with("console"))),
            None => match line.strip_prefix(INCLUDE).and_then(|rest| rest.strip_suffix("}}")) {
                Some(included) => {
                    let whole = normal(path, included);
                    let inner = files.get(whole.as_str()).copied().unwrap_or_default();
                    // A file that is not there is a link that leads nowhere.
                    parts.push((i + 1, Part::Prose(format!("[]({included})"))));
                    parts.extend(parts_of_included(inner).map(|part| (i + 1, part)));
                }
                None => parts.push((i + 1, Part::Prose(line.to_owned()))),
            },
        }
    }
    parts
}

/// Its links count from the file that includes it; its commands are checked where they stand.
fn parts_of_included(text: &str) -> impl Iterator<Item = Part> {
    let parts = parts(&BTreeMap::new(), "", text);
    parts.into_iter().map(|(_, part)| part).filter(|part| matches!(part, Part::Prose(_)))
}

/// Targets of `[text](target)` in a line, code spans left out.
fn targets(part: &Part) -> Vec<String> {
    let Part::Prose(line) = part else { return Vec::new() };
    let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join("");
    let ends = text.match_indices("](").map(|(at, _)| &text[at + 2..]);
    ends.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.trim().to_owned()).collect()
}

fn leads_nowhere(
    files: &BTreeMap<&str, &str>,
    from: &str,
    target: &str,
    exists: &impl Fn(&Path) -> bool,
) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { from.to_owned() } else { normal(from, file) };
    if !exists(Path::new(&path)) {
        return Some(format!("leads to {path}, which is not there"));
    }
    if anchor.is_empty() {
        return None;
    }
    match files.get(path.as_str()) {
        None => Some("has an anchor in a file that has no headings".to_owned()),
        Some(text) if anchors(files, &path, text).iter().any(|known| known == anchor) => None,
        Some(_) => Some(format!("has an anchor that {path} does not have")),
    }
}

/// `target` as seen from the file `from`, from the root.
pub(super) fn normal(from: &str, target: &str) -> String {
    let mut path = PathBuf::new();
    for component in Path::new(from).parent().unwrap_or(Path::new("")).join(target).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(part) => path.push(part),
            _ => {}
        }
    }
    path.to_string_lossy().into_owned()
}

/// What the headings of a file are called in links.
fn anchors(files: &BTreeMap<&str, &str>, path: &str, text: &str) -> Vec<String> {
    let (mut found, mut seen) = (Vec::new(), BTreeMap::new());
    for (_, part) in parts(files, path, text) {
        let Part::Prose(line) = part else { continue };
        let heading = line.trim_start_matches('#');
        if heading.len() != line.len() && heading.starts_with(' ') {
            found.push(numbered(name_of(heading), &mut seen));
        }
    }
    found
}

/// What a heading is called in links: lower case, spaces as dashes, no other punctuation.
pub(super) fn name_of(heading: &str) -> String {
    let keep = |c: char| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    heading.trim().chars().filter_map(keep).collect()
}

/// The name, with a number when other headings of the file are called so, too; `seen` counts them.
pub(super) fn numbered(name: String, seen: &mut BTreeMap<String, usize>) -> String {
    let before = seen.entry(name.clone()).or_default();
    let own = if *before == 0 { name } else { format!("{name}-{before}") };
    *before += 1;
    own
}

/// Commands of ours: lines of console blocks, and code spans that end on their line.
fn commands(part: &Part) -> Vec<String> {
    let is_placeholder = |word: &str| word.chars().all(|c| c.is_ascii_uppercase());
    let ours = |text: &str| {
        let whole = text.starts_with("cargo xtask ") && !text.split_whitespace().any(is_placeholder);
        whole.then(|| text.trim().to_owned())
    };
    match part {
        Part::Console(line) => line.strip_prefix("$ ").and_then(ours).into_iter().collect(),
        Part::Prose(line) => {
            let pieces: Vec<&str> = line.split('`').collect();
            let closed = pieces.len() - usize::from(pieces.len().is_multiple_of(2));
            pieces[..closed].iter().skip(1).step_by(2).copied().filter_map(ours).collect()
        }
    }
}

/// Of a sentence only the words of the command count: what it still needs may be left out.
fn cannot_be_typed(command: &str) -> Option<String> {
    let words = command.split(" #").next().unwrap_or_default().split_whitespace();
    // `cargo xtask` is one word to the reader of the command line.
    match Cli::try_parse_from(words.skip(1)) {
        Ok(_) => None,
        Err(error) => match error.kind() {
            ErrorKind::MissingRequiredArgument
            | ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::MissingSubcommand => None,
            kind => Some(format!("{kind:?}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(files: &[(&str, &str)]) -> Vec<String> {
        let texts: Vec<(String, String)> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let there: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
        check(&texts, |path| there.iter().any(|known| Path::new(known) == path))
            .into_iter()
            .map(|(path, line, why)| format!("{path}:{line} {why}"))
            .collect()
    }

    #[test]
    fn links_lead_to_files_and_headings() {
        let other = ("docs/b.md", "# Two words, `code`\n## Again\n## Again\n");
        let text = "[b](b.md#two-words-code) [c](b.md#again-1) [w](https://example.org/x) `[n](no.md)`\n```text\n[n](no.md)\n```\n";
        assert!(wrong(&[("docs/a.md", text), other]).is_empty());
        for (text, why) in [
            ("[x](no.md)", "docs/no.md, which is not there"),
            ("\n[x](b.md#three)", "docs/a.md:2 the link b.md#three has an anchor"),
            ("{{#include ../no.md}}", "no.md, which is not there"),
        ] {
            let found = wrong(&[("docs/a.md", text), other]);
            assert!(found.len() == 1 && found[0].contains(why), "{text}: {found:?}");
        }
    }

    #[test]
    fn an_included_file_is_read_from_where_it_is_included() {
        let files = [
            ("manual/src/SUMMARY.md", "- [A](a.md)\n"),
            ("manual/src/a.md", "{{#include ../../docs/a.md}}\n[own](#head)\n"),
            ("docs/a.md", "# Head\n[b](b.md)\n"),
            ("docs/b.md", ""),
        ];
        let found = wrong(&files);
        assert!(found.len() == 1 && found[0].contains("manual/src/b.md, which is not there"), "{found:?}");
        assert!(
            wrong(&[("manual/src/SUMMARY.md", ""), ("manual/src/a.md", "")])[0].contains("SUMMARY.md does not list")
        );
    }

    #[test]
    fn commands_can_be_typed() {
        let text =
            "`cargo xtask build --pg 17` `cargo xtask chaos`\n```console skip: x\n$ cargo xtask demo --pg 17\n```\n";
        assert!(wrong(&[("a.md", text)]).is_empty());
        for text in
            ["`cargo xtask bild`", "```console\n$ cargo xtask demo --pg 14\n```\n", "`cargo xtask doctor --instal`"]
        {
            assert_eq!(wrong(&[("a.md", text)]).len(), 1, "{text}");
        }
    }
}
