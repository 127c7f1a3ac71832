//! The one buffer in which every message of a session is built, and in protocol 6 many of them. Layouts: `spock_core::wire`.
//!
//! # Invariants
//! 0. A batch leaves when it is [`BATCH_BYTES`] long, with the COMMIT of its transaction, and before anything is waited for.
//! 1. The buffer is cleared, not freed, between messages: no allocation per message once it has grown.
//! 2. In protocol 5 a message, and in protocol 6 a batch, starts with eight bytes that [`Stream::send`] fills with the WAL write position. The
//!    startup message alone never has them.
//! 3. BEGIN, RELATION and the startup message are not the last of their callback: alone they confirm nothing.

use super::tables::{PublishedColumn, Table};
use crate::error::Report;
use crate::pg::decoding::{self, Stream, TableRef, TupleRef, Txn};
use crate::pg::toast::Filled;
use crate::pg::types::{Image, RowBuffer};
use spock_core::types::{Lsn, OriginId, RelId};
use spock_core::wire::announcement::Announcement;
use spock_core::wire::control::{LogicalMessage, Startup};
use spock_core::wire::row::{
    Column, Part, Relation, RowFlags, RowKind, Truncate, begin_row, begin_row_with, write_tuple,
};
use spock_core::wire::txn::{Begin, Commit, CommitOrder, Origin};
use spock_core::wire::{ProtocolVersion, batch, begin_message};

/// A buffer that had to grow beyond this is given back after the message that needed it.
const KEEP_BYTES_MAX: usize = 1 << 20;
/// Room for an ordinary row from the start.
const FIRST_BYTES: usize = 8192;

/// A batch of this length is sent: large enough that the cost of sending does not matter, small against caches and pipes.
const BATCH_BYTES: usize = 1 << 16;

/// Builds one message at a time.
pub struct Frame {
    bytes: Vec<u8>,
    version: ProtocolVersion,
    /// In a batch: where the entry of the current message begins.
    entry: usize,
}

impl Frame {
    /// For a session with this layout.
    pub fn new(version: ProtocolVersion) -> Self {
        Self { bytes: Vec::with_capacity(FIRST_BYTES), version, entry: 0 }
    }

    /// Room for the next message: an empty buffer, or a new entry of the batch.
    #[inline]
    fn room(&mut self) -> &mut Vec<u8> {
        if self.version != ProtocolVersion::V6 {
            return self.clear();
        }
        if self.bytes.is_empty() {
            batch::begin(&mut self.bytes);
        }
        self.entry = batch::begin_entry(&mut self.bytes);
        &mut self.bytes
    }

    /// Sends what the batch holds, if anything. `last` as for [`Stream::send`].
    pub fn flush(&mut self, stream: &mut Stream<'_>, last: bool) -> Result<(), Report> {
        if self.version == ProtocolVersion::V6 && !self.bytes.is_empty() {
            stream.send(&mut self.bytes, true, last)?;
            self.clear();
        }
        Ok(())
    }

    fn clear(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() > KEEP_BYTES_MAX {
            self.bytes = Vec::with_capacity(FIRST_BYTES);
        }
        self.bytes.clear();
        &mut self.bytes
    }

    /// An empty message, with room for the position.
    fn begin(&mut self) -> &mut Vec<u8> {
        let version = self.version;
        let bytes = self.room();
        begin_message(bytes, version, None);
        bytes
    }

    #[inline]
    fn send(&mut self, stream: &mut Stream<'_>, last: bool) -> Result<(), Report> {
        if self.version == ProtocolVersion::V6 {
            batch::end_entry(&mut self.bytes, self.entry);
            // A position inside a transaction confirms nothing.
            return if self.bytes.len() < BATCH_BYTES { Ok(()) } else { self.flush(stream, false) };
        }
        stream.send(&mut self.bytes, self.version == ProtocolVersion::V5, last)
    }

