//! What sessions ask an apply worker about its parked transactions: to apply them, to notice that some have gone.
//!
//! # Invariants
//! 1. A request stays until a worker has answered it, whichever that is; a server that starts has forgotten it.
//! 2. Nothing is looked at here while nothing is parked.

use super::{OWN, Role, Row, WORKERS, with_own};
use crate::pg::process;
use spock_core::types::SubId;

impl Row {
    /// Two requests that have not been answered become one.
    pub(super) fn ask_replay(&mut self, id: i64) {
        let pending = self.replay_asked != self.replay_done;
        self.replay_id = if pending && self.replay_id != id { 0 } else { id };
        self.replay_asked = self.replay_asked.wrapping_add(1);
    }
}

/// Asks the apply worker of `sub` to apply the parked transaction `id` with those that it waits for; 0: all. Returns the number
/// of the request. `None`: no worker was ever wanted for it since the server started.
pub fn request_replay(database: u32, sub: SubId, id: i64) -> Option<u32> {
    let (number, to_wake) = {
        let mut rows = WORKERS.write();
        let manager = rows.iter().find(|row| row.is(Role::Manager, database, 0)).map_or(0, |row| row.pid);
        let row = rows.iter_mut().find(|row| row.is(Role::Apply, database, sub.get()))?;
        row.ask_replay(id);
        // Waiting for a retry: it need not wait to apply what is here.
        row.retry_at = if row.retry_at == 0 { 0 } else { process::now().micros() };
        (row.replay_asked, [row.pid, manager])
    };
    to_wake.into_iter().filter(|pid| *pid != 0).for_each(process::wake);
    Some(number)
}

/// Whether request `number` has been answered. Requests are answered in their order.
pub fn replay_answered(database: u32, sub: SubId, number: u32) -> bool {
    let rows = WORKERS.read();
    let row = rows.iter().find(|row| row.is(Role::Apply, database, sub.get()));
    row.is_none_or(|row| row.replay_done.wrapping_sub(number).cast_signed() >= 0)
}

/// What this apply worker has been asked for and has not answered: number of the last request and id.
pub fn replay_asked() -> Option<(u32, i64)> {
    let rows = WORKERS.read();
    let row = rows.get(OWN.get()?)?;
    (row.replay_asked != row.replay_done).then_some((row.replay_asked, row.replay_id))
}

/// This apply worker has answered the requests up to `number`.
pub fn replay_done(number: u32) {
    with_own(|row| row.replay_done = number);
}

/// Whether parked transactions of this apply worker have gone since the last call.
pub fn take_parked_attention() -> bool {
    let Some(index) = OWN.get() else { return false };
    if WORKERS.read().get(index).is_none_or(|row| row.parked_changed == 0) {
        return false;
    }
    with_own(|row| row.parked_changed = 0);
    true
}
