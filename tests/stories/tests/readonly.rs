//! Nodes that take no writes: of users, or of users and other nodes.

use spock_mesh::Mesh;
use spock_mesh::node::Node;
use spock_mesh::story::must;

const STATUS: &str = "select status from spock.sub_worker_status()";

fn pair() -> Mesh {
    let mesh = Mesh::of(["n1", "n2"]).with_table("t (id int primary key, origin text)");
    mesh.everywhere("create role plain; grant all on t to plain");
    mesh
}

fn set_mode(node: &Node, mode: &str) {
    must(node.set("spock.readonly", mode));
    must(node.reload());
    node.comes_to_read("show spock.readonly", mode);
}

#[test]
fn users_cannot_write_where_changes_of_other_nodes_still_arrive() {
    let mesh = pair();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    set_mode(n2, "local");
    n1.sql("insert into t values (1, 'n1')");
    mesh.settle();
    n2.reads("select count(*) from t", "1");
    let error = n2.sql_error("set local role plain; insert into t values (2, 'n2')");
    assert_eq!(error.code, "25006", "{error}");
    n2.sql("reset role").sql("insert into t values (3, 'n2')");
    mesh.settle();
    mesh.every_node_reads("select count(*) from t", "2");
    set_mode(n2, "off");
    n2.sql("set local role plain; insert into t values (2, 'n2')");
    mesh.settle();
    mesh.every_node_reads("select count(*) from t", "3");
    mesh.logs_hold_nothing_unexpected(&["read-only transaction"]);
}

/// Sets the mode and sees to it that the worker knows: a new one reads the file.
fn stand_still(node: &Node) {
    set_mode(node, "all");
    node.with_new_worker(
        "sub_n1_n2",
        "select pg_terminate_backend(worker_pid) from spock.sub_worker_status('sub_n1_n2')",
    );
}

/// The node stands still between two transactions, and goes on where it stopped.
#[test]
fn nothing_of_other_nodes_is_applied_in_mode_all() {
    let mesh = pair();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    stand_still(n2);
    n1.sql("insert into t values (1, 'n1')");
    n2.comes_to_read(STATUS, "paused").reads("select count(*) from t", "0");
    let error = n2.sql_error("set local role plain; insert into t values (2, 'n2')");
    assert_eq!(error.code, "25006", "{error}");
    // What this node's superusers write leaves it all the same.
    n2.sql("reset role").sql("insert into t values (3, 'n2')");
    n1.comes_to_read("select count(*) from t where origin = 'n2'", "1");
    set_mode(n2, "off");
    mesh.settle();
    n2.comes_to_read(STATUS, "running");
    mesh.every_node_reads("select id from t order by id", "1\n3");
    mesh.same_everywhere("t");
}

#[test]
fn a_transaction_that_has_begun_is_applied_to_its_end() {
    let mesh = pair();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    let mut blocker = must(n2.connect("postgres"));
    assert!(blocker.run("begin; lock table t in exclusive mode").is_ok());
    n1.sql("insert into t values (1, 'n1'), (2, 'n1')");
    n2.comes_to_read("select count(*) from pg_locks where relation = 't'::regclass and not granted", "1");
    set_mode(n2, "all");
    n1.sql("insert into t values (3, 'n1')");
    drop(blocker);
    n2.comes_to_read(STATUS, "paused").reads("select id from t order by id", "1\n2");
    set_mode(n2, "off");
    mesh.settle();
    n2.reads("select count(*) from t", "3");
}

/// The provider hears of a node that stands still, so that it neither ends the connection nor is asked again.
#[test]
fn a_node_that_stands_still_keeps_its_connections() {
    let mesh = pair();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    must(n1.set("wal_sender_timeout", "20s"));
    must(n1.reload());
    stand_still(n2);
    n1.sql("insert into t select n, repeat('x', 1000) from generate_series(1, 20000) n");
    n2.comes_to_read(STATUS, "paused");
    let sender = "select pid from pg_stat_replication where application_name like '%sub_n1_n2%'";
    let pid = n1.query_one(sender);
    assert!(!pid.is_empty(), "{}", n1.query_one("select application_name from pg_stat_replication"));
    let heard = n1.query_one("select max(reply_time) from pg_stat_replication");
    n1.comes_to_read(&format!("select max(reply_time) > '{heard}'::timestamptz + '45s' from pg_stat_replication"), "t");
    n1.reads(sender, &pid);
    set_mode(n2, "off");
    mesh.settle();
    n2.reads("select count(*) from t", "20000");
}
