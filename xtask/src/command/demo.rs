//! `demo`: two to five nodes as a mesh under load, and whether they end equal.

use spock_mesh::demo::{self, DemoOptions, DemoReport};

use crate::args::ServerArgs;
use crate::command::build;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::major::Major;
use crate::say::Event;
use crate::show;
use crate::target::Target;

/// Start a mesh, write to all nodes at once, compare.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// PostgreSQL major: 15, 16, 17 or 18
    #[arg(long, value_name = "MAJOR")]
    pg: Major,
    #[command(flatten)]
    server: ServerArgs,
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=5))]
    nodes: u8,
    /// How long the load runs, in seconds
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Leave the servers running, and say how to reach and how to stop them
    #[arg(long)]
    keep: bool,
}

impl DemoArgs {
    /// Builds what is missing, runs the demo, prints its table; fails when the nodes are not equal.
    pub fn run(self, cx: &Cx) -> Result<()> {
        let target = build::prefix_with_extension(cx, self.pg, &self.server)?;
        let name = format!("{}: demo", target.label());
        if cx.flags.plan {
            cx.say.data(&format!("run  {name}: {} nodes, {} s", self.nodes, self.seconds));
            return Ok(());
        }
        let report = self.watch(cx, &target, &name)?;
        cx.say.data(&report.to_string());
        cx.say.event(Event::Result { name: "demo", value: as_json(&report) });
        if !report.good() {
            return Err(Failure::failed(
                "the nodes do not hold the same rows",
                "this is a defect: please report it with the table above",
            ));
        }
        Ok(())
    }

    fn watch(&self, cx: &Cx, target: &Target, name: &str) -> Result<DemoReport> {
        let (prefix, nodes, seconds, keep) = (target.prefix(), self.nodes, self.seconds, self.keep);
        let server_kind = show::kind(target);
        show::watch(cx, name, "the demo", move |progress| {
            demo::run(&DemoOptions { prefix, nodes, seconds, keep, server_kind, progress })
        })
    }
}

fn as_json(report: &DemoReport) -> serde_json::Value {
    let nodes = report.nodes.iter().map(|node| {
        serde_json::json!({
            "name": node.name, "port": node.port, "rows": node.rows, "lag_bytes": node.lag_bytes,
            "conflicts": node.conflicts, "transactions": node.transactions,
        })
    });
    serde_json::json!({
        "version": report.version, "nodes": nodes.collect::<Vec<_>>(), "equal": report.equal(),
        "history_faults": report.history_faults,
    })
}
