//! Many messages in one frame, protocol 6: one frame for each message is what bounds a busy stream, because each costs both
//! sides a system call.
//!
//! ```text
//! batch    provider's WAL write position (8 bytes), entry, entry, ...
//! entry    length of the message (4 bytes), message
//! ```
//! Numbers in network byte order. A batch may end anywhere between two messages, also inside a transaction; a transaction's
//! COMMIT ends its batch, so a subscriber never waits for a message that was made.

use super::WireError;
use super::io::In;
use crate::types::Lsn;

/// Bytes before the first entry.
pub const HEAD_BYTES: usize = 8;
/// Bytes before a message.
const LENGTH_BYTES: usize = 4;

/// A buffer that had to grow beyond this is given back.
const KEEP_BYTES_MAX: usize = 1 << 20;

/// Starts a batch in an empty buffer; the position is filled in when it is sent.
pub fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; HEAD_BYTES]);
}

/// Starts an entry. The message follows; [`end_entry`] takes what this returns.
pub fn begin_entry(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    at
}

/// Ends the entry that began at `at`.
pub fn end_entry(out: &mut [u8], at: usize) {
    let from = at + LENGTH_BYTES;
    // Messages are below 1 GB, the server's limit for anything that is sent.
    let length = out.len().saturating_sub(from) as u32;
    if let Some(place) = out.get_mut(at..from) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// A batch that came, with the place of the next message in it. Owns its bytes: messages of one batch are handled while the
/// connection is used for other things.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    next: usize,
}

impl Batch {
    /// Takes the content of a frame. Returns the provider's WAL write position.
    ///
    /// # Errors
    /// [`WireError`] for a frame without head.
    pub fn load(&mut self, bytes: &[u8]) -> Result<Option<Lsn>, WireError> {
        let position = In::new(bytes).lsn("batch position")?;
        if self.bytes.capacity() > KEEP_BYTES_MAX {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.next = HEAD_BYTES;
        Ok(position)
    }

    /// The next message, for [`super::Envelope::read`]. `None`: all were taken.
    ///
    /// # Errors
    /// [`WireError`] for a length that does not fit the batch.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, WireError> {
        if self.next >= self.bytes.len() {
            return Ok(None);
        }
        let rest = self.bytes.get(self.next..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(WireError::Truncated { field: "message length" });
        };
        let length = u32::from_be_bytes(*length) as usize;
        let message = rest.get(..length).ok_or(WireError::BadLength { field: "message length" })?;
        if message.is_empty() {
            return Err(WireError::BadLength { field: "message length" });
        }
        self.next += LENGTH_BYTES + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(messages: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        begin(&mut out);
        for message in messages {
            let at = begin_entry(&mut out);
            out.extend_from_slice(message);
            end_entry(&mut out, at);
        }
        out
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = batch(&[b"B1", b"I22", b"C"]);
        bytes[..8].copy_from_slice(&0x1234_u64.to_be_bytes());
        let mut read = Batch::default();
        assert_eq!(read.load(&bytes), Ok(Lsn::new(0x1234)));
        for want in [b"B1".as_slice(), b"I22", b"C"] {
            assert_eq!(read.next_message(), Ok(Some(want)));
        }
        assert_eq!(read.next_message(), Ok(None));
        // A new frame begins anew.
        assert_eq!(read.load(&batch(&[])), Ok(None));
        assert_eq!(read.next_message(), Ok(None));
    }

    #[test]
    fn every_cut_inside_is_an_error() {
        let bytes = batch(&[b"abc", b"defgh"]);
        let whole = [HEAD_BYTES, HEAD_BYTES + 7, bytes.len()];
        for end in 0..bytes.len() {
            let mut read = Batch::default();
            let mut outcome = read.load(&bytes[..end]).map(|_| ());
            while outcome.is_ok() {
                match read.next_message() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => outcome = Err(error),
                }
            }
            assert_eq!(outcome.is_ok(), whole.contains(&end), "cut at {end}");
        }
        let mut empty = batch(&[b""]);
        let mut read = Batch::default();
        assert!(read.load(&empty).is_ok() && read.next_message().is_err());
        empty.extend_from_slice(&u32::MAX.to_be_bytes());
        assert!(read.load(&empty[..HEAD_BYTES]).is_ok() && read.next_message() == Ok(None));
    }
}
