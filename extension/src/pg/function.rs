//! The edge between SQL and Rust: arguments of one call in, one value, record or set of rows out. A function that SQL can
//! call is `fn(&Call) -> Result<Answer, Report>`; [`crate::sql_functions`] exports it under the C symbol that
//! `CREATE FUNCTION … AS 'MODULE_PATHNAME', 'symbol'` names.
//!
//! # Invariants
//! 1. The symbols are those of the C edition, because the catalogs of existing databases name them.
//! 2. A [`Report`] becomes the server's ERROR here and nowhere else.

use core::ffi::CStr;
use pgrx::fcinfo::{pg_arg_is_null, pg_getarg, pg_getarg_datum_raw};
use pgrx::{IntoDatum, PgSqlErrorCode, pg_sys};
use spock_core::types::{Lsn, PgTime};

use super::filtered_rows::FilteredRows;
use crate::error::Report;

/// One call of a function. Arguments are numbered from 0; `None` is SQL's NULL.
pub struct Call {
    raw: pg_sys::FunctionCallInfo,
}

/// One value on its way to SQL. The variant is the column's declared type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL of any type.
    Null,
    /// `boolean`
    Bool(bool),
    /// `integer`
    Int(i32),
    /// `bigint`
    BigInt(i64),
    /// `oid`
    Oid(u32),
    /// `"char"`
    Char(u8),
    /// `text`
    Text(String),
    /// `name`, at most 63 bytes
    Name(String),
    /// `text[]`
    Texts(Vec<String>),
    /// `jsonb`, as text
    Jsonb(String),
    /// `pg_lsn`; `None` is `0/0`
    Lsn(Option<Lsn>),
    /// `timestamp with time zone`
    Time(PgTime),
    /// `interval`, in microseconds
    Interval(i64),
    /// What a function of the server returned, of the declared type
    Computed(pg_sys::Datum),
}

impl Value {
    /// `text` or NULL.
    pub fn text(value: Option<impl Into<String>>) -> Self {
        value.map_or(Self::Null, |value| Self::Text(value.into()))
    }

    /// `text[]`, NULL when empty, as the C edition shows empty lists.
    pub fn texts(values: &[String]) -> Self {
        if values.is_empty() { Self::Null } else { Self::Texts(values.to_vec()) }
    }

    /// `timestamp with time zone` or NULL.
    pub fn time(value: Option<PgTime>) -> Self {
        value.map_or(Self::Null, Self::Time)
    }

    fn into_datum(self) -> Option<pg_sys::Datum> {
        match self {
            Self::Null => None,
            Self::Bool(value) => value.into_datum(),
            Self::Int(value) => value.into_datum(),
            Self::BigInt(value) => value.into_datum(),
            Self::Oid(value) => Some(pg_sys::Datum::from(value)),
            Self::Char(value) => Some(pg_sys::Datum::from(value)),
            Self::Text(value) => value.into_datum(),
            Self::Name(value) => Some(name_datum(&value)),
            Self::Texts(values) => values.into_datum(),
            Self::Jsonb(value) => Some(jsonb_datum(&value)),
            Self::Lsn(value) => Some(pg_sys::Datum::from(value.map_or(0, Lsn::get))),
            Self::Time(value) => Some(pg_sys::Datum::from(value.micros())),
            Self::Interval(value) => Some(interval_datum(value)),
            Self::Computed(value) => Some(value),
        }
    }
}

fn name_datum(value: &str) -> pg_sys::Datum {
    let text = std::ffi::CString::new(value).unwrap_or_default();
    // SAFETY: the room is a whole NameData; namestrcpy fills it and cuts what is longer.
    unsafe {
        let name: pg_sys::Name = pg_sys::palloc0(size_of::<pg_sys::NameData>()).cast();
        pg_sys::namestrcpy(name, text.as_ptr());
        pg_sys::Datum::from(name)
    }
}

fn interval_datum(micros: i64) -> pg_sys::Datum {
    // SAFETY: the room is a whole Interval; without months and days it is a time.
    unsafe {
        let interval: *mut pg_sys::Interval = pg_sys::palloc0(size_of::<pg_sys::Interval>()).cast();
        (*interval).time = micros;
        pg_sys::Datum::from(interval)
    }
}

fn jsonb_datum(value: &str) -> pg_sys::Datum {
    let text = std::ffi::CString::new(value).unwrap_or_default();
    let mut function = pg_sys::InvalidOid;
    let mut parameter = pg_sys::InvalidOid;
    // SAFETY: the input function of a built-in type, given a C string; it raises when the text is not JSON.
    unsafe {
        pg_sys::getTypeInputInfo(pg_sys::JSONBOID, &mut function, &mut parameter);
        pg_sys::OidInputFunctionCall(function, text.as_ptr().cast_mut(), parameter, -1)
    }
}

