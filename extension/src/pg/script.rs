//! SQL text that comes from a person or from another node: cut into statements, and each run as the role that it is for.
//!
//! # Invariants
//! 1. Only statements that define things (the server's log class `ddl`) run, and SET where the caller allows it: what would
//!    read or write rows, or end the transaction, is refused before anything of the text has run.
//! 2. No statement runs at top level: one that wants a transaction of its own is refused by the server.
//! 3. Settings that a text changes are back as they were at its end; the role is back after each statement.
//! 4. Messages that come up while a statement runs say which one, without passwords.

use core::ffi::{CStr, c_char, c_int, c_void};
use pgrx::{PgSqlErrorCode, pg_sys};
use spock_core::redact::without_passwords;
use std::ffi::CString;

use super::compat::server::can_set_role;
use super::scope::ActiveSnapshot;
use crate::error::Report;

/// A role of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role(pg_sys::Oid);

impl Role {
    /// The role of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        let name = CString::new(name).ok()?;
        // SAFETY: a look-up in the system caches, inside a transaction.
        let oid = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
        (oid != pg_sys::InvalidOid).then_some(Self(oid))
    }

    /// Who acts now.
    pub fn current() -> Self {
        // SAFETY: reads the identity of this backend.
        Self(unsafe { pg_sys::GetUserId() })
    }

    /// Its name.
    pub fn name(self) -> String {
        // SAFETY: raises when the role is gone; the copy is made at once.
        unsafe { CStr::from_ptr(pg_sys::GetUserNameFromId(self.0, false)) }.to_string_lossy().into_owned()
    }

    /// Whether who acts now may become this role with SET ROLE.
    pub fn may_be_taken(self) -> bool {
        can_set_role(Self::current().0, self.0)
    }
}

/// Acts as a role until dropped.
///
/// On ERROR: Drop does nothing. Abort of the transaction or subtransaction puts the user back.
struct As {
    user: pg_sys::Oid,
    context: c_int,
}

impl As {
    fn enter(role: Role) -> Self {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: reads and sets the identity of this backend, inside a transaction.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            pg_sys::SetUserIdAndSecContext(role.0, context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as c_int);
        }
        Self { user, context }
    }
}

impl Drop for As {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: puts back what `enter` found; scopes nest.
            unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) }
        }
    }
}

/// Takes back, when dropped, every change of settings made since.
///
/// On ERROR: Drop does nothing. Abort puts settings back.
pub struct SettingsScope(c_int);

impl SettingsScope {
    /// Enters, inside a transaction.
    pub fn enter() -> Self {
        // SAFETY: opens a level of the server's stack of settings; abort closes it.
        Self(unsafe { pg_sys::NewGUCNestLevel() })
    }

    /// Sets a setting for as long as this lives, as the current user could. Raises what the server says to the value.
    pub fn set(&self, name: &CStr, value: &str) {
        let value = CString::new(value).unwrap_or_default();
        // SAFETY: strings that live through the call; the level above takes the change back.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
    }
}

impl Drop for SettingsScope {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: scopes nest, so the level on top is the one made by `enter`.
            unsafe { pg_sys::AtEOXact_GUC(false, self.0) }
        }
    }
}

/// The elements of a `search_path`, as the server reads it. `None`: it is no such list.
pub fn search_path_elements(value: &str) -> Option<Vec<String>> {
    let value = CString::new(value).ok()?;
    let mut list: *mut pg_sys::List = core::ptr::null_mut();
    // SAFETY: the server cuts a copy of ours into pieces, and the list points into it; both live in the current context.
    unsafe {
        let copy = pg_sys::pstrdup(value.as_ptr());
        if !pg_sys::SplitIdentifierString(copy, b',' as c_char, &mut list) {
            return None;
        }
        let names = elements(list).map(|element| CStr::from_ptr(element.cast()).to_string_lossy().into_owned());
        // An empty path is kept as one empty name, which cannot be written as an identifier.
        Some(names.filter(|name| !name.is_empty()).collect())
    }
}

/// What sets the session's `search_path` on another node: a statement with a semicolon and a blank behind it.
pub fn search_path_statement() -> String {
    // A value that is no list cannot be set.
    set_search_path(&search_path_elements(&search_path()).unwrap_or_default())
}

