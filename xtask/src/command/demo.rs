//! `demo`: two to five nodes as a mesh under load, and whether they end equal.

use std::sync::mpsc;
use std::time::Duration;

use spock_mesh::demo::{self, DemoOptions, DemoReport};

use crate::args::ServerArgs;
use crate::child::check_interrupt;
use crate::command::build;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::major::{Kind, Major};
use crate::say::Event;
use crate::target::Target;

/// How often a running demo looks for Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long an interrupted demo may take to stop its servers and remove their directory.
const END_WITHIN: Duration = Duration::from_secs(15);

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

    /// Runs the demo in a thread of its own, so that Ctrl-C ends it: the servers die with this process.
    fn watch(&self, cx: &Cx, target: &Target, name: &str) -> Result<DemoReport> {
        let progress = cx.say.begin(name, "");
        let (lines, said) = mpsc::channel();
        let (prefix, nodes, seconds, keep) = (target.prefix(), self.nodes, self.seconds, self.keep);
        let server_kind = match target.kind {
            Kind::Patched => spock_mesh::ServerKind::Patched,
            Kind::Stock => spock_mesh::ServerKind::Stock,
        };
        let running = std::thread::spawn(move || {
            // A receiver that is gone means that the run was interrupted: nobody wants to know.
            let say = |line: &str| drop(lines.send(line.to_owned()));
            demo::run(&DemoOptions { prefix, nodes, seconds, keep, server_kind, progress: &say })
        });
        loop {
            if let Err(interrupted) = check_interrupt() {
                // Ctrl-C reached pgbench and the servers too: the demo is ending, and removes its directory.
                while said.recv_timeout(END_WITHIN).is_ok() {}
                return Err(interrupted);
            }
            match said.recv_timeout(LOOK_EVERY) {
                Ok(line) => {
                    progress.tail(&line);
                    progress.remark(&line);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        let report = running.join().map_err(|_| Failure::failed("the demo stopped in the middle", ""))?;
        let report = report.map_err(|error| Failure::failed(format!("the demo failed: {error}"), ""))?;
        progress.done();
        Ok(report)
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
