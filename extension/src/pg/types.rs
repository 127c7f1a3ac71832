//! How values of a type leave this node: the facts of `pg_type`, cached output and send functions, and the image of one
//! value as bytes. Knows nothing of replication; [`crate::output`] decides which form a column takes.
//!
//! # Invariants
//! 1. What a [`ColumnCodec`] keeps between rows lives in the memory context it was made in, which outlives it.
//! 2. What one row needs lives in the scratch context of its [`RowBuffer`] and is gone at the next row.
//! 3. No allocation per row for values in the internal form.

use super::decoding::{TableRef, TupleRef};
use super::memory::OwnedContext;
use super::toast::Filled;
use pgrx::pg_sys;
use pgrx::varlena;
use spock_core::types::TypeOid;

/// What `pg_type` says about a type.
#[derive(Debug, Clone, Copy)]
pub struct TypeFacts {
    /// The type.
    pub oid: TypeOid,
    /// `typtype = 'b'`.
    pub is_base: bool,
    /// `typtype = 'c'`.
    pub is_composite: bool,
    /// `typelem` is set: arrays, and fixed-length types that can be subscripted such as name and point.
    pub has_element: bool,
    /// There is a receive function, so a send image can be read back.
    pub has_receive: bool,
    length: i16,
    by_value: bool,
    output: pg_sys::Oid,
    send: pg_sys::Oid,
}

impl TypeFacts {
    /// Reads the type's catalog row. `None`: there is no such type (a column of a type that was dropped meanwhile).
    pub fn of(oid: TypeOid) -> Option<Self> {
        // SAFETY: a syscache lookup inside a transaction; the row is copied before it is released.
        unsafe {
            let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::TYPEOID as _, pg_sys::Datum::from(oid.0));
            if tuple.is_null() {
                return None;
            }
            let row = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_type;
            let facts = Self {
                oid,
                is_base: (*row).typtype as u8 == pg_sys::TYPTYPE_BASE,
                is_composite: (*row).typtype as u8 == pg_sys::TYPTYPE_COMPOSITE,
                has_element: (*row).typelem != pg_sys::InvalidOid,
                has_receive: (*row).typreceive != pg_sys::InvalidOid,
                length: (*row).typlen,
                by_value: (*row).typbyval,
                output: (*row).typoutput,
                send: (*row).typsend,
            };
            pg_sys::ReleaseSysCache(tuple);
            Some(facts)
        }
    }
}

/// In which form the values of a column travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The datum as it is in memory.
    Internal,
    /// Output of the type's send function.
    Binary,
    /// Output of the type's output function.
    Text,
}

