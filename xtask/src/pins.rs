//! `pg.lock`: which PostgreSQL each major is built from, and with what.
//!
//! **Invariant:** an unknown key is an error, so a misspelt pin is never a pin that is silently missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::digest::Digest;
use crate::exit::{Failure, Result};
use crate::major::Major;

/// The only schema of `pg.lock` so far.
const SCHEMA: u32 = 1;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    schema: u32,
    /// The version of pgrx that the extension is built with.
    pub pgrx: String,
    /// Where release tarballs are.
    pub official: Official,
    /// Configure profiles by name.
    configure: BTreeMap<String, Profile>,
    pg: BTreeMap<Major, Pin>,
}

/// The project's own site and its mirrors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Official {
    /// Templates with `{version}` and `{file}`.
    pub urls: Vec<String>,
}

/// Options for the server's `configure`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Given always.
    pub options: Vec<String>,
    /// Given depending on the machine.
    pub probes: Vec<Probe>,
}

/// An option that depends on what the machine has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// A header below the system's include directories.
    pub header: Option<String>,
    /// A Perl module.
    pub perl: Option<String>,
    /// The option when it is there.
    pub option: Option<String>,
    /// The option when it is not.
    pub otherwise: Option<String>,
}

/// What one major is built from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Minor version, e.g. `17.11`.
    pub version: String,
    /// Name of the release tarball.
    pub file: String,
    /// Its digest; none while nobody could check one.
    pub sha256: Option<Digest>,
    /// The first 12 digits of the patch set's id; empty while there is none.
    pub patch_set: String,
    /// Name of the configure profile.
    pub configure: String,
    /// The Debian suite whose source package holds this version.
    pub debian_suite: Option<String>,
    /// The unpatched binary for tests.
    pub prebuilt: Option<Prebuilt>,
}

/// A prebuilt, unpatched server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prebuilt {
    /// Its minor version; not always that of the source pin.
    pub version: String,
    /// Digest of the wheel for x86_64.
    pub sha256: Digest,
}

impl Pins {
    /// Reads `pg.lock` in the repository's root.
    pub fn load(root: &Path) -> Result<Self> {
        let path = root.join("pg.lock");
        let text = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        Self::parse(&text)
            .map_err(|why| Failure::usage(format!("pg.lock: {why}"), "restore it with: git checkout pg.lock"))
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let pins: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        if pins.schema != SCHEMA {
            return Err(format!("schema {} is not known here, only {SCHEMA}", pins.schema));
        }
        for (major, pin) in &pins.pg {
            if !pin.version.starts_with(&format!("{major}.")) {
                return Err(format!("pg.{major} pins version {}", pin.version));
            }
            if !pins.configure.contains_key(&pin.configure) {
                return Err(format!("pg.{major} names configure profile {:?}, which is not there", pin.configure));
            }
        }
        Ok(pins)
    }

    /// The pin of a major.
    pub fn of(&self, major: Major) -> Result<&Pin> {
        let hint = format!("add a [pg.{major}] table");
        self.pg.get(&major).ok_or_else(|| Failure::usage(format!("pg.lock has no pin for PostgreSQL {major}"), hint))
    }

    /// The configure profile of a pin.
    pub fn profile(&self, pin: &Pin) -> Result<&Profile> {
        let gone = || Failure::usage(format!("pg.lock has no configure profile {:?}", pin.configure), "");
        self.configure.get(&pin.configure).ok_or_else(gone)
    }
}

/// Writes a new patch-set id into the text of `pg.lock`, leaving everything else as it is.
pub fn with_patch_set(text: &str, major: Major, id: &str) -> String {
    let header = format!("[pg.{major}]");
    let mut inside = false;
    let lines = text.lines().map(|line| {
        if line.starts_with('[') {
            inside = line.trim() == header;
        }
        if inside && line.starts_with("patch_set = ") { format!("patch_set = \"{id}\"\n") } else { format!("{line}\n") }
    });
    lines.collect()
}

/// Writes another release into the text of `pg.lock`, leaving everything else as it is.
pub fn with_release(text: &str, major: Major, version: &str, file: &str, digest: Digest) -> String {
    let header = format!("[pg.{major}]");
    let mut inside = false;
    let lines = text.lines().filter_map(|line| {
        if line.starts_with('[') {
            inside = line.trim() == header;
        }
        match line.split_once(" = ") {
            Some(("version", _)) if inside => Some(format!("version = \"{version}\"\n")),
            // A pin without a digest gets one.
            Some(("file", _)) if inside => Some(format!("file = \"{file}\"\nsha256 = \"{digest}\"\n")),
            Some(("sha256", _)) if inside => None,
            _ => Some(format!("{line}\n")),
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &str = include_str!("../../pg.lock");

    #[test]
    fn the_committed_file_pins_every_major() {
        let pins = Pins::parse(COMMITTED).unwrap();
        for major in Major::ALL {
            let pin = pins.of(major).unwrap();
            assert!(pins.profile(pin).is_ok() && pin.prebuilt.is_some(), "{major}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("schema = 1", "schema = 2", "schema 2 is not known"),
            ("version = \"17.11\"", "version = \"16.11\"", "pg.17 pins version 16.11"),
            ("configure = \"standard\"", "configure = \"fast\"", "\"fast\""),
            ("dd27f2b3", "dd27", "64 hexadecimal digits"),
            ("debian_suite", "debian_siute", "debian_siute"),
            ("[pg.18]", "[pg.14]", "unknown PostgreSQL major"),
        ];
        for (old, new, want) in cases {
            let error = Pins::parse(&COMMITTED.replacen(old, new, 1)).unwrap_err();
            assert!(error.contains(want), "{new}: {error}");
        }
    }

    #[test]
    fn a_release_is_written_in_one_place() {
        let digest = Digest::of_bytes(b"tarball");
        for major in Major::ALL {
            let (version, file) = (format!("{major}.99"), format!("postgresql-{major}.99.tar.bz2"));
            let text = with_release(COMMITTED, major, &version, &file, digest);
            let (pins, before) = (Pins::parse(&text).unwrap(), Pins::parse(COMMITTED).unwrap());
            let pin = pins.of(major).unwrap();
            assert_eq!((&pin.version, &pin.file, pin.sha256), (&version, &file, Some(digest)));
            assert_eq!(text.matches(".99").count(), 2);
            for other in Major::ALL.into_iter().filter(|other| *other != major) {
                assert_eq!(pins.of(other).unwrap().version, before.of(other).unwrap().version);
            }
        }
        let major: Major = "17".parse().unwrap();
        let pin = Pins::parse(COMMITTED).unwrap().of(major).unwrap().clone();
        assert_eq!(with_release(COMMITTED, major, &pin.version, &pin.file, pin.sha256.unwrap()), COMMITTED);
    }

    #[test]
    fn a_patch_set_is_written_in_one_place() {
        let text = with_patch_set(COMMITTED, "16".parse().unwrap(), "0123456789ab");
        let pins = Pins::parse(&text).unwrap();
        assert_eq!(pins.of("16".parse().unwrap()).unwrap().patch_set, "0123456789ab");
        assert_eq!(text.matches("0123456789ab").count(), 1);
    }
}
