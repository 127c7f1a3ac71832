//! A mesh of real servers under a load that collides, and under faults: what `cargo xtask chaos` runs.
//!
//! [`workload`] says what clients write and [`plan`] what is done to the mesh and when: both follow from the seed. [`client`]
//! writes and keeps book, [`stage`] carries the plan out, by way of [`proxy`] where lines are cut. Then all is healed, the
//! mesh settles, and the checkers of [`oracle`] look at what is there. [`exercise`] names what can be left out.
//!
//! **Invariants.** The same seed gives the same plan and the same transactions; when they meet differs from run to run. The
//! checkers know nothing of the plan, and nothing of what transactions are about.

pub mod client;
pub mod difference;
pub mod exercise;
pub mod oracle;
pub mod plan;
pub mod proxy;
pub mod random;
pub mod report;
pub mod stage;
pub mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::bundle;
use crate::cluster::{Cluster, ClusterOptions};
use crate::error::MeshError;
use crate::node::NodeOptions;
use crate::prefix::{Prefix, ServerKind};
use crate::topology;
use crate::wait::Deadline;

pub use exercise::Exercise;
pub use oracle::Verdict;
pub use report::ChaosReport;

use client::{Book, Door, Watch};
use oracle::Evidence;
use plan::Step;
use stage::{Counts, Stage};
use workload::Client;

/// Connections that write, for each node.
const CLIENTS: usize = 2;
/// Joining takes seconds; a machine that is busy with a build needs more.
const JOIN_LIMIT_S: u64 = 120;
/// After the load ends, its backlog is applied; back-offs of workers that were killed often are up to a minute.
const SETTLE_MARGIN_S: u64 = 240;

/// Small buffers and much WAL traffic: checkpoints come often, slots hold WAL back. Conflicts are all written down, because
/// they are the evidence when nodes differ.
const SETTINGS: [(&str, &str); 9] = [
    ("max_wal_size", "64MB"),
    ("min_wal_size", "32MB"),
    ("deadlock_timeout", "200ms"),
    ("wal_sender_timeout", "10s"),
    ("autovacuum_naptime", "1s"),
    // A connection over a stalled line says nothing. The server waits so long for its first word, and does not start its
    // processes again after a crash before that.
    ("authentication_timeout", "3s"),
    ("spock.save_resolutions", "on"),
    ("spock.log_origin_change", "remote_only_differs"),
    ("spock.restart_delay_default", "500ms"),
];

/// What to try.
#[derive(Debug, Clone)]
pub struct ChaosOptions {
    /// The installation, with the extension in it.
    pub prefix: PathBuf,
    /// Patched or stock.
    pub server_kind: ServerKind,
    /// Nodes that write, 2 to 5.
    pub nodes: u8,
    /// How long the load runs.
    pub seconds: u32,
    /// Decides about plan and transactions.
    pub seed: u64,
    /// What is left out.
    pub without: Vec<Exercise>,
    /// Write the bundle also when all is well.
    pub keep_logs: bool,
}

/// Gets one line for each step.
type Progress<'a> = &'a (dyn Fn(&str) + Sync);

impl ChaosOptions {
    fn exercises(&self) -> Vec<Exercise> {
        Exercise::ALL.into_iter().filter(|one| !self.without.contains(one)).collect()
    }
}

