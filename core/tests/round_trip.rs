//! Messages made of arbitrary values: written, read, equal; written again, the same bytes; refused at every prefix.
//! The readers get arbitrary bytes as well.

use proptest::prelude::*;
use spock_core::types::{Lsn, OriginId, PgTime, RelId, TypeOid, Xid};
use spock_core::wire::control::{LogicalMessage, Payload, Startup};
use spock_core::wire::frame::{Data, Frame, Keepalive, StandbyStatus};
use spock_core::wire::row::{
    Column, Datum, Part, Relation, RowFlags, RowKind, RowVersion, Truncate, begin_row, begin_row_with, write_tuple,
};
use spock_core::wire::txn::{Begin, Commit, CommitOrder, Origin};
use spock_core::wire::{Envelope, Message, ProtocolVersion, WireError, begin_message};

/// A column as a test owns it.
#[derive(Debug, Clone)]
enum Value {
    Null,
    Unchanged,
    Internal(Vec<u8>),
    Binary(Vec<u8>),
    Text(Vec<u8>),
}

impl Value {
    fn borrow(&self) -> Datum<'_> {
        match self {
            Self::Null => Datum::Null,
            Self::Unchanged => Datum::Unchanged,
            Self::Internal(bytes) => Datum::Internal(bytes),
            Self::Binary(bytes) => Datum::Binary(bytes),
            Self::Text(text) => Datum::Text(text),
        }
    }
}

fn versions() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![Just(ProtocolVersion::V4), Just(ProtocolVersion::V5), Just(ProtocolVersion::V6)]
}

/// Positions below the one whose first byte is the type of the startup message; no server gets there.
fn lsns() -> impl Strategy<Value = Option<Lsn>> {
    (0..u64::from(Startup::TAG) << 56).prop_map(Lsn::new)
}

fn times() -> impl Strategy<Value = PgTime> {
    any::<i64>().prop_map(PgTime::from_micros)
}

/// Text without NUL, in whatever encoding.
fn texts(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1..=u8::MAX, 0..=longest)
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1..=u8::MAX, 1..=63)
}

fn values() -> impl Strategy<Value = Value> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        Just(Value::Null),
        Just(Value::Unchanged),
        bytes().prop_map(Value::Internal),
        bytes().prop_map(Value::Binary),
        texts(40).prop_map(Value::Text),
    ]
}

fn tuples() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(values(), 0..8)
}

fn parts() -> impl Strategy<Value = (RowKind, Vec<(Part, Vec<Value>)>)> {
    let old = || prop_oneof![Just(Part::Key), Just(Part::Old)];
    prop_oneof![
        tuples().prop_map(|new| (RowKind::Insert, vec![(Part::New, new)])),
        tuples().prop_map(|new| (RowKind::Update, vec![(Part::New, new)])),
        (old(), tuples(), tuples()).prop_map(|(part, old, new)| (RowKind::Update, vec![(part, old), (Part::New, new)])),
        (old(), tuples()).prop_map(|(part, old)| (RowKind::Delete, vec![(part, old)])),
    ]
}

/// What holds for every message: read to the last byte, written again to the same bytes, refused at every prefix.
fn check(bytes: &[u8], version: ProtocolVersion) -> Envelope<'_> {
    let envelope = Envelope::read(bytes, version).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
    let mut again = Vec::new();
    envelope.write(version, &mut again);
    assert_eq!(again, bytes);
    if !matches!(envelope.message, Message::Startup(_)) {
        for len in 0..bytes.len() {
            assert!(Envelope::read(&bytes[..len], version).is_err(), "cut to {len} bytes");
        }
    }
    envelope
}

/// Writes, reads and compares.
fn round_trip(version: ProtocolVersion, insert_lsn: Option<Lsn>, message: Message<'_>) {
    let insert_lsn = insert_lsn.filter(|_| version == ProtocolVersion::V5);
    let envelope = Envelope { insert_lsn, message };
    let mut bytes = Vec::new();
    envelope.write(version, &mut bytes);
    assert_eq!(check(&bytes, version), envelope);
}

