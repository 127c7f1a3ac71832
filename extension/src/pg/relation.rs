//! Tables as the apply worker sees them: found by name, locked to the end of the transaction, with their columns and
//! the key that finds a row. Also tells whoever remembers facts about a table when they may have become stale.
//!
//! # Invariants
//! 1. A [`Table`] is locked until the transaction ends, whatever happens to the value.
//! 2. A [`Validity`] turns false before any lock on a changed table can be granted to us.

use super::compat::executor as compat;
use core::ptr::NonNull;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString};
use std::rc::Rc;

/// Oid of a local table. Means nothing on another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TableId(pub(super) pg_sys::Oid);

impl TableId {
    /// The table with that oid.
    pub fn of(oid: u32) -> Self {
        Self(pg_sys::Oid::from_u32(oid))
    }

    /// The oid.
    pub fn get(self) -> u32 {
        self.0.to_u32()
    }
}

/// Column number, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnNumber(pub(super) i16);

impl ColumnNumber {
    /// The number.
    pub fn get(self) -> i16 {
        self.0
    }

    /// Position in arrays of values, from 0.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(1) - 1
    }
}

/// How a table is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Rows are read.
    AccessShare,
    /// Rows are written.
    RowExclusive,
    /// Nobody else may look: TRUNCATE.
    AccessExclusive,
}

impl LockMode {
    fn raw(self) -> pg_sys::LOCKMODE {
        (match self {
            Self::AccessShare => pg_sys::AccessShareLock,
            Self::RowExclusive => pg_sys::RowExclusiveLock,
            Self::AccessExclusive => pg_sys::AccessExclusiveLock,
        }) as pg_sys::LOCKMODE
    }
}

/// Facts of one live column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Name, in the database's encoding.
    pub name: CString,
    /// Number in the table.
    pub number: ColumnNumber,
    /// Type, as a number of this server.
    pub type_oid: u32,
    /// Type modifier, -1: none.
    pub typmod: i32,
    /// `attlen`: bytes, -1 variable with header, -2 C string.
    pub len: i16,
    /// Passed by value.
    pub by_val: bool,
    /// Required alignment in bytes.
    pub align: usize,
    /// Computed from other columns: never written from outside.
    pub generated: bool,
    pub(super) collation: pg_sys::Oid,
}

impl Column {
    /// A column that only the provider has. `None`: its type does not exist here.
    pub fn elsewhere(name: &CStr, type_oid: u32) -> Option<Self> {
        let kind = pg_sys::Oid::from_u32(type_oid);
        let (mut len, mut by_val, mut align) = (0, false, 0);
        // SAFETY: look-ups inside a transaction; the second one is of a type that exists.
        unsafe {
            if !pg_sys::get_typisdefined(kind) {
                return None;
            }
            pg_sys::get_typlenbyvalalign(kind, &mut len, &mut by_val, &mut align);
        }
        Some(Self {
            name: name.to_owned(),
            number: ColumnNumber(0),
            type_oid,
            typmod: -1,
            len,
            by_val,
            align: alignment(align as u8),
            generated: false,
            collation: pg_sys::InvalidOid,
        })
    }
}

/// Bytes of `typalign`.
fn alignment(letter: u8) -> usize {
    match letter {
        b's' => 2,
        b'i' => 4,
        b'd' => 8,
        _ => 1,
    }
}

/// Which index finds a row, and its columns.
#[derive(Debug, Clone)]
pub struct KeyIndex {
    pub(super) oid: pg_sys::Oid,
    /// Name of the index.
    pub name: String,
    /// Columns of the key in index order.
    pub columns: Vec<ColumnNumber>,
    /// Equality function and collation of each.
    pub(super) equality: Vec<(pg_sys::Oid, pg_sys::Oid)>,
}

/// What kind of relation a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary table with heap storage.
    Table,
    /// A partitioned table: has no storage.
    Partitioned,
    /// Anything else.
    Other,
}

/// An open table, locked to the end of the transaction.
///
/// On ERROR: Drop does nothing. Abort closes the relation and releases the lock.
pub struct Table {
    raw: NonNull<pg_sys::RelationData>,
}

impl Table {
    /// Opens by oid. `None`: the table was dropped.
    pub fn try_open(id: TableId, mode: LockMode) -> Option<Self> {
        // SAFETY: inside a transaction of this backend; the result is null or a relation whose reference we own.
        let raw = unsafe { pg_sys::try_relation_open(id.0, mode.raw()) };
        NonNull::new(raw).map(|raw| Self { raw })
    }

