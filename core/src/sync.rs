//! The states of a subscription and of a table that is being copied, as `spock.local_sync_status` holds them.
//!
//! ```text
//! subscription  INIT ─► STRUCTURE ─► DATA ─► CONSTRAINTS ─► CATCHUP ─► READY      (steps that its kind lacks are left out)
//! table         INIT ─► STARTED ─► DATA ─► SYNCWAIT ─► CATCHUP ─► SYNCDONE ─► READY, and FAILED from any but the first
//!               INIT ─► DATA ─► READY while the subscription itself is in DATA: its tables share one snapshot
//! ```
//! All states are in the catalog and survive a crash; from each of them the work goes on ([`subscription_step`],
//! [`table_step`]). What is copied and the state that says so are one commit, so a state never claims too much.
//!
//! # Who applies a change of a table that is being copied
//! ```text
//! apply ahead   copy ends at 10, apply worker is at 50: the table's own stream brings 10 to 50, the apply worker goes on at 50
//! sync ahead    the table's own stream ends at 60 while the apply worker is at 50: the apply worker leaves out 50 to 60
//! ```
//! [`applies`] is that rule.

use crate::options::identifiers;
use crate::types::Lsn;

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
            Self::Started => "sync_started",
            Self::Failed => "sync_failed",
        }
    }

    /// Whether a worker still has to do something for a table in this state. A table that failed waits for an operator.
    pub const fn wants_worker(self) -> bool {
        !matches!(self, Self::SyncDone | Self::Ready | Self::Failed)
    }

    /// Whether the subscription's row may go from this state to `next`.
    pub const fn subscription_may_become(self, next: Self) -> bool {
        use SyncState as S;
        matches!(
            (self, next),
            (S::Init, S::Structure | S::Data | S::Catchup)
                | (S::Structure, S::Structure | S::Data | S::Constraints)
                | (S::Data, S::Data)
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
            (S::Init, S::Started | S::Data)
                | (S::Started, S::Started | S::Data | S::Ready | S::Failed)
                | (S::Data, S::Started | S::Data | S::SyncWait | S::Ready | S::Failed)
                | (S::SyncWait, S::Catchup | S::Failed)
                | (S::Catchup, S::SyncDone | S::SyncWait | S::Failed)
                | (S::SyncDone, S::Ready | S::Init)
                | (S::Ready | S::Failed, S::Init)
        )
    }
}

/// What the worker of a subscription does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionStep {
    /// Make slot, snapshot and origin. An interrupted attempt has left nothing that counts: its slot is replaced.
    Begin {
        /// Copy the schema, up to indexes and constraints, in one transaction with the next state.
        structure: bool,
        /// Copy the rows.
        data: bool,
    },
    /// The schema is here, rows may be: make a new slot and snapshot, empty the tables, copy them again. They cannot be
    /// completed one by one, because indexes and constraints come after all rows.
    CopyAgain,
    /// The slot is there, the snapshot of the interrupted copy is gone: tables that are not complete are synchronised one by
    /// one, beside the stream.
    LeaveTables,
    /// Make indexes and constraints, in one transaction with the next state.
    Constrain,
    /// Everything is copied.
    Finish,
    /// Stream.
    Stream,
    /// No such state belongs to a subscription.
    Broken,
}

/// What follows from the state in which a subscription's worker finds it.
pub const fn subscription_step(kind: SyncKind, state: SyncState) -> SubscriptionStep {
    let structure = matches!(kind, SyncKind::Structure | SyncKind::Full);
    let data = matches!(kind, SyncKind::Data | SyncKind::Full);
    match state {
        SyncState::Init | SyncState::Structure => SubscriptionStep::Begin { structure, data },
        SyncState::Data if structure => SubscriptionStep::CopyAgain,
        SyncState::Data => SubscriptionStep::LeaveTables,
        SyncState::Constraints => SubscriptionStep::Constrain,
        SyncState::Catchup => SubscriptionStep::Finish,
        SyncState::Ready => SubscriptionStep::Stream,
        SyncState::Started | SyncState::SyncWait | SyncState::SyncDone | SyncState::Failed => SubscriptionStep::Broken,
    }
}

