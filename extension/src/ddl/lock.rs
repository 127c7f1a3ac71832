//! The cluster's lock on schema changes, around a transaction that changes the schema of all nodes.
//! Between `ddl::capture` and `sql::replicate` (which statement is sent), `spock_core::ddl::lock` (who takes it, and where) and
//! `sync::provider` (sessions on other nodes).
//!
//! # Invariants
//! 1. It is held from before the first statement that is sent until the transaction is over: by a session on each provider, which
//!    ends with the transaction or with this process, and by a lock of this server.
//! 2. Once it is held, what every provider had written by then is waited for: so statements that others ran before are here.
//! 3. When it cannot be taken, nothing of the statement has happened.
//! 4. A transaction whose sessions did not last commits nothing.
//! 5. What is replayed, or stays on this node, never takes it.

use crate::catalog::topology::{self, LocalNode, Subscription};
use crate::catalog::{query, slots};
use crate::compare::cut;
use crate::error::Report;
use crate::pg::before_commit::before_commit;
use crate::pg::lock::try_advisory_lock;
use crate::pg::{latch, process};
use crate::settings;
use crate::sync::provider::Session;
use crate::worker::registry;
use pgrx::PgSqlErrorCode;
use spock_core::ddl::lock::{self, Facts, KEY, Member, Plan, Provider};
use spock_core::types::NodeId;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// Between two tries, and between two looks at positions: a few times what a marker needs on one machine.
const POLL: Duration = Duration::from_millis(10);
/// So long a node may take for one answer, however short `spock.ddl_lock_timeout` is.
const ANSWER_MIN: Duration = Duration::from_secs(10);
/// So often it is looked whether the transaction waits for itself.
const DEADLOCK_LOOK: Duration = Duration::from_millis(500);
/// On the other node: a session of a machine that is gone is noticed within 25 s.
const KEEPALIVES: &str = "SELECT pg_catalog.set_config('tcp_keepalives_idle', '10', false),
    pg_catalog.set_config('tcp_keepalives_interval', '5', false), pg_catalog.set_config('tcp_keepalives_count', '3', false)";

/// The lock at another node.
struct Held {
    node: NodeId,
    name: String,
    session: Session,
}