/// What a function returns.
pub enum Answer {
    /// `void`
    Void,
    /// One value.
    One(Value),
    /// One `record` with the function's OUT columns.
    Record(Vec<Value>),
    /// `SETOF record` with the function's OUT columns.
    Rows(Vec<Vec<Value>>),
    /// `SETOF` the row type of a table: rows of it.
    Table(FilteredRows),
}

impl Call {
    /// A view of the call that the server makes.
    ///
    /// # Safety
    /// `raw` is the argument of a version-1 function and is used only until that function returns.
    pub unsafe fn new(raw: pg_sys::FunctionCallInfo) -> Self {
        Self { raw }
    }

    /// What the server passed, for `pg`.
    pub(super) fn raw(&self) -> pg_sys::FunctionCallInfo {
        self.raw
    }

    fn arg<T: pgrx::FromDatum>(&self, n: usize) -> Option<T> {
        // SAFETY: the server checked the number and the types of the arguments against the function's declaration.
        unsafe { pg_getarg::<T>(self.raw, n) }
    }

    /// Whether argument `n` is NULL.
    pub fn is_null(&self, n: usize) -> bool {
        // SAFETY: as in `arg`.
        unsafe { pg_arg_is_null(self.raw, n) }
    }

    /// A `boolean`.
    pub fn boolean(&self, n: usize) -> Option<bool> {
        self.arg(n)
    }

    /// An `integer`.
    pub fn int(&self, n: usize) -> Option<i32> {
        self.arg(n)
    }

    /// A `bigint`.
    pub fn bigint(&self, n: usize) -> Option<i64> {
        self.arg(n)
    }

    /// A `timestamp with time zone`.
    pub fn time(&self, n: usize) -> Option<PgTime> {
        if self.is_null(n) {
            return None;
        }
        // SAFETY: not null; a timestamp is a 64-bit number by value.
        Some(PgTime::from_micros(unsafe { pg_getarg_datum_raw(self.raw, n) }.value() as i64))
    }

    /// An `oid` or `regclass`.
    pub fn oid(&self, n: usize) -> Option<u32> {
        self.arg::<pg_sys::Oid>(n).map(|oid| oid.to_u32())
    }

    /// A `pg_lsn`. The inner `None` is `0/0`.
    pub fn lsn(&self, n: usize) -> Option<Option<Lsn>> {
        if self.is_null(n) {
            return None;
        }
        // SAFETY: not null; a pg_lsn is a 64-bit number by value.
        Some(Lsn::new(unsafe { pg_getarg_datum_raw(self.raw, n) }.value() as u64))
    }

    /// The type of argument `n` in this call: what an `anyelement` stands for. `None`: not known.
    pub fn argument_type(&self, n: usize) -> Option<u32> {
        // SAFETY: a live call; the server looks at the expression that made it, if there is one.
        let found = unsafe { pg_sys::get_fn_expr_argtype((*self.raw).flinfo, n as core::ffi::c_int) };
        (found != pg_sys::InvalidOid).then(|| found.to_u32())
    }

    /// An `xid`.
    pub fn xid(&self, n: usize) -> Option<u32> {
        if self.is_null(n) {
            return None;
        }
        // SAFETY: not null; a 32-bit number by value.
        Some(unsafe { pg_getarg_datum_raw(self.raw, n) }.value() as u32)
    }

    /// A `text`.
    pub fn text(&self, n: usize) -> Option<String> {
        self.arg(n)
    }

    /// A `name`.
    pub fn name(&self, n: usize) -> Option<String> {
        if self.is_null(n) {
            return None;
        }
        // SAFETY: not null; a name is a terminated string of at most 63 bytes.
        let name = unsafe { CStr::from_ptr(pg_getarg_datum_raw(self.raw, n).cast_mut_ptr()) };
        Some(name.to_string_lossy().into_owned())
    }

    /// A `text[]`.
    pub fn texts(&self, n: usize) -> Option<Vec<Option<String>>> {
        self.arg(n)
    }

