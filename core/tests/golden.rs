//! Real streams of the C extension: every message is read to its last byte, written again to the same bytes, and every
//! prefix of it is refused. Data: `tests/wire/`.

use serde::Deserialize;
use spock_core::types::RelId;
use spock_core::wire::control::{MESSAGE_PREFIX, Payload};
use spock_core::wire::row::{Datum, Tuple};
use spock_core::wire::{Envelope, Message, ProtocolVersion};
use std::collections::HashMap;
use std::path::Path;

const SCENARIOS: [&str; 5] = ["control", "delta", "dml", "filters", "toast"];
/// Streams in each file: three of protocol 5, two of protocol 4.
const STREAMS: usize = 5;

#[derive(Deserialize)]
struct Scenario {
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    mode: String,
    messages: Vec<Captured>,
}

#[derive(Deserialize)]
struct Captured {
    hex: String,
}

impl Stream {
    fn version(&self) -> ProtocolVersion {
        match self.mode.split('-').next() {
            Some("v4") => ProtocolVersion::V4,
            Some("v5") => ProtocolVersion::V5,
            _ => panic!("stream \"{}\" names no protocol", self.mode),
        }
    }

    fn messages(&self) -> Vec<Vec<u8>> {
        self.messages.iter().map(|message| from_hex(&message.hex)).collect()
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd number of hex digits");
    let digits = text.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex")).collect()
}

/// Runs `check` on every stream of every scenario, with its name.
fn for_each_stream(mut check: impl FnMut(&str, &Stream)) {
    for name in SCENARIOS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/wire/{name}.json"));
        let text = std::fs::read_to_string(&path).expect(name);
        let scenario: Scenario = serde_json::from_str(&text).expect(name);
        assert_eq!(scenario.streams.len(), STREAMS, "{name}");
        for stream in &scenario.streams {
            check(&format!("{name}/{}", stream.mode), stream);
        }
    }
}

fn read<'a>(name: &str, at: usize, bytes: &'a [u8], version: ProtocolVersion) -> Envelope<'a> {
    Envelope::read(bytes, version).unwrap_or_else(|error| panic!("{name}, message {at}: {error}"))
}

#[test]
fn every_message_is_read_whole_and_written_again_to_the_same_bytes() {
    let mut count = 0;
    for_each_stream(|name, stream| {
        let mut again = Vec::new();
        for (at, bytes) in stream.messages().iter().enumerate() {
            let envelope = read(name, at, bytes, stream.version());
            again.clear();
            envelope.write(stream.version(), &mut again);
            assert_eq!(&again, bytes, "{name}, message {at}: {envelope:?}");
            count += 1;
        }
    });
    assert_eq!(count, 700, "messages in all streams");
}

#[test]
fn every_prefix_of_every_message_is_refused() {
    for_each_stream(|name, stream| {
        for (at, bytes) in stream.messages().iter().enumerate() {
            let whole_pairs = |len: usize| match read(name, at, bytes, stream.version()).message {
                // Nothing says how many pairs a startup message has: cut between two pairs it is a shorter one.
                Message::Startup(_) => len == 2 || (bytes[len - 1] == 0 && nuls(&bytes[2..len]).is_multiple_of(2)),
                _ => false,
            };
            for len in 0..bytes.len() {
                let cut = Envelope::read(&bytes[..len], stream.version());
                assert_eq!(cut.is_ok(), len >= 2 && whole_pairs(len), "{name}, message {at} cut to {len} bytes");
            }
        }
    });
}

fn nuls(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == 0).count()
}

#[test]
fn a_byte_too_much_is_refused() {
    for_each_stream(|name, stream| {
        for (at, bytes) in stream.messages().iter().enumerate() {
            let mut longer = bytes.clone();
            longer.push(0);
            assert!(Envelope::read(&longer, stream.version()).is_err(), "{name}, message {at}");
        }
    });
}

/// A flipped bit may still be a message, and then it is written as it was read; nothing panics.
#[test]
fn no_flipped_bit_panics_and_what_is_read_is_written_again() {
    for_each_stream(|name, stream| {
        let mut again = Vec::new();
        for (at, bytes) in stream.messages().into_iter().enumerate() {
            // Long values are all alike; their first bytes stand for them.
            for bit in 0..bytes.len().min(400) * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let Ok(envelope) = Envelope::read(&bad, stream.version()) else { continue };
                again.clear();
                envelope.write(stream.version(), &mut again);
                assert_eq!(again, bad, "{name}, message {at}, bit {bit}: {envelope:?}");
            }
        }
    });
}