    /// Finds, locks and opens by name, which is in the database's encoding. `None`: no such relation.
    pub fn open_by_name(schema: &CStr, name: &CStr, mode: LockMode) -> Option<Self> {
        // SAFETY: both copies live in the current context, the range variable with them; a missing schema or relation
        // gives an invalid oid with RVR_MISSING_OK.
        let oid = unsafe {
            let var = pg_sys::makeRangeVar(pg_sys::pstrdup(schema.as_ptr()), pg_sys::pstrdup(name.as_ptr()), -1);
            pg_sys::RangeVarGetRelidExtended(
                var,
                mode.raw(),
                pg_sys::RVROption::RVR_MISSING_OK,
                None,
                core::ptr::null_mut(),
            )
        };
        if oid == pg_sys::InvalidOid {
            return None;
        }
        // SAFETY: locked above, so it exists.
        let raw = unsafe { pg_sys::try_relation_open(oid, pg_sys::NoLock as pg_sys::LOCKMODE) };
        NonNull::new(raw).map(|raw| Self { raw })
    }

    pub(super) fn raw(&self) -> pg_sys::Relation {
        self.raw.as_ptr()
    }

    /// Oid.
    pub fn id(&self) -> TableId {
        // SAFETY: an open relation has its oid.
        TableId(unsafe { self.raw.as_ref().rd_id })
    }

    pub(super) fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: an open relation has its row type.
        unsafe { self.raw.as_ref().rd_att }
    }

    pub(super) fn owner(&self) -> pg_sys::Oid {
        // SAFETY: an open relation has its catalog row.
        unsafe { (*self.raw.as_ref().rd_rel).relowner }
    }

    /// Kind of relation.
    pub fn kind(&self) -> Kind {
        // SAFETY: an open relation has its catalog row.
        let kind = unsafe { (*self.raw.as_ref().rd_rel).relkind } as u8;
        match kind {
            pg_sys::RELKIND_RELATION => Kind::Table,
            pg_sys::RELKIND_PARTITIONED_TABLE => Kind::Partitioned,
            _ => Kind::Other,
        }
    }

    /// Number of attributes, dropped ones included.
    pub fn width(&self) -> usize {
        // SAFETY: as in `descriptor`.
        usize::try_from(unsafe { (*self.descriptor()).natts }).unwrap_or(0)
    }

    /// Live columns in table order.
    pub fn columns(&self) -> Vec<Column> {
        (0..self.width()).filter_map(|index| self.column(index)).collect()
    }

    /// Type of a column.
    pub(super) fn column_type(&self, number: ColumnNumber) -> pg_sys::Oid {
        // SAFETY: a column of this table.
        unsafe { (*compat::attribute(self.descriptor(), number.index())).atttypid }
    }

    fn column(&self, index: usize) -> Option<Column> {
        // SAFETY: `index` is below the number of attributes.
        let attribute = unsafe { &*compat::attribute(self.descriptor(), index) };
        if attribute.attisdropped {
            return None;
        }
        // SAFETY: names are NUL-terminated in their fixed array.
        let name = unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) };
        Some(Column {
            name: name.to_owned(),
            number: ColumnNumber(attribute.attnum),
            type_oid: attribute.atttypid.to_u32(),
            typmod: attribute.atttypmod,
            len: attribute.attlen,
            by_val: attribute.attbyval,
            align: alignment(attribute.attalign as u8),
            generated: attribute.attgenerated != 0,
            collation: attribute.attcollation,
        })
    }

    /// The index that finds rows: the replica identity, else the primary key. `None`: rows are found by comparing all
    /// columns. An index of another access method than btree is not used.
    pub fn key_index(&self) -> Option<KeyIndex> {
        // SAFETY: an open relation; may load the index list. `rd_pkindex` is filled by it and honours deferrability
        // as the identity does: a deferrable key is no identity.
        let oid = unsafe {
            let identity = pg_sys::RelationGetReplicaIndex(self.raw());
            if identity != pg_sys::InvalidOid { identity } else { self.primary_key() }
        };
        self.read_index(oid)
    }

    /// The primary key, whatever the replica identity is.
    pub fn primary_key_index(&self) -> Option<KeyIndex> {
        // SAFETY: an open relation; loads the index list, which fills what is read next.
        let oid = unsafe {
            pg_sys::RelationGetReplicaIndex(self.raw());
            self.primary_key()
        };
        self.read_index(oid)
    }

    fn read_index(&self, oid: pg_sys::Oid) -> Option<KeyIndex> {
        if oid == pg_sys::InvalidOid {
            return None;
        }
        // SAFETY: the table is locked, so its index stays; the lock on the index is kept to the end of the transaction.
        unsafe {
            let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            let key = read_key(index, oid);
            pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
            key
        }
    }

    fn primary_key(&self) -> pg_sys::Oid {
        // SAFETY: the index list was loaded by the caller; the index row is read through the index relation.
        unsafe {
            let oid = self.raw.as_ref().rd_pkindex;
            if oid == pg_sys::InvalidOid {
                return oid;
            }
            let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            let usable = (*(*index).rd_index).indimmediate && (*(*index).rd_index).indisvalid;
            pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
            if usable { oid } else { pg_sys::InvalidOid }
        }
    }
}

