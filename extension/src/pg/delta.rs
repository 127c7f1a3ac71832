//! `local + (new - old)` with the type's own operators, for functions whose three arguments and result are of one type.
//!
//! Catalogs of the C edition name a C symbol for each type; ours compute the same in SQL (`spock.delta_apply`).

use pgrx::fcinfo::pg_getarg_datum_raw;
use pgrx::pg_sys;

use super::function::{Call, Value};

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
