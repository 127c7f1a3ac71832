//! D3, D23: a node joins while changes of a third one are on their way that are older than what it copies.

use spock_mesh::story::{must, server_under_test};
use spock_mesh::topology::literal;
use spock_mesh::{Mesh, ServerKind};

/// n1 and n2 write to each other; n3 is to copy from n1, and what n2 writes from here on waits for it.
fn two_and_one_to_come() -> Mesh {
    let mesh = Mesh::unjoined(["n1", "n2", "n3"]);
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    for node in [n1, n2] {
        node.sql("create table t (id int primary key, v text); create table gone (id int primary key)")
            .sql("create table one (id int primary key, dropped int, n int unique, v text)")
            .sql("alter table one drop dropped")
            .sql("select spock.repset_add_all_tables('default', '{public}')");
    }
    mesh.subscribe("n1", "n2", "").subscribe("n2", "n1", "");
    n1.sql("insert into t select id, 'old' from generate_series(1, 5) id");
    mesh.settle();
    n3.sql(&format!("select spock.sub_create('sub_n2_n3', {}, enabled := false)", literal(&n2.dsn())));
    n2.sql(&format!(
        "select pg_create_logical_replication_slot({}, 'spock_output')",
        literal(&mesh.slot_of("n3", "sub_n2_n3"))
    ));
    n2.sql("update t set v = 'n2' where id = 5");
    mesh.settle_between("n2", "n1", "sub_n2_n1");
    mesh
}

/// n3 gets from n2 what n1 had not when it was copied, and all nodes read each other.
fn complete(mesh: &Mesh) {
    let n3 = mesh.node("n3");
    let told = n3.query_one(
        "select p.remote_commit_lsn from spock.progress p join spock.node n on n.node_id = p.remote_node_id
          where n.node_name = 'n2' and p.node_id = (select node_id from spock.local_node)",
    );
    let slot = mesh.slot_of("n3", "sub_n2_n3");
    n3.sql(&format!("select pg_replication_origin_advance({}, {})", literal(&slot), literal(&told)))
        .sql("select spock.sub_enable('sub_n2_n3')");
    mesh.settle_between("n2", "n3", "sub_n2_n3");
}

const ROWS: &str = "select string_agg(id || v, ' ' order by id) from t";

#[test]
fn d23_an_older_change_of_a_third_node_loses_against_copied_rows_and_removals_too() {
    let mesh = two_and_one_to_come();
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    mesh.hold("n1", "n2").hold("n2", "n1");
    n1.sql("update t set v = 'first' where id = 2");
    n2.sql("update t set v = 'older' where id in (1, 3)")
        .sql("update t set v = 'later' where id = 2")
        .sql("insert into t values (6, 'older'), (7, 'older')")
        .sql("insert into gone values (1)");
    n1.sql("update t set v = 'newer' where id = 1; insert into t values (6, 'newer')")
        .sql("delete from t where id = 3")
        .sql("insert into t values (7, 'gone'); delete from t where id = 7")
        .sql("truncate gone");
    mesh.subscribe("n3", "n1", ", synchronize_structure := true, synchronize_data := true");
    n3.reads(ROWS, "1newer 2first 4old 5n2 6newer");
    complete(&mesh);
    n3.reads(ROWS, "1newer 2later 4old 5n2 6newer").reads("select count(*) from gone", "0");
    for table in ["t", "gone"] {
        n3.sql(&format!("select spock.repset_add_table('default', '{table}')"));
    }
    mesh.subscribe("n1", "n3", "").subscribe("n2", "n3", "").release("n1", "n2").release("n2", "n1").settle();
    mesh.every_node_reads(ROWS, "1newer 2later 4old 5n2 6newer").every_node_reads("select count(*) from gone", "0");
    resynchronized(&mesh);
}

/// The same for a table that is copied again: n2's change is on its way to n3 alone.
fn resynchronized(mesh: &Mesh) {
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    mesh.hold("n2", "n3").hold("n2", "n1").hold("n1", "n2");
    n2.sql("update t set v = 'older' where id in (1, 4)");
    n1.sql("update t set v = 'newest' where id = 1; delete from t where id = 4");
    mesh.settle_between("n1", "n3", "sub_n1_n3");
    n3.sql("select spock.sub_resync_table('sub_n1_n3', 't')").sql("select spock.table_wait_for_sync('sub_n1_n3', 't')");
    mesh.reunite();
    mesh.every_node_reads(ROWS, "1newest 2later 5n2 6newer");
}

/// Three rows hold one value, and the older ones are displaced. What the provider calls settled is copied as it ever was. A transaction
/// that runs while it is asked keeps what came after it.
#[test]
fn rows_that_are_settled_are_copied_without_their_versions() {
    let mesh = two_and_one_to_come();
    let (n1, n3) = (mesh.node("n1"), mesh.node("n3"));
    mesh.hold("n1", "n2").hold("n2", "n1");
    n1.sql("insert into one values (1, 7, 'a')");
    mesh.node("n2").sql("insert into one values (2, 7, 'b')");
    mesh.release("n1", "n2").release("n2", "n1").settle_between("n2", "n1", "sub_n2_n1");
    // Row 0 is newer than row 1, and older than what makes row 2 outlive its DELETE.
    mesh.hold("n1", "n2").hold("n2", "n1");
    n1.sql("begin; delete from one where id = 2; insert into one values (0, 7, 'd'); commit");
    mesh.node("n2").sql("update one set v = 'b' where id = 2");
    mesh.release("n1", "n2").release("n2", "n1").settle_between("n2", "n1", "sub_n2_n1");
    n1.reads("select string_agg(id::text, ' ') from one", "2");
    let mut running = must(n1.connect("postgres"));
    assert!(running.run("begin; insert into gone values (9)").is_ok(), "the table is free");
    n1.sql("update t set v = 'new' where id = 1").sql("delete from t where id = 2");
    n3.sql(&format!(
        "select spock.sub_create('sub_n1_n3', {}, synchronize_structure := true, synchronize_data := true)",
        literal(&n1.dsn())
    ));
    let waits =
        "select count(*) from pg_stat_activity where backend_type = 'walsender' and wait_event = 'transactionid'";
    n1.comes_to_read(waits, "1");
    assert!(running.run("commit").is_ok(), "nothing is in its way");
    n3.sql("select spock.sub_wait_for_sync('sub_n1_n3')");
    n3.reads(ROWS, "1new 3old 4old 5n2");
    let kept = match server_under_test() {
        ServerKind::Patched => {
            "select string_agg(id::text, ' ' order by id) from t where pg_xact_commit_timestamp(xmin) > '2000-01-01'"
        }
        ServerKind::Stock => {
            "select string_agg(id::text, ' ' order by id) from t
              where t.xmin::text in (select written_by::text from spock.row_version)"
        }
    };
    n3.reads(kept, "1").reads("select count(*) from spock.tombstone", "1");
    let one = "select string_agg(id || v, ' ') from one";
    let displaced = "select string_agg(row_values[1], ' ' order by version_time desc) from spock.displaced_row";
    n3.reads(one, "2b").reads(displaced, "0 1");
    n1.sql("delete from one where id = 2");
    n3.comes_to_read(one, "0d");
    n1.comes_to_read(one, "0d");
}
