//! Out-of-line values of a row that is being decoded, which its change left alone: WAL does not have them. They are taken from
//! the old row, if it was logged, else read from the TOAST table as it is now.
//!
//! # Invariants
//! 1. That a value is gone is an answer, never an error: chunks are read with a snapshot that sees dead ones too, and count
//!    only if all of them are there and make a value of the size that the row's pointer says.
//! 2. Decoding sees the catalogs as they were; files are those of now. A relation is read only while its lock keeps the file
//!    that it has now, and its cache entry names that file for no longer than the reading.
//! 3. A lock is waited for only so long: who holds it may wait for this session to confirm something.

use super::compat::decoding as compat;
use super::decoding::{Stream, TableRef, TupleRef};
use super::latch;
use super::memory::OwnedContext;
use super::types::ColumnCodec;
use super::whole_row::Values;
use pgrx::{pg_sys, varlena};
use std::time::{Duration, Instant};

/// Most bytes, as stored, that are added to one row: a message must stay below 1 GB, and text of a bytea is twice as long.
const ADDED_BYTES_MAX: usize = 256 << 20;
/// How long a table that is being rewritten, or emptied by a transaction in progress, is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Time between two looks whether the lock can be had.
const LOCK_LOOK: Duration = Duration::from_millis(50);
const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;

/// What a row still lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Nothing.
    Nothing,
    /// A value that is gone: since the change was made, the row was given another one or removed.
    Gone,
    /// A value that may be there but could not be read.
    Unread,
}

/// Whether a row may have values out of line: one look at its head.
#[inline]
pub fn has_external(row: TupleRef<'_>) -> bool {
    // SAFETY: a decoded row has a head.
    u32::from(unsafe { (*(*row.raw()).t_data).t_infomask }) & pg_sys::HEAP_HASEXTERNAL != 0
}

/// Values to use in place of those that a row only points to. Empty for most rows.
#[derive(Clone, Copy)]
pub struct Filled<'f>(pub(super) &'f [(usize, pg_sys::Datum)]);

impl Filled<'_> {
    /// No value.
    pub const NONE: Filled<'static> = Filled(&[]);
}

/// Values that were found for one row.
pub struct Completion {
    found: Vec<(usize, pg_sys::Datum)>,
    /// Where fetched values are.
    memory: OwnedContext,
    /// Relations whose locks were waited for in vain: they are not waited for again until they can be had.
    blocked: Vec<pg_sys::Oid>,
}

/// One value that was looked for.
enum Fetched {
    Value(pg_sys::Datum),
    Gone,
    Unread,
}

impl Completion {
    /// `memory` is emptied by [`Completion::forget`].
    pub fn new(memory: OwnedContext) -> Self {
        Self { found: Vec::new(), memory, blocked: Vec::new() }
    }

