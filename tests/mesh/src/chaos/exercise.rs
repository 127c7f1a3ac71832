//! What a run exercises: kinds of transactions and kinds of faults, each of which can be left out by name.

use std::fmt;
use std::str::FromStr;

use crate::prefix::ServerKind;

/// One kind of transaction, or one kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exercise {
    /// All nodes update the same twenty rows, one row a transaction.
    Update,
    /// All nodes insert the same keys, and update them soon after.
    Insert,
    /// Several rows of the hot table in one transaction, with savepoints and rollbacks.
    MultiRow,
    /// Rows that one node alone writes: INSERT, UPDATE, DELETE, key changes, values out of line.
    Own,
    /// Transfers between accounts of one node: their sum never changes, on no node.
    Transfer,
    /// All nodes write the same rows with values out of line, which most updates leave as they are.
    Large,
    /// All nodes delete and insert the same keys.
    Delete,
    /// All nodes change the keys of the same rows.
    KeyChange,
    /// All nodes insert rows that collide on a second unique key.
    Unique,
    /// SIGKILL to one process of the extension.
    KillWorker,
    /// SIGKILL to all processes of a server.
    KillServer,
    /// A server stops, at once or in order, and starts again.
    Restart,
    /// Connections between two nodes break or carry nothing, or a subscription is disabled for a while.
    Cut,
    /// A server's clock is moved by seconds.
    Clock,
    /// All processes of a server, or its apply workers, stand still.
    Pause,
    /// CHECKPOINT.
    Checkpoint,
    /// VACUUM FREEZE of all tables.
    Freeze,
    /// A further node joins under load, with an initial copy, and leaves.
    Join,
}

impl Exercise {
    /// All, transactions first.
    pub const ALL: [Self; 18] = [
        Self::Update,
        Self::Insert,
        Self::MultiRow,
        Self::Own,
        Self::Transfer,
        Self::Large,
        Self::Delete,
        Self::KeyChange,
        Self::Unique,
        Self::KillWorker,
        Self::KillServer,
        Self::Restart,
        Self::Cut,
        Self::Clock,
        Self::Pause,
        Self::Checkpoint,
        Self::Freeze,
        Self::Join,
    ];

    /// What this version is known not to survive, see `docs/limits.md`: left out unless asked for.
    pub fn known_limits(kind: ServerKind) -> Vec<Self> {
        // Commit times of a stock server are those of its clock.
        let stock = (kind == ServerKind::Stock).then_some(Self::Clock);
        stock.into_iter().collect()
    }

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Insert => "insert",
            Self::MultiRow => "multi-row",
            Self::Own => "own",
            Self::Transfer => "transfer",
            Self::Large => "large",
            Self::Delete => "delete",
            Self::KeyChange => "key-change",
            Self::Unique => "unique",
            Self::KillWorker => "kill-worker",
            Self::KillServer => "kill-server",
            Self::Restart => "restart",
            Self::Cut => "cut",
            Self::Clock => "clock",
            Self::Pause => "pause",
            Self::Checkpoint => "checkpoint",
            Self::Freeze => "freeze",
            Self::Join => "join",
        }
    }

    /// What it stands for.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Update => "UPDATE of the same rows on all nodes",
            Self::Insert => "INSERT of the same keys on all nodes",
            Self::MultiRow => "transactions of several hot rows, savepoints, rollbacks",
            Self::Own => "INSERT, UPDATE, DELETE and key changes of rows that one node writes",
            Self::Transfer => "transfers between accounts of one node",
            Self::Large => "out-of-line values written on all nodes",
            Self::Delete => "DELETE of the same keys on all nodes",
            Self::KeyChange => "key changes of the same rows on all nodes",
            Self::Unique => "collisions on a second unique key",
            Self::KillWorker => "SIGKILL of apply workers, managers, supervisors, walsenders",
            Self::KillServer => "SIGKILL of whole servers",
            Self::Restart => "stops of servers, immediate and fast",
            Self::Cut => "broken, stalled and disabled connections",
            Self::Clock => "clocks that are moved by seconds",
            Self::Pause => "servers and apply workers that stand still",
            Self::Checkpoint => "CHECKPOINT",
            Self::Freeze => "VACUUM FREEZE",
            Self::Join => "a node that joins under load and leaves",
        }
    }

    /// A kind of transaction, not of fault?
    pub fn is_workload(self) -> bool {
        self <= Self::Unique
    }
}

impl fmt::Display for Exercise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Exercise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| format!("it can be one of {}", names()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_found_by_their_names() {
        for exercise in Exercise::ALL {
            assert_eq!(exercise.name().parse(), Ok(exercise));
        }
        assert!("crash".parse::<Exercise>().is_err_and(|error| error.contains("kill-server")));
        assert_eq!(Exercise::ALL.iter().filter(|one| one.is_workload()).count(), 9);
    }

    #[test]
    fn a_stock_server_has_more_limits() {
        let patched = Exercise::known_limits(ServerKind::Patched);
        let stock = Exercise::known_limits(ServerKind::Stock);
        assert!(!patched.contains(&Exercise::Clock) && stock.contains(&Exercise::Clock));
        assert!(patched.iter().all(|limit| stock.contains(limit)));
    }
}
