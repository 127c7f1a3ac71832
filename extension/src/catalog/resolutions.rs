//! The history of conflicts, written when `spock.save_resolutions` is on. Part of the apply transaction.

use spock_core::types::{Lsn, NodeId, PgTime};

use crate::catalog::query::execute;
use crate::catalog::topology::lsn_text;
use crate::error::Report;

/// Which version of a row took part in a conflict.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Version {
    /// Node that wrote it; `None`: not known, or this node.
    pub origin: Option<NodeId>,
    /// The row as JSON (`row_to_json`).
    pub tuple: Option<String>,
    /// Transaction that wrote it, on the node named by the side.
    pub xid: Option<u32>,
    /// Its commit time.
    pub time: Option<PgTime>,
}

/// One conflict and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// The local node.
    pub node_name: String,
    /// Qualified and quoted.
    pub relation: Option<String>,
    /// The index that found the local row.
    pub index: Option<String>,
    /// E.g. `update_origin_differs`.
    pub conflict_type: &'static str,
    /// `apply_remote`, `keep_local` or `skip`.
    pub outcome: &'static str,
    /// What was here.
    pub local: Version,
    /// What arrived.
    pub remote: Version,
    /// Commit LSN of the remote transaction.
    pub remote_lsn: Option<Lsn>,
}

/// Writes one conflict.
pub fn insert(resolution: &Resolution) -> Result<(), Report> {
    let Resolution { local, remote, .. } = resolution;
    execute(
        "INSERT INTO spock.resolutions (node_name, log_time, relname, idxname, conflict_type, conflict_resolution,
             local_origin, local_tuple, local_xid, local_timestamp,
             remote_origin, remote_tuple, remote_xid, remote_timestamp, remote_lsn)
         VALUES ($1::name, pg_catalog.clock_timestamp(), $2, $3, $4, $5,
             $6, $7, $8::xid, 'epoch'::timestamptz + ($9 + 946684800000000) * '1 microsecond'::interval,
             $10, $11, $12::xid, 'epoch'::timestamptz + ($13 + 946684800000000) * '1 microsecond'::interval, $14::pg_lsn)",
        &[
            resolution.node_name.as_str().into(),
            resolution.relation.as_deref().into(),
            resolution.index.as_deref().into(),
            resolution.conflict_type.into(),
            resolution.outcome.into(),
            local.origin.map(number).into(),
            local.tuple.as_deref().into(),
            local.xid.map(|xid| xid.to_string()).into(),
            local.time.map(PgTime::micros).into(),
            remote.origin.map(number).into(),
            remote.tuple.as_deref().into(),
            remote.xid.map(|xid| xid.to_string()).into(),
            remote.time.map(PgTime::micros).into(),
            lsn_text(resolution.remote_lsn).into(),
        ],
    )?;
    Ok(())
}

/// Forgets conflicts that were written down more than so many days ago. 0 or less: none. Returns how many.
pub fn delete_older_than(days: i32) -> Result<usize, Report> {
    if days <= 0 {
        return Ok(0);
    }
    execute(
        "DELETE FROM spock.resolutions
          WHERE log_time < pg_catalog.now() - pg_catalog.make_interval(days => $1)",
        &[days.into()],
    )
}

/// The columns are `integer`: a 16-bit id always fits, and 32-bit ids of very old rows keep their bits.
fn number(node: NodeId) -> i32 {
    node.get().cast_signed()
}
