//! What was measured, as numbers and as a table. Medians are compared; a ratio above 1 means that ours is faster.

use std::fmt;

use super::Measured;
use super::side::Side;
use super::workload::Workload;
use crate::prefix::ServerKind;

/// Median and 99th percentile of times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Half of the values are below.
    pub median: f64,
    /// One of a hundred is above.
    pub p99: f64,
}

impl Spread {
    /// Of any number of values; `None` for none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |share: f64| sorted[((last as f64) * share).round() as usize];
        Some(Self { median: (at(0.5) + sorted[last / 2]) / 2.0, p99: at(0.99) })
    }
}

/// One workload on both sides.
#[derive(Debug, Clone)]
pub struct Compared {
    /// Which.
    pub workload: Workload,
    /// All runs of the server's own replication.
    pub native: Vec<Measured>,
    /// All runs of ours.
    pub ours: Vec<Measured>,
}

impl Compared {
    /// The runs of one side.
    pub fn of(&self, side: Side) -> &[Measured] {
        match side {
            Side::Native => &self.native,
            Side::Ours => &self.ours,
        }
    }

    /// Wall times of one side.
    pub fn wall(&self, side: Side) -> Option<Spread> {
        Spread::of(self.of(side).iter().flat_map(|run| run.seconds.iter().copied()))
    }

    /// Median processor time of one side: worker, sender.
    pub fn processor(&self, side: Side) -> (Option<f64>, Option<f64>) {
        let median = |values: Vec<f64>| Spread::of(values).map(|spread| spread.median);
        let runs = self.of(side);
        (
            median(runs.iter().filter_map(|run| run.worker_cpu_s).collect()),
            median(runs.iter().filter_map(|run| run.sender_cpu_s).collect()),
        )
    }

    /// Native time through ours, by medians.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.wall(Side::Native)?.median / self.wall(Side::Ours)?.median)
    }

    /// The same for processor time: worker, sender.
    pub fn processor_ratios(&self) -> (Option<f64>, Option<f64>) {
        let (native, ours) = (self.processor(Side::Native), self.processor(Side::Ours));
        let ratio = |native: Option<f64>, ours: Option<f64>| Some(native? / ours?);
        (ratio(native.0, ours.0), ratio(native.1, ours.1))
    }
}

/// Memory of one side's apply worker during a long transaction.
#[derive(Debug, Clone)]
pub struct MemoryReport {
    /// Whose.
    pub side: Side,
    /// Percent of the transaction, private memory in kB.
    pub private_kb: Vec<(u64, Option<u64>)>,
}

/// Everything.
#[derive(Debug, Clone)]
pub struct BenchReport {
    /// The server's version.
    pub version: String,
    /// Patched or stock.
    pub server_kind: ServerKind,
    /// Runs of each workload on each side.
    pub runs: u32,
    /// One entry per workload.
    pub compared: Vec<Compared>,
    /// One entry per side, where it was measured.
    pub memory: Vec<MemoryReport>,
}

fn ratio(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.2}"))
}

fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 0.1 => format!("{:.3} ms", seconds * 1000.0),
        Some(seconds) => format!("{seconds:.3} s"),
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "PostgreSQL {} ({}), {} runs a side, in turn", self.version, self.server_kind, self.runs)?;
        writeln!(f, "native: CREATE SUBSCRIPTION with default options (text, streaming off before 18)")?;
        writeln!(f, "ours:   spock.sub_create with default options")?;
        writeln!(f, "both:   same server settings, fsync off, apply with synchronous_commit off")?;
        writeln!(f, "ratio = native / ours, above 1: ours is faster; cpu: apply worker, sender")?;
        writeln!(
            f,
            "{:<34} {:>6} {:>11} {:>11} {:>8} {:>8}",
            "workload", "ratio", "native", "ours", "cpu app", "cpu send"
        )?;
        for one in &self.compared {
            let (worker, sender) = one.processor_ratios();
            let median = |side| time(one.wall(side).map(|spread| spread.median));
            writeln!(
                f,
                "{:<34} {:>6} {:>11} {:>11} {:>8} {:>8}",
                one.workload.describe(),
                ratio(one.ratio()),
                median(Side::Native),
                median(Side::Ours),
                ratio(worker),
                ratio(sender)
            )?;
            if one.workload == Workload::Latency
                && let (Some(native), Some(ours)) = (one.wall(Side::Native), one.wall(Side::Ours))
            {
                writeln!(
                    f,
                    "{:<34} {:>6.2} {:>11} {:>11}",
                    "  of 100 commits the slowest",
                    native.p99 / ours.p99,
                    time(Some(native.p99)),
                    time(Some(ours.p99))
                )?;
            }
        }
        for one in &self.memory {
            write!(f, "private memory of the apply worker, {:<6}", one.side)?;
            for (percent, kb) in &one.private_kb {
                let kb = kb.map_or("-".to_owned(), |kb| format!("{:.1} MB", kb as f64 / 1024.0));
                write!(f, "  {percent} %: {kb}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0]), Some(Spread { median: 3.0, p99: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0]).map(|spread| spread.median), Some(2.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of((1..=100).map(f64::from)).map(|spread| spread.p99), Some(99.0));
    }

    #[test]
    fn a_ratio_above_one_means_that_ours_is_faster() {
        let run = |seconds: f64| Measured { seconds: vec![seconds], worker_cpu_s: Some(seconds), sender_cpu_s: None };
        let compared = Compared { workload: Workload::Insert, native: vec![run(3.0)], ours: vec![run(2.0)] };
        assert_eq!((compared.ratio(), compared.processor_ratios()), (Some(1.5), (Some(1.5), None)));
    }
}
