//! Markers in the stream of changes: `sync_event`, `repair_mode`.

use spock_core::types::Lsn;
use spock_core::wire::control::Payload;

use crate::catalog::topology;
use crate::error::Report;
use crate::pg::authority::require_administrator;
use crate::pg::function::{Answer, Call, Value};
use crate::pg::message;
use crate::settings;

/// `sync_event(transactional)`: writes a marker that subscribers report as reached, and returns where it ends.
pub fn sync_event(call: &Call) -> Result<Answer, Report> {
    require_administrator("write a synchronization marker")?;
    let transactional = call.boolean(0).unwrap_or(false);
    let local = topology::local_node_locked()?;
    let end = message::write_flushed(&Payload::SyncEvent { origin: Some(local.node.id) }.to_bytes(), transactional);
    Ok(Answer::One(Value::Lsn(end)))
}

/// Hides what this transaction does from here on from all subscribers (`on`), or shows it again. Ends with the transaction at
/// the latest. Returns where the marker ends.
///
/// Rights are the caller's business.
pub fn repair_mode(on: bool) -> Option<Lsn> {
    let end = message::write_repairing(on);
    settings::set_repair_mode(on);
    end
}

/// `repair_mode(enabled)`: NULL is false.
pub fn set_repair_mode(call: &Call) -> Result<Answer, Report> {
    require_administrator("hide changes from replication")?;
    Ok(Answer::One(Value::Lsn(repair_mode(call.boolean(0).unwrap_or(false)))))
}
