//! D0 to D4, D13, D14: one key, written and removed on two nodes at once.

use super::{BASES, all_hold, in_both_orders, recorded, recording, three};
use spock_mesh::Mesh;
use spock_mesh::story::must;

#[test]
fn d0_the_later_of_two_updates_or_inserts_wins_in_every_order() {
    let mesh = three("10, 11, 20, 21");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    in_both_orders(&mesh, |_, base| {
        n1.sql(&format!("update t set v = 'a' where id = {base}"));
        n2.sql(&format!("update t set v = 'b' where id in ({base}, {base} + 1)"));
        n1.sql(&format!("update t set v = 'a' where id = {base} + 1"));
        n1.sql(&format!("insert into t values ({base} + 2, 'a')"));
        n2.sql(&format!("insert into t values ({base} + 2, 'b'), ({base} + 3, 'b')"));
        n1.sql(&format!("insert into t values ({base} + 3, 'a')"));
    });
    all_hold(&mesh, "10b 11a 12b 13a 20b 21a 22b 23a");
    let all = "insert_exists apply_remote, insert_exists keep_local, \
               update_origin_differs apply_remote, update_origin_differs keep_local";
    recorded(&mesh, [all, all, all]);
}

#[test]
fn d1_an_update_later_than_a_delete_brings_its_row_to_every_node() {
    let mesh = three("10, 11, 20, 21");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    in_both_orders(&mesh, |_, base| {
        n1.sql(&format!("delete from t where id = {base}"));
        n2.sql(&format!("update t set v = 'b' where id in ({base}, {base} + 1)"));
    });
    all_hold(&mesh, "10b 11b 20b 21b");
    recorded(
        &mesh,
        [
            "update_missing apply_remote, update_origin_differs apply_remote",
            "delete_exists skip",
            "delete_exists skip, update_missing apply_remote, update_origin_differs apply_remote",
        ],
    );
}

#[test]
fn d2_a_delete_later_than_an_update_wins_and_the_rest_of_the_transaction_is_there() {
    let mesh = three("10, 11, 20, 21");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    in_both_orders(&mesh, |_, base| {
        n2.sql(&format!("update t set v = 'b' where id in ({base}, {base} + 1)"));
        n1.sql(&format!("delete from t where id = {base}"));
    });
    all_hold(&mesh, "11b 21b");
    recorded(
        &mesh,
        [
            "update_missing skip, update_origin_differs apply_remote",
            "delete_origin_differs apply_remote",
            "delete_origin_differs apply_remote, update_missing skip, update_origin_differs apply_remote",
        ],
    );
}

/// `n2` has the row of `n1` and does something with it.
fn after_the_insert(mesh: &Mesh, statement: impl Fn(u32) -> String) {
    in_both_orders(mesh, |mesh, base| {
        mesh.node("n1").sql(&format!("insert into t values ({base}, 'a')"));
        mesh.deliver("n1", "n2");
        mesh.node("n2").sql(&statement(base));
    });
}

#[test]
fn d3_a_delete_that_comes_before_the_insert_is_remembered() {
    let mesh = three("1");
    after_the_insert(&mesh, |base| format!("delete from t where id = {base}"));
    all_hold(&mesh, "1old");
    let third = "delete_missing skip, delete_origin_differs apply_remote, insert_exists skip";
    recorded(&mesh, ["delete_origin_differs apply_remote", "nothing", third]);
}

#[test]
fn d4_an_update_that_comes_before_the_insert_stays() {
    let mesh = three("1");
    after_the_insert(&mesh, |base| format!("update t set v = 'b' where id = {base}"));
    all_hold(&mesh, "1old 10b 20b");
    let third = "insert_exists keep_local, update_missing apply_remote, update_origin_differs apply_remote";
    recorded(&mesh, ["update_origin_differs apply_remote", "nothing", third]);
}

