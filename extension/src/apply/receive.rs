//! The connection loop: frames to messages, keepalives and feedback to the provider.
//!
//! # Invariants
//! 1. Feedback reports as flushed only what is on this node's disk, and on those of its synchronous standbys.
//! 2. Every wait has a limit and ends at a signal.
//! 3. A frame is used only until the next one is asked for.

use super::Exit;
use super::skew::ProviderClock;
use super::start::{Begin, check_startup, lost};
use super::transaction::{Applier, Committed, Fed};
use crate::catalog::sync as states;
use crate::catalog::topology::{LocalNode, Node, Subscription};
use crate::counters::Tally;
use crate::error::{OrRaise, Report};
use crate::pg::conn::{ConnError, Stream, Wake};
use crate::pg::error_context::Place;
use crate::pg::progress_wal;
use crate::pg::scope::Txn;
use crate::pg::{latch, process, session};
use crate::settings::{self, ReadOnly};
use crate::sync::table::Job;
use crate::worker::announcements::Seat;
use crate::worker::pause;
use crate::worker::progress::{self, ProgressKey, ProgressUpdate};
use crate::worker::registry::{self, WorkerStatus};
use pgrx::PgSqlErrorCode;
use spock_core::options::subscriber::Session;
use spock_core::progress::{Positions, Progress};
use spock_core::sync::SyncState;
use spock_core::types::{Lsn, PgTime, SubId};
use spock_core::wire::batch::Batch;
use spock_core::wire::frame::{Frame, StandbyStatus};
use spock_core::wire::{Envelope, Message, ProtocolVersion, WireError};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long to wait for a frame while everything that was applied is on disk.
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// How long while it is not: the provider may wait for our word. Near the WAL writer's own pace.
const UNFLUSHED_WAIT: Duration = Duration::from_millis(100);
/// Longest time in which a busy stream goes without feedback. A sixth of the default `wal_sender_timeout`.
const FEEDBACK_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// A provider whose WAL is so far ahead of what it has sent works off a backlog.
const BACKLOG_BYTES: u64 = 1 << 18;
/// A provider that is ahead by no more has sent all: what it wrote besides are records of its own.
const ALL_SENT_BYTES: u64 = 1 << 10;
/// How often it is told how far we are meanwhile: often enough for it to move its slot, seldom enough not to cost it anything.
const BACKLOG_FEEDBACK_INTERVAL: Duration = Duration::from_millis(20);
/// How often a worker that works off a backlog does what it otherwise does after each transaction.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(10);
/// Shortest piece of an apply delay: frames are answered in between.
const DELAY_STEP: Duration = Duration::from_millis(500);

/// One stream with what is known of its progress.
struct Receiver<'s> {
    stream: Stream,
    applier: Applier<'s>,
    progress: Progress,
    heard: Heard<'s>,
    /// The last transaction, if [`Receiver::catch_breath`] has not been called since.
    unpublished: Option<Committed>,
    published_at: Instant,
    heard_at: Instant,
    fed_back_at: Instant,
    delay_us: i64,
    /// A position that recovery would not know without the next transaction.
    unsettled: Option<Lsn>,
    /// The stream of the subscription, not that of a single table.
    whole: bool,
    origin: &'s crate::pg::origin::Session,
    group: ProgressKey,
    subscription: SubId,
    tally: Tally,
    /// Where this stream tells how far it is; none for that of a single table.
    seat: Option<Seat>,
    place: Rc<Place>,
    /// The subscription was disabled with the transaction that just ended.
    disabled: bool,
}

/// Applies the stream until an error, a signal, or a transaction that disables the subscription ends it.
pub fn stream(subscription: &Subscription, begin: Begin, known: &super::Stream) -> Exit {
    let Begin { stream, origin, local, nodes, start } = begin;
    let mut receiver = Receiver::new(subscription, stream, &origin, (&local, &nodes), (start, true), known);
    progress::reconcile(receiver.group, start);
    receiver.seat = Some(Seat::take(subscription, start));
    // All before the stream's beginning is applied; its first transaction may be held back for long.
    receiver.tell_position();
    registry::report_status(WorkerStatus::Running);
    receiver.begin();
    receiver.look_at_tables();
    while !receiver.disabled {
        receiver.step();
    }
    Exit::Disabled
}

