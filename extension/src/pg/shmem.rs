//! Shared memory of our own: tables of plain values, each behind one named lock, reserved while the server preloads us.
//!
//! # Invariants
//! 1. Elements hold no pointer, and all-zero bytes are a valid element: memory starts as zeros, also after the server has
//!    restarted its processes because one of them crashed.
//! 2. A guard is short: nothing between taking and dropping it waits for anything but other locks of the server.
//! 3. Without `shared_preload_libraries` the tables do not exist; [`SharedTable::exists`] says so.

use core::ffi::CStr;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use pgrx::{pg_guard, pg_sys};
use std::sync::Mutex;

/// Values that may lie in shared memory.
///
/// # Safety
/// All-zero bytes are a valid value, every bit pattern that our code stores is one, and there is no pointer or reference
/// in it: other processes see the same bytes.
pub unsafe trait Shareable: 'static {}

// SAFETY: numbers; every bit pattern is one, and zero is zero.
unsafe impl Shareable for u8 {}
// SAFETY: as above.
unsafe impl Shareable for u32 {}
// SAFETY: as above.
unsafe impl Shareable for u64 {}
// SAFETY: as above.
unsafe impl Shareable for i32 {}
// SAFETY: as above.
unsafe impl Shareable for i64 {}
// SAFETY: a number in its memory; every bit pattern is one.
unsafe impl Shareable for AtomicU32 {}
// SAFETY: elements side by side, each shareable.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {}

/// Declares a struct that may lie in shared memory: C layout, and every field shareable, which the compiler checks.
macro_rules! shareable {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type,)+ }

        // SAFETY: C layout of fields that are shareable themselves, as the constant below proves.
        unsafe impl $crate::pg::shmem::Shareable for $name {}

        const _: () = {
            const fn field<T: $crate::pg::shmem::Shareable>() {}
            $(field::<$type>();)+
        };
    };
}
pub(crate) use shareable;

trait Area: Sync {
    fn name(&self) -> &'static CStr;
    fn bytes(&self) -> usize;
    fn attach(&self);
}

static AREAS: Mutex<Vec<&'static dyn Area>> = Mutex::new(Vec::new());

/// A fixed number of elements in shared memory and the lock that protects them.
pub struct SharedTable<T: Shareable> {
    name: &'static CStr,
    elements: fn() -> usize,
    fill: fn(&mut [T]),
    start: AtomicPtr<T>,
    lock: AtomicPtr<pg_sys::LWLock>,
}

// SAFETY: only the main thread of a process uses it; the pointers are set before any use and equal in all processes.
unsafe impl<T: Shareable> Sync for SharedTable<T> {}

impl<T: Shareable> SharedTable<T> {
    /// Describes a table. `name` also names its lock in `pg_stat_activity`; `elements` is asked after all configuration
    /// was read; `fill` sees the zeroed elements once per start of shared memory, before any other process does.
    pub const fn new(name: &'static CStr, elements: fn() -> usize, fill: fn(&mut [T])) -> Self {
        Self { name, elements, fill, start: AtomicPtr::new(null_mut()), lock: AtomicPtr::new(null_mut()) }
    }

    /// Asks the server for the memory. Only while it preloads libraries.
    pub fn reserve(&'static self) {
        let mut areas = AREAS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if areas.is_empty() {
            install_hooks();
        }
        areas.push(self);
    }

    /// Whether the memory is there: the library was preloaded.
    pub fn exists(&self) -> bool {
        !self.start.load(Ordering::Relaxed).is_null()
    }

    fn slice(&self) -> *mut [T] {
        let start = self.start.load(Ordering::Relaxed);
        let length = if start.is_null() { 0 } else { (self.elements)() };
        core::ptr::slice_from_raw_parts_mut(
            if start.is_null() { core::ptr::NonNull::dangling().as_ptr() } else { start },
            length,
        )
    }

    /// Locks the table for reading. Empty when it does not exist.
    pub fn read(&self) -> TableRef<'_, T> {
        let lock = self.take(pg_sys::LWLockMode::LW_SHARED);
        // SAFETY: the memory lives as long as the process, and nobody writes while the lock is held.
        TableRef { elements: unsafe { &*self.slice() }, _lock: lock }
    }

    /// Locks the table for writing. Empty when it does not exist.
    pub fn write(&self) -> TableMut<'_, T> {
        let lock = self.take(pg_sys::LWLockMode::LW_EXCLUSIVE);
        // SAFETY: the memory lives as long as the process, and nobody else reads or writes while the lock is held.
        TableMut { elements: unsafe { &mut *self.slice() }, _lock: lock }
    }

    fn take(&self, mode: pg_sys::LWLockMode::Type) -> Option<Lock> {
        let lock = self.lock.load(Ordering::Relaxed);
        (!lock.is_null()).then(|| {
            // SAFETY: a live lock of the main array; this process does not hold it, because guards do not nest.
            unsafe { pg_sys::LWLockAcquire(lock, mode) };
            Lock(lock)
        })
    }
}

