//! What opens, places and closes a transaction: BEGIN, ORIGIN, COMMIT ORDER, COMMIT. Source: the protocol, section 3.4.

use super::io::In;
use super::{ProtocolVersion, WireError};
use crate::types::{Lsn, OriginId, PgTime, Xid};

/// Opens a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Start of the commit record. What `sub_alter_skiplsn` is compared with.
    pub commit_lsn: Option<Lsn>,
    /// When it committed on the provider.
    pub committed_at: PgTime,
    /// The provider's transaction id.
    pub xid: Xid,
}

impl Begin {
    /// The type byte.
    pub const TAG: u8 = b'B';

    /// Appends type byte and body.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[Self::TAG, 0]);
        out.extend_from_slice(&Lsn::raw(self.commit_lsn).to_be_bytes());
        out.extend_from_slice(&self.committed_at.micros().to_be_bytes());
        out.extend_from_slice(&self.xid.0.to_be_bytes());
    }

    pub(super) fn read(input: &mut In<'_>) -> Result<Self, WireError> {
        input.expect(0, "begin flags")?;
        Ok(Self {
            commit_lsn: input.lsn("commit position")?,
            committed_at: input.time("commit time")?,
            xid: Xid(input.u32("transaction id")?),
        })
    }
}

/// Where the transaction was made. Always follows BEGIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// `None` for a transaction made on the provider; else the position in its commit record there.
    pub lsn: Option<Lsn>,
    /// The 16-bit id of the node where it was made.
    pub id: OriginId,
    /// Name of that node; only in protocol 5, and only if the provider knows it.
    pub name: Option<&'a [u8]>,
}

impl<'a> Origin<'a> {
    /// The type byte.
    pub const TAG: u8 = b'O';
    const HAS_NAME: u8 = 1;

    /// Appends type byte and body.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[Self::TAG, if self.name.is_some() { Self::HAS_NAME } else { 0 }]);
        out.extend_from_slice(&Lsn::raw(self.lsn).to_be_bytes());
        out.extend_from_slice(&self.id.0.to_be_bytes());
        if let Some(name) = self.name {
            out.extend_from_slice(name);
            out.push(0);
        }
    }

    pub(super) fn read(input: &mut In<'a>) -> Result<Self, WireError> {
        let flags = input.u8("origin flags")?;
        if flags & !Self::HAS_NAME != 0 {
            return Err(WireError::Unexpected { field: "origin flags", got: flags });
        }
        let lsn = input.lsn("origin position")?;
        let id = OriginId(input.u16("origin id")?);
        let name = if flags & Self::HAS_NAME != 0 { Some(input.cstr("origin name")?) } else { None };
        Ok(Self { lsn, id, name })
    }
}

/// Which transaction of the slot group must be committed before this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitOrder {
    /// Commit time of that transaction; `None` (zero on the wire): nothing to wait for.
    pub previous: Option<PgTime>,
}

impl CommitOrder {
    /// The type byte.
    pub const TAG: u8 = b'L';

    /// Appends type byte and body.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[Self::TAG, 0]);
        out.extend_from_slice(&self.previous.map_or(0, PgTime::micros).to_be_bytes());
    }

    pub(super) fn read(input: &mut In<'_>) -> Result<Self, WireError> {
        input.expect(0, "commit order flags")?;
        let time = input.time("previous commit time")?;
        Ok(Self { previous: (time.micros() != 0).then_some(time) })
    }
}

/// Closes the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// As in BEGIN.
    pub commit_lsn: Option<Lsn>,
    /// First byte after the commit record: what the subscriber remembers as progress.
    pub end_lsn: Option<Lsn>,
    /// As in BEGIN.
    pub committed_at: PgTime,
    /// The provider's WAL position when it sent this; only in protocol 4.
    pub insert_lsn: Option<Lsn>,
}

impl Commit {
    /// The type byte.
    pub const TAG: u8 = b'C';

    /// Appends type byte and body.
    pub fn write(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        out.extend_from_slice(&[Self::TAG, 0]);
        out.extend_from_slice(&Lsn::raw(self.commit_lsn).to_be_bytes());
        out.extend_from_slice(&Lsn::raw(self.end_lsn).to_be_bytes());
        out.extend_from_slice(&self.committed_at.micros().to_be_bytes());
        if version == ProtocolVersion::V4 {
            out.extend_from_slice(&Lsn::raw(self.insert_lsn).to_be_bytes());
        }
    }

    pub(super) fn read(input: &mut In<'_>, version: ProtocolVersion) -> Result<Self, WireError> {
        input.expect(0, "commit flags")?;
        Ok(Self {
            commit_lsn: input.lsn("commit position")?,
            end_lsn: input.lsn("end position")?,
            committed_at: input.time("commit time")?,
            insert_lsn: match version {
                ProtocolVersion::V4 => input.lsn("insert position")?,
                ProtocolVersion::V5 | ProtocolVersion::V6 => None,
            },
        })
    }
}
