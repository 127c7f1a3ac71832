//! The states of a subscription and of a table that is being copied, as `spock.local_sync_status` holds them.
//!
//! ```text
//! subscription  INIT ─► STRUCTURE ─► DATA ─► CONSTRAINTS ─► CATCHUP ─► READY      (steps that its kind lacks are left out)
//! table         INIT ─► STARTED ─► DATA ─► SYNCWAIT ─► CATCHUP ─► SYNCDONE ─► READY, and FAILED from any but the first
//! ```
//! All states are in the catalog and survive a crash. A subscription found in INIT, CATCHUP or READY goes on by itself.

use crate::options::identifiers;

/// A table as the catalog of states names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
}

impl TableName {
    /// `"schema"."table"`, for statements and options.
    pub fn quoted(&self) -> String {
        format!("{}.{}", identifiers::quote(&self.schema), identifiers::quote(&self.table))
    }
}

impl core::fmt::Display for TableName {
    /// For people: without quotes.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// What the initial sync copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncKind {
    /// Nothing: slot and position only.
    Init,
    /// Schema.
    Structure,
    /// Rows.
    Data,
    /// Both.
    Full,
}

impl SyncKind {
    /// The catalog's character.
    pub const fn as_char(self) -> char {
        match self {
            Self::Init => 'i',
            Self::Structure => 's',
            Self::Data => 'd',
            Self::Full => 'f',
        }
    }

    /// From the catalog's character.
    pub const fn from_char(code: char) -> Option<Self> {
        match code {
            'i' => Some(Self::Init),
            's' => Some(Self::Structure),
            'd' => Some(Self::Data),
            'f' => Some(Self::Full),
            _ => None,
        }
    }
}

/// How far the sync of a subscription or table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SyncState {
    /// Asked for.
    Init,
    /// A sync worker took the table.
    Started,
    /// Schema is being copied.
    Structure,
    /// Rows are being copied.
    Data,
    /// Indexes and constraints are being made.
    Constraints,
    /// The table is copied and waits for the apply worker.
    SyncWait,
    /// The gap between copy and stream is being filled.
    Catchup,
    /// The table is complete up to its position.
    SyncDone,
    /// Normal replication.
    Ready,
    /// The attempt failed; an operator decides.
    Failed,
}

impl SyncState {
    /// All states, for tables.
    pub const ALL: [Self; 10] = [
        Self::Init,
        Self::Started,
        Self::Structure,
        Self::Data,
        Self::Constraints,
        Self::SyncWait,
        Self::Catchup,
        Self::SyncDone,
        Self::Ready,
        Self::Failed,
    ];

    /// The catalog's character.
    pub const fn as_char(self) -> char {
        match self {
            Self::Init => 'i',
            Self::Started => 'p',
            Self::Structure => 's',
            Self::Data => 'd',
            Self::Constraints => 'c',
            Self::SyncWait => 'w',
            Self::Catchup => 'u',
            Self::SyncDone => 'y',
            Self::Ready => 'r',
            Self::Failed => 'f',
        }
    }

    /// From the catalog's character.
    pub fn from_char(code: char) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_char() == code)
    }

    /// What `sub_show_table` calls it.
    pub const fn shown_as(self) -> &'static str {
        match self {
            Self::Init => "sync_init",
            Self::Structure => "sync_structure",
            Self::Data => "sync_data",
            Self::Constraints => "sync_constraints",
            Self::SyncWait => "sync_waiting",
            Self::Catchup => "catchup",
            Self::SyncDone => "synchronized",
            Self::Ready => "replicating",
            Self::Started | Self::Failed => "unknown",
        }
    }

    /// Whether a subscription's worker that starts in this state may go on by itself.
    pub const fn is_restartable(self) -> bool {
        matches!(self, Self::Init | Self::Catchup | Self::Ready)
    }

    /// Whether the subscription's row may go from this state to `next`.
    pub const fn subscription_may_become(self, next: Self) -> bool {
        use SyncState as S;
        matches!(
            (self, next),
            (S::Init, S::Structure | S::Data | S::Catchup)
                | (S::Structure, S::Data | S::Constraints)
                | (S::Data, S::Constraints | S::Catchup)
                | (S::Constraints, S::Catchup)
                | (S::Catchup, S::Ready)
        )
    }

    /// Whether a table's row may go from this state to `next`.
    pub const fn table_may_become(self, next: Self) -> bool {
        use SyncState as S;
        matches!(
            (self, next),
            (S::Init, S::Started)
                | (S::Started, S::Data | S::Failed)
                | (S::Data, S::SyncWait | S::Failed)
                | (S::SyncWait, S::Catchup | S::Failed)
                | (S::Catchup, S::SyncDone | S::Failed)
                | (S::SyncDone, S::Ready | S::Init)
                | (S::Ready | S::Failed, S::Init)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_distinct_and_read_back() {
        for state in SyncState::ALL {
            assert_eq!(SyncState::from_char(state.as_char()), Some(state));
        }
        for kind in [SyncKind::Init, SyncKind::Structure, SyncKind::Data, SyncKind::Full] {
            assert_eq!(SyncKind::from_char(kind.as_char()), Some(kind));
        }
        assert_eq!(SyncState::from_char('x'), None);
    }

    #[test]
    fn a_subscription_reaches_ready_from_every_state_that_it_can_enter() {
        let mut reached = vec![SyncState::Init];
        let mut at = 0;
        while at < reached.len() {
            let from = reached[at];
            at += 1;
            let next = SyncState::ALL.into_iter().filter(|to| from.subscription_may_become(*to));
            let fresh: Vec<_> = next.filter(|to| !reached.contains(to)).collect();
            reached.extend(fresh);
        }
        assert!(reached.contains(&SyncState::Ready));
        assert!(!reached.contains(&SyncState::Failed));
        for state in reached {
            let dead_end = SyncState::ALL.into_iter().all(|to| !state.subscription_may_become(to));
            assert_eq!(dead_end, state == SyncState::Ready, "{state:?}");
        }
    }
}
