//! Messages to bytes and back: the stream between a provider and a subscriber, protocol versions 4 to 6.
//! Between `output` (decoded WAL to messages) and `apply` (messages to rows), which meet only here.
//!
//! Order in this folder: [`io`] (cursors), [`frame`] (the replication sub-protocol around what is sent), [`batch`] (many
//! messages in one frame), [`txn`], [`row`], [`control`], [`announcement`] (messages by family, reader beside writer),
//! [`own_message`] (what is in the WAL for our own plugin only).
//!
//! # Invariants
//! 1. A reader never panics and never allocates for a row, whatever the bytes; values borrow from the frame.
//! 2. Unknown types, flags and markers are errors, as are bytes left over.
//! 3. Reading and writing again gives the same bytes.
//! 4. Text is bytes in the database's encoding: names and values of a LATIN1 database are not UTF-8.

pub mod announcement;
pub mod batch;
pub mod control;
pub mod frame;
pub mod io;
pub mod own_message;
pub mod row;
pub mod txn;

use crate::types::Lsn;
use core::fmt;
use io::In;

/// The layout in force on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProtocolVersion {
    /// Spock 5.0: COMMIT ends with the provider's WAL position.
    V4,
    /// Spock 6.0: every message but the startup message begins with the provider's WAL position; ORIGIN carries a name.
    V5,
    /// Between nodes of this edition: as 5, but all frames after the startup message are batches ([`batch`]), the position
    /// stands once in each batch, there is no COMMIT ORDER, an UPDATE can say that it is superseded ([`row::Update`]), and a row can have a version of its
    /// own ([`row::RowVersion`]).
    V6,
}

impl ProtocolVersion {
    /// All, from the lowest.
    pub const ALL: [Self; 3] = [Self::V4, Self::V5, Self::V6];
    /// The highest version that we speak.
    pub const MAX: Self = Self::V6;
    /// The highest version that nodes of the C edition speak.
    pub const MAX_OF_C: Self = Self::V5;
    /// The lowest version that we speak.
    pub const MIN: Self = Self::V4;

    /// The version with that number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.number() == number)
    }

    /// As it stands in options and in the startup message.
    pub const fn number(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V5 => 5,
            Self::V6 => 6,
        }
    }
}

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// The message ends inside this field.
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// A length that cannot be.
    BadLength {
        /// The field.
        field: &'static str,
    },
    /// A byte or number that this field does not know.
    Unexpected {
        /// The field.
        field: &'static str,
        /// What stands there.
        got: u8,
    },
    /// Bytes that are not text where text must be.
    NotText {
        /// The field.
        field: &'static str,
    },
    /// A known message with more bytes after it.
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// The first byte is no message type.
    UnknownMessage {
        /// The byte.
        tag: u8,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { field } => write!(f, "message ends inside field \"{field}\""),
            Self::BadLength { field } => write!(f, "impossible length of field \"{field}\""),
            Self::Unexpected { field, got } => write!(f, "unexpected value {got} in field \"{field}\""),
            Self::NotText { field } => write!(f, "field \"{field}\" is not text"),
            Self::TrailingBytes { count } => write!(f, "{count} bytes after the end of the message"),
            Self::UnknownMessage { tag } => write!(f, "unknown message type {tag}"),
        }
    }
}

impl std::error::Error for WireError {}