impl SharedTable<AtomicU32> {
    /// The elements without the lock: for what is asked too often to lock. Such a table is used in no other way. Empty when
    /// it does not exist.
    pub fn cells(&self) -> &[AtomicU32] {
        // SAFETY: the memory lives as long as the process; atomics may be shared, and nobody makes a `&mut` of them after
        // `fill` has run.
        unsafe { &*self.slice() }
    }
}

impl<T: Shareable> Area for SharedTable<T> {
    fn name(&self) -> &'static CStr {
        self.name
    }

    fn bytes(&self) -> usize {
        size_of::<T>() * (self.elements)()
    }

    fn attach(&self) {
        let mut found = false;
        // SAFETY: called in the start-up hook with the lock on such structures held; the size is what was requested. The
        // memory is aligned for any type, zeroed here when new, and nobody else uses it before `fill` has run.
        unsafe {
            let start = pg_sys::ShmemInitStruct(self.name.as_ptr(), self.bytes(), &mut found).cast::<T>();
            let lock = &raw mut (*pg_sys::GetNamedLWLockTranche(self.name.as_ptr())).lock;
            self.lock.store(lock, Ordering::Relaxed);
            self.start.store(start, Ordering::Relaxed);
            if !found {
                core::ptr::write_bytes(start, 0, (self.elements)());
                (self.fill)(&mut *self.slice());
            }
        }
    }
}

/// A held lock.
///
/// On ERROR: still released, as a worker may be outside any transaction, where nobody else would. The server has by then
/// forgotten that interrupts are held, so that is put right first, as its own clean-up does. At `proc_exit` the server
/// releases all locks.
struct Lock(*mut pg_sys::LWLock);

impl Drop for Lock {
    fn drop(&mut self) {
        // SAFETY: the lock is live; it is released only when this process holds it.
        unsafe {
            if !pg_sys::LWLockHeldByMe(self.0) {
                return;
            }
            if pg_sys::InterruptHoldoffCount == 0 {
                pg_sys::InterruptHoldoffCount = 1;
            }
            pg_sys::LWLockRelease(self.0);
        }
    }
}

/// The elements, locked for reading.
pub struct TableRef<'a, T> {
    elements: &'a [T],
    _lock: Option<Lock>,
}

impl<T> Deref for TableRef<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.elements
    }
}

/// The elements, locked for writing.
pub struct TableMut<'a, T> {
    elements: &'a mut [T],
    _lock: Option<Lock>,
}

impl<T> Deref for TableMut<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.elements
    }
}

impl<T> DerefMut for TableMut<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.elements
    }
}

/// `max_worker_processes` of this server: what our tables are sized by.
pub fn max_worker_processes() -> usize {
    // SAFETY: a setting that is fixed when the server starts.
    usize::try_from(unsafe { pg_sys::max_worker_processes }).unwrap_or_default()
}

static PREVIOUS: Mutex<Previous> = Mutex::new(Previous { request: None, startup: None, _main_thread: PhantomData });

struct Previous {
    request: pg_sys::shmem_request_hook_type,
    startup: pg_sys::shmem_startup_hook_type,
    _main_thread: PhantomData<()>,
}

fn install_hooks() {
    let mut previous = PREVIOUS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // SAFETY: the server is single-threaded here; hooks are variables that each library chains.
    unsafe {
        previous.request = pg_sys::shmem_request_hook;
        previous.startup = pg_sys::shmem_startup_hook;
        pg_sys::shmem_request_hook = Some(on_request);
        pg_sys::shmem_startup_hook = Some(on_startup);
    }
}

fn previous_hooks() -> (pg_sys::shmem_request_hook_type, pg_sys::shmem_startup_hook_type) {
    let previous = PREVIOUS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    (previous.request, previous.startup)
}

fn areas() -> Vec<&'static dyn Area> {
    AREAS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
}

#[pg_guard]
unsafe extern "C-unwind" fn on_request() {
    if let Some(hook) = previous_hooks().0 {
        // SAFETY: another library's hook, called where it expects it; the boundary turns its ERROR into a panic.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| hook()) }
    }
    for area in areas() {
        // SAFETY: this is the hook in which requests are allowed.
        unsafe {
            pg_sys::RequestAddinShmemSpace(area.bytes());
            pg_sys::RequestNamedLWLockTranche(area.name().as_ptr(), 1);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_startup() {
    /// Place of `AddinShmemInitLock` among the server's fixed locks, the same in 15 to 18.
    const ADDIN_SHMEM_INIT_LOCK: usize = 21;
    if let Some(hook) = previous_hooks().1 {
        // SAFETY: as above.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| hook()) }
    }
    // SAFETY: the array of fixed locks exists before this hook runs.
    let lock = unsafe { &raw mut (*pg_sys::MainLWLockArray.add(ADDIN_SHMEM_INIT_LOCK)).lock };
    // SAFETY: a live lock; an ERROR in here ends the start of the server.
    unsafe { pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE) };
    for area in areas() {
        area.attach();
    }
    // SAFETY: taken above.
    unsafe { pg_sys::LWLockRelease(lock) }
}
