//! WAL records of our own: resource manager 144, which existing clusters know as ours.
//!
//! | info | name | what | recovery | decoding |
//! |---|---|---|---|---|
//! | 0x10 | RESOURCE_DUMP | group progress of the C edition | nothing | nothing |
//! | 0x20 | PROGRESS | how far an origin is applied ([`super::progress_wal`]) | advances it | nothing |
//! | 0x30 | MESSAGE | what our own plugin is told ([`super::own_message`]) | nothing | hands it on |

use super::compat::executor as compat;
use super::{own_message, progress_wal};
use core::ffi::c_char;
use pgrx::{pg_guard, pg_sys};

/// Its number.
pub const ID: pg_sys::RmgrId = 144;
/// Progress of one origin.
pub const INFO_PROGRESS: u8 = 0x20;
/// A message.
pub const INFO_MESSAGE: u8 = 0x30;
/// A dump of group progress by the C edition. Read by nobody, as there.
const INFO_RESOURCE_DUMP: u8 = 0x10;

struct Manager(pg_sys::RmgrData);
// SAFETY: read-only after the constant was built; the server reads it in every process.
unsafe impl Sync for Manager {}

static MANAGER: Manager = Manager(pg_sys::RmgrData {
    rm_name: c"spock_custom_rmgr".as_ptr(),
    rm_redo: Some(on_redo),
    rm_desc: Some(on_describe),
    rm_identify: Some(on_identify),
    rm_startup: None,
    rm_cleanup: Some(on_cleanup),
    rm_mask: None,
    rm_decode: Some(on_decode),
});

/// Registers the resource manager. Only while `shared_preload_libraries` are loaded.
pub fn register() {
    // SAFETY: the struct is static.
    unsafe { compat::register_rmgr(ID, &MANAGER.0) }
}

/// # Safety
/// `record` is the record that the server is handling.
unsafe fn parts<'a>(record: *mut pg_sys::XLogReaderState) -> (u8, &'a [u8]) {
    // SAFETY: passed on to the caller; the body is valid while the record is.
    unsafe {
        let decoded = (*record).record;
        let info = (*decoded).header.xl_info & !(pg_sys::XLR_INFO_MASK as u8);
        let length = (*decoded).main_data_len as usize;
        let body = if length == 0 {
            &[][..]
        } else {
            core::slice::from_raw_parts((*decoded).main_data.cast::<u8>().cast_const(), length)
        };
        (info, body)
    }
}

/// The server calls it for each record of ours during recovery.
#[pg_guard]
unsafe extern "C-unwind" fn on_redo(record: *mut pg_sys::XLogReaderState) {
    // SAFETY: the server passes a decoded record.
    let (info, body) = unsafe { parts(record) };
    if info == INFO_PROGRESS {
        progress_wal::redo(body);
    }
}

/// The server calls it when recovery has read all WAL.
#[pg_guard]
unsafe extern "C-unwind" fn on_cleanup() {
    progress_wal::recovered();
}

/// The server calls it for each record of ours that logical decoding reads.
#[pg_guard]
unsafe extern "C-unwind" fn on_decode(ctx: *mut pg_sys::LogicalDecodingContext, buffer: *mut pg_sys::XLogRecordBuffer) {
    // SAFETY: the server passes live structs and the record that it decodes.
    unsafe {
        // What the server does for every record, whether it is decoded or not.
        let xid = (*(*(*buffer).record).record).header.xl_xid;
        pg_sys::ReorderBufferProcessXid((*ctx).reorder, xid, (*buffer).origptr);
        let (info, body) = parts((*buffer).record);
        if info == INFO_MESSAGE {
            own_message::decode(ctx, buffer, body);
        }
    }
}

/// `pg_waldump` and the server's debug output call it.
#[pg_guard]
unsafe extern "C-unwind" fn on_describe(out: pg_sys::StringInfo, record: *mut pg_sys::XLogReaderState) {
    // SAFETY: the server passes a decoded record.
    let (info, body) = unsafe { parts(record) };
    let text = match info {
        INFO_PROGRESS => progress_wal::describe(body),
        INFO_MESSAGE => own_message::describe(body),
        _ => None,
    };
    let Some(text) = text else { return };
    // SAFETY: the buffer is the server's and grows as needed.
    unsafe { pg_sys::appendBinaryStringInfo(out, text.as_ptr().cast(), text.len() as i32) }
}

/// Name of a record.
unsafe extern "C-unwind" fn on_identify(info: u8) -> *const c_char {
    match info & !(pg_sys::XLR_INFO_MASK as u8) {
        INFO_RESOURCE_DUMP => c"RESOURCE_DUMP".as_ptr(),
        INFO_PROGRESS => c"PROGRESS".as_ptr(),
        INFO_MESSAGE => c"MESSAGE".as_ptr(),
        _ => core::ptr::null(),
    }
}