proptest! {
    #[test]
    fn transactions(
        version in versions(), insert_lsn in lsns(), lsn in lsns(), end_lsn in lsns(), committed_at in times(), xid in any::<u32>(),
        id in any::<u16>(), name in prop::option::of(texts(63)),
    ) {
        let message = |message| round_trip(version, insert_lsn, message);
        message(Message::Begin(Begin { commit_lsn: lsn, committed_at, xid: Xid(xid) }));
        message(Message::Origin(Origin { lsn, id: OriginId(id), name: name.as_deref() }));
        // Zero is how "nothing to wait for" is written.
        message(Message::CommitOrder(CommitOrder { previous: (committed_at.micros() != 0).then_some(committed_at) }));
        let trailer = insert_lsn.filter(|_| version == ProtocolVersion::V4);
        message(Message::Commit(Commit { commit_lsn: lsn, end_lsn, committed_at, insert_lsn: trailer }));
    }

    #[test]
    fn rows(version in versions(), insert_lsn in lsns(), relation in any::<u32>(), (kind, parts) in parts()) {
        let mut bytes = Vec::new();
        begin_row(&mut bytes, version, insert_lsn, kind, RelId(relation));
        for (part, values) in &parts {
            let mut tuple = write_tuple(&mut bytes, *part, values.len() as u16);
            for value in values {
                match value {
                    Value::Null => tuple.null(),
                    Value::Unchanged => tuple.unchanged(),
                    Value::Internal(bytes) => tuple.internal(bytes),
                    Value::Binary(bytes) => tuple.binary(bytes),
                    Value::Text(text) => tuple.text(text),
                }
            }
        }
        let (id, read) = match check(&bytes, version).message {
            Message::Insert(row) => (row.relation, vec![row.new]),
            Message::Update(row) => (row.relation, row.old.map(|old| old.tuple()).into_iter().chain([row.new]).collect()),
            Message::Delete(row) => (row.relation, vec![row.old.tuple()]),
            other => panic!("not a row: {other:?}"),
        };
        prop_assert_eq!(id, RelId(relation));
        prop_assert_eq!(read.len(), parts.len());
        for (tuple, (_, values)) in read.iter().zip(&parts) {
            prop_assert_eq!(tuple.len(), values.len());
            prop_assert_eq!(tuple.columns().collect::<Vec<_>>(), values.iter().map(Value::borrow).collect::<Vec<_>>());
        }
    }

    /// Ten bytes more, where the version is one of the row's own; in protocol 6 only.
    #[test]
    fn rows_with_a_version(
        relation in any::<u32>(), time in times(), origin in 1..=u16::MAX, superseded in any::<bool>(), kind in 0_usize..3,
    ) {
        let (kind, part) =
            [(RowKind::Insert, Part::New), (RowKind::Update, Part::New), (RowKind::Delete, Part::Key)][kind];
        let own = RowVersion { time, origin: OriginId(origin) };
        let superseded = superseded && kind == RowKind::Update;
        let written = |version| {
            let mut bytes = Vec::new();
            begin_row_with(&mut bytes, kind, RelId(relation), RowFlags { superseded, version });
            write_tuple(&mut bytes, part, 1).null();
            bytes
        };
        let (bytes, without) = (written(Some(own)), written(None));
        prop_assert_eq!(bytes.len(), without.len() + 10);
        for (bytes, want) in [(&bytes, Some(own)), (&without, None)] {
            let (id, got) = match check(bytes, ProtocolVersion::V6).message {
                Message::Insert(row) => (row.relation, row.version),
                Message::Update(row) => {
                    prop_assert_eq!(row.superseded, superseded);
                    (row.relation, row.version)
                }
                Message::Delete(row) => (row.relation, row.version),
                other => panic!("not a row: {other:?}"),
            };
            prop_assert_eq!((id, got), (RelId(relation), want));
        }
        let refused = |field, got| Err(WireError::Unexpected { field, got });
        prop_assert_eq!(Envelope::read(&bytes, ProtocolVersion::V4), refused("row flags", bytes[1]));
        let after_position = [&[0; 8], &bytes[..]].concat();
        prop_assert_eq!(Envelope::read(&after_position, ProtocolVersion::V5), refused("row flags", bytes[1]));
        let mut nowhere = bytes;
        nowhere[14..16].fill(0);
        prop_assert_eq!(Envelope::read(&nowhere, ProtocolVersion::V6), refused("row origin", 0));
    }

    /// The flag is of protocol 6; the others know none, and INSERT and DELETE not this one.
    #[test]
    fn superseded_updates(relation in any::<u32>(), count in 1_u16..8, other in 4..=u8::MAX) {
        let mut bytes = Vec::new();
        let flags = RowFlags { superseded: true, version: None };
        begin_row_with(&mut bytes, RowKind::Update, RelId(relation), flags);
        let mut tuple = write_tuple(&mut bytes, Part::New, count);
        (0..count).for_each(|_| tuple.unchanged());
        let Message::Update(update) = check(&bytes, ProtocolVersion::V6).message else { panic!("no UPDATE") };
        prop_assert!(update.superseded && update.old.is_none());
        prop_assert_eq!((update.relation, update.new.len()), (RelId(relation), usize::from(count)));
        let refused = |got| Err(WireError::Unexpected { field: "row flags", got });
        prop_assert_eq!(Envelope::read(&bytes, ProtocolVersion::V4), refused(1));
        let after_position = [&[0; 8], &bytes[..]].concat();
        prop_assert_eq!(Envelope::read(&after_position, ProtocolVersion::V5), refused(1));
        bytes[1] = other;
        prop_assert_eq!(Envelope::read(&bytes, ProtocolVersion::V6), refused(other));
        bytes[..2].copy_from_slice(b"I\x01");
        prop_assert_eq!(Envelope::read(&bytes, ProtocolVersion::V6), refused(1));
    }

    #[test]
    fn relations(
        version in versions(), insert_lsn in lsns(), id in any::<u32>(), schema in names(), name in names(),
        columns in prop::collection::vec((any::<bool>(), names(), any::<u32>(), any::<i32>()), 0..6),
    ) {
        let columns: Vec<_> = columns
            .iter()
            .map(|(is_key, name, oid, type_mod)| Column { is_key: *is_key, name, type_oid: TypeOid(*oid), type_mod: *type_mod })
            .collect();
        let mut bytes = Vec::new();
        begin_message(&mut bytes, version, insert_lsn);
        Relation::write_of(&mut bytes, RelId(id), &schema, &name, &columns);
        let Message::Relation(relation) = check(&bytes, version).message else { panic!("not a relation") };
        prop_assert_eq!((relation.id, relation.schema, relation.name), (RelId(id), schema.as_slice(), name.as_slice()));
        prop_assert_eq!(relation.columns().collect::<Vec<_>>(), columns);
    }

    #[test]
    fn truncates(
        version in versions(), insert_lsn in lsns(), ids in prop::collection::vec(any::<u32>(), 0..6), cascade in any::<bool>(),
        restart in any::<bool>(),
    ) {
        let ids: Vec<_> = ids.into_iter().map(RelId).collect();
        let mut bytes = Vec::new();
        begin_message(&mut bytes, version, insert_lsn);
        Truncate::write_of(&mut bytes, &ids, cascade, restart);
        let Message::Truncate(truncate) = check(&bytes, version).message else { panic!("not a truncate") };
        prop_assert_eq!((truncate.cascade, truncate.restart_identity), (cascade, restart));
        prop_assert_eq!(truncate.relations().collect::<Vec<_>>(), ids);
    }

    #[test]
    fn logical_messages(
        version in versions(), insert_lsn in lsns(), xid in any::<u32>(), lsn in lsns(), transactional in any::<bool>(),
        prefix in texts(20), payload in prop::collection::vec(any::<u8>(), 0..90),
    ) {
        let xid = (xid != 0).then_some(Xid(xid));
        let message = LogicalMessage { xid, lsn, transactional, prefix: &prefix, payload: &payload };
        round_trip(version, insert_lsn, Message::Logical(message));
    }

    #[test]
    fn startup_messages(pairs in prop::collection::vec(("[a-z_.]{1,20}", "[^\u{0}]{0,20}"), 0..8), version in versions()) {
        let mut bytes = Vec::new();
        Startup::write_of(&mut bytes, pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let Message::Startup(startup) = check(&bytes, version).message else { panic!("not a startup message") };
        let got: Vec<_> = startup.pairs().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        let want: Vec<_> = pairs.iter().map(|(key, value)| (key.clone().into_bytes(), value.clone().into_bytes())).collect();
        prop_assert_eq!(got, want);
    }

    #[test]
    fn frames(
        start in lsns(), end in lsns(), sent_at in times(), message in prop::collection::vec(any::<u8>(), 0..50),
        reply_requested in any::<bool>(), flushed in lsns(),
    ) {
        let frames =
            [Frame::Data(Data { start, end, sent_at, message: &message }), Frame::Keepalive(Keepalive { end, sent_at, reply_requested })];
        for frame in frames {
            let mut bytes = Vec::new();
            frame.write(&mut bytes);
            prop_assert_eq!(Frame::read(&bytes), Ok(frame));
        }
        let status = StandbyStatus { written: end, flushed, applied: start, sent_at, reply_requested };
        let mut bytes = Vec::new();
        status.write(&mut bytes);
        prop_assert_eq!(StandbyStatus::read(&bytes), Ok(status));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), tag in 0..11_usize, version in versions()) {
        let mut tagged = Vec::new();
        begin_message(&mut tagged, version, Lsn::new(1));
        tagged.push(b"SBOLRIUDTMC"[tag]);
        tagged.extend_from_slice(&bytes);
        for bytes in [&bytes, &tagged] {
            if let Ok(envelope) = Envelope::read(bytes, version) {
                let mut again = Vec::new();
                envelope.write(version, &mut again);
                prop_assert_eq!(&again, bytes);
            }
            let _ = Frame::read(bytes);
            let _ = StandbyStatus::read(bytes);
            let _ = Payload::read(bytes);
        }
    }

    #[test]
    fn positions_as_text(raw in 1..=u64::MAX) {
        let lsn = Lsn::new(raw);
        let text = lsn.map(|lsn| lsn.to_string()).unwrap_or_default();
        prop_assert_eq!(Lsn::parse(&text), Ok(lsn));
        prop_assert_eq!(text.parse::<Lsn>().ok(), lsn);
    }
}

#[test]
fn positions_that_are_none() {
    assert_eq!(Lsn::parse("0/0"), Ok(None));
    assert_eq!(Lsn::parse("16/B374D848").map(|lsn| lsn.map(Lsn::get)), Ok(Some(0x16_b374_d848)));
    for text in ["", "/", "0", "0/", "/0", "0/0/0", "g/0", "+1/0", "123456789/0", "0/123456789", " 0/1", "0/1 "] {
        assert!(Lsn::parse(text).is_err(), "{text:?}");
    }
}
