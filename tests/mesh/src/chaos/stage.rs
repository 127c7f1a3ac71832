//! The mesh that the plan is carried out on: servers, the lines between them, and what was taken away from them.
//!
//! **Invariant:** [`Stage::heal`] gives everything back, whatever steps were carried out before it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::plan::{Action, Cut, Down, Role, Step};
use super::proxy::Line;
use super::workload;
use crate::cluster::Cluster;
use crate::error::MeshError;
use crate::node::{Node, Stop};
use crate::process;
use crate::session::Rows;
use crate::topology::{literal, subscription_name};
use crate::wait::{self, Deadline, Probe, wait_until};

/// Longest time for what needs a server that may just be recovering.
const PERSIST_LIMIT_S: u64 = 120;
/// Longest time for the initial copy of the node that joins.
const COPY_LIMIT_S: u64 = 180;

/// How often what was done.
pub type Counts = BTreeMap<String, u64>;

/// The cast, and the state it is in.
pub struct Stage<'a> {
    nodes: Vec<&'a Node>,
    further: &'a Node,
    lines: BTreeMap<(usize, usize), Line>,
    paused: BTreeMap<usize, Vec<u32>>,
    down: Vec<usize>,
    disabled: Vec<(usize, usize)>,
    joined: Option<usize>,
    complete: bool,
    /// Slots of a node that left, with their providers: one that was down then still has its slot.
    left_behind: Vec<(&'a Node, String)>,
    /// What was done so far.
    pub counts: Counts,
    /// When each step was done: seconds from the start, and what.
    pub done: Vec<String>,
    /// What went wrong meanwhile and is no failure of the run itself.
    pub incidents: Vec<String>,
    /// Some clock could not be moved.
    pub clocks_fixed: bool,
}

impl<'a> Stage<'a> {
    /// The first `count` nodes of the cluster are the mesh, the last one is the node that joins. Opens the lines.
    pub fn open(cluster: &'a Cluster) -> Result<Self, MeshError> {
        let [nodes @ .., further] = cluster.nodes() else {
            return Err(MeshError::Unexpected("a cluster without nodes".to_owned()));
        };
        let mut lines = BTreeMap::new();
        for subscriber in 0..=nodes.len() {
            for (provider, node) in nodes.iter().enumerate().filter(|(provider, _)| *provider != subscriber) {
                let directory = cluster.dir().join(format!("l{}{}", subscriber + 1, provider + 1));
                lines.insert((subscriber, provider), Line::open(node, &directory)?);
            }
        }
        Ok(Self {
            nodes: nodes.iter().collect(),
            further,
            lines,
            paused: BTreeMap::new(),
            down: Vec::new(),
            disabled: Vec::new(),
            joined: None,
            complete: false,
            left_behind: Vec::new(),
            counts: Counts::new(),
            done: Vec::new(),
            incidents: Vec::new(),
            clocks_fixed: false,
        })
    }

