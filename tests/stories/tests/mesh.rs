//! A mesh of three: every change reaches every node once and carries the node where it was made.

use spock_mesh::Mesh;

#[test]
fn each_change_is_applied_once_on_each_of_three_nodes() {
    let mesh = Mesh::of(["n1", "n2", "n3"]).with_table_in("default_insert_only", "event (id int, by text)");
    for node in mesh.nodes() {
        node.sql(&format!("insert into event select n, '{}' from generate_series(1, 100) n", node.name()));
    }
    mesh.settle();
    // A change that went round would be applied by now or after one more round.
    mesh.settle();
    mesh.every_node_reads(
        "select by, count(*), count(distinct id) from event group by by order by by",
        "n1|100|100\nn2|100|100\nn3|100|100",
    );
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn a_row_carries_the_time_and_node_of_its_writer_on_all_nodes() {
    let mesh = Mesh::of(["n1", "n2", "n3"]).with_table("acct (id int primary key)");
    for (n, node) in mesh.nodes().iter().enumerate() {
        node.sql(&format!("insert into acct values ({n})"));
    }
    mesh.settle();
    for (n, writer) in mesh.nodes().iter().enumerate() {
        let time = writer.query_one(&format!("select pg_xact_commit_timestamp(xmin) from acct where id = {n}"));
        let node_id = writer.query_one("select node_id from spock.node_info()");
        for reader in mesh.nodes() {
            let ask = format!(
                "select o.timestamp, o.roident from acct, pg_xact_commit_timestamp_origin(xmin) o where id = {n}"
            );
            let origin = if reader.name() == writer.name() { "0" } else { &node_id };
            reader.reads(&ask, &format!("{time}|{origin}"));
        }
    }
}

#[test]
fn three_nodes_that_write_the_same_rows_end_equal() {
    let mesh = Mesh::of(["n1", "n2", "n3"]).with_table("acct (id int primary key, by text)");
    mesh.node("n1").sql("insert into acct select n, 'none' from generate_series(1, 20) n");
    mesh.settle();
    let write = |name: &'static str| {
        spock_mesh::writer::Writer::start(mesh.node(name), 1, move |n| {
            format!("update acct set by = '{name}' where id = {}", n % 20 + 1)
        })
    };
    let writers = ["n1", "n2", "n3"].map(write);
    for writer in &writers {
        writer.wait_for_more(200);
    }
    for writer in writers {
        writer.finish();
    }
    mesh.settle();
    assert_eq!(mesh.same_everywhere("acct").rows, 20);
}
