//! Rows in memory: slots of the executor, and values that come from the wire.
//!
//! # Invariants
//! 1. A value decoded from bytes lives in the current memory context or in the bytes themselves: both live to the end of
//!    the message.
//! 2. An internal image is accepted only where its length fits the local type, and is read at its alignment.

use super::relation::{Column, ColumnNumber, Table};
use super::types::is_on_disk;
use core::ptr::NonNull;
use pgrx::{pg_sys, varlena};
use std::ffi::{CStr, CString};

/// Memory that lives as long as this value.
///
/// On ERROR: still freed. Deleting a context cannot raise.
pub struct OwnedContext(pg_sys::MemoryContext);

impl OwnedContext {
    /// Makes a context of its own under the process's top context.
    pub fn new(name: &'static CStr) -> Self {
        // SAFETY: the top context exists in every backend; the name is static, as the server keeps the pointer.
        Self(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                name.as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }

    pub(super) fn raw(&self) -> pg_sys::MemoryContext {
        self.0
    }
}

impl Drop for OwnedContext {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and nothing that points into it outlives this value.
        unsafe { pg_sys::MemoryContextDelete(self.0) }
    }
}

/// One value of a row. Not valid beyond the message that it was made for.
#[derive(Debug, Clone, Copy)]
pub struct Value {
    pub(super) datum: pg_sys::Datum,
    pub(super) null: bool,
}

impl Value {
    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        self.null
    }

    /// NULL.
    pub const NULL: Self = Self { datum: pg_sys::Datum::null(), null: true };
}

/// A row slot of the executor.
///
/// On ERROR: Drop does nothing. Abort releases pins and frees the context of the transaction.
pub struct Slot(NonNull<pg_sys::TupleTableSlot>);

impl Slot {
    /// A slot that was made in the same way as here.
    ///
    /// # Safety
    /// It is live, and nobody else drops it.
    pub(super) unsafe fn from_raw(slot: *mut pg_sys::TupleTableSlot) -> Self {
        // SAFETY: passed on to the caller.
        Self(unsafe { NonNull::new_unchecked(slot) })
    }

    /// A slot for rows that are built in memory.
    pub fn for_values(table: &Table) -> Self {
        // SAFETY: the descriptor belongs to an open table; the slot pins it. The result is never null.
        Self(unsafe {
            NonNull::new_unchecked(pg_sys::MakeSingleTupleTableSlot(
                table.descriptor(),
                &raw const pg_sys::TTSOpsVirtual,
            ))
        })
    }

    /// A slot for rows read from the table.
    pub fn for_table(table: &Table) -> Self {
        // SAFETY: as above, with the operations of the table's access method.
        Self(unsafe {
            let operations = pg_sys::table_slot_callbacks(table.raw());
            NonNull::new_unchecked(pg_sys::MakeSingleTupleTableSlot(table.descriptor(), operations))
        })
    }

    pub(super) fn raw(&self) -> *mut pg_sys::TupleTableSlot {
        self.0.as_ptr()
    }

    /// Empties it and releases what it pins.
    pub fn clear(&mut self) {
        if !self.is_empty() {
            // SAFETY: a live slot.
            unsafe { pg_sys::ExecClearTuple(self.raw()) };
        }
    }

    /// Clears it and starts a row of NULLs, to be filled with [`Slot::set`] and closed with [`Slot::finish`].
    pub fn start(&mut self) {
        self.clear();
        // SAFETY: both arrays have one entry for each attribute of the slot's descriptor.
        unsafe {
            let slot = self.0.as_mut();
            let natts = usize::try_from((*slot.tts_tupleDescriptor).natts).unwrap_or(0);
            core::ptr::write_bytes(slot.tts_values, 0, natts);
            core::ptr::write_bytes(slot.tts_isnull, 1, natts);
        }
    }

