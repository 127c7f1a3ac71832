//! What logical decoding calls, and safe views of what it hands over. The shims view the pointers, call the trait
//! [`Publish`] and turn its `Err` into an ERROR; the one implementation is [`crate::output::plugin::Publisher`].
//!
//! # Invariants
//! 1. Views borrow from the callback and cannot outlive it.
//! 2. The publisher lives in the decoding context and is dropped with it, also after an ERROR. Its `Drop` calls no
//!    server function.
//! 3. Invalidation callbacks only take notes ([`crate::pg::invalidation`]); they never touch a publisher.

use super::compat::decoding as compat;
use super::memory::OwnedContext;
use super::own_message;
use crate::error::{OrRaise, Report};
use crate::output::plugin::Publisher;
use core::ffi::{CStr, c_char, c_int};
use core::marker::PhantomData;
use pgrx::pg_sys;
use pgrx::prelude::*;
use spock_core::types::{Lsn, OriginId, PgTime, RelId, TypeOid, Xid};
use spock_core::wire::own_message::OwnMessage;
use spock_core::wire::row::RowKind;

/// What decoding tells a publisher. All but `start`, `drops_origin` and a non-transactional message run inside a
/// transaction under the historic snapshot of the change.
pub trait Publish: Sized + 'static {
    /// A client starts to read the slot. `options` in the order given, a value is missing when the client gave none.
    fn start(session: &mut Session<'_>, options: &[(String, Option<String>)]) -> Result<Self, Report>;
    /// A transaction that committed follows.
    fn begin(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>) -> Result<(), Report>;
    /// One row change.
    fn row(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>, change: RowChange<'_>) -> Result<(), Report>;
    /// One TRUNCATE command.
    fn truncate(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>, change: Truncation<'_>) -> Result<(), Report>;
    /// The transaction is complete.
    fn commit(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>) -> Result<(), Report>;
    /// A logical message, which any user may have written; `txn` when it is part of a transaction.
    fn message(
        &mut self,
        stream: &mut Stream<'_>,
        txn: Option<Txn<'_>>,
        message: LogicalMessage<'_>,
    ) -> Result<(), Report>;
    /// A message that only this extension can have written; `txn` when it is part of a transaction. `end` of its record.
    fn own_message(
        &mut self,
        stream: &mut Stream<'_>,
        txn: Option<Txn<'_>>,
        message: OwnMessage<'_>,
        end: Option<Lsn>,
    ) -> Result<(), Report>;
    /// Whether everything of this replication origin is left out.
    fn drops_origin(&self, origin: OriginId) -> bool;
}

/// A decoding session that starts.
pub struct Session<'s> {
    context: OwnedContext,
    callback: PhantomData<&'s ()>,
}

impl Session<'_> {
    /// The context that lives as long as the publisher.
    pub fn context(&self) -> OwnedContext {
        self.context
    }
}

/// A committed transaction.
#[derive(Clone, Copy)]
pub struct Txn<'t>(&'t pg_sys::ReorderBufferTXN);

impl Txn<'_> {
    /// Top-level transaction id.
    pub fn xid(self) -> Xid {
        Xid(self.0.xid.into_inner())
    }

    /// Where its first record starts.
    pub fn first_lsn(self) -> Option<Lsn> {
        Lsn::new(self.0.first_lsn)
    }

    /// Where its commit record starts.
    pub fn commit_lsn(self) -> Option<Lsn> {
        Lsn::new(self.0.final_lsn)
    }

    /// The first byte after its commit record.
    pub fn end_lsn(self) -> Option<Lsn> {
        Lsn::new(self.0.end_lsn)
    }

    /// When it committed.
    pub fn committed_at(self) -> PgTime {
        // SAFETY: in a committed transaction every member of the union is the time of its end.
        PgTime::from_micros(unsafe { self.0.xact_time.commit_time })
    }

    /// Origin in its commit record.
    pub fn origin(self) -> OriginId {
        OriginId(self.0.origin_id)
    }

    /// Position on the origin in its commit record, `None` when it was made here.
    pub fn origin_lsn(self) -> Option<Lsn> {
        Lsn::new(self.0.origin_lsn)
    }
}