/// A message, borrowed from its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// What the provider granted; first of a session.
    Startup(control::Startup<'a>),
    /// Opens a transaction.
    Begin(txn::Begin),
    /// Where the transaction was made.
    Origin(txn::Origin<'a>),
    /// Which transaction of the slot group must be committed before.
    CommitOrder(txn::CommitOrder),
    /// Name and columns of a relation that rows refer to.
    Relation(row::Relation<'a>),
    /// A new row.
    Insert(row::Insert<'a>),
    /// A changed row.
    Update(row::Update<'a>),
    /// A row that is gone.
    Delete(row::Delete<'a>),
    /// Emptied relations.
    Truncate(row::Truncate<'a>),
    /// A logical message of ours.
    Logical(control::LogicalMessage<'a>),
    /// How far a node has applied each origin's changes. Only in protocol 6.
    Announcement(announcement::Announcement<'a>),
    /// Closes the transaction.
    Commit(txn::Commit),
}

/// A message with the position that protocol 5 puts before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The provider's WAL write position when it sent this. `None` in protocol 4, in a batch, which has it once, and for the
    /// startup message.
    pub insert_lsn: Option<Lsn>,
    /// The message.
    pub message: Message<'a>,
}

impl<'a> Envelope<'a> {
    /// Reads one whole message.
    ///
    /// # Errors
    /// [`WireError`] says which field was wrong.
    pub fn read(bytes: &'a [u8], version: ProtocolVersion) -> Result<Self, WireError> {
        let mut input = In::new(bytes);
        // The startup message has no position before it. Its type byte cannot be the first byte of one: that would be a
        // position beyond 5 exabytes.
        if bytes.first() == Some(&control::Startup::TAG) {
            input.u8("type")?;
            let startup = control::Startup::read(&mut input)?;
            return Ok(Self { insert_lsn: None, message: Message::Startup(startup) });
        }
        let insert_lsn = match version {
            ProtocolVersion::V4 | ProtocolVersion::V6 => None,
            ProtocolVersion::V5 => input.lsn("insert position")?,
        };
        let message = Message::read_body(&mut input, version)?;
        input.finish()?;
        Ok(Self { insert_lsn, message })
    }

    /// Appends the bytes of the message.
    pub fn write(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        if !matches!(self.message, Message::Startup(_)) {
            begin_message(out, version, self.insert_lsn);
        }
        match &self.message {
            Message::Startup(startup) => startup.write(out),
            Message::Begin(begin) => begin.write(out),
            Message::Origin(origin) => origin.write(out),
            Message::CommitOrder(order) => order.write(out),
            Message::Relation(relation) => relation.write(out),
            Message::Insert(insert) => insert.write(out),
            Message::Update(update) => update.write(out),
            Message::Delete(delete) => delete.write(out),
            Message::Truncate(truncate) => truncate.write(out),
            Message::Logical(message) => message.write(out),
            Message::Announcement(announcement) => announcement.write(out),
            Message::Commit(commit) => commit.write(version, out),
        }
    }
}

/// Appends what stands before the type byte: the provider's WAL write position in protocol 5, nothing in 4 and in a batch.
pub fn begin_message(out: &mut Vec<u8>, version: ProtocolVersion, insert_lsn: Option<Lsn>) {
    match version {
        ProtocolVersion::V4 | ProtocolVersion::V6 => {}
        ProtocolVersion::V5 => out.extend_from_slice(&Lsn::raw(insert_lsn).to_be_bytes()),
    }
}

impl<'a> Message<'a> {
    fn read_body(input: &mut In<'a>, version: ProtocolVersion) -> Result<Self, WireError> {
        let tag = input.u8("type")?;
        Ok(match tag {
            txn::Begin::TAG => Self::Begin(txn::Begin::read(input)?),
            txn::Origin::TAG => Self::Origin(txn::Origin::read(input)?),
            txn::CommitOrder::TAG => Self::CommitOrder(txn::CommitOrder::read(input)?),
            txn::Commit::TAG => Self::Commit(txn::Commit::read(input, version)?),
            row::Relation::TAG => Self::Relation(row::Relation::read(input)?),
            row::Insert::TAG => Self::Insert(row::Insert::read(input, version)?),
            row::Update::TAG => Self::Update(row::Update::read(input, version)?),
            row::Delete::TAG => Self::Delete(row::Delete::read(input, version)?),
            row::Truncate::TAG => Self::Truncate(row::Truncate::read(input)?),
            control::LogicalMessage::TAG => Self::Logical(control::LogicalMessage::read(input)?),
            announcement::Announcement::TAG if version == ProtocolVersion::V6 => {
                Self::Announcement(announcement::Announcement::read(input)?)
            }
            tag => return Err(WireError::UnknownMessage { tag }),
        })
    }
}
