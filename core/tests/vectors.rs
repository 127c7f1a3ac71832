//! The worked examples of the protocol, field by field: read to the expected values, written to the expected bytes.
//! They differ from the golden streams in that each number is known.

use spock_core::types::{Lsn, NodeId, OriginId, PgTime, RelId, TypeOid, Xid};
use spock_core::wire::control::{LogicalMessage, MESSAGE_PREFIX, Payload, PayloadError};
use spock_core::wire::frame::{Data, Frame, Keepalive, StandbyStatus};
use spock_core::wire::row::{
    Column, Datum, Part, Relation, RowFlags, RowKind, RowVersion, Truncate, begin_row, begin_row_with, write_tuple,
};
use spock_core::wire::txn::{Begin, Commit, CommitOrder, Origin};
use spock_core::wire::{Envelope, Message, ProtocolVersion, WireError, begin_message};

use ProtocolVersion::{V4, V5};

const COMMIT_LSN: u64 = 0x01a3_f0c8;
const END_LSN: u64 = 0x01a3_f0f8;
const INSERT_LSN: u64 = 0x01a3_f100;
/// 2026-01-15 12:34:56.789012 UTC.
const COMMITTED_AT: i64 = 821_795_696_789_012;

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    assert!(digits.len().is_multiple_of(2), "odd number of hex digits");
    digits
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex"))
        .collect()
}

/// The bytes mean the message and the message makes the bytes.
fn check(version: ProtocolVersion, message: Message<'_>, text: &str) {
    let bytes = hex(text);
    let insert_lsn = (version == V5).then(|| Lsn::new(INSERT_LSN)).flatten();
    let envelope = Envelope { insert_lsn, message };
    assert_eq!(Envelope::read(&bytes, version), Ok(envelope));
    let mut out = Vec::new();
    envelope.write(version, &mut out);
    assert_eq!(out, bytes, "{envelope:?}");
}

fn read(version: ProtocolVersion, bytes: &[u8]) -> Message<'_> {
    Envelope::read(bytes, version).unwrap_or_else(|error| panic!("{error}")).message
}

#[test]
fn frames() {
    let at = Lsn::new(END_LSN);
    let time = |text: &str| PgTime::from_micros(i64::from_str_radix(text, 16).expect("hex"));
    let data = hex("77 0000000001a3f0f8 0000000001a3f0f8 0002eb6b389be094");
    let frame = Frame::Data(Data { start: at, end: at, sent_at: time("0002eb6b389be094"), message: &[] });
    let keepalive = hex("6b 0000000001a3f0f8 0002eb6b389d6734 01");
    let alive = Frame::Keepalive(Keepalive { end: at, sent_at: time("0002eb6b389d6734"), reply_requested: true });
    for (bytes, frame) in [(data, frame), (keepalive, alive)] {
        assert_eq!(Frame::read(&bytes), Ok(frame));
        let mut out = Vec::new();
        frame.write(&mut out);
        assert_eq!(out, bytes);
        for len in 0..bytes.len() {
            assert!(Frame::read(&bytes[..len]).is_err(), "cut to {len} bytes");
        }
    }
    let bytes = hex("72 0000000001a3f0f8 0000000001a3f0f8 0000000001a3f0f8 0002eb6b389d6b1c 00");
    let sent_at = time("0002eb6b389d6b1c");
    let status = StandbyStatus { written: at, flushed: at, applied: at, sent_at, reply_requested: false };
    assert_eq!(StandbyStatus::read(&bytes), Ok(status));
    let mut out = Vec::new();
    status.write(&mut out);
    assert_eq!(out, bytes);
    for len in 0..bytes.len() {
        assert!(StandbyStatus::read(&bytes[..len]).is_err(), "cut to {len} bytes");
    }
}

