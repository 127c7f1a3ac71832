//! Child processes: a scrubbed environment, a log, a process group of their own, and an end with the parent.
//!
//! **Invariants.** No variable that changes what a build or a server does comes in from outside ([`is_scrubbed`]), except where
//! two builds are compared ([`VERIFYING`]). A child
//! and all that it started end when the user presses Ctrl-C. A failure says how to repeat it by hand.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::exit::{Failure, Result};
use crate::say::Progress;

/// How many of a failed child's last lines are shown.
const TAIL_LINES: usize = 30;
/// How often a running child is looked at: often enough that Ctrl-C and the log's tail feel immediate.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a child may take to end after SIGTERM before SIGKILL; make and cargo need well under a second.
const GRACE: Duration = Duration::from_secs(3);

static STOP: OnceLock<std::sync::Arc<AtomicBool>> = OnceLock::new();

/// From here on Ctrl-C and SIGTERM stop children first; a second one ends this process at once.
pub fn watch_for_interrupts() -> Result<()> {
    let flag = STOP.get_or_init(Default::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
            .map_err(Failure::io("watch for", "signals"))?;
    }
    Ok(())
}

/// Fails when the user asked to stop.
pub fn check_interrupt() -> Result<()> {
    match STOP.get() {
        Some(flag) if flag.load(Ordering::SeqCst) => Err(Failure::Interrupted),
        _ => Ok(()),
    }
}

