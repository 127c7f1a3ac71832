//! A part of the open transaction with an id of its own: rows that it writes can have another version than the rest.

use super::horizon::FullXid;
use super::server::set_subtransaction_version;
use pgrx::pg_sys;

/// Which version rows of a part have.
#[derive(Debug, Clone, Copy)]
pub struct PartVersion {
    /// Commit time, microseconds since 2000.
    pub time: i64,
    /// Node, 0: this one.
    pub origin: u16,
}

/// What is known of a part that is being written.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Id of the part. Rows that it writes show it as their transaction.
    pub xid: FullXid,
    /// The server commits the part with its version. False: whoever wants to know the version must keep it elsewhere.
    pub stamped: bool,
}

/// Runs `write` in a part of the open transaction.
///
/// On ERROR: the part stays open; whoever catches the error rolls it back together with what is around it.
pub fn with_version<R>(version: PartVersion, write: impl FnOnce(Part) -> R) -> R {
    // SAFETY: inside a transaction. Starting a part switches context and resource owner; what is opened inside belongs to who opened
    // the table, so both are put back at once, and again when the part has ended.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(c"spock_delta".as_ptr());
        pg_sys::CurrentMemoryContext = context;
        pg_sys::CurrentResourceOwner = owner;
        let xid = pg_sys::GetCurrentTransactionId();
        let stamped = set_subtransaction_version(xid, version.time, version.origin);
        let written = write(Part { xid: FullXid::of(xid), stamped });
        pg_sys::ReleaseCurrentSubTransaction();
        pg_sys::CurrentMemoryContext = context;
        pg_sys::CurrentResourceOwner = owner;
        written
    }
}