#[test]
fn transactions() {
    let committed_at = PgTime::from_micros(COMMITTED_AT);
    let (commit_lsn, end_lsn) = (Lsn::new(COMMIT_LSN), Lsn::new(END_LSN));
    let begin = Message::Begin(Begin { commit_lsn, committed_at, xid: Xid(743) });
    check(V5, begin, "0000000001a3f100 42 00 0000000001a3f0c8 0002eb6b3895c614 000002e7");
    check(V4, begin, "42 00 0000000001a3f0c8 0002eb6b3895c614 000002e7");

    let local = Origin { lsn: None, id: OriginId(49708), name: Some(b"n1") };
    check(V5, Message::Origin(local), "0000000001a3f100 4f 01 0000000000000000 c22c 6e3100");
    check(V4, Message::Origin(Origin { name: None, ..local }), "4f 00 0000000000000000 c22c");
    let forwarded = Origin { lsn: Lsn::new(0x02b0_0140), id: OriginId(9057), name: Some(b"n3") };
    check(V5, Message::Origin(forwarded), "0000000001a3f100 4f 01 0000000002b00140 2361 6e3300");

    let order = Message::CommitOrder(CommitOrder { previous: None });
    check(V5, order, "0000000001a3f100 4c 00 0000000000000000");
    check(V4, order, "4c 00 0000000000000000");
    let after = Message::CommitOrder(CommitOrder { previous: Some(committed_at) });
    check(V4, after, "4c 00 0002eb6b3895c614");

    let commit = Commit { commit_lsn, end_lsn, committed_at, insert_lsn: None };
    check(V5, Message::Commit(commit), "0000000001a3f100 43 00 0000000001a3f0c8 0000000001a3f0f8 0002eb6b3895c614");
    let commit = Commit { insert_lsn: Lsn::new(INSERT_LSN), ..commit };
    check(V4, Message::Commit(commit), "43 00 0000000001a3f0c8 0000000001a3f0f8 0002eb6b3895c614 0000000001a3f100");
}

