//! The rules that no linter knows, as findings `path:line: rule, what to do instead`.
//!
//! [`source`] reads a Rust file so that comments and strings do not count, [`rules`] look at one file, [`repository`],
//! [`cases`] and [`messages`] at how files belong together. All of it is a test too, so plain `cargo test` keeps the rules.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::digest::files_below;
use crate::exit::{Failure, Result};
use crate::matrix::Matrix;

mod cases;
mod messages;
mod repository;
mod rules;
mod source;

use source::Source;

/// What is no source of ours.
const SKIP: [&str; 7] = [".git", "target", ".pgrx", "dist", "corpus", "artifacts", "node_modules"];

/// A rule that a line breaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Relative to the repository.
    pub path: String,
    /// From 1; 0 for the file as a whole.
    pub line: usize,
    /// The rule, and what to do instead.
    pub rule: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// Everything that breaks a rule, sorted.
pub fn findings(root: &Path) -> Result<Vec<Finding>> {
    let mut texts = Vec::new();
    for path in files_below(root, &SKIP)? {
        let bytes = fs::read(&path).map_err(Failure::io("read", &path))?;
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if let Ok(text) = String::from_utf8(bytes) {
            texts.push((name, text));
        }
    }
    let mut found = Vec::new();
    for (name, text) in &texts {
        found.extend(rules::any_text(name, text));
        if name.ends_with(".rs") {
            let source = Source::read(name, text);
            found.extend(rules::ALL.iter().flat_map(|rule| rule(&source)));
        }
    }
    found.extend(repository::fault_points(&texts));
    found.extend(repository::patches(root, &texts)?);
    found.extend(repository::generated(root)?);
    found.extend(repository::links(root, &texts));
    found.extend(repository::released(&texts));
    found.extend(messages::quoted(&texts));
    found.extend(cases::cases(&texts));
    found.extend(cases::words(&Matrix::load(root)?, &texts));
    found.sort();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let found: Vec<String> = findings(root).unwrap().iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }
}
