//! Replication sets: what is in one is sent as the set says, all else stays at home.

use spock_mesh::Mesh;

#[test]
fn a_table_in_no_set_stays_at_home() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("sent (id int primary key)");
    mesh.everywhere("create table kept (id int primary key)");
    mesh.node("n1").sql("insert into kept values (1); insert into sent values (1)");
    mesh.settle();
    mesh.node("n2").reads("select (select count(*) from kept), (select count(*) from sent)", "0|1");
}

#[test]
fn the_insert_only_set_sends_inserts_and_truncates_but_neither_updates_nor_deletes() {
    let mesh = Mesh::of(["n1", "n2"]).with_table_in("default_insert_only", "event (id int primary key, what text)");
    let n1 = mesh.node("n1");
    n1.sql("insert into event values (1, 'a'), (2, 'b')")
        .sql("update event set what = 'z' where id = 1")
        .sql("delete from event where id = 2");
    mesh.settle();
    n1.reads("select * from event order by id", "1|z");
    mesh.node("n2").reads("select * from event order by id", "1|a\n2|b");
    n1.sql("truncate event");
    mesh.settle();
    mesh.node("n2").reads("select count(*) from event", "0");
}

#[test]
fn a_table_without_key_replicates_inserts() {
    let mesh = Mesh::of(["n1", "n2"]).with_table_in("default_insert_only", "event (what text)");
    mesh.node("n1").sql("insert into event values ('a'), ('a'), (null)");
    mesh.node("n2").sql("insert into event values ('a')");
    mesh.settle();
    assert_eq!(mesh.same_everywhere("event").rows, 4);
}

#[test]
fn a_table_without_key_may_have_values_that_cannot_be_compared() {
    let mesh = Mesh::of(["n1", "n2"]).with_table_in("default_insert_only", "event (what json)");
    mesh.node("n1").sql("insert into event values ('{\"a\": 1}'), (null)");
    mesh.settle();
    mesh.node("n2").reads("select what->>'a' from event where what is not null", "1");
}

#[test]
fn a_table_without_key_is_refused_by_a_set_that_sends_updates() {
    let mesh = Mesh::unjoined(["n1"]);
    let n1 = mesh.node("n1");
    n1.sql("create table event (what text)");
    assert_eq!(n1.sql_error("select spock.repset_add_table('default', 'event')").code, "22023");
    n1.sql("select spock.repset_add_table('default_insert_only', 'event')");
}

#[test]
fn a_removed_table_is_not_sent_any_more() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)");
    mesh.node("n1").sql("insert into acct values (1)");
    mesh.settle();
    mesh.node("n1").sql("select spock.repset_remove_table('default', 'acct')").sql("insert into acct values (2)");
    mesh.settle();
    mesh.node("n2").reads("select id from acct", "1");
    // It was removed on n1 only: n2 goes on sending.
    mesh.node("n2").sql("insert into acct values (3)");
    mesh.settle();
    mesh.node("n1").reads("select id from acct order by id", "1\n2\n3");
}

#[test]
fn a_table_added_again_is_sent_again() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)");
    let n1 = mesh.node("n1");
    n1.sql("insert into acct values (1)")
        .sql("select spock.repset_remove_table('default', 'acct')")
        .sql("insert into acct values (2)");
    n1.sql("select spock.repset_add_table('default', 'acct')").sql("insert into acct values (3)");
    mesh.settle();
    mesh.node("n2").reads("select id from acct order by id", "1\n3");
}

#[test]
fn all_tables_of_a_schema_are_added_at_once() {
    let mesh = Mesh::of(["n1", "n2"]);
    mesh.everywhere("create schema app; create table app.a (id int primary key); create table app.b (id int primary key); create table elsewhere (id int primary key)");
    mesh.everywhere("select spock.repset_add_all_tables('default', '{app}')");
    mesh.node("n1").sql("insert into app.a values (1); insert into app.b values (2); insert into elsewhere values (3)");
    mesh.settle();
    mesh.node("n2")
        .reads("select (select id from app.a), (select id from app.b), (select count(*) from elsewhere)", "1|2|0");
}

#[test]
fn quoted_names_of_schemas_tables_and_columns_replicate() {
    let mesh = Mesh::of(["n1", "n2"]);
    mesh.everywhere(
        r#"create schema "My Schema"; create table "My Schema"."Ta""ble" ("Id" int primary key, "select" text)"#,
    );
    mesh.everywhere(r#"select spock.repset_add_table('default', '"My Schema"."Ta""ble"')"#);
    mesh.node("n1").sql(r#"insert into "My Schema"."Ta""ble" values (1, 'x')"#);
    mesh.node("n1").sql(r#"update "My Schema"."Ta""ble" set "select" = 'y'"#);
    mesh.settle();
    mesh.node("n2").reads(r#"select "Id", "select" from "My Schema"."Ta""ble""#, "1|y");
}
