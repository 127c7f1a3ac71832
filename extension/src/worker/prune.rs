//! Removes rows of `spock.queue` that every subscriber has. Called by the manager.
//!
//! # Invariants
//! 1. A row goes only when each of our slots in this database has confirmed a position behind the commit of that row.
//! 2. Nobody is told: only inserts of the queue are sent.
//! 3. A pass looks at a bounded number of rows.

use crate::catalog::queue::{self, Queued};
use crate::error::Report;
use crate::settings;

/// Rows looked at in one pass. A row is small, and hardly anybody queues more in the time between two passes.
const ROWS_MAX: i64 = 1000;

/// What one pass leaves for the next.
#[derive(Default)]
pub struct Pruning {
    /// Rows that can go when all slots have confirmed the position.
    waiting: Option<(String, Vec<Queued>)>,
}

impl Pruning {
    /// One pass, inside a transaction.
    pub fn pass(&mut self) -> Result<(), Report> {
        if let Some((position, rows)) = &self.waiting {
            if !queue::all_slots_confirmed(position)? {
                return Ok(());
            }
            queue::delete(rows)?;
            self.waiting = None;
        }
        // What can be seen here has committed, so it lies before the position that is read next.
        let rows = queue::older_than(settings::queue_retention_s(), ROWS_MAX)?;
        if !rows.is_empty() {
            self.waiting = Some((queue::position()?, rows));
        }
        Ok(())
    }
}