#[test]
fn d13_keys_that_are_changed_while_others_write_them_end_equal() {
    let mesh = three("10, 12, 17, 20, 22, 27");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    in_both_orders(&mesh, |mesh, base| {
        // The key of a row that n3 may not have heard of.
        n1.sql(&format!("insert into t values ({base} + 5, 'a')"));
        mesh.deliver("n1", "n2");
        n2.sql(&format!("update t set id = {base} + 6 where id = {base} + 5"));
        // Away from under a later UPDATE, to where a later INSERT is.
        n1.sql(&format!("update t set id = {base} + 1 where id = {base}"));
        n2.sql(&format!("update t set v = 'b' where id = {base}"));
        n2.sql(&format!("insert into t values ({base} + 1, 'c')"));
        // Two keys for one row.
        n1.sql(&format!("update t set id = {base} + 3 where id = {base} + 2"));
        n2.sql(&format!("update t set id = {base} + 4 where id = {base} + 2"));
        // Later than an UPDATE.
        n2.sql(&format!("update t set v = 'b' where id = {base} + 7"));
        n1.sql(&format!("update t set id = {base} + 8, v = 'a' where id = {base} + 7"));
    });
    all_hold(&mesh, "10b 11c 13old 14old 16a 18a 20b 21c 23old 24old 26a 28a");
    recorded(
        &mesh,
        [
            "insert_exists apply_remote, update_missing apply_remote, update_missing skip, \
             update_origin_differs apply_remote",
            "update_missing apply_remote, update_origin_differs apply_remote, update_origin_differs keep_local",
            "insert_exists apply_remote, insert_exists skip, update_missing apply_remote, update_missing skip, \
             update_origin_differs apply_remote, update_origin_differs keep_local",
        ],
    );
}

#[test]
fn d13_a_row_that_is_changed_here_while_its_key_changes_stays_beside_the_new_one() {
    let mesh = recording(["n1", "n2"]).with_table("t (id int primary key, v text)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t values (1, 'old')");
    mesh.settle();
    let mut session = must(n2.connect("postgres"));
    assert!(session.run("begin; update t set v = 'later' where id = 1").is_ok());
    n1.sql("update t set id = 2 where id = 1");
    n2.comes_to_read("select count(*) from pg_locks where not granted and locktype = 'transactionid'", "1");
    assert!(session.run("commit").is_ok());
    mesh.settle();
    all_hold(&mesh, "1later 2old");
}

#[test]
fn d13_a_changed_key_moves_a_row_between_partitions_as_within_a_table() {
    let mesh = recording(["n1", "n2", "n3"]).with_table("t (id int primary key, v text)");
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    n3.sql(
        "begin; set local spock.enable_ddl_replication = off; drop table t cascade;
         create table t (id int primary key, v text) partition by range (id);
         create table t_low partition of t for values from (0) to (100);
         create table t_high partition of t for values from (100) to (200); commit",
    );
    n1.sql("insert into t values (10, 'old'), (11, 'old'), (20, 'old'), (21, 'old')");
    mesh.settle();
    in_both_orders(&mesh, |_, base| {
        n1.sql(&format!("update t set id = {base} + 100 where id = {base}"));
        n2.sql(&format!("update t set v = 'b' where id in ({base}, {base} + 1)"));
        n1.sql(&format!("update t set id = {base} + 101, v = 'a' where id = {base} + 1"));
    });
    mesh.every_node_reads("select string_agg(id || v, ' ' order by id) from t", "10b 20b 110old 111a 120old 121a");
    n3.reads("select distinct tableoid::regclass from t where id > 100", "t_high");
}

#[test]
fn d14_truncate_takes_what_is_older_and_leaves_what_is_newer() {
    let mut mesh = recording(["n1", "n2", "n3"]);
    for base in BASES {
        mesh = mesh.with_table(&format!("t{base} (id int primary key, v text)"));
        mesh.node("n1").sql(&format!("insert into t{base} values (1, 'old'), (2, 'old')"));
    }
    mesh.settle();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    in_both_orders(&mesh, |_, base| {
        n2.sql(&format!("insert into t{base} values (3, 'older')"));
        n1.sql(&format!("truncate t{base}"));
        n2.sql(&format!("update t{base} set v = 'b' where id = 2; insert into t{base} values (4, 'newer')"));
    });
    for base in BASES {
        let rows = format!("select string_agg(id || v, ' ' order by id) from t{base}");
        mesh.every_node_reads(&rows, "2b 4newer");
        mesh.same_everywhere(&format!("t{base}"));
    }
    // TRUNCATE itself meets no single row.
    let older = "insert_exists skip, update_missing apply_remote";
    recorded(&mesh, [older, "nothing", &format!("{older}, update_origin_differs apply_remote")]);
}