#[test]
fn relation() {
    let bytes = hex("0000000001a3f100 52 00 00004010 07 7075626c696300 03 743100 41 0003
         43 01 4e 0003 696400 00000017 ffffffff
         43 00 4e 0005 6e616d6500 00000019 ffffffff
         43 00 4e 0004 646f6300 00000019 ffffffff");
    let column = |is_key, name, oid| Column { is_key, name, type_oid: TypeOid(oid), type_mod: -1 };
    let columns = [column(true, b"id".as_slice(), 23), column(false, b"name", 25), column(false, b"doc", 25)];
    let Message::Relation(relation) = read(V5, &bytes) else { panic!("not a relation") };
    assert_eq!((relation.id, relation.schema, relation.name), (RelId(16400), b"public".as_slice(), b"t1".as_slice()));
    assert_eq!(relation.columns().collect::<Vec<_>>(), columns);
    let mut out = Vec::new();
    begin_message(&mut out, V5, Lsn::new(INSERT_LSN));
    Relation::write_of(&mut out, RelId(16400), b"public", b"t1", &columns);
    assert_eq!(out, bytes);
}

/// Reads a row message and writes it again with the streaming writers.
fn check_row(version: ProtocolVersion, kind: RowKind, parts: &[(Part, &[Datum<'_>])], text: &str) {
    let bytes = hex(text);
    let message = read(version, &bytes);
    let relation = RelId(16400);
    let got: Vec<_> = match message {
        Message::Insert(row) => vec![(row.relation, row.new)],
        Message::Update(row) => {
            row.old.map(|old| (row.relation, old.tuple())).into_iter().chain([(row.relation, row.new)]).collect()
        }
        Message::Delete(row) => vec![(row.relation, row.old.tuple())],
        other => panic!("not a row: {other:?}"),
    };
    assert_eq!(got.len(), parts.len());
    for ((id, tuple), (_, want)) in got.iter().zip(parts) {
        assert_eq!(*id, relation);
        assert_eq!(&tuple.columns().collect::<Vec<_>>(), want);
    }
    let mut out = Vec::new();
    begin_row(&mut out, version, Lsn::new(INSERT_LSN), kind, relation);
    for (part, columns) in parts {
        let mut tuple = write_tuple(&mut out, *part, columns.len() as u16);
        for column in *columns {
            match column {
                Datum::Null => tuple.null(),
                Datum::Unchanged => tuple.unchanged(),
                Datum::Internal(bytes) => tuple.internal(bytes),
                Datum::Binary(bytes) => tuple.binary(bytes),
                Datum::Text(text) => tuple.text(text),
            }
        }
    }
    assert_eq!(out, bytes);
}

#[test]
fn rows() {
    use Datum::{Binary, Internal, Null, Text, Unchanged};
    let alice = Internal(b"\x0dalice");
    check_row(
        V5,
        RowKind::Insert,
        &[(Part::New, &[Internal(&[42, 0, 0, 0]), alice, Null])],
        "0000000001a3f100 49 00 00004010 4e 54 0003 69 00000004 2a000000 69 00000006 0d616c696365 6e",
    );
    check_row(
        V4,
        RowKind::Insert,
        &[(Part::New, &[Binary(&[0, 0, 0, 42]), Binary(b"alice"), Null])],
        "49 00 00004010 4e 54 0003 62 00000004 0000002a 62 00000005 616c696365 6e",
    );
    check_row(
        V4,
        RowKind::Insert,
        &[(Part::New, &[Text(b"42"), Text(b"alice"), Null])],
        "49 00 00004010 4e 54 0003 74 00000003 343200 74 00000006 616c69636500 6e",
    );
    check_row(
        V5,
        RowKind::Update,
        &[
            (Part::Key, &[Internal(&[42, 0, 0, 0]), Null, Null]),
            (Part::New, &[Internal(&[43, 0, 0, 0]), alice, Unchanged]),
        ],
        "0000000001a3f100 55 00 00004010 4b 54 0003 69 00000004 2a000000 6e 6e
         4e 54 0003 69 00000004 2b000000 69 00000006 0d616c696365 75",
    );
    check_row(
        V4,
        RowKind::Update,
        &[(Part::New, &[Binary(&[0, 0, 0, 43]), Text(b""), Unchanged])],
        "55 00 00004010 4e 54 0003 62 00000004 0000002b 74 00000001 00 75",
    );
    check_row(
        V4,
        RowKind::Update,
        &[(Part::Old, &[Null]), (Part::New, &[Null])],
        "55 00 00004010 4f 54 0001 6e 4e 54 0001 6e",
    );
    check_row(
        V4,
        RowKind::Delete,
        &[(Part::Key, &[Binary(&[0, 0, 0, 43]), Null, Null])],
        "44 00 00004010 4b 54 0003 62 00000004 0000002b 6e 6e",
    );
}

#[test]
fn truncate() {
    let bytes = hex("0000000001a3f100 54 00000002 03 00004010 0000401c");
    let Message::Truncate(truncate) = read(V5, &bytes) else { panic!("not a truncate") };
    assert!(truncate.cascade && truncate.restart_identity);
    let relations = [RelId(0x4010), RelId(0x401c)];
    assert_eq!(truncate.relations().collect::<Vec<_>>(), relations);
    let mut out = Vec::new();
    begin_message(&mut out, V5, Lsn::new(INSERT_LSN));
    Truncate::write_of(&mut out, &relations, true, true);
    assert_eq!(out, bytes);
}

#[test]
fn sync_event() {
    let origin = NodeId::new(49708);
    let payload = Payload::SyncEvent { origin }.to_bytes();
    assert_eq!(payload.len(), 72);
    assert_eq!(Payload::read(&payload), Ok(Payload::SyncEvent { origin }));
    if cfg!(target_endian = "little") {
        assert_eq!(payload[..8], hex("03000000 2cc20000"));
    }
    let message = LogicalMessage {
        xid: None,
        lsn: Lsn::new(0x01a3_f3a0),
        transactional: false,
        prefix: MESSAGE_PREFIX,
        payload: &payload,
    };
    let tail: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
    let between = format!("0000000001a3f100 4d 00000000 0000000001a3f3a0 00 53706f636b00 00000048 {tail}");
    check(V5, Message::Logical(message), &between);
    let inside = LogicalMessage { xid: Some(Xid(743)), transactional: true, ..message };
    let text = format!("4d 000002e7 0000000001a3f3a0 01 53706f636b00 00000048 {tail}");
    check(V4, Message::Logical(inside), &text);
}

#[test]
fn payloads_that_are_none_of_ours() {
    let word = |kind: u32| kind.to_ne_bytes().to_vec();
    for (payload, bytes) in [(Payload::RepairModeOn, word(1)), (Payload::RepairModeOff, word(2))] {
        assert_eq!(payload.to_bytes(), bytes);
        assert_eq!(Payload::read(&bytes), Ok(payload));
        let longer = [bytes, vec![0]].concat();
        assert_eq!(Payload::read(&longer), Err(PayloadError::Size { got: 5 }));
    }
    assert_eq!(Payload::read(&word(4)), Err(PayloadError::Kind { got: 4 }));
    assert_eq!(Payload::read(&[3, 0, 0]), Err(PayloadError::Size { got: 3 }));
    assert_eq!(Payload::read(&word(3)), Err(PayloadError::Size { got: 4 }), "a sync event without its origin");
}

#[test]
fn startup() {
    let pairs = [("proto_version", "5"), ("encoding", "UTF8"), ("empty", "")];
    let mut bytes = Vec::new();
    spock_core::wire::control::Startup::write_of(&mut bytes, pairs);
    assert_eq!(bytes, b"S\x01proto_version\x005\x00encoding\x00UTF8\x00empty\x00\x00");
    for version in [V4, V5] {
        let Message::Startup(startup) = read(version, &bytes) else { panic!("not a startup message") };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let got: Vec<_> = startup.pairs().map(|(key, value)| (text(key), text(value))).collect();
        assert_eq!(got, pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(startup.get("encoding"), Some(b"UTF8".as_slice()));
        assert_eq!(startup.get("absent"), None);
    }
}

#[test]
fn what_is_not_the_protocol_is_refused() {
    let unexpected = |field, got| WireError::Unexpected { field, got };
    let truncated = |field| WireError::Truncated { field };
    let cases: [(&str, ProtocolVersion, &str, WireError); 18] = [
        ("no message", V4, "", truncated("type")),
        ("only a position", V5, "0000000001a3f100", truncated("type")),
        ("unknown type", V4, "58", WireError::UnknownMessage { tag: b'X' }),
        ("unknown BEGIN flags", V4, "42 01 0000000001a3f0c8 0002eb6b3895c614 000002e7", unexpected("begin flags", 1)),
        ("unknown ORIGIN flags", V4, "4f 02 0000000000000000 c22c", unexpected("origin flags", 2)),
        ("ORIGIN name without end", V5, "0000000001a3f100 4f 01 0000000000000000 c22c 6e31", truncated("origin name")),
        (
            "COMMIT of version 4 in version 5",
            V5,
            "0000000001a3f100 43 00 0000000001a3f0c8 0000000001a3f0f8 0002eb6b3895c614 0000000001a3f100",
            WireError::TrailingBytes { count: 8 },
        ),
        ("fewer columns than announced", V4, "49 00 00004010 4e 54 0003 6e 6e", truncated("column marker")),
        ("more columns than announced", V4, "49 00 00004010 4e 54 0001 6e 6e", WireError::TrailingBytes { count: 1 }),
        ("unknown marker", V4, "49 00 00004010 4e 54 0001 78 00000000", unexpected("column marker", b'x')),
        ("DELETE with a new row", V4, "44 00 00004010 4e 54 0001 6e", unexpected("row part", b'N')),
        ("UPDATE without a new row", V4, "55 00 00004010 4b 54 0001 6e", truncated("row part")),
        (
            "negative length",
            V4,
            "49 00 00004010 4e 54 0001 62 ffffffff",
            WireError::BadLength { field: "column length" },
        ),
        (
            "text without its NUL",
            V4,
            "49 00 00004010 4e 54 0001 74 00000002 3432",
            WireError::BadLength { field: "column text" },
        ),
        (
            "text with a NUL inside",
            V4,
            "49 00 00004010 4e 54 0001 74 00000003 340000",
            WireError::BadLength { field: "column text" },
        ),
        ("startup format 2", V5, "53 02", unexpected("startup format", 2)),
        ("startup key without value", V5, "53 01 656e636f64696e6700", truncated("startup value")),
        ("empty startup key", V5, "53 01 00 00", WireError::BadLength { field: "startup key" }),
    ];
    for (name, version, text, want) in cases {
        assert_eq!(Envelope::read(&hex(text), version), Err(want), "{name}");
    }
}

/// Protocol 6: a row of its own version, written at 5 on node 49708.
#[test]
fn a_row_with_a_version() {
    let bytes = hex("49 02 00004010 0000000000000005 c22c 4e 54 0001 6e");
    let Ok(Envelope { message: Message::Insert(row), .. }) = Envelope::read(&bytes, ProtocolVersion::V6) else {
        panic!("no INSERT")
    };
    let version = RowVersion { time: PgTime::from_micros(5), origin: OriginId(49708) };
    assert_eq!((row.relation, row.version, row.new.len()), (RelId(16400), Some(version), 1));
    let mut out = Vec::new();
    begin_row_with(&mut out, RowKind::Insert, row.relation, RowFlags { superseded: false, version: Some(version) });
    write_tuple(&mut out, Part::New, 1).null();
    assert_eq!(out, bytes);
}
