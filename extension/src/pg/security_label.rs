//! The provider `spock` of security labels, of columns only. The label `spock.delta_apply` says that a column counts
//! (`catalog::deltas`). Others have no effect: a dump of a database with labels of the C edition 5.0 restores.

use core::ffi::c_char;
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};

use crate::error::Report;

/// Registers the provider. Once, while the library is loaded.
pub fn register() {
    // SAFETY: the name is static and copied; the hook stays loaded.
    unsafe { pg_sys::register_label_provider(c"spock".as_ptr(), Some(check)) }
}

/// Whether `object` may have a label, or lose it: columns of tables only. The text is up to the user.
#[pg_guard]
unsafe extern "C-unwind" fn check(object: *const pg_sys::ObjectAddress, _label: *const c_char) {
    // SAFETY: the server resolved and locked the object before it asks.
    let (class, sub_id) = unsafe { ((*object).classId, (*object).objectSubId) };
    if class != pg_sys::RelationRelationId || sub_id <= 0 {
        Report::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "security labels of provider \"spock\" are for columns only",
        )
        .raise();
    }
    // SAFETY: queues an invalidation message of the current transaction: whoever has the table prepared looks at it again.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid((*object).objectId) }
}
