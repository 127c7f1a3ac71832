//! `ci/matrix.toml`: the one list of CI cells.
//!
//! **Invariant:** names are unique, and an unknown key or word is an error, so no cell is lost by a typing mistake.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::args::{ServerArgs, SourceArg};
use crate::exit::{Failure, Result};
use crate::major::{Kind, Major};
use crate::package::plan::Format;
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
    /// Words of the stories that are cases of the convergence charter.
    pub cases: Vec<String>,
    /// Every cell, in the order in which they run; after parsing those of the grids too.
    #[serde(rename = "cell")]
    pub cells: Vec<Cell>,
    /// Cells that differ in nothing but major, server, distribution and architecture.
    #[serde(default, rename = "grid")]
    grids: Vec<Grid>,
}

/// Every combination of its lists is a cell called `<server>-<major>-<distribution>-<arch>`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grid {
    majors: Vec<Major>,
    servers: Vec<Kind>,
    distributions: Vec<String>,
    archs: Vec<String>,
    suites: Vec<Suite>,
    stories: Option<Stories>,
    #[serde(default)]
    packages: Vec<Format>,
    /// Names of those of its cells.
    #[serde(default)]
    may_lack_source: Vec<String>,
}

impl Grid {
    fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for distribution in &self.distributions {
            for arch in &self.archs {
                for server in &self.servers {
                    for major in &self.majors {
                        cells.push(self.cell(*major, *server, distribution, arch));
                    }
                }
            }
        }
        cells
    }

    fn cell(&self, major: Major, server: Kind, distribution: &str, arch: &str) -> Cell {
        // The distribution brings the server that a stock extension is for: no image of one is made.
        let formats = self.packages.iter().filter(|format| server == Kind::Patched || **format != Format::Oci);
        let name = format!("{server}-{major}-{distribution}-{arch}");
        Cell {
            may_lack_source: self.may_lack_source.contains(&name),
            name,
            major,
            server,
            distribution: distribution.to_owned(),
            arch: arch.to_owned(),
            source: None,
            suites: self.suites.clone(),
            stories: self.stories,
            packages: formats.copied().collect(),
        }
    }
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
    /// Which packages of it are released; none: it is for tests.
    #[serde(default)]
    pub packages: Vec<Format>,
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
    /// Those, and those of [`Matrix::cases`].
    Cases,
}

impl fmt::Display for Stories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smoke => "smoke",
            Self::Cases => "cases",
        })
    }
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
        let mut matrix: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        for grid in &matrix.grids {
            let cells = grid.cells();
            if let Some(name) = grid.may_lack_source.iter().find(|name| cells.iter().all(|cell| cell.name != **name)) {
                return Err(format!("may_lack_source names {name}, which is no cell of its grid"));
            }
            matrix.cells.extend(cells);
        }
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
            Some(Stories::Cases) => [&self.smoke[..], &self.cases].concat(),
            None => Vec::new(),
        }
    }
}

impl Cell {
    /// Can it be built on this machine? A cell for `rocky-9` fits on each of its minor releases.
    pub fn fits(&self, machine: &Machine) -> bool {
        let rest = machine.distribution.strip_prefix(&self.distribution);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) && self.arch == machine.arch
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
    use crate::cx::Cx;

    const COMMITTED: &str = include_str!("../../ci/matrix.toml");

    #[test]
    fn the_committed_matrix_has_every_major_and_kind() {
        let matrix = Matrix::parse(COMMITTED).unwrap();
        for major in Major::ALL {
            for kind in [Kind::Patched, Kind::Stock] {
                assert!(matrix.cells.iter().any(|cell| cell.major == major && cell.server == kind), "{kind} {major}");
            }
        }
        for (major, kind) in Major::ALL.into_iter().flat_map(|major| [(major, Kind::Patched), (major, Kind::Stock)]) {
            for (distribution, arch) in ["debian-12", "rocky-9"].iter().flat_map(|d| [(*d, "x86_64"), (*d, "aarch64")])
            {
                let is = |cell: &&Cell| {
                    cell.major == major && cell.server == kind && cell.distribution == distribution && cell.arch == arch
                };
                assert!(matrix.cells.iter().any(|cell| is(&cell)), "{kind} {major} on {distribution}, {arch}");
            }
        }
        let full = matrix.cells.iter().filter(|cell| cell.stories.is_none()).count();
        assert_eq!(full, 1, "one cell runs all stories");
    }

    /// A source that is pinned is there; when it cannot be had the network is at fault, and nothing may go on without it.
    #[test]
    fn only_cells_without_a_pinned_source_may_lack_it() {
        let pins = Cx::for_tests().pins;
        for cell in Matrix::parse(COMMITTED).unwrap().cells {
            let pin = pins.of(cell.major).unwrap();
            let tarball = pin.sha256.is_some() && cell.source.is_none();
            let wheel = pin.prebuilt.is_some() && cell.server == Kind::Stock && cell.arch == "x86_64";
            assert_eq!(cell.may_lack_source, !tarball && !wheel, "{}", cell.name);
        }
    }

    #[test]
    fn every_major_is_linted_where_its_server_can_be_had() {
        let cells = Matrix::parse(COMMITTED).unwrap().cells;
        let linted = |cell: &&Cell| cell.suites.contains(&Suite::Lint) && !cell.may_lack_source;
        for major in Major::ALL {
            assert!(cells.iter().filter(linted).any(|cell| cell.major == major), "{major}");
        }
    }

    #[test]
    fn a_cell_fits_on_every_minor_release() {
        let matrix = Matrix::parse(COMMITTED).unwrap();
        let cell = matrix.named("patched-17-rocky-9-x86_64").unwrap();
        for (distribution, fits) in [("rocky-9.4", true), ("rocky-9", true), ("rocky-90", false), ("rocky-10.0", false)]
        {
            assert_eq!(cell.fits(&Machine { distribution: distribution.into(), arch: "x86_64".into() }), fits);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("name = \"patched-15\"", "name = \"patched-17\"", "two cells are called patched-17"),
            ("source = \"prebuilt\"", "source = \"web\"", "the sources are"),
            ("may_lack_source = true", "may_lack_sauce = true", "may_lack_sauce"),
            ("stories = \"smoke\"", "stories = \"some\"", "some"),
            ("\"regress\"", "\"regres\"", "regres"),
            ("[\"patched-16-debian-12-aarch64\"", "[\"patched-16-debian-12\"", "no cell of its grid"),
        ];
        for (old, new, want) in cases {
            let error = Matrix::parse(&COMMITTED.replacen(old, new, 1)).unwrap_err();
            assert!(error.contains(want), "{new}: {error}");
        }
    }
}
