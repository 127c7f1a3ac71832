//! Reading our catalog tables row by row, without SPI and without a plan: what logical decoding needs, where only a
//! historic snapshot exists. Outside of decoding the same calls read with a fresh snapshot.
//!
//! # Invariants
//! 1. While decoding, only tables with the storage option `user_catalog_table` may be read; the caller picks the table.
//! 2. Every value is copied into Rust before the scan moves on. Nothing points into a buffer afterwards.
//! 3. A table is open, and locked AccessShareLock, only inside [`scan`].

use pgrx::pg_sys;
use std::ffi::CString;

/// Column number of a catalog table, from 1.
pub type Column = u16;

/// Equality condition on one column of type oid.
#[derive(Debug, Clone, Copy)]
pub struct OidKey {
    /// The column compared.
    pub column: Column,
    /// The value wanted.
    pub value: u32,
}

/// Oid of `schema.name`, or none when there is no such relation (or schema).
pub fn relation_oid(schema: &str, name: &str) -> Option<pg_sys::Oid> {
    let (schema, name) = (CString::new(schema).ok()?, CString::new(name).ok()?);
    // SAFETY: a catalog lookup inside a transaction; both strings end with NUL and outlive the calls.
    let oid = unsafe {
        let namespace = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        if namespace == pg_sys::InvalidOid {
            return None;
        }
        pg_sys::get_relname_relid(name.as_ptr(), namespace)
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// One row under the scan.
pub struct Row<'s> {
    values: &'s [pg_sys::Datum],
    nulls: &'s [bool],
}

impl Row<'_> {
    fn datum(&self, column: Column) -> Option<pg_sys::Datum> {
        let at = usize::from(column).checked_sub(1)?;
        // A column that a newer library expects and an older extension script lacks reads as NULL.
        (!*self.nulls.get(at)?).then(|| self.values[at])
    }

    /// Value of a column of type oid (or regclass); `None` for NULL.
    pub fn oid(&self, column: Column) -> Option<u32> {
        self.datum(column).map(|datum| datum.value() as u32)
    }

    /// Value of a boolean column; `None` for NULL.
    pub fn boolean(&self, column: Column) -> Option<bool> {
        self.datum(column).map(|datum| datum.value() as u8 != 0)
    }

    /// Value of a column of type name.
    pub fn name(&self, column: Column) -> Option<String> {
        self.datum(column).map(|datum| {
            // SAFETY: a non-null name is a NUL-padded array of 64 bytes inside the row.
            let raw = unsafe { core::ffi::CStr::from_ptr(datum.cast_mut_ptr()) };
            raw.to_string_lossy().into_owned()
        })
    }

    /// Value of a column of type text, or of another type that is stored like it (pg_node_tree).
    pub fn text(&self, column: Column) -> Option<String> {
        self.datum(column).map(text_of)
    }

    /// Value of a column of type text[]; NULL elements are left out.
    pub fn text_array(&self, column: Column) -> Option<Vec<String>> {
        self.datum(column).map(text_array_of)
    }
}

/// The string in a text value.
pub(super) fn text_of(datum: pg_sys::Datum) -> String {
    // SAFETY: the datum is a non-null text; the result is a fresh C string in the current memory context.
    let raw = unsafe { pg_sys::text_to_cstring(datum.cast_mut_ptr()) };
    // SAFETY: just made, ends with NUL; copied before anything else happens, then given back.
    unsafe {
        let text = core::ffi::CStr::from_ptr(raw).to_string_lossy().into_owned();
        pg_sys::pfree(raw.cast());
        text
    }
}

/// The strings in a text[] value, without its NULL elements.
pub(super) fn text_array_of(datum: pg_sys::Datum) -> Vec<String> {
    let mut elements: *mut pg_sys::Datum = core::ptr::null_mut();
    let mut nulls: *mut bool = core::ptr::null_mut();
    let mut count = 0;
    // SAFETY: the datum is a non-null text[]; detoasting copies when needed. Text has length -1, by reference, align 'i'.
    unsafe {
        let array: *mut pg_sys::ArrayType = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast();
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
    }
    let count = usize::try_from(count).unwrap_or(0);
    (0..count)
        // SAFETY: both arrays have `count` entries.
        .filter(|&at| unsafe { !*nulls.add(at) })
        // SAFETY: as above; the element is a non-null text.
        .map(|at| text_of(unsafe { *elements.add(at) }))
        .collect()
}

/// Runs `each` over the rows of `table` that match `key` (all rows without a key), in no order. `index` names an index
/// of the table that can serve the keys in the order given.
///
/// On ERROR: relation and scan are released by the abort that follows.
pub fn scan(table: pg_sys::Oid, index: Option<pg_sys::Oid>, keys: &[OidKey], mut each: impl FnMut(&Row<'_>)) {
    let mut raw_keys: Vec<pg_sys::ScanKeyData> = keys.iter().map(raw_key).collect();
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: inside a transaction. The scan keys live until the scan ends. A null snapshot means "the catalog snapshot",
    // which is the historic one while decoding.
    let (relation, scan) = unsafe {
        let relation = pg_sys::table_open(table, lock);
        let scan = pg_sys::systable_beginscan(
            relation,
            index.unwrap_or(pg_sys::InvalidOid),
            index.is_some(),
            core::ptr::null_mut(),
            raw_keys.len() as core::ffi::c_int,
            raw_keys.as_mut_ptr(),
        );
        (relation, scan)
    };
    // SAFETY: the relation is open, so its descriptor is too.
    let width = unsafe { (*(*relation).rd_att).natts } as usize;
    let mut values = vec![pg_sys::Datum::from(0); width];
    let mut nulls = vec![true; width];
    loop {
        // SAFETY: the scan is open.
        let tuple = unsafe { pg_sys::systable_getnext(scan) };
        if tuple.is_null() {
            break;
        }
        // SAFETY: both arrays have room for every column of the descriptor.
        unsafe { pg_sys::heap_deform_tuple(tuple, (*relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr()) }
        each(&Row { values: &values, nulls: &nulls });
    }
    // SAFETY: opened above, closed once. The lock is kept, as for every catalog.
    unsafe {
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
    }
}

fn raw_key(key: &OidKey) -> pg_sys::ScanKeyData {
    let mut raw = pg_sys::ScanKeyData::default();
    // SAFETY: fills the struct; the function oid is a built-in one.
    unsafe {
        pg_sys::ScanKeyInit(
            &mut raw,
            key.column as pg_sys::AttrNumber,
            pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
            pg_sys::Oid::from_u32(pg_sys::F_OIDEQ),
            pg_sys::Datum::from(key.value),
        );
    }
    raw
}
