//! Connections to other nodes, or to this one: connect with a deadline, ask, stream. On top of the binding in `pg::libpq`.
//!
//! # Invariants
//! 1. Every wait is interruptible and uses this process's latch; a connect has a deadline, and so has a silence
//!    ([`patience`]). An established connection has TCP keepalives, so a dead peer is noticed without our help.
//! 2. No error text holds a connection string or a password.
//! 3. An open connection is accounted for in the server's number of descriptors; Drop gives it back, on ERROR too.
//! 4. A frame of a stream borrows libpq's memory until the next call on the stream.

mod patience;

pub use patience::Patience;

use crate::catalog::dsn::Dsn;
use crate::error::Report;
use crate::pg::latch::{self, Interest, SocketWait};
use crate::pg::libpq::{self, CopyBuffer, CopyRead, ErrorField, PgConn, PgResult, Polling, ResultKind};
use crate::settings;
use core::ffi::{CStr, c_int};
use core::fmt;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::CString;
use std::time::{Duration, Instant};

/// Idle time before the first TCP keepalive, seconds; with the next two: a dead peer is noticed after 25 s.
const KEEPALIVES_IDLE_S: &str = "10";
/// Time between keepalives, seconds.
const KEEPALIVES_INTERVAL_S: &str = "5";
/// Unanswered keepalives before the connection counts as lost.
const KEEPALIVES_COUNT: &str = "3";
/// What peers see as our connect timeout, seconds. libpq ignores it here; the caller's deadline holds.
const CONNECT_TIMEOUT_S: &str = "30";
/// Formats that text values are read in, whatever the peer's or the user's settings are.
const SESSION_OPTIONS: &str = "-c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3";
/// A peer that takes nothing for so long counts as lost. Feedback is small: only a stopped peer gets here.
const SEND_STALL_MAX: Duration = Duration::from_secs(60);

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub struct Purpose<'a> {
    /// Shown in the peer's `pg_stat_activity` and `pg_stat_replication`.
    pub application_name: &'a str,
    /// A connection of the replication protocol, for slots and streams.
    pub replication: bool,
}

/// Why talking to a peer failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnError {
    /// libpq does not understand the connection string.
    BadDsn,
    /// This server has no file descriptor to spare.
    TooManyDescriptors,
    /// The peer could not be reached or refused us. The text is libpq's.
    Refused(String),
    /// The peer did not answer in time.
    Deadline(Duration),
    /// The peer has been asked something and was silent for so long.
    Silent(Duration),
    /// An established connection broke. The text is libpq's.
    Lost(String),
    /// The peer answered with an error.
    Server {
        /// SQLSTATE.
        code: PgSqlErrorCode,
        /// Primary message.
        message: String,
        /// Detail line.
        detail: Option<String>,
        /// Hint line.
        hint: Option<String>,
    },
    /// The peer answered something that does not belong here.
    Unexpected(&'static str),
}

impl ConnError {
    /// What programs match on.
    pub fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            Self::BadDsn => PgSqlErrorCode::ERRCODE_SYNTAX_ERROR,
            Self::TooManyDescriptors => PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
            Self::Refused(_) | Self::Deadline(_) => PgSqlErrorCode::ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
            Self::Lost(_) | Self::Silent(_) => PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
            Self::Server { code, .. } => *code,
            Self::Unexpected(_) => PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION,
        }
    }

    /// What the operator may do: what the peer says of it, or we.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Server { hint, .. } => hint.clone(),
            Self::Silent(_) => Some(
                "Its server, or the process there that should answer, stands still: see pg_stat_activity there, and \
                 \"spock.apply_idle_timeout\" here."
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// The five characters of a SQLSTATE.
pub fn sqlstate_text(code: PgSqlErrorCode) -> [u8; 5] {
    // The server packs six bits a character, first character lowest, `0` as zero.
    let packed = (code as i32).cast_unsigned();
    core::array::from_fn(|place| ((packed >> (6 * place)) & 0x3f) as u8 + b'0')
}

fn sqlstate_code(text: &str) -> PgSqlErrorCode {
    let packed = text
        .bytes()
        .take(5)
        .enumerate()
        .fold(0, |all, (place, byte)| all | ((i32::from(byte) - 48) & 0x3f) << (6 * place));
    PgSqlErrorCode::from(packed)
}

impl fmt::Display for ConnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadDsn => f.write_str("the connection string is not valid"),
            Self::TooManyDescriptors => f.write_str("no file descriptor is left for a connection"),
            Self::Refused(text) => write!(f, "could not connect: {text}"),
            Self::Deadline(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            Self::Silent(limit) => write!(f, "no answer for {} ms", limit.as_millis()),
            Self::Lost(text) => write!(f, "connection lost: {text}"),
            Self::Server { message, .. } => f.write_str(message),
            Self::Unexpected(what) => write!(f, "unexpected answer of the peer: {what}"),
        }
    }
}

