//! A cut: what either side had when it began is on the other side when it ends.
//!
//! # Invariants
//! 1. What was written on one of the two nodes is waited for through a marker that is written now, behind all of it. A stream
//!    reaches the marker only when what is in front of it is visible.
//! 2. What a third node wrote, and one of the two has, is waited for by its position in the third node's WAL.

use super::plan::Plan;
use super::side::{Peer, Side, parsed, required};
use crate::catalog::query::{Row, select};
use crate::error::Report;
use crate::pg::{latch, message};
use crate::sync::provider::Session;
use pgrx::PgSqlErrorCode;
use spock_core::types::{Lsn, NodeId};
use spock_core::wire::control::Payload;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two looks at positions: a few times what a marker needs on one machine.
const POLL: Duration = Duration::from_millis(20);

/// How far a node is with the stream of each of its providers; the least of several subscriptions to one.
pub type Positions = BTreeMap<u32, u64>;

const POSITIONS: &str =
    "SELECT s.sub_origin::pg_catalog.int8::pg_catalog.text, coalesce(o.remote_lsn, '0/0')::pg_catalog.text
   FROM spock.subscription s
   JOIN spock.local_node l ON l.node_id = s.sub_target
   LEFT JOIN pg_catalog.pg_replication_origin_status o ON o.external_id = s.sub_slot_name::pg_catalog.text";

fn positions(rows: Vec<Vec<Option<String>>>, one_of_two: fn(u64, u64) -> u64) -> Result<Positions, Report> {
    let mut found = Positions::new();
    for row in rows {
        let (node, lsn) = (parsed(&row, 0)?, position(required(&row, 1)?));
        found.entry(node).and_modify(|known| *known = one_of_two(lsn, *known)).or_insert(lsn);
    }
    Ok(found)
}

/// A position as the server writes it; 0 for anything else.
pub fn position(text: &str) -> u64 {
    Lsn::raw(Lsn::parse(text).ok().flatten())
}

/// Those of this node. As the owner: the server shows positions to superusers only, and they are no secret.
pub fn local_positions() -> Result<Positions, Report> {
    positions(select(POSITIONS, &[], texts)?, u64::min)
}

fn texts(row: &Row<'_>) -> Result<Vec<Option<String>>, Report> {
    Ok(vec![row.opt(1)?, row.opt(2)?])
}

/// Up to where this node may have something of each of its providers; the largest of several subscriptions to one.
pub fn furthest_positions() -> Result<Positions, Report> {
    positions(select(POSITIONS, &[], texts)?, u64::max)
}

/// Those of another node. What it asks for, C nodes have, too.
pub fn positions_of(session: &mut Session) -> Result<Positions, Report> {
    positions(session.query("ask how far the other node is", POSITIONS, &[])?.into_values(), u64::min)
}

/// How long is left to wait for what is under way.
pub struct Budget {
    whole: Duration,
    left: Duration,
}

impl Budget {
    /// In all.
    pub fn new(whole: Duration) -> Self {
        Self { whole, left: whole }
    }

    /// Whether nothing is left.
    pub fn is_spent(&self) -> bool {
        self.left.is_zero()
    }

    /// Takes what has passed since `started`.
    fn spend(&mut self, started: Instant) {
        self.left = self.left.saturating_sub(started.elapsed());
    }

    /// 57014: what was waited for did not happen.
    pub fn exceeded(&self, what: &str) -> Report {
        Report::new(PgSqlErrorCode::ERRCODE_QUERY_CANCELED, format!("{what} within {} s", self.whole.as_secs()))
            .hint("See spock.sub_worker_status() on both nodes, or raise \"timeout\".")
    }
}

/// A position that a node has to reach in the stream of another.
struct Target {
    /// Whose node must reach it: this one.
    here: bool,
    provider: u32,
    lsn: u64,
}

/// Waits for a cut. Whether nodes besides the two take part: then a transaction can be counted a moment before it is visible.
pub fn cut(plan: &Plan, peer: &mut Peer, budget: &mut Budget) -> Result<bool, Report> {
    let started = Instant::now();
    let (own, other) = (plan.local.node.id, plan.node.id);
    let rows = peer.ask("write a marker on the other node", "SELECT spock.sync_event()::pg_catalog.text")?;
    let marker = rows.first().map(|row| required(row, 0)).transpose()?.map_or(0, position);
    let mut targets = vec![Target { here: true, provider: other.get(), lsn: marker }];
    if plan.followed {
        let end = message::write_flushed(&Payload::SyncEvent { origin: Some(own) }.to_bytes(), false);
        targets.push(Target { here: false, provider: own.get(), lsn: Lsn::raw(end) });
    }
    let mut thirds = None;
    loop {
        let here = local_positions()?;
        let there = positions(peer.ask("ask how far the other node is", POSITIONS)?, u64::min)?;
        let thirds = *thirds.get_or_insert_with(|| add_thirds(&mut targets, &here, &there, [own, other]));
        let behind = |target: &&Target| {
            let positions = if target.here { &here } else { &there };
            positions.get(&target.provider).is_none_or(|reached| *reached < target.lsn)
        };
        let Some(missing) = targets.iter().find(behind) else {
            budget.spend(started);
            return Ok(thirds);
        };
        if started.elapsed() >= budget.left {
            budget.spend(started);
            return Err(late(plan, missing, budget));
        }
        latch::wait(POLL);
        latch::check_interrupts();
    }
}

/// What both nodes get from the same third node, up to where the first of them is.
fn add_thirds(targets: &mut Vec<Target>, here: &Positions, there: &Positions, two: [NodeId; 2]) -> bool {
    let third = |provider: &u32| two.iter().all(|node| node.get() != *provider);
    let mut any = false;
    for (provider, ours) in here.iter().filter(|(provider, _)| third(provider)) {
        let Some(theirs) = there.get(provider) else { continue };
        any = true;
        let lsn = *ours.max(theirs);
        targets.extend([true, false].map(|here| Target { here, provider: *provider, lsn }));
    }
    any
}

fn late(plan: &Plan, target: &Target, budget: &Budget) -> Report {
    let name = |id: u32| {
        let known = plan.nodes.iter().find(|node| node.id.get() == id);
        known.map_or_else(|| id.to_string(), |node| node.name.clone())
    };
    let who = if target.here { &plan.local.node.name } else { &plan.node.name };
    budget.exceeded(&format!("node \"{who}\" has not applied what node \"{}\" had written", name(target.provider)))
}
