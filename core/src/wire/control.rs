//! What is not a row: the startup message and logical messages. Source: the protocol, sections 2 and 3.8.

use super::WireError;
use super::io::In;
use crate::types::{Lsn, NodeId, Xid};

/// Prefix of every logical message of ours in the WAL.
pub const MESSAGE_PREFIX: &[u8] = b"Spock";

/// What the provider granted: keys and values. First of a session, before any transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Startup<'a> {
    bytes: &'a [u8],
}

impl<'a> Startup<'a> {
    /// The type byte.
    pub const TAG: u8 = b'S';
    const FORMAT: u8 = 1;

    /// The pairs in their order. Keys are never empty.
    pub fn pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut input = In::new(self.bytes);
        core::iter::from_fn(move || {
            if input.is_empty() {
                return None;
            }
            Some((input.cstr("startup key").ok()?, input.cstr("startup value").ok()?))
        })
    }

    /// The value of `key`, the last one if it stands there twice.
    pub fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.pairs().filter(|(name, _)| *name == key.as_bytes()).map(|(_, value)| value).last()
    }

    /// Appends the type byte and a body made from values.
    pub fn write_of<'v>(out: &mut Vec<u8>, pairs: impl IntoIterator<Item = (&'v str, &'v str)>) {
        out.extend_from_slice(&[Self::TAG, Self::FORMAT]);
        for (key, value) in pairs {
            for text in [key, value] {
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
        }
    }

    /// Appends type byte and body.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[Self::TAG, Self::FORMAT]);
        out.extend_from_slice(self.bytes);
    }

    pub(super) fn read(input: &mut In<'a>) -> Result<Self, WireError> {
        input.expect(Self::FORMAT, "startup format")?;
        let bytes = input.rest();
        while !input.is_empty() {
            if input.cstr("startup key")?.is_empty() {
                return Err(WireError::BadLength { field: "startup key" });
            }
            input.cstr("startup value")?;
        }
        Ok(Self { bytes })
    }
}

/// A logical message of ours, relayed as it stands in the provider's WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogicalMessage<'a> {
    /// The transaction that it belongs to; `None` (zero on the wire) outside transactions.
    pub xid: Option<Xid>,
    /// End of its WAL record.
    pub lsn: Option<Lsn>,
    /// It took part in a transaction.
    pub transactional: bool,
    /// Who wrote it; [`MESSAGE_PREFIX`] for ours.
    pub prefix: &'a [u8],
    /// The payload; see [`Payload`].
    pub payload: &'a [u8],
}

impl<'a> LogicalMessage<'a> {
    /// The type byte.
    pub const TAG: u8 = b'M';

    /// Appends type byte and body.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(Self::TAG);
        out.extend_from_slice(&self.xid.map_or(0, |xid| xid.0).to_be_bytes());
        out.extend_from_slice(&Lsn::raw(self.lsn).to_be_bytes());
        out.push(u8::from(self.transactional));
        out.extend_from_slice(self.prefix);
        out.push(0);
        out.extend_from_slice(&(self.payload.len() as u32).to_be_bytes());
        out.extend_from_slice(self.payload);
    }

    pub(super) fn read(input: &mut In<'a>) -> Result<Self, WireError> {
        let xid = input.u32("message transaction id")?;
        let lsn = input.lsn("message position")?;
        let transactional = match input.u8("message kind")? {
            0 => false,
            1 => true,
            got => return Err(WireError::Unexpected { field: "message kind", got }),
        };
        let prefix = input.cstr("message prefix")?;
        let len = input.len32("message length")?;
        Ok(Self {
            xid: (xid != 0).then_some(Xid(xid)),
            lsn,
            transactional,
            prefix,
            payload: input.take(len, "message payload")?,
        })
    }
}

/// What a logical message of ours says. The payload's integers are in the host order of the writing server, because C
/// peers read them so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Rows that follow in this transaction are not replicated: so the C edition writes it, and so could anybody, which is why it is
    /// not obeyed. Ours is [`super::own_message::OwnMessage::Repairing`].
    RepairModeOn,
    /// They are again.
    RepairModeOff,
    /// A mark to wait for.
    SyncEvent {
        /// The node that wrote it.
        origin: Option<NodeId>,
    },
}

/// Why a payload is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadError {
    /// Shorter than its kind says.
    Size {
        /// Bytes that there are.
        got: usize,
    },
    /// No kind that we know. Also what a peer of the other byte order sends.
    Kind {
        /// The number that stands there.
        got: u32,
    },
}

impl Payload {
    const REPAIR_ON: u32 = 1;
    const REPAIR_OFF: u32 = 2;
    const SYNC_EVENT: u32 = 3;
    const NAME_LEN: usize = 64;
    const SYNC_EVENT_LEN: usize = 8 + Self::NAME_LEN;

    /// Reads a payload.
    ///
    /// # Errors
    /// [`PayloadError`] for a wrong size or kind.
    pub fn read(bytes: &[u8]) -> Result<Self, PayloadError> {
        let size = PayloadError::Size { got: bytes.len() };
        let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
        match word(0).ok_or(size)? {
            Self::REPAIR_ON if bytes.len() == 4 => Ok(Self::RepairModeOn),
            Self::REPAIR_OFF if bytes.len() == 4 => Ok(Self::RepairModeOff),
            Self::SYNC_EVENT => Ok(Self::SyncEvent { origin: NodeId::new(word(4).ok_or(size)?) }),
            Self::REPAIR_ON | Self::REPAIR_OFF => Err(size),
            got => Err(PayloadError::Kind { got }),
        }
    }

    /// The bytes for the WAL.
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::RepairModeOn => Self::REPAIR_ON.to_ne_bytes().to_vec(),
            Self::RepairModeOff => Self::REPAIR_OFF.to_ne_bytes().to_vec(),
            Self::SyncEvent { origin } => {
                let mut bytes = Vec::with_capacity(Self::SYNC_EVENT_LEN);
                bytes.extend_from_slice(&Self::SYNC_EVENT.to_ne_bytes());
                bytes.extend_from_slice(&origin.map_or(0, NodeId::get).to_ne_bytes());
                bytes.resize(Self::SYNC_EVENT_LEN, 0);
                bytes
            }
        }
    }
}