/// Runs the load and the plan, and judges. An error is a failure to run it; what the checkers find is in the report.
pub fn run(options: &ChaosOptions, say: Progress<'_>) -> Result<ChaosReport, MeshError> {
    if !(2..=5).contains(&options.nodes) {
        return Err(MeshError::Unexpected(format!("a mesh has 2 to 5 nodes here, not {}", options.nodes)));
    }
    let exercises = options.exercises();
    let plan = plan::plan(options.seed, options.seconds, usize::from(options.nodes), &exercises);
    let prefix = Arc::new(Prefix::open(&options.prefix)?);
    say(&format!("starting {} servers of PostgreSQL {}, seed {}", options.nodes + 1, prefix.version(), options.seed));
    let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let node = NodeOptions { loopback: false, settings };
    let names = (1..=options.nodes + 1).map(|n| format!("n{n}")).collect();
    let cluster = Cluster::create(&prefix, &ClusterOptions { names, node, leave_stopped: false })?;
    let mut stage = Stage::open(&cluster)?;
    match try_it(options, &exercises, &plan, &mut stage, say) {
        Ok(mut report) => {
            report.version = prefix.version().to_owned();
            if options.keep_logs || !report.good() {
                report.bundle = Some(write_bundle(&cluster, &plan, &stage.done, &report.to_string())?);
            }
            Ok(report)
        }
        Err(error) => {
            let bundle = write_bundle(&cluster, &plan, &stage.done, &error.to_string())?;
            Err(MeshError::Unexpected(format!("{error}\nlogs and states of all nodes: {}", bundle.display())))
        }
    }
}

fn write_bundle(cluster: &Cluster, plan: &[Step], done: &[String], report: &str) -> Result<PathBuf, MeshError> {
    let dir = bundle::write(cluster)?;
    let planned: Vec<String> = plan.iter().map(Step::to_string).collect();
    let texts = [("plan", planned.join("\n")), ("done", done.join("\n")), ("report", report.to_owned())];
    for (name, text) in texts {
        let path = dir.join(name);
        fs::write(&path, text + "\n").map_err(MeshError::io("write", &path))?;
    }
    Ok(dir)
}

fn try_it(
    options: &ChaosOptions,
    exercises: &[Exercise],
    plan: &[Step],
    stage: &mut Stage<'_>,
    say: Progress<'_>,
) -> Result<ChaosReport, MeshError> {
    let clients: Vec<Client> = (0..stage.writers().len())
        .flat_map(|node| (0..CLIENTS).map(move |number| Client { seed: options.seed, node, number }))
        .collect();
    prepare(stage, &clients, say)?;
    say(&format!("load from {} clients, {} steps planned", clients.len(), plan.len()));
    let began = Instant::now();
    let (books, watches, carried) = under_load((options, exercises, plan), stage, &clients, began, say);
    say("healing");
    stage.heal()?;
    carried?;
    let deadline = Deadline::in_seconds(u64::from(options.seconds) + SETTLE_MARGIN_S);
    let settled = stage.wait_replicating(deadline).and_then(|()| topology::settle(&stage.members(), &[], deadline));
    let took_s = began.elapsed().as_secs_f64();
    say("judging");
    let members = stage.members();
    let servers: Vec<_> = stage.servers();
    let writers: Vec<_> = stage.writers().iter().map(|node| node.name()).collect();
    let evidence = Evidence {
        subscriptions: members.iter().map(|node| (*node, stage.subscriptions_of(node))).collect(),
        copies: members.iter().map(|node| node.name()).filter(|name| !writers.contains(name)).collect(),
        members,
        servers: servers.clone(),
        books: &books,
        watches: &watches,
        incidents: &stage.incidents,
        unsettled: settled.err().map(|error| error.to_string()),
    };
    let verdicts = oracle::judge(&evidence);
    let mut transactions = transactions(&books);
    transactions.insert("looks at sums".to_owned(), watches.iter().map(|watch| watch.looks).sum());
    Ok(ChaosReport {
        version: String::new(),
        server_kind: options.server_kind,
        seed: options.seed,
        nodes: options.nodes,
        seconds: options.seconds,
        took_s,
        without: options.without.clone(),
        not_possible: stage.not_possible(),
        transactions,
        faults: stage.counts.clone(),
        conflicts: oracle::conflicts(&servers),
        verdicts,
        bundle: None,
    })
}

