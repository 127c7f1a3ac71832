//! Subscriber: messages to rows. One worker, one stream, one remote transaction at a time.
//!
//! `start` gets to a running stream (origin, connection, options), `receive` turns frames into messages and answers the
//! provider, `transaction` applies one remote transaction, `relmap` knows what a remote relation is here, `partitions`
//! which partition a row goes to, `rows` writes one row, `tables` knows which tables are being copied, `version` tells which
//! version a row has, `deltas` what is added to columns that count, `displace` settles who keeps a unique value, `comeback`
//! puts displaced rows back, `clock` keeps commit times causal, `exception_log` writes down what was left out, `recover` reacts to
//! errors.
//!
//! # Invariants
//! 1. The origin position never moves without the rows, nor the rows without it.
//! 2. Feedback never reports as flushed what this node could lose.
//! 3. Every error ends the stream; what is sent again is applied once.
//!
//! # Not here
//! Who runs a worker, and when it is started again (`worker`).

mod change_log;
pub mod clock;
mod comeback;
mod deltas;
pub mod discard;
mod displace;
mod exception_log;
mod partitions;
mod queue;
mod receive;
mod recover;
mod relmap;
mod removals;
mod rows;
mod skew;
mod start;
mod tables;
pub mod timeline;
mod transaction;
mod truncate;
pub mod version;

pub use recover::may_pass;

use crate::catalog::topology::{LocalNode, Node, Subscription};
use crate::error::Report;
use crate::pg::attempt::attempt;
use crate::pg::error_context::{ContextScope, Place};
use crate::pg::origin;
use crate::sync::initial;
use crate::sync::table::Job;
use crate::worker::tombstones;
use spock_core::exceptions::Treatment;
use std::cell::Cell;
use std::rc::Rc;

/// Why applying ended.
#[derive(Debug)]
pub enum Exit {
    /// Nothing is wrong; the subscription is not to be applied any more.
    Clean,
    /// Try again later. The report says why.
    Retry(Report),
    /// A transaction failed by itself; the next attempt, which is another one, waits `spock.restart_delay_on_exception`.
    Again(Report),
    /// The subscription was disabled; the cause is in `spock.exception_log` and in the server log.
    Disabled,
}

/// What is known of a running stream when an error ends it.
struct Stream {
    /// Where in it we are.
    place: Rc<Place>,
    /// How the current transaction is taken.
    treatment: Cell<Treatment>,
    /// `spock.exception_log`, or what is parked, is being written.
    recording: Cell<bool>,
    /// The transaction is sent again at once: nothing is wrong with it.
    again: Cell<bool>,
    /// The subscription is disabled whatever the mode: nothing more can be parked.
    disables: Cell<bool>,
}

impl Stream {
    fn new(subscription: &Subscription) -> Self {
        let place = Rc::new(Place::new(&subscription.origin.name));
        let off = || Cell::new(false);
        Self { place, treatment: Cell::new(Treatment::Apply), recording: off(), again: off(), disables: off() }
    }
}

/// Applies the stream of `subscription` until something ends it. Called by an apply worker outside any transaction.
/// A request to terminate ends the process from within.
pub fn run(subscription: &Subscription) -> Exit {
    let stream = Stream::new(subscription);
    let ended = attempt(|| {
        let _context = ContextScope::enter(Rc::clone(&stream.place));
        tombstones::wait_for_slot();
        if let Some(exit) = initial::bring_up(subscription) {
            return exit;
        }
        transaction::replay_before_stream(subscription, &stream);
        let begin = start::prepare(subscription);
        receive::stream(subscription, begin, &stream)
    });
    match ended {
        Ok(exit) => exit,
        Err(caught) => recover::react(subscription, &stream, caught),
    }
}

/// Applies the stream of one table until the apply worker takes it over. Called by a sync worker; raises what goes wrong.
pub fn catch_up(job: &Job<'_>, origin: origin::Session, local: LocalNode, nodes: Vec<Node>, by_sets: bool) {
    let stream = Stream::new(job.subscription);
    let _context = ContextScope::enter(Rc::clone(&stream.place));
    let only = Some((&job.table, by_sets));
    let begin = start::connect(job.subscription, origin, local, nodes, &job.slot_name, only);
    receive::catch_up(job, begin, &stream);
}