    /// Sets one column of the row being built.
    pub fn set(&mut self, column: ColumnNumber, value: Value) {
        // SAFETY: a column number of the table that the slot was made for.
        unsafe {
            let slot = self.0.as_mut();
            *slot.tts_values.add(column.index()) = value.datum;
            *slot.tts_isnull.add(column.index()) = value.null;
        }
    }

    /// Ends building: the slot holds the row.
    pub fn finish(&mut self) {
        // SAFETY: the slot was cleared by `start`, and all its values are set: what ExecStoreVirtualTuple does then.
        unsafe {
            let slot = self.0.as_mut();
            slot.tts_flags &= !(pg_sys::TTS_FLAG_EMPTY as u16);
            slot.tts_nvalid = (*slot.tts_tupleDescriptor).natts as pg_sys::AttrNumber;
        }
    }

    /// Takes the row of `other` apart into this slot, which then may be changed with [`Slot::set`].
    pub fn start_from(&mut self, other: &Slot) {
        self.clear();
        other.take_apart();
        // SAFETY: both slots have the descriptor of the same table. The values point into the row that `other` pins.
        unsafe {
            let (from, to) = (other.0.as_ref(), self.0.as_mut());
            let natts = usize::try_from((*to.tts_tupleDescriptor).natts).unwrap_or(0);
            core::ptr::copy_nonoverlapping(from.tts_values, to.tts_values, natts);
            core::ptr::copy_nonoverlapping(from.tts_isnull, to.tts_isnull, natts);
        }
    }

    /// Copies all values of the row that is being built into the current context, where they stay when the slot takes another row.
    pub fn copy_values(&mut self) {
        // SAFETY: the arrays have one entry for each attribute, all set. An ERROR leaves values of before, which are still there.
        unsafe {
            let slot = self.0.as_mut();
            let natts = usize::try_from((*slot.tts_tupleDescriptor).natts).unwrap_or(0);
            for at in 0..natts {
                let attribute = &*super::compat::executor::attribute(slot.tts_tupleDescriptor, at);
                // Dropped columns too: rows of before have values of them.
                if !*slot.tts_isnull.add(at) {
                    let value = slot.tts_values.add(at);
                    *value = pg_sys::datumCopy(*value, attribute.attbyval, i32::from(attribute.attlen));
                }
            }
        }
    }

    /// Makes all values of the row that the slot holds readable.
    fn take_apart(&self) {
        // SAFETY: the slot holds a row.
        unsafe {
            if i32::from((*self.raw()).tts_nvalid) < (*(*self.raw()).tts_tupleDescriptor).natts {
                pg_sys::slot_getallattrs(self.raw());
            }
        }
    }

    /// One column of the row that the slot holds.
    pub fn get(&self, column: ColumnNumber) -> Value {
        // SAFETY: a column number of the table that the slot was made for; fetching fills the arrays up to it.
        unsafe {
            if i32::from((*self.raw()).tts_nvalid) <= column.index() as i32 {
                pg_sys::slot_getallattrs(self.raw());
            }
            let slot = self.0.as_ref();
            Value { datum: *slot.tts_values.add(column.index()), null: *slot.tts_isnull.add(column.index()) }
        }
    }

    /// Whether the row, which was read from a table, has the bytes of `value` in that column already, stored out of line. The
    /// column's type has no fixed length.
    pub fn stores_same(&self, column: ColumnNumber, value: Value) -> bool {
        let here = self.get(column);
        if here.null || value.null || !is_on_disk(here.datum) {
            return false;
        }
        // SAFETY: both are values of variable length. The row cannot be vacuumed away: the snapshot of this transaction is
        // older than its end. What is made here is freed here.
        unsafe {
            if pg_sys::toast_raw_datum_size(here.datum) != pg_sys::toast_raw_datum_size(value.datum) {
                return false;
            }
            let ours: *mut pg_sys::varlena = here.datum.cast_mut_ptr();
            let theirs: *mut pg_sys::varlena = value.datum.cast_mut_ptr();
            let (read, came) = (pg_sys::pg_detoast_datum_packed(ours), pg_sys::pg_detoast_datum_packed(theirs));
            let same = varlena::varlena_to_byte_slice(read) == varlena::varlena_to_byte_slice(came);
            pg_sys::pfree(read.cast());
            if came != theirs {
                pg_sys::pfree(came.cast());
            }
            same
        }
    }