/// The statement that sets a search path.
pub fn set_search_path(elements: &[String]) -> String {
    format!("SET search_path TO {}; ", quoted_list(elements))
}

/// A search path as SQL text.
pub fn quoted_list(elements: &[String]) -> String {
    if elements.is_empty() {
        return "''".to_owned();
    }
    elements.iter().map(|name| quote_identifier(name)).collect::<Vec<_>>().join(", ")
}

/// The session's `search_path`.
fn search_path() -> String {
    // SAFETY: the setting exists in every server; the copy is made at once.
    let value = unsafe { pg_sys::GetConfigOption(c"search_path".as_ptr(), false, false) };
    // SAFETY: a NUL-terminated string of the server.
    if value.is_null() { String::new() } else { unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned() }
}

/// An identifier as SQL text, quoted where that is needed.
fn quote_identifier(name: &str) -> String {
    let name = CString::new(name).unwrap_or_default();
    // SAFETY: the result is the argument or a palloc'd string; copied at once.
    unsafe { CStr::from_ptr(pg_sys::quote_identifier(name.as_ptr())) }.to_string_lossy().into_owned()
}

/// The pointers of a list. A null list is empty.
///
/// # Safety
/// `list` is null or a valid list of pointers that outlives the iterator.
pub(super) unsafe fn elements(list: *mut pg_sys::List) -> impl Iterator<Item = *mut c_void> {
    // SAFETY: the caller's promise: as many elements as `length` says.
    let count = if list.is_null() { 0 } else { unsafe { (*list).length } };
    (0..usize::try_from(count).unwrap_or(0)).map(move |n| {
        // SAFETY: `n` is below `length`.
        unsafe { (*(*list).elements.add(n)).ptr_value }
    })
}

/// What a statement is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It defines something.
    Definition,
    /// SET or RESET.
    Setting,
    /// Anything else.
    Other,
}

/// One statement of a [`Script`].
pub struct Statement<'s> {
    script: &'s Script,
    raw: *mut pg_sys::RawStmt,
}

/// A text that was read. Lives in the memory context that was current.
pub struct Script {
    text: CString,
    list: *mut pg_sys::List,
}

impl Script {
    /// Reads a text. Raises what the server says to its syntax.
    pub fn parse(text: &str) -> Result<Self, Report> {
        let text = CString::new(text).map_err(|_| {
            Report::new(PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, "an SQL text must not contain a zero byte")
        })?;
        let _context = StatementContext::enter(&text.to_string_lossy());
        // SAFETY: a NUL-terminated text that the result may point into; it lives in `self`.
        let list = unsafe { pg_sys::pg_parse_query(text.as_ptr()) };
        Ok(Self { text, list })
    }

    /// Its statements in order.
    pub fn statements(&self) -> impl Iterator<Item = Statement<'_>> {
        // SAFETY: the parser's list of RawStmt.
        unsafe { elements(self.list) }.map(|raw| Statement { script: self, raw: raw.cast() })
    }
}