impl From<ConnError> for Report {
    fn from(error: ConnError) -> Self {
        let mut report = Report::new(error.sqlstate(), error.to_string());
        report.hint = error.hint();
        if let ConnError::Server { detail, .. } = error {
            report.detail = detail;
        }
        report
    }
}

/// A descriptor outside the server's own file cache, accounted for. Drop runs on ERROR too and cannot raise.
struct ExternalDescriptor(());

impl ExternalDescriptor {
    fn acquire() -> Option<Self> {
        // SAFETY: changes a counter of this process and may close cached files.
        unsafe { pg_sys::AcquireExternalFD() }.then(|| Self(()))
    }
}

impl Drop for ExternalDescriptor {
    fn drop(&mut self) {
        // SAFETY: gives back what `acquire` took.
        unsafe { pg_sys::ReleaseExternalFD() }
    }
}

/// Rows of an answer, all values as text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All values, row by row.
    pub fn into_values(self) -> Vec<Vec<Option<String>>> {
        self.rows
    }

    /// A value by row and column number from 0. `None`: NULL, or no such place.
    pub fn get(&self, row: usize, column: usize) -> Option<&str> {
        self.rows.get(row)?.get(column)?.as_deref()
    }
}

/// A connection to a node. Drop closes it, on ERROR too; a FATAL closes it through the exit list of `pg::libpq`.
pub struct Connection {
    pg: PgConn,
    replication: bool,
    secrets: Vec<String>,
    patience: Patience,
    _descriptor: ExternalDescriptor,
}

impl Connection {
    /// Connects within `deadline`. Resolving a host name is libpq's and may take longer.
    pub fn connect(dsn: &Dsn, purpose: Purpose<'_>, deadline: Duration) -> Result<Self, ConnError> {
        let started = Instant::now();
        let text = c_text(dsn.as_str())?;
        let options = conninfo_options(&text)?;
        let extra = parse_extra_options(&settings::extra_connection_options()).unwrap_or_default();
        let secrets: Vec<String> = options
            .iter()
            .filter(|(key, _)| key.contains("password") || key.contains("secret"))
            .map(|(_, value)| value.clone())
            .collect();
        let descriptor = ExternalDescriptor::acquire().ok_or(ConnError::TooManyDescriptors)?;
        let parameters = parameters(text, &options, &extra, purpose)?;
        let mut pg = PgConn::start(&parameters).ok_or(ConnError::TooManyDescriptors)?;
        drop(parameters);
        let mut state = Polling::Writing;
        loop {
            let interest = match state {
                _ if pg.is_bad() => return Err(ConnError::Refused(scrub(pg.error_message(), &secrets))),
                Polling::Reading => Interest::Read,
                Polling::Writing => Interest::Write,
                Polling::Done => break,
                Polling::Failed => return Err(ConnError::Refused(scrub(pg.error_message(), &secrets))),
            };
            let left = deadline
                .checked_sub(started.elapsed())
                .filter(|left| !left.is_zero())
                .ok_or(ConnError::Deadline(deadline))?;
            let socket = pg.socket().ok_or_else(|| ConnError::Refused(scrub(pg.error_message(), &secrets)))?;
            let woken = latch::wait_socket(socket, interest, left);
            if woken.readable || woken.writable {
                state = pg.poll();
            }
        }
        if !pg.set_nonblocking() {
            return Err(ConnError::Lost(scrub(pg.error_message(), &secrets)));
        }
        Ok(Self { pg, replication: purpose.replication, secrets, patience: Patience::short(), _descriptor: descriptor })
    }