/// # Safety
/// `index` is open.
pub(super) unsafe fn read_key(index: pg_sys::Relation, oid: pg_sys::Oid) -> Option<KeyIndex> {
    // SAFETY: an open index has its catalog rows, and arrays with one entry for each key column.
    unsafe {
        if (*(*index).rd_rel).relam.to_u32() != pg_sys::BTREE_AM_OID.to_u32() {
            return None;
        }
        let keys = usize::try_from((*(*index).rd_index).indnkeyatts).unwrap_or(0);
        let numbers = (*(*index).rd_index).indkey.values.as_ptr();
        let mut columns = Vec::with_capacity(keys);
        let mut equality = Vec::with_capacity(keys);
        for i in 0..keys {
            let number = *numbers.add(i);
            if number <= 0 {
                return None;
            }
            let input = *(*index).rd_opcintype.add(i);
            let operator = pg_sys::get_opfamily_member(
                *(*index).rd_opfamily.add(i),
                input,
                input,
                pg_sys::BTEqualStrategyNumber as i16,
            );
            columns.push(ColumnNumber(number));
            equality.push((pg_sys::get_opcode(operator), *(*index).rd_indcollation.add(i)));
        }
        let name = CStr::from_ptr((*(*index).rd_rel).relname.data.as_ptr()).to_string_lossy().into_owned();
        Some(KeyIndex { oid, name, columns, equality })
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: we own one reference; the lock stays until the transaction ends.
        unsafe { pg_sys::relation_close(self.raw(), pg_sys::NoLock as pg_sys::LOCKMODE) }
    }
}

/// Whether remembered facts about a table still hold.
#[derive(Debug, Clone)]
pub struct Validity(Rc<Cell<bool>>);

impl Validity {
    /// False: something about the table changed since [`watch`].
    pub fn holds(&self) -> bool {
        self.0.get()
    }
}

thread_local! {
    static WATCHED: RefCell<Vec<(pg_sys::Oid, Rc<Cell<bool>>)>> = const { RefCell::new(Vec::new()) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Watches a table. Ends when the value and its clones are dropped, or after the first change.
pub fn watch(id: TableId) -> Validity {
    register_callbacks();
    let flag = Rc::new(Cell::new(true));
    WATCHED.with_borrow_mut(|list| {
        list.retain(|(_, flag)| flag.get() && Rc::strong_count(flag) > 1);
        list.push((id.0, Rc::clone(&flag)));
    });
    Validity(flag)
}

fn register_callbacks() {
    if REGISTERED.replace(true) {
        return;
    }
    // SAFETY: once for each process; the callbacks are functions of this library, which is never unloaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(on_relcache_change), pg_sys::Datum::from(0));
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
            Some(on_namespace_change),
            pg_sys::Datum::from(0),
        );
    }
}

fn invalidate(oid: pg_sys::Oid) {
    WATCHED.with(|list| {
        // Callbacks come from inside server calls, and none is made while the list is borrowed for writing.
        if let Ok(list) = list.try_borrow() {
            for (watched, flag) in list.iter() {
                if oid == pg_sys::InvalidOid || oid == *watched {
                    flag.set(false);
                }
            }
        }
    });
}

/// The server calls it with the oid of a changed relation, or zero for all.
unsafe extern "C-unwind" fn on_relcache_change(_argument: pg_sys::Datum, oid: pg_sys::Oid) {
    invalidate(oid);
}

/// The server calls it when a schema changes: a renamed schema moves names to other tables.
unsafe extern "C-unwind" fn on_namespace_change(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    invalidate(pg_sys::InvalidOid);
}
