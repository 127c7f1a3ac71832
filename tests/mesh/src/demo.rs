//! Two to five nodes join as a mesh, all are written to at once, and all end equal: what `cargo xtask demo` shows.
//!
//! The load is pgbench's TPC-B on every node: one hot branch row, ten tellers, 100,000 accounts, all of them updated on
//! all nodes at the same time, so the last update must win everywhere. The history table gets a key that cannot collide
//! between nodes and the name of the node where the row was written: every committed transaction has to be in it, once,
//! on every node, and is counted there.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use crate::cluster::{Cluster, ClusterOptions};
use crate::error::MeshError;
use crate::node::{Node, NodeOptions};
use crate::pgbench;
use crate::prefix::{Prefix, ServerKind};
use crate::topology::{self, Digest, literal};
use crate::wait::Deadline;

/// pgbench's tables, in the order in which they are compared.
pub const TABLES: [&str; 4] = ["pgbench_branches", "pgbench_tellers", "pgbench_accounts", "pgbench_history"];
/// Connections of pgbench to each node.
const CLIENTS: u32 = 2;
/// Joining takes about a second; a machine that is busy with a build needs more.
const JOIN_LIMIT_S: u64 = 120;
/// After the load ends, its backlog is applied: at worst as long as it took to write, with a margin.
const QUIET_MARGIN_S: u64 = 300;

/// What to show.
pub struct DemoOptions<'a> {
    /// The installation, with the extension in it.
    pub prefix: PathBuf,
    /// Number of nodes, 2 to 5.
    pub nodes: u8,
    /// How long the load runs.
    pub seconds: u32,
    /// Leave the servers running at the end.
    pub keep: bool,
    /// Patched or stock, for the report.
    pub server_kind: ServerKind,
    /// Gets one line for each step.
    pub progress: &'a (dyn Fn(&str) + Sync),
}

/// What one node ended with.
#[derive(Debug, Clone)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Rows in all of pgbench's tables.
    pub rows: u64,
    /// WAL of the other nodes that this one has not confirmed yet.
    pub lag_bytes: u64,
    /// Conflicts that it resolved; none when the extension does not count them.
    pub conflicts: Option<u64>,
    /// Transactions that its own clients committed.
    pub transactions: u64,
}

/// One table on all nodes, in the nodes' order.
#[derive(Debug, Clone)]
pub struct TableReport {
    /// Its name.
    pub table: String,
    /// What each node holds.
    pub digests: Vec<Digest>,
}

/// Servers that were left running.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The directory of all nodes.
    pub dir: PathBuf,
    /// Process ids of the servers.
    pub pids: Vec<u32>,
    /// The client of the same installation.
    pub psql: PathBuf,
}

/// How the demo ended.
#[derive(Debug, Clone)]
pub struct DemoReport {
    /// The server's version.
    pub version: String,
    /// Patched or stock.
    pub server_kind: ServerKind,
    /// One entry per node.
    pub nodes: Vec<NodeReport>,
    /// One entry per table.
    pub tables: Vec<TableReport>,
    /// What is wrong with the history: transactions missing or there twice. Empty when all is well.
    pub history_faults: Vec<String>,
    /// Set with `keep`.
    pub kept: Option<Kept>,
}

impl DemoReport {
    /// Do all nodes hold the same rows?
    pub fn equal(&self) -> bool {
        self.tables.iter().all(|table| table.digests.windows(2).all(|pair| pair[0] == pair[1]))
    }

    /// Equal, and no committed transaction lost or applied twice.
    pub fn good(&self) -> bool {
        self.equal() && self.history_faults.is_empty()
    }
}

