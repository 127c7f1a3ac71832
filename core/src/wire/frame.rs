//! The server's replication sub-protocol around our messages: XLogData, keepalive, standby status. Source: the protocol,
//! sections 3.1 and 7.

use super::WireError;
use super::io::In;
use crate::types::{Lsn, PgTime};

/// What comes from the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// One message of ours.
    Data(Data<'a>),
    /// A sign of life.
    Keepalive(Keepalive),
    /// A frame type that we do not know and that may be skipped.
    Other(u8),
}

/// One message and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    /// Position of the change; `None` in frames that are not the last of their callback.
    pub start: Option<Lsn>,
    /// The same position.
    pub end: Option<Lsn>,
    /// The provider's clock.
    pub sent_at: PgTime,
    /// The message, for [`super::Envelope::read`].
    pub message: &'a [u8],
}

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Up to where the provider has decoded.
    pub end: Option<Lsn>,
    /// The provider's clock.
    pub sent_at: PgTime,
    /// It wants a status at once.
    pub reply_requested: bool,
}

impl<'a> Frame<'a> {
    /// Reads one frame.
    ///
    /// # Errors
    /// [`WireError`] says which field was wrong.
    pub fn read(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut input = In::new(bytes);
        match input.u8("frame type")? {
            b'w' => Ok(Self::Data(Data {
                start: input.lsn("frame start")?,
                end: input.lsn("frame end")?,
                sent_at: input.time("frame time")?,
                message: input.rest(),
            })),
            b'k' => {
                let end = input.lsn("keepalive position")?;
                let sent_at = input.time("keepalive time")?;
                let reply_requested = match input.u8("keepalive reply")? {
                    0 => false,
                    1 => true,
                    got => return Err(WireError::Unexpected { field: "keepalive reply", got }),
                };
                input.finish()?;
                Ok(Self::Keepalive(Keepalive { end, sent_at, reply_requested }))
            }
            tag => Ok(Self::Other(tag)),
        }
    }

    /// Appends the bytes. What we do not know is not written.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Data(data) => {
                out.push(b'w');
                out.extend_from_slice(&Lsn::raw(data.start).to_be_bytes());
                out.extend_from_slice(&Lsn::raw(data.end).to_be_bytes());
                out.extend_from_slice(&data.sent_at.micros().to_be_bytes());
                out.extend_from_slice(data.message);
            }
            Self::Keepalive(keepalive) => {
                out.push(b'k');
                out.extend_from_slice(&Lsn::raw(keepalive.end).to_be_bytes());
                out.extend_from_slice(&keepalive.sent_at.micros().to_be_bytes());
                out.push(u8::from(keepalive.reply_requested));
            }
            Self::Other(_) => {}
        }
    }
}

/// What the subscriber reports: `flushed` and `applied` never exceed `written`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandbyStatus {
    /// Received up to here.
    pub written: Option<Lsn>,
    /// Durable here up to this position: the provider may forget what is before it.
    pub flushed: Option<Lsn>,
    /// Applied up to here.
    pub applied: Option<Lsn>,
    /// Our clock.
    pub sent_at: PgTime,
    /// We want a keepalive at once.
    pub reply_requested: bool,
}

impl StandbyStatus {
    const TAG: u8 = b'r';

    /// Appends the frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(Self::TAG);
        for position in [self.written, self.flushed, self.applied] {
            out.extend_from_slice(&Lsn::raw(position).to_be_bytes());
        }
        out.extend_from_slice(&self.sent_at.micros().to_be_bytes());
        out.push(u8::from(self.reply_requested));
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`WireError`] says which field was wrong.
    pub fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = In::new(bytes);
        input.expect(Self::TAG, "status type")?;
        let status = Self {
            written: input.lsn("written position")?,
            flushed: input.lsn("flushed position")?,
            applied: input.lsn("applied position")?,
            sent_at: input.time("status time")?,
            reply_requested: match input.u8("status reply")? {
                0 => false,
                1 => true,
                got => return Err(WireError::Unexpected { field: "status reply", got }),
            },
        };
        input.finish()?;
        Ok(status)
    }
}
