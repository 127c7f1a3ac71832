//! Processes, latches, signals and shared memory on PostgreSQL 17.

use pgrx::pg_sys;

/// C: CreateWaitEventSet(resowner, nevents); up to 16 the first argument is a memory context. Without an owner the set lives
/// until it is freed, whatever transaction is open.
pub fn create_wait_event_set(events: i32) -> *mut pg_sys::WaitEventSet {
    // SAFETY: no owner is allowed; an ERROR unwinds.
    unsafe { pg_sys::CreateWaitEventSet(core::ptr::null_mut(), events) }
}

/// C: pqsignal(signo, handler), called pqsignal_be from 18 on. The handler is a C function of the server or of ours.
pub fn set_signal_handler(signal: i32, handler: unsafe extern "C-unwind" fn(i32)) {
    // SAFETY: the handler stays loaded and only does what a signal handler may.
    unsafe {
        pg_sys::pqsignal(signal, Some(handler));
    }
}
