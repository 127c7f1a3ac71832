//! Replication slots as the server's own view shows them.

use crate::catalog::query::select;
use crate::catalog::topology::parse_lsn;
use crate::error::Report;
use spock_core::types::Lsn;

/// How far the subscriber behind a slot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// The slot.
    pub name: String,
    /// What the subscriber has on its disk. `None`: nothing yet.
    pub flushed: Option<Lsn>,
    /// The server has removed WAL that the slot needs: it will never move again.
    pub lost: bool,
}

/// The slots of our output plugin in this database, or the one of that name.
pub fn confirmed(name: Option<&str>) -> Result<Vec<Confirmed>, Report> {
    select(
        "SELECT slot_name::text, confirmed_flush_lsn::text, wal_status IS NOT DISTINCT FROM 'lost'
           FROM pg_catalog.pg_replication_slots
          WHERE database = pg_catalog.current_database() AND plugin IN ('spock_output', 'spock')
            AND slot_name = coalesce($1::name, slot_name) ORDER BY slot_name",
        &[name.into()],
        |row| {
            let flushed: Option<String> = row.opt(2)?;
            Ok(Confirmed { name: row.get(1)?, flushed: flushed.as_deref().and_then(parse_lsn), lost: row.get(3)? })
        },
    )
}

/// A slot that could follow to standbys and does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfollowed {
    /// The slot.
    pub name: String,
    /// Whether a sender uses it now: then it cannot be changed.
    pub active: bool,
}

/// The slots of our output plugin, in all databases, that do not follow to standbys. From 17 on; the columns are asked for by
/// name through JSON, because earlier servers do not have them.
pub fn without_failover() -> Result<Vec<Unfollowed>, Report> {
    select(
        "SELECT s.slot_name::text, s.active
           FROM pg_catalog.pg_replication_slots s, pg_catalog.to_jsonb(s) j
          WHERE s.plugin = 'spock_output' AND s.slot_type = 'logical' AND NOT s.temporary
            AND j->>'failover' = 'false' AND j->>'synced' = 'false' AND s.wal_status IS DISTINCT FROM 'lost'
            AND j->>'invalidation_reason' IS NULL
          ORDER BY s.slot_name",
        &[],
        |row| Ok(Unfollowed { name: row.get(1)?, active: row.get(2)? }),
    )
}