/// An open table. Borrows the relation cache entry that decoding holds.
#[derive(Clone, Copy)]
pub struct TableRef<'t> {
    raw: pg_sys::Relation,
    callback: PhantomData<&'t ()>,
}

/// One column of a table, as its catalog row has it.
pub struct Attribute {
    /// Number from 1.
    pub number: u16,
    /// Name, in the encoding of the database.
    pub name: Vec<u8>,
    /// Type.
    pub type_oid: TypeOid,
    /// Type modifier, -1 for none.
    pub type_modifier: i32,
    /// Dropped: a hole in the row.
    pub dropped: bool,
    /// GENERATED ALWAYS AS: computed by each node for itself.
    pub generated: bool,
}

impl<'t> TableRef<'t> {
    /// Oid of the table.
    pub fn id(self) -> RelId {
        // SAFETY: the relation is open.
        RelId(unsafe { (*self.raw).rd_id }.to_u32())
    }

    pub(super) fn owner(self) -> pg_sys::Oid {
        // SAFETY: the relation is open.
        unsafe { (*(*self.raw).rd_rel).relowner }
    }

    /// Table name, in the encoding of the database.
    pub fn name(self) -> Vec<u8> {
        // SAFETY: the relation is open; a name is NUL-terminated.
        unsafe { CStr::from_ptr((*(*self.raw).rd_rel).relname.data.as_ptr()) }.to_bytes().to_vec()
    }

    /// Schema name, in the encoding of the database.
    pub fn schema(self) -> Vec<u8> {
        // SAFETY: a catalog lookup; the result is null or a fresh C string.
        unsafe {
            let raw = pg_sys::get_namespace_name((*(*self.raw).rd_rel).relnamespace);
            if raw.is_null() {
                return Vec::new();
            }
            let name = CStr::from_ptr(raw).to_bytes().to_vec();
            pg_sys::pfree(raw.cast());
            name
        }
    }

    /// All columns in order, dropped and generated ones too.
    pub fn attributes(self) -> Vec<Attribute> {
        (0..self.width())
            .map(|at| {
                // SAFETY: `at` is below the number of attributes of an open relation.
                let raw = unsafe { &*compat::attribute(self.descriptor(), at) };
                Attribute {
                    number: raw.attnum as u16,
                    // SAFETY: a name is NUL-terminated.
                    name: unsafe { CStr::from_ptr(raw.attname.data.as_ptr()) }.to_bytes().to_vec(),
                    type_oid: TypeOid(raw.atttypid.to_u32()),
                    type_modifier: raw.atttypmod,
                    dropped: raw.attisdropped,
                    generated: raw.attgenerated != 0,
                }
            })
            .collect()
    }

    /// Numbers of the columns of the replica identity index, empty without one.
    pub fn identity_columns(self) -> Vec<u16> {
        // SAFETY: the relation is open and a historic snapshot is set; the result is null or ours.
        let identity = unsafe { pg_sys::RelationGetIdentityKeyBitmap(self.raw) };
        let columns = (1..=self.width())
            .filter(|&number| {
                let member = number as c_int - pg_sys::FirstLowInvalidHeapAttributeNumber as c_int;
                // SAFETY: a set or null, which is the empty set.
                unsafe { pg_sys::bms_is_member(member, identity) }
            })
            .map(|number| number as u16)
            .collect();
        // SAFETY: as above; not used afterwards.
        unsafe { pg_sys::bms_free(identity) };
        columns
    }

