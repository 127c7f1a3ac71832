//! How a run ends: exit codes, and failures with a way out.
//!
//! **Invariant.** A failure's words have no secret in them: they pass through [`crate::secret::mask`] when they are made.

use std::process::ExitCode;

use crate::secret::mask;

/// The exit codes, as the manual lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// An operation failed on a server, or a step failed and nothing of the run is left.
    Failed = 1,
    /// What was typed cannot be understood.
    Usage = 2,
    /// Configuration or workflow file is invalid.
    Config = 3,
    /// A server cannot be reached.
    Connect = 4,
    /// A precondition does not hold; nothing was changed.
    Precondition = 5,
    /// A deadline passed.
    TimedOut = 6,
    /// Some steps were done and stay; a journal was written, the run can be resumed.
    Partial = 7,
    /// Interrupted by a signal.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why something was not done, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code that a run ends with because of it.
    pub exit: Exit,
    /// What is wrong; lower case, no full stop.
    pub message: String,
    /// What would help; empty when there is nothing to say.
    pub hint: String,
    /// Of a server's error.
    pub sqlstate: Option<String>,
}

/// What all of this program's functions give.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure with its exit code; `message` and `hint` are masked.
    pub fn new(exit: Exit, message: impl AsRef<str>, hint: impl AsRef<str>) -> Self {
        Self { exit, message: mask(message.as_ref()), hint: mask(hint.as_ref()), sqlstate: None }
    }

    /// What was typed cannot be understood.
    pub fn usage(message: impl AsRef<str>, hint: impl AsRef<str>) -> Self {
        Self::new(Exit::Usage, message, hint)
    }

    /// A file is invalid.
    pub fn config(message: impl AsRef<str>, hint: impl AsRef<str>) -> Self {
        Self::new(Exit::Config, message, hint)
    }

    /// Puts words in front of the message.
    pub fn within(mut self, what: &str) -> Self {
        self.message = format!("{}: {}", mask(what), self.message);
        self
    }
}