    /// From now on answers may take as long as the peer, whose address is `dsn`, lets others in.
    pub fn wait_while_it_lives(&mut self, dsn: &Dsn) {
        self.patience = Patience::long(dsn.clone());
    }

    /// From now on a peer that says nothing for `limit` counts as lost; `None`: for `spock.apply_idle_timeout`, as at first.
    pub fn wait_within(&mut self, limit: Option<Duration>) {
        self.patience = Patience::within(limit);
    }

    /// Whether the peer still holds the connection, as far as can be told without sending anything. Between two commands.
    pub fn is_alive(&mut self) -> bool {
        self.pg.consume_input() && !self.pg.is_bad()
    }

    /// The peer's version, e.g. 170011.
    pub fn server_version_num(&self) -> i32 {
        self.pg.server_version()
    }

    /// Runs a command and returns its rows; the last result when there are several. On a replication connection the simple
    /// protocol is used and `params` is empty.
    pub fn query(&mut self, sql: &str, params: &[Option<&str>]) -> Result<Rows, ConnError> {
        let result = self.run(sql, params)?;
        match result.kind() {
            ResultKind::Command => Ok(Rows::default()),
            ResultKind::Rows => Ok(Rows { rows: result.rows() }),
            ResultKind::Error => Err(self.server_error(&result)),
            ResultKind::CopyBoth | ResultKind::OtherCopy => Err(ConnError::Unexpected("a copy")),
        }
    }

    /// Runs `START_REPLICATION …` and turns the connection into a stream.
    pub fn start_copy_both(mut self, command: &str) -> Result<Stream, ConnError> {
        let result = self.run(command, &[])?;
        match result.kind() {
            ResultKind::CopyBoth => {}
            ResultKind::Error => return Err(self.server_error(&result)),
            _ => return Err(ConnError::Unexpected("no stream")),
        }
        drop(result);
        let socket = self.pg.socket().ok_or_else(|| self.lost())?;
        Ok(Stream { frame: None, unsent: false, latch_seen: false, wait: SocketWait::new(socket), conn: self })
    }

