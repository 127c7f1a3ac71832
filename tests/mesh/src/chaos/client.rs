//! Connections that write without pause, and keep book of what was acknowledged; and one that watches sums meanwhile.
//!
//! **Invariant:** every number is tried once, and ends up acknowledged, rejected, rolled back, or in doubt when the
//! connection broke before the answer.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::exercise::Exercise;
use super::workload::{self, Client};
use crate::error::MeshError;
use crate::node::Node;
use crate::session::{Failure, Session};
use crate::wait::{self, Deadline, Probe, wait_until};

/// Time between two transactions of one client: the load is to collide, not to build a backlog that takes minutes.
const PACE: Duration = Duration::from_millis(10);
/// Time between two looks at the sums.
const WATCH_EVERY: Duration = Duration::from_millis(150);
/// Longest time that a server is away: the plan's longest stop, with recovery on a loaded machine.
const AWAY_LIMIT_S: u64 = 180;

/// What a client knows about its transactions.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// Who it is.
    pub name: String,
    /// Committed for sure.
    pub acknowledged: BTreeSet<i64>,
    /// The connection broke before the answer.
    pub in_doubt: BTreeSet<i64>,
    /// Refused by the server: deadlocks and local collisions.
    pub rejected: u64,
    /// Ended with ROLLBACK.
    pub rolled_back: u64,
    /// Why the client gave up; none when it was told to stop.
    pub failure: Option<String>,
}

/// Where a client reaches its server.
#[derive(Debug, Clone)]
pub struct Door {
    dir: PathBuf,
    port: u16,
}

impl Door {
    /// The door of a node.
    pub fn of(node: &Node) -> Self {
        Self { dir: node.dir().to_owned(), port: node.port() }
    }

    /// A new connection, as soon as the server takes one; none when it is stopped meanwhile.
    fn open(&self, stop: &AtomicBool) -> Result<Option<Session>, MeshError> {
        wait_until(Deadline::in_seconds(AWAY_LIMIT_S), "a client's server to come back", || {
            if stop.load(Ordering::Relaxed) {
                return Ok(Probe::Ready(None));
            }
            Ok(match Session::open(&self.dir, self.port, "postgres") {
                Ok(session) => Probe::Ready(Some(session)),
                Err(Failure::Sql(error)) => Probe::NotYet(error.to_string()),
                Err(Failure::Lost(why)) => Probe::NotYet(why),
            })
        })
    }
}

/// Class 57P: the server ends the session, at whatever point of the transaction; 08: so does the network.
fn is_shutdown(code: &str) -> bool {
    code.starts_with("57P") || code.starts_with("08")
}

/// What transactions of several clients may run into.
fn is_collision(code: &str) -> bool {
    matches!(code, "40P01" | "40001" | "23505" | "55P03")
}

/// Writes until `stop` is set.
pub fn write(client: Client, door: &Door, exercises: &[Exercise], stop: &AtomicBool) -> Book {
    let mut book = Book { name: client.name(), ..Book::default() };
    if let Err(why) = write_into(&mut book, client, door, exercises, stop) {
        book.failure = Some(why);
    }
    book
}

fn write_into(
    book: &mut Book,
    client: Client,
    door: &Door,
    exercises: &[Exercise],
    stop: &AtomicBool,
) -> Result<(), String> {
    let stopped = || stop.load(Ordering::Relaxed);
    let mut session = None;
    for number in 1_u64.. {
        if stopped() {
            break;
        }
        let began = Instant::now();
        let connected = match &mut session {
            Some(connected) => connected,
            none => match door.open(stop).map_err(|error| error.to_string())? {
                Some(fresh) => none.insert(fresh),
                None => break,
            },
        };
        let transaction = client.transaction(number, exercises);
        let outcome = connected.run(&transaction.text);
        let entry = number.cast_signed();
        match outcome {
            Ok(_) if transaction.commits => drop(book.acknowledged.insert(entry)),
            Ok(_) => book.rolled_back += 1,
            Err(Failure::Sql(error)) if is_collision(&error.code) => {
                book.rejected += 1;
                // The rest of the text, with its end, was skipped.
                if connected.run("rollback").is_err() {
                    session = None;
                }
            }
            Err(Failure::Sql(error)) if !is_shutdown(&error.code) => {
                return Err(format!("{error}\n  in: {}", transaction.text));
            }
            Err(Failure::Sql(_) | Failure::Lost(_)) => {
                if transaction.commits {
                    book.in_doubt.insert(entry);
                }
                session = None;
            }
        }
        wait::until(began, PACE, &stopped);
    }
    Ok(())
}

/// What was seen of the accounts' sums while transfers went on.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// How often they were looked at.
    pub looks: u64,
    /// Sums that were wrong.
    pub torn: Vec<String>,
    /// Why it gave up.
    pub failure: Option<String>,
}

/// Looks at the sums on one node until `stop` is set: money in the middle of a transfer must never be seen.
pub fn watch(name: &str, door: &Door, stop: &AtomicBool) -> Watch {
    let stopped = || stop.load(Ordering::Relaxed);
    let ask = format!(
        "select home, sum(balance) from bank group by home having sum(balance) <> {} order by home",
        workload::wealth()
    );
    let mut watch = Watch::default();
    let mut session: Option<Session> = None;
    while !stopped() {
        let began = Instant::now();
        if session.is_none() {
            match door.open(stop) {
                Ok(opened) => session = opened,
                Err(error) => {
                    watch.failure = Some(error.to_string());
                    return watch;
                }
            }
        }
        if let Some(open) = &mut session {
            match open.run(&ask) {
                Ok(rows) => {
                    watch.looks += 1;
                    if !rows.0.is_empty() {
                        watch.torn.push(format!("{name}: {rows}"));
                    }
                }
                Err(Failure::Sql(error)) if !is_shutdown(&error.code) => {
                    watch.failure = Some(format!("{name}: {error}"));
                    return watch;
                }
                Err(Failure::Sql(_) | Failure::Lost(_)) => session = None,
            }
        }
        wait::until(began, WATCH_EVERY, &stopped);
    }
    watch
}