    /// Any value in the text form of its type.
    pub fn output(&self, n: usize, kind: ArgType) -> Option<String> {
        if self.is_null(n) {
            return None;
        }
        let kind = match kind {
            ArgType::Jsonb => pg_sys::JSONBOID,
            ArgType::Interval => pg_sys::INTERVALOID,
        };
        let mut function = pg_sys::InvalidOid;
        let mut varlena = false;
        // SAFETY: not null, of the named type; the output function returns a palloc'd string.
        unsafe {
            pg_sys::getTypeOutputInfo(kind, &mut function, &mut varlena);
            let text = pg_sys::OidOutputFunctionCall(function, pg_getarg_datum_raw(self.raw, n));
            Some(CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }

    fn finish(&self, answer: Answer) -> pg_sys::Datum {
        match answer {
            Answer::Void => pg_sys::Datum::from(0_usize),
            Answer::One(value) => match value.into_datum() {
                Some(datum) => datum,
                // SAFETY: marks the result of this call as NULL.
                None => unsafe { pgrx::fcinfo::pg_return_null(self.raw) },
            },
            Answer::Record(values) => self.record(values),
            Answer::Rows(rows) => self.rows(rows),
            // SAFETY: the call that is being answered.
            Answer::Table(rows) => unsafe { rows.answer(self.raw) }.unwrap_or_else(|report| report.raise()),
        }
    }

    fn record(&self, values: Vec<Value>) -> pg_sys::Datum {
        let (mut datums, mut nulls) = columns(values);
        let mut tuple_desc: pg_sys::TupleDesc = core::ptr::null_mut();
        // SAFETY: the declared result type gives the descriptor; the arrays have at least as many elements as it has columns.
        unsafe {
            let class = pg_sys::get_call_result_type(self.raw, core::ptr::null_mut(), &mut tuple_desc);
            if class != pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE || (*tuple_desc).natts as usize != datums.len() {
                wrong_declaration().raise();
            }
            let tuple_desc = pg_sys::BlessTupleDesc(tuple_desc);
            let tuple = pg_sys::heap_form_tuple(tuple_desc, datums.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
        }
    }

    fn rows(&self, rows: Vec<Vec<Value>>) -> pg_sys::Datum {
        // SAFETY: sets up a tuplestore for the declared row type, or raises when the caller cannot take a set.
        let result = unsafe {
            pg_sys::InitMaterializedSRF(self.raw, 0);
            (*self.raw).resultinfo.cast::<pg_sys::ReturnSetInfo>()
        };
        for row in rows {
            let (mut datums, mut nulls) = columns(row);
            // SAFETY: the descriptor and the store were made above; the arrays have as many elements as the row type.
            unsafe {
                if (*(*result).setDesc).natts as usize != datums.len() {
                    wrong_declaration().raise();
                }
                pg_sys::tuplestore_putvalues(
                    (*result).setResult,
                    (*result).setDesc,
                    datums.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                );
            }
        }
        pg_sys::Datum::from(0_usize)
    }
}

/// Types that are read in their text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgType {
    /// `jsonb`
    Jsonb,
    /// `interval`
    Interval,
}

fn columns(values: Vec<Value>) -> (Vec<pg_sys::Datum>, Vec<bool>) {
    values
        .into_iter()
        .map(|value| {
            let datum = value.into_datum();
            (datum.unwrap_or(pg_sys::Datum::from(0_usize)), datum.is_none())
        })
        .unzip()
}

fn wrong_declaration() -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_FUNCTION_DEFINITION,
        "the SQL declaration of this function does not fit the library",
    )
    .hint("Run ALTER EXTENSION spock UPDATE.")
}

/// Runs `body` for one call and hands its answer, or its error, to the server.
///
/// # Safety
/// As [`Call::new`].
pub unsafe fn answer(raw: pg_sys::FunctionCallInfo, body: fn(&Call) -> Result<Answer, Report>) -> pg_sys::Datum {
    // SAFETY: the caller's promise; the guard turns a panic, which is how ERROR travels in Rust frames, into the server's.
    unsafe {
        pg_sys::submodules::panic::pgrx_extern_c_guard(move || {
            let call = Call::new(raw);
            match body(&call) {
                Ok(answer) => call.finish(answer),
                Err(report) => report.raise(),
            }
        })
    }
}

/// Exports functions to SQL: `symbol => path::to::function`.
#[macro_export]
macro_rules! sql_functions {
    ($($symbol:ident => $body:path,)+) => { $(
        const _: () = {
            #[unsafe(export_name = concat!("pg_finfo_", stringify!($symbol)))]
            extern "C" fn info() -> *const pgrx::pg_sys::Pg_finfo_record {
                static RECORD: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
                &RECORD
            }
            #[unsafe(export_name = stringify!($symbol))]
            unsafe extern "C-unwind" fn call(fcinfo: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
                // SAFETY: the server calls this with the arguments of one version-1 call.
                unsafe { $crate::pg::function::answer(fcinfo, $body) }
            }
        };
    )+ };
}
