//! What a worker's shared row remembers of a remote transaction that failed by itself.
//!
//! # Invariants
//! 1. Only failures that were seen are remembered; that a transaction was begun says nothing.
//! 2. The text never holds a secret: it is the error that the server log has, too.

use crate::pg::shmem::shareable;
use spock_core::exceptions::{ERROR_TEXT_BYTES_MAX, Failures};
use spock_core::types::Lsn;

/// A remote transaction that failed by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Start of its commit record at the provider.
    pub commit_lsn: Lsn,
    /// How often.
    pub failures: Failures,
    /// Number of the action in it that failed last, 0: its commit.
    pub action: u32,
    /// The error, at most [`ERROR_TEXT_BYTES_MAX`] bytes.
    pub text: String,
}

/// Room for the text, at the alignment of the struct.
const TEXT_BYTES: usize = ERROR_TEXT_BYTES_MAX + 1;

shareable! {
    /// The same in shared memory. Without a position it is nothing.
    pub struct Remembered {
        commit_lsn: u64,
        count: u32,
        alone: u32,
        waits: u32,
        unused: u32,
        action: u32,
        text_len: u32,
        text: [u8; TEXT_BYTES],
    }
}

impl Remembered {
    /// No transaction failed.
    pub const NOTHING: Self =
        Self { commit_lsn: 0, count: 0, alone: 0, waits: 0, unused: 0, action: 0, text_len: 0, text: [0; TEXT_BYTES] };

    /// That `failure`.
    pub fn of(failure: &Failure) -> Self {
        let bytes = failure.text.as_bytes();
        let length = bytes.len().min(TEXT_BYTES);
        let mut text = [0; TEXT_BYTES];
        text[..length].copy_from_slice(&bytes[..length]);
        Self {
            commit_lsn: failure.commit_lsn.get(),
            count: failure.failures.count,
            alone: u32::from(failure.failures.alone),
            waits: u32::from(failure.failures.waits),
            unused: 0,
            action: failure.action,
            text_len: length as u32,
            text,
        }
    }

    /// What failed.
    pub fn read(&self) -> Option<Failure> {
        let text = self.text.get(..self.text_len as usize).unwrap_or_default();
        Some(Failure {
            commit_lsn: Lsn::new(self.commit_lsn)?,
            failures: Failures { count: self.count, alone: self.alone != 0, waits: self.waits != 0 },
            action: self.action,
            text: String::from_utf8_lossy(text).into_owned(),
        })
    }
}
