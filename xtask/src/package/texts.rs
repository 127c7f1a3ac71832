//! `packaging/`: the static files of packages, with their `@WORDS@` filled in, and the facts of `package.toml`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::exit::{Failure, Result};

/// The directory with the files, and the words for one package.
#[derive(Debug, Clone)]
pub struct Texts {
    dir: PathBuf,
    words: Vec<(&'static str, String)>,
}

impl Texts {
    /// The templates of a repository; no word is known yet.
    pub fn of(root: &Path) -> Self {
        Self { dir: root.join("packaging"), words: Vec::new() }
    }

    /// Fills in `@word@`.
    #[must_use]
    pub fn with(mut self, word: &'static str, value: impl ToString) -> Self {
        self.words.retain(|(known, _)| *known != word);
        self.words.push((word, value.to_string()));
        self
    }

    /// A file with every word filled in; a word that nobody knows is an error.
    pub fn render(&self, name: &str) -> Result<String> {
        let path = self.dir.join(name);
        let text = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        self.fill(&text).map_err(|why| Failure::failed(format!("{}: {why}", path.display()), ""))
    }

    /// A text with every word filled in.
    pub fn fill(&self, text: &str) -> std::result::Result<String, String> {
        let mut out = text.to_owned();
        for (word, value) in &self.words {
            out = out.replace(&format!("@{word}@"), value);
        }
        match unknown_word(&out) {
            Some(word) => Err(format!("nobody fills in @{word}@")),
            None => Ok(out),
        }
    }
}

/// The first `@WORD@` in capitals.
fn unknown_word(text: &str) -> Option<&str> {
    let parts: Vec<&str> = text.split('@').collect();
    let word = |part: &&&str| part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    parts.get(1..parts.len().saturating_sub(1))?.iter().find(word).copied()
}

/// `packaging/package.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// `Name <address>`.
    pub maintainer: String,
    /// The server's package.
    pub server: About,
    /// The extension's package.
    pub extension: About,
    /// The package of the operator's program.
    pub tools: About,
    /// Packages of debug symbols.
    pub debug: About,
    /// Newest first.
    pub release: Vec<Release>,
}

/// What a package is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// One line.
    pub summary: String,
    /// A paragraph, in lines.
    pub description: String,
}

/// A release of the extension.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Of the extension.
    pub version: String,
    /// `2026-11-28`.
    pub date: String,
    /// What changed for users, one sentence each.
    pub changes: Vec<String>,
}

impl Facts {
    /// Reads `packaging/package.toml`.
    pub fn load(root: &Path) -> Result<Self> {
        let path = root.join("packaging/package.toml");
        let text = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        let facts: Self = toml::from_str(&text)
            .map_err(|e| Failure::usage(format!("{}: {}", path.display(), e.message()), "restore it"))?;
        let current = env!("CARGO_PKG_VERSION");
        match facts.release.first() {
            Some(newest) if newest.version == current => Ok(facts),
            _ => Err(Failure::usage(
                format!("{}: its first release is not {current}", path.display()),
                "add its changes",
            )),
        }
    }
}

impl Release {
    /// Midnight UTC of its date, in seconds since 1970.
    pub fn epoch(&self) -> u64 {
        let mut parts = self.date.split('-').map(|part| part.parse::<i64>().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        u64::try_from(days_of(next(), next(), next()) * 86_400).unwrap_or(0)
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, by counting in years that begin in March.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a number of seconds since 1970, in UTC, and the day of the week (0: Thursday).
fn date_of(epoch: u64) -> (i64, i64, i64, usize) {
    let days = i64::try_from(epoch / 86_400).unwrap_or(0);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted_month + 2) / 5 + 1, (shifted_month + 2) % 12 + 1);
    (year_of_era + era * 400 + i64::from(month <= 2), month, day, usize::try_from(days.rem_euclid(7)).unwrap_or(0))
}

/// `Sat, 28 Nov 2026 00:00:00 +0000`, as changelogs of Debian want it.
pub fn rfc2822(epoch: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day, weekday) = date_of(epoch);
    let (of_day, month) = (epoch % 86_400, MONTHS[usize::try_from(month - 1).unwrap_or(0).min(11)]);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} +0000", DAYS[weekday])
}

/// `2026-11-28T00:00:00Z`.
pub fn rfc3339(epoch: u64) -> String {
    let ((year, month, day, _), of_day) = (date_of(epoch), epoch % 86_400);
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_filled_in_and_none_is_forgotten() {
        let texts = Texts::of(Path::new("/r")).with("MAJOR", 17).with("BIN", "/b");
        assert_eq!(texts.fill("x-@MAJOR@@main @BIN@/pg <a@b.c>").unwrap(), "x-17@main /b/pg <a@b.c>");
        assert_eq!(texts.fill("@MAJOR@ @PREFIX@").unwrap_err(), "nobody fills in @PREFIX@");
    }

    #[test]
    fn dates_in_three_forms() {
        let release = |date: &str| Release { version: String::new(), date: date.to_owned(), changes: Vec::new() };
        let cases = [
            ("1970-01-01", 0, "Thu, 01 Jan 1970 00:00:00 +0000", "1970-01-01T00:00:00Z"),
            ("2024-02-29", 1_709_164_800, "Thu, 29 Feb 2024 00:00:00 +0000", "2024-02-29T00:00:00Z"),
            ("2026-11-28", 1_795_824_000, "Sat, 28 Nov 2026 00:00:00 +0000", "2026-11-28T00:00:00Z"),
        ];
        for (date, epoch, long, short) in cases {
            assert_eq!(release(date).epoch(), epoch, "{date}");
            assert_eq!((rfc2822(epoch).as_str(), rfc3339(epoch).as_str()), (long, short));
        }
        assert_eq!(rfc3339(1_795_824_000 + 3_661), "2026-11-28T01:01:01Z");
    }

    /// Lines `name = value`, also those in comments, each without what is said behind it.
    fn settings<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let pair = |line: &str| {
            let (name, value) = line.trim_start_matches('#').split_once('=')?;
            let value = value.split('#').next()?;
            is_name(name.trim()).then(|| (name.trim().to_owned(), value.trim().to_owned()))
        };
        let mut found: Vec<_> = lines.filter_map(pair).collect();
        found.sort();
        found
    }

    #[test]
    fn the_manual_and_the_sample_have_the_same_settings() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        let plugins = "output_plugin_libraries = 'pgoutput, test_decoding, spock_output'";
        let sample = read("packaging/spock.conf.in").replace("@OUTPUT_PLUGIN_LIBRARIES@", plugins);
        let sample = settings(sample.lines());
        let chapter = read("manual/src/usage.md");
        let blocks = chapter.split("```").filter_map(|block| block.strip_prefix("ini "));
        assert_eq!(settings(blocks.flat_map(|block| block.lines().skip(1))), sample);
        let readme = read("README.md");
        let blocks = readme.split("```").filter_map(|block| block.strip_prefix("ini "));
        let wanted = sample.into_iter().filter(|(name, _)| !name.starts_with("max_")).collect::<Vec<_>>();
        assert_eq!(settings(blocks.flat_map(|block| block.lines().skip(1))), wanted);
    }

    #[test]
    fn the_committed_facts_name_the_current_release() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(Facts::load(root).unwrap().maintainer.contains('<'));
    }
}