    /// Whether WAL has all of an old row (REPLICA IDENTITY FULL), not only its identity.
    pub fn old_rows_are_whole(self) -> bool {
        // SAFETY: the relation is open.
        unsafe { (*(*self.raw).rd_rel).relreplident as u8 == pg_sys::REPLICA_IDENTITY_FULL }
    }

    /// Whether the column at this position, from 0, has a type of variable length that can be stored out of line.
    pub(super) fn is_varlena(self, at: usize) -> bool {
        // SAFETY: callers stay below the number of attributes of the open relation.
        unsafe { (*compat::attribute(self.descriptor(), at)).attlen == -1 }
    }

    /// Number of columns, with the dropped ones.
    pub(super) fn width(self) -> usize {
        // SAFETY: the relation is open.
        unsafe { (*self.descriptor()).natts as usize }
    }

    pub(super) fn descriptor(self) -> pg_sys::TupleDesc {
        // SAFETY: the relation is open.
        unsafe { (*self.raw).rd_att }
    }

    pub(super) fn raw(self) -> pg_sys::Relation {
        self.raw
    }
}

/// A row version.
#[derive(Clone, Copy)]
pub struct TupleRef<'t> {
    raw: pg_sys::HeapTuple,
    callback: PhantomData<&'t ()>,
}

impl TupleRef<'_> {
    fn view(raw: pg_sys::HeapTuple) -> Option<Self> {
        (!raw.is_null()).then_some(Self { raw, callback: PhantomData })
    }

    /// A view of a row that somebody else keeps for as long as the view lives.
    pub(super) fn borrowed(raw: pg_sys::HeapTuple) -> Self {
        Self { raw, callback: PhantomData }
    }

    pub(super) fn raw(self) -> pg_sys::HeapTuple {
        self.raw
    }
}

/// A row change.
#[derive(Clone, Copy)]
pub struct RowChange<'t> {
    /// What happened.
    pub kind: RowKind,
    /// In which table.
    pub table: TableRef<'t>,
    /// The part (subtransaction) of the transaction that wrote it; `None`: it is not of a part.
    pub part: Option<Xid>,
    /// The old identity, if WAL has it: all columns under REPLICA IDENTITY FULL, else those of the identity (and those
    /// with `log_old_value`), the others NULL.
    pub old: Option<TupleRef<'t>>,
    /// The row as it is afterwards.
    pub new: Option<TupleRef<'t>>,
}

/// A TRUNCATE.
pub struct Truncation<'t> {
    /// The tables, in the order of the command.
    pub tables: Vec<TableRef<'t>>,
    /// CASCADE was given.
    pub cascade: bool,
    /// RESTART IDENTITY was given.
    pub restart_identity: bool,
}

/// A logical message.
#[derive(Clone, Copy)]
pub struct LogicalMessage<'t> {
    /// End of its record.
    pub lsn: Option<Lsn>,
    /// Who wrote it.
    pub prefix: &'t CStr,
    /// Its bytes.
    pub payload: &'t [u8],
}

/// The way out to the client.
pub struct Stream<'s> {
    raw: *mut pg_sys::LogicalDecodingContext,
    callback: PhantomData<&'s mut ()>,
}

/// Declared again without a guard: [`Stream::send`] calls them one after another inside one boundary.
mod unguarded {
    use super::pg_sys;
    use core::ffi::{c_int, c_void};
    unsafe extern "C-unwind" {
        pub fn OutputPluginPrepareWrite(ctx: *mut pg_sys::LogicalDecodingContext, last_write: bool);
        pub fn OutputPluginWrite(ctx: *mut pg_sys::LogicalDecodingContext, last_write: bool);
        pub fn appendBinaryStringInfo(out: pg_sys::StringInfo, data: *const c_void, length: c_int);
        pub fn RecoveryInProgress() -> bool;
        pub fn GetXLogWriteRecPtr() -> pg_sys::XLogRecPtr;
        pub fn GetXLogReplayRecPtr(timeline: *mut pg_sys::TimeLineID) -> pg_sys::XLogRecPtr;
    }
}

