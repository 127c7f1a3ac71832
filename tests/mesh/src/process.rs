//! Children: run one to its end, start a server that dies with us, kill one with all that it started.
//!
//! **Invariant:** servers are started by one thread that lives as long as the process, because the kernel sends the
//! parent-death signal when the starting *thread* ends.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::MeshError;
use crate::wait::{Deadline, Probe, wait_until};

/// How much of a failed program's output goes into the error.
const TAIL_LINES: usize = 30;

/// Runs a program to its end and gives what it printed; a failure gives the last lines of both outputs.
pub fn output_of(command: &mut Command) -> Result<String, MeshError> {
    let line = command_line(command);
    let output = command.output().map_err(|e| MeshError::Child {
        command: line.clone(),
        status: e.to_string(),
        tail: String::new(),
    })?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let tail = last_lines(&format!("{printed}{}", String::from_utf8_lossy(&output.stderr)), TAIL_LINES);
    Err(MeshError::Child { command: line, status: output.status.to_string(), tail })
}

/// The command as a person would type it.
pub fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The last `count` lines of a text.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A wrapper that makes a server get SIGQUIT (immediate shutdown) when this process dies, however it dies.
/// Empty where util-linux is not installed: then a killed test process leaves its servers behind.
pub(crate) fn dies_with_us() -> &'static [&'static str] {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| find_program("setpriv").is_some());
    if found { &["setpriv", "--pdeathsig", "QUIT", "--"] } else { &[] }
}

/// Looks a program up where [`crate::Prefix::command`] lets children look.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin"].iter().map(|dir| PathBuf::from(dir).join(name)).find(|path| path.is_file())
}

type Request = (Command, Sender<io::Result<Child>>);

/// Starts a child from the thread that never ends.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Sender<Request>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (requests, inbox) = channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                // The asker waits for the answer; when it is gone nobody wants the child.
                if let Err(unsent) = answer.send(command.spawn())
                    && let Ok(mut child) = unsent.0
                    && child.kill().is_ok()
                {
                    let _reaped = child.wait();
                }
            }
        });
        requests
    });
    let gone = |_| io::Error::other("the thread that starts servers is gone");
    let (answer, result) = channel();
    starter.send((command, answer)).map_err(|_| io::Error::other("the thread that starts servers is gone"))?;
    result.recv().map_err(gone)?
}

/// Sends a signal; a process that is gone already is fine.
pub fn signal(pid: u32, signal: Signal) -> Result<(), MeshError> {
    match kill(as_pid(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(e) => Err(MeshError::Unexpected(format!("could not send {signal} to process {pid}: {e}"))),
    }
}

/// SIGKILL to a server and all its processes at one moment, as a power failure would: it is stopped first, so that it
/// sees none of its children die. Returns when all of them are gone.
pub fn kill_with_children(child: &mut Child) -> Result<(), MeshError> {
    let pid = child.id();
    signal(pid, Signal::SIGSTOP)?;
    let children = children_of(pid);
    for one in &children {
        signal(*one, Signal::SIGKILL)?;
    }
    signal(pid, Signal::SIGKILL)?;
    child.wait().map_err(|source| MeshError::Io { what: format!("wait for process {pid}"), source })?;
    wait_until(Deadline::in_seconds(30), "the killed server's processes to be gone", || {
        let left: Vec<u32> = children.iter().copied().filter(|one| is_alive(*one)).collect();
        Ok(if left.is_empty() { Probe::Ready(()) } else { Probe::NotYet(format!("{left:?} still there")) })
    })
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed())
}

/// Fields of `/proc/PID/stat` after the name: state, parent.
fn stat_of(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// A zombie is dead: in a container nobody may be there to reap an orphan.
pub(crate) fn is_alive(pid: u32) -> bool {
    stat_of(pid).is_some_and(|(state, _)| state != 'Z')
}

/// Process ids of all children.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let Ok(listing) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = listing.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat_of(*pid).is_some_and(|(_, its)| its == parent)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_gives_its_command_line_and_last_words() {
        let error = output_of(Command::new("sh").args(["-c", "echo broken >&2; exit 3"])).expect_err("it fails");
        let text = error.to_string();
        assert!(text.contains("sh -c") && text.contains("broken") && text.contains('3'), "{text}");
    }

    #[test]
    fn killing_takes_the_children_along() {
        let mut command = Command::new("sh");
        command.args(["-c", "tail -f /dev/null & tail -f /dev/null & wait"]);
        let mut parent = spawn(command).expect("sh starts");
        let pid = parent.id();
        let children = wait_until(Deadline::in_seconds(10), "two children", || {
            let now = children_of(pid);
            Ok(if now.len() == 2 { Probe::Ready(now) } else { Probe::NotYet(format!("{now:?}")) })
        })
        .expect("they start");
        kill_with_children(&mut parent).expect("all die");
        assert!(children.iter().all(|one| !is_alive(*one)));
    }
}
