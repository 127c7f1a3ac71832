//! What is remembered of removed keys, for how long, and what it costs. How removals and writes end is in `cases`.

use spock_mesh::story::must;
use spock_mesh::{Mesh, Stop};

const TABLE: &str = "t (id int primary key, v text)";

/// How many slots keep removed rows: the server makes one for its first subscription, whose worker waits a few seconds for it.
const SLOT: &str = "select count(*) from pg_replication_slots where slot_name = 'spock_tombstones'";

/// Nodes that remember what is removed from here on.
fn nodes<const N: usize>(names: [&str; N]) -> Mesh {
    let mesh = Mesh::of(names).with_table(TABLE);
    for node in mesh.nodes() {
        node.comes_to_read(SLOT, "1");
    }
    mesh
}

fn three() -> Mesh {
    nodes(["n1", "n2", "n3"])
}

fn rows(mesh: &Mesh, want: &str) {
    mesh.every_node_reads("select coalesce(string_agg(id || v, ',' order by id), 'none') from t", want);
}

fn with_rows() -> Mesh {
    let mesh = three();
    mesh.node("n1").sql("insert into t values (1, 'a'), (2, 'a')");
    mesh.settle();
    mesh.isolate();
    mesh
}

/// The dead row is what tells: vacuum leaves it, and a row that the delete found here is not brought back.
#[test]
fn a_deleted_row_stays_deleted_although_vacuum_has_run() {
    let mesh = with_rows();
    mesh.node("n2").sql("update t set v = 'b'");
    let n1 = mesh.node("n1");
    n1.sql("delete from t where id = 1").sql("vacuum (freeze) t");
    n1.reads("select kept_from is not null, relations from spock.tombstone_status()", "t|1");
    mesh.reunite();
    rows(&mesh, "2b");
}

/// The third node deletes what it got, and then hears of an older update.
#[test]
fn a_replicated_delete_is_remembered_on_the_node_that_applied_it() {
    let mesh = with_rows();
    mesh.node("n2").sql("update t set v = 'b'");
    mesh.node("n1").sql("delete from t where id = 1");
    mesh.deliver("n1", "n3");
    mesh.node("n3").sql("vacuum (freeze) t");
    mesh.deliver("n2", "n3");
    mesh.node("n3").reads("select string_agg(id || v, ',' order by id) from t", "2b");
    mesh.reunite();
    rows(&mesh, "2b");
}

/// The third node gets the key's change before the row itself, and before another node's older update of it.
#[test]
fn a_key_that_is_inserted_again_after_its_delete_is_there() {
    let mesh = with_rows();
    mesh.node("n1").sql("delete from t where id = 1").sql("insert into t values (1, 'again')");
    mesh.node("n2").sql("delete from t where id = 2");
    mesh.reunite();
    rows(&mesh, "1again");
}

#[test]
fn the_slot_goes_with_the_last_subscription() {
    let mesh = nodes(["n1", "n2"]);
    let n1 = mesh.node("n1");
    n1.sql("select spock.sub_drop(sub_name) from spock.subscription");
    n1.comes_to_read(SLOT, "0");
    n1.reads("select count(*) from spock.tombstone_status()", "0");
}

/// After the retention nothing is kept any more, and vacuum takes the dead rows.
#[test]
fn what_is_remembered_goes_after_its_time() {
    let mesh = nodes(["n1", "n2"]);
    let n1 = mesh.node("n1");
    n1.sql("insert into t select g, 'a' from generate_series(1, 100) g");
    // The other node could say that it has the deletions.
    mesh.isolate();
    n1.sql("delete from t where id > 1");
    n1.reads("select kept_from is not null from spock.tombstone_status()", "t");
    must(n1.set("spock.tombstone_retention", "0"));
    must(n1.reload());
    n1.comes_to_read("select kept_from is null, relations, written from spock.tombstone_status()", "t|0|0");
    n1.vacuum("t");
}

/// Every node has said that it has the deletion: nothing is kept, long before the retention is over. While one is down, it is
/// waited for.
#[test]
fn what_is_remembered_goes_once_all_nodes_have_it() {
    let mesh = three();
    let (n1, n3) = (mesh.node("n1"), mesh.node("n3"));
    n1.sql("insert into t select g, 'a' from generate_series(1, 100) g");
    mesh.settle();
    n1.sql("delete from t where id = 1");
    n1.comes_to_read("select kept_from is null, relations from spock.tombstone_status()", "t|0");
    mesh.node("n2").comes_to_read("select kept_from is null, relations from spock.tombstone_status()", "t|0");
    let id = n3.query_one("select node_id from spock.local_node");
    must(n3.stop(Stop::Fast));
    n1.sql("delete from t where id = 2");
    n1.comes_to_read("select kept_from is not null, waits_for from spock.tombstone_status()", &format!("t|{id}"));
    n3.start_again();
    n1.comes_to_read("select kept_from is null, waits_for is null from spock.tombstone_status()", "t|t");
    mesh.settle();
    mesh.same_everywhere("t");
}