/// How far WAL is written here; on a standby, how far it is replayed.
///
/// # Safety
/// Inside a boundary.
unsafe fn position_unguarded() -> u64 {
    // SAFETY: reads shared memory; cannot raise in a running backend.
    unsafe {
        if unguarded::RecoveryInProgress() {
            unguarded::GetXLogReplayRecPtr(core::ptr::null_mut())
        } else {
            unguarded::GetXLogWriteRecPtr()
        }
    }
}

impl Stream<'_> {
    /// Sends one message. `last` is false for messages that must not be confirmed alone: the client sees position 0.
    /// `stamp`: the first eight bytes are replaced by this node's WAL write position.
    pub fn send(&mut self, message: &mut [u8], stamp: bool, last: bool) -> Result<(), Report> {
        let length = c_int::try_from(message.len()).map_err(|_| {
            Report::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "replicated row is larger than 1 GB")
        })?;
        let raw = self.raw;
        // SAFETY: inside a decoding callback that may write. The closure owns nothing; an ERROR unwinds from the boundary.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                if stamp {
                    message[..8].copy_from_slice(&position_unguarded().to_be_bytes());
                }
                unguarded::OutputPluginPrepareWrite(raw, last);
                unguarded::appendBinaryStringInfo((*raw).out, message.as_ptr().cast(), length);
                unguarded::OutputPluginWrite(raw, last);
            });
        }
        Ok(())
    }

    /// How far WAL is written here.
    pub fn write_position(&self) -> Option<Lsn> {
        // SAFETY: reads shared memory; nothing in the closure has a destructor.
        Lsn::new(unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| position_unguarded()) })
    }

    /// The first byte after the record that is being decoded: of a transaction, its commit record.
    pub fn record_end(&self) -> Option<Lsn> {
        // SAFETY: the context and its reader are live during the callback.
        Lsn::new(unsafe { (*(*self.raw).reader).EndRecPtr })
    }

    /// Runs `send` with frames that carry `lsn` instead of the position of the current callback.
    pub fn at<R>(&mut self, lsn: Option<Lsn>, send: impl FnOnce(&mut Self) -> R) -> R {
        // SAFETY: the context is live during the callback. After an ERROR nobody reads the field again.
        let before = unsafe { core::mem::replace(&mut (*self.raw).write_location, Lsn::raw(lsn)) };
        let result = send(self);
        // SAFETY: as above.
        unsafe { (*self.raw).write_location = before };
        result
    }

    /// Tells the sender how far decoding is, so that it answers the client and can confirm what was left out. `skipped`:
    /// a whole transaction was left out.
    pub fn progress(&mut self, skipped: bool) {
        // SAFETY: inside a decoding callback.
        unsafe { pg_sys::OutputPluginUpdateProgress(self.raw, skipped) }
    }
}

/// Servers whose decoder does not report progress by itself within a transaction: the publisher calls
/// [`Stream::progress`] every hundred changes.
pub const PUBLISHER_REPORTS_PROGRESS: bool = compat::PUBLISHER_REPORTS_PROGRESS;

/// Entry point that the server looks up by name.
///
/// # Safety
/// Called by the server with a valid struct.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn _PG_output_plugin_init(callbacks: *mut pg_sys::OutputPluginCallbacks) {
    // SAFETY: the server passes its struct to fill.
    let callbacks = unsafe { &mut *callbacks };
    callbacks.startup_cb = Some(startup);
    callbacks.begin_cb = Some(begin);
    callbacks.change_cb = Some(change);
    callbacks.truncate_cb = Some(truncate);
    callbacks.commit_cb = Some(commit);
    callbacks.message_cb = Some(message);
    callbacks.filter_by_origin_cb = Some(filter_by_origin);
    // No shutdown callback: the publisher goes with the decoding context, also on the ways out that skip shutdown.
}