    /// The startup message.
    pub fn startup(&mut self, stream: &mut Stream<'_>, pairs: &[(&'static str, String)]) -> Result<(), Report> {
        Startup::write_of(self.clear(), pairs.iter().map(|(key, value)| (*key, value.as_str())));
        stream.send(&mut self.bytes, false, false)?;
        self.clear();
        Ok(())
    }

    /// BEGIN.
    pub fn begin_txn(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>) -> Result<(), Report> {
        let begin = Begin { commit_lsn: txn.commit_lsn(), committed_at: txn.committed_at(), xid: txn.xid() };
        begin.write(self.begin());
        self.send(stream, false)
    }

    /// ORIGIN; protocol 4 has no name in it.
    pub fn origin(
        &mut self,
        stream: &mut Stream<'_>,
        id: OriginId,
        lsn: Option<Lsn>,
        name: Option<&str>,
    ) -> Result<(), Report> {
        let name = name.filter(|_| self.version != ProtocolVersion::V4).map(str::as_bytes);
        Origin { lsn, id, name }.write(self.begin());
        self.send(stream, true)
    }

    /// COMMIT ORDER. A slot of ours is in no group, so there is never a transaction to wait for.
    pub fn commit_order(&mut self, stream: &mut Stream<'_>) -> Result<(), Report> {
        if self.version == ProtocolVersion::V6 {
            return Ok(());
        }
        CommitOrder { previous: None }.write(self.begin());
        self.send(stream, true)
    }

    /// COMMIT.
    pub fn commit(&mut self, stream: &mut Stream<'_>, txn: Txn<'_>) -> Result<(), Report> {
        let insert_lsn = (self.version == ProtocolVersion::V4).then(|| stream.write_position()).flatten();
        let commit = Commit {
            commit_lsn: txn.commit_lsn(),
            end_lsn: txn.end_lsn(),
            committed_at: txn.committed_at(),
            insert_lsn,
        };
        let version = self.version;
        commit.write(version, self.begin());
        self.send(stream, true)?;
        self.flush(stream, true)
    }

    /// RELATION.
    pub fn relation(&mut self, stream: &mut Stream<'_>, table: TableRef<'_>, entry: &Table) -> Result<(), Report> {
        let columns: Vec<Column<'_>> = entry
            .columns
            .iter()
            .map(|column| Column {
                is_key: column.key,
                name: &column.name,
                type_oid: column.type_oid,
                type_mod: column.type_modifier,
            })
            .collect();
        Relation::write_of(self.begin(), entry.id, &table.schema(), &table.name(), &columns);
        self.send(stream, false)
    }

    /// Starts a row change; [`Frame::tuple`] adds its parts, [`Frame::row_end`] sends it. `own` only where the client has asked
    /// for it.
    pub fn row(&mut self, kind: RowKind, relation: RelId, own: RowFlags) {
        match self.version {
            ProtocolVersion::V6 => begin_row_with(self.room(), kind, relation, own),
            version => begin_row(self.room(), version, None, kind, relation),
        }
    }

    /// Adds one tuple of a row change. `filled` are values that it only points to.
    pub fn tuple(
        &mut self,
        part: Part,
        columns: &mut [PublishedColumn],
        table: TableRef<'_>,
        (tuple, filled): (TupleRef<'_>, Filled<'_>),
        row: &mut RowBuffer,
    ) {
        // A table has at most 1600 columns.
        let mut out = write_tuple(&mut self.bytes, part, columns.len() as u16);
        let mut loaded = row.load(tuple, table);
        loaded.fill(filled);
        for column in columns {
            match loaded.image(&mut column.codec) {
                Image::Null => out.null(),
                Image::Unchanged => out.unchanged(),
                Image::Value(bytes, length) => out.internal(&bytes[..usize::from(length)]),
                Image::Internal(bytes) => out.internal(bytes),
                Image::Binary(bytes) => out.binary(bytes),
                Image::Text(bytes) => out.text(bytes),
            }
        }
    }

    /// Sends the row change.
    pub fn row_end(&mut self, stream: &mut Stream<'_>) -> Result<(), Report> {
        self.send(stream, true)
    }

    /// TRUNCATE.
    pub fn truncate(
        &mut self,
        stream: &mut Stream<'_>,
        relations: &[RelId],
        cascade: bool,
        restart_identity: bool,
    ) -> Result<(), Report> {
        Truncate::write_of(self.begin(), relations, cascade, restart_identity);
        self.send(stream, true)
    }

    /// An announcement, which is part of no transaction.
    pub fn announcement(&mut self, stream: &mut Stream<'_>, announcement: &Announcement<'_>) -> Result<(), Report> {
        announcement.write(self.begin());
        self.send(stream, true)?;
        self.flush(stream, true)
    }

    /// A logical message, relayed byte for byte.
    pub fn message(
        &mut self,
        stream: &mut Stream<'_>,
        txn: Option<Txn<'_>>,
        message: decoding::LogicalMessage<'_>,
    ) -> Result<(), Report> {
        let relayed = LogicalMessage {
            xid: txn.map(Txn::xid),
            lsn: message.lsn,
            transactional: txn.is_some(),
            prefix: message.prefix.to_bytes(),
            payload: message.payload,
        };
        relayed.write(self.begin());
        self.send(stream, true)?;
        if relayed.transactional { Ok(()) } else { self.flush(stream, true) }
    }
}