/// Applies the stream of the single table of `job` until the apply worker takes it over, or until its copy is not wanted any
/// more.
pub fn catch_up(job: &Job<'_>, begin: Begin, known: &super::Stream) {
    let Begin { stream, origin, local, nodes, start } = begin;
    let mut receiver = Receiver::new(job.subscription, stream, &origin, (&local, &nodes), (start, false), known);
    registry::report_status(WorkerStatus::Running);
    receiver.begin();
    let mut told = false;
    while !receiver.is_handed_over(job, &mut told) {
        receiver.step();
    }
}

/// How often a table that has caught up asks how far the provider is: an idle provider tells only when asked.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

impl<'s> Receiver<'s> {
    fn new(
        subscription: &'s Subscription,
        stream: Stream,
        origin: &'s crate::pg::origin::Session,
        (local, nodes): (&'s LocalNode, &[Node]),
        (start, whole): (Option<Lsn>, bool),
        known: &'s super::Stream,
    ) -> Self {
        let now = Instant::now();
        Self {
            applier: Applier::new(subscription, local, nodes, origin, known, whole),
            stream,
            progress: Progress::starting_at(start, Lsn::new(session::flushed_lsn())),
            unpublished: None,
            published_at: now,
            heard: Heard::new(ProviderClock::new(subscription.origin.id, &subscription.origin.name)),
            heard_at: now,
            fed_back_at: now,
            delay_us: if whole { subscription.apply_delay_us } else { 0 },
            unsettled: None,
            whole,
            origin,
            subscription: subscription.id,
            tally: Tally::new(subscription.id.get()),
            seat: None,
            group: ProgressKey {
                database: process::own_database(),
                node: local.node.id,
                remote: subscription.origin.id,
            },
            place: Rc::clone(&known.place),
            disabled: false,
        }
    }

    fn begin(&mut self) {
        // Whatever an earlier stream of this process was doing is rolled back.
        pause::ended();
        self.place.streaming.set(true);
        // Asks for a keepalive, so that lag figures are fresh on an idle provider.
        self.feedback(true, true);
    }

    /// Between two transactions: tables that are being copied.
    fn look_at_tables(&mut self) {
        if !self.whole || self.applier.in_transaction() {
            return;
        }
        let position = self.progress.last_received();
        // Small positions of our own: the stream is not read while a table is taken over.
        let (stream, fed_back_at, progress) = (&mut self.stream, &mut self.fed_back_at, &mut self.progress);
        let place = &self.place;
        let mut alive = || {
            if fed_back_at.elapsed() > FEEDBACK_INTERVAL_MAX {
                send_feedback(stream, progress, place, false);
                *fed_back_at = Instant::now();
            }
        };
        self.applier.look_at_tables(position, &mut alive);
        self.applier.look_at_parked(may_apply, &mut alive);
        self.applier.look_at_displaced(may_apply, &mut alive);
    }

    /// Whether the table of `job` is done: as far as the apply worker said that it must come. Tells the apply worker first
    /// that the table is as far as it is itself.
    fn is_handed_over(&mut self, job: &Job<'_>, told: &mut bool) -> bool {
        if self.applier.in_transaction() {
            return false;
        }
        let (database, sub) = (self.group.database, job.subscription.id);
        let position = self.progress.last_received();
        let reached = |target: Option<Lsn>| target.is_some() && position >= target;
        if !*told {
            if reached(registry::apply_position(database, sub)) {
                *told = true;
                registry::caught_up();
                registry::attend(database, sub);
            } else if self.fed_back_at.elapsed() > ASK_INTERVAL {
                self.feedback(true, true);
            }
            return false;
        }
        let txn = Txn::begin();
        let row = states::table_sync_state(sub, &job.table).or_raise();
        let over = match row.map(|row| (row.state, row.lsn)) {
            Some((SyncState::SyncWait, _)) => false,
            Some((SyncState::Catchup, target)) if !reached(target) => false,
            Some((SyncState::Catchup, _)) => {
                let from = [SyncState::Catchup];
                states::move_table_state(sub, &job.table, &from, SyncState::SyncDone, position).or_raise()
            }
            // Dropped, or to be copied again.
            _ => true,
        };
        session::force_sync_commit();
        txn.commit();
        if over {
            registry::attend(database, sub);
        } else if self.fed_back_at.elapsed() > ASK_INTERVAL {
            self.feedback(true, true);
        }
        over
    }

    /// One frame, or what is to be done when there is none.
    fn step(&mut self) {
        if self.take(Duration::ZERO) {
            if self.fed_back_at.elapsed() > FEEDBACK_INTERVAL_MAX {
                self.feedback(true, false);
            }
            return;
        }
        // What had arrived is applied.
        self.drained();
        self.measure_clock();
        let wait = match (self.whole, self.progress.unflushed() > 0) {
            (true, true) => UNFLUSHED_WAIT,
            (true, false) => IDLE_WAIT,
            (false, _) => ASK_INTERVAL,
        };
        if !self.take(wait) {
            self.settle();
            self.check_idle();
            if !self.applier.in_transaction() {
                process::flush_statistics(true);
            }
        }
    }

    /// Asks the provider for its clock from time to time.
    fn measure_clock(&mut self) {
        if self.whole && self.heard.clock.is_due() {
            self.feedback(true, true);
        }
    }

    /// Handles the next frame. False: none came in time.
    fn take(&mut self, wait: Duration) -> bool {
        let handled = match self.stream.next(wait) {
            Ok(Wake::Frame(bytes)) => {
                // A setting that was changed before a transaction was written holds for it: the signal has come by now.
                if !self.applier.in_transaction() {
                    latch::reload_if_asked();
                }
                self.heard.take(bytes, &mut self.applier, &mut self.progress)
            }
            Ok(Wake::Timeout) => return false,
            Ok(Wake::Latch) => {
                latch::reload_if_asked();
                return false;
            }
            Ok(Wake::End) => ended().raise(),
            Err(error) => broken(&self.place, &error),
        };
        self.heard_at = Instant::now();
        self.settle_outcome(handled);
        true
    }

    /// The messages of a batch, one after the other. What is done between two of them may take its time: the batch is ours.
    fn take_batch(&mut self, end: Option<Lsn>) {
        loop {
            let outcome = match self.heard.batch.next_message() {
                Ok(None) => break,
                Ok(Some(bytes)) => feed(bytes, self.heard.protocol, &mut self.applier).1,
                Err(error) => garbled(&error).raise(),
            };
            self.settle_outcome(outcome);
            if self.disabled {
                return;
            }
        }
        // Not before everything up to there is applied: what is told the provider meanwhile must not count it.
        self.progress.received(end);
    }

    fn settle_outcome(&mut self, handled: Handled) {
        match handled {
            Handled::Nothing => {}
            Handled::Batch(end) => self.take_batch(end),
            Handled::ReplyWanted(forced) => self.feedback(forced, false),
            Handled::Committed(done) => {
                if let (Some(local), Some(remote)) = (done.local_end, done.remote_end) {
                    self.progress.applied(remote, local);
                }
                // A transaction that wrote nothing does not settle the one before it.
                if done.local_end.is_some() {
                    self.unsettled = done.remote_end;
                }
                // Also what was left out is handled now: a table must not be taken over from before it.
                self.progress.received(done.remote_end);
                pause::ended();
                // A commit there may wait for this one here: the word goes out before anything else is done about it.
                if self.heard.provider_lsn.is_some() && self.backlog() <= ALL_SENT_BYTES {
                    self.feedback(false, false);
                }
                self.publish(done);
            }
            Handled::Begun(at) => {
                self.hold_back(at);
                self.wait_for_release();
            }
            Handled::Disabled => {
                pause::ended();
                self.disabled = true;
            }
        }
    }

    fn drained(&mut self) {
        if !self.applier.in_transaction() {
            self.catch_breath();
        }
        self.tell_position();
        // A provider that has much more to send waits for nobody's word.
        if self.backlog() < BACKLOG_BYTES || self.fed_back_at.elapsed() > BACKLOG_FEEDBACK_INTERVAL {
            self.feedback(false, false);
        }
        self.look_at_tables();
    }

    /// Tells the provider how far we are. Not forced: only if something changed.
    fn feedback(&mut self, forced: bool, reply_wanted: bool) {
        let before = self.progress.last_report();
        let now = self.progress.report(Lsn::new(session::safe_lsn()));
        if !forced && now.flushed == before.flushed && now.applied == before.applied {
            return;
        }
        if self.whole && reply_wanted {
            self.heard.clock.asks();
        }
        send_positions(&mut self.stream, now, &self.place, reply_wanted);
        self.fed_back_at = Instant::now();
    }

    /// Nothing came for a while: what was reached last is written down for standbys.
    fn settle(&mut self) {
        if self.applier.in_transaction() {
            return;
        }
        if let Some(reached) = self.unsettled.take() {
            progress_wal::settle(self.origin.number(), reached.get());
        }
    }

    fn check_idle(&self) {
        let limit = Duration::from_secs(u64::from(settings::apply_idle_timeout_s()));
        if !limit.is_zero() && self.heard_at.elapsed() > limit {
            Report::new(
                PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
                format!("nothing was heard from the provider for {} s", limit.as_secs()),
            )
            .hint("See \"spock.apply_idle_timeout\".")
            .raise()
        }
    }

    /// Waits until the transaction is old enough, and answers the provider meanwhile.
    fn hold_back(&mut self, committed_at: PgTime) {
        if self.delay_us <= 0 {
            return;
        }
        let due = committed_at.micros().saturating_add(self.delay_us);
        loop {
            let left = due.saturating_sub(session::now());
            if left <= 0 {
                return;
            }
            latch::wait(Duration::from_micros(left.unsigned_abs()).min(DELAY_STEP));
            latch::check_interrupts();
            latch::reload_if_asked();
            if self.fed_back_at.elapsed() > FEEDBACK_INTERVAL_MAX {
                self.feedback(true, false);
            }
        }
    }

    /// Waits while nothing may be applied, and keeps the provider informed meanwhile. Nothing of the transaction has been
    /// done yet.
    fn wait_for_release(&mut self) {
        if may_apply() {
            return;
        }
        registry::report_status(WorkerStatus::Paused);
        while !may_apply() {
            latch::wait(pause::PARKED_POLL);
            latch::check_interrupts();
            latch::reload_if_asked();
            if self.fed_back_at.elapsed() > IDLE_WAIT {
                self.feedback(true, false);
            }
        }
        registry::report_status(WorkerStatus::Running);
        // What the provider said meanwhile has not been read.
        self.heard_at = Instant::now();
    }

    /// After a transaction: what it did is counted at once; the rest is done for each while the stream keeps up, and every
    /// [`PUBLISH_INTERVAL`] in a backlog.
    fn publish(&mut self, done: Committed) {
        for (table, counts) in self.applier.take_counts() {
            self.tally.count(table.get(), &counts);
        }
        self.tally.publish();
        self.applier.conflicts().publish(self.subscription);
        self.unpublished = Some(done);
        if self.backlog() < BACKLOG_BYTES || self.published_at.elapsed() > PUBLISH_INTERVAL {
            self.catch_breath();
        }
    }

    /// Numbers for views and people, tables that are being copied, and what every session does between two commands.
    fn catch_breath(&mut self) {
        let Some(done) = self.unpublished.take() else { return };
        self.published_at = Instant::now();
        if self.whole {
            self.publish_progress(&done);
        }
        self.look_at_tables();
        self.tell_position();
        between_transactions();
    }

    /// Between two frames: all that was received is handled.
    fn tell_position(&mut self) {
        if let Some(seat) = self.seat.as_mut().filter(|_| !self.applier.is_copying()) {
            seat.passed(self.progress.last_received(), self.heard.announces);
        }
    }

    /// How far the provider's WAL is ahead of what it has sent, as far as it told.
    fn backlog(&self) -> u64 {
        Lsn::raw(self.heard.provider_lsn).saturating_sub(Lsn::raw(self.progress.last_received()))
    }

    fn publish_progress(&mut self, done: &Committed) {
        let update = ProgressUpdate {
            commit: done.remote_end.map(|end| (done.commit_time, end)),
            insert_lsn: self.heard.provider_lsn.or(done.insert_lsn),
            received_lsn: self.progress.last_received(),
            by_decode: true,
        };
        progress::update(self.group, &update);
    }
}

/// Whether a transaction may be begun now: the node takes changes and no session holds its workers.
pub(super) fn may_apply() -> bool {
    settings::readonly() != ReadOnly::All && pause::may_begin()
}

/// What every session of the server does between two commands: a stream that never pauses must not keep settings from
/// being read, nor vacuum from hearing of dead rows.
fn between_transactions() {
    latch::reload_if_asked();
    process::flush_statistics(false);
}

enum Handled {
    Nothing,
    ReplyWanted(bool),
    Begun(PgTime),
    Committed(Committed),
    /// Messages lie in the batch; the position is that of its end.
    Batch(Option<Lsn>),
    Disabled,
}

/// What is known of the stream besides its progress. Apart from the connection, because a frame borrows that.
struct Heard<'s> {
    protocol: ProtocolVersion,
    /// The provider's WAL position, as far as it told.
    provider_lsn: Option<Lsn>,
    batch: Batch,
    /// Whether the provider has promised announcements; `None`: has not said yet.
    announces: Option<bool>,
    clock: ProviderClock<'s>,
}

