//! Cursors over bytes: [`In`] reads and never panics, `put_*` append. All integers are big-endian.

use super::WireError;
use crate::types::{Lsn, PgTime};

/// A reading position in a message. Every method either advances or returns an error that names the field.
#[derive(Debug, Clone, Copy)]
pub struct In<'a> {
    bytes: &'a [u8],
}

impl<'a> In<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether everything has been read.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        if self.bytes.len() < len {
            return Err(WireError::Truncated { field });
        }
        let (head, tail) = self.bytes.split_at(len);
        self.bytes = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let bytes = self.take(N, field)?;
        bytes.try_into().map_err(|_| WireError::Truncated { field })
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        Ok(self.array::<1>(field)?[0])
    }

    /// Two bytes.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// A WAL position; zero is `None`.
    pub fn lsn(&mut self, field: &'static str) -> Result<Option<Lsn>, WireError> {
        self.u64(field).map(Lsn::new)
    }

    /// A time.
    pub fn time(&mut self, field: &'static str) -> Result<PgTime, WireError> {
        Ok(PgTime::from_micros(self.u64(field)? as i64))
    }

    /// A length that the server writes as int32; negative is an error.
    pub fn len32(&mut self, field: &'static str) -> Result<usize, WireError> {
        let raw = self.u32(field)?;
        i32::try_from(raw).ok().and_then(|len| usize::try_from(len).ok()).ok_or(WireError::BadLength { field })
    }

    /// Text up to and without its NUL.
    pub fn cstr(&mut self, field: &'static str) -> Result<&'a [u8], WireError> {
        let end = self.bytes.iter().position(|byte| *byte == 0).ok_or(WireError::Truncated { field })?;
        let text = self.take(end + 1, field)?;
        Ok(&text[..end])
    }

    /// Text of a length known before, its NUL included and the only one.
    pub fn cstr_of(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let bytes = self.take(len, field)?;
        match bytes.split_last() {
            Some((0, text)) if !text.contains(&0) => Ok(text),
            _ => Err(WireError::BadLength { field }),
        }
    }

    /// One byte that has only one legal value.
    pub fn expect(&mut self, want: u8, field: &'static str) -> Result<(), WireError> {
        let got = self.u8(field)?;
        if got == want { Ok(()) } else { Err(WireError::Unexpected { field, got }) }
    }

    /// Nothing may follow.
    pub fn finish(&self) -> Result<(), WireError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(WireError::TrailingBytes { count: self.bytes.len() }) }
    }
}
