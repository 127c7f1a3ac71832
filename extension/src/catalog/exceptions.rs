//! The log of remote changes that could not be applied. Tools of the C edition read it, so the columns keep their meaning.

use spock_core::types::{Lsn, NodeId, PgTime};

use crate::catalog::query::execute;
use crate::catalog::topology::{Subscription, lsn_text, oid};
use crate::error::Report;

/// Records that `subscription` was disabled because the remote transaction `remote_xid` cannot be applied. `skip_lsn` is
/// what `spock.sub_alter_skiplsn` takes to leave that transaction out; tools read it from the message as `skip_lsn = X/X`.
/// `message` holds no row values and no secrets.
pub fn record_disable(
    subscription: &Subscription,
    remote_xid: u32,
    commit_ts: PgTime,
    skip_lsn: Option<Lsn>,
    message: &str,
) -> Result<(), Report> {
    record_disable_for(
        subscription.origin.id,
        remote_xid,
        commit_ts,
        &format!("{message} (skip_lsn = {})", lsn_text(skip_lsn)),
    )
}

fn record_disable_for(origin: NodeId, remote_xid: u32, commit_ts: PgTime, message: &str) -> Result<(), Report> {
    execute(
        "INSERT INTO spock.exception_log (remote_origin, remote_commit_ts, command_counter, retry_errored_at, remote_xid,
             table_schema, table_name, operation, error_message)
         VALUES ($1::oid, 'epoch'::timestamptz + ($2 + 946684800000000) * '1 microsecond'::interval, 0,
             pg_catalog.clock_timestamp(), $3, '', '', 'SUB_DISABLE', $4)",
        &[oid(origin.get()), commit_ts.micros().into(), i64::from(remote_xid).into(), message.into()],
    )?;
    Ok(())
}
