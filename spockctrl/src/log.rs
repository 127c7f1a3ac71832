//! What is said besides results: to stderr, a file or syslog.
//!
//! **Invariant.** Every line is masked here, so no caller can forget it.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::secret::mask;

/// How much is said; each level has those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only what ends the run.
    Error,
    /// What is strange.
    Warning,
    /// What is done.
    Info,
    /// The statements too.
    Debug,
}

impl Level {
    /// From `0` to `3`, or a name, also the server's names of severities.
    pub fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "0" | "none" | "error" | "fatal" | "panic" => Some(Self::Error),
            "1" | "warn" | "warning" => Some(Self::Warning),
            "2" | "info" | "notice" | "log" => Some(Self::Info),
            "3" | "debug" | "debug1" | "debug2" | "debug3" | "debug4" | "debug5" => Some(Self::Debug),
            _ => None,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    const fn colour(self) -> &'static str {
        match self {
            Self::Error => "\x1b[31m",
            Self::Warning => "\x1b[33m",
            Self::Info => "\x1b[32m",
            Self::Debug => "\x1b[34m",
        }
    }

    /// As syslog numbers it.
    const fn severity(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warning => 4,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// stderr.
    Console,
    /// Appended to a file.
    File(PathBuf),
    /// The local syslog socket, which journald listens on too.
    Syslog,
}

static CHOSEN: OnceLock<(Level, Destination)> = OnceLock::new();

/// Chooses once how much is said and where; before that, warnings go to stderr.
pub fn choose(level: Level, destination: Destination) {
    // The first choice holds: there is one configuration in a run.
    let _first = CHOSEN.set((level, destination));
}

/// Says a line if its level is wanted.
pub fn say(level: Level, text: &str) {
    let (wanted, destination) = CHOSEN.get().cloned().unwrap_or((Level::Warning, Destination::Console));
    if level > wanted {
        return;
    }
    let text = mask(text);
    let kept = match &destination {
        Destination::Console => false,
        Destination::File(path) => append(path, &format!("{}: {text}", level.word())).is_ok(),
        Destination::Syslog => UnixDatagram::unbound().is_ok_and(|socket| {
            // Facility 1 is user-level messages.
            let line = format!("<{}>spockctrl: {}: {text}", 8 + level.severity(), level.word());
            socket.send_to(line.as_bytes(), "/dev/log").is_ok()
        }),
    };
    // What ends the run is for the person who started it, wherever the log goes.
    if !kept || level == Level::Error {
        console(level, &text);
    }
}

/// Adds a line to a file that, if it is new, only its owner reads.
fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    writeln!(file, "{} {line}", chrono::Local::now().format("%Y-%m-%d %H:%M:%S%z"))
}

fn console(level: Level, text: &str) {
    let stderr = std::io::stderr();
    let colour = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let line = if colour {
        format!("{}{}:\x1b[0m {text}", level.colour(), level.word())
    } else {
        format!("{}: {text}", level.word())
    };
    // Nobody listens when stderr is closed; the exit code says the rest.
    let _closed = writeln!(stderr.lock(), "{line}");
}

/// Says a warning.
pub fn warn(text: &str) {
    say(Level::Warning, text);
}

/// Says what is done.
pub fn info(text: &str) {
    say(Level::Info, text);
}

/// Says a detail.
pub fn debug(text: &str) {
    say(Level::Debug, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_its_owner_reads_a_log_file() {
        let path = std::env::temp_dir().join(format!("spockctrl-log-{}", std::process::id()));
        append(&path, "a line").unwrap();
        let (mode, text) =
            (std::fs::metadata(&path).unwrap().permissions().mode(), std::fs::read_to_string(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mode & 0o777, 0o600);
        assert!(text.ends_with(" a line\n"), "{text}");
    }
}
