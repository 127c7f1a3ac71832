//! Conflicts as they are recorded and counted. Who wins is decided by `spock_core::merge`.

pub mod record;
pub mod statistics;

use crate::apply::version::LocalVersion;
use spock_core::merge::{self, ConflictType, Resolution};

/// One conflict and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// Kind.
    pub kind: ConflictType,
    /// What was done.
    pub outcome: Resolution,
    /// Version of the local row; `None`: there is none.
    pub local: Option<LocalVersion>,
}

impl Conflict {
    /// A conflict because a row is not there.
    pub fn without_local(kind: ConflictType, outcome: Resolution) -> Self {
        Self { kind, outcome, local: None }
    }

    /// What the merge rule reports of a change, if it does; `local` is the row that the change met.
    pub fn reported(report: Option<merge::Report>, local: Option<LocalVersion>) -> Option<Self> {
        report.map(|(kind, outcome)| Self { kind, outcome, local })
    }
}
