//! Runs something on real servers that takes a while, in a thread of its own: what it says is shown, and Ctrl-C ends it.
//!
//! **Invariant:** the servers die with this process; nothing that runs here outlives it.

use std::sync::mpsc;
use std::time::Duration;

use spock_mesh::{MeshError, ServerKind};

use crate::child::check_interrupt;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::major::Kind;
use crate::target::Target;

/// How often Ctrl-C is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long an interrupted show may take to stop its servers and remove their directory.
const END_WITHIN: Duration = Duration::from_secs(15);

/// Patched or stock, in the words of the servers' crate.
pub fn kind(target: &Target) -> ServerKind {
    match target.kind {
        Kind::Patched => ServerKind::Patched,
        Kind::Stock => ServerKind::Stock,
    }
}

/// Runs `work`, which says what it does line by line. `subject` begins the sentence when it fails: "the demo".
pub fn watch<R: Send + 'static>(
    cx: &Cx,
    name: &str,
    subject: &str,
    work: impl FnOnce(&(dyn Fn(&str) + Sync)) -> std::result::Result<R, MeshError> + Send + 'static,
) -> Result<R> {
    let progress = cx.say.begin(name, "");
    let (lines, said) = mpsc::channel();
    let running = std::thread::spawn(move || {
        // A receiver that is gone means that the run was interrupted: nobody wants to know.
        work(&|line: &str| drop(lines.send(line.to_owned())))
    });
    loop {
        if let Err(interrupted) = check_interrupt() {
            // Ctrl-C reached pgbench and the servers too: the work is ending, and removes its directory.
            while said.recv_timeout(END_WITHIN).is_ok() {}
            return Err(interrupted);
        }
        match said.recv_timeout(LOOK_EVERY) {
            Ok(line) => {
                progress.tail(&line);
                progress.remark(&line);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let done = running.join().map_err(|_| Failure::failed(format!("{subject} stopped in the middle"), ""))?;
    let done = done.map_err(|error| Failure::failed(format!("{subject} failed: {error}"), ""))?;
    progress.done();
    Ok(done)
}
