//! The merge rule that replicas run: the shipped one, or one that a test has broken on purpose.

use spock_core::merge::{self, Change, Decision, Known, Version};

/// What a replica asks for each change, and what else may be got wrong.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// [`merge::decide`], unless a test breaks it.
    pub decide: fn(&Known, Change, &Version) -> Decision,
    /// The table has a column that counts.
    pub counts: bool,
    /// Whether stable tombstones are let go.
    pub releases: bool,
    /// Wrong: without waiting for the others.
    pub releases_at_once: bool,
    /// Whether stable rows lose their time, as rows do that the server freezes.
    pub freezes: bool,
    /// Wrong: rows that a unique key displaces are gone.
    pub displaced_are_deleted: bool,
    /// Wrong: a node that joins gets rows and nothing else.
    pub joins_without_tombstones: bool,
    /// Wrong: an unchanged out-of-line value is never sent, and kept as the subscriber has it.
    pub unchanged_is_never_sent: bool,
}

impl Rule {
    /// As shipped.
    pub const SHIPPED: Self = Self {
        decide: merge::decide,
        counts: true,
        releases: true,
        releases_at_once: false,
        freezes: true,
        displaced_are_deleted: false,
        joins_without_tombstones: false,
        unchanged_is_never_sent: false,
    };
}

/// Wrong: a DELETE is not remembered.
pub fn without_tombstones(known: &Known, change: Change, version: &Version) -> Decision {
    Decision { remember: false, ..merge::decide(known, change, version) }
}

/// Wrong: whoever comes later wins.
pub fn last_arrival_wins(known: &Known, change: Change, version: &Version) -> Decision {
    let row = known.row.map(|row| Version { time: None, ..row });
    merge::decide(&Known { row, tombstone: None, truncated: None, ..*known }, change, version)
}
