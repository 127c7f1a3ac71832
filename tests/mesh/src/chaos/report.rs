//! How a run ended, for people; `cargo xtask` makes JSON of the same struct.

use std::fmt;
use std::path::PathBuf;

use super::exercise::Exercise;
use super::oracle::Verdict;
use super::stage::Counts;
use crate::prefix::ServerKind;

/// Everything that is known at the end.
#[derive(Debug, Clone)]
pub struct ChaosReport {
    /// The server's version.
    pub version: String,
    /// Patched or stock.
    pub server_kind: ServerKind,
    /// The seed.
    pub seed: u64,
    /// Nodes that write.
    pub nodes: u8,
    /// How long the load was to run.
    pub seconds: u32,
    /// Seconds from the beginning of the load until the mesh was quiet.
    pub took_s: f64,
    /// What was left out.
    pub without: Vec<Exercise>,
    /// What was asked for and could not be done, with the reason.
    pub not_possible: Vec<String>,
    /// Transactions: acknowledged, in doubt, rejected, rolled back.
    pub transactions: Counts,
    /// What was done to the mesh.
    pub faults: Counts,
    /// Conflicts by kind and outcome, from the logs.
    pub conflicts: Counts,
    /// One for each checker.
    pub verdicts: Vec<Verdict>,
    /// Where logs, states and the plan are; none when nothing failed and nobody asked.
    pub bundle: Option<PathBuf>,
}

impl ChaosReport {
    /// Did all checkers find all well?
    pub fn good(&self) -> bool {
        self.verdicts.iter().all(Verdict::good)
    }

    /// The checkers that found something.
    pub fn failed(&self) -> Vec<&'static str> {
        self.verdicts.iter().filter(|verdict| !verdict.good()).map(|verdict| verdict.name).collect()
    }
}

fn listed(counts: &Counts) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for ChaosReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, server_kind, seed, nodes, seconds, took_s, .. } = self;
        writeln!(f, "PostgreSQL {version} ({server_kind}), {nodes} nodes, {seconds} s, seed {seed}")?;
        writeln!(f, "transactions   {}", listed(&self.transactions))?;
        writeln!(f, "faults         {}", listed(&self.faults))?;
        writeln!(f, "conflicts      {}", listed(&self.conflicts))?;
        writeln!(f, "quiet after    {took_s:.1} s")?;
        for exercise in &self.without {
            writeln!(f, "NOT EXERCISED  {exercise}: {}", exercise.describe())?;
        }
        for reason in &self.not_possible {
            writeln!(f, "NOT EXERCISED  {reason}")?;
        }
        for verdict in &self.verdicts {
            writeln!(f, "{verdict}")?;
        }
        if let Some(bundle) = &self.bundle {
            writeln!(f, "logs and states of all nodes: {}", bundle.display())?;
        }
        let failed = self.failed();
        match failed.is_empty() {
            true => write!(f, "verdict: good"),
            false => write!(f, "verdict: FAILED ({})", failed.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_what_failed_and_what_was_not_tried() {
        let verdict = |name, faults| Verdict { name, claim: "all is well", faults };
        let report = ChaosReport {
            version: "17.11".into(),
            server_kind: ServerKind::Patched,
            seed: 9,
            nodes: 3,
            seconds: 60,
            took_s: 61.5,
            without: vec![Exercise::Delete],
            not_possible: vec![],
            transactions: Counts::from([("acknowledged".to_owned(), 12)]),
            faults: Counts::new(),
            conflicts: Counts::new(),
            verdicts: vec![verdict("equal", vec!["hot key 1".into()]), verdict("logs", vec![])],
            bundle: None,
        };
        let text = report.to_string();
        for part in ["seed 9", "acknowledged 12", "NOT EXERCISED  delete", "hot key 1", "FAILED (equal)"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!report.good());
    }
}
