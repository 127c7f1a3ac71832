//! `sim`: a mesh in memory, from a seed.

use spock_sim::mesh::{self, Counts, Size};
use spock_sim::rule::Rule;

use crate::child;
use crate::cx::Cx;
use crate::exit::{Failure, Result};

/// Simulate a mesh that runs the core's rules: merging, confirming, filtering, under delays, cuts, crashes, skew and joins.
///
/// Deterministic: the same seed, nodes and steps give the same run. Needs no server.
#[derive(Debug, clap::Args)]
pub struct SimArgs {
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Nodes that write; the last of three or more joins in the middle
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=9))]
    pub nodes: u8,
    /// Steps of the scheduler in one run
    #[arg(long, value_name = "M", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub steps: u32,
    /// Runs, each with the next seed
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
}

impl SimArgs {
    /// Runs the seeds one after another; the first that fails ends it.
    pub fn run(self, cx: &Cx) -> Result<()> {
        if cx.flags.plan {
            let text =
                format!("{} runs from seed {}, {} nodes, {} steps each", self.seeds, self.seed, self.nodes, self.steps);
            cx.say.result("plan", &text);
            return Ok(());
        }
        let size = Size { nodes: usize::from(self.nodes), steps: self.steps as usize };
        let mut all = Counts::default();
        for run in 0..self.seeds {
            child::check_interrupt()?;
            let seed = self.seed.wrapping_add(run);
            // With columns that count, removed keys are not inserted again, so every second run is without them.
            let rule = Rule { counts: seed % 2 == 1, ..Rule::SHIPPED };
            let counts = mesh::run(seed, size, &rule).map_err(|what| self.failed(seed, &what))?;
            all = all.plus(counts);
        }
        let text = format!(
            "{} runs from seed {}: {} transactions, {} applied, {} conflicts, {} crashes, {} cuts, {} joins; all nodes equal",
            self.seeds, self.seed, all.transactions, all.applied, all.conflicts, all.crashes, all.cuts, all.joins
        );
        cx.say.result("simulated", &text);
        Ok(())
    }

    fn failed(&self, seed: u64, what: &str) -> Failure {
        let replay = format!("cargo xtask sim --seed {seed} --nodes {} --steps {}", self.nodes, self.steps);
        Failure::failed(format!("seed {seed}: {what}"), format!("replay it: {replay}; fewer steps may fail as well"))
    }
}
