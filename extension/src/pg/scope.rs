//! What is entered and left: transactions, snapshots, memory contexts. For workers, which have no portal above them.

use super::unguarded::{guarded, raw};
use pgrx::pg_sys;

/// A transaction of this worker. Values that live inside it borrow it.
///
/// On ERROR: Drop does nothing while a panic unwinds; whoever catches the error aborts the transaction
/// ([`crate::pg::attempt::attempt`] does). Dropped without [`Txn::commit`] otherwise, it is rolled back.
#[must_use]
pub struct Txn {
    committed: bool,
}

impl Txn {
    /// Starts a transaction. The caller is a worker outside any transaction.
    pub fn begin() -> Self {
        // SAFETY: on the main thread of a backend; an ERROR unwinds.
        unsafe { pg_sys::StartTransactionCommand() }
        Self { committed: false }
    }

    /// The same with what a worker's first statement needs: its time, and a snapshot on the stack.
    pub fn begin_with_snapshot() -> (Self, ActiveSnapshot) {
        // SAFETY: as in `begin` and in [`ActiveSnapshot::push`]. An ERROR leaves a transaction that its catcher aborts.
        unsafe {
            guarded(|| {
                raw::SetCurrentStatementStartTimestamp();
                raw::StartTransactionCommand();
                raw::PushActiveSnapshot(raw::GetTransactionSnapshot());
            });
        }
        (Self { committed: false }, ActiveSnapshot(()))
    }

    /// Whether this backend is in a transaction now, ours or an outer one.
    pub fn is_open() -> bool {
        // SAFETY: reads backend-local state.
        unsafe { pg_sys::IsTransactionState() }
    }

    /// Commits. Errors of deferred triggers and of the commit itself are raised.
    pub fn commit(mut self) {
        // SAFETY: `begin` started exactly one transaction; an ERROR unwinds with `committed` false and no rollback here.
        unsafe { pg_sys::CommitTransactionCommand() }
        self.committed = true;
    }
}

impl Drop for Txn {
    fn drop(&mut self) {
        if self.committed || std::thread::panicking() {
            return;
        }
        // SAFETY: the transaction is open; abort does not raise in normal operation.
        unsafe { pg_sys::AbortCurrentTransaction() }
    }
}

/// A snapshot on the server's stack of active snapshots.
///
/// On ERROR: Drop does nothing. Abort pops the snapshot stack.
#[must_use]
pub struct ActiveSnapshot(());

impl ActiveSnapshot {
    /// Pushes a fresh snapshot of the current transaction.
    pub fn push() -> Self {
        // SAFETY: inside a transaction; an ERROR unwinds before anything was pushed.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) }
        Self(())
    }
}

impl Drop for ActiveSnapshot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: `push` put exactly one snapshot on the stack, and scopes nest, so the top one is ours.
        unsafe { pg_sys::PopActiveSnapshot() }
    }
}

/// Memory that lives as long as this value, or as the transaction or subtransaction that it was made in.
///
/// On ERROR: Drop does nothing. Abort frees it.
pub(super) struct TransactionMemory(pg_sys::MemoryContext);

impl TransactionMemory {
    /// Makes it. Inside a transaction.
    pub(super) fn new(name: &'static core::ffi::CStr) -> Self {
        // SAFETY: the context of the innermost transaction exists; the name is static, as the server keeps the pointer.
        Self(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurTransactionContext,
                name.as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }

    /// Takes over a context that was made in the same way.
    pub(super) fn from_raw(context: pg_sys::MemoryContext) -> Self {
        Self(context)
    }

    pub(super) fn raw(&self) -> pg_sys::MemoryContext {
        self.0
    }
}

impl Drop for TransactionMemory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: made by `new` in a transaction that is still open, deleted once.
        unsafe { pg_sys::MemoryContextDelete(self.0) }
    }
}

/// A named memory context that is reset by its owner, under the process's top context.
pub struct MemoryContext(pg_sys::MemoryContext);

impl MemoryContext {
    /// Makes a context that lives as long as the process. `name` shows in the server's memory dumps.
    pub fn for_process(name: &'static core::ffi::CStr) -> Self {
        // SAFETY: TopMemoryContext exists in every backend; the name is static, as the server keeps the pointer.
        let raw = unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                name.as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        };
        Self(raw)
    }

    /// Frees everything that was allocated in it.
    pub fn reset(&self) {
        // SAFETY: the context is ours and lives as long as the process.
        unsafe { reset_context(self.0) }
    }

    /// Makes it the current context and leaves it so. Inside a scope of the same context, after a call that switched.
    pub fn make_current(&self) {
        // SAFETY: a live context; the scope around the caller puts back what was before.
        unsafe { pg_sys::CurrentMemoryContext = self.0 }
    }

    /// Makes it the current context until the guard is dropped.
    pub fn enter(&self) -> MemoryScope {
        MemoryScope::enter(self.0)
    }
}

/// Frees everything in a context. Free of charge where there is nothing.
///
/// # Safety
/// A live context that nothing points into any more.
pub(super) unsafe fn reset_context(context: pg_sys::MemoryContext) {
    // SAFETY: passed on to the caller.
    unsafe {
        if !(*context).isReset || !(*context).firstchild.is_null() {
            pg_sys::MemoryContextReset(context);
        }
    }
}

/// C allocates in the entered context while this lives.
///
/// On ERROR: still runs. It sets one global and cannot raise; the catcher sets the context again anyway.
#[must_use]
pub struct MemoryScope {
    previous: pg_sys::MemoryContext,
}

impl MemoryScope {
    /// Makes a live context the current one.
    pub(super) fn enter(context: pg_sys::MemoryContext) -> Self {
        // SAFETY: a live context; the previous one is put back by the guard.
        let previous = unsafe {
            let previous = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = context;
            previous
        };
        Self { previous }
    }
}

impl Drop for MemoryScope {
    fn drop(&mut self) {
        // SAFETY: the previous context outlives this scope, because scopes nest.
        unsafe { pg_sys::CurrentMemoryContext = self.previous }
    }
}
