//! `bench`: how fast the extension replicates, against the server's own logical replication in the same run.

use spock_mesh::bench::{self, BenchOptions, BenchReport, Compared, Side, Workload};

use crate::args::ServerArgs;
use crate::command::build;
use crate::cx::Cx;
use crate::exit::Result;
use crate::major::Major;
use crate::say::Event;
use crate::show;

/// Compare with the server's own logical replication.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// PostgreSQL major: 15, 16, 17 or 18
    #[arg(long, value_name = "MAJOR", default_value = "17")]
    pg: Major,
    #[command(flatten)]
    server: ServerArgs,
    /// How often each workload runs on each side
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Factor for the number of rows and transactions, 0.001 to 100
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    scale: f64,
    /// Only these: tpcb, insert, update, delete, single, latency, sync, memory (a list with commas)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    workload: Vec<Workload>,
}

fn factor(text: &str) -> std::result::Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.001..=100.0).contains(&value) { Ok(value) } else { Err("the factor is 0.001 to 100".to_owned()) }
}

impl BenchArgs {
    /// Builds what is missing, measures, prints the table. Numbers are no failure, whatever they are.
    pub fn run(self, cx: &Cx) -> Result<()> {
        let target = build::prefix_with_extension(cx, self.pg, &self.server)?;
        let name = format!("{}: bench", target.label());
        let workloads = if self.workload.is_empty() { Workload::ALL.to_vec() } else { self.workload };
        if cx.flags.plan {
            let names: Vec<&str> = workloads.iter().map(|workload| workload.name()).collect();
            cx.say.data(&format!("run  {name}: {}, {} runs", names.join(", "), self.runs));
            return Ok(());
        }
        let (prefix, server_kind, runs, scale) = (target.prefix(), show::kind(&target), self.runs, self.scale);
        let report = show::watch(cx, &name, "the comparison", move |progress| {
            bench::run(&BenchOptions { prefix, server_kind, runs, scale, workloads, progress })
        })?;
        cx.say.data(report.to_string().trim_end());
        cx.say.event(Event::Result { name: "bench", value: as_json(&report) });
        Ok(())
    }
}

fn as_json(report: &BenchReport) -> serde_json::Value {
    let side = |one: &Compared, side: Side| {
        let (worker, sender) = one.processor(side);
        let wall = one.wall(side);
        serde_json::json!({
            "median_s": wall.map(|spread| spread.median), "p99_s": wall.map(|spread| spread.p99),
            "worker_cpu_s": worker, "sender_cpu_s": sender,
        })
    };
    let workloads = report.compared.iter().map(|one| {
        let (worker, sender) = one.processor_ratios();
        serde_json::json!({
            "workload": one.workload.name(), "ratio": one.ratio(), "worker_cpu_ratio": worker,
            "sender_cpu_ratio": sender, "native": side(one, Side::Native), "ours": side(one, Side::Ours),
        })
    });
    let memory = report.memory.iter().map(|one| {
        let points =
            one.private_kb.iter().map(|(percent, kb)| serde_json::json!({"percent": percent, "private_kb": kb}));
        serde_json::json!({"side": one.side.to_string(), "points": points.collect::<Vec<_>>()})
    });
    serde_json::json!({
        "version": report.version, "server": report.server_kind.to_string(), "runs": report.runs,
        "workloads": workloads.collect::<Vec<_>>(), "memory": memory.collect::<Vec<_>>(),
    })
}
