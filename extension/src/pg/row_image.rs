//! A whole row as the texts of its values, by column number: what outlives the row in a table of ours, whatever becomes of names
//! and order of its columns.
//!
//! # Invariants
//! 1. Texts are bytes in the database's encoding, as the types' output functions make them; none is looked at here.
//! 2. Values that the server computes are not part of it.

use super::heap::Target;
use super::relation::{ColumnNumber, Table};
use super::tuple::{Slot, Value};
use core::ffi::CStr;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use std::ffi::CString;

/// A `text[]` whose elements are not interpreted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<Option<Vec<u8>>>);

/// A row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowImage {
    /// Column numbers.
    pub columns: Vec<i16>,
    /// Their values, in the same order.
    pub values: Texts,
}

impl IntoDatum for Texts {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let count = self.0.len();
        let mut nulls: Vec<bool> = self.0.iter().map(Option::is_none).collect();
        // SAFETY: each element is a text of the current context, or null; the array is a copy of them there.
        unsafe {
            let mut elements: Vec<pg_sys::Datum> = self
                .0
                .iter()
                .map(|text| {
                    text.as_ref().map_or(pg_sys::Datum::null(), |text| {
                        let length = i32::try_from(text.len()).unwrap_or(i32::MAX);
                        pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(text.as_ptr().cast(), length))
                    })
                })
                .collect();
            let (mut dimension, mut lower) = (i32::try_from(count).unwrap_or(0), 1);
            let array = pg_sys::construct_md_array(
                elements.as_mut_ptr(),
                nulls.as_mut_ptr(),
                1,
                &mut dimension,
                &mut lower,
                pg_sys::TEXTOID,
                -1,
                false,
                pg_sys::TYPALIGN_INT as core::ffi::c_char,
            );
            Some(pg_sys::Datum::from(array))
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTARRAYOID
    }
}

impl FromDatum for Texts {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _type: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        let (mut elements, mut nulls, mut count) = (core::ptr::null_mut(), core::ptr::null_mut(), 0);
        // SAFETY: the caller's promise: a `text[]`. Elements are copied out of the server's memory.
        unsafe {
            let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
            pg_sys::deconstruct_array(
                array,
                pg_sys::TEXTOID,
                -1,
                false,
                pg_sys::TYPALIGN_INT as core::ffi::c_char,
                &mut elements,
                &mut nulls,
                &mut count,
            );
            let text = |n: usize| {
                if *nulls.add(n) {
                    return None;
                }
                let text = pg_sys::text_to_cstring((*elements.add(n)).cast_mut_ptr());
                Some(CStr::from_ptr(text).to_bytes().to_vec())
            };
            Some(Self((0..usize::try_from(count).unwrap_or(0)).map(text).collect()))
        }
    }
}

impl RowImage {
    /// Of the row of `table` in `slot`. Runs output functions; what they leave behind is in the current context.
    pub fn of(slot: &Slot, table: &Table) -> Self {
        Self::of_columns(slot, table, |_| true)
    }

    /// The same of those columns that are `wanted`.
    pub fn of_columns(slot: &Slot, table: &Table, wanted: impl Fn(ColumnNumber) -> bool) -> Self {
        let mut image = Self::default();
        for column in table.columns().iter().filter(|column| !column.generated && wanted(column.number)) {
            let value = slot.get(column.number);
            let text = (!value.null).then(|| {
                let (mut function, mut varlena) = (pg_sys::InvalidOid, false);
                // SAFETY: a non-null value of the column's type; the result is a C string in the current context.
                unsafe {
                    pg_sys::getTypeOutputInfo(pg_sys::Oid::from_u32(column.type_oid), &mut function, &mut varlena);
                    CStr::from_ptr(pg_sys::OidOutputFunctionCall(function, value.datum)).to_bytes().to_vec()
                }
            });
            image.columns.push(column.number.0);
            image.values.0.push(text);
        }
        image
    }

    fn text(&self, number: ColumnNumber) -> Option<Option<&[u8]>> {
        let place = self.columns.iter().position(|column| *column == number.0)?;
        self.values.0.get(place).map(|text| text.as_deref())
    }

    /// Columns of `table` that it says nothing of: they were added later.
    pub fn lacks(&self, table: &Table) -> Vec<ColumnNumber> {
        let columns = table.columns().into_iter().filter(|column| !column.generated).map(|column| column.number);
        columns.filter(|number| self.text(*number).is_none()).collect()
    }

    /// Begins a row in `slot` with these values; what it lacks is NULL. The row is to be ended with [`Slot::finish`]. Values are
    /// in the current context. Raises when a text is no value of the column's type any more.
    pub fn start(&self, slot: &mut Slot, table: &Table) {
        slot.start();
        for column in table.columns().iter().filter(|column| !column.generated) {
            let Some(Some(text)) = self.text(column.number) else { continue };
            let text = CString::new(text).unwrap_or_default();
            let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            // SAFETY: the input function of the column's type, given a C string.
            let datum = unsafe {
                pg_sys::getTypeInputInfo(pg_sys::Oid::from_u32(column.type_oid), &mut function, &mut parameter);
                pg_sys::OidInputFunctionCall(function, text.as_ptr().cast_mut(), parameter, column.typmod)
            };
            slot.set(column.number, Value { datum, null: false });
        }
    }
}

impl Target {
    /// Begins the row of `image` in `merged`, see [`RowImage::start`].
    pub fn start_merged(&mut self, image: &RowImage) {
        image.start(&mut self.merged, &self.table);
    }

    /// Begins the row of `image` in `remote`, with defaults in the columns that they were prepared for.
    pub fn start_remote(&mut self, image: &RowImage) {
        image.start(&mut self.remote, &self.table);
        self.fill_defaults();
    }

    /// Whether `remote` and `merged` have one key.
    pub fn merged_has_key_of_remote(&self) -> bool {
        self.has_one_key(&self.remote, &self.merged)
    }

    /// Whether the rows in two slots have one key.
    pub(super) fn has_one_key(&self, one: &Slot, other: &Slot) -> bool {
        let Some(index) = &self.key_index else { return false };
        index.columns.iter().zip(&index.equality).all(|(column, (function, collation))| {
            let (one, other) = (one.get(*column), other.get(*column));
            // SAFETY: both values are of the column's type, which the index's equality is for.
            !one.null
                && !other.null
                && unsafe { pg_sys::OidFunctionCall2Coll(*function, *collation, one.datum, other.datum).value() != 0 }
        })
    }

    /// The values of the key of a row, for people and for a total order: their texts.
    pub fn key_texts(&self, slot: &Slot) -> Vec<Option<Vec<u8>>> {
        let image = RowImage::of(slot, &self.table);
        let Some(index) = &self.key_index else { return image.values.0 };
        index.columns.iter().map(|number| image.text(*number).flatten().map(<[u8]>::to_vec)).collect()
    }
}
