//! A stream of protocol 4 or 5 as comparable lines of text, read independently of the code that wrote it.
//!
//! Left out: positions, transaction ids, times, process ids and versions of the server. Relation ids become the order of
//! their first use. What must agree within a stream (BEGIN and COMMIT, lengths, nothing left over) is asserted.

/// Keys of the startup message whose values say something about the server rather than about the protocol.
const OF_THE_SERVER: [&str; 9] = [
    "max_proto_version",
    "pg_version_num",
    "pg_version",
    "pg_catversion",
    "walsender_pid",
    "spock_version",
    "spock_version_num",
    "binary.basetypes_major_version",
    "binary.binary_pg_version",
];

/// The lines of a stream of so many units: transactions, and messages outside of one.
pub fn describe(messages: &[Vec<u8>], units: usize) -> Vec<String> {
    let mut stream = Stream { version: 4, relations: Vec::new(), begun: None };
    let mut lines = Vec::new();
    let mut found = 0;
    for message in messages {
        found += usize::from(stream.begun.is_none() && !is_startup(message));
        lines.push(stream.line(message));
    }
    assert_eq!(found, units, "units of the stream");
    lines
}

/// `S`, format 1: in protocol 5 the only message without a position in front.
fn is_startup(message: &[u8]) -> bool {
    message.starts_with(b"S\x01")
}

struct Stream {
    version: u32,
    /// Relation ids in the order of their first use.
    relations: Vec<u32>,
    /// Position and time of the open transaction's BEGIN.
    begun: Option<(u64, u64)>,
}

impl Stream {
    fn line(&mut self, message: &[u8]) -> String {
        let mut reader = Reader { rest: message };
        if is_startup(message) {
            return self.startup(&mut reader);
        }
        if self.version >= 5 {
            reader.u64();
        }
        let tag = reader.u8();
        let line = match tag {
            b'B' => self.begin(&mut reader),
            b'C' => self.commit(&mut reader),
            b'O' => origin(&mut reader),
            b'L' => format!("ORDER flags {} after {}", reader.u8(), reader.u64()),
            b'R' => self.relation(&mut reader),
            b'I' => format!("INSERT {}", self.change(&mut reader)),
            b'U' => format!("UPDATE {}", self.change(&mut reader)),
            b'D' => format!("DELETE {}", self.change(&mut reader)),
            b'T' => self.truncate(&mut reader),
            b'M' => logical_message(&mut reader),
            other => panic!("unknown message {:?}", char::from(other)),
        };
        assert!(reader.rest.is_empty(), "{line}: {} bytes left over", reader.rest.len());
        line
    }

    fn startup(&mut self, reader: &mut Reader<'_>) -> String {
        reader.take(2);
        let mut pairs = Vec::new();
        while !reader.rest.is_empty() {
            let (key, value) = (reader.cstr(), reader.cstr());
            if key == "proto_version" {
                self.version = value.parse().expect("a protocol version");
            }
            pairs.push(if OF_THE_SERVER.contains(&key.as_str()) { key } else { format!("{key}={value}") });
        }
        format!("STARTUP {}", pairs.join(" "))
    }

    fn begin(&mut self, reader: &mut Reader<'_>) -> String {
        let (flags, lsn, time, xid) = (reader.u8(), reader.u64(), reader.u64(), reader.u32());
        assert!(self.begun.is_none() && lsn > 0 && xid > 0, "BEGIN at {lsn} of {xid}");
        self.begun = Some((lsn, time));
        format!("BEGIN flags {flags}")
    }

    fn commit(&mut self, reader: &mut Reader<'_>) -> String {
        let (flags, lsn, end, time) = (reader.u8(), reader.u64(), reader.u64(), reader.u64());
        assert_eq!(self.begun.take(), Some((lsn, time)), "COMMIT repeats position and time of BEGIN");
        assert!(end > lsn, "the commit record ends behind its start");
        if self.version == 4 {
            assert!(reader.u64() > 0, "the provider's position");
        }
        format!("COMMIT flags {flags}")
    }

