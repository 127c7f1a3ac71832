//! The workloads: what is committed on the provider, and how much of it.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use super::Measured;
use super::report::MemoryReport;
use super::side::{Pair, private_kb};
use crate::error::MeshError;
use crate::pgbench;
use crate::topology;
use crate::wait::{Deadline, Probe, wait_closely};

/// Rows of a bulk transaction, at scale 1.
const BULK_ROWS: u64 = 500_000;
/// Transactions of the TPC-B-like drain.
const TPCB_TRANSACTIONS: u64 = 60_000;
/// Transactions with one row each.
const SINGLE_TRANSACTIONS: u64 = 200_000;
/// Commits whose latency is taken.
const LATENCY_COMMITS: u64 = 500;
/// Tables of the initial copy, each with as many rows as a bulk transaction.
pub const COPIED_TABLES: [&str; 2] = ["bench_copy_a", "bench_copy_b"];
/// Rows of the transaction over which memory is watched.
const MEMORY_ROWS: u64 = 5_000_000;
/// Where memory is looked at, in percent of that transaction.
pub const MEMORY_POINTS: [u64; 5] = [20, 40, 60, 80, 100];
/// Longest time for the transaction over which memory is watched.
const MEMORY_LIMIT_S: u64 = 1800;

/// One kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// pgbench's simple updates: an UPDATE and an INSERT in each transaction.
    Tpcb,
    /// One transaction of many INSERTs.
    Insert,
    /// One transaction that updates all rows.
    Update,
    /// One transaction that deletes all rows.
    Delete,
    /// Transactions of one INSERT.
    Single,
    /// Time of a commit that waits until it is visible on the subscriber.
    Latency,
    /// Initial copy of two tables by a second subscription.
    Sync,
    /// Memory of the worker in a long transaction.
    Memory,
}

impl Workload {
    /// All, in the order in which they are run.
    pub const ALL: [Self; 8] =
        [Self::Tpcb, Self::Insert, Self::Update, Self::Delete, Self::Single, Self::Latency, Self::Sync, Self::Memory];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tpcb => "tpcb",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Single => "single",
            Self::Latency => "latency",
            Self::Sync => "sync",
            Self::Memory => "memory",
        }
    }

    /// What it stands for, for a table's reader.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Tpcb => "TPC-B-like transactions, backlog",
            Self::Insert => "bulk INSERT, one transaction",
            Self::Update => "bulk UPDATE, one transaction",
            Self::Delete => "bulk DELETE, one transaction",
            Self::Single => "one-INSERT transactions, backlog",
            Self::Latency => "commit until visible",
            Self::Sync => "initial copy of two tables",
            Self::Memory => "memory in a long transaction",
        }
    }

    /// Makes the backlog, lets it go and measures.
    pub(super) fn measure(self, pair: &mut Pair<'_>, scale: f64) -> Result<Measured, MeshError> {
        if self == Self::Latency {
            return latency(pair, scale);
        }
        if self == Self::Sync {
            return sync(pair, scale);
        }
        self.before(pair, scale)?;
        pair.pause()?;
        self.backlog(pair, scale)?;
        let drained = pair.drain(&mut |_, _| Ok(()))?;
        Ok(Measured {
            seconds: vec![drained.seconds],
            worker_cpu_s: drained.worker_cpu_s,
            sender_cpu_s: drained.sender_cpu_s,
        })
    }

    /// The rows that the workload finds, on both nodes, without dead ones.
    fn before(self, pair: &mut Pair<'_>, scale: f64) -> Result<(), MeshError> {
        match self {
            Self::Insert => pair.arrive(&["truncate bench_bulk"])?,
            Self::Update | Self::Delete => {
                pair.arrive(&["truncate bench_bulk", &fill("bench_bulk", BULK_ROWS, scale)])?
            }
            Self::Single => pair.arrive(&["truncate bench_single"])?,
            Self::Tpcb | Self::Latency | Self::Sync | Self::Memory => {}
        }
        for node in [pair.provider, pair.subscriber] {
            node.execute("vacuum analyze")?;
        }
        Ok(())
    }

    fn backlog(self, pair: &Pair<'_>, scale: f64) -> Result<(), MeshError> {
        let node = pair.provider;
        match self {
            Self::Insert => node.execute(&fill("bench_bulk", BULK_ROWS, scale))?,
            Self::Update => node.execute("update bench_bulk set account = account + 1, at = now()")?,
            Self::Delete => node.execute("delete from bench_bulk")?,
            Self::Single => node.execute(&format!(
                "do $$ begin for i in 1 .. {} loop
                     insert into bench_single values (i, i, md5(i::text), now()); commit; end loop; end $$",
                times(SINGLE_TRANSACTIONS, scale)
            ))?,
            Self::Tpcb => {
                pgbench::run_simple_updates(node, times(TPCB_TRANSACTIONS, scale))?;
                return Ok(());
            }
            Self::Latency | Self::Sync | Self::Memory => return Ok(()),
        };
        Ok(())
    }

    /// The nodes of the pair hold the same rows.
    pub(super) fn check(self, pair: &Pair<'_>) -> Result<(), MeshError> {
        let tables: &[&str] = match self {
            Self::Tpcb => &["pgbench_accounts", "pgbench_history"],
            Self::Insert | Self::Update | Self::Delete => &["bench_bulk"],
            Self::Single | Self::Latency => &["bench_single"],
            Self::Sync => &COPIED_TABLES,
            Self::Memory => &["bench_long"],
        };
        for table in tables {
            let made = topology::digest(pair.provider, table)?;
            let arrived = topology::digest(pair.subscriber, table)?;
            if made != arrived {
                let why = format!("{table} of {} differs after {self}: {made} made, {arrived} arrived", pair.side);
                return Err(MeshError::Unexpected(why));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| format!("the workloads are {}", names()))
    }
}

