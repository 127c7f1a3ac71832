//! How long to wait before the next try: doubles up to a limit, with jitter so that peers do not come back in step.

use core::time::Duration;

/// The rule: no state, so that it can live in shared memory as one number of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Wait before the second try. At least 1 ms.
    pub first: Duration,
    /// Longest wait.
    pub limit: Duration,
}

impl Backoff {
    /// Wait after `failures` failures in a row (0 and 1: the first wait), `jitter` in 0..=1000 thousandths of the upper half:
    /// the result lies between half of the full wait and the full wait.
    pub fn wait(&self, failures: u32, jitter: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let full = self.first.max(Duration::from_millis(1)).saturating_mul(1 << doublings).min(self.limit);
        let half = full / 2;
        half + half * jitter.min(1000) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_limit_and_never_leaves_the_upper_half() {
        let backoff = Backoff { first: Duration::from_secs(1), limit: Duration::from_secs(60) };
        for (failures, full) in [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (u32::MAX, 60)] {
            let full = Duration::from_secs(full);
            assert_eq!(backoff.wait(failures, 1000), full, "{failures} failures");
            assert_eq!(backoff.wait(failures, 0), full / 2, "{failures} failures");
            assert_eq!(backoff.wait(failures, 5000), full, "jitter beyond its range");
        }
    }
}
