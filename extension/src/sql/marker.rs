//! Markers in the stream of changes: `sync_event`.

use spock_core::wire::control::Payload;

use crate::catalog::topology;
use crate::error::Report;
use crate::pg::authority::require_administrator;
use crate::pg::function::{Answer, Call, Value};
use crate::pg::message;

/// `sync_event(transactional)`: writes a marker that subscribers report as reached, and returns where it ends.
pub fn sync_event(call: &Call) -> Result<Answer, Report> {
    require_administrator("write a synchronization marker")?;
    let transactional = call.boolean(0).unwrap_or(false);
    let local = topology::local_node_locked()?;
    let end = message::write_flushed(&Payload::SyncEvent { origin: Some(local.node.id) }.to_bytes(), transactional);
    Ok(Answer::One(Value::Lsn(end)))
}
