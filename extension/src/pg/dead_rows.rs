//! Rows of a [`Target`] that are gone but not yet vacuumed away: who removed a key, and rows that were written by whom.
//!
//! # Invariants
//! 1. Only ends of rows that are certain count: removed by a transaction that has committed, or by the one that runs.
//! 2. A row's head is read with its page locked, because other transactions change it in place.

use super::compat::executor as compat;
use super::heap::Target;
use super::relation::{ColumnNumber, Table};
use super::row_image::RowImage;
use super::tuple::Slot;
use super::unguarded::guarded;
use pgrx::pg_sys;

/// Which ends of rows are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// All of them, UPDATEs that kept the key among them: where there is no row, these are older than what removed it for good.
    Any,
    /// By DELETE: where there is a row, its earlier states are no removals.
    Deletes,
}

impl Target {
    /// The transactions that removed a row with the key of `remote`, by DELETE or by giving it another key, as far as vacuum
    /// has left the rows. Clears `local`. Empty without a key index.
    pub fn removers(&mut self, ends: Ends) -> Vec<u32> {
        let mut removers = Vec::new();
        self.each_removal_of_key(ends, |_, _, xid| {
            if removers.last() != Some(&xid) {
                removers.push(xid);
            }
        });
        removers
    }

    /// The newest removed row with the key of `remote`, as [`Target::removers`] finds them: who removed it, and its values in
    /// `wanted` columns. `rank` says how new a removal is; `None`: it is none. Clears `local`.
    pub fn removed_row<R: Ord>(
        &mut self,
        wanted: impl Fn(ColumnNumber) -> bool,
        mut rank: impl FnMut(u32) -> Option<R>,
    ) -> Option<(u32, RowImage)> {
        let mut newest: Option<(R, u32, RowImage)> = None;
        self.each_removal_of_key(Ends::Any, |slot, table, xid| {
            // The states of a row come in their order, and one transaction may have ended several.
            let Some(rank) = rank(xid).filter(|rank| newest.as_ref().is_none_or(|(newest, ..)| rank >= newest)) else {
                return;
            };
            newest = Some((rank, xid, RowImage::of_columns(slot, table, &wanted)));
        });
        newest.map(|(_, xid, image)| (xid, image))
    }

    fn each_removal_of_key(&mut self, ends: Ends, mut look: impl FnMut(&Slot, &Table, u32)) {
        if self.key_scan().is_none() {
            return;
        }
        let Some(key) = self.key.as_mut() else { return };
        if !key.aim(&self.remote) {
            return;
        }
        let count = i32::try_from(key.keys.len()).unwrap_or(0);
        // SAFETY: a scan of its own, closed here. The snapshot that sees everything is static; with it, the rows of a chain
        // come one after the other.
        unsafe {
            let all = &raw mut pg_sys::SnapshotAnyData;
            let (table, index) = (self.table.raw(), key.index);
            let scan = guarded(move || compat::begin_index_scan(table, index, all, count));
            pg_sys::index_rescan(scan, key.keys.as_mut_ptr(), count, core::ptr::null_mut(), 0);
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            while pg_sys::index_getnext_slot(scan, forward, self.local.raw()) {
                pgrx::check_for_interrupts!();
                if let Some(xid) = remover(&self.local, ends) {
                    look(&self.local, &self.table, xid);
                }
            }
            self.local.clear();
            pg_sys::index_endscan(scan);
        }
    }
}

/// `MovedPartitionsOffsetNumber` of the server: an UPDATE has moved the row to another partition, as DELETE and INSERT.
const MOVED_TO_A_PARTITION: u16 = 0xfffd;

/// The transaction that ended the row in `slot`. `None`: the row lives, or never did.
///
/// # Safety
/// The slot was filled from a table just now, and holds its page.
unsafe fn remover(slot: &Slot, ends: Ends) -> Option<u32> {
    // SAFETY: the caller's promise.
    let (xid, next) = unsafe { end_of(slot, ends) }?;
    (ends == Ends::Any || next.is_none()).then_some(xid)
}

/// The transaction that ended the row in `slot`, and where its next state is, if it has one in the same table. `None`: the row
/// lives, or never did, or went on and `ends` asks for DELETEs only.
///
/// # Safety
/// As for [`remover`].
unsafe fn end_of(slot: &Slot, ends: Ends) -> Option<(u32, Option<pg_sys::ItemPointerData>)> {
    // SAFETY: a slot of a heap table that is not empty holds a pin on the page of its row. What reads the members of a multixact
    // can raise while the page is locked; nothing here has a destructor, and abort lets the page go.
    let (xmin, xmax, infomask, next) = unsafe {
        let slot = slot.raw();
        if (*slot).tts_ops != &raw const pg_sys::TTSOpsBufferHeapTuple {
            return None;
        }
        let slot = slot.cast::<pg_sys::BufferHeapTupleTableSlot>();
        let tuple = (*slot).base.tuple;
        let buffer = (*slot).buffer;
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let header = (*tuple).t_data;
        let infomask = u32::from((*header).t_infomask);
        let xmin = (*header).t_choice.t_heap.t_xmin;
        let multi = infomask & pg_sys::HEAP_XMAX_IS_MULTI != 0;
        let locked_only = infomask & pg_sys::HEAP_XMAX_LOCK_ONLY != 0;
        // The members of a multixact are read from their own files, so their answer needs the head as it is now.
        let xmax = if multi && !locked_only && infomask & pg_sys::HEAP_XMAX_INVALID == 0 {
            pg_sys::HeapTupleGetUpdateXid(header)
        } else {
            (*header).t_choice.t_heap.t_xmax
        };
        // An UPDATE leads to the row's next state, in whatever partition but this one.
        let (own, next) = ((*tuple).t_self, (*header).t_ctid);
        let place = |at: pg_sys::ItemPointerData| (at.ip_blkid.bi_hi, at.ip_blkid.bi_lo, at.ip_posid);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
        let goes_on = place(own) != place(next) && next.ip_posid != MOVED_TO_A_PARTITION;
        (xmin, xmax, infomask, goes_on.then_some(next))
    };
    if infomask & (pg_sys::HEAP_XMAX_INVALID | pg_sys::HEAP_XMAX_LOCK_ONLY) != 0 {
        return None;
    }
    if next.is_some() && ends == Ends::Deletes {
        return None;
    }
    let frozen = infomask & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_FROZEN;
    // SAFETY: looks at the state of transactions.
    let counts = |xid| unsafe { pg_sys::TransactionIdIsCurrentTransactionId(xid) || has_committed(xid) };
    // A row whose writer was rolled back never was.
    ((frozen || counts(xmin)) && counts(xmax)).then(|| (xmax.into_inner(), next))
}