impl<'s> Heard<'s> {
    fn new(clock: ProviderClock<'s>) -> Self {
        let protocol = Session::VERSION_BEFORE_STARTUP;
        Self { protocol, provider_lsn: None, batch: Batch::default(), announces: None, clock }
    }

    fn take(&mut self, bytes: &[u8], applier: &mut Applier<'_>, progress: &mut Progress) -> Handled {
        let data = match Frame::read(bytes).unwrap_or_else(|error| garbled(&error).raise()) {
            Frame::Keepalive(keepalive) => {
                progress.received(keepalive.end);
                // One that asks for a reply is sent because the provider has not heard of us, not because we asked.
                if !keepalive.reply_requested {
                    self.clock.answers(keepalive.sent_at);
                }
                return Handled::ReplyWanted(keepalive.reply_requested);
            }
            Frame::Data(data) => data,
            Frame::Other(_) => return Handled::Nothing,
        };
        if self.protocol == ProtocolVersion::V6 {
            let position = self.batch.load(data.message).unwrap_or_else(|error| garbled(&error).raise());
            self.provider_lsn = position.or(self.provider_lsn);
            return Handled::Batch(data.start);
        }
        progress.received(data.start);
        let envelope = Envelope::read(data.message, self.protocol);
        if let Ok(Envelope { message: Message::Startup(startup), .. }) = &envelope {
            let session = check_startup(startup);
            self.protocol = session.version;
            self.announces = Some(session.announces);
            return Handled::Nothing;
        }
        let (insert_lsn, handled) = handle(envelope, applier);
        self.provider_lsn = insert_lsn.or(self.provider_lsn);
        handled
    }
}

