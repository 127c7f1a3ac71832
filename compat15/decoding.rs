//! Output plugin and logical decoding on PostgreSQL 15.

use pgrx::pg_sys;

/// Row tuples come in a buffer struct.
pub type DecodedTuple = *mut pg_sys::ReorderBufferTupleBuf;

/// 15 leaves it to the plugin to report progress inside long transactions.
pub const PUBLISHER_REPORTS_PROGRESS: bool = true;

/// The tuple in what a row change holds; null stays null.
///
/// # Safety
/// `decoded` is null or live.
pub unsafe fn tuple(decoded: DecodedTuple) -> pg_sys::HeapTuple {
    if decoded.is_null() {
        return core::ptr::null_mut();
    }
    // SAFETY: live by contract.
    unsafe { &raw mut (*decoded).tuple }
}

/// The catalog row of the attribute at `at`, from 0.
///
/// # Safety
/// The descriptor is live and has more than `at` attributes.
pub unsafe fn attribute(descriptor: pg_sys::TupleDesc, at: usize) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: by contract.
    unsafe { (*descriptor).attrs.as_ptr().add(at) }
}

/// Generated columns are always stored before 18: nothing to replace in an expression.
///
/// # Safety
/// None here; other majors look at both.
pub unsafe fn with_generated_columns(node: *mut pg_sys::Node, _relation: pg_sys::Relation) -> *mut pg_sys::Node {
    node
}

/// Tablespace and number of the file that the entry of a relation names.
///
/// # Safety
/// The relation is open.
pub unsafe fn file(relation: pg_sys::Relation) -> (pg_sys::Oid, pg_sys::Oid) {
    // SAFETY: by contract.
    unsafe { ((*relation).rd_node.spcNode, (*relation).rd_node.relNode) }
}

/// Lets the entry of a relation name another file. What it holds open or remembers of the one before is given up.
///
/// # Safety
/// The relation is open and nothing reads it.
pub unsafe fn name_file(relation: pg_sys::Relation, (tablespace, number): (pg_sys::Oid, pg_sys::Oid)) {
    // SAFETY: by contract. Closing clears the entry's pointer, too. What an index remembers is one piece of memory of its own.
    unsafe {
        if !(*relation).rd_smgr.is_null() {
            pg_sys::smgrclose((*relation).rd_smgr);
            (*relation).rd_smgr = core::ptr::null_mut();
        }
        if !(*relation).rd_amcache.is_null() {
            pg_sys::pfree((*relation).rd_amcache);
            (*relation).rd_amcache = core::ptr::null_mut();
        }
        (*relation).rd_node.spcNode = tablespace;
        (*relation).rd_node.relNode = number;
    }
}

/// The snapshot of the catalogs for a change outside transactions. From 16 on without the transaction id.
///
/// # Safety
/// The builder is live and consistent.
pub unsafe fn snapshot(builder: *mut pg_sys::SnapBuild, xid: pg_sys::TransactionId) -> pg_sys::Snapshot {
    // SAFETY: by contract.
    unsafe { pg_sys::SnapBuildGetOrBuildSnapshot(builder, xid) }
}
