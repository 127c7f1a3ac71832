//! Our own small binding of libpq, the client library of the same server install. Raw declarations at the bottom, owning
//! types above; `pg::conn` builds waiting, deadlines and errors on it. libpq never calls back into the server from here.
//!
//! # Invariants
//! 1. Every connection is non-blocking once it is established; nothing in this file waits for the network, except that
//!    libpq resolves host names while it starts a connection.
//! 2. A connection, a result and a copied row are each freed exactly once, by Drop.
//! 3. A FATAL leaves through `proc_exit`, which runs no Drop: each open connection is also on a list that a
//!    `before_shmem_exit` callback closes, so that the peer sees a polite end and not a broken socket.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::{NonNull, null, null_mut};
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use pgrx::{pg_guard, pg_sys};
use std::ffi::CString;

/// Connections of one process that are closed politely at exit. More can be open: the kernel closes the rest.
const TRACKED_CONNECTIONS: usize = 16;

static OPEN: [AtomicPtr<raw::PGconn>; TRACKED_CONNECTIONS] =
    [const { AtomicPtr::new(null_mut()) }; TRACKED_CONNECTIONS];
static EXIT_REGISTERED: AtomicBool = AtomicBool::new(false);
/// The process ends, and what is on the list was closed.
static CLOSED: AtomicBool = AtomicBool::new(false);