    /// The mesh, and the further node while it belongs to it.
    pub fn members(&self) -> Vec<&'a Node> {
        let further = (self.joined.is_some() && self.complete).then_some(self.further);
        self.nodes.iter().copied().chain(further).collect()
    }

    /// The nodes that write.
    pub fn writers(&self) -> &[&'a Node] {
        &self.nodes
    }

    /// All servers, the further one last.
    pub fn servers(&self) -> Vec<&'a Node> {
        self.nodes.iter().copied().chain([self.further]).collect()
    }

    /// What was planned and could not be done.
    pub fn not_possible(&self) -> Vec<String> {
        let clocks = self.clocks_fixed.then(|| "clock: libfaketime is not installed on this machine".to_owned());
        clocks.into_iter().collect()
    }

    /// Names of the subscriptions that a node has when all is whole, with their providers.
    pub fn subscriptions_of(&self, node: &Node) -> Vec<(String, &'a Node)> {
        let others = self.nodes.iter().filter(|provider| provider.name() != node.name());
        others.map(|provider| (subscription_name(provider.name(), node.name()), *provider)).collect()
    }

    fn node(&self, number: usize) -> &'a Node {
        self.nodes.get(number).copied().unwrap_or(self.further)
    }

    fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_insert(0) += 1;
    }

    /// Subscribes every node to every other one, by way of the lines.
    pub fn join_all(&self, deadline: Deadline) -> Result<(), MeshError> {
        for subscriber in 0..self.nodes.len() {
            for provider in (0..self.nodes.len()).filter(|provider| *provider != subscriber) {
                self.subscribe(subscriber, provider, "")?;
            }
        }
        self.wait_replicating(deadline)
    }

    fn subscribe(&self, subscriber: usize, provider: usize, more: &str) -> Result<(), MeshError> {
        let (node, from) = (self.node(subscriber), self.node(provider));
        let name = subscription_name(from.name(), node.name());
        let dsn = self.lines.get(&(subscriber, provider)).map_or_else(|| from.dsn(), Line::dsn);
        persist(node, &format!("select spock.sub_create({}, {}{more})", literal(&name), literal(&dsn)))?;
        Ok(())
    }

    /// Waits until every subscription of every member replicates.
    pub fn wait_replicating(&self, deadline: Deadline) -> Result<(), MeshError> {
        for node in self.members() {
            for (name, _) in self.subscriptions_of(node) {
                wait_replicating(node, &name, deadline)?;
            }
        }
        Ok(())
    }

    /// Carries a step out when it is due, or as soon as those before it are done.
    pub fn carry_out(&mut self, step: &Step, began: Instant, say: &(dyn Fn(&str) + Sync)) -> Result<(), MeshError> {
        wait::until(began, std::time::Duration::from_millis(step.at_ms), &|| false);
        let due = began.elapsed().as_secs_f64();
        let remark = self.act(step.action)?;
        let took = began.elapsed().as_secs_f64() - due;
        let line = format!("{due:>7.1} s  {}{remark}  ({took:.1} s)", step.action);
        say(&line);
        self.done.push(line);
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<String, MeshError> {
        match action {
            Action::Kill { node, role, pick } => return self.kill(node, role, pick),
            Action::Stop { node, how } => {
                let (how, name) = match how {
                    Down::Killed => (Stop::Kill, "server kills"),
                    Down::Immediate => (Stop::Immediate, "immediate stops"),
                    Down::Fast => (Stop::Fast, "fast stops"),
                };
                self.down.push(node);
                self.node(node).stop(how)?;
                self.count(name);
            }
            Action::Start { node } => self.start(node)?,
            Action::Cut { one, other, how } => self.cut(one, other, how)?,
            Action::Heal { one, other, how } => self.mend(one, other, how)?,
            Action::Clock { node, offset_s } => return self.clock(node, offset_s),
            Action::Pause { node, workers_only } => self.pause(node, workers_only)?,
            Action::Resume { node } => self.resume(node)?,
            Action::Checkpoint { node } => {
                persist(self.node(node), "checkpoint")?;
                self.count("checkpoints");
            }
            Action::Freeze { node } => {
                persist(self.node(node), "vacuum (freeze)")?;
                self.count("freezes");
            }
            Action::Join { source } => return self.join(source),
            Action::Complete => return self.complete(),
            Action::Leave => return self.leave(),
        }
        Ok(String::new())
    }

    fn kill(&mut self, number: usize, role: Role, pick: u64) -> Result<String, MeshError> {
        let node = self.node(number);
        let ask = format!(
            "select pid from pg_stat_activity where starts_with(backend_type, {}) order by application_name, pid",
            literal(role.backend_type())
        );
        let pids: Vec<u32> = persist(node, &ask)?.0.iter().filter_map(|row| row[0].as_deref()?.parse().ok()).collect();
        if pids.is_empty() {
            self.count("kills that found no process");
            return Ok(": none is there".to_owned());
        }
        let pid = pids[pick as usize % pids.len()];
        process::signal(pid, Signal::SIGKILL)?;
        // Once the server has reaped it, it takes no connections until it has started all others again.
        wait_until(Deadline::in_seconds(PERSIST_LIMIT_S), "a killed process to be reaped", || {
            let gone = fs::metadata(format!("/proc/{pid}")).is_err();
            Ok(if gone { Probe::Ready(()) } else { Probe::NotYet(format!("{pid} is there")) })
        })?;
        node.wait_until_up()?;
        self.count(format!("{role} kills"));
        Ok(String::new())
    }

    fn start(&mut self, number: usize) -> Result<(), MeshError> {
        self.node(number).start()?;
        self.down.retain(|node| *node != number);
        self.count("starts");
        Ok(())
    }

    /// A further node has lines to the others, and none of them has one to it.
    fn both_lines(&self, one: usize, other: usize) -> impl Iterator<Item = &Line> {
        [(one, other), (other, one)].into_iter().filter_map(|pair| self.lines.get(&pair))
    }

    fn cut(&mut self, one: usize, other: usize, how: Cut) -> Result<(), MeshError> {
        match how {
            Cut::Broken => self.both_lines(one, other).for_each(Line::cut),
            Cut::Stalled => self.both_lines(one, other).for_each(Line::stall),
            Cut::Disabled => {
                self.able(one, other, "disable")?;
                self.disabled.push((one, other));
            }
        }
        self.count(match how {
            Cut::Broken => "lines broken",
            Cut::Stalled => "lines stalled",
            Cut::Disabled => "subscriptions disabled",
        });
        Ok(())
    }

    fn mend(&mut self, one: usize, other: usize, how: Cut) -> Result<(), MeshError> {
        match how {
            Cut::Broken | Cut::Stalled => self.both_lines(one, other).for_each(Line::heal),
            Cut::Disabled => {
                self.able(one, other, "enable")?;
                self.disabled.retain(|pair| *pair != (one, other));
            }
        }
        Ok(())
    }

    fn able(&self, subscriber: usize, provider: usize, verb: &str) -> Result<(), MeshError> {
        let name = subscription_name(self.node(provider).name(), self.node(subscriber).name());
        persist(self.node(subscriber), &format!("select spock.sub_{verb}({})", literal(&name))).map(|_| ())
    }

    fn clock(&mut self, number: usize, offset_s: i64) -> Result<String, MeshError> {
        let node = self.node(number);
        if !node.move_clock(offset_s) {
            node.move_clock(0);
            self.clocks_fixed = true;
            return Ok(": left out, libfaketime is not installed".to_owned());
        }
        node.restart(Stop::Fast)?;
        self.count("clocks moved");
        Ok(String::new())
    }

    fn pause(&mut self, number: usize, workers_only: bool) -> Result<(), MeshError> {
        let node = self.node(number);
        let mut pids = if workers_only {
            let ask = "select pid from pg_stat_activity where starts_with(backend_type, 'spock apply')";
            persist(node, ask)?.0.iter().filter_map(|row| row[0].as_deref()?.parse().ok()).collect()
        } else {
            Vec::new()
        };
        if !workers_only && let Some(server) = node.pid() {
            // The server first: it starts no process that is then missed.
            process::signal(server, Signal::SIGSTOP)?;
            pids = process::children_of(server);
            pids.push(server);
        }
        for pid in &pids {
            process::signal(*pid, Signal::SIGSTOP)?;
        }
        self.paused.insert(number, pids);
        self.count(if workers_only { "apply workers paused" } else { "servers paused" });
        Ok(())
    }

    fn resume(&mut self, number: usize) -> Result<(), MeshError> {
        for pid in self.paused.remove(&number).unwrap_or_default() {
            process::signal(pid, Signal::SIGCONT)?;
        }
        Ok(())
    }

    fn join(&mut self, source: usize) -> Result<String, MeshError> {
        self.clear_away()?;
        let node = self.further;
        let further = self.nodes.len();
        persist(node, "create extension if not exists spock")?;
        let create = format!("select spock.node_create({}, {})", literal(node.name()), literal(&node.dsn()));
        persist(node, &create)?;
        self.joined = Some(source);
        self.complete = false;
        self.count("joins");
        // Their slots first: from here on they keep what the copy from `source` may not hold yet.
        for provider in (0..further).filter(|provider| *provider != source) {
            self.subscribe(further, provider, ", enabled := false")?;
            let slot = self.slot(further, provider)?;
            let make = format!("select pg_create_logical_replication_slot({}, 'spock_output')", literal(&slot));
            persist(self.node(provider), &make)?;
        }
        // What they committed before that must be at `source` before the copy sees it: no slot and no copy would have it else.
        for provider in (0..further).filter(|provider| *provider != source) {
            if let Err(error) = self.wait_for_all_of(provider, source) {
                return self.give_up(error.to_string());
            }
        }
        self.subscribe(further, source, ", synchronize_structure := true, synchronize_data := true")?;
        Ok(String::new())
    }

    /// Waits until everything committed so far on one node is applied on another.
    fn wait_for_all_of(&self, provider: usize, subscriber: usize) -> Result<(), MeshError> {
        let slot = self.slot(subscriber, provider)?;
        let message = "set synchronous_commit = on; select pg_logical_emit_message(true, 'mesh', 'position')";
        persist(self.node(provider), message)?;
        let target = persist(self.node(provider), "select pg_current_wal_flush_lsn()")?.to_string();
        let ask = format!(
            "select confirmed_flush_lsn >= {}::pg_lsn from pg_replication_slots where slot_name = {}",
            literal(&target),
            literal(&slot)
        );
        let what = format!("slot {slot} to confirm {target}");
        let name = subscription_name(self.node(provider).name(), self.node(subscriber).name());
        wait_replicating(self.node(subscriber), &name, Deadline::in_seconds(PERSIST_LIMIT_S))?;
        wait_until(Deadline::in_seconds(PERSIST_LIMIT_S), &what, || {
            let seen = persist(self.node(provider), &ask)?.to_string();
            Ok(if seen == "t" { Probe::Ready(()) } else { Probe::NotYet(seen) })
        })
    }

    fn slot(&self, subscriber: usize, provider: usize) -> Result<String, MeshError> {
        let name = subscription_name(self.node(provider).name(), self.node(subscriber).name());
        let ask = format!("select slot_name from spock.sub_show_status({})", literal(&name));
        Ok(persist(self.node(subscriber), &ask)?.to_string())
    }

    /// The copy says how far it is with each other node: from there on their own streams go on.
    fn complete(&mut self) -> Result<String, MeshError> {
        let (node, further) = (self.further, self.nodes.len());
        let Some(source) = self.joined else { return Ok(": nobody joined".to_owned()) };
        let name = subscription_name(self.node(source).name(), node.name());
        let copied = wait_replicating(node, &name, Deadline::in_seconds(COPY_LIMIT_S));
        if let Err(error) = copied {
            self.incidents.push(format!("the initial copy of {} did not end: {error}", node.name()));
            self.leave()?;
            return Ok(": the copy did not end".to_owned());
        }
        for provider in (0..further).filter(|provider| *provider != source) {
            let slot = self.slot(further, provider)?;
            let ask = format!(
                "select p.remote_commit_lsn from spock.progress p join spock.node n on n.node_id = p.remote_node_id
                 where n.node_name = {} and p.node_id = (select node_id from spock.local_node)",
                literal(self.node(provider).name())
            );
            let position = persist(node, &ask)?.to_string();
            let slot = literal(&slot);
            if let Some(why) = self.not_a_way_on(provider, &slot, &position)? {
                return self.give_up(why);
            }
            let position = literal(&position);
            persist(node, &format!("select pg_replication_origin_advance({slot}, {position})"))?;
            self.able(further, provider, "enable")?;
        }
        self.complete = true;
        Ok(String::new())
    }

    /// Why a position that the copy tells cannot be gone on from. The provider would go on at the slot if that is behind it,
    /// and nobody would have what lies between.
    fn not_a_way_on(&self, provider: usize, slot: &str, position: &str) -> Result<Option<String>, MeshError> {
        let from = self.node(provider);
        if position.is_empty() || position.contains('\n') {
            return Ok(Some(format!("its copy tells nothing of {}", from.name())));
        }
        let ask = format!(
            "select confirmed_flush_lsn from pg_replication_slots where slot_name = {slot} and confirmed_flush_lsn > {}",
            literal(position)
        );
        let begins = persist(from, &ask)?.to_string();
        let told = || format!("its copy tells {position} of {}, which was waited for up to {begins}", from.name());
        Ok((!begins.is_empty()).then(told))
    }

    fn give_up(&mut self, why: String) -> Result<String, MeshError> {
        self.incidents.push(format!("{}: {why}", self.further.name()));
        self.leave()?;
        Ok(format!(": given up, {why}"))
    }

    fn leave(&mut self) -> Result<String, MeshError> {
        if self.joined.take().is_none() {
            return Ok(": nobody joined".to_owned());
        }
        let node = self.further;
        self.complete = false;
        for (name, provider) in self.subscriptions_of(node) {
            let name = literal(&name);
            let ask = format!("select sub_slot_name from spock.subscription where sub_name = {name}");
            let slot = persist(node, &ask)?.to_string();
            persist(node, &format!("select spock.sub_drop({name}, true)"))?;
            if !slot.is_empty() {
                self.left_behind.push((provider, slot));
            }
        }
        persist(node, &format!("select spock.node_drop({})", literal(node.name())))?;
        persist(node, "drop extension spock cascade")?;
        for statement in workload::remove() {
            persist(node, &statement)?;
        }
        self.count("leaves");
        Ok(String::new())
    }

    /// Does what the warning of `sub_drop` asks for: drops slots on providers that could not be reached when their subscription
    /// was dropped.
    fn clear_away(&mut self) -> Result<(), MeshError> {
        for (provider, slot) in std::mem::take(&mut self.left_behind) {
            let slot = literal(&slot);
            let there = format!("select count(*) from pg_replication_slots where slot_name = {slot}");
            if persist(provider, &there)?.to_string() == "0" {
                continue;
            }
            self.count("slots left behind");
            // A sender that nobody listens to any more goes by itself.
            wait_until(Deadline::in_seconds(PERSIST_LIMIT_S), &format!("{slot} to be free"), || {
                let drop = format!(
                    "select pg_drop_replication_slot(slot_name) from pg_replication_slots
                      where slot_name = {slot} and not active"
                );
                persist(provider, &drop)?;
                let left = persist(provider, &there)?.to_string();
                Ok(if left == "0" { Probe::Ready(()) } else { Probe::NotYet("it is in use".to_owned()) })
            })?;
        }
        Ok(())
    }

    /// Gives everything back: processes go on, servers run, lines are whole, subscriptions enabled.
    pub fn heal(&mut self) -> Result<(), MeshError> {
        for number in self.paused.keys().copied().collect::<Vec<_>>() {
            self.resume(number)?;
        }
        self.lines.values().for_each(Line::heal);
        for number in std::mem::take(&mut self.down) {
            self.start(number)?;
        }
        for (one, other) in std::mem::take(&mut self.disabled) {
            self.able(one, other, "enable")?;
        }
        Ok(())
    }
}