/// One value, ready for the wire. Valid until the next row.
#[derive(Debug, Clone, Copy)]
pub enum Image<'r> {
    /// SQL NULL.
    Null,
    /// Stored out of line and not touched by this change: its bytes are not in WAL.
    Unchanged,
    /// Datum image of a pass-by-value type: the first `.1` bytes in host order.
    Value([u8; 8], u8),
    /// Datum image of a pass-by-reference type, varlena header included.
    Internal(&'r [u8]),
    /// Send-function output.
    Binary(&'r [u8]),
    /// Output-function text without its NUL.
    Text(&'r [u8]),
}

enum Reader {
    /// By value, this many bytes.
    Value(u8),
    /// Fixed length, by reference.
    Fixed(usize),
    /// Any varlena, copied with its header.
    Varlena,
    /// Through the send function.
    Send(Box<pg_sys::FmgrInfo>),
    /// Through the output function.
    Output(Box<pg_sys::FmgrInfo>),
}

/// Turns the values of one column into bytes.
pub struct ColumnCodec {
    at: usize,
    is_varlena: bool,
    reader: Reader,
}

impl ColumnCodec {
    /// A codec for attribute number `attribute` (from 1) of a table. The function caches live in `home`.
    pub fn new(attribute: u16, facts: &TypeFacts, form: Form, home: OwnedContext) -> Self {
        let reader = match form {
            Form::Internal if facts.by_value => Reader::Value(facts.length as u8),
            Form::Internal if facts.length > 0 => Reader::Fixed(facts.length as usize),
            Form::Internal if facts.length == -1 => Reader::Varlena,
            Form::Binary => Reader::Send(function(facts.send, home)),
            // A type of C strings has no datum image that could be copied.
            Form::Internal | Form::Text => Reader::Output(function(facts.output, home)),
        };
        Self { at: usize::from(attribute).saturating_sub(1), is_varlena: facts.length == -1, reader }
    }

    /// Place of the column in its table, from 0.
    pub(super) fn at(&self) -> usize {
        self.at
    }
}

fn function(oid: pg_sys::Oid, home: OwnedContext) -> Box<pg_sys::FmgrInfo> {
    let mut info = Box::new(pg_sys::FmgrInfo::default());
    // SAFETY: fills the struct for an existing function; what it caches goes into `home`.
    unsafe { pg_sys::fmgr_info_cxt(oid, &mut *info, home.raw()) }
    info
}

/// Room for the values of one row, used again for every row of a session.
pub struct RowBuffer {
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    scratch: OwnedContext,
    scratch_used: bool,
}

impl RowBuffer {
    /// `scratch` is emptied at every [`RowBuffer::load`].
    pub fn new(scratch: OwnedContext) -> Self {
        Self { values: Vec::new(), nulls: Vec::new(), scratch, scratch_used: false }
    }

    /// Takes `tuple`, a row of `table`, apart. What the previous row left is freed.
    pub fn load<'r>(&'r mut self, tuple: TupleRef<'r>, table: TableRef<'r>) -> LoadedRow<'r> {
        if self.scratch_used {
            self.scratch.reset();
            self.scratch_used = false;
        }
        let width = table.width();
        if self.values.len() < width {
            self.values.resize(width, pg_sys::Datum::from(0));
            self.nulls.resize(width, true);
        }
        // SAFETY: the tuple is a row of this table, and both arrays hold at least as many entries as it has columns.
        unsafe {
            pg_sys::heap_deform_tuple(
                tuple.raw(),
                table.descriptor(),
                self.values.as_mut_ptr(),
                self.nulls.as_mut_ptr(),
            );
        }
        LoadedRow { buffer: self }
    }
}

/// A row taken apart. Borrows the tuple it came from.
pub struct LoadedRow<'r> {
    buffer: &'r mut RowBuffer,
}

