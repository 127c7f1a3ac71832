//! Defining a setting whose values are checked by a safe function. Plain settings go through pgrx's registry.

use core::ffi::{CStr, c_char, c_int, c_void};
use pgrx::guc::{GucCheckError, GucContext, GucEnum, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys;
use std::ffi::CString;

use crate::error::Report;

/// A value of an enumerated setting that may be refused, with a reason.
pub trait CheckedEnum: GucEnum {
    /// `Err`: the value is refused and the report is shown.
    fn check(self) -> Result<(), Report>;
}

/// Called by the server before a new value takes effect.
unsafe extern "C-unwind" fn check_hook<T: CheckedEnum>(
    value: *mut c_int,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server passes a valid pointer to one of the ordinals it was given; a panic inside becomes its ERROR.
    unsafe {
        pg_sys::submodules::panic::pgrx_extern_c_guard(move || match T::from_ordinal(*value).check() {
            Ok(()) => true,
            Err(report) => {
                explain(&report);
                false
            }
        })
    }
}

/// Defines an enumerated setting whose values are checked.
pub fn define_checked_enum<T: CheckedEnum>(
    name: &'static CStr,
    short_description: &'static CStr,
    long_description: &'static CStr,
    setting: &'static GucSetting<T>,
    context: GucContext,
) {
    // SAFETY: the hook is guarded against panics, and everything it is given is static.
    unsafe {
        GucRegistry::define_enum_guc_with_hooks(
            name,
            short_description,
            long_description,
            setting,
            context,
            GucFlags::default(),
            Some(check_hook::<T>),
            None,
            None,
        );
    }
}

/// A text that may be refused, with a reason.
pub trait CheckedString {
    /// `Err`: the value is refused and the report is shown. The report does not hold the value.
    fn check(value: &CStr) -> Result<(), Report>;
}

/// Called by the server before a new value takes effect.
unsafe extern "C-unwind" fn string_hook<T: CheckedString>(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server passes a valid pointer to a terminated string, or to null; a panic inside becomes its ERROR.
    unsafe {
        pg_sys::submodules::panic::pgrx_extern_c_guard(move || {
            let checked = if (*value).is_null() { Ok(()) } else { T::check(CStr::from_ptr(*value)) };
            checked.map_err(|report| explain(&report)).is_ok()
        })
    }
}

/// Tells the server why a value is refused. Only in a check hook that then refuses it.
fn explain(report: &Report) {
    let mut error = GucCheckError::new(report.message.as_str()).with_errcode(report.code as i32);
    if let Some(detail) = &report.detail {
        error = error.with_detail(detail.as_str());
    }
    if let Some(hint) = &report.hint {
        error = error.with_hint(hint.as_str());
    }
    // SAFETY: the caller is a check hook.
    unsafe { error.apply() }
}

/// Defines a text setting whose values are checked.
pub fn define_checked_string<T: CheckedString>(
    name: &'static CStr,
    short_description: &'static CStr,
    long_description: &'static CStr,
    setting: &'static GucSetting<Option<CString>>,
    context: GucContext,
    flags: GucFlags,
) {
    // SAFETY: the hook is guarded against panics, and everything it is given is static.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            short_description,
            long_description,
            setting,
            context,
            flags,
            Some(string_hook::<T>),
            None,
            None,
        );
    }
}

/// From now on an unknown setting that starts with `prefix.` is an error, so that a misspelt one is noticed.
pub fn reserve_prefix(prefix: &'static CStr) {
    // SAFETY: a static string; removes unknown settings of that prefix with a warning.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) }
}

/// Sets a setting that only the server itself may change, until the end of the current transaction.
pub fn set_internal_for_transaction(name: &'static CStr, value: &'static CStr) {
    // SAFETY: static strings; inside a transaction, whose end puts the former value back.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_INTERNAL,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}

/// A text of which not every value is allowed, read into something else when it takes effect.
pub trait CheckedText {
    /// `Err`: the value is refused and the report is shown.
    fn check(text: &str) -> Result<(), Report>;
    /// A checked value takes effect in this process.
    fn assign(text: &str);
}

/// A list of names, as `search_path` is one.
pub const LIST: GucFlags = GucFlags::from_bits_retain(pg_sys::GUC_LIST_INPUT as i32);

/// # Safety
/// `value` is null or a C string.
unsafe fn setting_text(value: *const c_char) -> String {
    // SAFETY: by contract.
    if value.is_null() { String::new() } else { unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned() }
}

unsafe extern "C-unwind" fn text_hook<T: CheckedText>(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server passes a valid pointer to null or a C string; a panic inside becomes its ERROR.
    unsafe {
        pg_sys::submodules::panic::pgrx_extern_c_guard(move || match T::check(&setting_text(*value)) {
            Ok(()) => true,
            Err(report) => {
                explain(&report);
                false
            }
        })
    }
}

unsafe extern "C-unwind" fn assign_hook<T: CheckedText>(value: *const c_char, _extra: *mut c_void) {
    // SAFETY: the server passes null or a C string; a panic inside becomes its ERROR.
    unsafe { pg_sys::submodules::panic::pgrx_extern_c_guard(move || T::assign(&setting_text(value))) }
}

/// Defines a text whose values are checked, read again by the server's configuration files.
pub fn define_checked_text<T: CheckedText>(
    name: &'static CStr,
    short_description: &'static CStr,
    long_description: &'static CStr,
    setting: &'static GucSetting<Option<CString>>,
    flags: GucFlags,
) {
    // SAFETY: the hooks are guarded against panics, and everything they are given is static.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            short_description,
            long_description,
            setting,
            GucContext::Sighup,
            flags,
            Some(text_hook::<T>),
            Some(assign_hook::<T>),
            None,
        );
    }
}