fn feed(bytes: &[u8], protocol: ProtocolVersion, applier: &mut Applier<'_>) -> (Option<Lsn>, Handled) {
    handle(Envelope::read(bytes, protocol), applier)
}

fn handle(envelope: Result<Envelope<'_>, WireError>, applier: &mut Applier<'_>) -> (Option<Lsn>, Handled) {
    let Envelope { insert_lsn, message } = envelope.unwrap_or_else(|error| garbled(&error).raise());
    let begins = matches!(message, Message::Begin(_));
    let handled = match applier.feed(&message) {
        Fed::Committed(done) => Handled::Committed(done),
        Fed::Disabled => Handled::Disabled,
        Fed::Nothing if begins => applier.begun_at().map_or(Handled::Nothing, Handled::Begun),
        Fed::Nothing => Handled::Nothing,
    };
    (insert_lsn, handled)
}

fn send_feedback(stream: &mut Stream, progress: &mut Progress, place: &Place, reply_wanted: bool) {
    let now = progress.report(Lsn::new(session::safe_lsn()));
    send_positions(stream, now, place, reply_wanted);
}

fn send_positions(stream: &mut Stream, now: Positions, place: &Place, reply_wanted: bool) {
    let frame = StandbyStatus {
        written: now.written,
        flushed: now.flushed,
        applied: now.applied,
        sent_at: PgTime::from_micros(session::now()),
        reply_requested: reply_wanted,
    };
    let mut bytes = Vec::with_capacity(64);
    frame.write(&mut bytes);
    if let Err(error) = stream.send(&bytes) {
        broken(place, &error)
    }
}

/// The provider or the way to it failed: nothing that was sent is to blame.
fn broken(place: &Place, error: &ConnError) -> ! {
    place.streaming.set(false);
    lost(error).raise()
}

fn garbled(error: &WireError) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION, format!("the provider sent an invalid message: {error}"))
}

fn ended() -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE, "the provider ended the stream")
}
