//! What a caller can choose: PostgreSQL majors and kinds of server, as types and as text.

use std::fmt;
use std::str::FromStr;

/// A PostgreSQL major version that the product supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Major(u16);

impl Major {
    /// Every supported major, oldest first.
    pub const ALL: [Self; 4] = [Self(15), Self(16), Self(17), Self(18)];

    /// The cargo feature of the extension crate: `pg17`.
    pub fn feature(self) -> String {
        format!("pg{}", self.0)
    }

    /// The directory of what differs in this major: `compat17`.
    pub fn compat(self) -> String {
        format!("compat{}", self.0)
    }
}

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Major {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|major| major.to_string() == text.trim());
        found.ok_or_else(|| format!("unknown PostgreSQL major {text:?}: 15, 16, 17 and 18 are supported (or `all`)"))
    }
}

impl TryFrom<String> for Major {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

/// What `--pg` holds: one or several majors, each once, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Majors(pub Vec<Major>);

impl FromStr for Majors {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "all" {
            return Ok(Self(Major::ALL.to_vec()));
        }
        let mut majors = Vec::new();
        for part in text.split(',') {
            let major = part.parse()?;
            if !majors.contains(&major) {
                majors.push(major);
            }
        }
        Ok(Self(majors))
    }
}

/// Does the server carry our patches?
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// With the series of `patches/`.
    Patched,
    /// As released by the PostgreSQL project.
    Stock,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Patched => "patched",
            Self::Stock => "stock",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_majors() {
        let text = |majors: Majors| majors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        for (given, want) in [("17", "17"), ("15,18", "15 18"), ("17,17", "17"), ("all", "15 16 17 18")] {
            assert_eq!(text(given.parse().unwrap()), want, "{given}");
        }
        for wrong in ["14", "19", "", "17,", "seventeen", "015"] {
            assert!(wrong.parse::<Majors>().is_err(), "{wrong}");
        }
    }
}