/// Runs the demo. An error is a failure to run it; unequal nodes are a report.
pub fn run(options: &DemoOptions<'_>) -> Result<DemoReport, MeshError> {
    if !(2..=5).contains(&options.nodes) {
        return Err(MeshError::Unexpected(format!("a demo has 2 to 5 nodes, not {}", options.nodes)));
    }
    let say = options.progress;
    let prefix = Arc::new(Prefix::open(&options.prefix)?);
    say(&format!("starting {} servers of PostgreSQL {}", options.nodes, prefix.version()));
    let settings = [("shared_buffers", "128MB"), ("max_wal_size", "4GB")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let node = NodeOptions { loopback: true, settings: settings.to_vec() };
    let names = (1..=options.nodes).map(|n| format!("n{n}")).collect();
    let cluster = Cluster::create(&prefix, &ClusterOptions { names, node, leave_stopped: false })?;
    let nodes: Vec<&Node> = cluster.nodes().iter().collect();
    prepare(&nodes, say)?;
    say(&format!("pgbench on all {} nodes at once, {} s", nodes.len(), options.seconds));
    let transactions = on_each(&nodes, |node| pgbench::run(node, CLIENTS, options.seconds))?;
    say("waiting for quiet");
    topology::settle(&nodes, &[], Deadline::in_seconds(u64::from(options.seconds) + QUIET_MARGIN_S))?;
    say("comparing");
    let transactions: Vec<u64> = transactions.iter().map(|outcome| outcome.processed).collect();
    let mut report = look(&nodes, &transactions, options, prefix.version())?;
    if options.keep {
        say("starting the servers anew, to stay");
        let psql = prefix.root().join("bin/psql");
        report.kept = Some(Kept { dir: cluster.dir().to_owned(), pids: cluster.let_go()?, psql });
        for node in &nodes {
            for subscription in topology::subscriptions(node)? {
                topology::wait_replicating(node, &subscription.name, Deadline::in_seconds(JOIN_LIMIT_S))?;
            }
        }
    }
    Ok(report)
}

/// Tables, extension, nodes, replication sets, and the mesh.
fn prepare(nodes: &[&Node], say: &(dyn Fn(&str) + Sync)) -> Result<(), MeshError> {
    say("filling pgbench's tables on each node");
    on_each(nodes, |node| {
        pgbench::initialize(node, 1)?;
        node.execute(&format!(
            "alter table pgbench_history add column hid uuid primary key default gen_random_uuid(),
             add column node text not null default {}",
            literal(node.name())
        ))?;
        topology::create_node(node)?;
        node.execute("select spock.repset_add_all_tables('default', '{public}')").map(|_| ())
    })?;
    say("joining them as a mesh");
    topology::join_all(nodes, "", Deadline::in_seconds(JOIN_LIMIT_S))
}

/// Does the same on every node, at the same time.
fn on_each<T: Send>(nodes: &[&Node], work: impl Fn(&Node) -> Result<T, MeshError> + Sync) -> Result<Vec<T>, MeshError> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = nodes.iter().map(|node| scope.spawn(move || work(node))).collect();
        threads.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

fn look(
    nodes: &[&Node],
    transactions: &[u64],
    options: &DemoOptions<'_>,
    version: &str,
) -> Result<DemoReport, MeshError> {
    let by_node =
        on_each(nodes, |node| TABLES.iter().map(|table| topology::digest(node, table)).collect::<Result<Vec<_>, _>>())?;
    let mut reports = Vec::new();
    let mut history_faults = Vec::new();
    for (n, node) in nodes.iter().enumerate() {
        history_faults.extend(history_faults_on(node, nodes, transactions)?);
        reports.push(NodeReport {
            name: node.name().to_owned(),
            port: node.port(),
            rows: by_node[n].iter().map(|digest| digest.rows).sum(),
            lag_bytes: lag_of(node, nodes)?,
            conflicts: conflicts_on(node)?,
            transactions: transactions[n],
        });
    }
    let table = |t: usize| by_node.iter().map(|digests| digests[t].clone()).collect();
    let tables =
        TABLES.iter().enumerate().map(|(t, name)| TableReport { table: (*name).to_owned(), digests: table(t) });
    Ok(DemoReport {
        version: version.to_owned(),
        server_kind: options.server_kind,
        nodes: reports,
        tables: tables.collect(),
        history_faults,
        kept: None,
    })
}

/// Every transaction that was committed on a home node is in the history of `node` once; the primary key says that none
/// is there twice.
fn history_faults_on(node: &Node, nodes: &[&Node], transactions: &[u64]) -> Result<Vec<String>, MeshError> {
    let mut faults = Vec::new();
    for (home, committed) in nodes.iter().zip(transactions) {
        let ask = format!("select count(*) from pgbench_history where node = {}", literal(home.name()));
        let found = node.execute(&ask)?.to_string();
        if found != committed.to_string() {
            faults.push(format!("{} committed {committed} transactions, {} holds {found}", home.name(), node.name()));
        }
    }
    Ok(faults)
}

fn lag_of(node: &Node, nodes: &[&Node]) -> Result<u64, MeshError> {
    let mut most = 0;
    for subscription in topology::subscriptions(node)? {
        let Some(provider) = nodes.iter().find(|one| one.name() == subscription.provider) else { continue };
        let lag = provider.execute(&format!(
            "select greatest(0, pg_wal_lsn_diff(pg_current_wal_flush_lsn(), confirmed_flush_lsn))::bigint
             from pg_replication_slots where slot_name = {}",
            literal(&subscription.slot)
        ))?;
        let bytes = lag
            .to_string()
            .parse()
            .map_err(|_| MeshError::Unexpected(format!("lag of {}: {lag}", subscription.name)))?;
        most = u64::max(most, bytes);
    }
    Ok(most)
}

/// From the extension's counters, where this version has them.
fn conflicts_on(node: &Node) -> Result<Option<u64>, MeshError> {
    let counted = node.execute("select to_regprocedure('spock.get_channel_stats()') is not null")?.to_string();
    if counted != "t" {
        return Ok(None);
    }
    let sum = node.execute("select coalesce(sum(n_conflict), 0) from spock.get_channel_stats()")?.to_string();
    Ok(sum.parse().ok())
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "PostgreSQL {} ({})", self.version, self.server_kind)?;
        writeln!(
            f,
            "{:<5} {:>6} {:>9} {:>13} {:>10} {:>10}",
            "node", "port", "rows", "transactions", "lag", "conflicts"
        )?;
        for node in &self.nodes {
            let conflicts = node.conflicts.map_or("-".to_owned(), |count| count.to_string());
            let NodeReport { name, port, rows, transactions, lag_bytes, .. } = node;
            writeln!(f, "{name:<5} {port:>6} {rows:>9} {transactions:>13} {lag_bytes:>8} B {conflicts:>10}")?;
        }
        for table in self.tables.iter().filter(|table| table.digests.windows(2).any(|pair| pair[0] != pair[1])) {
            let all: Vec<String> = table.digests.iter().map(Digest::to_string).collect();
            writeln!(f, "{} differs: {}", table.table, all.join("; "))?;
        }
        for fault in &self.history_faults {
            writeln!(f, "history: {fault}")?;
        }
        if let Some(kept) = &self.kept {
            for node in &self.nodes {
                writeln!(
                    f,
                    "{} -h 127.0.0.1 -p {} -U postgres postgres   # {}",
                    kept.psql.display(),
                    node.port,
                    node.name
                )?;
            }
            let pids: Vec<String> = kept.pids.iter().map(u32::to_string).collect();
            writeln!(f, "stop and remove: kill -INT {}; sleep 2; rm -rf {}", pids.join(" "), kept.dir.display())?;
        }
        let history = if self.history_faults.is_empty() { "yes" } else { "no" };
        writeln!(f, "every committed transaction on every node once: {history}")?;
        write!(f, "nodes equal: {}", if self.equal() { "yes" } else { "no" })
    }
}