    /// The row as JSON, by the server's own `row_to_json`.
    pub fn to_json(&self) -> String {
        // SAFETY: a slot that holds a row of a table, whose row type the server knows. The result is text in the
        // current context.
        unsafe {
            let row = pg_sys::ExecFetchSlotHeapTupleDatum(self.raw());
            let json = pg_sys::OidFunctionCall1Coll(
                pg_sys::Oid::from_u32(pg_sys::F_ROW_TO_JSON_RECORD),
                pg_sys::InvalidOid,
                row,
            );
            let text = pg_sys::text_to_cstring(json.cast_mut_ptr());
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }

    /// Whether it holds no row.
    pub fn is_empty(&self) -> bool {
        // SAFETY: the slot is live.
        unsafe { u32::from((*self.raw()).tts_flags) & pg_sys::TTS_FLAG_EMPTY != 0 }
    }

    /// The transaction that wrote the row which was read from the table. `None`: written by the server's own bootstrap.
    ///
    /// Freezing keeps the number, and vacuum may freeze a row moments after it was written; whether commit data is still
    /// kept for the transaction is for [`crate::pg::origin::commit_data`] to say. A row that was frozen more than 2^32
    /// transactions ago can be taken for one of a newer transaction.
    pub fn writer(&self) -> Option<u32> {
        // SAFETY: slots of `for_table` on heap tables hold a heap row while they are not empty.
        unsafe {
            let slot = self.raw();
            if (*slot).tts_ops != &raw const pg_sys::TTSOpsBufferHeapTuple {
                return None;
            }
            let tuple = (*slot.cast::<pg_sys::BufferHeapTupleTableSlot>()).base.tuple;
            if tuple.is_null() {
                return None;
            }
            let header = (*tuple).t_data;
            let xmin = (*header).t_choice.t_heap.t_xmin.into_inner();
            (xmin >= pg_sys::FirstNormalTransactionId.into_inner()).then_some(xmin)
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: made by MakeSingleTupleTableSlot, dropped once.
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.raw()) }
    }
}

/// Raises when `text` cannot be a `jsonb`.
pub fn check_jsonb(text: &str) {
    let text = CString::new(text).unwrap_or_default();
    let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: the input function of a built-in type, given a C string.
    unsafe {
        pg_sys::getTypeInputInfo(pg_sys::JSONBOID, &mut function, &mut parameter);
        pg_sys::OidInputFunctionCall(function, text.as_ptr().cast_mut(), parameter, -1);
    }
}

/// Why bytes from the wire are not a value of the local column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueError {
    /// Length of an internal image does not fit the type.
    Length,
    /// The type has no internal image that may travel.
    NotInternal,
}

/// Turns bytes into values of one column. Kept across transactions; functions are looked up when first needed.
pub struct Decoder {
    type_oid: pg_sys::Oid,
    typmod: i32,
    len: i16,
    by_val: bool,
    align: usize,
    input: Option<Box<(pg_sys::FmgrInfo, pg_sys::Oid)>>,
    receive: Option<Box<(pg_sys::FmgrInfo, pg_sys::Oid)>>,
}

impl Decoder {
    /// A decoder for values of `column`.
    pub fn new(column: &Column) -> Self {
        Self {
            type_oid: pg_sys::Oid::from_u32(column.type_oid),
            typmod: column.typmod,
            len: column.len,
            by_val: column.by_val,
            align: column.align,
            input: None,
            receive: None,
        }
    }