/// Is this variable kept away from children? Each of these has changed a build or a test run somewhere.
pub fn is_scrubbed(name: &str) -> bool {
    const EXACT: [&str; 23] = [
        "CC",
        "CPP",
        "CXX",
        "CFLAGS",
        "CPPFLAGS",
        "CXXFLAGS",
        "LDFLAGS",
        "LIBS",
        "COPT",
        "PROFILE",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "MAKEFLAGS",
        "MFLAGS",
        "MAKELEVEL",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUST_BACKTRACE",
        "TZ",
        "DESTDIR",
        "ENV",
    ];
    const PREFIXES: [&str; 6] = ["PG", "LC_", "CARGO_PKG_", "CARGO_MANIFEST_", "SPOCK_TEST_", "BINDGEN_"];
    EXACT.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Set in the two builds that `package --verify` compares: locale, zone and clock of this process are their children's too.
pub const VERIFYING: &str = "SPOCK_VERIFYING";
/// Rust's own programs do not come up under faketime: their allocator and its library wait for each other.
const WITHOUT_CLOCK: [&str; 4] = ["cargo", "rustc", "rustfmt", "rustup"];

/// Does this variable reach `program` in a build that is compared with another one?
fn is_varied(program: &OsStr, name: &str) -> bool {
    let program = Path::new(program).file_name().unwrap_or_default();
    name == "LC_ALL" || name == "TZ" || (name == "LD_PRELOAD" && !WITHOUT_CLOCK.iter().any(|rust| program == *rust))
}

/// The environment of a child: this process's own without what [`is_scrubbed`] names, and the C locale.
fn environment(program: &OsStr, own: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<OsString, OsString> {
    let own: BTreeMap<OsString, OsString> = own.collect();
    let verifying = own.contains_key(OsStr::new(VERIFYING));
    let keep = |name: &str| !is_scrubbed(name) || (verifying && is_varied(program, name));
    let mut kept: BTreeMap<_, _> = own.into_iter().filter(|(name, _)| name.to_str().is_none_or(keep)).collect();
    kept.entry("LC_ALL".into()).or_insert_with(|| "C".into());
    kept
}

/// A command line that is going to be run.
#[derive(Debug, Clone)]
pub struct Child {
    program: OsString,
    args: Vec<OsString>,
    dir: PathBuf,
    env: BTreeMap<OsString, OsString>,
    log: PathBuf,
    account: Option<(u32, u32)>,
}

impl Child {
    /// `program` run in `dir`, its output appended to `log`.
    pub fn new(program: impl Into<OsString>, dir: &Path, log: &Path) -> Self {
        let program = program.into();
        Self {
            env: environment(&program, std::env::vars_os()),
            program,
            args: Vec::new(),
            dir: dir.to_owned(),
            log: log.to_owned(),
            account: None,
        }
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.into(), value.as_ref().to_owned());
        self
    }

    /// Runs it as another user and group.
    pub fn account(mut self, account: Option<(u32, u32)>) -> Self {
        self.account = account;
        self
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The command line as a person would type it.
    pub fn command_line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args).map(|word| quoted(&word.to_string_lossy()));
        words.collect::<Vec<_>>().join(" ")
    }

    /// Runs it to its end; anything but success is an error.
    pub fn run(&self, progress: &Progress<'_>) -> Result<()> {
        self.run_with(progress, |_| ()).and_then(|ended| ended.must_succeed(self))
    }

    /// Runs it to its end, handing over each line it prints; says how it ended.
    pub fn run_with(&self, progress: &Progress<'_>, mut each: impl FnMut(&str)) -> Result<Ended> {
        check_interrupt()?;
        if let Some(parent) = self.log.parent() {
            fs::create_dir_all(parent).map_err(Failure::io("make", parent))?;
        }
        let mut log = File::options().create(true).append(true).read(true).open(&self.log);
        let log =
            log.as_mut().map_err(|e| Failure::io("open", &self.log)(std::io::Error::new(e.kind(), e.to_string())))?;
        let begin = log.seek(SeekFrom::End(0)).map_err(Failure::io("read", &self.log))?;
        let output = log.try_clone().map_err(Failure::io("open", &self.log))?;
        let handle = duct::cmd(&self.program, &self.args)
            .dir(&self.dir)
            .full_env(&self.env)
            .stdin_null()
            // The outer redirection comes first: this order sends both streams to the log.
            .stderr_to_stdout()
            .stdout_file(output)
            .unchecked()
            .before_spawn(|command| {
                command.process_group(0);
                Ok(())
            })
            .before_spawn(as_account(self.account))
            .start()
            .map_err(|e| self.cannot_start(&e))?;
        let mut lines = Follow::new(&self.log, begin)?;
        loop {
            let ended = handle.try_wait().map_err(Failure::io("wait for", PathBuf::from(&self.program)))?;
            let status = ended.map(|output| output.status);
            lines.read(&mut |line| {
                progress.tail(line);
                each(line);
            })?;
            if let Some(status) = status {
                lines.rest(&mut |line| each(line));
                return Ok(Ended { success: status.success(), status: status.to_string(), tail: lines.tail });
            }
            if check_interrupt().is_err() {
                end_group(&handle);
                return Err(Failure::Interrupted);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Runs it for its output, which must be text; nothing is logged.
    pub fn read(&self) -> Result<String> {
        check_interrupt()?;
        let output = duct::cmd(&self.program, &self.args)
            .dir(&self.dir)
            .full_env(&self.env)
            .stdin_null()
            .stdout_capture()
            .stderr_capture()
            .unchecked()
            .before_spawn(as_account(self.account))
            .run()
            .map_err(|e| self.cannot_start(&e))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let tail: Vec<String> = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
        let ended = Ended { success: output.status.success(), status: output.status.to_string(), tail };
        ended.must_succeed(self).map(|()| said)
    }

    fn cannot_start(&self, error: &std::io::Error) -> Failure {
        let what = format!("could not start {}: {error}", self.program.to_string_lossy());
        Failure::failed(what, "cargo xtask doctor lists what a build needs")
    }
}

/// Switches a command to another user and group; the standard library also drops root's other groups.
fn as_account(account: Option<(u32, u32)>) -> impl Fn(&mut std::process::Command) -> std::io::Result<()> {
    move |command| {
        if let Some((uid, gid)) = account {
            command.uid(uid).gid(gid);
        }
        Ok(())
    }
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status 0?
    pub success: bool,
    /// The status in words.
    pub status: String,
    /// Its last lines.
    pub tail: Vec<String>,
}

impl Ended {
    /// An error with everything needed to repeat the command, unless it succeeded.
    pub fn must_succeed(self, child: &Child) -> Result<()> {
        if self.success {
            return Ok(());
        }
        let keep = self.tail.len().saturating_sub(TAIL_LINES);
        Err(Failure::Child {
            program: child.program.to_string_lossy().into_owned(),
            command: child.command_line(),
            dir: child.dir.clone(),
            status: self.status,
            tail: self.tail[keep..].to_vec(),
            log: child.log.clone(),
        })
    }
}

/// SIGTERM to the child's whole process group, SIGKILL to what is left after [`GRACE`].
fn end_group(handle: &duct::Handle) {
    let groups: Vec<Pid> =
        handle.pids().into_iter().filter_map(|pid| i32::try_from(pid).ok()).map(Pid::from_raw).collect();
    let signal = |signal| {
        groups.iter().for_each(|group| {
            let _ = killpg(*group, signal);
        })
    };
    signal(Signal::SIGTERM);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline && matches!(handle.try_wait(), Ok(None)) {
        std::thread::sleep(LOOK_EVERY);
    }
    signal(Signal::SIGKILL);
}

/// Reads a growing log line by line.
struct Follow {
    file: File,
    path: PathBuf,
    partial: Vec<u8>,
    tail: Vec<String>,
}

impl Follow {
    fn new(path: &Path, from: u64) -> Result<Self> {
        let mut file = File::open(path).map_err(Failure::io("open", path))?;
        file.seek(SeekFrom::Start(from)).map_err(Failure::io("read", path))?;
        Ok(Self { file, path: path.to_owned(), partial: Vec::new(), tail: Vec::new() })
    }

    fn read(&mut self, each: &mut dyn FnMut(&str)) -> Result<()> {
        self.file.read_to_end(&mut self.partial).map_err(Failure::io("read", &self.path))?;
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.line(&String::from_utf8_lossy(&line[..end]), each);
        }
        Ok(())
    }

    fn rest(&mut self, each: &mut dyn FnMut(&str)) {
        let last = std::mem::take(&mut self.partial);
        if !last.is_empty() {
            self.line(&String::from_utf8_lossy(&last), each);
        }
    }

    fn line(&mut self, line: &str, each: &mut dyn FnMut(&str)) {
        each(line);
        if self.tail.len() >= 2 * TAIL_LINES {
            self.tail.drain(..TAIL_LINES);
        }
        self.tail.push(line.to_owned());
    }
}

/// A word that can be pasted into a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::say::{Say, Voice};

    #[test]
    fn what_changes_a_build_is_kept_away() {
        for name in
            ["PGHOST", "PGRX_HOME", "PGRX_PG_CONFIG_PATH", "CFLAGS", "LC_ALL", "LANG", "RUST_BACKTRACE", "MAKEFLAGS"]
        {
            assert!(is_scrubbed(name), "{name}");
        }
        for name in ["PATH", "HOME", "USER", "CARGO_HOME", "RUSTUP_HOME", "SSL_CERT_FILE", "http_proxy", "TMPDIR"] {
            assert!(!is_scrubbed(name), "{name}");
        }
    }

    #[test]
    fn what_two_compared_builds_differ_in_reaches_their_children() {
        let own = [("LC_ALL", "C.UTF-8"), ("TZ", "Asia/Kathmandu"), ("LD_PRELOAD", "clock"), ("CFLAGS", "-g")];
        let child = |program: &str, verifying: bool| {
            let all = own.iter().copied().chain(verifying.then_some((VERIFYING, "1")));
            let env = environment(OsStr::new(program), all.map(|(name, value)| (name.into(), value.into())));
            ["LC_ALL", "TZ", "LD_PRELOAD", "CFLAGS"]
                .map(|name| env.get(OsStr::new(name)).and_then(|v| v.to_str().map(str::to_owned)))
        };
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(child("dpkg-deb", false), [text("C"), None, None, None]);
        assert_eq!(child("dpkg-deb", true), [text("C.UTF-8"), text("Asia/Kathmandu"), text("clock"), None]);
        assert_eq!(child("/x/bin/cargo", true), [text("C.UTF-8"), text("Asia/Kathmandu"), None, None]);
    }

    #[test]
    fn a_child_sees_the_scrubbed_environment_and_leaves_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let say = Say::new(Voice::Plain, false);
        let progress = say.begin("test", "");
        let log = dir.path().join("log/child.log");
        let child =
            Child::new("sh", dir.path(), &log).args(["-c", "echo \"$LC_ALL $MINE\"; echo two >&2"]).env("MINE", "x");
        let mut lines = Vec::new();
        child.run_with(&progress, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["C x", "two"]);
        assert_eq!(fs::read_to_string(&log).unwrap(), "C x\ntwo\n");
    }

    #[test]
    fn a_failed_child_shows_its_last_thirty_lines() {
        let dir = tempfile::tempdir().unwrap();
        let say = Say::new(Voice::Plain, false);
        let child = Child::new("sh", dir.path(), &dir.path().join("l")).args(["-c", "seq 1 100; exit 3"]);
        match child.run(&say.begin("test", "")) {
            Err(Failure::Child { tail, status, command, .. }) => {
                assert_eq!((tail.len(), tail[0].as_str(), tail[29].as_str()), (30, "71", "100"));
                assert!(status.contains('3'), "{status}");
                assert_eq!(command, "sh -c 'seq 1 100; exit 3'");
            }
            other => panic!("{other:?}"),
        }
    }
}