    /// What was found for the last row.
    pub fn filled(&self) -> Filled<'_> {
        Filled(&self.found)
    }

    /// Frees what was found.
    pub fn forget(&mut self) {
        if !self.found.is_empty() {
            self.found.clear();
            self.memory.reset();
        }
    }

    /// Looks for the values of `columns` that `new` only points to. `old` is the row before, as far as it was logged; both live
    /// until what was found is forgotten.
    pub fn complete<'c>(
        &mut self,
        stream: &mut Stream<'_>,
        (new, old): (TupleRef<'_>, Option<TupleRef<'_>>),
        table: TableRef<'_>,
        columns: impl Iterator<Item = &'c ColumnCodec>,
    ) -> Lack {
        self.forget();
        let values = Values::of(new, table);
        let mut before = None;
        let mut room = ADDED_BYTES_MAX;
        let mut lack = Lack::Nothing;
        for at in columns.map(ColumnCodec::at).filter(|&at| values.lacks(table, at)) {
            if let Some(old) = old {
                let before = before.get_or_insert_with(|| Values::of(old, table));
                // NULL says that the column was not logged: a value that was NULL before did change.
                if !before.nulls[at] && !before.lacks(table, at) {
                    self.found.push((at, before.datums[at]));
                    continue;
                }
            }
            match self.fetch(stream, &Pointer::of(values.datums[at]), &mut room) {
                Fetched::Value(value) => self.found.push((at, value)),
                // One that is gone says it of the whole row.
                Fetched::Gone => lack = Lack::Gone,
                Fetched::Unread if lack == Lack::Nothing => lack = Lack::Unread,
                Fetched::Unread => {}
            }
        }
        lack
    }

    fn fetch(&mut self, stream: &mut Stream<'_>, pointer: &Pointer, room: &mut usize) -> Fetched {
        let Some(left) = room.checked_sub(pointer.stored_size()) else { return Fetched::Unread };
        let toast = pointer.0.va_toastrelid;
        let Some(_lock) = self.lock(stream, toast) else { return Fetched::Unread };
        // SAFETY: decoding runs inside a transaction; the table is locked.
        let Some(mut table) = (unsafe { Place::open(toast) }) else { return Fetched::Unread };
        for index in table.indexes() {
            let Some(_lock) = self.lock(stream, index) else { continue };
            // SAFETY: as above.
            let Some(mut place) = (unsafe { Place::open(index) }) else { continue };
            // Nothing between this and the reading asks for news of the catalogs, which would undo it.
            // SAFETY: both are locked.
            let (Some(table_file), Some(file)) = (unsafe { (file_now(toast), file_now(index)) }) else { continue };
            table.name(table_file);
            place.name(file);
            let _scope = self.memory.enter();
            // SAFETY: both are open and name the files that they have.
            let value = unsafe { pointer.read(table.relation, place.relation) };
            return value.map_or(Fetched::Gone, |value| {
                *room = left;
                Fetched::Value(value)
            });
        }
        Fetched::Unread
    }

    /// The lock that keeps the relation's file as it is, or `None` if it cannot be had.
    fn lock(&mut self, stream: &mut Stream<'_>, relation: pg_sys::Oid) -> Option<Lock> {
        let since = Instant::now();
        // SAFETY: takes a lock of the transaction that decoding runs in, or does not.
        while !unsafe { pg_sys::ConditionalLockRelationOid(relation, LOCK) } {
            if self.blocked.contains(&relation) {
                return None;
            }
            if since.elapsed() >= LOCK_WAIT {
                self.blocked.push(relation);
                return None;
            }
            stream.progress(false);
            latch::wait(LOCK_LOOK);
        }
        if !self.blocked.is_empty() {
            self.blocked.retain(|blocked| *blocked != relation);
        }
        Some(Lock(relation))
    }
}

/// A lock on a relation.
///
/// On ERROR: Drop does nothing. Abort releases the lock.
struct Lock(pg_sys::Oid);

impl Drop for Lock {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: taken once by this transaction.
            unsafe { pg_sys::UnlockRelationOid(self.0, LOCK) }
        }
    }
}

/// A relation that is open, and names the file that it has now.
///
/// On ERROR: Drop lets the cache entry name the file it named before, for who goes on decoding; closing a file raises nothing.
/// The entry itself is closed by abort.
struct Place {
    relation: pg_sys::Relation,
    before: Option<File>,
}

/// Tablespace and number of a file.
pub type File = (pg_sys::Oid, pg_sys::Oid);

impl Place {
    /// `None`: by the catalogs that decoding sees there is no such relation, or it is an index that is not to be used.
    ///
    /// # Safety
    /// Inside a transaction, with the relation locked until the result is dropped.
    unsafe fn open(id: pg_sys::Oid) -> Option<Self> {
        // SAFETY: by contract; an index has its own catalog row at hand.
        unsafe {
            let relation = pg_sys::RelationIdGetRelation(id);
            if relation.is_null() {
                return None;
            }
            let place = Self { relation, before: None };
            let index = (*relation).rd_index;
            (index.is_null() || (*index).indisvalid).then_some(place)
        }
    }

    fn indexes(&self) -> Vec<pg_sys::Oid> {
        // SAFETY: the relation is open; the list is ours, of as many oids as it says.
        unsafe {
            let list = pg_sys::RelationGetIndexList(self.relation);
            let count = if list.is_null() { 0 } else { usize::try_from((*list).length).unwrap_or(0) };
            let indexes = (0..count).map(|at| (*(*list).elements.add(at)).oid_value).collect();
            pg_sys::list_free(list);
            indexes
        }
    }