    /// Whether values have no fixed length, so that they can be stored out of line.
    pub fn is_varlena(&self) -> bool {
        self.len == -1
    }

    /// The text form of a value of this column; `None` for NULL.
    pub fn output(&self, value: Value) -> Option<String> {
        if value.null {
            return None;
        }
        let mut function = pg_sys::InvalidOid;
        let mut varlena = false;
        // SAFETY: a non-null value of the column's type; the result is a C string in the current context.
        unsafe {
            pg_sys::getTypeOutputInfo(self.type_oid, &mut function, &mut varlena);
            let text = pg_sys::OidOutputFunctionCall(function, value.datum);
            Some(CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }

    /// The value as `to_json` writes it; `None` for NULL.
    pub fn json(&self, value: Value) -> Option<String> {
        if value.null {
            return None;
        }
        let function = pg_sys::Oid::from_u32(pg_sys::F_TO_JSON);
        // SAFETY: a non-null value of the column's type. The function asks the call's expression for that type; all of it
        // lives in the current context, and the result is text there.
        unsafe {
            let argument = pg_sys::makeNullConst(self.type_oid, self.typmod, pg_sys::InvalidOid);
            let call = pg_sys::makeFuncExpr(
                function,
                pg_sys::JSONOID,
                pg_sys::lappend(core::ptr::null_mut(), argument.cast()),
                pg_sys::InvalidOid,
                pg_sys::InvalidOid,
                pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
            );
            let mut info = pg_sys::FmgrInfo::default();
            pg_sys::fmgr_info(function, &mut info);
            info.fn_expr = call.cast();
            let json = pg_sys::FunctionCall1Coll(&mut info, pg_sys::InvalidOid, value.datum);
            let text = pg_sys::text_to_cstring(json.cast_mut_ptr());
            Some(CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }

    /// Name of the column's type, without its schema.
    pub fn type_name(&self) -> Option<String> {
        // SAFETY: a syscache lookup inside a transaction; the name is copied before the row is released.
        unsafe {
            let key = pg_sys::Datum::from(self.type_oid);
            let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::TYPEOID as _, key);
            if row.is_null() {
                return None;
            }
            let facts = &*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_type>();
            let name = pgrx::name_data_to_str(&facts.typname).to_owned();
            pg_sys::ReleaseSysCache(row);
            Some(name)
        }
    }

    /// Reads an image of the value as this kind of machine keeps it. Points into `bytes` where it can.
    pub fn internal(&self, bytes: &[u8]) -> Result<Value, ValueError> {
        if self.by_val {
            return self.by_value(bytes);
        }
        let aligned = match self.len {
            -1 => check_varlena(bytes)?,
            len if usize::try_from(len) == Ok(bytes.len()) => false,
            _ if self.len < -1 => return Err(ValueError::NotInternal),
            _ => return Err(ValueError::Length),
        };
        let place = bytes.as_ptr();
        let place = if aligned || place.align_offset(self.align.max(1)) == 0 { place } else { copy(bytes) };
        Ok(Value { datum: pg_sys::Datum::from(place), null: false })
    }

    fn by_value(&self, bytes: &[u8]) -> Result<Value, ValueError> {
        if usize::try_from(self.len) != Ok(bytes.len()) {
            return Err(ValueError::Length);
        }
        // As the server does: small values are sign-extended into the word that carries them.
        let word = match *bytes {
            [a] => i64::from(a as i8),
            [a, b] => i64::from(i16::from_ne_bytes([a, b])),
            [a, b, c, d] => i64::from(i32::from_ne_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => i64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            _ => return Err(ValueError::Length),
        };
        Ok(Value { datum: pg_sys::Datum::from(word), null: false })
    }

    /// Reads what the type's send function made.
    pub fn binary(&mut self, bytes: &[u8], cx: &OwnedContext) -> Value {
        let type_oid = self.type_oid;
        let receive = self.receive.get_or_insert_with(|| {
            load(type_oid, cx, |oid, function, parameter| {
                // SAFETY: fills both outputs or raises.
                unsafe { pg_sys::getTypeBinaryInputInfo(oid, function, parameter) }
            })
        });
        // Receive functions may write into the buffer, one byte past its end included: they get a copy.
        let place = copy(bytes);
        let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        let mut buffer = pg_sys::StringInfoData {
            data: place.cast_mut().cast(),
            len: length,
            maxlen: length.saturating_add(1),
            cursor: 0,
        };
        // SAFETY: the function is the type's receive function; the buffer outlives the call.
        let datum = unsafe { pg_sys::ReceiveFunctionCall(&mut receive.0, &mut buffer, receive.1, self.typmod) };
        if buffer.cursor != length {
            crate::error::Report::new(
                pgrx::PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION,
                "incorrect binary data format in a column value",
            )
            .raise()
        }
        Value { datum, null: false }
    }

    /// Reads what the type's output function made; `bytes` hold no NUL.
    pub fn text(&mut self, bytes: &[u8], cx: &OwnedContext) -> Value {
        let text = copy(bytes);
        let type_oid = self.type_oid;
        let input = self.input.get_or_insert_with(|| {
            load(type_oid, cx, |oid, function, parameter| {
                // SAFETY: fills both outputs or raises.
                unsafe { pg_sys::getTypeInputInfo(oid, function, parameter) }
            })
        });
        // SAFETY: the function is the type's input function; the copy is NUL-terminated.
        let datum = unsafe { pg_sys::InputFunctionCall(&mut input.0, text.cast_mut().cast(), input.1, self.typmod) };
        Value { datum, null: false }
    }
}

fn load(
    type_oid: pg_sys::Oid,
    cx: &OwnedContext,
    find: impl FnOnce(pg_sys::Oid, *mut pg_sys::Oid, *mut pg_sys::Oid),
) -> Box<(pg_sys::FmgrInfo, pg_sys::Oid)> {
    let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    find(type_oid, &mut function, &mut parameter);
    Box::new((lookup_function(function, cx), parameter))
}

/// Call information of a function, with its private memory in `cx`.
pub(super) fn lookup_function(function: pg_sys::Oid, cx: &OwnedContext) -> pg_sys::FmgrInfo {
    let mut info = pg_sys::FmgrInfo::default();
    // SAFETY: fills the struct or raises; the context lives as long as the call information.
    unsafe { pg_sys::fmgr_info_cxt(function, &mut info, cx.raw()) };
    info
}

/// Whether the header of a variable-length value agrees with the bytes that came. True: needs no alignment.
fn check_varlena(bytes: &[u8]) -> Result<bool, ValueError> {
    let first = *bytes.first().ok_or(ValueError::Length)?;
    let little = cfg!(target_endian = "little");
    let short = if little { first & 0x01 == 0x01 } else { first & 0x80 == 0x80 };
    if short {
        let length = if little { first >> 1 } else { first & 0x7f };
        // Length 0 marks a pointer to a value stored elsewhere: it means nothing here.
        return if length != 0 && usize::from(length) == bytes.len() { Ok(true) } else { Err(ValueError::Length) };
    }
    let header = bytes.first_chunk::<4>().ok_or(ValueError::Length)?;
    let word = u32::from_ne_bytes(*header);
    let length = if little { word >> 2 } else { word & 0x3fff_ffff };
    if usize::try_from(length) == Ok(bytes.len()) { Ok(false) } else { Err(ValueError::Length) }
}

/// Copies to the current context, aligned, with one byte of zero behind.
fn copy(bytes: &[u8]) -> *const u8 {
    // SAFETY: the new memory has room for the bytes and the zero.
    unsafe {
        let place = pg_sys::palloc(bytes.len() + 1).cast::<u8>();
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len());
        *place.add(bytes.len()) = 0;
        place
    }
}
