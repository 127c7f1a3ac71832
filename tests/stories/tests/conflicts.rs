//! The same key written on two nodes that cannot see each other: the later version is on both afterwards.

use spock_mesh::Mesh;

fn accounts() -> Mesh {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    mesh.node("n1").sql("insert into acct values (1, 100)");
    mesh.settle();
    mesh
}

/// Both sides of a partition update the same row. After healing, both hold the later value.
fn later_update_wins(first: (&str, u32), second: (&str, u32)) {
    let mesh = accounts();
    mesh.cut("n1", "n2");
    mesh.node(first.0).sql(&format!("update acct set bal = {}", first.1));
    mesh.node(second.0).sql(&format!("update acct set bal = {}", second.1));
    mesh.heal("n1", "n2").settle();
    mesh.every_node_reads("select bal from acct", &second.1.to_string());
    mesh.same_everywhere("acct");
}

#[test]
fn the_later_update_of_n2_wins_on_both() {
    later_update_wins(("n1", 110), ("n2", 120));
}

#[test]
fn the_later_update_of_n1_wins_on_both() {
    later_update_wins(("n2", 120), ("n1", 110));
}

#[test]
fn the_later_insert_of_one_key_wins_on_both() {
    let mesh = accounts();
    mesh.cut("n1", "n2");
    mesh.node("n1").sql("insert into acct values (2, 1), (3, 1)");
    mesh.node("n2").sql("insert into acct values (2, 2)");
    mesh.node("n2").sql("insert into acct values (4, 2)");
    mesh.node("n1").sql("insert into acct values (4, 1)");
    mesh.heal("n1", "n2").settle();
    mesh.every_node_reads("select * from acct order by id", "1|100\n2|2\n3|1\n4|1");
}

#[test]
fn an_update_after_the_others_later_one_arrived_wins_again() {
    let mesh = accounts();
    for (round, name) in ["n1", "n2", "n1", "n2"].iter().enumerate() {
        mesh.node(name).sql(&format!("update acct set bal = {round} where id = 1"));
        mesh.settle();
        mesh.every_node_reads("select bal from acct", &round.to_string());
    }
}

#[test]
fn updates_of_different_rows_in_one_transaction_are_judged_row_by_row() {
    let mesh = accounts();
    mesh.node("n1").sql("insert into acct values (2, 100), (3, 100)");
    mesh.settle();
    mesh.cut("n1", "n2");
    mesh.node("n1").sql("update acct set bal = 111 where id in (1, 2)");
    mesh.node("n2").sql("update acct set bal = 222 where id in (2, 3)");
    mesh.node("n1").sql("update acct set bal = 333 where id = 3");
    mesh.heal("n1", "n2").settle();
    mesh.every_node_reads("select * from acct order by id", "1|111\n2|222\n3|333");
}

/// Both nodes hammer the same ten rows at the same time; whatever happened, they end equal.
#[test]
fn nodes_that_write_the_same_rows_at_once_end_equal() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("hot (id int primary key, by text, n int)");
    mesh.node("n1").sql("insert into hot select n, 'none', 0 from generate_series(1, 10) n");
    mesh.settle();
    let write = |name: &'static str| {
        spock_mesh::writer::Writer::start(mesh.node(name), 1, move |n| {
            format!("update hot set by = '{name}', n = {n} where id = {}", n % 10 + 1)
        })
    };
    let writers = [write("n1"), write("n2")];
    for writer in &writers {
        writer.wait_for_more(500);
    }
    for writer in writers {
        writer.finish();
    }
    mesh.settle();
    assert_eq!(mesh.same_everywhere("hot").rows, 10);
}

/// Equal commit times are made with a clock that stands still while each node writes alone. A patched server adds a
/// microsecond instead; then the times only nearly tie, and the nodes must end equal all the same.
#[test]
fn a_tie_ends_equal_on_both() {
    let mesh = accounts();
    let soon = mesh.node("n1").query_one("select to_char(clock_timestamp() + interval '1 s', 'YYYY-MM-DD HH24:MI:SS')");
    if !mesh.nodes().iter().all(|node| node.freeze_clock(&soon)) {
        return spock_mesh::story::skipped("conflicts::a_tie_ends_equal_on_both", "libfaketime is not installed");
    }
    mesh.cut("n1", "n2");
    for (name, bal) in [("n1", 110), ("n2", 120)] {
        let node = mesh.node(name);
        node.restart_fast();
        node.sql(&format!("update acct set bal = {bal}"));
    }
    for node in mesh.nodes() {
        node.move_clock(0);
        node.restart_fast();
    }
    mesh.heal("n1", "n2").settle();
    mesh.same_everywhere("acct");
}
