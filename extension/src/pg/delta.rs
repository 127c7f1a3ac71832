//! `local + (new - old)`: with the type's own operators, for functions whose three arguments and result are of one type, and
//! exact around the limits of the type, for columns that count ([`Sum`]).
//!
//! Catalogs of the C edition name a C symbol for each type; ours compute the same in SQL (`spock.delta_apply`).

use pgrx::fcinfo::pg_getarg_datum_raw;
use pgrx::pg_sys;
use spock_core::merge::delta::{Amount, decimal_range};
use std::ffi::CString;

use super::function::{Call, Value};
use super::tuple::{self, OwnedContext};

/// A type that has both operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`
    Numeric,
    /// `money`
    Money,
}

impl Number {
    /// The server's functions behind `-` and `+`.
    const fn operators(self) -> (u32, u32) {
        match self {
            Self::Int2 => (pg_sys::F_INT2MI, pg_sys::F_INT2PL),
            Self::Int4 => (pg_sys::F_INT4MI, pg_sys::F_INT4PL),
            Self::Int8 => (pg_sys::F_INT8MI, pg_sys::F_INT8PL),
            Self::Float4 => (pg_sys::F_FLOAT4MI, pg_sys::F_FLOAT4PL),
            Self::Float8 => (pg_sys::F_FLOAT8MI, pg_sys::F_FLOAT8PL),
            Self::Numeric => (pg_sys::F_NUMERIC_SUB, pg_sys::F_NUMERIC_ADD),
            Self::Money => (pg_sys::F_CASH_MI, pg_sys::F_CASH_PL),
        }
    }
}

/// The call's arguments are old, new and local value. NULL when one of them is. Overflow is the server's error 22003.
pub fn local_plus_difference(call: &Call, number: Number) -> Value {
    if (0..3).any(|n| call.is_null(n)) {
        return Value::Null;
    }
    let (minus, plus) = number.operators();
    let two = |function: u32, left, right| {
        // SAFETY: a built-in function of two arguments of the type, none of them null; an ERROR unwinds.
        unsafe { pg_sys::OidFunctionCall2Coll(pg_sys::Oid::from(function), pg_sys::InvalidOid, left, right) }
    };
    // SAFETY: not null; the declaration of the function gives the type.
    let [old, new, local] = [0, 1, 2].map(|n| unsafe { pg_getarg_datum_raw(call.raw(), n) });
    Value::Computed(two(plus, local, two(minus, new, old)))
}