impl LoadedRow<'_> {
    /// Puts values in the places of those that the row only points to.
    pub fn fill(&mut self, filled: Filled<'_>) {
        for &(at, value) in filled.0 {
            self.buffer.values[at] = value;
        }
    }

    /// The bytes of one column of this row.
    #[inline]
    pub fn image(&mut self, column: &mut ColumnCodec) -> Image<'_> {
        if self.buffer.nulls[column.at] {
            return Image::Null;
        }
        let datum = self.buffer.values[column.at];
        if column.is_varlena && is_on_disk(datum) {
            return Image::Unchanged;
        }
        match &mut column.reader {
            Reader::Value(length) => Image::Value(value_bytes(datum, *length), *length),
            // SAFETY: a non-null value of a fixed-length type by reference points to that many bytes.
            Reader::Fixed(length) => unsafe {
                Image::Internal(core::slice::from_raw_parts(datum.cast_mut_ptr::<u8>(), *length))
            },
            Reader::Varlena => Image::Internal(varlena_bytes(datum)),
            Reader::Send(info) => {
                self.buffer.scratch_used = true;
                let _scope = self.buffer.scratch.enter();
                // SAFETY: the function belongs to the column's type; the result is a fresh bytea in the scratch context.
                unsafe {
                    let sent: *const pg_sys::varlena = pg_sys::SendFunctionCall(&mut **info, datum);
                    let length = varlena::varsize_any_exhdr(sent);
                    Image::Binary(core::slice::from_raw_parts(varlena::vardata_any(sent).cast(), length))
                }
            }
            Reader::Output(info) => {
                self.buffer.scratch_used = true;
                let _scope = self.buffer.scratch.enter();
                // SAFETY: as above; the result is a C string in the scratch context.
                unsafe {
                    let text = pg_sys::OutputFunctionCall(&mut **info, datum);
                    Image::Text(core::ffi::CStr::from_ptr(text).to_bytes())
                }
            }
        }
    }

    /// A boolean column of one of our own catalog tables; `None` for NULL. `attribute` counts from 1.
    pub fn boolean(&self, attribute: u16) -> Option<bool> {
        self.plain(attribute).map(|datum| datum.value() as u8 != 0)
    }

    /// A column of type oid of one of our own catalog tables; `None` for NULL.
    pub fn oid(&self, attribute: u16) -> Option<u32> {
        self.plain(attribute).map(|datum| datum.value() as u32)
    }

    /// A column of eight bytes by value (`bigint`, `xid8`, `timestamptz`) of one of our own catalog tables; `None` for NULL.
    pub fn integer(&self, attribute: u16) -> Option<i64> {
        self.plain(attribute).map(|datum| datum.value() as i64)
    }

    /// A text[] column of one of our own catalog tables; `None` for NULL.
    pub fn text_array(&mut self, attribute: u16) -> Option<Vec<String>> {
        let datum = self.plain(attribute)?;
        self.buffer.scratch_used = true;
        let _scope = self.buffer.scratch.enter();
        Some(super::catalog_scan::text_array_of(datum))
    }

    fn plain(&self, attribute: u16) -> Option<pg_sys::Datum> {
        let at = usize::from(attribute).checked_sub(1)?;
        (!*self.buffer.nulls.get(at)?).then(|| self.buffer.values[at])
    }
}

/// The image of a pass-by-value datum: `length` (1, 2, 4 or 8) bytes as the type would lie in memory.
#[inline]
fn value_bytes(datum: pg_sys::Datum, length: u8) -> [u8; 8] {
    let raw = datum.value() as u64;
    let mut bytes = [0; 8];
    match length {
        1 => bytes[..1].copy_from_slice(&(raw as u8).to_ne_bytes()),
        2 => bytes[..2].copy_from_slice(&(raw as u16).to_ne_bytes()),
        4 => bytes[..4].copy_from_slice(&(raw as u32).to_ne_bytes()),
        _ => bytes = raw.to_ne_bytes(),
    }
    bytes
}

/// Whether a varlena is a pointer into a TOAST table.
#[inline]
pub(super) fn is_on_disk(datum: pg_sys::Datum) -> bool {
    let value: *const pg_sys::varlena = datum.cast_mut_ptr();
    // SAFETY: a non-null varlena; reads its one or two header bytes.
    unsafe {
        varlena::varatt_is_1b_e(value)
            && pg_sys::vartag_external::Type::from(varlena::vartag_1b_e(value))
                == pg_sys::vartag_external::VARTAG_ONDISK
    }
}

/// The whole varlena with its header. A value that decoding put together from TOAST chunks hides behind a pointer, which
/// is followed.
#[inline]
fn varlena_bytes<'r>(datum: pg_sys::Datum) -> &'r [u8] {
    let mut value: *const pg_sys::varlena = datum.cast_mut_ptr();
    // SAFETY: a non-null varlena that is not on disk (checked before). Behind the two header bytes of an indirect one
    // stands an unaligned pointer to another varlena, which lives as long as the change that holds it.
    unsafe {
        if varlena::varatt_is_1b_e(value)
            && pg_sys::vartag_external::Type::from(varlena::vartag_1b_e(value))
                == pg_sys::vartag_external::VARTAG_INDIRECT
        {
            let target = varlena::vardata_1b_e(value).cast::<pg_sys::varatt_indirect>().read_unaligned();
            value = target.pointer;
        }
        core::slice::from_raw_parts(value.cast(), varlena::varsize_any(value))
    }
}
