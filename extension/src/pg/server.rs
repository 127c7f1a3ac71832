//! Facts about the server we run in: versions, identity, start-up settings, and which of our patches it carries.
//!
//! # Invariants
//! 1. A patched symbol is never named at link time: it is looked up in the running server, so that one library loads on
//!    patched and stock servers alike.
//! 2. Features are asked of the running server, not of the headers that the library was built with.

use core::ffi::{CStr, c_char, c_int, c_void};
use pgrx::{IntoDatum, pg_sys};
use spock_core::types::PgTime;
use std::sync::OnceLock;

/// Version of this library, `major.minor.patch`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Id of the patch series that the server had whose headers this library was compiled with. `None`: not a patched one, or
/// the build did not say.
pub const PATCHSET_AT_BUILD: Option<&str> = option_env!("SPOCK_PATCHSET_ID");

/// Name of the file below the server's share directory in which a patched server records its patch series.
pub const PATCHSET_FILE: &str = "spock-patchset.toml";

type SubtransactionCommitTs =
    unsafe extern "C-unwind" fn(pg_sys::TransactionId, pg_sys::TimestampTz, pg_sys::RepOriginId);

/// The server's logical commit clock (patch 025): commit times that only move forward.
#[derive(Debug, Clone, Copy)]
pub struct CommitClock {
    stop: *mut pg_sys::TimestampTz,
}

// SAFETY: addresses of a variable and of functions of the server, the same in every thread; used on the main thread only.
unsafe impl Send for CommitClock {}
// SAFETY: as above.
unsafe impl Sync for CommitClock {}

/// What the running server has beyond a stock one.
#[derive(Debug)]
pub struct Features {
    /// Patch 015: column options `log_old_value` and `delta_apply_function`; old values in WAL.
    pub old_values_in_wal: bool,
    /// Patch 025. Absent: a commit waits until the local clock has passed the remote commit time.
    pub commit_clock: Option<CommitClock>,
    /// Patch 030: commit time and origin of one subtransaction.
    pub subtransaction_commit_ts: bool,
}

fn address(symbol: &CStr) -> Option<*mut c_void> {
    // SAFETY: a look-up among the symbols of the running program.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// All three names are one patch; a server with only some of them is not one that we know.
fn find_commit_clock() -> Option<CommitClock> {
    address(c"XLogGetLastTransactionStopTimestamp")?;
    address(c"XLogSetLastTransactionStopTimestamp")?;
    let stop = address(c"remoteTransactionStopTimestamp")?;
    Some(CommitClock { stop: stop.cast() })
}

/// The column option has no symbol of its own. The server's parser of column options tells: it stores what it knows behind
/// the two options of a stock server and ignores the rest.
fn parses_log_old_value() -> bool {
    /// Length word, padding, two doubles: the options of a stock server.
    const STOCK_BYTES: usize = 24;
    let Some(options) = vec![Some("log_old_value=true".to_owned())].into_datum() else {
        return false;
    };
    // SAFETY: the argument is a text[]; the result is null or a varlena in the current context with at least its own
    // length of bytes. The option, where known, is the first byte behind the stock ones.
    unsafe {
        let parsed = pg_sys::attribute_reloptions(options, false);
        if parsed.is_null() {
            return false;
        }
        let bytes = pgrx::varsize_any(parsed.cast());
        bytes > STOCK_BYTES && *parsed.cast::<u8>().add(STOCK_BYTES) == 1
    }
}

/// Whether the server has the commit clock. Also outside a transaction.
pub fn has_commit_clock() -> bool {
    find_commit_clock().is_some()
}

/// What this server has. Looked up once in each process, inside a transaction.
pub fn features() -> &'static Features {
    static FEATURES: OnceLock<Features> = OnceLock::new();
    FEATURES.get_or_init(|| Features {
        old_values_in_wal: parses_log_old_value(),
        commit_clock: find_commit_clock(),
        subtransaction_commit_ts: subtransaction_setter().is_some(),
    })
}

fn subtransaction_setter() -> Option<SubtransactionCommitTs> {
    static SETTER: OnceLock<Option<SubtransactionCommitTs>> = OnceLock::new();
    *SETTER.get_or_init(|| {
        let found = address(c"SubTransactionIdSetCommitTsData")?;
        // SAFETY: the name has this C type in every server that has it: part of the patch contract.
        Some(unsafe { core::mem::transmute::<*mut c_void, SubtransactionCommitTs>(found) })
    })
}

/// Gives a subtransaction of the open transaction a commit time (microseconds since 2000) and origin of its own. False: this server
/// cannot do that.
///
/// # Safety
/// `xid` is a subtransaction that has not been rolled back.
pub(super) unsafe fn set_subtransaction_version(xid: pg_sys::TransactionId, time: i64, origin: u16) -> bool {
    let Some(set) = subtransaction_setter() else { return false };
    // SAFETY: a function of the server, called through a boundary because it may raise; nothing here has a destructor.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| set(xid, time, origin)) }
    true
}

