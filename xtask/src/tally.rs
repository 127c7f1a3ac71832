//! Counting: what test programs print, as passed, failed and skipped.
//!
//! Understood are libtest (`test result: ...`), our marker of a skipped story (`SKIPPED name: reason`), pg_regress and
//! isolation output of all majors, and prove's line per test file.
//!
//! **Invariant:** a skipped test is never counted as passed.

use std::fmt;
use std::ops::AddAssign;

/// The marker that a story prints when it cannot run here.
const SKIP_MARKER: &str = "SKIPPED ";
/// Lines that are kept of what a failed test printed: its message comes first, what follows is in the log.
const TOLD_LINES_MAX: usize = 60;

/// Numbers of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ran and were right.
    pub passed: u32,
    /// Ran and were wrong, or did not get to an end.
    pub failed: u32,
    /// Could not run here.
    pub skipped: u32,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Reads the lines of test programs.
#[derive(Debug, Default)]
pub struct Reader {
    tally: Tally,
    /// Stories that said they were skipped; libtest counts them as passed.
    marked: Vec<String>,
    failures: Vec<String>,
    told: Vec<String>,
    /// Lines that are still taken of the failed test whose output libtest repeats.
    telling: usize,
}

/// What one line means.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Libtest(Tally),
    Marked(&'a str),
    Passed,
    Failed(&'a str),
    Skipped(&'a str),
    Other,
}

impl Reader {
    /// Takes one line of output.
    pub fn line(&mut self, line: &str) {
        self.tell(line);
        match classify(line) {
            Line::Libtest(tally) => self.tally += tally,
            Line::Marked(what) => self.marked.push(what.to_owned()),
            Line::Passed => self.tally.passed += 1,
            Line::Failed(name) => {
                self.tally.failed += 1;
                self.failures.push(name.to_owned());
            }
            Line::Skipped(_) => self.tally.skipped += 1,
            Line::Other => {
                if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
                    self.failures.push(name.to_owned());
                }
            }
        }
    }

    /// libtest repeats what each failed test printed under `---- name stdout ----`, up to a line `failures:`.
    fn tell(&mut self, line: &str) {
        if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.telling = TOLD_LINES_MAX;
        } else if line == "failures:" {
            self.telling = 0;
        }
        if self.telling > 0 {
            self.telling -= 1;
            self.told.push(line.to_owned());
        }
    }

    /// The numbers.
    pub fn tally(&self) -> Tally {
        let marked = u32::try_from(self.marked.len()).unwrap_or(u32::MAX).min(self.tally.passed);
        Tally { passed: self.tally.passed - marked, skipped: self.tally.skipped + marked, ..self.tally }
    }

    /// Name and reason of each skipped story.
    pub fn marked(&self) -> &[String] {
        &self.marked
    }

    /// Names of the tests that failed.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// What the failed tests printed first.
    pub fn told(&self) -> &[String] {
        &self.told
    }
}

fn classify(line: &str) -> Line<'_> {
    if let Some(rest) = line.strip_prefix("test result: ") {
        return libtest(rest).map_or(Line::Other, Line::Libtest);
    }
    if let Some(what) = line.strip_prefix(SKIP_MARKER) {
        return Line::Marked(what);
    }
    perl_test(line).or_else(|| regress_tap(line)).or_else(|| regress_old(line)).unwrap_or(Line::Other)
}

/// `ok. 33 passed; 0 failed; 1 ignored; ...`
fn libtest(rest: &str) -> Option<Tally> {
    let (_, numbers) = rest.split_once(". ")?;
    let mut tally = Tally::default();
    for part in numbers.split(';') {
        let mut words = part.split_whitespace();
        if let (Some(Ok(n)), Some(what)) = (words.next().map(str::parse), words.next()) {
            match what {
                "passed" => tally.passed = n,
                "failed" => tally.failed = n,
                "ignored" => tally.skipped = n,
                _ => {}
            }
        }
    }
    Some(tally)
}

