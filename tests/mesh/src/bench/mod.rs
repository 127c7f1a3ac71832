//! The extension against the server's own logical replication, in one run on one machine: what `cargo xtask bench` shows.
//!
//! Two pairs of servers with the same settings: one pair replicates with a publication and a subscription of the server,
//! the other with ours. For each workload both pairs get the same backlog while their subscription is disabled; then it is
//! enabled, and the time from the moment the provider's slot is in use until the last transaction is visible on the
//! subscriber is measured. The pairs take turns, and begin in turn. What counts is the ratio of the medians: times alone
//! say more about the machine.
//!
//! **Invariants.** Nothing is measured that was not checked to have arrived: after each workload both nodes of a pair hold
//! the same rows. A slow result is a result, not a failure.

mod report;
mod side;
mod workload;

use std::path::PathBuf;
use std::sync::Arc;

use crate::cluster::{Cluster, ClusterOptions};
use crate::error::MeshError;
use crate::node::NodeOptions;
use crate::prefix::{Prefix, ServerKind};

pub use report::{BenchReport, Compared, MemoryReport, Spread};
pub use side::Side;
pub use workload::Workload;

use side::Pair;

/// What to measure.
pub struct BenchOptions<'a> {
    /// The installation, with the extension in it.
    pub prefix: PathBuf,
    /// Patched or stock, for the report.
    pub server_kind: ServerKind,
    /// How often each workload runs on each side.
    pub runs: u32,
    /// Factor for the number of rows and transactions.
    pub scale: f64,
    /// Which workloads, in this order.
    pub workloads: Vec<Workload>,
    /// Gets one line for each step.
    pub progress: &'a (dyn Fn(&str) + Sync),
}

/// One run of one workload on one side.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Wall times in seconds: one for a drain, one for each commit where latency is measured.
    pub seconds: Vec<f64>,
    /// Processor time of the apply worker, where the kernel tells it.
    pub worker_cpu_s: Option<f64>,
    /// Processor time of the provider's sender.
    pub sender_cpu_s: Option<f64>,
}

/// Same for both pairs. The disk is not measured (`fsync` off), nor are checkpoints and vacuum, which come at random.
const SETTINGS: [(&str, &str); 7] = [
    ("shared_buffers", "512MB"),
    ("max_wal_size", "32GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
    // The wait before a worker that ended is started again, on the native side.
    ("wal_retrieve_retry_interval", "100ms"),
    ("jit", "off"),
    ("max_slot_wal_keep_size", "-1"),
];

/// Runs the comparison.
pub fn run(options: &BenchOptions<'_>) -> Result<BenchReport, MeshError> {
    let say = options.progress;
    let prefix = Arc::new(Prefix::open(&options.prefix)?);
    say(&format!("starting two pairs of servers of PostgreSQL {}", prefix.version()));
    let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let names = Side::BOTH.iter().flat_map(|side| [side.provider(), side.subscriber()]).map(str::to_owned).collect();
    let node = NodeOptions { loopback: false, settings };
    let cluster = Cluster::create(&prefix, &ClusterOptions { names, node, leave_stopped: false })?;
    let pairs = Side::BOTH.map(|side| Pair::find(&cluster, side));
    let [native, ours] = pairs;
    let mut pairs = [native?, ours?];
    for pair in &pairs {
        say(&format!("{}: tables and subscription", pair.side));
        workload::make_tables(pair, options.scale)?;
        pair.connect()?;
    }
    let mut report = BenchReport {
        version: prefix.version().to_owned(),
        server_kind: options.server_kind,
        runs: options.runs,
        compared: Vec::new(),
        memory: Vec::new(),
    };
    for workload in &options.workloads {
        if *workload == Workload::Memory {
            for pair in &mut pairs {
                say(&format!("{workload}, {}", pair.side));
                report.memory.push(workload::memory(pair, options.scale)?);
            }
            continue;
        }
        let mut compared = Compared { workload: *workload, native: Vec::new(), ours: Vec::new() };
        for run in 0..options.runs {
            for turn in 0..2 {
                // Who begins changes from run to run: what the machine does meanwhile hits both alike.
                let pair = &mut pairs[((run + turn) % 2) as usize];
                say(&format!("{workload}, run {} of {}, {}", run + 1, options.runs, pair.side));
                let measured = workload.measure(pair, options.scale)?;
                match pair.side {
                    Side::Native => compared.native.push(measured),
                    Side::Ours => compared.ours.push(measured),
                }
            }
        }
        for pair in &pairs {
            workload.check(pair)?;
        }
        report.compared.push(compared);
    }
    Ok(report)
}
