//! `ci/matrix.toml`: the one list of CI cells.
//!
//! **Invariant:** names are unique, and an unknown key or word is an error, so no cell is lost by a typing mistake.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::args::{ServerArgs, SourceArg};
use crate::exit::{Failure, Result};
use crate::major::{Kind, Major};
use crate::suites::Suite;

/// The only schema so far.
const SCHEMA: u32 = 1;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    schema: u32,
    /// Words of the stories that show that a cell works at all.
    pub smoke: Vec<String>,
    /// Every cell, in the order in which they run.
    #[serde(rename = "cell")]
    pub cells: Vec<Cell>,
}

/// One combination and what it runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Unique.
    pub name: String,
    /// The server's major.
    pub major: Major,
    /// With our patches or without.
    pub server: Kind,
    /// `debian-12`: ID and VERSION_ID of os-release.
    pub distribution: String,
    /// As in Rust: `x86_64`, `aarch64`.
    pub arch: String,
    /// Where the server comes from; none: the default order.
    pub source: Option<String>,
    /// What it runs.
    pub suites: Vec<Suite>,
    /// Which stories; none: all.
    pub stories: Option<Stories>,
    /// Is a missing source a skipped cell, not a failed one?
    #[serde(default)]
    pub may_lack_source: bool,
}

/// A choice of stories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stories {
    /// Those of [`Matrix::smoke`].
    Smoke,
}

/// A machine as far as cells care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// `debian-12`.
    pub distribution: String,
    /// `x86_64`.
    pub arch: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let field = |name: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown");
            value.trim_matches('"').to_owned()
        };
        Self {
            distribution: format!("{}-{}", field("ID="), field("VERSION_ID=")),
            arch: std::env::consts::ARCH.to_owned(),
        }
    }
}

impl Matrix {
    /// Reads `ci/matrix.toml`.
    pub fn load(root: &Path) -> Result<Self> {
        let path = root.join("ci/matrix.toml");
        let text = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        Self::parse(&text).map_err(|why| Failure::usage(format!("ci/matrix.toml: {why}"), ""))
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let matrix: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        if matrix.schema != SCHEMA {
            return Err(format!("schema {} is not known here, only {SCHEMA}", matrix.schema));
        }
        for (i, cell) in matrix.cells.iter().enumerate() {
            if matrix.cells[..i].iter().any(|other| other.name == cell.name) {
                return Err(format!("two cells are called {}", cell.name));
            }
            if let Some(source) = &cell.source {
                source.parse::<SourceArg>().map_err(|e| format!("cell {}: {e}", cell.name))?;
            }
        }
        Ok(matrix)
    }

    /// The cell of a name.
    pub fn named(&self, name: &str) -> Result<&Cell> {
        let unknown =
            || Failure::usage(format!("ci/matrix.toml has no cell {name:?}"), "cargo xtask ci --list prints them");
        self.cells.iter().find(|cell| cell.name == name).ok_or_else(unknown)
    }

    /// The words that choose a cell's stories; empty: all of them.
    pub fn stories_of(&self, cell: &Cell) -> Vec<String> {
        match cell.stories {
            Some(Stories::Smoke) => self.smoke.clone(),
            None => Vec::new(),
        }
    }
}

impl Cell {
    /// Can it be built on this machine?
    pub fn fits(&self, machine: &Machine) -> bool {
        self.distribution == machine.distribution && self.arch == machine.arch
    }

    /// The server it asks for, as if typed.
    pub fn server_args(&self) -> ServerArgs {
        let source = self.source.as_deref().and_then(|source| source.parse().ok());
        ServerArgs { server: Some(self.server), source, ..ServerArgs::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &str = include_str!("../../ci/matrix.toml");

    #[test]
    fn the_committed_matrix_has_every_major_and_kind() {
        let matrix = Matrix::parse(COMMITTED).unwrap();
        for major in Major::ALL {
            for kind in [Kind::Patched, Kind::Stock] {
                assert!(matrix.cells.iter().any(|cell| cell.major == major && cell.server == kind), "{kind} {major}");
            }
        }
        let full = matrix.cells.iter().filter(|cell| cell.stories.is_none()).count();
        assert_eq!(full, 1, "one cell runs all stories");
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("name = \"patched-15\"", "name = \"patched-17\"", "two cells are called patched-17"),
            ("source = \"prebuilt\"", "source = \"web\"", "the sources are"),
            ("may_lack_source = true", "may_lack_sauce = true", "may_lack_sauce"),
            ("stories = \"smoke\"", "stories = \"some\"", "some"),
            ("\"regress\"", "\"regres\"", "regres"),
        ];
        for (old, new, want) in cases {
            let error = Matrix::parse(&COMMITTED.replacen(old, new, 1)).unwrap_err();
            assert!(error.contains(want), "{new}: {error}");
        }
    }
}
