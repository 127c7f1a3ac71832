//! A subscription that was disabled goes on where it stopped.

use spock_mesh::Mesh;

#[test]
fn what_was_written_while_disabled_arrives_after_enabling() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    mesh.node("n1").sql("insert into acct values (1, 1)");
    mesh.settle();
    mesh.cut("n1", "n2");
    mesh.node("n2").reads("select distinct status from spock.sub_show_status()", "disabled");
    mesh.node("n1").sql("insert into acct select n, n from generate_series(2, 1000) n");
    mesh.node("n1").sql("update acct set bal = 0 where id = 1");
    mesh.node("n2").reads("select count(*) from acct", "1");
    mesh.heal("n1", "n2").settle();
    mesh.every_node_reads("select count(*), sum(bal) from acct", "1000|500499");
    mesh.same_everywhere("acct");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn disabling_and_enabling_under_load_loses_and_repeats_nothing() {
    let mesh = Mesh::of(["n1", "n2"]).with_table_in("default_insert_only", "event (id bigint)");
    let writer = spock_mesh::writer::Writer::start(mesh.node("n1"), 1, |n| format!("insert into event values ({n})"));
    for _round in 0..3 {
        writer.wait_for_more(50);
        mesh.cut("n1", "n2");
        writer.wait_for_more(50);
        mesh.heal("n1", "n2");
    }
    let ledger = writer.finish();
    mesh.settle();
    for node in mesh.nodes() {
        ledger.check_exactly_once(node, "select id from event");
    }
    mesh.same_everywhere("event");
}

#[test]
fn enabling_and_disabling_twice_is_no_error() {
    let mesh = Mesh::of(["n1", "n2"]);
    let n2 = mesh.node("n2");
    n2.reads("select spock.sub_enable('sub_n1_n2')", "t");
    n2.reads("select spock.sub_disable('sub_n1_n2')", "t");
    n2.reads("select spock.sub_disable('sub_n1_n2')", "t");
    n2.comes_to_read("select status from spock.sub_show_status('sub_n1_n2')", "disabled");
    n2.reads("select spock.sub_enable('sub_n1_n2')", "t");
    n2.comes_to_read("select status from spock.sub_show_status('sub_n1_n2')", "replicating");
}

#[test]
fn immediate_inside_a_transaction_block_is_refused() {
    let mesh = Mesh::of(["n1", "n2"]);
    let n2 = mesh.node("n2");
    let error = n2.sql_error("begin; select spock.sub_disable('sub_n1_n2', true); commit");
    assert_eq!(error.code, "25001", "{error}");
    n2.sql("rollback").reads("select sub_enabled from spock.subscription", "t");
}