#[pg_guard]
unsafe extern "C-unwind" fn startup(
    ctx: *mut pg_sys::LogicalDecodingContext,
    plugin_options: *mut pg_sys::OutputPluginOptions,
    is_init: bool,
) {
    // SAFETY: the server passes live structs.
    unsafe {
        (*plugin_options).output_type = pg_sys::OutputPluginOutputType::OUTPUT_PLUGIN_BINARY_OUTPUT;
        (*plugin_options).receive_rewrites = false;
        // Neither streaming of open transactions nor two-phase: the callbacks for them are not set.
    }
    if is_init {
        // A slot is being made: nobody reads, nothing can be negotiated yet.
        return;
    }
    // SAFETY: the decoding context outlives the publisher, which is stored in it.
    let context = unsafe { OwnedContext::from_raw((*ctx).context) };
    // SAFETY: the server passes its list of options.
    let options = unsafe { client_options((*ctx).output_plugin_options) };
    let mut session = Session { context, callback: PhantomData };
    let publisher = Publisher::start(&mut session, &options).or_raise();
    // SAFETY: the context owns the value from now on and drops it when it is deleted.
    unsafe {
        let home = pgrx::PgMemoryContexts::For((*ctx).context).leak_and_drop_on_delete(publisher);
        (*ctx).output_plugin_private = home.cast();
    }
}

/// The options of START_REPLICATION or of the SQL functions.
///
/// # Safety
/// `list` is null or a list of DefElem whose argument is null or a String.
unsafe fn client_options(list: *mut pg_sys::List) -> Vec<(String, Option<String>)> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: by contract.
    unsafe {
        (0..(*list).length as usize)
            .map(|at| {
                let element = (*(*list).elements.add(at)).ptr_value.cast::<pg_sys::DefElem>();
                let name = CStr::from_ptr((*element).defname).to_string_lossy().into_owned();
                let value = (*element).arg.cast::<pg_sys::String>();
                let value = (!value.is_null()).then(|| CStr::from_ptr((*value).sval).to_string_lossy().into_owned());
                (name, value)
            })
            .collect()
    }
}

/// The publisher of a session.
///
/// # Safety
/// `ctx` is the context of a callback; no other reference to its publisher is alive.
unsafe fn publisher<'c>(ctx: *mut pg_sys::LogicalDecodingContext) -> Option<&'c mut Publisher> {
    // SAFETY: `startup` stored it; null while a slot is being made.
    unsafe { (*ctx).output_plugin_private.cast::<Publisher>().as_mut() }
}

/// The view of the way out.
fn stream<'c>(ctx: *mut pg_sys::LogicalDecodingContext) -> Stream<'c> {
    Stream { raw: ctx, callback: PhantomData }
}

fn table<'c>(raw: pg_sys::Relation) -> TableRef<'c> {
    TableRef { raw, callback: PhantomData }
}

