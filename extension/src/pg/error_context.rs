//! The line that says where in the stream an error or message of the apply worker happened.
//!
//! # Invariants
//! 1. The callback allocates nothing and cannot fail: it writes into a fixed buffer.
//! 2. A line never holds a row value.

use core::ffi::{c_char, c_int, c_void};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::rc::Rc;

/// A remote relation as messages name it.
#[derive(Debug, Default)]
pub struct Subject {
    /// Quoted schema and table.
    pub relation: String,
    /// Column names in wire order.
    pub columns: Vec<String>,
}

/// A queued statement as logs and records show it: without passwords.
#[derive(Debug, Clone)]
pub struct StatementShown {
    /// The text.
    pub text: String,
    /// As whom it runs.
    pub role: String,
}

/// Where the worker is in the stream. Shown as `while applying UPDATE to "public"."acct", transaction 771 …`.
#[derive(Debug, Default)]
pub struct Place {
    /// Kind of message, empty: none is being handled.
    pub action: Cell<&'static str>,
    /// Remote relation of the message.
    subject: RefCell<Option<Rc<Subject>>>,
    /// The queued statement that runs.
    pub statement: RefCell<Option<StatementShown>>,
    /// Wire position of the column whose value is being read.
    pub column: Cell<Option<u16>>,
    /// Name of the provider.
    pub provider: String,
    /// Remote transaction id, 0: none.
    pub xid: Cell<u32>,
    /// Start of the remote commit record, 0: unknown.
    pub commit_lsn: Cell<u64>,
    /// Its commit time, microseconds since 2000.
    pub commit_time: Cell<i64>,
    /// Node where its changes were made, 0: not told yet.
    pub origin: Cell<u32>,
    /// Number of the action in it that is being carried out, from 1; 0: none, or its commit.
    pub number: Cell<u32>,
    /// The stream runs: errors are about what was sent.
    pub streaming: Cell<bool>,
}

impl Place {
    /// A place in the stream of `provider`.
    pub fn new(provider: &str) -> Self {
        Self { provider: provider.to_owned(), ..Self::default() }
    }

    /// Between transactions: nothing that happens is one's fault.
    pub fn leave_transaction(&self) {
        self.xid.set(0);
        self.commit_lsn.set(0);
        self.commit_time.set(0);
        self.origin.set(0);
        self.number.set(0);
    }

    /// Notes the relation of the current message.
    pub fn set_subject(&self, subject: Option<&Rc<Subject>>) {
        let mut current = self.subject.borrow_mut();
        let same = match (current.as_ref(), subject) {
            (Some(a), Some(b)) => Rc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        if !same {
            *current = subject.cloned();
        }
    }

    /// Relation of the current message, quoted.
    pub fn subject(&self) -> Option<String> {
        self.subject.borrow().as_ref().map(|subject| subject.relation.clone())
    }

    fn describe(&self, out: &mut Line) -> std::fmt::Result {
        write!(out, "while applying {}", self.action.get())?;
        if let Ok(subject) = self.subject.try_borrow()
            && let Some(subject) = subject.as_deref()
        {
            write!(out, " to {}", subject.relation)?;
            if let Some(column) = self.column.get().and_then(|n| subject.columns.get(usize::from(n))) {
                write!(out, " column \"{column}\"")?;
            }
        }
        if self.xid.get() != 0 {
            write!(out, ", transaction {}", self.xid.get())?;
        }
        write!(out, " from \"{}\"", self.provider)?;
        let lsn = self.commit_lsn.get();
        if lsn != 0 {
            write!(out, ", commit {:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)?;
        }
        Ok(())
    }
}

/// Text of fixed size, always NUL-terminated; what does not fit is cut.
struct Line {
    bytes: [u8; Self::SIZE],
    used: usize,
}

impl Line {
    /// Enough for two names of 63 bytes with quotes, a column, and the numbers.
    const SIZE: usize = 512;
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let mut room = (Self::SIZE - 1 - self.used).min(text.len());
        while !text.is_char_boundary(room) {
            room -= 1;
        }
        self.bytes[self.used..self.used + room].copy_from_slice(&text.as_bytes()[..room]);
        self.used += room;
        Ok(())
    }
}

// pgrx hides these on purpose; here they are called by the server's own error reporting.
unsafe extern "C-unwind" {
    fn set_errcontext_domain(domain: *const c_char) -> c_int;
    fn errcontext_msg(fmt: *const c_char, ...) -> c_int;
}

/// The server calls it while it reports a message.
unsafe extern "C-unwind" fn on_report(argument: *mut c_void) {
    // SAFETY: the guard that registered the callback keeps the place alive.
    let place = unsafe { &*argument.cast::<Place>() };
    if place.action.get().is_empty() {
        return;
    }
    let mut line = Line { bytes: [0; Line::SIZE], used: 0 };
    if place.describe(&mut line).is_ok() {
        // SAFETY: inside error reporting; the text is NUL-terminated, as the buffer is zeroed and never filled up.
        // Nothing on this frame has a destructor.
        unsafe {
            set_errcontext_domain(core::ptr::null());
            errcontext_msg(c"%s".as_ptr(), line.bytes.as_ptr());
        }
    }
}

/// Adds the place to every message that is reported while this lives.
///
/// On ERROR: still runs. It puts back the previous top of the stack and cannot raise.
pub struct ContextScope {
    callback: Box<pg_sys::ErrorContextCallback>,
    /// Kept alive for the callback.
    _place: Rc<Place>,
}

impl ContextScope {
    /// Pushes the callback.
    pub fn enter(place: Rc<Place>) -> Self {
        // SAFETY: a global of this backend.
        let previous = unsafe { pg_sys::error_context_stack };
        let argument = Rc::as_ptr(&place).cast_mut().cast();
        let mut callback =
            Box::new(pg_sys::ErrorContextCallback { previous, callback: Some(on_report), arg: argument });
        // SAFETY: the box does not move and is unlinked before it is freed.
        unsafe { pg_sys::error_context_stack = &mut *callback }
        Self { callback, _place: place }
    }
}

impl Drop for ContextScope {
    fn drop(&mut self) {
        // SAFETY: scopes nest, so what was on top before is still alive.
        unsafe { pg_sys::error_context_stack = self.callback.previous }
    }
}
