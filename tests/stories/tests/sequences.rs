//! Sequences in replication sets: subscribers are told values ahead of use, and never go back.

use spock_mesh::Mesh;

const LAST: &str = "select last_value, is_called from s";

fn one_way(definition: &str) -> Mesh {
    let mesh = Mesh::unjoined(["n1", "n2"]);
    mesh.everywhere(&format!("create sequence s {definition}"));
    mesh.subscribe("n2", "n1", "");
    mesh
}

#[test]
fn a_sequence_that_is_added_brings_its_value_along_and_is_pushed_ahead_on_demand() {
    let mesh = one_way("");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("select nextval('s') from generate_series(1, 40)").sql("select spock.repset_add_seq('default', 's', true)");
    mesh.settle();
    n2.comes_to_read("select last_value >= 40 and is_called from s", "t");
    n1.sql("select spock.sync_seq('s')");
    mesh.settle();
    n2.reads(LAST, "1040|t").reads("select nextval('s')", "1041");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn use_of_a_sequence_is_followed_without_being_asked() {
    let mesh = one_way("");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("select spock.repset_add_seq('default', 's')");
    n2.comes_to_read("select last_value from s", "1001");
    n1.sql("select nextval('s') from generate_series(1, 5000)");
    n2.comes_to_read("select last_value >= 6000 from s", "t");
    // The step has grown with use: once, or again where a pass fell into the middle of it.
    n1.comes_to_read("select cache_size >= 2000 from spock.sequence_state", "t");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn a_value_that_lies_behind_does_not_take_a_sequence_back() {
    let mesh = one_way("");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql("select setval('s', 5000)");
    n1.sql("select spock.repset_add_seq('default', 's', true), spock.sync_seq('s')");
    mesh.settle();
    n2.reads(LAST, "5000|t");
}

#[test]
fn a_descending_sequence_moves_down() {
    let mesh = one_way("increment -2");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("select nextval('s')").sql("select spock.repset_add_seq('default', 's'), spock.sync_seq('s')");
    mesh.settle();
    n2.reads(LAST, "-2001|t");
    n2.sql("select setval('s', -9001)");
    n1.sql("select nextval('s')").sql("select spock.sync_seq('s')");
    mesh.settle();
    n2.reads(LAST, "-9001|t");
}

#[test]
fn two_nodes_with_one_sequence_do_not_drive_each_other() {
    let mesh = Mesh::of(["n1", "n2"]);
    mesh.everywhere("create sequence s");
    mesh.everywhere("select spock.repset_add_seq('default', 's')");
    mesh.node("n1").sql("select nextval('s') from generate_series(1, 10)").sql("select spock.sync_seq('s')");
    mesh.settle();
    // Each node's manager has looked at the sequence since: what it says then was not taken for use of its own.
    for node in mesh.nodes() {
        node.comes_to_read("select last_value >= (select last_value from s) + 500 from spock.sequence_state", "t");
    }
    mesh.settle();
    for node in mesh.nodes() {
        node.reads("select last_value < 5000 from s", "t");
    }
}

#[test]
fn a_sequence_that_is_missing_stops_the_subscription_until_it_is_there() {
    let mesh = one_way("");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql("drop sequence s");
    n1.sql("select spock.repset_add_seq('default', 's', true)");
    n2.comes_to_read("select status from spock.sub_show_status()", "disabled");
    n2.comes_to_log("whose value the provider sent, does not exist");
    n2.sql("create sequence s").sql("select spock.sub_enable('sub_n1_n2')");
    n2.comes_to_read("select is_called from s", "t");
    mesh.settle();
}
