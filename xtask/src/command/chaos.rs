//! `chaos`: a mesh under colliding load and faults, and whether it holds what it was told.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use spock_mesh::ServerKind;
use spock_mesh::chaos::{self, ChaosOptions, ChaosReport, Exercise};

use crate::args::ServerArgs;
use crate::command::build;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::major::{Kind, Major};
use crate::say::Event;
use crate::show;

/// Kill, cut and skew a mesh under colliding load; check that nothing is lost, twice or different.
#[derive(Debug, clap::Args)]
pub struct ChaosArgs {
    /// PostgreSQL major: 15, 16, 17 or 18
    #[arg(long, value_name = "MAJOR", default_value = "17")]
    pg: Major,
    #[command(flatten)]
    server: ServerArgs,
    /// Build nothing: take this installation, with the extension in it, as it is
    #[arg(long, value_name = "DIR", env = "SPOCK_TEST_PREFIX", conflicts_with_all = ["source", "pg_config"])]
    prefix: Option<PathBuf>,
    /// How many nodes write; a further one joins and leaves
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=5))]
    nodes: u8,
    /// How long load and faults last, in seconds
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=86_400))]
    seconds: u32,
    /// Decides what is written and what is done to the mesh (default: another one each time)
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Leave these out: update, insert, multi-row, own, transfer, large, delete, key-change, unique, kill-worker,
    /// kill-server, restart, cut, clock, pause, checkpoint, freeze, join (a list with commas), or `none` (default: what
    /// docs/limits.md says does not work yet)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    without: Vec<LeftOut>,
    /// Keep the logs also when all is well
    #[arg(long)]
    keep_logs: bool,
}

/// One of the names that `--without` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeftOut {
    Nothing,
    One(Exercise),
}

impl FromStr for LeftOut {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "none" { Ok(Self::Nothing) } else { text.parse().map(Self::One) }
    }
}

/// What is left out: the list; without one, what the server is known not to survive.
fn without(given: &[LeftOut], kind: ServerKind) -> Result<Vec<Exercise>> {
    if given.contains(&LeftOut::Nothing) && given.len() > 1 {
        return Err(Failure::usage("--without none leaves nothing out", "give names, or none alone"));
    }
    let named = given.iter().filter_map(|one| match one {
        LeftOut::One(exercise) => Some(*exercise),
        LeftOut::Nothing => None,
    });
    let mut left_out: Vec<Exercise> = if given.is_empty() { Exercise::known_limits(kind) } else { named.collect() };
    left_out.sort();
    left_out.dedup();
    if Exercise::ALL.iter().filter(|one| one.is_workload()).all(|one| left_out.contains(one)) {
        return Err(Failure::usage("no transactions are left", "leave fewer kinds out"));
    }
    Ok(left_out)
}

impl ChaosArgs {
    /// Builds what is missing, runs, prints the report; fails when a checker finds something.
    pub fn run(self, cx: &Cx) -> Result<()> {
        let (prefix, server_kind, label) = self.installation(cx)?;
        let seed = self.seed.unwrap_or_else(new_seed);
        let without = without(&self.without, server_kind)?;
        let Self { nodes, seconds, keep_logs, .. } = self;
        let options = ChaosOptions { prefix, server_kind, nodes, seconds, seed, without, keep_logs };
        let name = format!("{label}: chaos");
        let replay = chaos::replay(&self.pg.to_string(), &options);
        if cx.flags.plan {
            let steps = chaos::planned(&options).join("\n");
            cx.say.data(&format!("run  {name}: {nodes} nodes, {seconds} s, seed {seed}\n{steps}"));
            return Ok(());
        }
        let report = show::watch(cx, &name, "the trial", move |progress| chaos::run(&options, progress));
        let report = report.map_err(|failure| with_replay(failure, &replay))?;
        cx.say.data(&report.to_string());
        cx.say.event(Event::Result { name: "chaos", value: as_json(&report, &replay) });
        if !report.good() {
            return Err(with_replay(
                Failure::failed(format!("seed {seed}: {} failed", report.failed().join(", ")), ""),
                &replay,
            ));
        }
        Ok(())
    }

    /// Directory, kind, and what it is called.
    fn installation(&self, cx: &Cx) -> Result<(PathBuf, ServerKind, String)> {
        let Some(prefix) = &self.prefix else {
            let target = build::prefix_with_extension(cx, self.pg, &self.server)?;
            return Ok((target.prefix(), show::kind(&target), target.label()));
        };
        let found = chaos::kind_of(prefix);
        let (major, kind) = found.map_err(|error| Failure::usage(error.to_string(), "give an installed prefix"))?;
        let wanted = self.server.server.is_none_or(|wanted| (wanted == Kind::Patched) == (kind == ServerKind::Patched));
        if major.to_string() != self.pg.to_string() || !wanted {
            let what = format!("{} holds a {kind} server of {major}", prefix.display());
            return Err(Failure::usage(what, format!("use --pg {major} --server {kind}")));
        }
        Ok((prefix.clone(), kind, format!("{major} {kind}")))
    }
}

/// Something else each time; five digits less than the clock has, for people who type it.
fn new_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64 % 10_000_000_000)
}

fn with_replay(failure: Failure, replay: &str) -> Failure {
    match failure {
        Failure::Failed { what, .. } => Failure::failed(what, format!("the same plan again: {replay}")),
        other => other,
    }
}

fn as_json(report: &ChaosReport, replay: &str) -> serde_json::Value {
    let verdicts = report.verdicts.iter().map(|verdict| {
        serde_json::json!({
            "name": verdict.name, "claim": verdict.claim, "good": verdict.good(), "faults": verdict.faults,
        })
    });
    let without = report.without.iter().map(|exercise| exercise.name().to_owned());
    serde_json::json!({
        "version": report.version, "server": report.server_kind.to_string(), "nodes": report.nodes, "seed": report.seed,
        "seconds": report.seconds, "took_s": report.took_s,
        "not_exercised": without.chain(report.not_possible.iter().cloned()).collect::<Vec<_>>(),
        "transactions": report.transactions, "faults": report.faults, "conflicts": report.conflicts,
        "verdicts": verdicts.collect::<Vec<_>>(), "good": report.good(), "replay": replay, "bundle": report.bundle,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_list_or_the_known_limits() {
        let patched = ServerKind::Patched;
        assert_eq!(without(&[], patched).unwrap(), Exercise::known_limits(patched));
        assert_eq!(without(&[LeftOut::Nothing], patched).unwrap(), []);
        let list = ["join", "clock", "join"].map(|name| name.parse::<LeftOut>().unwrap());
        assert_eq!(without(&list, patched).unwrap(), [Exercise::Clock, Exercise::Join]);
        assert!("everything".parse::<LeftOut>().is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        let all: Vec<LeftOut> = Exercise::ALL.into_iter().map(LeftOut::One).collect();
        for wrong in [&[LeftOut::Nothing, LeftOut::One(Exercise::Join)][..], &all] {
            assert!(matches!(without(wrong, ServerKind::Stock), Err(Failure::Usage { .. })));
        }
    }
}
