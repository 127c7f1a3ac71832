//! Waiting: the latch of this process, sockets, interrupts, reload. Every wait of ours goes through here, so every wait
//! ends on SIGTERM, on query cancel and when the postmaster dies.
//!
//! # Invariants
//! 1. The latch is reset before the caller looks at what it waits for, never after.
//! 2. Interrupts are checked after each wake by the latch: a terminate leaves as FATAL 57P01 from inside the wait.

use crate::pg::compat::process::create_wait_event_set;
use core::ffi::{c_int, c_long};
use core::ptr::null_mut;
use pgrx::pg_sys;
use std::time::Duration;

/// Which directions of a socket to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read, or the end.
    Read,
    /// Room to write, or connected.
    Write,
    /// Either.
    ReadWrite,
}

impl Interest {
    fn raw(self) -> u32 {
        match self {
            Self::Read => pg_sys::WL_SOCKET_READABLE,
            Self::Write => pg_sys::WL_SOCKET_WRITEABLE,
            Self::ReadWrite => pg_sys::WL_SOCKET_READABLE | pg_sys::WL_SOCKET_WRITEABLE,
        }
    }
}

/// Why a wait ended. More than one may be true; none: the time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Woken {
    /// Someone set the latch. It was reset and interrupts were checked.
    pub latch: bool,
    /// The socket can be read.
    pub readable: bool,
    /// The socket can be written.
    pub writable: bool,
}

impl Woken {
    fn of(events: u32) -> Self {
        Self {
            latch: events & pg_sys::WL_LATCH_SET != 0,
            readable: events & pg_sys::WL_SOCKET_READABLE != 0,
            writable: events & pg_sys::WL_SOCKET_WRITEABLE != 0,
        }
    }
}

/// Milliseconds for the server's wait functions, rounded up so that a short wait is not a busy loop.
fn millis(duration: Duration) -> c_long {
    let micros = duration.as_micros();
    c_long::try_from(micros.div_ceil(1000)).unwrap_or(c_long::from(i32::MAX)).min(c_long::from(i32::MAX))
}

/// Raises or leaves when a cancel or terminate is pending.
pub fn check_interrupts() {
    pgrx::check_for_interrupts!();
}

fn acknowledge() {
    // SAFETY: MyLatch is this process's latch, valid from its start to its end.
    unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) }
    check_interrupts();
}

/// Waits until the latch is set or `timeout` is over. Returns whether it was set.
pub fn wait(timeout: Duration) -> bool {
    let events = (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as c_int;
    // SAFETY: MyLatch is this process's latch; an ERROR unwinds.
    let woken = unsafe { pg_sys::WaitLatch(pg_sys::MyLatch, events, millis(timeout), pg_sys::PG_WAIT_EXTENSION) };
    let latch = woken.cast_unsigned() & pg_sys::WL_LATCH_SET != 0;
    if latch {
        acknowledge();
    }
    latch
}

/// Waits once for the latch, the socket or the end of `timeout`. For short exchanges; a stream uses [`SocketWait`].
pub fn wait_socket(socket: c_int, interest: Interest, timeout: Duration) -> Woken {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH | interest.raw();
    // SAFETY: as above; the socket is open for the time of the call.
    let woken = unsafe {
        pg_sys::WaitLatchOrSocket(pg_sys::MyLatch, events as c_int, socket, millis(timeout), pg_sys::PG_WAIT_EXTENSION)
    };
    let woken = Woken::of(woken.cast_unsigned());
    if woken.latch {
        acknowledge();
    }
    woken
}

/// A prepared wait for one socket and the latch, made once for the life of a stream.
///
/// On ERROR: Drop still runs, because no resource owner knows the set. Freeing closes a descriptor and cannot raise. At
/// `proc_exit` the kernel closes it.
pub struct SocketWait {
    set: *mut pg_sys::WaitEventSet,
    position: c_int,
    interest: Interest,
}

impl SocketWait {
    /// Prepares to wait for `socket`, which stays open as long as this lives.
    pub fn new(socket: c_int) -> Self {
        let mut this = Self { set: create_wait_event_set(3), position: 0, interest: Interest::Read };
        let none = pg_sys::PGINVALID_SOCKET;
        // SAFETY: the set is ours and has room for three events; MyLatch stays the same for the life of a worker.
        this.position = unsafe {
            pg_sys::AddWaitEventToSet(this.set, pg_sys::WL_LATCH_SET, none, pg_sys::MyLatch, null_mut());
            pg_sys::AddWaitEventToSet(this.set, pg_sys::WL_EXIT_ON_PM_DEATH, none, null_mut(), null_mut());
            pg_sys::AddWaitEventToSet(this.set, Interest::Read.raw(), socket, null_mut(), null_mut())
        };
        this
    }

    /// Waits for the latch, the socket or the end of `timeout`.
    pub fn wait(&mut self, interest: Interest, timeout: Duration) -> Woken {
        if interest != self.interest {
            // SAFETY: the position is the socket's event of our set.
            unsafe { pg_sys::ModifyWaitEvent(self.set, self.position, interest.raw(), null_mut()) }
            self.interest = interest;
        }
        let mut events = [pg_sys::WaitEvent::default(); 3];
        // SAFETY: the set is live and `events` has room for three.
        let count = unsafe {
            pg_sys::WaitEventSetWait(self.set, millis(timeout), events.as_mut_ptr(), 3, pg_sys::PG_WAIT_EXTENSION)
        };
        let seen =
            events.iter().take(usize::try_from(count).unwrap_or_default()).fold(0, |all, event| all | event.events);
        let woken = Woken::of(seen);
        if woken.latch {
            acknowledge();
        }
        woken
    }
}

impl Drop for SocketWait {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { pg_sys::FreeWaitEventSet(self.set) }
    }
}

/// Reads the configuration files again when SIGHUP came. Returns whether it did.
pub fn reload_if_asked() -> bool {
    // SAFETY: a flag that only the signal handler sets; the reload runs outside any transaction or inside one alike.
    unsafe {
        if pg_sys::ConfigReloadPending == 0 {
            return false;
        }
        pg_sys::ConfigReloadPending = 0;
        pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
    }
    true
}
