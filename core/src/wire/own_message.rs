//! What a node says in its WAL to its own output plugin, in records that only this edition writes. None of it is on the wire as it
//! stands here.

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnMessage<'m> {
    /// How far this node has applied each origin: a body of [`super::announcement`]. Outside transactions.
    Announcement(&'m [u8]),
    /// A DELETE that takes a row out of another one's way follows in this transaction, or is done. Who displaces rows by itself does
    /// not get that DELETE.
    Displacing(bool),
    /// What follows in this transaction is for this node alone, or is not any more.
    Repairing(bool),
}

impl<'m> OwnMessage<'m> {
    const ANNOUNCEMENT: u8 = 1;
    const DISPLACING: u8 = 2;
    const REPAIRING: u8 = 3;

    /// Takes part in the current transaction: is decoded at its place there, and only if that commits.
    pub fn is_transactional(self) -> bool {
        !matches!(self, Self::Announcement(_))
    }

    /// Kind (1 byte) and body, for the WAL.
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Announcement(body) => [&[Self::ANNOUNCEMENT], body].concat(),
            Self::Displacing(begins) => vec![Self::DISPLACING, u8::from(begins)],
            Self::Repairing(begins) => vec![Self::REPAIRING, u8::from(begins)],
        }
    }

    /// Reads them. `None`: no message of this edition.
    pub fn read(bytes: &'m [u8]) -> Option<Self> {
        match bytes {
            [Self::ANNOUNCEMENT, body @ ..] => Some(Self::Announcement(body)),
            [Self::DISPLACING, begins] => Some(Self::Displacing(*begins == 1)),
            [Self::REPAIRING, begins] => Some(Self::Repairing(*begins == 1)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OwnMessage;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let bodies: [OwnMessage<'_>; 4] = [
            OwnMessage::Announcement(&[7, 0, 9]),
            OwnMessage::Announcement(&[]),
            OwnMessage::Displacing(true),
            OwnMessage::Repairing(false),
        ];
        for message in bodies {
            assert_eq!(OwnMessage::read(&message.to_bytes()), Some(message));
        }
        for broken in [&[][..], &[2], &[3, 1, 1], &[0, 1], &[9]] {
            assert_eq!(OwnMessage::read(broken), None, "{broken:?}");
        }
    }
}
