//! How a run ends: the exit codes that scripts may rely on, and the one error type that leads to them.
//!
//! **Invariant:** both matches over [`Failure`] name every variant, so a new kind of failure cannot get a code by accident.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::digest::Digest;

/// The exit codes of `cargo xtask`. They are part of its interface: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was asked for is done.
    Done = 0,
    /// A step failed: a child, a test, a file that cannot be written.
    StepFailed = 1,
    /// The command line, or a file of the repository that steers it, asks for something that does not exist.
    Usage = 2,
    /// A tool or library of the system is missing; the message has the one command that installs it.
    MissingPackage = 3,
    /// No source could provide the server's source code or binary.
    SourceNotObtainable = 4,
    /// A file is not the one that `pg.lock` pins.
    DigestMismatch = 5,
    /// A patch does not apply to the source.
    PatchReject = 6,
    /// Stopped by Ctrl-C or SIGTERM; the same command goes on where this one stopped (128 + SIGINT).
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something the caller has to write differently.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What would be right.
        hint: String,
    },
    /// Tools or libraries that the system lacks.
    #[error("missing on this machine: {}", missing.join(", "))]
    Missing {
        /// What each is needed for, by name.
        missing: Vec<String>,
        /// How to get all of them: where there is one, the one command.
        fix: String,
    },
    /// No source had it.
    #[error("could not get {what}{}", tried.iter().map(|t| format!("\n  tried {t}")).collect::<String>())]
    NotObtainable {
        /// The file or package.
        what: String,
        /// One line per source: name and reason.
        tried: Vec<String>,
        /// Where it could be had.
        hint: String,
    },
    /// A file with other content than the pinned one. The file is gone already when this is made.
    #[error("wrong digest of {file}, from {source_name}\n  expected {expected}\n  computed {computed}")]
    WrongDigest {
        /// The pinned digest.
        expected: Digest,
        /// The digest of what came.
        computed: Digest,
        /// File name.
        file: String,
        /// Where it came from.
        source_name: String,
        /// What to do.
        hint: String,
    },
    /// Nothing is pinned, so nothing can be checked.
    #[error("pg.lock pins no digest for {file}\n  computed {computed}, from {source_name}")]
    Unpinned {
        /// File name.
        file: String,
        /// What was computed.
        computed: Digest,
        /// Where it came from.
        source_name: String,
    },
    /// A patch that does not apply.
    #[error("{patch} does not apply to PostgreSQL {version}: {detail}")]
    Reject {
        /// File name of the diff.
        patch: String,
        /// Version of the source.
        version: String,
        /// File and hunk, or the offset that is too large.
        detail: String,
    },
    /// A child process that ended badly.
    #[error("{program} failed ({status})\n  command   {command}\n  directory {}\n  full log  {}{}", dir.display(), log.display(), indented(tail))]
    Child {
        /// Short name.
        program: String,
        /// The whole command line.
        command: String,
        /// Its directory.
        dir: PathBuf,
        /// Exit status in words.
        status: String,
        /// Its last lines.
        tail: Vec<String>,
        /// Everything it said.
        log: PathBuf,
    },
    /// Not enough room, found before anything is written.
    #[error("{} has {free_mb} MB free, and {what} needs about {needed_mb} MB", dir.display())]
    NoSpace {
        /// The directory that was looked at.
        dir: PathBuf,
        /// Free space.
        free_mb: u64,
        /// Wanted space.
        needed_mb: u64,
        /// For what.
        what: String,
        /// Where else it could go.
        hint: String,
    },
    /// A file or directory.
    #[error("could not {verb} {}: {error}", path.display())]
    Io {
        /// What was tried, as a verb.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Something that was built or run is not right.
    #[error("{what}")]
    Failed {
        /// What is not right.
        what: String,
        /// What to do; may be empty.
        hint: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// Every function of this crate that can fail.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// For `map_err`: an I/O error with the verb and object that give it a meaning.
    pub fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { verb, path, error }
    }

    /// A wrong command line or steering file.
    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), hint: hint.into() }
    }

    /// A result that is not right.
    pub fn failed(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), hint: hint.into() }
    }

    /// The exit code of this failure.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. } => Exit::Usage,
            Self::Missing { .. } => Exit::MissingPackage,
            Self::NotObtainable { .. } => Exit::SourceNotObtainable,
            Self::WrongDigest { .. } | Self::Unpinned { .. } => Exit::DigestMismatch,
            Self::Reject { .. } => Exit::PatchReject,
            Self::Child { .. } | Self::NoSpace { .. } | Self::Io { .. } | Self::Failed { .. } => Exit::StepFailed,
            Self::Interrupted => Exit::Interrupted,
        }
    }

    /// What the reader can do about it; empty when the message says all there is.
    pub fn hint(&self) -> String {
        match self {
            Self::Usage { hint, .. }
            | Self::NotObtainable { hint, .. }
            | Self::WrongDigest { hint, .. }
            | Self::NoSpace { hint, .. }
            | Self::Failed { hint, .. } => hint.clone(),
            Self::Missing { fix, .. } => fix.clone(),
            Self::Unpinned { .. } => {
                "check the digest against the project's own site, then repeat with --trust-new-digest, or put it into pg.lock".into()
            }
            Self::Reject { .. } => "the source is not the one the series was written for; see patches/series.toml".into(),
            Self::Child { .. } => String::new(),
            Self::Io { error, .. } if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                "this account may not write there; choose another place or run as its owner".into()
            }
            Self::Io { error, .. } if error.kind() == io::ErrorKind::NotADirectory => {
                "a part of this path is a file; SPOCK_CACHE_DIR chooses where downloads and built servers go".into()
            }
            Self::Io { error, .. } if error.kind() == io::ErrorKind::StorageFull => "free some space on that disk".into(),
            Self::Io { .. } => String::new(),
            Self::Interrupted => "run the same command again to go on; finished steps are kept".into(),
        }
    }
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  | {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let child = Failure::Child {
            program: "make".into(),
            command: "make all".into(),
            dir: "/d".into(),
            status: "exit status 2".into(),
            tail: vec!["last".into()],
            log: "/l".into(),
        };
        let digest = Digest::of_bytes(b"");
        let unpinned = Failure::Unpinned { file: "f".into(), computed: digest, source_name: "s".into() };
        let reject = Failure::Reject { patch: "p".into(), version: "17.11".into(), detail: "d".into() };
        let cases = [
            (Failure::usage("w", "h"), 2),
            (Failure::Missing { missing: vec!["bison".into()], fix: "apt-get install bison".into() }, 3),
            (Failure::NotObtainable { what: "w".into(), tried: vec![], hint: "h".into() }, 4),
            (unpinned, 5),
            (reject, 6),
            (child, 1),
            (Failure::Interrupted, 130),
        ];
        for (failure, code) in cases {
            assert_eq!(failure.exit() as u8, code, "{failure}");
        }
    }

    #[test]
    fn a_failed_child_says_all_that_is_needed_to_repeat_it() {
        let text = Failure::Child {
            program: "make".into(),
            command: "make -j2 world-bin".into(),
            dir: "/build".into(),
            status: "exit status 2".into(),
            tail: vec!["no rule".into()],
            log: "/log/compile.log".into(),
        }
        .to_string();
        for part in ["make -j2 world-bin", "/build", "/log/compile.log", "| no rule", "exit status 2"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