/// What a sync worker does for a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableStep {
    /// Copy it under the snapshot of its subscription.
    CopyWithAll,
    /// Copy it with a slot and a snapshot of its own. What an interrupted attempt copied was rolled back.
    CopyAlone,
    /// It is copied: bring it up to the apply worker.
    CatchUp,
    /// Nothing but dropping what was used for it.
    CleanUp,
    /// Its subscription is not that far.
    NotNow,
}

/// What follows from the states of a subscription and of one of its tables.
pub const fn table_step(subscription: SyncState, table: SyncState) -> TableStep {
    match (subscription, table) {
        (_, SyncState::SyncDone | SyncState::Ready | SyncState::Failed) => TableStep::CleanUp,
        (SyncState::Data, SyncState::Init | SyncState::Data) => TableStep::CopyWithAll,
        (SyncState::Ready, SyncState::SyncWait | SyncState::Catchup) => TableStep::CatchUp,
        (SyncState::Ready, _) => TableStep::CopyAlone,
        _ => TableStep::NotNow,
    }
}

/// Whether the apply worker applies a change of a table in `state` (reached at `lsn`) that a transaction made whose commit
/// record begins at `commit`. Otherwise the change is part of the copy, or of the table's own stream.
pub fn applies(state: SyncState, lsn: Option<Lsn>, commit: Option<Lsn>) -> bool {
    match state {
        SyncState::Ready => true,
        SyncState::SyncDone => lsn <= commit,
        _ => false,
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
    fn a_change_is_applied_once_whoever_is_ahead() {
        let at = |lsn: u64| Lsn::new(lsn);
        let cases = [
            (SyncState::Init, None, at(10), false),
            (SyncState::Data, at(10), at(50), false),
            (SyncState::SyncWait, at(10), at(50), false),
            (SyncState::Catchup, at(50), at(55), false),
            (SyncState::SyncDone, at(60), at(55), false),
            (SyncState::SyncDone, at(60), at(60), true),
            (SyncState::SyncDone, at(60), at(61), true),
            (SyncState::Ready, at(60), at(1), true),
            (SyncState::Failed, at(60), at(99), false),
        ];
        for (state, lsn, commit, want) in cases {
            assert_eq!(applies(state, lsn, commit), want, "{state:?} {lsn:?} {commit:?}");
        }
    }

    #[test]
    fn every_state_has_a_way_on() {
        use SubscriptionStep as S;
        for state in SyncState::ALL {
            let reachable =
                !matches!(state, SyncState::Started | SyncState::SyncWait | SyncState::SyncDone | SyncState::Failed);
            for kind in [SyncKind::Init, SyncKind::Structure, SyncKind::Data, SyncKind::Full] {
                assert_eq!(subscription_step(kind, state) != S::Broken, reachable, "{kind:?} {state:?}");
            }
            let step = table_step(SyncState::Ready, state);
            assert_eq!(matches!(step, TableStep::CopyAlone | TableStep::CatchUp), state.wants_worker(), "{state:?}");
        }
        let full = SyncKind::Full;
        assert_eq!(subscription_step(full, SyncState::Init), S::Begin { structure: true, data: true });
        assert_eq!(subscription_step(SyncKind::Init, SyncState::Init), S::Begin { structure: false, data: false });
        assert_eq!(subscription_step(full, SyncState::Data), S::CopyAgain);
        assert_eq!(subscription_step(SyncKind::Data, SyncState::Data), S::LeaveTables);
        assert_eq!(table_step(SyncState::Data, SyncState::Init), TableStep::CopyWithAll);
        assert_eq!(table_step(SyncState::Constraints, SyncState::Init), TableStep::NotNow);
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
            let ends = |to: SyncState| to == state || !state.subscription_may_become(to);
            let dead_end = SyncState::ALL.into_iter().all(ends);
            assert_eq!(dead_end, state == SyncState::Ready, "{state:?}");
        }
    }
}
