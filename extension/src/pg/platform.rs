//! Facts of the running server that a peer must know before datum images can be exchanged.

use core::ffi::CStr;
use pgrx::pg_sys;
use spock_core::options::BuildFacts;
use spock_core::options::provider::ProviderFacts;

/// Version of this library.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Gathers the facts. Works outside a transaction.
pub fn provider_facts() -> ProviderFacts {
    ProviderFacts {
        build: BuildFacts::of_this_machine(setting(c"server_version_num").parse().unwrap_or(pg_sys::PG_VERSION_NUM)),
        pg_version: setting(c"server_version"),
        catalog_version: pg_sys::CATALOG_VERSION_NO,
        max_align: pg_sys::MAXIMUM_ALIGNOF,
        // SAFETY: a static string of the server.
        encoding: unsafe { CStr::from_ptr(pg_sys::GetDatabaseEncodingName()) }.to_string_lossy().into_owned(),
        spock_version: VERSION.into(),
        // Major * 10000 + minor * 100 + patch.
        spock_version_num: VERSION.split('.').fold(0, |sum, part| sum * 100 + part.parse::<u32>().unwrap_or(0)),
    }
}

/// Process id of this backend.
pub fn process_id() -> i32 {
    // SAFETY: reads a global of this backend.
    unsafe { pg_sys::MyProcPid }
}

fn setting(name: &CStr) -> String {
    // SAFETY: the name is a setting of every server; the result is null or a string that is copied at once.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() { String::new() } else { CStr::from_ptr(value).to_string_lossy().into_owned() }
    }
}

/// Makes the text of dates, intervals and floats independent of the settings of role and database, in a replication
/// connection. A session of the SQL functions belongs to its user and keeps what it has.
pub fn neutral_text_formats() {
    // SAFETY: reads a global of this backend.
    if !unsafe { pg_sys::am_walsender } {
        return;
    }
    for (name, value) in [(c"datestyle", c"ISO"), (c"intervalstyle", c"postgres"), (c"extra_float_digits", c"3")] {
        // SAFETY: settings that any user may change, valid values.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}