    /// Runs `COPY … TO STDOUT`. The connection is free again once the copy has ended or is dropped at its end.
    pub fn start_copy_out(&mut self, command: &str) -> Result<CopyOut<'_>, ConnError> {
        let result = self.run(command, &[])?;
        match result.kind() {
            ResultKind::OtherCopy => {}
            ResultKind::Error => return Err(self.server_error(&result)),
            _ => return Err(ConnError::Unexpected("no copy")),
        }
        drop(result);
        Ok(CopyOut { connection: self, ended: false })
    }

    fn run(&mut self, sql: &str, params: &[Option<&str>]) -> Result<PgResult, ConnError> {
        let sql = c_text(sql)?;
        let sent = if self.replication || params.is_empty() {
            debug_assert!(params.is_empty(), "replication commands take no parameters");
            self.pg.send_query(&sql)
        } else {
            let values = params.iter().map(|value| value.map(c_text).transpose()).collect::<Result<Vec<_>, _>>()?;
            self.pg.send_query_params(&sql, &values)
        };
        if !sent {
            return Err(self.lost());
        }
        let mut heard_at = Instant::now();
        self.flush_all(&mut heard_at)?;
        let mut last: Option<PgResult> = None;
        loop {
            while self.pg.is_busy() {
                self.wait_for_input(&mut heard_at)?;
            }
            let Some(result) = self.pg.result() else {
                return last.ok_or_else(|| self.lost());
            };
            match result.kind() {
                // The command goes on as a stream; asking for more results would end it.
                ResultKind::CopyBoth | ResultKind::OtherCopy => return Ok(result),
                // Keep the first error: what follows is a consequence.
                _ if last.as_ref().is_some_and(|earlier| earlier.kind() == ResultKind::Error) => {}
                _ => last = Some(result),
            }
        }
    }

    /// Waits once for bytes of the peer, which were last seen at `heard_at`, and takes them.
    fn wait_for_input(&mut self, heard_at: &mut Instant) -> Result<(), ConnError> {
        let woken = latch::wait_socket(self.socket()?, Interest::Read, self.patience.slice(*heard_at));
        if woken.readable {
            *heard_at = Instant::now();
        } else if !woken.latch {
            // A latch that is set hides whether there are bytes.
            self.patience.check(heard_at)?;
        }
        if self.pg.consume_input() { Ok(()) } else { Err(self.lost()) }
    }

    fn flush_all(&mut self, heard_at: &mut Instant) -> Result<(), ConnError> {
        loop {
            match self.pg.flush() {
                Some(true) => return Ok(()),
                None => return Err(self.lost()),
                Some(false) => {}
            }
            let woken = latch::wait_socket(self.socket()?, Interest::ReadWrite, self.patience.slice(*heard_at));
            if woken.readable || woken.writable {
                *heard_at = Instant::now();
            } else if !woken.latch {
                self.patience.check(heard_at)?;
            }
            if woken.readable && !self.pg.consume_input() {
                return Err(self.lost());
            }
        }
    }

    fn socket(&self) -> Result<c_int, ConnError> {
        self.pg.socket().ok_or_else(|| self.lost())
    }

    fn lost(&self) -> ConnError {
        ConnError::Lost(scrub(self.pg.error_message(), &self.secrets))
    }

    fn server_error(&self, result: &PgResult) -> ConnError {
        let Some(code) = result.error_field(ErrorField::Sqlstate) else {
            // libpq's own errors have no SQLSTATE: the socket broke.
            return self.lost();
        };
        ConnError::Server {
            code: sqlstate_code(&code),
            message: scrub(result.error_field(ErrorField::Primary).unwrap_or_default(), &self.secrets),
            detail: result.error_field(ErrorField::Detail),
            hint: result.error_field(ErrorField::Hint),
        }
    }
}

/// A running `COPY … TO STDOUT`. Dropped before its end it leaves the connection in the middle of the copy: good only for
/// being dropped, too.
pub struct CopyOut<'c> {
    connection: &'c mut Connection,
    ended: bool,
}

impl CopyOut<'_> {
    /// The next piece of the copy, whole rows as the peer sent them; waits for it. `None`: the copy is complete, and the
    /// peer has said so. Every wait is interruptible.
    pub fn next(&mut self) -> Result<Option<CopyBuffer>, ConnError> {
        let mut heard_at = Instant::now();
        while !self.ended {
            match self.connection.pg.copy_row() {
                CopyRead::Row(row) => {
                    latch::check_interrupts();
                    return Ok(Some(row));
                }
                CopyRead::End => {
                    self.ended = true;
                    self.finish()?;
                }
                CopyRead::Failed => return Err(self.connection.lost()),
                CopyRead::WouldBlock => self.connection.wait_for_input(&mut heard_at)?,
            }
        }
        Ok(None)
    }

    /// A piece that has arrived already. `None`: there is none now, or the copy is complete.
    pub fn next_ready(&mut self) -> Result<Option<CopyBuffer>, ConnError> {
        if self.ended {
            return Ok(None);
        }
        match self.connection.pg.copy_row() {
            CopyRead::Row(row) => Ok(Some(row)),
            CopyRead::Failed => Err(self.connection.lost()),
            CopyRead::WouldBlock => Ok(None),
            CopyRead::End => {
                self.ended = true;
                self.finish()?;
                Ok(None)
            }
        }
    }

    /// Reads the command's results: without an error among them the peer has sent everything.
    fn finish(&mut self) -> Result<(), ConnError> {
        let mut complete = false;
        let mut heard_at = Instant::now();
        loop {
            while self.connection.pg.is_busy() {
                self.connection.wait_for_input(&mut heard_at)?;
            }
            let Some(result) = self.connection.pg.result() else {
                return if complete { Ok(()) } else { Err(self.connection.lost()) };
            };
            match result.kind() {
                ResultKind::Error => return Err(self.connection.server_error(&result)),
                kind => complete |= kind == ResultKind::Command,
            }
        }
    }
}

