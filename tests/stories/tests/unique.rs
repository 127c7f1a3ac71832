//! Two rows with different keys and one value of a second unique index: one of them is seen, the same on every node, and the
//! other is displaced until the value is free again. No subscription stops.
//!
//! A table holds `(id, u, w, v)` with unique indexes on `u` and `w`; deliveries are held by cutting links.

use spock_mesh::Mesh;
use spock_mesh::session::Failure;
use spock_mesh::story::must;

const DISPLACED: &str =
    "select coalesce(string_agg(row_values[1] || row_values[4], ',' order by row_values[1]), 'none')
    from spock.displaced_row where relation = 't'::regclass";
const SHOWN: &str = "select coalesce(string_agg(id || v, ',' order by id), 'none') from t";

fn three() -> Mesh {
    Mesh::of(["n1", "n2", "n3"]).with_table("t (id int primary key, u int unique, w int unique, v text)")
}

/// Rows come back a moment after what kept them out has gone.
fn ends(mesh: &Mesh, shown: &str, displaced: &str) {
    for node in mesh.nodes() {
        node.comes_to_read(SHOWN, shown);
        node.comes_to_read(DISPLACED, displaced);
        node.reads("select count(*) from spock.subscription where not sub_enabled", "0");
    }
    mesh.settle();
    mesh.same_everywhere("t");
}

/// Rows from before have a value of the column that is gone.
#[test]
fn d12_a_changed_key_displaces_whoever_has_its_other_value() {
    let mesh =
        Mesh::of(["n1", "n2"]).with_table("t (id int primary key, u int unique, w int unique, gone text, v text)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t values (1, 1, null, repeat('x', 1000), 'a')");
    mesh.settle();
    mesh.everywhere("begin; set local spock.enable_ddl_replication = off; alter table t drop column gone; commit");
    mesh.isolate();
    n2.sql("insert into t values (9, 7, null, 'b')");
    n1.sql("update t set id = 5, u = 7 where id = 1");
    mesh.reunite();
    for node in mesh.nodes() {
        node.comes_to_read(SHOWN, "5a");
        node.reads("select string_agg(row_values[1], ' ') from spock.displaced_row", "9");
        node.reads("select u, v from t", "7|a");
    }
    n1.sql("update t set u = 8");
    for node in mesh.nodes() {
        node.comes_to_read(SHOWN, "5a,9b");
    }
    mesh.same_everywhere("t");
}

#[test]
fn d12_the_later_insert_of_one_value_is_seen_and_the_earlier_one_comes_back_when_it_is_free() {
    let mesh = three();
    for node in mesh.nodes() {
        must(node.set("spock.save_resolutions", "on"));
        must(node.reload());
        node.comes_to_read("show spock.save_resolutions", "on");
    }
    mesh.isolate();
    mesh.node("n1").sql("insert into t values (1, 7, null, 'a')");
    mesh.node("n2").sql("insert into t values (2, 7, null, 'b')");
    // The later one comes first.
    mesh.deliver("n2", "n3");
    mesh.reunite();
    ends(&mesh, "2b", "1a");
    mesh.isolate();
    mesh.node("n1").sql("insert into t values (5, 9, null, 'a')");
    mesh.node("n2").sql("insert into t values (6, 9, null, 'b')");
    // The earlier one comes first.
    mesh.deliver("n1", "n3");
    mesh.reunite();
    ends(&mesh, "2b,6b", "1a,5a");
    let recorded =
        "select count(*) >= 2 from spock.resolutions where conflict_type = 'insert_exists' and idxname = 't_u_key'";
    mesh.every_node_reads(recorded, "t");

    // Who may monitor sees that rows are displaced, not what they hold.
    for role in ["spock_monitor", "spock_admin"] {
        let mut session = must(mesh.node("n1").connect("postgres"));
        assert!(session.run(&format!("set role {role}")).is_ok());
        assert!(session.run("select relation, version_time, index_name from spock.displaced_row").is_ok(), "{role}");
        match session.run("select row_values from spock.displaced_row") {
            Err(Failure::Sql(error)) => assert_eq!(error.code, "42501", "{role}"),
            other => panic!("{role}: {other:?}"),
        }
    }

    mesh.node("n3").sql("delete from t where id = 2");
    ends(&mesh, "1a,6b", "5a");
    mesh.node("n2").sql("update t set u = 90 where id = 6");
    ends(&mesh, "1a,5a,6b", "none");
    // They are the versions that they were.
    let origin = "select count(*) from t, pg_xact_commit_timestamp_origin(xmin) c where v = 'a' and c.roident =
        (select node_id from spock.node where node_name = 'n1')";
    for name in ["n2", "n3"] {
        mesh.node(name).reads(origin, "2");
    }
}

