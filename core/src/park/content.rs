//! The stored form of a transaction: its messages as protocol 6 has them, each behind its length, from BEGIN to COMMIT, with
//! the description of each relation before the first row of it. So it stands for itself, whatever the stream was like and
//! whatever becomes of the subscription.
//!
//! # Invariants
//! 1. The stored form is cut into parts anywhere; a reader puts messages together again.
//! 2. Nothing in it depends on the connection on which it came.

use crate::wire::{Envelope, Message, ProtocolVersion, WireError};

/// The layout of messages in storage.
pub const FORMAT: ProtocolVersion = ProtocolVersion::V6;

/// Size of a part, in bytes: what is written and read at a time.
pub const PART_BYTES: usize = 1 << 20;

/// A buffer that had to grow beyond this is given back.
const KEEP_BYTES_MAX: usize = 4 * PART_BYTES;

const LENGTH_BYTES: usize = 4;

/// Appends a message.
pub fn write(out: &mut Vec<u8>, message: &Message<'_>) {
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let message = match *message {
        // Where the provider's WAL was then is of no use.
        Message::Commit(commit) => Message::Commit(crate::wire::txn::Commit { insert_lsn: None, ..commit }),
        other => other,
    };
    Envelope { insert_lsn: None, message }.write(FORMAT, out);
    // Messages are below 1 GB, the server's limit for anything that is sent.
    let length = (out.len() - at - LENGTH_BYTES) as u32;
    if let Some(place) = out.get_mut(at..at + LENGTH_BYTES) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Puts messages together from parts.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    next: usize,
}

impl Reader {
    /// Adds what follows.
    pub fn load(&mut self, part: &[u8]) {
        self.bytes.drain(..self.next);
        self.next = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > KEEP_BYTES_MAX {
            self.bytes = Vec::new();
        }
        self.bytes.extend_from_slice(part);
    }

    /// The next message that is whole, for [`Envelope::read`] with [`FORMAT`]. `None`: another part is needed, or all were taken.
    pub fn next_message(&mut self) -> Option<&[u8]> {
        let rest = self.bytes.get(self.next..)?;
        let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let message = rest.get(..u32::from_be_bytes(*length) as usize)?;
        self.next += LENGTH_BYTES + message.len();
        Some(message)
    }

    /// Whether everything that was loaded is taken.
    pub fn is_at_end(&self) -> bool {
        self.next == self.bytes.len()
    }
}

/// Reads one stored message.
///
/// # Errors
/// [`WireError`] when it is none.
pub fn read(bytes: &[u8]) -> Result<Message<'_>, WireError> {
    Envelope::read(bytes, FORMAT).map(|envelope| envelope.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Lsn, PgTime, RelId, Xid};
    use crate::wire::row::Truncate;
    use crate::wire::txn::{Begin, Commit};
    use proptest::prelude::*;

    fn stored(tables: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        let time = PgTime::from_micros(5);
        write(&mut out, &Message::Begin(Begin { commit_lsn: Lsn::new(9), committed_at: time, xid: Xid(3) }));
        for table in tables {
            let mut bytes = Vec::new();
            Truncate::write_of(&mut bytes, &[RelId(*table)], false, true);
            write(&mut out, &read(&bytes).unwrap());
        }
        let commit =
            Commit { commit_lsn: Lsn::new(9), end_lsn: Lsn::new(10), committed_at: time, insert_lsn: Lsn::new(77) };
        write(&mut out, &Message::Commit(commit));
        out
    }

    proptest! {
        #[test]
        fn messages_come_back_however_they_are_cut(
            tables in proptest::collection::vec(any::<u32>(), 0..20),
            size in 1_usize..40,
        ) {
            let bytes = stored(&tables);
            let mut reader = Reader::default();
            let mut again = Vec::new();
            for part in bytes.chunks(size) {
                reader.load(part);
                while let Some(message) = reader.next_message() {
                    write(&mut again, &read(message).unwrap());
                }
            }
            prop_assert!(reader.is_at_end());
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn a_cut_off_transaction_is_noticed() {
        let bytes = stored(&[1]);
        let mut reader = Reader::default();
        reader.load(&bytes[..bytes.len() - 1]);
        while reader.next_message().is_some() {}
        assert!(!reader.is_at_end());
    }
}