/// Tells the commit that follows at which time the remote transaction committed, so that the commit clock moves past it.
/// Returns whether the server has the clock; without it nothing happens. The server resets it at the next transaction.
pub fn set_remote_stop_timestamp(time: PgTime) -> bool {
    let Some(clock) = features().commit_clock else {
        return false;
    };
    // SAFETY: the address of a variable of this process that only the main thread uses.
    unsafe { *clock.stop = time.micros() }
    true
}

/// Whether each named start-up symbol of our patches is in this server, in the order of the patch series.
pub fn patch_symbols() -> [(&'static str, bool); 7] {
    const SYMBOLS: [&CStr; 7] = [
        c"remoteTransactionStopTimestamp",
        c"XLogGetLastTransactionStopTimestamp",
        c"XLogSetLastTransactionStopTimestamp",
        c"XLogReserveInsertHook",
        c"XLogReserveInsertHookData",
        c"XLogReserveInsertHookModifiedRecord",
        c"SubTransactionIdSetCommitTsData",
    ];
    SYMBOLS.map(|symbol| (symbol.to_str().unwrap_or_default(), address(symbol).is_some()))
}

/// Id of the patch series that the running server says it has.
pub fn patchset_of_server() -> Option<String> {
    let mut share = [0 as c_char; pg_sys::MAXPGPATH as usize];
    // SAFETY: writes at most MAXPGPATH bytes with a terminator; my_exec_path is set in every server process.
    let share = unsafe {
        let program: *const c_char = (&raw const pg_sys::my_exec_path).cast();
        pg_sys::get_share_path(program, share.as_mut_ptr());
        CStr::from_ptr(share.as_ptr())
    };
    let path = std::path::Path::new(share.to_str().ok()?).join(PATCHSET_FILE);
    let text = std::fs::read_to_string(path).ok()?;
    patchset_id(&text)
}

fn patchset_id(toml: &str) -> Option<String> {
    let value = toml.lines().find_map(|line| line.trim().strip_prefix("id")?.trim_start().strip_prefix('='))?;
    let value = value.trim().trim_matches('"');
    (!value.is_empty()).then(|| value.to_owned())
}

/// `server_version_num` of the running server, e.g. 170011.
pub fn pg_version_num() -> i32 {
    setting("server_version_num").and_then(|text| text.parse().ok()).unwrap_or(pg_sys::PG_VERSION_NUM as i32)
}

/// A server setting as text, with its unit left out. `None`: this server does not know it.
pub fn setting(name: &str) -> Option<String> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: with missing_ok the result is null or a string that the server owns; copied at once.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
    }
}

/// OID of the current database.
pub fn database_oid() -> u32 {
    // SAFETY: reads a global of this backend.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

/// Name of the current database. The caller is inside a transaction.
pub fn database_name() -> String {
    // SAFETY: null or a palloc'd string; the database we are connected to exists.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// Name of the current database's encoding, e.g. `UTF8`.
pub fn encoding_name() -> String {
    // SAFETY: a static string of the server.
    unsafe { CStr::from_ptr(pg_sys::GetDatabaseEncodingName()).to_string_lossy().into_owned() }
}

/// The cluster's system identifier (control file).
pub fn system_identifier() -> u64 {
    // SAFETY: reads shared memory that is set up before any backend starts.
    unsafe { pg_sys::GetSystemIdentifier() }
}

/// Whether the server runs for pg_upgrade: then nothing of ours may start.
pub fn is_binary_upgrade() -> bool {
    // SAFETY: reads a global of this process.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// Whether the postmaster is loading `shared_preload_libraries` right now.
pub fn is_preloading() -> bool {
    // SAFETY: reads a global of this process.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// The server settings that must be right before anything of ours can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartSettings {
    /// `wal_level` is `logical`.
    pub wal_is_logical: bool,
    /// `track_commit_timestamp`.
    pub commit_timestamps: bool,
    /// `max_worker_processes`.
    pub worker_processes: i32,
    /// `max_replication_slots`.
    pub replication_slots: i32,
    /// `max_wal_senders`.
    pub wal_senders: i32,
}

/// Reads [`StartSettings`].
pub fn start_settings() -> StartSettings {
    // SAFETY: reads globals that the configuration file has set.
    unsafe {
        StartSettings {
            wal_is_logical: pg_sys::wal_level >= pg_sys::WalLevel::WAL_LEVEL_LOGICAL as c_int,
            commit_timestamps: pg_sys::track_commit_timestamp,
            worker_processes: pg_sys::max_worker_processes,
            replication_slots: pg_sys::max_replication_slots,
            wal_senders: pg_sys::max_wal_senders,
        }
    }
}

/// Whether slots may be made with our output plugin. `None`: this server does not restrict output plugins.
pub fn output_plugin_allowed() -> Option<bool> {
    let list = setting("output_plugin_libraries")?;
    Some(list.split(',').any(|name| name.trim().trim_matches('"') == "spock_output"))
}