    /// Names the file that the relation has now.
    fn name(&mut self, now: File) {
        // SAFETY: the entry is open.
        unsafe {
            let named = compat::file(self.relation);
            if named != now {
                self.before.get_or_insert(named);
                compat::name_file(self.relation, now);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // SAFETY: opened by `open`, closed once; the entry is kept by its reference until then.
        unsafe {
            if let Some(before) = self.before {
                compat::name_file(self.relation, before);
            }
            if !std::thread::panicking() {
                pg_sys::RelationClose(self.relation);
            }
        }
    }
}

/// The file of a relation, by the catalogs as they are now. `None`: the relation does not exist.
///
/// # Safety
/// Inside a transaction. For as long as the relation is locked, the answer holds.
unsafe fn file_now(id: pg_sys::Oid) -> Option<File> {
    let mut key = pg_sys::ScanKeyData::default();
    // SAFETY: a scan of a catalog by its index, closed here; on ERROR abort closes it. The snapshot sees the present although
    // one of the past is set up, as the server itself looks for files of catalogs; it is given back at once, so that it holds
    // nothing back from vacuum.
    unsafe {
        pg_sys::ScanKeyInit(
            &mut key,
            pg_sys::Anum_pg_class_oid as pg_sys::AttrNumber,
            pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
            pg_sys::Oid::from_u32(pg_sys::F_OIDEQ),
            pg_sys::Datum::from(id),
        );
        let catalog = pg_sys::table_open(pg_sys::RelationRelationId, LOCK);
        pg_sys::InvalidateCatalogSnapshot();
        let snapshot = pg_sys::GetNonHistoricCatalogSnapshot(pg_sys::RelationRelationId);
        let scan = pg_sys::systable_beginscan(
            catalog,
            pg_sys::Oid::from_u32(pg_sys::ClassOidIndexId),
            true,
            snapshot,
            1,
            &mut key,
        );
        let row = pg_sys::systable_getnext(scan);
        let file = (!row.is_null()).then(|| {
            let row = &*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_class>();
            let tablespace = match row.reltablespace {
                pg_sys::InvalidOid => pg_sys::MyDatabaseTableSpace,
                tablespace => tablespace,
            };
            (tablespace, row.relfilenode)
        });
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(catalog, LOCK);
        pg_sys::InvalidateCatalogSnapshot();
        file
    }
}

/// What a row has in place of a value that is stored out of line.
struct Pointer(pg_sys::varatt_external);

impl Pointer {
    /// `datum` is such a pointer.
    fn of(datum: pg_sys::Datum) -> Self {
        // SAFETY: behind the two bytes of its head stands the struct, not aligned.
        Self(unsafe { varlena::vardata_1b_e(datum.cast_mut_ptr()).cast::<pg_sys::varatt_external>().read_unaligned() })
    }

    /// Bytes in the TOAST table.
    fn stored_size(&self) -> usize {
        (self.0.va_extinfo & ((1 << pg_sys::VARLENA_EXTSIZE_BITS) - 1)) as usize
    }

    /// Length of the value without its head.
    fn raw_size(&self) -> usize {
        usize::try_from(self.0.va_rawsize).unwrap_or(0).saturating_sub(HEAD)
    }

    /// The value, as it is stored, in the current memory context. `None`: it is not there any more.
    ///
    /// # Safety
    /// The TOAST table and an index on its values and chunk numbers, open and locked.
    unsafe fn read(&self, table: pg_sys::Relation, index: pg_sys::Relation) -> Option<pg_sys::Datum> {
        let size = self.stored_size();
        // SAFETY: room for head and value.
        unsafe {
            let value = pg_sys::palloc(HEAD + size).cast::<u8>();
            let bytes = core::slice::from_raw_parts_mut(value.add(HEAD), size);
            bytes.fill(0);
            if !self.read_chunks(table, index, bytes) || !self.fits(bytes) {
                pg_sys::pfree(value.cast());
                return None;
            }
            value.cast::<u32>().write(head(HEAD + size, self.is_compressed()));
            // A pointer to memory, as decoding makes them: nobody copies the value to put it into a row.
            let place = pg_sys::palloc(INDIRECT_BYTES).cast::<u8>();
            let tag = pg_sys::vartag_external::VARTAG_INDIRECT as u8;
            place.write(if cfg!(target_endian = "little") { 0x01 } else { 0x80 });
            place.add(1).write(tag);
            place.add(2).cast::<*mut u8>().write_unaligned(value);
            Some(pg_sys::Datum::from(place))
        }
    }

    fn is_compressed(&self) -> bool {
        self.stored_size() < self.raw_size()
    }

    /// A compressed value tells its length: another one that was given the same number hardly ever has the same.
    fn fits(&self, stored: &[u8]) -> bool {
        if !self.is_compressed() {
            return stored.len() == self.raw_size();
        }
        let sizes = pg_sys::VARLENA_EXTSIZE_BITS;
        let method = self.0.va_extinfo >> sizes;
        stored.first_chunk::<4>().is_some_and(|head| {
            let head = u32::from_ne_bytes(*head);
            (head & ((1 << sizes) - 1)) as usize == self.raw_size() && head >> sizes == method
        })
    }

    /// Reads the chunks one after the other. False: they are not all there.
    ///
    /// # Safety
    /// As for [`Pointer::read`].
    unsafe fn read_chunks(&self, table: pg_sys::Relation, index: pg_sys::Relation, bytes: &mut [u8]) -> bool {
        let mut key = pg_sys::ScanKeyData::default();
        // Sees everything but what was rolled back: what a pointer in a committed row leads to never was.
        let mut snapshot =
            pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_TOAST, ..Default::default() };
        // SAFETY: the scan is closed before this returns; on ERROR abort closes it. The index holds its page while a row is
        // looked at, so vacuum cannot put another row in its place. A chunk has three columns.
        unsafe {
            pg_sys::ScanKeyInit(
                &mut key,
                1,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                pg_sys::Oid::from_u32(pg_sys::F_OIDEQ),
                pg_sys::Datum::from(self.0.va_valueid),
            );
            let scan = pg_sys::systable_beginscan_ordered(table, index, &mut snapshot, 1, &mut key);
            let (mut filled, mut number) = (0, 0);
            let whole = loop {
                let row = pg_sys::systable_getnext_ordered(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if row.is_null() {
                    break filled == bytes.len();
                }
                let (mut columns, mut nulls) = ([pg_sys::Datum::null(); 3], [true; 3]);
                pg_sys::heap_deform_tuple(row, (*table).rd_att, columns.as_mut_ptr(), nulls.as_mut_ptr());
                let chunk: *const pg_sys::varlena = columns[2].cast_mut_ptr();
                if nulls != [false; 3] || columns[1].value() as i32 != number || varlena::varatt_is_1b_e(chunk) {
                    break false;
                }
                let length = varlena::varsize_any_exhdr(chunk);
                let Some(place) = bytes.get_mut(filled..filled + length) else { break false };
                place.copy_from_slice(core::slice::from_raw_parts(varlena::vardata_any(chunk).cast(), length));
                filled += length;
                number += 1;
                pgrx::check_for_interrupts!();
            };
            pg_sys::systable_endscan_ordered(scan);
            whole
        }
    }
}

/// Bytes of the head of a value.
const HEAD: usize = pg_sys::VARHDRSZ;
/// Bytes of a pointer to a value in memory.
const INDIRECT_BYTES: usize = 2 + size_of::<*mut u8>();

/// The head of a value that is `size` bytes long with it.
fn head(size: usize, compressed: bool) -> u32 {
    // Values are shorter than 1 GB.
    let size = size as u32;
    match (cfg!(target_endian = "little"), compressed) {
        (true, compressed) => size << 2 | if compressed { 2 } else { 0 },
        (false, compressed) => size | if compressed { 0x4000_0000 } else { 0 },
    }
}