fn track(conn: *mut raw::PGconn) {
    if !EXIT_REGISTERED.swap(true, Ordering::Relaxed) {
        // SAFETY: a plain function that stays loaded; the server calls it once, on this thread, when the process ends.
        unsafe { pg_sys::before_shmem_exit(Some(close_all_at_exit), pg_sys::Datum::from(0)) }
    }
    for slot in &OPEN {
        if slot.compare_exchange(null_mut(), conn, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

/// Takes a connection off the list. `false`: it was not on it, or was closed by the exit.
fn forget(conn: *mut raw::PGconn) -> bool {
    let taken = |slot: &AtomicPtr<raw::PGconn>| {
        slot.compare_exchange(conn, null_mut(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    OPEN.iter().any(taken)
}

#[pg_guard]
unsafe extern "C-unwind" fn close_all_at_exit(_code: c_int, _arg: pg_sys::Datum) {
    CLOSED.store(true, Ordering::Relaxed);
    for slot in &OPEN {
        let conn = slot.swap(null_mut(), Ordering::Relaxed);
        if !conn.is_null() {
            // SAFETY: only open connections are on the list. Frames that own one never run again; what the rollback of an open
            // transaction drops afterwards sees that it was closed.
            unsafe { raw::PQfinish(conn) }
        }
    }
}

/// How far an asynchronous connect has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polling {
    /// Wait until the socket can be read, then poll again.
    Reading,
    /// Wait until the socket can be written, then poll again.
    Writing,
    /// Connected.
    Done,
    /// Refused or broken; see [`PgConn::error_message`].
    Failed,
}

/// One copied row, or why there is none.
pub enum CopyRead {
    /// A row.
    Row(CopyBuffer),
    /// Nothing buffered: read from the socket.
    WouldBlock,
    /// The copy is over; the command's result follows.
    End,
    /// The connection or the protocol broke.
    Failed,
}

/// What a command ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultKind {
    /// Success without rows.
    Command,
    /// Success with rows.
    Rows,
    /// The server switched to streaming both ways.
    CopyBoth,
    /// A copy in one direction, which nothing here asks for.
    OtherCopy,
    /// An error; see the result's fields.
    Error,
}

/// A connection. Drop closes it, on ERROR too: nobody else would, and closing cannot raise.
pub struct PgConn(NonNull<raw::PGconn>);

impl PgConn {
    /// Starts to connect. Later parameters win over earlier ones and over those inside `dbname`, which may be a whole
    /// connection string. `None`: out of memory.
    pub fn start(parameters: &[(CString, CString)]) -> Option<Self> {
        let keys: Vec<*const c_char> = parameters.iter().map(|(key, _)| key.as_ptr()).chain([null()]).collect();
        let values: Vec<*const c_char> = parameters.iter().map(|(_, value)| value.as_ptr()).chain([null()]).collect();
        // SAFETY: two null-terminated arrays of equal length, alive during the call; libpq copies the strings.
        let conn = NonNull::new(unsafe { raw::PQconnectStartParams(keys.as_ptr(), values.as_ptr(), 1) })?;
        let this = Self(conn);
        track(conn.as_ptr());
        // SAFETY: the connection is live; the receiver is a plain function that keeps nothing.
        unsafe { raw::PQsetNoticeReceiver(conn.as_ptr(), Some(ignore_notice), null_mut()) };
        Some(this)
    }

    fn ptr(&self) -> *mut raw::PGconn {
        self.0.as_ptr()
    }

    /// Advances an asynchronous connect.
    pub fn poll(&mut self) -> Polling {
        // SAFETY: the connection is live.
        match unsafe { raw::PQconnectPoll(self.ptr()) } {
            raw::PGRES_POLLING_READING => Polling::Reading,
            raw::PGRES_POLLING_WRITING => Polling::Writing,
            raw::PGRES_POLLING_OK => Polling::Done,
            _ => Polling::Failed,
        }
    }

    /// Whether libpq has given the connection up.
    pub fn is_bad(&self) -> bool {
        // SAFETY: the connection is live.
        unsafe { raw::PQstatus(self.ptr()) == raw::CONNECTION_BAD }
    }

    /// The socket to wait on. `None`: not open. May change while connecting.
    pub fn socket(&self) -> Option<c_int> {
        // SAFETY: the connection is live.
        let socket = unsafe { raw::PQsocket(self.ptr()) };
        (socket >= 0).then_some(socket)
    }

    /// The last error's text, without the trailing newline. Never holds the connection string, because it was parsed
    /// before; may hold host, port, database and user.
    pub fn error_message(&self) -> String {
        // SAFETY: the connection is live; the text is valid until the next call on it and is copied here.
        unsafe { text(raw::PQerrorMessage(self.ptr())) }.trim_end().to_owned()
    }

    /// The peer's version, e.g. 170011. 0: not connected.
    pub fn server_version(&self) -> i32 {
        // SAFETY: the connection is live.
        unsafe { raw::PQserverVersion(self.ptr()) }
    }

    /// Makes sending non-blocking. Returns false when libpq refuses.
    pub fn set_nonblocking(&mut self) -> bool {
        // SAFETY: the connection is live.
        unsafe { raw::PQsetnonblocking(self.ptr(), 1) == 0 }
    }

    /// Queues a command of the simple protocol; several statements are allowed.
    pub fn send_query(&mut self, sql: &CStr) -> bool {
        // SAFETY: the connection is live; the text is copied into the send buffer.
        unsafe { raw::PQsendQuery(self.ptr(), sql.as_ptr()) == 1 }
    }

    /// Queues one statement with text parameters whose types the server infers.
    pub fn send_query_params(&mut self, sql: &CStr, parameters: &[Option<CString>]) -> bool {
        let values: Vec<*const c_char> =
            parameters.iter().map(|value| value.as_ref().map_or(null(), |text| text.as_ptr())).collect();
        let count = c_int::try_from(values.len()).unwrap_or(c_int::MAX);
        // SAFETY: as many values as `count` says, each null or a terminated string; null types and formats mean inferred
        // and text. libpq copies everything into the send buffer.
        unsafe {
            raw::PQsendQueryParams(self.ptr(), sql.as_ptr(), count, null(), values.as_ptr(), null(), null(), 0) == 1
        }
    }

    /// Sends what is queued. `Some(true)`: all sent, `Some(false)`: more to send once the socket can be written.
    /// `None`: broken.
    pub fn flush(&mut self) -> Option<bool> {
        // SAFETY: the connection is live.
        match unsafe { raw::PQflush(self.ptr()) } {
            0 => Some(true),
            1 => Some(false),
            _ => None,
        }
    }

    /// Reads what the socket has, without waiting. False: broken.
    pub fn consume_input(&mut self) -> bool {
        // SAFETY: the connection is live.
        unsafe { raw::PQconsumeInput(self.ptr()) == 1 }
    }

    /// Whether [`PgConn::result`] would wait.
    pub fn is_busy(&self) -> bool {
        // SAFETY: the connection is live.
        unsafe { raw::PQisBusy(self.ptr()) != 0 }
    }

    /// The next result of the running command. `None`: the command is over. Call it only when not busy.
    pub fn result(&mut self) -> Option<PgResult> {
        // SAFETY: the connection is live; the result is owned by the caller.
        NonNull::new(unsafe { raw::PQgetResult(self.ptr()) }).map(PgResult)
    }

    /// The next copied row that was already read from the socket.
    pub fn copy_row(&mut self) -> CopyRead {
        let mut buffer: *mut c_char = null_mut();
        // SAFETY: the connection is live; on a positive answer `buffer` is an allocation of that many bytes, ours to free.
        let length = unsafe { raw::PQgetCopyData(self.ptr(), &mut buffer, 1) };
        match (length, NonNull::new(buffer.cast::<u8>())) {
            (1.., Some(start)) => CopyRead::Row(CopyBuffer { start, length: length.unsigned_abs() as usize }),
            (0, _) => CopyRead::WouldBlock,
            (-1, _) => CopyRead::End,
            _ => CopyRead::Failed,
        }
    }

    /// Queues a copied row. `Some(false)`: the send buffer is full, wait until the socket can be written. `None`: broken.
    pub fn put_copy_row(&mut self, bytes: &[u8]) -> Option<bool> {
        let length = c_int::try_from(bytes.len()).ok()?;
        // SAFETY: the connection is live; the bytes are copied.
        match unsafe { raw::PQputCopyData(self.ptr(), bytes.as_ptr().cast(), length) } {
            1 => Some(true),
            0 => Some(false),
            _ => None,
        }
    }
}

impl Drop for PgConn {
    fn drop(&mut self) {
        if !forget(self.ptr()) && CLOSED.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: live until here and not used afterwards; taken off the exit list first.
        unsafe { raw::PQfinish(self.ptr()) }
    }
}

/// The result of a command. Drop frees it, on ERROR too.
pub struct PgResult(NonNull<raw::PGresult>);

/// Fields of an error that the peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorField {
    /// SQLSTATE.
    Sqlstate,
    /// Primary message.
    Primary,
    /// Detail.
    Detail,
    /// Hint.
    Hint,
}

impl PgResult {
    fn ptr(&self) -> *mut raw::PGresult {
        self.0.as_ptr()
    }

    /// What the command ended with.
    pub fn kind(&self) -> ResultKind {
        // SAFETY: the result is live.
        match unsafe { raw::PQresultStatus(self.ptr()) } {
            raw::PGRES_EMPTY_QUERY | raw::PGRES_COMMAND_OK => ResultKind::Command,
            raw::PGRES_TUPLES_OK => ResultKind::Rows,
            raw::PGRES_COPY_BOTH => ResultKind::CopyBoth,
            raw::PGRES_COPY_OUT | raw::PGRES_COPY_IN => ResultKind::OtherCopy,
            _ => ResultKind::Error,
        }
    }

    /// A field of the error.
    pub fn error_field(&self, field: ErrorField) -> Option<String> {
        let code = match field {
            ErrorField::Sqlstate => b'C',
            ErrorField::Primary => b'M',
            ErrorField::Detail => b'D',
            ErrorField::Hint => b'H',
        };
        // SAFETY: the result is live; the text belongs to it and is copied.
        unsafe {
            let value = raw::PQresultErrorField(self.ptr(), c_int::from(code));
            (!value.is_null()).then(|| text(value))
        }
    }

    /// All rows as text; `None` is NULL. Bytes that are not UTF-8 are replaced.
    pub fn rows(&self) -> Vec<Vec<Option<String>>> {
        // SAFETY: the result is live.
        let (rows, columns) = unsafe { (raw::PQntuples(self.ptr()), raw::PQnfields(self.ptr())) };
        (0..rows).map(|row| (0..columns).map(|column| self.cell(row, column)).collect()).collect()
    }

    fn cell(&self, row: c_int, column: c_int) -> Option<String> {
        // SAFETY: the result is live and the indexes are in range; the bytes belong to it and are copied.
        unsafe {
            if raw::PQgetisnull(self.ptr(), row, column) != 0 {
                return None;
            }
            let length = usize::try_from(raw::PQgetlength(self.ptr(), row, column)).unwrap_or_default();
            let start = raw::PQgetvalue(self.ptr(), row, column).cast::<u8>();
            Some(String::from_utf8_lossy(core::slice::from_raw_parts(start, length)).into_owned())
        }
    }
}

impl Drop for PgResult {
    fn drop(&mut self) {
        // SAFETY: live until here and not used afterwards.
        unsafe { raw::PQclear(self.ptr()) }
    }
}

/// One copied row in libpq's own memory. Drop frees it, on ERROR too.
pub struct CopyBuffer {
    start: NonNull<u8>,
    length: usize,
}

impl CopyBuffer {
    /// The bytes of the row.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: libpq gave this many initialised bytes, and they are ours until Drop.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for CopyBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated by libpq, freed once.
        unsafe { raw::PQfreemem(self.start.as_ptr().cast()) }
    }
}

/// The keywords of a connection string with their values, defaults left out. `None`: libpq does not understand it. Its
/// own message may quote parts of the string and is therefore dropped.
pub fn parse_conninfo(conninfo: &CStr) -> Option<Vec<(String, String)>> {
    let mut message: *mut c_char = null_mut();
    // SAFETY: the result is a list that ends with a null keyword, ours to free, or null with an allocated message.
    unsafe {
        let list = raw::PQconninfoParse(conninfo.as_ptr(), &mut message);
        if !message.is_null() {
            raw::PQfreemem(message.cast());
        }
        if list.is_null() {
            return None;
        }
        let mut pairs = Vec::new();
        let mut option = list;
        while !(*option).keyword.is_null() {
            if !(*option).val.is_null() {
                pairs.push((text((*option).keyword), text((*option).val)));
            }
            option = option.add(1);
        }
        raw::PQconninfoFree(list);
        Some(pairs)
    }
}

/// # Safety
/// `value` is null or a terminated string.
unsafe fn text(value: *const c_char) -> String {
    if value.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned()
}

/// Notices of the peer are not ours to report, and libpq would print them on standard error.
extern "C" fn ignore_notice(_arg: *mut c_void, _result: *const raw::PGresult) {}

/// The C side. Every function is documented in PostgreSQL's manual, chapter libpq.
mod raw {
    use core::ffi::{c_char, c_int, c_uint, c_void};

    #[repr(C)]
    pub struct PGconn([u8; 0]);
    #[repr(C)]
    pub struct PGresult([u8; 0]);

    /// `PQconninfoOption`.
    #[repr(C)]
    pub struct ConninfoOption {
        pub keyword: *mut c_char,
        envvar: *mut c_char,
        compiled: *mut c_char,
        pub val: *mut c_char,
        label: *mut c_char,
        dispchar: *mut c_char,
        dispsize: c_int,
    }

    pub const CONNECTION_BAD: c_uint = 1;
    pub const PGRES_POLLING_READING: c_uint = 1;
    pub const PGRES_POLLING_WRITING: c_uint = 2;
    pub const PGRES_POLLING_OK: c_uint = 3;
    pub const PGRES_EMPTY_QUERY: c_uint = 0;
    pub const PGRES_COMMAND_OK: c_uint = 1;
    pub const PGRES_TUPLES_OK: c_uint = 2;
    pub const PGRES_COPY_OUT: c_uint = 3;
    pub const PGRES_COPY_IN: c_uint = 4;
    pub const PGRES_COPY_BOTH: c_uint = 8;

    pub type NoticeReceiver = Option<extern "C" fn(*mut c_void, *const PGresult)>;

    #[link(name = "pq")]
    unsafe extern "C" {
        pub fn PQconnectStartParams(
            keywords: *const *const c_char,
            values: *const *const c_char,
            expand: c_int,
        ) -> *mut PGconn;
        pub fn PQconnectPoll(conn: *mut PGconn) -> c_uint;
        pub fn PQfinish(conn: *mut PGconn);
        pub fn PQstatus(conn: *const PGconn) -> c_uint;
        pub fn PQsocket(conn: *const PGconn) -> c_int;
        pub fn PQerrorMessage(conn: *const PGconn) -> *mut c_char;
        pub fn PQserverVersion(conn: *const PGconn) -> c_int;
        pub fn PQsetnonblocking(conn: *mut PGconn, on: c_int) -> c_int;
        pub fn PQsetNoticeReceiver(conn: *mut PGconn, receiver: NoticeReceiver, arg: *mut c_void) -> NoticeReceiver;
        pub fn PQsendQuery(conn: *mut PGconn, sql: *const c_char) -> c_int;
        pub fn PQsendQueryParams(
            conn: *mut PGconn,
            sql: *const c_char,
            count: c_int,
            types: *const c_uint,
            values: *const *const c_char,
            lengths: *const c_int,
            formats: *const c_int,
            result_format: c_int,
        ) -> c_int;
        pub fn PQflush(conn: *mut PGconn) -> c_int;
        pub fn PQconsumeInput(conn: *mut PGconn) -> c_int;
        pub fn PQisBusy(conn: *const PGconn) -> c_int;
        pub fn PQgetResult(conn: *mut PGconn) -> *mut PGresult;
        pub fn PQgetCopyData(conn: *mut PGconn, buffer: *mut *mut c_char, non_blocking: c_int) -> c_int;
        pub fn PQputCopyData(conn: *mut PGconn, buffer: *const c_char, length: c_int) -> c_int;
        pub fn PQresultStatus(result: *const PGresult) -> c_uint;
        pub fn PQresultErrorField(result: *const PGresult, field: c_int) -> *mut c_char;
        pub fn PQntuples(result: *const PGresult) -> c_int;
        pub fn PQnfields(result: *const PGresult) -> c_int;
        pub fn PQgetisnull(result: *const PGresult, row: c_int, column: c_int) -> c_int;
        pub fn PQgetlength(result: *const PGresult, row: c_int, column: c_int) -> c_int;
        pub fn PQgetvalue(result: *const PGresult, row: c_int, column: c_int) -> *mut c_char;
        pub fn PQclear(result: *mut PGresult);
        pub fn PQfreemem(pointer: *mut c_void);
        pub fn PQconninfoParse(conninfo: *const c_char, message: *mut *mut c_char) -> *mut ConninfoOption;
        pub fn PQconninfoFree(options: *mut ConninfoOption);
    }
}
