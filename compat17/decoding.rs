//! Output plugin and logical decoding on PostgreSQL 17.

use pgrx::pg_sys;

/// Row tuples come as they are.
pub type DecodedTuple = pg_sys::HeapTuple;

/// From 16 on the decoder reports progress inside long transactions.
pub const PUBLISHER_REPORTS_PROGRESS: bool = false;

/// The tuple in what a row change holds; null stays null.
///
/// # Safety
/// `decoded` is null or live.
pub unsafe fn tuple(decoded: DecodedTuple) -> pg_sys::HeapTuple {
    decoded
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