#[pg_guard]
unsafe extern "C-unwind" fn begin(ctx: *mut pg_sys::LogicalDecodingContext, txn: *mut pg_sys::ReorderBufferTXN) {
    // SAFETY: the server passes live structs; callbacks do not nest.
    let (publisher, txn) = unsafe { (publisher(ctx), Txn(&*txn)) };
    if let Some(publisher) = publisher {
        publisher.begin(&mut stream(ctx), txn).or_raise();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn change(
    ctx: *mut pg_sys::LogicalDecodingContext,
    txn: *mut pg_sys::ReorderBufferTXN,
    relation: pg_sys::Relation,
    change: *mut pg_sys::ReorderBufferChange,
) {
    // SAFETY: the server passes live structs; callbacks do not nest.
    let (publisher, txn, change) = unsafe { (publisher(ctx), Txn(&*txn), &*change) };
    let Some(publisher) = publisher else { return };
    let kind = match change.action {
        pg_sys::ReorderBufferChangeType::REORDER_BUFFER_CHANGE_INSERT => RowKind::Insert,
        pg_sys::ReorderBufferChangeType::REORDER_BUFFER_CHANGE_UPDATE => RowKind::Update,
        pg_sys::ReorderBufferChangeType::REORDER_BUFFER_CHANGE_DELETE => RowKind::Delete,
        // The server calls this callback for row changes only.
        _ => return,
    };
    // SAFETY: for these three actions the union holds the tuples.
    let (old, new) = unsafe {
        let tuples = &change.data.tp;
        (compat::tuple(tuples.oldtuple), compat::tuple(tuples.newtuple))
    };
    // SAFETY: null, or the live entry of the (sub)transaction.
    let part = unsafe { change.txn.as_ref() }.map(|part| Xid(part.xid.into_inner())).filter(|part| *part != txn.xid());
    let row = RowChange { kind, table: table(relation), part, old: TupleRef::view(old), new: TupleRef::view(new) };
    publisher.row(&mut stream(ctx), txn, row).or_raise();
}

#[pg_guard]
unsafe extern "C-unwind" fn truncate(
    ctx: *mut pg_sys::LogicalDecodingContext,
    txn: *mut pg_sys::ReorderBufferTXN,
    count: c_int,
    relations: *mut pg_sys::Relation,
    change: *mut pg_sys::ReorderBufferChange,
) {
    // SAFETY: the server passes live structs; callbacks do not nest. For this callback the union holds a truncation.
    let (publisher, txn, details) = unsafe { (publisher(ctx), Txn(&*txn), &(*change).data.truncate) };
    let Some(publisher) = publisher else { return };
    let truncation = Truncation {
        // SAFETY: `relations` has `count` open relations.
        tables: (0..count as usize).map(|at| table(unsafe { *relations.add(at) })).collect(),
        cascade: details.cascade,
        restart_identity: details.restart_seqs,
    };
    publisher.truncate(&mut stream(ctx), txn, truncation).or_raise();
}

#[pg_guard]
unsafe extern "C-unwind" fn commit(
    ctx: *mut pg_sys::LogicalDecodingContext,
    txn: *mut pg_sys::ReorderBufferTXN,
    _commit_lsn: pg_sys::XLogRecPtr,
) {
    // SAFETY: the server passes live structs; callbacks do not nest.
    let (publisher, txn) = unsafe { (publisher(ctx), Txn(&*txn)) };
    if let Some(publisher) = publisher {
        publisher.commit(&mut stream(ctx), txn).or_raise();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn message(
    ctx: *mut pg_sys::LogicalDecodingContext,
    txn: *mut pg_sys::ReorderBufferTXN,
    lsn: pg_sys::XLogRecPtr,
    transactional: bool,
    prefix: *const c_char,
    size: pg_sys::Size,
    payload: *const c_char,
) {
    // SAFETY: the server passes live structs; `prefix` ends with NUL, `payload` has `size` bytes.
    let (publisher, txn, message) = unsafe {
        let payload = core::slice::from_raw_parts(payload.cast(), size);
        let message = LogicalMessage { lsn: Lsn::new(lsn), prefix: CStr::from_ptr(prefix), payload };
        (publisher(ctx), txn.as_ref().filter(|_| transactional).map(Txn), message)
    };
    let Some(publisher) = publisher else { return };
    let mut stream = stream(ctx);
    match own_message::open(message.prefix, message.payload) {
        Some(own) => publisher.own_message(&mut stream, txn, own, message.lsn),
        None => publisher.message(&mut stream, txn, message),
    }
    .or_raise();
}

#[pg_guard]
unsafe extern "C-unwind" fn filter_by_origin(
    ctx: *mut pg_sys::LogicalDecodingContext,
    origin: pg_sys::RepOriginId,
) -> bool {
    // SAFETY: the server passes a live struct; callbacks do not nest.
    unsafe { publisher(ctx) }.is_some_and(|publisher| publisher.drops_origin(OriginId(origin)))
}