/// The order rules of the protocol, as an applier may rely on them.
#[test]
fn streams_keep_the_order_of_the_protocol() {
    for_each_stream(|name, stream| {
        let mut relations = HashMap::new();
        let mut inside = false;
        let mut previous = b'-';
        for (at, bytes) in stream.messages().iter().enumerate() {
            let envelope = read(name, at, bytes, stream.version());
            let prefixed = stream.version() == ProtocolVersion::V5 && at > 0;
            assert_eq!(envelope.insert_lsn.is_some(), prefixed, "{name}, message {at}: position before the message");
            let kind = kind(&envelope.message);
            assert_eq!(kind == b'S', at == 0, "{name}: the startup message comes first and once");
            assert_eq!(kind == b'O', previous == b'B', "{name}, message {at}: ORIGIN follows BEGIN");
            assert_eq!(kind == b'L', previous == b'O', "{name}, message {at}: COMMIT ORDER follows ORIGIN");
            match &envelope.message {
                Message::Begin(_) => assert!(!std::mem::replace(&mut inside, true), "{name}, message {at}"),
                Message::Commit(_) => assert!(std::mem::replace(&mut inside, false), "{name}, message {at}"),
                Message::Logical(message) => {
                    assert_eq!(message.transactional, inside, "{name}, message {at}");
                    assert_eq!(message.prefix, MESSAGE_PREFIX, "{name}, message {at}");
                    assert!(
                        matches!(Payload::read(message.payload), Ok(Payload::SyncEvent { origin: Some(_) })),
                        "{name}"
                    );
                }
                Message::Relation(relation) => {
                    assert_eq!(relation.columns().count(), relation.column_count(), "{name}, message {at}");
                    relations.insert(relation.id, relation.column_count());
                }
                message => check_rows(name, at, message, &relations),
            }
            previous = kind;
        }
        assert!(!inside, "{name}: the last transaction is closed");
    });
}

fn kind(message: &Message<'_>) -> u8 {
    match message {
        Message::Startup(_) => b'S',
        Message::Begin(_) => b'B',
        Message::Origin(_) => b'O',
        Message::CommitOrder(_) => b'L',
        Message::Relation(_) => b'R',
        Message::Insert(_) => b'I',
        Message::Update(_) => b'U',
        Message::Delete(_) => b'D',
        Message::Truncate(_) => b'T',
        Message::Logical(_) => b'M',
        Message::Announcement(_) => b'A',
        Message::Commit(_) => b'C',
    }
}

/// Rows refer to relations that were announced, and have as many columns.
fn check_rows(name: &str, at: usize, message: &Message<'_>, relations: &HashMap<RelId, usize>) {
    let tuples: Vec<(RelId, Tuple<'_>)> = match message {
        Message::Insert(insert) => vec![(insert.relation, insert.new)],
        Message::Update(update) => {
            let old = update.old.map(|old| (update.relation, old.tuple()));
            old.into_iter().chain([(update.relation, update.new)]).collect()
        }
        Message::Delete(delete) => vec![(delete.relation, delete.old.tuple())],
        Message::Truncate(truncate) => {
            assert!(truncate.relations().len() > 0, "{name}, message {at}");
            assert!(truncate.relations().all(|relation| relations.contains_key(&relation)), "{name}, message {at}");
            vec![]
        }
        _ => vec![],
    };
    for (relation, tuple) in tuples {
        assert_eq!(relations.get(&relation), Some(&tuple.len()), "{name}, message {at}");
        assert_eq!(tuple.columns().count(), tuple.len(), "{name}, message {at}");
    }
}

/// Each set of options brings the representations that it asked for and no stronger one.
#[test]
fn values_come_in_the_representation_that_was_granted() {
    let mut unchanged = 0;
    for_each_stream(|name, stream| {
        let (mut internal, mut binary, mut text) = (0, 0, 0);
        for (at, bytes) in stream.messages().iter().enumerate() {
            let Message::Insert(insert) = read(name, at, bytes, stream.version()).message else { continue };
            for column in insert.new.columns() {
                match column {
                    Datum::Internal(_) => internal += 1,
                    Datum::Binary(_) => binary += 1,
                    Datum::Text(_) => text += 1,
                    Datum::Null => {}
                    Datum::Unchanged => panic!("{name}, message {at}: a new row has no unchanged column"),
                }
            }
        }
        match stream.mode.split_once('-').map(|(_, format)| format) {
            Some("internal") => assert!(internal > 0, "{name}"),
            Some("binary") => assert!(internal == 0 && binary > 0, "{name}"),
            Some("text") => assert!(internal == 0 && binary == 0 && text > 0, "{name}"),
            format => panic!("{name}: unknown format {format:?}"),
        }
        for (at, bytes) in stream.messages().iter().enumerate() {
            let Message::Update(update) = read(name, at, bytes, stream.version()).message else { continue };
            unchanged += update.new.columns().filter(|column| *column == Datum::Unchanged).count();
        }
    });
    assert!(unchanged > 0, "the streams hold unchanged out-of-line values");
}