impl Drop for Stage<'_> {
    /// A server that stands still could not be stopped in order.
    fn drop(&mut self) {
        for pid in self.paused.values().flatten() {
            if let Err(error) = process::signal(*pid, Signal::SIGCONT) {
                eprintln!("{error}");
            }
        }
    }
}

/// Waits until a subscription replicates; one that is disabled never will.
fn wait_replicating(node: &Node, name: &str, deadline: Deadline) -> Result<(), MeshError> {
    let ask = format!("select status from spock.sub_show_status({})", literal(name));
    let why = format!("select last_error from spock.sub_worker_status({})", literal(name));
    wait_until(deadline, &format!("subscription {name} on {} to replicate", node.name()), || {
        let status = persist(node, &ask)?.to_string();
        match status.as_str() {
            "replicating" => Ok(Probe::Ready(())),
            "disabled" => Err(MeshError::Unexpected(format!("{name} is disabled: {}", persist(node, &why)?))),
            _ => Ok(Probe::NotYet(status)),
        }
    })
}

/// What a person would just run again: the server goes or comes, the connection broke, or it was the victim of a deadlock.
fn passes(code: &str) -> bool {
    code.starts_with("57P") || code.starts_with("08") || code == "40P01"
}

/// Runs statements on a node that may be recovering: tries again while there is no connection. What an attempt made whose
/// answer was lost is there already: 42710.
pub fn persist(node: &Node, sql: &str) -> Result<Rows, MeshError> {
    let mut lost = false;
    wait_until(Deadline::in_seconds(PERSIST_LIMIT_S), &format!("{} to run: {sql}", node.name()), || {
        match node.execute(sql) {
            Ok(rows) => Ok(Probe::Ready(rows)),
            Err(MeshError::Sql { error, .. }) if passes(&error.code) => Ok(Probe::NotYet(error.to_string())),
            Err(MeshError::Connection { why, .. }) => {
                lost = true;
                Ok(Probe::NotYet(why))
            }
            Err(MeshError::Sql { error, .. }) if lost && error.code == "42710" => Ok(Probe::Ready(Rows::default())),
            Err(other) => Err(other),
        }
    })
}
