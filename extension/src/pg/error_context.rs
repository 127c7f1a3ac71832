//! The line that says where in the stream an error or message of the apply worker happened.
//!
//! # Invariants
//! 1. The callback allocates nothing and cannot fail: it writes into a fixed buffer.
//! 2. A line never holds a row value.

use core::ffi::{c_char, c_int, c_void};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::fmt::Write;

/// Where the worker is in the stream. Shown as `while applying UPDATE to "public"."acct", transaction 771 …`.
#[derive(Debug, Default)]
pub struct Place {
    /// Kind of message, empty: none is being handled.
    pub action: Cell<&'static str>,
    /// Quoted schema and table of the remote relation; empty: none.
    pub relation: RefCell<String>,
    /// Column whose value is being read; empty: none.
    pub column: RefCell<String>,
    /// Name of the provider.
    pub provider: RefCell<String>,
    /// Remote transaction id, 0: none.
    pub xid: Cell<u32>,
    /// Start of the remote commit record, 0: unknown.
    pub commit_lsn: Cell<u64>,
}

impl Place {
    /// Notes the relation of the current message. Costs a comparison when it is the same as before.
    pub fn set_relation(&self, name: &str) {
        let mut relation = self.relation.borrow_mut();
        if *relation != name {
            relation.clear();
            relation.push_str(name);
        }
    }

    fn describe(&self, out: &mut Line) -> std::fmt::Result {
        write!(out, "while applying {}", self.action.get())?;
        if let Ok(relation) = self.relation.try_borrow()
            && !relation.is_empty()
        {
            write!(out, " to {relation}")?;
        }
        if let Ok(column) = self.column.try_borrow()
            && !column.is_empty()
        {
            write!(out, " column \"{column}\"")?;
        }
        if self.xid.get() != 0 {
            write!(out, ", transaction {}", self.xid.get())?;
        }
        if let Ok(provider) = self.provider.try_borrow() {
            write!(out, " from \"{provider}\"")?;
        }
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
    place: std::rc::Rc<Place>,
}

impl ContextScope {
    /// Pushes the callback.
    pub fn enter(place: std::rc::Rc<Place>) -> Self {
        // SAFETY: a global of this backend.
        let previous = unsafe { pg_sys::error_context_stack };
        let argument = std::rc::Rc::as_ptr(&place).cast_mut().cast();
        let mut callback =
            Box::new(pg_sys::ErrorContextCallback { previous, callback: Some(on_report), arg: argument });
        // SAFETY: the box does not move and is unlinked before it is freed.
        unsafe { pg_sys::error_context_stack = &mut *callback }
        Self { callback, place }
    }

    /// The place that is shown.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl Drop for ContextScope {
    fn drop(&mut self) {
        // SAFETY: scopes nest, so what was on top before is still alive.
        unsafe { pg_sys::error_context_stack = self.callback.previous }
    }
}