/// What a wait on a stream brought.
pub enum Wake<'a> {
    /// One frame of the replication protocol, type byte first.
    Frame(&'a [u8]),
    /// Nothing came in time.
    Timeout,
    /// Someone set our latch: look at what may have changed.
    Latch,
    /// The peer ended the stream.
    End,
}

/// A connection that streams both ways. Drop closes it.
pub struct Stream {
    frame: Option<CopyBuffer>,
    unsent: bool,
    latch_seen: bool,
    // Dropped before the connection: it refers to the socket.
    wait: SocketWait,
    conn: Connection,
}

impl Stream {
    /// The next frame, waiting at most `wait` for it. Takes what is buffered first, then what the socket has, then waits.
    /// With `wait` zero it never waits.
    pub fn next(&mut self, wait: Duration) -> Result<Wake<'_>, ConnError> {
        self.frame = None;
        latch::check_interrupts();
        let started = Instant::now();
        let mut read_tried = false;
        loop {
            match self.conn.pg.copy_row() {
                CopyRead::Row(row) => return Ok(Wake::Frame(self.frame.insert(row).bytes())),
                CopyRead::End => return self.end(),
                CopyRead::Failed => return Err(self.conn.lost()),
                CopyRead::WouldBlock => {}
            }
            if self.unsent {
                self.flush()?;
            }
            if !read_tried {
                read_tried = true;
                self.read()?;
                continue;
            }
            if core::mem::take(&mut self.latch_seen) {
                return Ok(Wake::Latch);
            }
            let left = wait.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Ok(Wake::Timeout);
            }
            let interest = if self.unsent { Interest::ReadWrite } else { Interest::Read };
            let woken = self.wait.wait(interest, left);
            if woken.readable {
                self.read()?;
            }
            if woken.latch {
                return Ok(Wake::Latch);
            }
        }
    }

    /// Queues `bytes` as one frame and sends what the socket takes; [`Stream::next`] sends the rest.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ConnError> {
        let started = Instant::now();
        while !self.conn.pg.put_copy_row(bytes).ok_or_else(|| self.conn.lost())? {
            if started.elapsed() > SEND_STALL_MAX {
                return Err(ConnError::Deadline(SEND_STALL_MAX));
            }
            let woken = self.wait.wait(Interest::ReadWrite, Duration::from_secs(1));
            self.latch_seen |= woken.latch;
            if woken.readable {
                self.read()?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), ConnError> {
        self.unsent = !self.conn.pg.flush().ok_or_else(|| self.conn.lost())?;
        Ok(())
    }

    fn read(&mut self) -> Result<(), ConnError> {
        if self.conn.pg.consume_input() { Ok(()) } else { Err(self.conn.lost()) }
    }

    /// The copy is over: an error of the peer, or a plain end.
    fn end(&mut self) -> Result<Wake<'_>, ConnError> {
        while let Some(result) = (!self.conn.pg.is_busy()).then(|| self.conn.pg.result()).flatten() {
            match result.kind() {
                ResultKind::Error => return Err(self.conn.server_error(&result)),
                // libpq repeats the copy state until we end our side too, which closing does.
                ResultKind::CopyBoth | ResultKind::OtherCopy => break,
                ResultKind::Command | ResultKind::Rows => {}
            }
        }
        Ok(Wake::End)
    }
}

fn c_text(text: &str) -> Result<CString, ConnError> {
    CString::new(text).map_err(|_| ConnError::Unexpected("a zero byte in a text of ours"))
}

/// The options inside a connection string. A bare word is a database's name and has none.
fn conninfo_options(text: &CStr) -> Result<Vec<(String, String)>, ConnError> {
    let shown = text.to_string_lossy();
    if !(shown.contains('=') || shown.starts_with("postgresql://") || shown.starts_with("postgres://")) {
        return Ok(Vec::new());
    }
    libpq::parse_conninfo(text).ok_or(ConnError::BadDsn)
}

