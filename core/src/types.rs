//! Numbers with a meaning: positions, times, ids. The leaves of the crate; everything else imports them.
//!
//! # Invariants
//! 1. "None yet" is `Option`, not zero: [`Lsn`], [`NodeId`] and [`SubId`] are never zero.
//! 2. There is no `From<integer>`; each conversion has a name that says what it means.

use core::fmt;
use core::num::{NonZeroU32, NonZeroU64};
use core::str::FromStr;

/// A position in a WAL. Never zero: the server's InvalidXLogRecPtr is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(NonZeroU64);

impl Lsn {
    /// The position, or `None` for the server's "invalid" zero.
    pub const fn new(raw: u64) -> Option<Self> {
        match NonZeroU64::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The number as the server counts it.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// `None` as zero, for the wire and the server's structs.
    pub const fn raw(lsn: Option<Self>) -> u64 {
        match lsn {
            Some(lsn) => lsn.get(),
            None => 0,
        }
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.get() >> 32, self.get() & 0xffff_ffff)
    }
}

/// The text is not `X/X` with up to eight hex digits on each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LsnTextError;

impl fmt::Display for LsnTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a WAL position of the form X/X")
    }
}

impl std::error::Error for LsnTextError {}

impl Lsn {
    /// Reads `X/X`; `0/0` is `None`.
    ///
    /// # Errors
    /// [`LsnTextError`] for any other text.
    pub fn parse(text: &str) -> Result<Option<Self>, LsnTextError> {
        let (high, low) = text.split_once('/').ok_or(LsnTextError)?;
        let half = |part: &str| {
            let plain = (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            if plain { u64::from_str_radix(part, 16).map_err(|_| LsnTextError) } else { Err(LsnTextError) }
        };
        Ok(Self::new(half(high)? << 32 | half(low)?))
    }
}

impl FromStr for Lsn {
    type Err = LsnTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)?.ok_or(LsnTextError)
    }
}

/// A point in time: microseconds since 2000-01-01 00:00 UTC, as the server's TimestampTz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTime(i64);

impl PgTime {
    /// From microseconds since 2000-01-01 00:00 UTC.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 2000-01-01 00:00 UTC.
    pub const fn micros(self) -> i64 {
        self.0
    }
}

/// A transaction id of the node that sent it, without epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Xid(pub u32);

/// A relation as the provider numbers it. Opaque to everybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelId(pub u32);

/// A data type's oid. The same on two nodes only below [`TypeOid::FIRST_USER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeOid(pub u32);

impl TypeOid {
    /// Oids from here on are given out by each database for itself (`FirstNormalObjectId`).
    pub const FIRST_USER: u32 = 16384;

    /// The type comes with the server, so its oid means the same on every node.
    pub const fn is_built_in(self) -> bool {
        self.0 < Self::FIRST_USER
    }
}

/// Cluster-wide number of a node: the hash of its name, 16 bits. Databases made by version 3 hold 32-bit ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NonZeroU32);

impl NodeId {
    /// The id, or `None` for zero, which means "written locally" in commit timestamps.
    pub const fn new(raw: u32) -> Option<Self> {
        match NonZeroU32::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The number as it travels in ORIGIN and stands in commit records: the low 16 bits.
    pub const fn wire(self) -> u16 {
        (self.get() & 0xffff) as u16
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// Number of a replication origin. Zero is "written here". Usually a node id's 16 bits; a plain origin number for rows
/// that a copy session loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(pub u16);

impl OriginId {
    /// Written on the node where it is read.
    pub const LOCAL: Self = Self(0);
}

/// Number of a subscription. Means nothing outside its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubId(NonZeroU32);

impl SubId {
    /// The id, or `None` for zero.
    pub const fn new(raw: u32) -> Option<Self> {
        match NonZeroU32::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}
