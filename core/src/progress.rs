//! What a subscriber has received, applied and made durable, and what it may confirm to the provider.
//!
//! # Invariants
//! 1. `flushed <= applied <= written`, and none of them ever moves back.
//! 2. Nothing is confirmed as flushed before the local commit that carries it is durable here.
//! 3. All positions of a status are the provider's; local positions only decide when.

use crate::types::Lsn;
use std::collections::VecDeque;

/// A commit that was applied here and is not yet known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    local_end: Lsn,
    remote_end: Lsn,
}

/// The positions for one status message. `None`: nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Positions {
    /// Received up to here.
    pub written: Option<Lsn>,
    /// Durable here up to here.
    pub flushed: Option<Lsn>,
    /// Applied up to here.
    pub applied: Option<Lsn>,
}

/// Progress of one stream.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    received: Option<Lsn>,
    pending: VecDeque<Pending>,
    reported: Positions,
}

impl Progress {
    /// Starts at the position from which the stream was asked for. What was applied up to it lies before `local_end` in this
    /// node's WAL, and is confirmed as soon as that is safe.
    pub fn starting_at(start: Option<Lsn>, local_end: Option<Lsn>) -> Self {
        let pending = start.zip(local_end).map(|(remote_end, local_end)| Pending { local_end, remote_end });
        let reported = Positions { written: start, flushed: None, applied: start };
        Self { received: start, pending: pending.into_iter().collect(), reported }
    }

    /// The provider has sent, or decoded without sending, everything up to `upto`.
    pub fn received(&mut self, upto: Option<Lsn>) {
        self.received = self.received.max(upto);
    }

    /// The highest position heard of.
    pub fn last_received(&self) -> Option<Lsn> {
        self.received
    }

    /// A remote transaction that ends at `remote_end` was committed here; its commit record ends at `local_end`. Calls come
    /// in commit order.
    pub fn applied(&mut self, remote_end: Lsn, local_end: Lsn) {
        self.received(Some(remote_end));
        self.pending.push_back(Pending { local_end, remote_end });
    }

    /// Commits that are not yet durable here.
    pub fn unflushed(&self) -> usize {
        self.pending.len()
    }

    /// What may be confirmed now that this node's WAL is durable up to `local_flushed`, also for who takes its place. Positions inside a transaction that
    /// is still being received are below its commit, so they may be confirmed all the same.
    pub fn report(&mut self, local_flushed: Option<Lsn>) -> Positions {
        let mut newest_durable = None;
        while let Some(first) = self.pending.front() {
            if Some(first.local_end) > local_flushed {
                break;
            }
            newest_durable = Some(first.remote_end);
            self.pending.pop_front();
        }
        let written = self.received;
        let (flushed, applied) = match self.pending.back() {
            None => (written, written),
            Some(last) => (newest_durable, Some(last.remote_end)),
        };
        self.reported = Positions {
            written: self.reported.written.max(written),
            flushed: self.reported.flushed.max(flushed),
            applied: self.reported.applied.max(applied),
        };
        self.reported
    }

    /// What the last [`Progress::report`] said.
    pub fn last_report(&self) -> Positions {
        self.reported
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lsn(raw: u64) -> Option<Lsn> {
        Lsn::new(raw)
    }

    fn at(raw: u64) -> Lsn {
        Lsn::new(raw).expect("not zero")
    }

    #[test]
    fn nothing_is_flushed_before_it_is_durable_here() {
        let mut progress = Progress::starting_at(lsn(100), lsn(1));
        assert_eq!(progress.report(lsn(0)).flushed, None, "what was applied before is not known to be safe");
        progress.received(lsn(150));
        assert_eq!(progress.report(lsn(1)).flushed, lsn(150), "nothing outstanding: all that was received");
        progress.applied(at(200), at(10));
        progress.applied(at(300), at(20));
        progress.received(lsn(350));
        let early = progress.report(lsn(9));
        assert_eq!((early.written, early.applied, early.flushed), (lsn(350), lsn(300), lsn(150)));
        let half = progress.report(lsn(10));
        assert_eq!((half.applied, half.flushed), (lsn(300), lsn(200)));
        let all = progress.report(lsn(20));
        assert_eq!((all.applied, all.flushed), (lsn(350), lsn(350)));
        assert_eq!(progress.unflushed(), 0);
    }

    proptest! {
        #[test]
        fn positions_are_ordered_and_never_move_back(steps in proptest::collection::vec((0..3_u8, 1..20_u64), 1..60)) {
            let mut progress = Progress::starting_at(lsn(1), None);
            let (mut remote, mut local, mut durable) = (1_u64, 0_u64, 0_u64);
            let mut commits: Vec<(u64, u64)> = Vec::new();
            let mut last = progress.last_report();
            for (kind, step) in steps {
                match kind {
                    0 => { remote += step; progress.received(lsn(remote)); }
                    1 => { remote += step; local += step; commits.push((remote, local)); progress.applied(at(remote), at(local)); }
                    _ => durable = (durable + step).min(local),
                }
                let now = progress.report(lsn(durable));
                prop_assert!(now.flushed <= now.applied && now.applied <= now.written);
                prop_assert!(now.written >= last.written && now.applied >= last.applied && now.flushed >= last.flushed);
                for (remote_end, local_end) in &commits {
                    prop_assert!(*local_end <= durable || now.flushed < lsn(*remote_end), "confirmed what could be lost");
                }
                last = now;
            }
        }
    }
}