/// prove: `t/001_rep.pl .... ok`, `t/002.pl .. skipped: reason`, `t/003.pl .. Failed 1/3 subtests`, `... Dubious, ...`
fn perl_test(line: &str) -> Option<Line<'_>> {
    let rest = line.trim_start().strip_prefix("t/")?;
    let (name, result) = rest.split_once(".pl ")?;
    let result = result.trim_start_matches(['.', ' ']);
    match () {
        () if result.starts_with("ok") => Some(Line::Passed),
        () if result.starts_with("skipped") => Some(Line::Skipped(name)),
        () if result.starts_with("Failed") || result.starts_with("Dubious") => Some(Line::Failed(name)),
        () => None,
    }
}

/// pg_regress from 16 on: `ok 3         + boolean      52 ms`, `not ok 4     - char      20 ms`.
fn regress_tap(line: &str) -> Option<Line<'_>> {
    let (failed, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (true, rest),
        None => (false, line.strip_prefix("ok ")?),
    };
    let mut words = rest.split_whitespace();
    words.next()?.parse::<u32>().ok()?;
    let name = words.nth(1)?;
    let result = if failed { Line::Failed(name) } else { Line::Passed };
    rest.trim_end().ends_with(" ms").then_some(result)
}

/// pg_regress of 15: `     boolean     ... ok      35 ms`, `test tablespace   ... FAILED   12 ms`.
fn regress_old(line: &str) -> Option<Line<'_>> {
    let (name, result) = line.split_once(" ... ")?;
    let name = name.strip_prefix("test ").unwrap_or(name).trim();
    let timed = line.trim_end().ends_with(" ms");
    match result.split_whitespace().next() {
        Some("ok") if timed => Some(Line::Passed),
        Some("FAILED") if timed || result.contains("test process") => Some(Line::Failed(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Tally, Vec<String>) {
        let mut reader = Reader::default();
        text.lines().for_each(|line| reader.line(line));
        (reader.tally(), reader.failures)
    }

    #[test]
    fn libtest_with_skipped_stories() {
        let text = "test clock::a ... ok\n\nSKIPPED clock::b: needs a patched server\ntest clock::b ... ok\n\
                    test crash::c ... FAILED\n\ntest result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.2s\n\
                    test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.0s";
        let (tally, failures) = read(text);
        assert_eq!(tally, Tally { passed: 6, failed: 1, skipped: 2 });
        assert_eq!(failures, ["crash::c"]);
        assert_eq!(tally.to_string(), "6 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn a_failed_test_is_heard() {
        let mut reader = Reader::default();
        let text = "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\nit was 3, not 2\n\n\nfailures:\n    a\n";
        text.lines().for_each(|line| reader.line(line));
        assert_eq!(reader.told(), ["---- a stdout ----", "it was 3, not 2", "", ""]);
        let endless = format!("---- b stdout ----\n{}", "line\n".repeat(TOLD_LINES_MAX * 2));
        let mut reader = Reader::default();
        endless.lines().for_each(|line| reader.line(line));
        assert_eq!(reader.told().len(), TOLD_LINES_MAX);
    }

    #[test]
    fn what_postgresql_prints() {
        let cases = [
            ("ok 1         - test_setup                                218 ms", (1, 0, 0)),
            ("not ok 12    + boolean                                   20 ms", (0, 1, 0)),
            ("test tablespace                   ... ok           35 ms", (1, 0, 0)),
            ("     boolean                      ... FAILED       12 ms", (0, 1, 0)),
            ("t/001_rep_changes.pl .......... ok", (1, 0, 0)),
            ("t/036_truncated.pl .. ok     1234 ms ( 0.00 usr)", (1, 0, 0)),
            ("t/034_create.pl ..... skipped: Injection points not supported by this build", (0, 0, 1)),
            ("t/002_types.pl .. Dubious, test returned 29 (wstat 7424, 0x1d00)", (0, 1, 0)),
            ("parallel group (20 tests):  char varchar boolean", (0, 0, 0)),
            ("ok 1 - a subtest of prove --verbose", (0, 0, 0)),
            ("checking for gcc... ok", (0, 0, 0)),
        ];
        for (line, (passed, failed, skipped)) in cases {
            assert_eq!(read(line).0, Tally { passed, failed, skipped }, "{line}");
        }
    }
}