impl Statement<'_> {
    /// Its own text.
    pub fn text(&self) -> String {
        // SAFETY: a RawStmt of the parser.
        let (start, length) = unsafe { ((*self.raw).stmt_location, (*self.raw).stmt_len) };
        cut(&self.script.text.to_string_lossy(), start, length).to_owned()
    }

    /// The name of its command, such as `CREATE TABLE`.
    pub fn tag(&self) -> String {
        // SAFETY: a RawStmt of the parser; the name is static.
        unsafe { CStr::from_ptr(pg_sys::GetCommandTagName(pg_sys::CreateCommandTag(self.raw.cast()))) }
            .to_string_lossy()
            .into_owned()
    }

    /// What it is.
    pub fn class(&self) -> Class {
        // SAFETY: a RawStmt of the parser.
        unsafe {
            if (*(*self.raw).stmt).type_ == pg_sys::NodeTag::T_VariableSetStmt {
                Class::Setting
            } else if pg_sys::GetCommandLogLevel(self.raw.cast()) == pg_sys::LogStmtLevel::LOGSTMT_DDL {
                Class::Definition
            } else {
                Class::Other
            }
        }
    }

    /// Runs it as `role`, then makes its effects visible.
    pub fn run(&self, role: Role) {
        let _context = StatementContext::enter(&self.text());
        let acting = As::enter(role);
        let text = self.script.text.as_ptr();
        let snapshot = ActiveSnapshot::push();
        // SAFETY: the parser's statement, analysed and planned as the server does for a simple query. The trees live in the
        // current context, which outlives this call.
        let plans = unsafe {
            let queries =
                pg_sys::pg_analyze_and_rewrite_fixedparams(self.raw, text, core::ptr::null(), 0, core::ptr::null_mut());
            pg_sys::pg_plan_queries(queries, text, pg_sys::CURSOR_OPT_PARALLEL_OK as c_int, core::ptr::null_mut())
        };
        // SAFETY: plans of the planner. Statements of the accepted classes are utility statements after analysis, SELECT INTO
        // among them.
        unsafe {
            for plan in elements(plans) {
                let plan: *mut pg_sys::PlannedStmt = plan.cast();
                if (*plan).commandType != pg_sys::CmdType::CMD_UTILITY {
                    continue;
                }
                pg_sys::ProcessUtility(
                    plan,
                    text,
                    false,
                    pg_sys::ProcessUtilityContext::PROCESS_UTILITY_QUERY,
                    core::ptr::null_mut(),
                    core::ptr::null_mut(),
                    pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone),
                    core::ptr::null_mut(),
                );
            }
        }
        drop(snapshot);
        drop(acting);
        // SAFETY: between two commands of a transaction.
        unsafe { pg_sys::CommandCounterIncrement() }
    }
}

/// The part of a text that the parser says a statement is, without blanks around it.
pub(super) fn cut(text: &str, start: c_int, length: c_int) -> &str {
    let start = usize::try_from(start).unwrap_or(0);
    let end = match usize::try_from(length) {
        Ok(length) if length > 0 => start.saturating_add(length),
        _ => text.len(),
    };
    text.get(start..end.min(text.len())).unwrap_or(text).trim()
}

// pgrx hides these on purpose; here they are called by the server's own error reporting.
unsafe extern "C-unwind" {
    fn set_errcontext_domain(domain: *const c_char) -> c_int;
    fn errcontext_msg(fmt: *const c_char, ...) -> c_int;
    fn geterrposition() -> c_int;
    fn errposition(position: c_int) -> c_int;
}

/// The server calls it while it reports a message.
unsafe extern "C-unwind" fn on_report(argument: *mut c_void) {
    // SAFETY: inside error reporting; the argument is the NUL-terminated text of the scope that registered the callback. A
    // position counts in that text, not in the statement that the client sent. Nothing on this frame has a destructor.
    unsafe {
        if geterrposition() > 0 {
            errposition(0);
        }
        set_errcontext_domain(core::ptr::null());
        errcontext_msg(c"replicated statement: %s".as_ptr(), argument.cast::<c_char>());
    }
}

/// Adds a statement, without passwords, to every message that is reported while this lives.
///
/// On ERROR: still runs. It puts back the previous top of the stack and cannot raise.
struct StatementContext {
    callback: Box<pg_sys::ErrorContextCallback>,
    /// Kept alive for the callback.
    _text: CString,
}

impl StatementContext {
    fn enter(sql: &str) -> Self {
        let text = CString::new(without_passwords(sql)).unwrap_or_default();
        // SAFETY: a global of this backend.
        let previous = unsafe { pg_sys::error_context_stack };
        let argument = text.as_ptr().cast_mut().cast();
        let mut callback =
            Box::new(pg_sys::ErrorContextCallback { previous, callback: Some(on_report), arg: argument });
        // SAFETY: the box does not move and is unlinked before it is freed.
        unsafe { pg_sys::error_context_stack = &mut *callback }
        Self { callback, _text: text }
    }
}

impl Drop for StatementContext {
    fn drop(&mut self) {
        // SAFETY: scopes nest, so what was on top before is still alive.
        unsafe { pg_sys::error_context_stack = self.callback.previous }
    }
}
