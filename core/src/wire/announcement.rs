//! ANNOUNCEMENT: how far a node has applied each origin's changes. Protocol 6, between nodes of this edition, and only to a peer
//! that has asked for it ([`OPTION`]). What it is for: [`crate::merge::stability`].
//!
//! ```text
//! message    'A', end of its WAL record (8 bytes), body
//! body       flags (1 byte; 1: wanted), sender (4), count (2), count times: origin (4), position (8)
//! ```
//! Numbers in network byte order; origins ascend. In the WAL of the sender the body stands alone, outside transactions
//! ([`super::own_message`]).

use super::WireError;
use super::io::In;
use crate::merge::stability::Applied;
use crate::types::{Lsn, NodeId};

/// With this option a subscriber asks for announcements, and under this key a provider promises them.
pub const OPTION: &str = "spock.announcements";
/// Most origins in one announcement.
pub const POSITIONS_MAX: usize = 64;

const WANTED: u8 = 1;
const POSITION_BYTES: usize = 12;

/// Up to where the sender has applied each origin's changes; its own: up to where it has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement<'a> {
    /// End of its WAL record on the sender.
    pub at: Lsn,
    /// The sender.
    pub from: NodeId,
    /// The sender holds tombstones and waits for what the others have to announce.
    pub wanted: bool,
    /// Checked: origins ascend, and nothing in it is zero.
    positions: &'a [u8],
}

impl<'a> Announcement<'a> {
    /// The type byte.
    pub const TAG: u8 = b'A';

    /// The body, for the WAL. `None`: more origins than [`POSITIONS_MAX`].
    pub fn body(from: NodeId, wanted: bool, applied: &Applied) -> Option<Vec<u8>> {
        let count = applied.iter().count();
        let mut out = Vec::with_capacity(7 + count * POSITION_BYTES);
        out.push(if wanted { WANTED } else { 0 });
        out.extend_from_slice(&from.get().to_be_bytes());
        out.extend_from_slice(&u16::try_from(count).ok().filter(|_| count <= POSITIONS_MAX)?.to_be_bytes());
        for (origin, at) in applied.iter() {
            out.extend_from_slice(&origin.get().to_be_bytes());
            out.extend_from_slice(&at.get().to_be_bytes());
        }
        Some(out)
    }

    /// Reads a body from the WAL whose record ends at `at`.
    ///
    /// # Errors
    /// [`WireError`] says which field was wrong.
    pub fn read_body(at: Lsn, bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut input = In::new(bytes);
        let announcement = Self::read_rest(at, &mut input)?;
        input.finish()?;
        Ok(announcement)
    }

    /// What it says.
    pub fn applied(&self) -> Applied {
        let mut applied = Applied::default();
        self.positions().for_each(|(origin, at)| applied.advance(origin, at));
        applied
    }

    /// Origin and position, by origin; at most [`POSITIONS_MAX`].
    pub fn positions(&self) -> impl Iterator<Item = (NodeId, Lsn)> + use<'a> {
        self.positions.chunks_exact(POSITION_BYTES).filter_map(|pair| position(&mut In::new(pair)).ok())
    }

    /// Appends type byte, position and body.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(Self::TAG);
        out.extend_from_slice(&self.at.get().to_be_bytes());
        out.push(if self.wanted { WANTED } else { 0 });
        out.extend_from_slice(&self.from.get().to_be_bytes());
        // At most `POSITIONS_MAX`.
        out.extend_from_slice(&((self.positions.len() / POSITION_BYTES) as u16).to_be_bytes());
        out.extend_from_slice(self.positions);
    }

    pub(super) fn read(input: &mut In<'a>) -> Result<Self, WireError> {
        let field = "announcement position";
        let at = input.lsn(field)?.ok_or(WireError::Unexpected { field, got: 0 })?;
        Self::read_rest(at, input)
    }

    fn read_rest(at: Lsn, input: &mut In<'a>) -> Result<Self, WireError> {
        let wanted = match input.u8("announcement flags")? {
            0 => false,
            WANTED => true,
            got => return Err(WireError::Unexpected { field: "announcement flags", got }),
        };
        let from = node(input, "announcing node")?;
        let count = usize::from(input.u16("number of announced positions")?);
        if count > POSITIONS_MAX {
            return Err(WireError::BadLength { field: "number of announced positions" });
        }
        let positions = input.take(count * POSITION_BYTES, "announced positions")?;
        let mut pairs = In::new(positions);
        let mut last = None;
        while !pairs.is_empty() {
            let (origin, _) = position(&mut pairs)?;
            if last >= Some(origin) {
                return Err(WireError::Unexpected { field: "order of announced origins", got: origin.get() as u8 });
            }
            last = Some(origin);
        }
        Ok(Self { at, from, wanted, positions })
    }
}

fn node(input: &mut In<'_>, field: &'static str) -> Result<NodeId, WireError> {
    NodeId::new(input.u32(field)?).ok_or(WireError::Unexpected { field, got: 0 })
}