fn prepare(stage: &Stage<'_>, clients: &[Client], say: Progress<'_>) -> Result<(), MeshError> {
    say("joining them as a mesh");
    for node in stage.writers() {
        topology::create_node(node)?;
        for statement in workload::create() {
            node.execute(&statement)?;
        }
    }
    stage.join_all(Deadline::in_seconds(JOIN_LIMIT_S))?;
    if let [first, ..] = stage.writers() {
        for statement in workload::fill(stage.writers().len(), clients) {
            first.execute(&statement)?;
        }
    }
    topology::settle(stage.writers(), &[], Deadline::in_seconds(JOIN_LIMIT_S))
}

/// The plan in this thread, everybody else beside it. Clients stop when the plan is done and the time is over.
fn under_load(
    (options, exercises, plan): (&ChaosOptions, &[Exercise], &[Step]),
    stage: &mut Stage<'_>,
    clients: &[Client],
    began: Instant,
    say: Progress<'_>,
) -> (Vec<Book>, Vec<Watch>, Result<(), MeshError>) {
    let stop = AtomicBool::new(false);
    let doors: Vec<(String, Door)> =
        stage.writers().iter().map(|node| (node.name().to_owned(), Door::of(node))).collect();
    thread::scope(|scope| {
        let (stop, doors) = (&stop, &doors);
        let writing: Vec<_> = clients
            .iter()
            .map(|client| scope.spawn(move || client::write(*client, &doors[client.node].1, exercises, stop)))
            .collect();
        let watching: Vec<_> =
            doors.iter().map(|(name, door)| scope.spawn(move || client::watch(name, door, stop))).collect();
        let carried = plan.iter().try_for_each(|step| stage.carry_out(step, began, say));
        let length = std::time::Duration::from_secs(u64::from(options.seconds));
        let failed = carried.is_err();
        crate::wait::until(began, length, &|| failed);
        // A client that waits for a server that was left down goes on when it is stopped.
        stop.store(true, Ordering::Relaxed);
        let healed = stage.heal();
        let books =
            writing.into_iter().map(|one| one.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect();
        let watches =
            watching.into_iter().map(|one| one.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect();
        (books, watches, carried.and(healed))
    })
}

fn transactions(books: &[Book]) -> Counts {
    let sum = |of: &dyn Fn(&Book) -> u64| books.iter().map(of).sum();
    Counts::from([
        ("acknowledged".to_owned(), sum(&|book| book.acknowledged.len() as u64)),
        ("in doubt".to_owned(), sum(&|book| book.in_doubt.len() as u64)),
        ("rejected".to_owned(), sum(&|book| book.rejected)),
        ("rolled back".to_owned(), sum(&|book| book.rolled_back)),
    ])
}

/// The command that runs the same again.
pub fn replay(major: &str, options: &ChaosOptions) -> String {
    let names: Vec<&str> = options.without.iter().map(|one| one.name()).collect();
    let without = if names.is_empty() { "none".to_owned() } else { names.join(",") };
    let stock = if options.server_kind == ServerKind::Stock { " --server stock" } else { "" };
    let ChaosOptions { nodes, seconds, seed, .. } = options;
    format!(
        "cargo xtask chaos --pg {major} --nodes {nodes} --seconds {seconds} --seed {seed} --without {without}{stock}"
    )
}

/// The plan of a run, one line a step.
pub fn planned(options: &ChaosOptions) -> Vec<String> {
    let plan = plan::plan(options.seed, options.seconds, usize::from(options.nodes), &options.exercises());
    plan.iter().map(Step::to_string).collect()
}

/// Is there a server in that directory whose version says that it is patched? For installations that are taken as they are.
pub fn kind_of(prefix: &Path) -> Result<(u16, ServerKind), MeshError> {
    let prefix = Prefix::open(prefix)?;
    let kind = if prefix.version().contains("-spock-") { ServerKind::Patched } else { ServerKind::Stock };
    Ok((prefix.major().0, kind))
}
