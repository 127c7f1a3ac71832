//! Who acts, and who may ask. Our catalogs belong to the extension's owner; the functions above read and write them on
//! behalf of callers that have no right to the tables themselves, as a server's own catalogs are.
//!
//! # Invariants
//! 1. While [`Owner`] lives, names resolve in `pg_catalog` only: the caller's `search_path` cannot bring its own operators
//!    into a query that runs with the owner's rights.
//! 2. Whether the caller may do something is asked ([`may_administer`]) before [`Owner`] is entered.

use core::ffi::c_int;
use pgrx::{PgSqlErrorCode, pg_sys};

use crate::error::Report;

/// The role that may run every function of the extension when it exists. A superuser always may.
pub const ADMIN_ROLE: &core::ffi::CStr = c"spock_admin";

/// Acts as the owner of the database cluster until dropped, with `search_path = pg_catalog, pg_temp`.
///
/// On ERROR: Drop does nothing. Abort of the transaction or subtransaction puts the user and the settings back.
#[must_use]
pub struct Owner {
    user: pg_sys::Oid,
    context: c_int,
    settings: c_int,
}

impl Owner {
    /// Enters. The caller is inside a transaction.
    pub fn enter() -> Self {
        let mut user = pg_sys::InvalidOid;
        let mut context: c_int = 0;
        // SAFETY: reads and sets the identity of this backend, inside a transaction, as SECURITY DEFINER functions do.
        let settings = unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            let settings = pg_sys::NewGUCNestLevel();
            pg_sys::set_config_option(
                c"search_path".as_ptr(),
                c"pg_catalog, pg_temp".as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
            pg_sys::SetUserIdAndSecContext(
                pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID),
                context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as c_int,
            );
            settings
        };
        Self { user, context, settings }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: scopes nest, so the settings level on top is the one made by `enter`; the identity is the one it found.
        unsafe {
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
            pg_sys::AtEOXact_GUC(true, self.settings);
        }
    }
}

/// Whether who acts now is a superuser.
pub fn is_superuser() -> bool {
    // SAFETY: a look-up in the system caches, inside a transaction.
    unsafe { pg_sys::superuser() }
}

/// Whether the current user may run functions that change the cluster: superusers and members of [`ADMIN_ROLE`].
pub fn may_administer() -> bool {
    // SAFETY: look-ups in the system caches, inside a transaction.
    unsafe {
        if pg_sys::superuser() {
            return true;
        }
        let role = pg_sys::get_role_oid(ADMIN_ROLE.as_ptr(), true);
        role != pg_sys::InvalidOid && pg_sys::has_privs_of_role(pg_sys::GetUserId(), role)
    }
}

/// [`may_administer`] as an error: 42501.
pub fn require_administrator(action: &str) -> Result<(), Report> {
    if may_administer() {
        return Ok(());
    }
    Err(Report::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied to {action}"))
        .hint("Superusers and members of role \"spock_admin\" may do this. The role is used when it exists."))
}

/// 42501 unless the current user may administer or has the REPLICATION attribute: who can make a slot may ask for what
/// goes with it.
pub fn require_replication(action: &str) -> Result<(), Report> {
    // SAFETY: a look-up in the system caches, inside a transaction.
    if may_administer() || unsafe { pg_sys::has_rolreplication(pg_sys::GetUserId()) } {
        return Ok(());
    }
    Err(Report::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied to {action}"))
        .hint("Superusers, roles with the REPLICATION attribute and members of role \"spock_admin\" may do this."))
}

/// A lock on one of our tables, held to the end of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableLock {
    /// Readers and writers go on; another holder of this lock waits. The mutex of everything that changes the topology.
    ShareUpdateExclusive,
    /// Nobody else touches the table.
    AccessExclusive,
}

/// Locks `schema.table`. `false` when there is no such table.
pub fn lock_table(schema: &core::ffi::CStr, table: &core::ffi::CStr, lock: TableLock) -> bool {
    let mode = match lock {
        TableLock::ShareUpdateExclusive => pg_sys::ShareUpdateExclusiveLock,
        TableLock::AccessExclusive => pg_sys::AccessExclusiveLock,
    };
    // SAFETY: cache look-ups and a heavyweight lock inside a transaction; abort and commit release it.
    unsafe {
        let namespace = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        if namespace == pg_sys::InvalidOid {
            return false;
        }
        let relation = pg_sys::get_relname_relid(table.as_ptr(), namespace);
        if relation == pg_sys::InvalidOid {
            return false;
        }
        pg_sys::LockRelationOid(relation, mode as pg_sys::LOCKMODE);
    }
    true
}

/// Locks a user's table against writes to the end of the transaction (ShareRowExclusive), so that no row change in flight
/// is decoded half with and half without a membership. A relation that does not exist is simply locked by number.
pub fn lock_relation_against_writes(relation: u32) {
    // SAFETY: a heavyweight lock inside a transaction; abort and commit release it.
    unsafe { pg_sys::LockRelationOid(pg_sys::Oid::from(relation), pg_sys::ShareRowExclusiveLock as pg_sys::LOCKMODE) }
}

/// Locks a relation against changes of its definition to the end of the transaction (AccessShare).
pub fn lock_relation_against_changes(relation: u32) {
    // SAFETY: a heavyweight lock inside a transaction; abort and commit release it.
    unsafe { pg_sys::LockRelationOid(pg_sys::Oid::from(relation), pg_sys::AccessShareLock as pg_sys::LOCKMODE) }
}

/// Whether the extension is installed in this database.
pub fn extension_installed() -> bool {
    // SAFETY: a catalog look-up inside a transaction.
    unsafe { pg_sys::get_extension_oid(c"spock".as_ptr(), true) != pg_sys::InvalidOid }
}

/// Sends cached plans and relation descriptors of `relation` to be rebuilt in every session at commit: running decoders
/// then read its replication set memberships again.
pub fn forget_relation(relation: u32) {
    // SAFETY: queues an invalidation message of the current transaction; raises when the relation does not exist.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(pg_sys::Oid::from(relation)) }
}

/// Whether this session carries out what was decided elsewhere (`session_replication_role = replica`).
pub fn fires_replica_triggers() -> bool {
    // SAFETY: reads a global of this backend.
    unsafe { pg_sys::SessionReplicationRole == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as c_int }
}

/// Whether statements of this transaction all see one snapshot (REPEATABLE READ or SERIALIZABLE): then polling a table
/// cannot see anything new.
pub fn uses_one_snapshot() -> bool {
    // SAFETY: reads a global of this backend.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as c_int }
}

/// 25001 when inside a transaction block or a function, for an action that cannot be rolled back.
pub fn refuse_in_transaction_block(what: &core::ffi::CStr) {
    // SAFETY: looks at the state of the current transaction and raises.
    unsafe { pg_sys::PreventInTransactionBlock(true, what.as_ptr()) }
}
