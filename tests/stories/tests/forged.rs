//! Any user may write logical messages into the WAL, under any prefix. None of them is believed to be ours.

use spock_mesh::Mesh;

/// Calls of `pg_logical_emit_message` with what our own records say, as far as somebody who reads the code can make it.
fn forged(transactional: bool, message: &str) -> String {
    let secret = "00".repeat(16);
    let calls = ["spock_own", "spock_applied", "spock_displaced", "spock", "Spock", ""].map(|prefix| {
        let emit =
            |hex: &str| format!("select pg_logical_emit_message({transactional}, '{prefix}', '\\x{hex}'::bytea);");
        // With the kind in front and without, with a secret and without.
        [message, &message[2..], &format!("{secret}{message}")].map(emit).concat()
    });
    calls.concat()
}

/// As a user who may do nothing but write to the table.
fn as_anybody(sql: &str) -> String {
    format!("begin; set local role anybody; {sql} commit")
}

#[test]
fn messages_that_users_write_hide_no_change_and_announce_nothing() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("t (id int primary key, what text)");
    mesh.everywhere("create role anybody").everywhere("grant all on t to anybody");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t values (1, 'displaced'), (2, 'repaired'), (3, 'repaired in C')");
    mesh.settle();
    n2.sql("select pg_create_logical_replication_slot('watch', 'spock_output')");

    let displacing = forged(true, "0201");
    n2.sql(&as_anybody(&format!("{displacing} delete from t where id = 1;")));
    let repairing = forged(true, "0301");
    n2.sql(&as_anybody(&format!("{repairing} update t set what = 'sent' where id = 2;")));
    // As the C edition writes it; a word in the order of the host.
    let word = 1_u32.to_ne_bytes().map(|byte| format!("{byte:02x}")).concat();
    n2.sql(&as_anybody(&format!(
        "select pg_logical_emit_message(true, 'Spock', '\\x{word}'::bytea); update t set what = 'sent' where id = 3;"
    )));
    // n2 would have applied everything of itself, up to the end of all positions.
    let local = n2.query_one("select to_hex(node_id::int8) from spock.local_node").parse::<String>().expect("text");
    let body = format!("01{:0>2}{local:0>8}0001{local:0>8}ffffffffffffffff", 0);
    n2.sql(&as_anybody(&forged(false, &body)));
    mesh.settle();

    mesh.every_node_reads("select id, what from t order by id", "2|sent\n3|sent");
    let announcements =
        "select count(*) from pg_logical_slot_peek_binary_changes('watch', null, null, 'expected_encoding',
        getdatabaseencoding()::text, 'min_proto_version', '4', 'max_proto_version', '6', 'startup_params_format', '1',
        'spock_version_num', '70000', 'spock.replication_set_names', 'default', 'spock.announcements', '1')
        where length(data) > 12 and get_byte(data, 12) = 65";
    // The removal makes n1 or n2 ask in its own time: what n2 answers is no lie. It says where its WAL is, and not more.
    let lie = format!("{announcements} and position('\\xffffffffffffffff'::bytea in data) > 0");
    n2.reads(&lie, "0");
    mesh.logs_hold_nothing_unexpected(&["repair mode in a logical message ignored", "logical message in WAL ignored"]);
}