/// How values of one column are added: exactly, so that the order does not matter.
#[derive(Debug)]
pub enum Sum {
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`, `money`
    Int8,
    /// `numeric`. With a precision: the largest value, and how far it is once around.
    Numeric(Option<(pg_sys::Datum, pg_sys::Datum)>),
}

/// Why values cannot be added: NULL, NaN or infinity is among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoNumber;

impl Sum {
    /// For a column of a type that can be added exactly. Numbers that it needs live in `memory`.
    pub fn of(type_oid: u32, typmod: i32, memory: &OwnedContext) -> Option<Self> {
        match pg_sys::Oid::from(type_oid) {
            pg_sys::INT2OID => Some(Self::Int2),
            pg_sys::INT4OID => Some(Self::Int4),
            pg_sys::INT8OID | pg_sys::MONEYOID => Some(Self::Int8),
            pg_sys::NUMERICOID => Some(Self::Numeric(range(typmod, memory))),
            _ => None,
        }
    }

    /// 0, with as many digits behind the point as `like` has.
    pub fn zero(&self, like: tuple::Value) -> Result<tuple::Value, NoNumber> {
        let datum = match self {
            _ if like.null => return Err(NoNumber),
            Self::Int2 | Self::Int4 | Self::Int8 => pg_sys::Datum::from(0),
            Self::Numeric(_) if !is_finite(like.datum) => return Err(NoNumber),
            Self::Numeric(_) => two(pg_sys::F_NUMERIC_SUB, like.datum, like.datum),
        };
        Ok(tuple::Value { datum, null: false })
    }

    /// `local + new - old`, and whether a limit of the type was passed. In the current context.
    pub fn add(
        &self,
        local: tuple::Value,
        old: Option<tuple::Value>,
        new: tuple::Value,
    ) -> Result<(tuple::Value, bool), NoNumber> {
        if local.null || new.null || old.is_some_and(|old| old.null) {
            return Err(NoNumber);
        }
        let words = [local.datum, old.map_or(pg_sys::Datum::from(0), |old| old.datum), new.datum].map(|d| d.value());
        let (datum, around) = match self {
            Self::Int2 => {
                let [local, old, new] = words.map(|word| word as i16);
                let (sum, around) = local.plus_difference_around(&old, &new);
                (pg_sys::Datum::from(sum), around)
            }
            Self::Int4 => {
                let [local, old, new] = words.map(|word| word as i32);
                let (sum, around) = local.plus_difference_around(&old, &new);
                (pg_sys::Datum::from(sum), around)
            }
            Self::Int8 => {
                let [local, old, new] = words.map(|word| word as i64);
                let (sum, around) = local.plus_difference_around(&old, &new);
                (pg_sys::Datum::from(sum), around)
            }
            Self::Numeric(range) => {
                add_numeric(local.datum, old.map(|old| old.datum), new.datum, range.as_ref()).ok_or(NoNumber)?
            }
        };
        Ok((tuple::Value { datum, null: false }, around))
    }
}

/// Largest value of `numeric(p,s)`, and how many steps of its last digit it is once around, times the step.
fn range(typmod: i32, memory: &OwnedContext) -> Option<(pg_sys::Datum, pg_sys::Datum)> {
    // As the server packs it: precision, and 11 bits of scale with a sign.
    let packed = typmod.checked_sub(4).filter(|packed| *packed >= 0)?;
    let scale = (packed & 0x7ff) as i16;
    let (largest, around) = decimal_range((packed >> 16) as u16, (scale ^ 1024) - 1024);
    let read = |text: String| {
        let text = CString::new(text).unwrap_or_default();
        // SAFETY: the input function of the type reads a NUL-terminated text; the result is made in a context that outlives it.
        unsafe {
            let previous = pg_sys::MemoryContextSwitchTo(memory.raw());
            let function = pg_sys::Oid::from(pg_sys::F_NUMERIC_IN);
            let datum = pg_sys::OidInputFunctionCall(function, text.as_ptr().cast_mut(), pg_sys::InvalidOid, -1);
            pg_sys::MemoryContextSwitchTo(previous);
            datum
        }
    };
    Some((read(largest), read(around)))
}

fn two(function: u32, left: pg_sys::Datum, right: pg_sys::Datum) -> pg_sys::Datum {
    // SAFETY: a built-in function of two numbers, none of them null; an ERROR unwinds.
    unsafe { pg_sys::OidFunctionCall2Coll(pg_sys::Oid::from(function), pg_sys::InvalidOid, left, right) }
}

fn is_finite(value: pg_sys::Datum) -> bool {
    // SAFETY: a numeric that is not null, brought into the form that the functions read.
    unsafe {
        let number = pg_sys::pg_detoast_datum(value.cast_mut_ptr()).cast();
        !pg_sys::numeric_is_nan(number) && !pg_sys::numeric_is_inf(number)
    }
}

fn add_numeric(
    local: pg_sys::Datum,
    old: Option<pg_sys::Datum>,
    new: pg_sys::Datum,
    range: Option<&(pg_sys::Datum, pg_sys::Datum)>,
) -> Option<(pg_sys::Datum, bool)> {
    if ![Some(local), old, Some(new)].into_iter().flatten().all(is_finite) {
        return None;
    }
    let is = |function, left, right| two(function, left, right).value() != 0;
    let difference = match old {
        // As it was written, with the digits behind the point that it has.
        Some(old) if is(pg_sys::F_NUMERIC_EQ, old, local) => return Some((new, false)),
        Some(old) => two(pg_sys::F_NUMERIC_SUB, new, old),
        None => new,
    };
    let sum = two(pg_sys::F_NUMERIC_ADD, local, difference);
    let Some((largest, around)) = range else { return Some((sum, false)) };
    let beyond = |value| {
        let (above, below) = (is(pg_sys::F_NUMERIC_GT, value, *largest), two(pg_sys::F_NUMERIC_ADD, value, *largest));
        let zero = two(pg_sys::F_NUMERIC_SUB, *largest, *largest);
        (above, is(pg_sys::F_NUMERIC_LT, below, zero))
    };
    if beyond(sum) == (false, false) {
        return Some((sum, false));
    }
    let rest = two(pg_sys::F_NUMERIC_MOD, sum, *around);
    let rest = match beyond(rest) {
        (true, _) => two(pg_sys::F_NUMERIC_SUB, rest, *around),
        (_, true) => two(pg_sys::F_NUMERIC_ADD, rest, *around),
        _ => rest,
    };
    Some((rest, true))
}