    fn relation_name(&mut self, id: u32) -> String {
        let at = self.relations.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.relations.push(id);
            self.relations.len() - 1
        });
        format!("r{at}")
    }

    fn relation(&mut self, reader: &mut Reader<'_>) -> String {
        let flags = reader.u8();
        let id = reader.u32();
        let relation = self.relation_name(id);
        let (schema_bytes, schema) = (reader.u8(), reader.cstr());
        let (table_bytes, table) = (reader.u8(), reader.cstr());
        assert_eq!((usize::from(schema_bytes), usize::from(table_bytes)), (schema.len() + 1, table.len() + 1));
        assert_eq!(reader.u8(), b'A');
        let columns: Vec<String> = (0..reader.u16()).map(|_| column(reader)).collect();
        format!("RELATION flags {flags} {relation} {schema}.{table} ({})", columns.join(", "))
    }

    fn change(&mut self, reader: &mut Reader<'_>) -> String {
        let flags = reader.u8();
        let id = reader.u32();
        let mut line = format!("flags {flags} {}", self.relation_name(id));
        while !reader.rest.is_empty() {
            let part = char::from(reader.u8());
            line.push_str(&format!(" {part}({})", tuple(reader)));
        }
        line
    }

    fn truncate(&mut self, reader: &mut Reader<'_>) -> String {
        let (count, flags) = (reader.u32(), reader.u8());
        let relations: Vec<String> = (0..count).map(|_| reader.u32()).map(|id| self.relation_name(id)).collect();
        format!("TRUNCATE flags {flags} {}", relations.join(" "))
    }
}

fn origin(reader: &mut Reader<'_>) -> String {
    let (flags, lsn, id) = (reader.u8(), reader.u64(), reader.u16());
    let name = if flags & 1 == 1 { reader.cstr() } else { "-".to_owned() };
    format!("ORIGIN flags {flags} at {lsn} node {id} {name}")
}

fn column(reader: &mut Reader<'_>) -> String {
    assert_eq!(reader.u8(), b'C');
    let flags = reader.u8();
    assert_eq!(reader.u8(), b'N');
    let (bytes, name) = (reader.u16(), reader.cstr());
    assert_eq!(usize::from(bytes), name.len() + 1);
    format!("{name} flags {flags} type {} {}", reader.u32(), reader.u32().cast_signed())
}

fn tuple(reader: &mut Reader<'_>) -> String {
    assert_eq!(reader.u8(), b'T');
    let value = |reader: &mut Reader<'_>| match reader.u8() {
        b'n' => "null".to_owned(),
        b'u' => "unchanged".to_owned(),
        b't' => {
            let bytes = reader.u32();
            let text = reader.cstr();
            assert_eq!(bytes as usize, text.len() + 1);
            format!("t {text:?}")
        }
        kind @ (b'i' | b'b') => {
            let bytes = reader.u32() as usize;
            format!("{} {}", char::from(kind), hex(reader.take(bytes)))
        }
        other => panic!("unknown kind of value {:?}", char::from(other)),
    };
    let count = reader.u16();
    (0..count).map(|_| value(reader)).collect::<Vec<_>>().join(", ")
}

fn logical_message(reader: &mut Reader<'_>) -> String {
    let (xid, lsn, transactional, prefix) = (reader.u32(), reader.u64(), reader.u8(), reader.cstr());
    assert_eq!(xid > 0, transactional == 1, "a transaction id goes with transactional messages only");
    assert!(lsn > 0, "a message has a position");
    let bytes = reader.u32() as usize;
    format!("MESSAGE transactional {transactional} {prefix} {}", hex(reader.take(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(count).expect("the message is longer");
        self.rest = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("N bytes were taken")
    }

    fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.array())
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    fn cstr(&mut self) -> String {
        let end = self.rest.iter().position(|byte| *byte == 0).expect("the text ends");
        let text = String::from_utf8_lossy(self.take(end)).into_owned();
        self.take(1);
        text
    }
}

#[test]
fn every_message_is_a_line_and_units_are_counted() {
    let begin = |lsn: u8| [b"B\0".as_slice(), &[0, 0, 0, 0, 0, 0, 0, lsn], &[9; 8], &[0, 0, 0, 1]].concat();
    let commit = |lsn: u8| [b"C\0".as_slice(), &[0, 0, 0, 0, 0, 0, 0, lsn], &[1; 8], &[9; 8], &[1; 8]].concat();
    let stream = [begin(1), commit(1), begin(2), b"L\0\0\0\0\0\0\0\0\0".to_vec(), commit(2)];
    let lines = ["BEGIN flags 0", "COMMIT flags 0", "BEGIN flags 0", "ORDER flags 0 after 0", "COMMIT flags 0"];
    assert_eq!(describe(&stream, 2), lines);
}
