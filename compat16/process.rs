//! Processes, latches, signals and shared memory on PostgreSQL 16.

use pgrx::pg_sys;

/// C: CreateWaitEventSet(context, nevents); from 17 on the first argument is a resource owner. The set lives until it is
/// freed, whatever transaction is open.
pub fn create_wait_event_set(events: i32) -> *mut pg_sys::WaitEventSet {
    // SAFETY: the top context exists in every backend; an ERROR unwinds.
    unsafe { pg_sys::CreateWaitEventSet(pg_sys::TopMemoryContext, events) }
}

/// C: pqsignal(signo, handler), called pqsignal_be from 18 on. The handler is a C function of the server or of ours.
pub fn set_signal_handler(signal: i32, handler: unsafe extern "C-unwind" fn(i32)) {
    // SAFETY: the handler stays loaded and only does what a signal handler may.
    unsafe {
        pg_sys::pqsignal(signal, Some(handler));
    }
}
