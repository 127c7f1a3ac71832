//! Memory contexts that hang under another context of the server and go with it.
//!
//! # Invariants
//! 1. The parent outlives every use: it belongs to the decoding session that owns the Rust values beside it.
//! 2. Nothing here has a `Drop` that calls the server: Rust values kept in a context are dropped while it is being deleted.

use super::scope::MemoryScope;
use pgrx::pg_sys;

/// Send functions take 1 kB for each value: enough for a row of about sixty columns.
const SCRATCH_BYTES: usize = 64 * 1024;

/// A memory context owned by a session. Copies name the same context.
#[derive(Clone, Copy)]
pub struct OwnedContext(pg_sys::MemoryContext);

impl OwnedContext {
    /// Names an existing context.
    ///
    /// # Safety
    /// `raw` is live for as long as the value and its children are used.
    pub(super) unsafe fn from_raw(raw: pg_sys::MemoryContext) -> Self {
        Self(raw)
    }

    /// Makes a context under this one. It is deleted with its parent, or earlier by [`OwnedContext::delete`].
    pub fn child(self, name: &'static core::ffi::CStr) -> Self {
        self.sized_child(name, pg_sys::ALLOCSET_SMALL_MINSIZE as usize, pg_sys::ALLOCSET_SMALL_INITSIZE as usize)
    }

    /// Makes a context under this one that is reset again and again: its first block stays, so that a round that fits in
    /// it takes nothing from the operating system.
    pub fn scratch(self, name: &'static core::ffi::CStr) -> Self {
        self.sized_child(name, SCRATCH_BYTES, SCRATCH_BYTES)
    }

    fn sized_child(self, name: &'static core::ffi::CStr, least_bytes: usize, first_bytes: usize) -> Self {
        // SAFETY: the parent is live; the name is static, as the server keeps the pointer.
        Self(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                self.0,
                name.as_ptr(),
                least_bytes,
                first_bytes,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }

    /// Frees everything that was allocated in it.
    pub fn reset(self) {
        // SAFETY: a live context of ours.
        unsafe { pg_sys::MemoryContextReset(self.0) }
    }

    /// Deletes it. The caller forgets every value that points into it, and every copy of this name.
    pub fn delete(self) {
        // SAFETY: a live context of ours, not the current one: scopes nest.
        unsafe { pg_sys::MemoryContextDelete(self.0) }
    }

    /// Makes it the current context until the guard is dropped.
    pub fn enter(self) -> MemoryScope {
        MemoryScope::enter(self.0)
    }

    pub(super) fn raw(self) -> pg_sys::MemoryContext {
        self.0
    }
}