/// What `spock.extra_connection_options` says, as keywords and values. `None`: libpq does not understand it.
pub fn parse_extra_options(text: &CStr) -> Option<Vec<(String, String)>> {
    if text.to_bytes().trim_ascii().is_empty() {
        return Some(Vec::new());
    }
    // Not an address: that would be a DSN.
    if text.to_string_lossy().contains("://") && !text.to_string_lossy().contains('=') {
        return None;
    }
    libpq::parse_conninfo(text)
}

/// A connection string for a program: without passwords, which come apart for its environment. `session_options` are added to
/// those of the DSN. Keepalives and deadlines of our own connections do not hold for programs.
pub fn for_program(
    dsn: &Dsn,
    application_name: &str,
    session_options: &str,
) -> Result<(String, Option<String>), ConnError> {
    let text = c_text(dsn.as_str())?;
    let mut options = conninfo_options(&text)?;
    if options.is_empty() {
        options.push(("dbname".to_owned(), dsn.as_str().to_owned()));
    }
    // Below the DSN, as for our own connections.
    for (key, value) in parse_extra_options(&settings::extra_connection_options()).unwrap_or_default() {
        if !options.iter().any(|(known, _)| *known == key) {
            options.push((key, value));
        }
    }
    let (mut password, mut session) = (None, String::new());
    let mut parts = Vec::new();
    for (key, value) in options {
        match key.as_str() {
            "password" => password = Some(value),
            "options" => session = value,
            "application_name" | "fallback_application_name" => {}
            _ if key.contains("password") || key.contains("secret") || key.starts_with("scram_") => {
                return Err(ConnError::Unexpected("a secret that only libpq may have"));
            }
            _ => parts.push(pair(&key, &value)),
        }
    }
    parts.push(pair("application_name", application_name));
    parts.push(pair("options", format!("{session} {session_options}").trim()));
    Ok((parts.join(" "), password))
}

/// `keyword='value'`
fn pair(keyword: &str, value: &str) -> String {
    format!("{keyword}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// All parameters in libpq's order: what stands later wins, and the parts of the DSN stand where it does. Ours that tell
/// connections apart stand last; those that only have to be something stand first.
fn parameters(
    dsn: CString,
    options: &[(String, String)],
    extra: &[(String, String)],
    purpose: Purpose<'_>,
) -> Result<Vec<(CString, CString)>, ConnError> {
    let own = options.iter().rev().chain(extra.iter().rev()).find(|(key, _)| key == "options");
    let own = own.map_or("", |(_, value)| value.as_str());
    let mut all = vec![
        (c"keepalives".to_owned(), c_text("1")?),
        (c"keepalives_idle".to_owned(), c_text(KEEPALIVES_IDLE_S)?),
        (c"keepalives_interval".to_owned(), c_text(KEEPALIVES_INTERVAL_S)?),
        (c"keepalives_count".to_owned(), c_text(KEEPALIVES_COUNT)?),
    ];
    for (key, value) in extra {
        all.push((c_text(key)?, c_text(value)?));
    }
    all.extend([
        (c"dbname".to_owned(), dsn),
        (c"application_name".to_owned(), c_text(purpose.application_name)?),
        (c"connect_timeout".to_owned(), c_text(CONNECT_TIMEOUT_S)?),
        (c"options".to_owned(), c_text(format!("{own} {SESSION_OPTIONS}").trim_start())?),
    ]);
    if purpose.replication {
        all.push((c"replication".to_owned(), c_text("database")?));
    } else {
        // Answers become Rust strings. A replication stream keeps the peer's own encoding.
        all.push((c"client_encoding".to_owned(), c_text("UTF8")?));
    }
    Ok(all)
}

/// Belt and braces: libpq does not put passwords into messages; if one ever does, it does not get further.
fn scrub(message: String, secrets: &[String]) -> String {
    secrets
        .iter()
        .filter(|secret| !secret.is_empty())
        .fold(message, |text, secret| text.replace(secret.as_str(), "********"))
}
