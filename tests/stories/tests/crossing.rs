//! Two apply workers of one node work on one key without a row at the same moment: one has written down what it knows of the key and
//! is not done, the other makes a row of it.

use spock_mesh::Mesh;
use spock_mesh::prefix::ServerKind;
use spock_mesh::story::{must, server_under_test};

const GATE: &str = "gate (id int primary key, n int not null)";

fn three(table: &str) -> Mesh {
    let mesh = Mesh::of(["n1", "n2", "n3"]).with_table(table).with_table(GATE);
    mesh.node("n1").sql("insert into gate values (1, 0)");
    mesh.settle();
    mesh
}

/// On n3, what n2 sends stops within its transaction where that changes `gate`. Then what n1 sends comes: it has to wait.
fn crossing(mesh: &Mesh) {
    let n3 = mesh.node("n3");
    let mut gate = must(n3.connect("postgres"));
    assert!(gate.run("begin; lock table gate in exclusive mode").is_ok());
    mesh.release("n2", "n3");
    n3.comes_to_read("select count(*) from pg_locks where not granted and relation = 'gate'::regclass", "1");
    mesh.release("n1", "n3");
    n3.comes_to_read("select count(*) from pg_locks where not granted and locktype = 'transactionid'", "1");
    drop(gate);
    mesh.reunite();
}

#[test]
fn d3_a_row_does_not_slip_past_a_delete_that_is_being_applied() {
    let mesh = three("t (id int primary key, what text)");
    mesh.isolate();
    mesh.node("n1").sql("insert into t values (7, 'older')");
    mesh.deliver("n1", "n2");
    mesh.node("n2").sql("begin; delete from t where id = 7; update gate set n = n + 1; commit");
    crossing(&mesh);
    mesh.every_node_reads("select count(*) from t", "0");
    mesh.same_everywhere("gate");
}

#[test]
fn d20_an_addition_does_not_slip_past_the_update_that_brings_the_row_back() {
    let mesh = three("t (id int primary key, a int not null)");
    for node in mesh.nodes() {
        if server_under_test() == ServerKind::Stock {
            node.sql("alter table t replica identity full");
        }
        node.sql("select spock.delta_apply('t', 'a')");
    }
    mesh.node("n1").sql("insert into t values (1, 100)");
    mesh.settle();
    mesh.isolate();
    mesh.node("n2").sql("begin; update t set a = a + 5; update gate set n = n + 1; commit");
    mesh.node("n3").sql("delete from t");
    mesh.node("n1").sql("update t set a = a + 7");
    crossing(&mesh);
    mesh.every_node_reads("select a from t", "112");
    mesh.same_everywhere("gate");
}
