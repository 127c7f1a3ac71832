//! What cannot be applied stops the subscription and is said; it is not dropped in silence, and goes on once it can.

use spock_mesh::Mesh;
use spock_mesh::mesh::{MeshOptions, Stage};

const STATUS: &str = "select status from spock.sub_show_status('sub_n1_n2')";

#[test]
fn a_table_missing_at_the_subscriber_stops_the_subscription_until_it_is_there() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("known (id int primary key)");
    let n1 = mesh.node("n1");
    n1.sql("create table acct (id int primary key)").sql("select spock.repset_add_table('default', 'acct')");
    n1.sql("begin; insert into known values (1); insert into acct values (1); commit");
    mesh.node("n2").comes_to_read(STATUS, "disabled");
    mesh.node("n2").reads("select count(*) from known", "0");
    mesh.node("n2").comes_to_log("acct");
    mesh.node("n2").sql("create table acct (id int primary key)").sql("select spock.sub_enable('sub_n1_n2')");
    mesh.node("n2").comes_to_read(STATUS, "replicating");
    mesh.settle();
    mesh.node("n2").reads("select (select id from known), (select id from acct)", "1|1");
}

#[test]
fn a_row_that_breaks_a_constraint_stops_the_subscription_and_leaves_no_half_transaction() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    mesh.node("n2").sql("alter table acct add constraint positive check (bal > 0)");
    mesh.node("n1")
        .sql("insert into acct values (1, 1)")
        .sql("begin; insert into acct values (2, 2); insert into acct values (3, -3); commit");
    mesh.node("n2").comes_to_read(STATUS, "disabled");
    mesh.node("n2").reads("select id from acct", "1");
    mesh.node("n2").comes_to_log("positive");
    mesh.node("n2").sql("alter table acct drop constraint positive").sql("select spock.sub_enable('sub_n1_n2')");
    mesh.node("n2").comes_to_read(STATUS, "replicating");
    mesh.settle();
    mesh.same_everywhere("acct");
}

#[test]
fn a_column_missing_at_the_subscriber_stops_the_subscription() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)");
    mesh.node("n1").sql("alter table acct add column note text").sql("insert into acct values (1, 'x')");
    mesh.node("n2").comes_to_read(STATUS, "disabled");
    mesh.node("n2").sql("alter table acct add column note text").sql("select spock.sub_enable('sub_n1_n2')");
    mesh.node("n2").comes_to_read(STATUS, "replicating");
    mesh.settle();
    mesh.every_node_reads("select * from acct", "1|x");
}

#[test]
fn a_password_in_a_connection_string_is_never_shown() {
    let mesh = Mesh::unjoined(["n1"]);
    let n1 = mesh.node("n1");
    let dsn = "host=/nonexistent port=1 user=postgres password=tops3cret dbname=postgres";
    let error = n1.sql_error(&format!("select spock.sub_create('s', '{dsn}')"));
    assert!(!error.to_string().contains("tops3cret"), "{error}");
    // The statement itself is the client's: only what we write about it counts.
    n1.sql("set log_min_error_statement = panic");
    n1.sql_error(&format!("select spock.sub_create('s2', '{dsn}')"));
    let ours = n1.log();
    let shown: Vec<&str> =
        ours.lines().filter(|line| line.contains("tops3cret") && !line.contains("STATEMENT:")).collect();
    assert!(shown.is_empty(), "{shown:?}");
}

#[test]
fn a_provider_that_is_no_node_is_refused_with_its_reason() {
    let names = vec!["n1".to_owned(), "n2".to_owned()];
    let mesh = Mesh::with(&MeshOptions { names, stage: Stage::Servers, ..MeshOptions::default() });
    mesh.everywhere("create extension spock");
    let (to_n1, own) = (mesh.node("n1").dsn(), mesh.node("n2").dsn());
    let create = format!("select spock.sub_create('s', '{to_n1}')");
    assert_eq!(mesh.node("n2").sql_error(&create).code, "55000");
    mesh.node("n2").sql(&format!("select spock.node_create('n2', '{own}')"));
    let error = mesh.node("n2").sql_error(&create);
    assert!(error.message.contains("node") || error.detail.contains("node"), "{error}");
    mesh.node("n2").reads("select count(*) from spock.subscription", "0");
}