/// # Safety
/// `xid` is of a row that is in a table.
unsafe fn has_committed(xid: pg_sys::TransactionId) -> bool {
    // SAFETY: looks at the state of transactions; one that is still in progress must be asked about first.
    unsafe {
        xid != pg_sys::InvalidTransactionId
            && !pg_sys::TransactionIdIsInProgress(xid)
            && pg_sys::TransactionIdDidCommit(xid)
    }
}

/// Calls `look` with each row of `table` that a snapshot of now sees, in `slot`. Ends at the first false.
pub fn each_row(table: &Table, slot: &Slot, mut look: impl FnMut(&Slot) -> bool) {
    // SAFETY: the scan is closed before this returns, on every way but an ERROR, whose abort closes it.
    unsafe {
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let scan = pg_sys::table_beginscan(table.raw(), snapshot, 0, core::ptr::null_mut());
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        while pg_sys::table_scan_getnextslot(scan, forward, slot.raw()) {
            pgrx::check_for_interrupts!();
            if !look(slot) {
                break;
            }
        }
        pg_sys::table_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
    }
}

impl Target {
    /// Calls `look` with the hash of each key that a row has lost, by DELETE or by another key, and the transaction that did it, as
    /// far as `wanted` takes this one and vacuum has left the rows. Keys without a hash are left out. Clears `local` and `merged`.
    pub fn each_removed(&mut self, wanted: impl Fn(u32) -> bool, mut look: impl FnMut(i64, u32)) {
        if self.key_index.is_none() {
            return;
        }
        // SAFETY: the scan is closed before this returns, on every way but an ERROR, whose abort closes it. The snapshot that sees
        // everything is static. The next state of a row whose end has committed is still there: it ended later, or lives.
        unsafe {
            let all = &raw mut pg_sys::SnapshotAnyData;
            let scan = pg_sys::table_beginscan(self.table.raw(), all, 0, core::ptr::null_mut());
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            let next = Slot::for_table(&self.table);
            while pg_sys::table_scan_getnextslot(scan, forward, self.local.raw()) {
                pgrx::check_for_interrupts!();
                let Some((xid, state)) = end_of(&self.local, Ends::Any).filter(|(xid, _)| wanted(*xid)) else {
                    continue;
                };
                if let Some(mut place) = state
                    && pg_sys::table_tuple_fetch_row_version(self.table.raw(), &raw mut place, all, next.raw())
                    && self.has_one_key(&self.local, &next)
                {
                    continue;
                }
                if let Some(hash) = self.key_hash_of(&self.local) {
                    look(hash, xid);
                }
            }
            drop(next);
            self.local.clear();
            pg_sys::table_endscan(scan);
        }
    }
}

/// Deletes the row that was read into `slot`, without triggers. The table is locked against everybody else.
pub fn delete_row(table: &Table, slot: &Slot) {
    // SAFETY: the slot holds the position of a row of the table that no other transaction changes; an ERROR unwinds.
    unsafe {
        pg_sys::simple_table_tuple_delete(table.raw(), &raw mut (*slot.raw()).tts_tid, pg_sys::GetLatestSnapshot())
    }
}

impl Target {
    /// A number for the key of `remote`: the same for keys that the index takes for equal, and hardly ever the same for others.
    /// `None`: there is no key, a part of it is NULL, or its type cannot be hashed.
    pub fn key_hash(&self) -> Option<i64> {
        self.key_hash_of(&self.remote)
    }

    /// The same for the key of the row in `slot`.
    pub fn key_hash_of(&self, slot: &Slot) -> Option<i64> {
        let index = self.key_index.as_ref()?;
        let mut combined: u64 = 0;
        for (column, (_, collation)) in index.columns.iter().zip(&index.equality) {
            let value = slot.get(*column);
            if value.null {
                return None;
            }
            // SAFETY: the entry of the column's type lives as long as the process; the function takes a value of the type
            // and a seed.
            let hash = unsafe {
                let entry = pg_sys::lookup_type_cache(
                    self.table.column_type(*column),
                    pg_sys::TYPECACHE_HASH_EXTENDED_PROC_FINFO as i32,
                );
                let function = &raw mut (*entry).hash_extended_proc_finfo;
                if (*function).fn_oid == pg_sys::InvalidOid {
                    return None;
                }
                pg_sys::FunctionCall2Coll(function, *collation, value.datum, pg_sys::Datum::from(0_i64))
            };
            combined = combined.rotate_left(7).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ hash.value() as u64;
        }
        Some(combined.cast_signed())
    }
}
