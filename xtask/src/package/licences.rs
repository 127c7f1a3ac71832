//! Licences of the crates that are linked into the extension: whether each may be, and their texts, which have to go along.
//!
//! **Invariant:** a crate that names no licence, or none of the known permissive ones, is an error, not a line in a list.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::exit::{Failure, Result};

/// Licences that ask for no more than that notices go along.
const PERMISSIVE: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "PostgreSQL",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];
/// How names of files with licences begin.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT", "UNLICENSE"];

/// May a crate of this SPDX expression be linked in? One side of an OR is enough; an exception only allows more.
pub fn is_permissive(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    matches!(any_of(&mut words), Some(true)) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>) -> Option<bool> {
    let mut one = all_of(words)?;
    while words.next_if_eq(&"OR").is_some() {
        one |= all_of(words)?;
    }
    Some(one)
}

fn all_of(words: &mut Words<'_>) -> Option<bool> {
    let mut all = single(words)?;
    while words.next_if_eq(&"AND").is_some() {
        all &= single(words)?;
    }
    Some(all)
}

fn single(words: &mut Words<'_>) -> Option<bool> {
    let word = words.next()?;
    let known = if word == "(" {
        let inner = any_of(words)?;
        words.next_if_eq(&")")?;
        inner
    } else {
        PERMISSIVE.contains(&word)
    };
    if words.next_if_eq(&"WITH").is_some() {
        words.next()?;
    }
    Some(known)
}

/// Names and texts of the licence files in a crate's directory, sorted.
pub fn texts(dir: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Failure::io("read", dir))? {
        let path = entry.map_err(Failure::io("read", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let upper = name.to_ascii_uppercase();
        if NAMES.iter().any(|begin| upper.starts_with(begin)) && path.is_file() {
            let bytes = fs::read(&path).map_err(Failure::io("read", &path))?;
            found.push((name, String::from_utf8_lossy(&bytes).replace("\r\n", "\n").trim().to_owned()));
        }
    }
    found.sort();
    Ok(found)
}

/// One crate, as far as its licence goes.
#[derive(Debug)]
pub struct Licensed<'a> {
    /// `serde 1.0.228`.
    pub title: String,
    /// An SPDX expression.
    pub expression: &'a str,
    /// As [`texts`] finds them.
    pub texts: &'a [(String, String)],
}

/// What goes along: a line for each crate, then each text once, with the crates that it belongs to.
pub fn document(into: &str, crates: &[Licensed<'_>]) -> Result<String> {
    let mut out = format!(
        "Crates that are linked into {into}, with their licences as SPDX expressions. Rust's standard library is linked, too:\n\
         MIT OR Apache-2.0, the Rust project's developers.\n\n",
    );
    let mut owners: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in crates {
        if !is_permissive(one.expression) {
            let what = format!("the licence of {} is {}, which nobody has looked at", one.title, one.expression);
            return Err(Failure::failed(
                what,
                "read it; if it may be linked in, add it to xtask/src/package/licences.rs",
            ));
        }
        let none = if one.texts.is_empty() { " (it brings no text)" } else { "" };
        let _ = writeln!(out, "{}: {}{none}", one.title, one.expression);
        for (_, text) in one.texts {
            owners.entry(text).or_default().push(&one.title);
        }
    }
    let mut sections: Vec<(&Vec<&str>, &str)> = owners.iter().map(|(text, titles)| (titles, *text)).collect();
    sections.sort();
    for (titles, text) in sections {
        let _ = write!(out, "\n{}\n{}\n\n{text}\n", "-".repeat(72), titles.join(", "));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_decided() {
        let yes = [
            "MIT",
            "MIT OR GPL-3.0-only",
            "GPL-2.0-only OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
        ];
        let no = ["", "GPL-3.0-only", "MIT AND GPL-3.0-only", "NOASSERTION", "MIT MIT", "(MIT", "MIT OR", "mit"];
        assert!(yes.iter().all(|text| is_permissive(text)), "{yes:?}");
        for text in no {
            assert!(!is_permissive(text), "{text}");
        }
    }

    #[test]
    fn each_text_goes_along_once() {
        let text = |words: &str| vec![("LICENSE".to_owned(), words.to_owned())];
        let (same, other) = (text("the same"), text("another"));
        let crates = [("a 1", &same), ("b 2", &other), ("c 3", &same)].map(|(title, texts)| Licensed {
            title: title.to_owned(),
            expression: "MIT",
            texts,
        });
        let out = document("spock.so", &crates).unwrap();
        assert!(out.contains("\na 1: MIT\nb 2: MIT\nc 3: MIT\n"), "{out}");
        assert!(out.contains("\na 1, c 3\n\nthe same\n") && out.matches("the same").count() == 1, "{out}");
        let bad = [Licensed { title: "d 4".to_owned(), expression: "GPL-3.0-only", texts: &other }];
        assert!(document("spock.so", &bad).unwrap_err().to_string().contains("the licence of d 4 is GPL-3.0-only"));
    }

    #[test]
    fn licence_files_are_found_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("LICENSE-MIT", "a\r\nb\n"), ("Copying", "c"), ("README.md", "d")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let found = texts(dir.path()).unwrap();
        let want = [("Copying", "c"), ("LICENSE-MIT", "a\nb")].map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(found, want);
    }
}
