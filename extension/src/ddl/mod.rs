//! Statements that travel: on the provider they are queued, on the subscriber they are run.
//! Between `spock.queue` (rows that are replicated as any) and the server's utility statements.
//!
//! # Invariants
//! 1. A statement runs on a subscriber with the role and the `search_path` that it had, and leaves neither behind.
//! 2. A statement that was run because it was queued is not queued again.
//! 3. A statement that is sent runs while its transaction holds the cluster's lock on schema changes, where there is one.
//! 4. No password of a statement reaches a log or a record.

pub mod capture;
pub mod lock;
pub mod replay;
mod upkeep;

use std::cell::Cell;

/// Why statements run in this process at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Somebody gave them to the server.
    Given,
    /// They are a command that `replicate_ddl` has queued.
    Queued,
    /// They came from a provider.
    Replayed {
        /// They were captured there, not given to `replicate_ddl`: replication sets follow.
        automatic: bool,
    },
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Given) };
}

/// Why statements run now.
pub fn mode() -> Mode {
    MODE.get()
}

/// Statements run for another reason while this lives.
///
/// On ERROR: still runs. It sets one cell of this process.
#[must_use]
pub struct ModeScope(Mode);

impl ModeScope {
    /// Enters.
    pub fn enter(mode: Mode) -> Self {
        Self(MODE.replace(mode))
    }
}

impl Drop for ModeScope {
    fn drop(&mut self) {
        MODE.set(self.0);
    }
}
