//! A client that writes numbered transactions in the background, keeps book of which were acknowledged, and goes on after
//! its server was killed.
//!
//! **Invariant:** every number is tried once. It ends up acknowledged, or in doubt when the connection broke before the
//! answer; a server error other than that stops the writer.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::error::MeshError;
use crate::node::Node;
use crate::session::{Failure, Session};
use crate::story::must;
use crate::wait::{Deadline, Probe, wait_until};

/// What a writer knows about its numbers.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Committed for sure.
    pub acknowledged: BTreeSet<u64>,
    /// Sent, and the connection broke before the answer.
    pub in_doubt: BTreeSet<u64>,
    /// Why the writer gave up; none when it was told to stop.
    pub failure: Option<String>,
}

/// A background client.
pub struct Writer {
    stop: Arc<AtomicBool>,
    ledger: Arc<Mutex<Ledger>>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts writing to `node`: `statement` is asked for the SQL of each number, from `first` on.
    pub fn start(node: &Node, first: u64, statement: impl Fn(u64) -> String + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let (stopped, book) = (Arc::clone(&stop), Arc::clone(&ledger));
        let (dir, port) = (node.dir().to_owned(), node.port());
        let thread = thread::spawn(move || {
            if let Err(why) = write_until_stopped(&dir, port, &stopped, &book, first, &statement) {
                open(&book).failure = Some(why);
            }
        });
        Self { stop, ledger, thread }
    }

    /// Waits until `count` more numbers are acknowledged than now.
    #[track_caller]
    pub fn wait_for_more(&self, count: usize) {
        let goal = open(&self.ledger).acknowledged.len() + count;
        must(wait_until(Deadline::story(), &format!("{goal} acknowledged transactions"), || {
            let book = open(&self.ledger);
            Ok(match &book.failure {
                Some(why) => return Err(MeshError::Unexpected(format!("the writer gave up: {why}"))),
                None if book.acknowledged.len() >= goal => Probe::Ready(()),
                None => Probe::NotYet(format!("{} acknowledged", book.acknowledged.len())),
            })
        }));
    }

    /// Stops writing and gives the book.
    #[track_caller]
    pub fn finish(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.thread.join().is_ok(), "the writer panicked");
        let book = open(&self.ledger).clone();
        assert!(book.failure.is_none(), "the writer gave up: {:?}", book.failure);
        book
    }
}

impl Ledger {
    /// Asserts that the numbers found (one per row) are each there once, hold all acknowledged ones and no unknown one.
    #[track_caller]
    pub fn check_exactly_once(&self, node: &Node, numbers: &str) {
        let found = must(node.execute(numbers));
        let mut seen = BTreeSet::new();
        for row in &found.0 {
            let number: u64 = row[0].as_deref().and_then(|text| text.parse().ok()).expect("a number in each row");
            assert!(seen.insert(number), "{}: {number} is there twice", node.name());
        }
        let lost: Vec<_> = self.acknowledged.difference(&seen).collect();
        assert!(lost.is_empty(), "{}: acknowledged and not there: {lost:?}", node.name());
        let invented: Vec<_> = seen
            .iter()
            .filter(|number| !self.acknowledged.contains(number) && !self.in_doubt.contains(number))
            .collect();
        assert!(invented.is_empty(), "{}: there and never written: {invented:?}", node.name());
    }
}

fn open(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_until_stopped(
    dir: &Path,
    port: u16,
    stop: &AtomicBool,
    ledger: &Mutex<Ledger>,
    first: u64,
    statement: &dyn Fn(u64) -> String,
) -> Result<(), String> {
    let mut session = None;
    for number in first.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let connected = match &mut session {
            Some(connected) => connected,
            none => match reconnect(dir, port, stop)? {
                Some(fresh) => none.insert(fresh),
                None => break,
            },
        };
        match connected.run(&statement(number)) {
            Ok(_) => {
                open(ledger).acknowledged.insert(number);
            }
            Err(Failure::Sql(error)) if !is_shutdown(&error.code) => return Err(error.to_string()),
            Err(Failure::Sql(_) | Failure::Lost(_)) => {
                open(ledger).in_doubt.insert(number);
                session = None;
            }
        }
    }
    Ok(())
}

/// Class 57P: the server ends the session, at whatever point of the statement; 08: so does the network.
fn is_shutdown(code: &str) -> bool {
    code.starts_with("57P") || code.starts_with("08")
}

/// A new connection, as soon as the server takes one; none when the writer is stopped meanwhile.
fn reconnect(dir: &Path, port: u16, stop: &AtomicBool) -> Result<Option<Session>, String> {
    let made = wait_until(Deadline::story(), "the writer's server to come back", || {
        if stop.load(Ordering::Relaxed) {
            return Ok(Probe::Ready(None));
        }
        Ok(match Session::open(dir, port, "postgres") {
            Ok(session) => Probe::Ready(Some(session)),
            Err(Failure::Sql(error)) => Probe::NotYet(error.to_string()),
            Err(Failure::Lost(why)) => Probe::NotYet(why),
        })
    });
    made.map_err(|error| error.to_string())
}
