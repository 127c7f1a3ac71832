//! Programs of the server's own installation, run by a worker: `pg_dump`, `pg_restore`, `psql`.
//!
//! # Invariants
//! 1. Programs are found beside the running server, never through PATH, and must be of its major version.
//! 2. Secrets travel in the environment, never among the arguments, which every user of the machine can see.
//! 3. A program does not outlive the worker: it is ended when the wait for it is interrupted, and when the worker dies.

use super::conn::Patience;
use super::latch;
use crate::catalog::dsn::Dsn;
use crate::error::Report;
use core::ffi::CStr;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at a running program: its end does not set our latch.
const POLL: Duration = Duration::from_millis(50);
/// Bytes of what a program said that a report shows.
const SAID_BYTES_MAX: usize = 600;

/// A program that is there and of the server's major version.
#[derive(Debug, Clone)]
pub struct Program {
    name: &'static str,
    path: PathBuf,
}

/// One run of a program.
pub struct Run<'a> {
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables beside those that the server itself was started with, `PG…` ones left out.
    pub environment: Vec<(&'static str, &'a str)>,
    /// Where what it says is kept while it runs.
    pub log: &'a Path,
    /// The server that it talks to, if it may stand still: the run ends then.
    pub peer: Option<&'a Dsn>,
}

fn bin_directory() -> PathBuf {
    // SAFETY: set when the server starts, never changed.
    let path = unsafe { CStr::from_ptr((&raw const pg_sys::my_exec_path).cast()) };
    Path::new(OsStr::from_bytes(path.to_bytes())).parent().map(Path::to_path_buf).unwrap_or_default()
}

impl Program {
    /// Finds `name` beside the server and checks its version. 58P01 when it is not there, 55000 when it is of another major.
    pub fn find(name: &'static str) -> Result<Self, Report> {
        let path = bin_directory().join(name);
        let missing = |why: String| {
            Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_FILE, format!("cannot run \"{name}\" of this server's installation"))
                .detail(why)
                .hint("Copying the structure needs pg_dump, pg_restore and psql beside the server: install its client programs.")
        };
        let output = Command::new(&path)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| missing(format!("{}: {error}.", path.display())))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let major = said.split_whitespace().find_map(|word| {
            let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<i32>().ok()
        });
        let ours = super::server::pg_version_num() / 10_000;
        if output.status.success() && major == Some(ours) {
            return Ok(Self { name, path });
        }
        Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("\"{name}\" beside the server is not of its version {ours}"),
        )
        .detail(format!("It says: {}", said.trim())))
    }

    /// Runs it to its end. Interruptible. The error says what the program said last.
    pub fn run(&self, run: &Run<'_>) -> Result<(), Report> {
        let name = self.name;
        let failed = |why: String| {
            Report::new(PgSqlErrorCode::ERRCODE_IO_ERROR, format!("could not run \"{name}\"")).detail(why)
        };
        let log = File::create(run.log).map_err(|error| failed(format!("{}: {error}.", run.log.display())))?;
        let out = log.try_clone().map_err(|error| failed(format!("{error}.")))?;
        let mut command = Command::new(&self.path);
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.as_bytes().starts_with(b"PG")) {
            command.env_remove(key);
        }
        command.args(&run.arguments).envs(run.environment.iter().copied());
        command.stdin(Stdio::null()).stdout(out).stderr(log);
        // SAFETY: between fork and exec only prctl is called, which is safe there. The worker has one thread, so its end is
        // the parent's end.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let patience = run.peer.cloned().map(Patience::long);
        let mut heard_at = Instant::now();
        let mut child = Running(command.spawn().map_err(|error| failed(format!("{error}.")))?);
        let status = loop {
            match child.0.try_wait().map_err(|error| failed(format!("{error}.")))? {
                Some(status) => break status,
                None => {
                    latch::wait(POLL);
                    latch::check_interrupts();
                    if let Some(patience) = &patience {
                        patience.check(&mut heard_at).map_err(Report::from)?;
                    }
                }
            }
        };
        if status.success() {
            return Ok(());
        }
        Err(Report::new(PgSqlErrorCode::ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, format!("\"{name}\" failed ({status})"))
            .detail(said(run.log)))
    }
}

/// The end of what a program said, on one line.
fn said(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let mut start = text.len().saturating_sub(SAID_BYTES_MAX);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let said = text[start..].split_whitespace().collect::<Vec<_>>().join(" ");
    if said.is_empty() { "It said nothing.".to_owned() } else { said }
}

/// A running program.
///
/// On ERROR: Drop still runs and ends the program; it cannot raise. After a FATAL the kernel ends it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // Ends at once; what it was doing in a database is rolled back there.
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}