#[test]
fn d12_updates_that_collide_and_changes_of_a_row_that_is_displaced() {
    let mesh = three();
    mesh.node("n1").sql("insert into t select i, i, null, 'a' from generate_series(1, 4) i");
    mesh.settle();
    mesh.isolate();
    // Rows 1 and 3 lose to 2 and 5. The third node, which knows nothing of it, writes 1 and deletes 3 afterwards.
    mesh.node("n1").sql("update t set u = 7, v = 'b' where id = 1").sql("update t set u = 8, v = 'b' where id = 3");
    mesh.node("n2").sql("update t set u = 7, v = 'c' where id = 2").sql("insert into t values (5, 8, null, 'c')");
    mesh.deliver("n1", "n2");
    mesh.node("n2").comes_to_read(SHOWN, "2c,4a,5c");
    mesh.node("n2").comes_to_read(DISPLACED, "1b,3b");
    mesh.node("n3").sql("update t set v = 'd' where id = 1").sql("delete from t where id = 3");
    mesh.reunite();
    ends(&mesh, "1d,2c,4a,5c", "none");

    // Both update into one value; the loser's own node displaces it, too. TRUNCATE takes all that is older.
    mesh.isolate();
    mesh.node("n1").sql("update t set u = 50, v = 'e' where id = 1");
    mesh.node("n2").sql("update t set u = 50, v = 'f' where id = 2");
    mesh.reunite();
    ends(&mesh, "2f,4a,5c", "1e");
    mesh.node("n3").sql("truncate t");
    ends(&mesh, "none", "none");
}

/// In descending order of versions: 3 is seen, 2 is not (both have w = 5), so 1 is (2 would hold its u).
#[test]
fn d12_two_indexes_make_a_chain_and_a_crash_does_not_break_it() {
    let mesh = three();
    mesh.isolate();
    mesh.node("n1").sql("insert into t values (1, 1, null, 'a')");
    mesh.node("n2").sql("insert into t values (2, 1, 5, 'b')");
    mesh.node("n3").sql("insert into t values (3, null, 5, 'c')");
    mesh.reunite();
    ends(&mesh, "1a,3c", "2b");
    mesh.node("n1").sql("delete from t where id = 3");
    mesh.node("n2").kill_worker("spock manager");
    ends(&mesh, "2b", "1a");
    // A key that is displaced here can be inserted again: the new row is the key's state.
    mesh.node("n1").sql("insert into t values (1, 100, null, 'd')");
    ends(&mesh, "1d,2b", "none");
}

/// A session does what an apply worker does that puts the row back while a DELETE of it arrives.
#[test]
fn d12_a_row_that_comes_back_while_its_delete_waits_is_deleted() {
    let mesh = three();
    let (n1, n3) = (mesh.node("n1"), mesh.node("n3"));
    mesh.isolate();
    n1.sql("insert into t values (1, 7, null, 'a')");
    mesh.node("n2").sql("insert into t values (2, 7, null, 'b')");
    mesh.deliver("n1", "n3").deliver("n2", "n3");
    n3.reads(SHOWN, "2b").reads(DISPLACED, "1a");
    let mut session = must(n3.connect("postgres"));
    for step in [
        "select pg_replication_origin_create('back')",
        "select pg_replication_origin_session_setup('back')",
        "begin",
        "select pg_replication_origin_xact_setup('0/1', '2001-01-01')",
        "select spock.repair_mode(true)",
        "delete from spock.displaced_row",
        "insert into t values (1, 70, null, 'a')",
    ] {
        assert!(session.run(step).is_ok(), "{step}");
    }
    n1.sql("delete from t where id = 1");
    mesh.release("n1", "n3");
    let waits =
        "select count(*) from pg_stat_activity where backend_type like 'spock apply%' and wait_event_type = 'Lock'";
    n3.comes_to_read(waits, "1");
    assert!(session.run("commit").is_ok());
    mesh.settle_between("n1", "n3", "sub_n1_n3");
    n3.reads(SHOWN, "2b").reads(DISPLACED, "none");
    mesh.reunite();
    ends(&mesh, "2b", "none");
}

/// Indexes on expressions, on a part of the table, and those for which NULL is a value.
#[test]
fn d12_unique_indexes_of_every_kind_displace() {
    let mesh = Mesh::of(["n1", "n2"])
        .with_table("t (id int primary key, mail text, live bool, v text)")
        .with_table("one (id int primary key, n int unique nulls not distinct)");
    mesh.everywhere("create unique index on t (lower(mail)) where live");
    mesh.cut("n1", "n2");
    mesh.node("n1").sql("insert into t values (1, 'A', true, 'a')").sql("insert into one values (1, null)");
    mesh.node("n2").sql("insert into t values (2, 'a', true, 'b'), (3, 'a', false, 'b')");
    mesh.node("n2").sql("insert into one values (2, null)");
    mesh.heal("n1", "n2").settle();
    ends(&mesh, "2b,3b", "1a");
    mesh.every_node_reads("select id from one", "2");
    // The row leaves the index without losing its value; columns that are renamed and added meanwhile do not matter.
    mesh.everywhere("alter table t rename mail to address; alter table t add column note text default 'new'");
    mesh.node("n1").sql("update t set live = false where id = 2");
    ends(&mesh, "1a,2b,3b", "none");
    mesh.every_node_reads("select address, note from t where id = 1", "A|new");
    // A table that is dropped takes its displaced rows along.
    mesh.everywhere("drop table one cascade");
    for node in mesh.nodes() {
        node.comes_to_read("select count(*) from spock.displaced_row", "0");
    }
}