thread_local! {
    /// What the open transaction holds elsewhere; none while it does not hold the lock.
    static HELD: RefCell<Option<Vec<Held>>> = const { RefCell::new(None) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Takes the lock for a statement that is about to run and will be sent, unless the transaction holds it or none is needed.
/// Whether it was taken now: then other nodes' statements may have arrived meanwhile.
pub fn take() -> Result<bool, Report> {
    if !settings::ddl_lock() || HELD.with_borrow(Option::is_some) {
        return Ok(false);
    }
    let Some(local) = topology::local_node()? else { return Ok(false) };
    let subscriptions = topology::subscriptions_of(local.node.id)?;
    let provider = |sub: &Subscription| Provider { node: sub.origin.id, enabled: sub.enabled };
    let providers: Vec<Provider> = subscriptions.iter().map(provider).collect();
    let facts = Facts {
        wanted: true,
        subscribed_to: !slots::confirmed(None)?.is_empty(),
        own: local.node.id,
        providers: &providers,
    };
    match lock::plan(&facts) {
        Plan::NotNeeded => Ok(false),
        Plan::Refused(provider) => Err(disabled(&subscriptions, provider)),
        Plan::Take(members) => {
            let mut turn = Turn::new();
            let mut held = lock_all(&members, &subscriptions, &local, &turn)?;
            wait_for_others(&mut held, &subscriptions, &mut turn)?;
            keep(held);
            Ok(true)
        }
    }
}

/// One try to take the lock.
struct Turn {
    started: Instant,
    limit: Option<Duration>,
    looked_at: Instant,
}

impl Turn {
    fn new() -> Self {
        let now = Instant::now();
        Self { started: now, limit: settings::ddl_lock_timeout(), looked_at: now }
    }

    /// Waits a little. Fails when the time is over; `what`: that has not happened.
    fn wait(&self, what: impl FnOnce() -> String) -> Result<(), Report> {
        if let Some(limit) = self.limit.filter(|limit| self.started.elapsed() >= *limit) {
            let message = format!("could not lock schema changes of the cluster within {} ms", limit.as_millis());
            return Err(Report::new(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, message).detail(what()).hint(
                "Try again, or raise \"spock.ddl_lock_timeout\". With \"spock.ddl_lock\" set to off the statement runs \
                 without the lock, and can collide with one of another node.",
            ));
        }
        latch::wait(POLL);
        latch::check_interrupts();
        Ok(())
    }
}

fn lock_all(
    members: &[Member],
    subscriptions: &[Subscription],
    local: &LocalNode,
    turn: &Turn,
) -> Result<Vec<Held>, Report> {
    let busy = |name: &str| format!("Another session holds the lock at node \"{name}\": see pg_locks there.");
    let mut held = Vec::new();
    for member in members {
        match member {
            Member::Here => {
                while !try_advisory_lock(KEY) {
                    turn.wait(|| busy(&local.node.name))?;
                }
            }
            Member::At(node) => {
                let Some(subscription) = subscriptions.iter().find(|sub| sub.origin.id == *node) else { continue };
                let mut one = connect(subscription).map_err(|report| unreachable(report, &subscription.origin.name))?;
                while !one.try_lock()? {
                    turn.wait(|| busy(&one.name))?;
                }
                held.push(one);
            }
        }
    }
    Ok(held)
}

fn connect(subscription: &Subscription) -> Result<Held, Report> {
    let mut session = Session::open(subscription, "ddl")?;
    // Who does not want to wait for others still has to wait for an answer.
    session.wait_within(settings::ddl_lock_timeout().map(|limit| limit.max(ANSWER_MIN)));
    session.query("prepare the session", KEEPALIVES, &[])?;
    Ok(Held { node: subscription.origin.id, name: subscription.origin.name.clone(), session })
}

impl Held {
    fn ask(&mut self, sql: &str) -> Result<Option<String>, Report> {
        let asked = self.session.query("ask the node", sql, &[]);
        let rows = asked.map_err(|report| unreachable(report, &self.name))?;
        Ok(rows.get(0, 0).map(str::to_owned))
    }

    fn try_lock(&mut self) -> Result<bool, Report> {
        let (first, second) = KEY;
        let answer = self.ask(&format!("SELECT pg_catalog.pg_try_advisory_lock({first}, {second})"))?;
        Ok(answer.as_deref() == Some("t"))
    }
}

/// Waits until this node has applied what each provider has written up to now.
fn wait_for_others(held: &mut [Held], subscriptions: &[Subscription], turn: &mut Turn) -> Result<(), Report> {
    let mut markers = Vec::with_capacity(held.len());
    for one in held.iter_mut() {
        let marker = one.ask("SELECT spock.sync_event()::pg_catalog.text")?;
        markers.push((one.node, one.name.clone(), marker.as_deref().map_or(0, cut::position)));
    }
    loop {
        let here = cut::local_positions()?;
        let behind =
            |(node, _, marker): &&(NodeId, String, u64)| here.get(&node.get()).is_none_or(|reached| reached < marker);
        let Some((node, name, _)) = markers.iter().find(behind) else { return Ok(()) };
        if turn.looked_at.elapsed() >= DEADLOCK_LOOK {
            turn.looked_at = Instant::now();
            if let Some(subscription) = subscriptions.iter().find(|sub| sub.origin.id == *node && waits_for_us(sub)) {
                return Err(deadlock(subscription));
            }
        }
        turn.wait(|| {
            format!("This node has not applied what node \"{name}\" had written: see spock.sub_worker_status().")
        })?;
    }
}

/// Whether the subscription's worker waits for a lock of this session.
fn waits_for_us(subscription: &Subscription) -> bool {
    let worker = registry::apply_worker(process::own_database(), subscription.id).and_then(|worker| worker.pid);
    let Some(worker) = worker else { return false };
    let sql = "SELECT $1 = ANY (pg_catalog.pg_blocking_pids($2))";
    query::select_one(sql, &[process::own_pid().into(), worker.into()], |row| row.get(1))
        .ok()
        .flatten()
        .unwrap_or(false)
}

/// The transaction holds the lock from now on.
fn keep(held: Vec<Held>) {
    HELD.with_borrow_mut(|kept| *kept = Some(held));
    before_commit(still_held);
    if !LISTENING.replace(true) {
        process::at_transaction_end(|_| drop(HELD.take()));
    }
}

/// A node that was restarted meanwhile has given the lock to others.
fn still_held() -> Result<(), Report> {
    let mut held = HELD.take().unwrap_or_default();
    for one in &mut held {
        one.session.query("ask the node", "SELECT 1", &[]).map_err(|report| {
            let message = format!("the lock on schema changes of the cluster was lost at node \"{}\"", one.name);
            Report::new(report.code, message)
                .detail(report.detail.unwrap_or(report.message))
                .hint("Nothing was changed. Try again.")
        })?;
    }
    HELD.set(Some(held));
    Ok(())
}

fn unreachable(report: Report, name: &str) -> Report {
    Report::new(report.code, format!("could not lock schema changes of the cluster at node \"{name}\""))
        .detail(report.detail.unwrap_or(report.message))
        .hint(
            "Nothing was changed. Schema changes need all providers of this node. After SET spock.ddl_lock = off they do not, and \
             can collide with those of other nodes; of a node that is gone for good, drop the subscription. A node that is slow to \
             answer gets as long as spock.ddl_lock_timeout, and ten seconds at least.",
        )
}

fn disabled(subscriptions: &[Subscription], provider: NodeId) -> Report {
    let subscription = subscriptions.iter().find(|sub| sub.origin.id == provider && !sub.enabled);
    let name = subscription.map_or("", |sub| sub.name.as_str());
    Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "cannot lock schema changes of the cluster while a subscription is disabled",
    )
    .detail(format!("Schema changes that subscription \"{name}\" would bring are not here."))
    .hint("Enable it with spock.sub_enable, drop it, or set \"spock.ddl_lock\" to off for this statement.")
}

fn deadlock(subscription: &Subscription) -> Report {
    let message = format!("the transaction holds locks that subscription \"{}\" waits for", subscription.name);
    Report::new(PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED, message)
        .detail("A schema change waits until what other nodes have written is applied here.")
        .hint("Try again. Change schemas in transactions of their own, or before anything else.")
}