fn times(count: u64, scale: f64) -> u64 {
    ((count as f64 * scale) as u64).max(1)
}

fn fill(table: &str, rows: u64, scale: f64) -> String {
    format!("insert into {table} select g, g, md5(g::text), now() from generate_series(1, {}) g", times(rows, scale))
}

/// The same tables on both nodes; pgbench's are filled.
pub(super) fn make_tables(pair: &Pair<'_>, scale: f64) -> Result<(), MeshError> {
    for node in [pair.provider, pair.subscriber] {
        // pgbench's generator gives the same rows on both.
        pgbench::initialize(node, times(10, scale.max(0.1)) as u32)?;
        for table in ["bench_bulk", "bench_single", "bench_long"].into_iter().chain(COPIED_TABLES) {
            node.execute(&format!(
                "create table {table} (id bigint primary key, account int not null, note text, at timestamptz)"
            ))?;
        }
        node.execute("create table bench_marker (id bigint primary key)")?;
        // The backlog's own speed is not the question.
        node.execute("alter system set synchronous_commit = off")?;
        node.reload()?;
    }
    Ok(())
}

/// The server itself says when a commit is visible on the subscriber: `synchronous_commit = remote_apply`.
fn latency(pair: &mut Pair<'_>, scale: f64) -> Result<Measured, MeshError> {
    pair.arrive(&["truncate bench_single"])?;
    pair.provider.execute("alter system set synchronous_standby_names = '*'")?;
    pair.provider.reload()?;
    let explain = |failure| pair.provider.explain("a commit that waits for the subscriber", failure);
    let mut session = pair.provider.connect("postgres")?;
    session.run("set synchronous_commit = remote_apply").map_err(explain)?;
    let mut seconds = Vec::new();
    for id in 1..=times(LATENCY_COMMITS, scale) {
        let began = Instant::now();
        session.run(&format!("insert into bench_single values ({id}, {id}, 'latency', now())")).map_err(explain)?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    drop(session);
    pair.provider.execute("alter system reset synchronous_standby_names")?;
    pair.provider.reload()?;
    Ok(Measured { seconds, ..Measured::default() })
}

/// From the statement that makes the subscription until all of its tables are ready.
fn sync(pair: &mut Pair<'_>, scale: f64) -> Result<Measured, MeshError> {
    for table in COPIED_TABLES {
        let filled = pair.provider.execute(&format!("select count(*) from {table}"))?.to_string();
        if filled == "0" {
            pair.arrive(&[&fill(table, BULK_ROWS, scale)])?;
        }
        pair.subscriber.execute(&format!("truncate {table}"))?;
    }
    for node in [pair.provider, pair.subscriber] {
        node.execute("checkpoint")?;
    }
    let seconds = pair.copy(&COPIED_TABLES)?;
    Ok(Measured { seconds: vec![seconds], ..Measured::default() })
}

/// Private memory of the apply worker while one long transaction arrives. How far it is, is told by the table's size.
pub(super) fn memory(pair: &mut Pair<'_>, scale: f64) -> Result<MemoryReport, MeshError> {
    pair.arrive(&["truncate bench_long"])?;
    pair.pause()?;
    pair.provider.execute(&fill("bench_long", MEMORY_ROWS, scale))?;
    let size = "select pg_relation_size('bench_long')";
    let full = number(&pair.provider.execute(size)?.to_string())?;
    let mut private = Vec::new();
    pair.drain(&mut |pair, worker| {
        for percent in MEMORY_POINTS {
            let what = format!("{percent} % of the transaction to be applied");
            let at = wait_closely(Deadline::in_seconds(MEMORY_LIMIT_S), &what, || {
                let now = number(&pair.subscriber.execute(size)?.to_string())?;
                Ok(if now * 100 >= full * percent {
                    Probe::Ready(private_kb(worker))
                } else {
                    Probe::NotYet(now.to_string())
                })
            })?;
            private.push((percent, at));
        }
        Ok(())
    })?;
    Workload::Memory.check(pair)?;
    Ok(MemoryReport { side: pair.side, private_kb: private })
}

fn number(text: &str) -> Result<u64, MeshError> {
    text.parse().map_err(|_| MeshError::Unexpected(format!("not a number: {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_found_by_their_names() {
        for workload in Workload::ALL {
            assert_eq!(workload.name().parse(), Ok(workload));
        }
        assert!("bulk".parse::<Workload>().is_err_and(|error| error.contains("insert")));
    }

    #[test]
    fn a_small_scale_leaves_something_to_do() {
        assert_eq!((times(500, 0.5), times(500, 0.000_1)), (250, 1));
    }
}
