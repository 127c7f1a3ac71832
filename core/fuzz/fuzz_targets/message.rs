//! Any bytes as a message of either protocol version: no panic, every column can be walked, and what is read is written
//! again to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spock_core::wire::row::Tuple;
use spock_core::wire::{Envelope, Message, ProtocolVersion};

fn walk(tuple: Tuple<'_>) {
    assert_eq!(tuple.columns().count(), tuple.len());
}

fuzz_target!(|bytes: &[u8]| {
    for version in ProtocolVersion::ALL {
        let Ok(envelope) = Envelope::read(bytes, version) else { continue };
        match &envelope.message {
            Message::Insert(row) => walk(row.new),
            Message::Update(row) => {
                row.old.iter().for_each(|old| walk(old.tuple()));
                walk(row.new);
            }
            Message::Delete(row) => walk(row.old.tuple()),
            Message::Relation(relation) => assert_eq!(relation.columns().count(), relation.column_count()),
            Message::Truncate(truncate) => assert_eq!(truncate.relations().count(), truncate.relations().len()),
            _ => {}
        }
        let mut again = Vec::new();
        envelope.write(version, &mut again);
        assert_eq!(again, bytes, "{envelope:?}");
    }
});
