//! Statistics of our own in the server's collector, PostgreSQL 18: kind 29, seven counters and the time of the last reset for
//! each subscription of a database. The layout is that of the C edition, so that its statistics file is read.
//!
//! The structures are those of `utils/pgstat_internal.h`, which the bindings leave out.

use core::ffi::{CStr, c_char, c_void};
use core::mem::offset_of;
use pgrx::pg_sys;

/// The server keeps statistics of extensions.
pub const KEEPS: bool = true;

/// What is kept of one object.
pub type Totals = ([u64; 7], pg_sys::TimestampTz);

/// Reserved for this extension among all extensions.
const KIND: u32 = 29;
const NAME: &CStr = c"spock_conflict_stat";

/// What goes to the statistics file.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    counts: [i64; 7],
    reset_at: pg_sys::TimestampTz,
}

/// C: PgStatShared_Common.
#[repr(C)]
struct Header {
    magic: u32,
    lock: pg_sys::LWLock,
}

#[repr(C)]
struct Shared {
    header: Header,
    entry: Entry,
}

/// C: PgStat_EntryRef.
#[repr(C)]
struct EntryRef {
    hash_entry: *mut c_void,
    shared: *mut Shared,
    generation: u32,
    pending: *mut [i64; 7],
    node: pg_sys::dlist_node,
}

/// C: PgStat_KindInfo. The three flags are bits of the first byte, in the compiler's order.
#[repr(C)]
struct KindInfo {
    flags: u8,
    shared_size: u32,
    snapshot_ctl_off: u32,
    shared_ctl_off: u32,
    shared_data_off: u32,
    shared_data_len: u32,
    pending_size: u32,
    init_backend: Option<unsafe extern "C-unwind" fn()>,
    flush_pending: Option<unsafe extern "C-unwind" fn(*mut EntryRef, bool) -> bool>,
    delete_pending: Option<unsafe extern "C-unwind" fn(*mut EntryRef)>,
    reset_timestamp: Option<unsafe extern "C-unwind" fn(*mut Header, pg_sys::TimestampTz)>,
    to_serialized_name: Option<unsafe extern "C-unwind" fn()>,
    from_serialized_name: Option<unsafe extern "C-unwind" fn()>,
    init_shmem: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
    flush_static: Option<unsafe extern "C-unwind" fn(bool) -> bool>,
    reset_all: Option<unsafe extern "C-unwind" fn(pg_sys::TimestampTz)>,
    snapshot: Option<unsafe extern "C-unwind" fn()>,
    name: *const c_char,
}

// SAFETY: never changed, and the name is static.
unsafe impl Sync for KindInfo {}

/// `write_to_file`, the third flag.
const WRITE_TO_FILE: u8 = if cfg!(target_endian = "little") { 1 << 2 } else { 1 << 5 };

static INFO: KindInfo = KindInfo {
    flags: WRITE_TO_FILE,
    shared_size: size_of::<Shared>() as u32,
    snapshot_ctl_off: 0,
    shared_ctl_off: 0,
    shared_data_off: offset_of!(Shared, entry) as u32,
    shared_data_len: size_of::<Entry>() as u32,
    pending_size: size_of::<[i64; 7]>() as u32,
    init_backend: None,
    flush_pending: Some(flush_pending),
    delete_pending: None,
    reset_timestamp: Some(reset_timestamp),
    to_serialized_name: None,
    from_serialized_name: None,
    init_shmem: None,
    flush_static: None,
    reset_all: None,
    snapshot: None,
    name: NAME.as_ptr(),
};

unsafe extern "C-unwind" {
    fn pgstat_register_kind(kind: u32, info: *const KindInfo);
    fn pgstat_prep_pending_entry(kind: u32, database: pg_sys::Oid, object: u64, created: *mut bool) -> *mut EntryRef;
    fn pgstat_fetch_entry(kind: u32, database: pg_sys::Oid, object: u64) -> *mut Entry;
    fn pgstat_lock_entry(entry: *mut EntryRef, nowait: bool) -> bool;
    fn pgstat_unlock_entry(entry: *mut EntryRef);
    fn pgstat_drop_transactional(kind: u32, database: pg_sys::Oid, object: u64);
}

/// The server calls it when it collects what processes have counted.
unsafe extern "C-unwind" fn flush_pending(entry: *mut EntryRef, nowait: bool) -> bool {
    // SAFETY: an entry of our kind with pending counts. Nothing in here has a destructor.
    unsafe {
        if !pgstat_lock_entry(entry, nowait) {
            return false;
        }
        let totals = &mut (*(*entry).shared).entry.counts;
        for (total, added) in totals.iter_mut().zip(*(*entry).pending) {
            *total += added;
        }
        pgstat_unlock_entry(entry);
    }
    true
}

/// The server calls it, with the entry locked, after it has zeroed the counters.
unsafe extern "C-unwind" fn reset_timestamp(header: *mut Header, time: pg_sys::TimestampTz) {
    // SAFETY: the header of an entry of our kind.
    unsafe { (*header.cast::<Shared>()).entry.reset_at = time }
}

fn database() -> pg_sys::Oid {
    // SAFETY: set when the process connects.
    unsafe { pg_sys::MyDatabaseId }
}

/// Makes the kind known. Without it the server throws away a statistics file that has such entries.
///
/// # Safety
/// While the server preloads libraries, once.
pub unsafe fn register() {
    // SAFETY: static; the boundary turns an ERROR into a panic.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| pgstat_register_kind(KIND, &raw const INFO)) }
}

/// Counts for an object of this database.
///
/// # Safety
/// In a process that is connected to a database.
pub unsafe fn add(object: u64, added: &[u64; 7]) {
    // SAFETY: as above; the pending counts are this process's own.
    unsafe {
        let entry = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            pgstat_prep_pending_entry(KIND, database(), object, core::ptr::null_mut())
        });
        for (count, added) in (*(*entry).pending).iter_mut().zip(added) {
            *count += added.cast_signed();
        }
    }
}

/// What was collected for an object of this database.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn fetch(object: u64) -> Option<Totals> {
    // SAFETY: null, or a copy in the memory of this process.
    unsafe {
        let found = pg_sys::ffi::pg_guard_ffi_boundary(|| pgstat_fetch_entry(KIND, database(), object));
        (!found.is_null()).then(|| ((*found).counts.map(i64::cast_unsigned), (*found).reset_at))
    }
}

/// Sets the counters of an object of this database to zero.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn reset(object: u64) {
    // SAFETY: passed on to the caller.
    unsafe {
        if pg_sys::pgstat_have_entry(KIND, database(), object) {
            pg_sys::pgstat_reset(KIND, database(), object);
        }
    }
}

/// Forgets an object of this database when the open transaction commits.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn drop_at_commit(object: u64) {
    // SAFETY: passed on to the caller.
    unsafe {
        if pg_sys::pgstat_have_entry(KIND, database(), object) {
            pg_sys::ffi::pg_guard_ffi_boundary(|| pgstat_drop_transactional(KIND, database(), object));
        }
    }
}
