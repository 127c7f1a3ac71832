//! What a server's log may hold without failing a story.

use crate::process::last_lines;

/// Lines that every run may have: consequences of stops, kills and cut connections that the story itself caused, and
/// of the harness asking before a server is ready.
const ALWAYS_ALLOWED: [&str; 10] = [
    "the database system is starting up",
    "the database system is shutting down",
    "the database system is not yet accepting connections",
    "the database system is in recovery mode",
    "terminating connection due to administrator command",
    "terminating walsender process due to administrator command",
    "terminating background worker \"spock",
    // A sender whose subscriber was told to stop, or stopped, while it was sending.
    "connection to client lost",
    "could not send data to client",
    "could not receive data from client",
];

/// The lines of level WARNING and above that hold none of the allowed texts.
pub fn unexpected_lines<'a>(log: &'a str, allowed: &[&str]) -> Vec<&'a str> {
    let severe =
        |line: &&str| [" WARNING:  ", " ERROR:  ", " FATAL:  ", " PANIC:  "].iter().any(|level| line.contains(level));
    let listed = |line: &str| ALWAYS_ALLOWED.iter().chain(allowed).any(|text| line.contains(text));
    log.lines().filter(severe).filter(|line| !listed(line)).collect()
}

/// The end of a log, for a message on a terminal.
pub fn tail(log: &str) -> String {
    last_lines(log, 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unlisted_warnings_and_worse_count() {
        let log = "2026 [1] client backend psql: LOG:  all is well\n\
                   2026 [1] client backend psql: ERROR:  relation \"x\" does not exist\n\
                   2026 [1] client backend psql: WARNING:  expected one\n\
                   2026 [1] postmaster FATAL:  the database system is starting up\n";
        let left = unexpected_lines(log, &["expected one"]);
        assert_eq!(left, ["2026 [1] client backend psql: ERROR:  relation \"x\" does not exist"]);
    }
}