fn position(input: &mut In<'_>) -> Result<(NodeId, Lsn), WireError> {
    let origin = node(input, "announced origin")?;
    let at = input.lsn("announced position")?.ok_or(WireError::Unexpected { field: "announced position", got: 0 })?;
    Ok((origin, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Envelope, Message, ProtocolVersion};
    use proptest::prelude::*;

    fn lsn(raw: u64) -> Lsn {
        Lsn::new(raw).expect("not zero")
    }

    fn id(raw: u32) -> NodeId {
        NodeId::new(raw).expect("not zero")
    }

    fn read(bytes: &[u8]) -> Result<Announcement<'_>, WireError> {
        match Envelope::read(bytes, ProtocolVersion::V6)?.message {
            Message::Announcement(announcement) => Ok(announcement),
            other => panic!("{other:?}"),
        }
    }

    fn message(from: u32, wanted: bool, positions: &[(u32, u64)]) -> Vec<u8> {
        let mut applied = Applied::default();
        positions.iter().for_each(|(origin, at)| applied.advance(id(*origin), lsn(*at)));
        let body = Announcement::body(id(from), wanted, &applied).expect("few origins");
        let mut out = Vec::new();
        Announcement::read_body(lsn(0x77), &body).expect("a body").write(&mut out);
        out
    }

    #[test]
    fn layout() {
        let bytes = message(0xc22c, true, &[(2, 0x1_0000_0002), (1, 3)]);
        let want =
            b"A\0\0\0\0\0\0\0\x77\x01\0\0\xc2\x2c\0\x02\0\0\0\x01\0\0\0\0\0\0\0\x03\0\0\0\x02\0\0\0\x01\0\0\0\x02";
        assert_eq!(bytes, want);
        let got = read(&bytes).expect("a message");
        assert_eq!((got.at, got.from, got.wanted), (lsn(0x77), id(0xc22c), true));
        assert_eq!(got.positions().collect::<Vec<_>>(), [(id(1), lsn(3)), (id(2), lsn(0x1_0000_0002))]);
    }

    #[test]
    fn other_protocols_do_not_know_it() {
        let bytes = message(1, false, &[]);
        assert_eq!(Envelope::read(&bytes, ProtocolVersion::V4), Err(WireError::UnknownMessage { tag: b'A' }));
        let mut with_position = vec![0; 8];
        with_position.extend_from_slice(&bytes);
        assert_eq!(Envelope::read(&with_position, ProtocolVersion::V5), Err(WireError::UnknownMessage { tag: b'A' }));
    }

    #[test]
    fn what_is_not_one_is_refused_by_name() {
        let good = message(1, true, &[(1, 5), (2, 6)]);
        for end in 1..good.len() {
            assert!(matches!(read(&good[..end]), Err(WireError::Truncated { .. })), "cut at {end}");
        }
        let mut longer = good.clone();
        longer.extend_from_slice(b"xyz");
        assert_eq!(read(&longer), Err(WireError::TrailingBytes { count: 3 }));
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            read(&bytes).map(|_| ())
        };
        let unexpected = |field, got| Err(WireError::Unexpected { field, got });
        assert_eq!(changed(9, 3), unexpected("announcement flags", 3));
        assert_eq!(changed(8, 0), unexpected("announcement position", 0));
        assert_eq!(changed(13, 0), unexpected("announcing node", 0));
        assert_eq!(changed(14, 1), Err(WireError::BadLength { field: "number of announced positions" }));
        assert_eq!(changed(15, 65), Err(WireError::BadLength { field: "number of announced positions" }));
        assert_eq!(changed(19, 0), unexpected("announced origin", 0));
        assert_eq!(changed(19, 2), unexpected("order of announced origins", 2));
        assert_eq!(changed(27, 0), unexpected("announced position", 0));
    }

    #[test]
    fn a_cluster_beyond_the_limit_is_not_announced_in_part() {
        let mut applied = Applied::default();
        (1..=64).for_each(|origin| applied.advance(id(origin), lsn(1)));
        let body = Announcement::body(id(1), false, &applied).expect("64 fit");
        assert_eq!(Announcement::read_body(lsn(1), &body).map(|read| read.applied()), Ok(applied.clone()));
        applied.advance(id(65), lsn(1));
        assert_eq!(Announcement::body(id(1), false, &applied), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            from in 1..u32::MAX,
            wanted: bool,
            positions in proptest::collection::btree_map(1..u32::MAX, 1..u64::MAX, 0..POSITIONS_MAX),
        ) {
            let positions: Vec<_> = positions.into_iter().collect();
            let bytes = message(from, wanted, &positions);
            let got = read(&bytes).expect("a message");
            prop_assert_eq!((got.from.get(), got.wanted), (from, wanted));
            let read_back: Vec<_> = got.positions().map(|(origin, at)| (origin.get(), at.get())).collect();
            prop_assert_eq!(read_back, positions);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut message = vec![Announcement::TAG];
            message.extend_from_slice(&bytes);
            if let Ok(read) = read(&message) {
                let mut again = Vec::new();
                read.write(&mut again);
                prop_assert_eq!(again, message);
            }
        }
    }
}
