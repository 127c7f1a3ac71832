//! Interoperation with C nodes: the same setup and workload, decoded by our output plugin with the same client options,
//! gives the same messages with the same contents as the C extension sent when the golden streams were captured.
//!
//! What differs from server to server (positions, transaction ids, times, relation ids) is left out of the comparison.

use std::path::PathBuf;

use serde_json::Value;
use spock_mesh::{Mesh, Node, ServerKind};

use crate::wire_text;

/// The golden streams lie with the crate that reads and writes them byte for byte.
fn golden(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../core/tests/wire").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key:?}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key:?}"))
}

/// The statements of a script, blocks from `begin` to `commit` as one. None of the scripts has a semicolon in a string.
fn statements(script: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut block: Option<String> = None;
    for statement in script.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        match (block.take(), statement) {
            (None, "begin") => block = Some("begin;".to_owned()),
            (None, other) => all.push(other.to_owned()),
            (Some(open), "commit") => all.push(open + "commit"),
            (Some(open), other) => block = Some(format!("{open}{other};")),
        }
    }
    assert!(block.is_none(), "a block without commit");
    all
}

/// What a subscriber of the capture's version and mode sends with START_REPLICATION.
fn client_options(node: &Node, options: &Value) -> Vec<(&'static str, String)> {
    let number = |key: &str| options[key].as_u64().unwrap_or_else(|| panic!("no number {key:?}")).to_string();
    let major = node.query_one("select current_setting('server_version_num')::int / 100");
    vec![
        ("expected_encoding", "UTF8".into()),
        ("min_proto_version", number("mn")),
        ("max_proto_version", number("mx")),
        ("startup_params_format", "1".into()),
        ("binary.want_internal_basetypes", number("internal")),
        ("binary.want_binary_basetypes", number("binary")),
        ("binary.basetypes_major_version", major),
        ("binary.sizeof_datum", "8".into()),
        ("binary.sizeof_int", "4".into()),
        ("binary.sizeof_long", "8".into()),
        ("binary.bigendian", "0".into()),
        ("binary.float4_byval", "0".into()),
        ("binary.float8_byval", "1".into()),
        ("binary.integer_datetimes", "0".into()),
        ("hooks.setup_function", "spock.spock_hooks_setup".into()),
        ("spock.forward_origins", String::new()),
        ("spock.replication_set_names", "default,default_insert_only,ddl_sql".into()),
        ("pg_version", "170011".into()),
        ("spock_version", text(options, "sv").to_owned()),
        ("spock_version_num", number("svn")),
    ]
}

/// The messages that our plugin gives for everything since the slot was made.
fn decode(node: &Node, options: &[(&str, String)]) -> Vec<Vec<u8>> {
    let list: Vec<String> = options.iter().map(|(name, value)| format!("'{name}', '{value}'")).collect();
    let changes = format!("pg_logical_slot_peek_binary_changes('golden', null, null, {})", list.join(", "));
    node.query_one(&format!("select encode(data, 'hex') from {changes}")).lines().map(from_hex).collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| match char::from(byte).to_digit(16) {
        Some(digit) => digit.to_le_bytes()[0],
        None => panic!("byte {byte} is no hex digit"),
    };
    hex.as_bytes().chunks(2).map(|pair| (digit(pair[0]) << 4) | digit(pair[1])).collect()
}

/// Rows of the queue begin with the time at which they were written.
fn without_queue_times(mut messages: Vec<String>) -> Vec<String> {
    let mut row = None;
    for message in &mut messages {
        if message.starts_with("RELATION ") && message.contains(" spock.queue (") {
            let relation = message.split(' ').find(|word| word.starts_with('r')).map(str::to_owned);
            row = relation.map(|relation| format!("INSERT flags 0 {relation} N("));
        } else if let Some(start) = &row
            && let Some((_, rest)) = message.strip_prefix(start.as_str()).and_then(|values| values.split_once(", "))
        {
            *message = format!("{start}time, {rest}");
        }
    }
    messages
}

/// Runs a scenario on our own provider and compares every stream of it.
fn same_as_the_c_extension(name: &str) {
    same_but_for(name, |_| {});
}

/// The same, after `ours_alone` has taken out of our stream what we send on purpose and the C extension does not.
fn same_but_for(name: &str, ours_alone: impl Fn(&mut Vec<String>)) {
    let scenario = golden(name);
    let mesh = Mesh::unjoined(["n1"]);
    let node = mesh.node("n1");
    for statement in statements(text(&scenario, "setup")) {
        node.sql(&statement);
    }
    // The manager tells the first value of a new sequence in a transaction of its own, at a moment of its own.
    node.comes_to_read("select coalesce(bool_and(last_value > 1), true) from spock.sequence_state", "t");
    node.sql("select pg_create_logical_replication_slot('golden', 'spock_output')");
    // Every statement but SET is one unit of the stream: a transaction, or a message outside of one.
    let mut units = 0;
    for statement in statements(text(&scenario, "workload")) {
        node.sql(&statement);
        units += usize::from(!statement.starts_with("set "));
    }
    for stream in list(&scenario, "streams") {
        let mode = text(stream, "mode");
        let captured: Vec<Vec<u8>> =
            list(stream, "messages").iter().map(|message| from_hex(text(message, "hex"))).collect();
        let ours = decode(node, &client_options(node, &stream["options"]));
        let want = wire_text::describe(&captured, units);
        let mut got = wire_text::describe(&ours, units);
        ours_alone(&mut got);
        let (want, got) = (without_queue_times(want), without_queue_times(got));
        assert_eq!(got, want, "{name}, {mode}: got (left) is not what the C extension sent (right)");
    }
}

#[test]
fn rows_and_truncates_are_sent_as_the_c_extension_sends_them() {
    same_as_the_c_extension("dml");
}

#[test]
fn unchanged_toasted_columns_are_sent_as_the_c_extension_sends_them() {
    same_as_the_c_extension("toast");
}

#[test]
fn column_lists_and_row_filters_are_applied_as_the_c_extension_applies_them() {
    // The last statement deletes a row whose filter column is not in the identity. The C extension cannot judge the row and
    // sends nothing, which leaves it on the subscriber for ever; we send the DELETE.
    same_but_for("filters", |messages| {
        let at = messages.len().saturating_sub(2);
        assert!(messages[at].starts_with("DELETE flags 0 r0 K("), "the last transaction: {messages:?}");
        messages.remove(at);
    });
}

#[test]
fn control_messages_are_sent_as_the_c_extension_sends_them() {
    same_as_the_c_extension("control");
}

#[test]
fn old_values_of_delta_columns_are_sent_as_the_c_extension_sends_them() {
    if spock_mesh::story::server_under_test() == ServerKind::Stock {
        return spock_mesh::story::skipped(
            "golden::old_values_of_delta_columns_are_sent_as_the_c_extension_sends_them",
            "needs a patched server",
        );
    }
    same_as_the_c_extension("delta");
}
