//! The same table with other columns on each side.

use spock_mesh::Mesh;
use spock_mesh::mesh::{MeshOptions, Stage};

fn pair() -> Mesh {
    Mesh::with(&MeshOptions { names: vec!["n1".into(), "n2".into()], stage: Stage::Joined, ..MeshOptions::default() })
}

fn add_to_default(mesh: &Mesh, table: &str) {
    mesh.everywhere(&format!("select spock.repset_add_table('default', '{table}')"));
}

#[test]
fn columns_are_matched_by_name_not_by_order() {
    let mesh = pair();
    mesh.node("n1").sql("create table acct (id int primary key, bal int, note text)");
    mesh.node("n2")
        .sql("create table acct (note text, gone int, bal int, id int primary key); alter table acct drop column gone");
    add_to_default(&mesh, "acct");
    mesh.node("n1").sql("insert into acct values (1, 10, 'one')");
    mesh.node("n2").sql("insert into acct (id, bal, note) values (2, 20, 'two')");
    mesh.settle();
    mesh.node("n2").sql("update acct set bal = 11 where id = 1");
    mesh.node("n1").sql("update acct set note = null where id = 2");
    mesh.settle();
    mesh.every_node_reads("select id, bal, note from acct order by id", "1|11|one\n2|20|");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn a_further_local_column_gets_its_default_and_keeps_its_value() {
    let mesh = pair();
    mesh.node("n1").sql("create table acct (id int primary key, bal int)");
    mesh.node("n2").sql("create table acct (id int primary key, bal int, extra text default 'local')");
    mesh.node("n1").sql("select spock.repset_add_table('default', 'acct')");
    mesh.node("n1").sql("insert into acct values (1, 10), (2, 20)");
    mesh.settle();
    mesh.node("n2").reads("select id, bal, extra from acct order by id", "1|10|local\n2|20|local");
    mesh.node("n2").sql("update acct set extra = 'mine' where id = 1");
    mesh.node("n1").sql("update acct set bal = 11 where id = 1");
    mesh.settle();
    mesh.node("n2").reads("select id, bal, extra from acct order by id", "1|11|mine\n2|20|local");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn generated_columns_are_computed_on_each_node() {
    let mesh = Mesh::of(["n1", "n2"])
        .with_table("acct (id int primary key, net int, gross int generated always as (net * 2) stored)");
    mesh.node("n1").sql("insert into acct (id, net) values (1, 10)");
    mesh.settle();
    mesh.node("n2").sql("update acct set net = 20");
    mesh.settle();
    mesh.every_node_reads("select id, net, gross from acct", "1|20|40");
}

#[test]
fn a_column_added_while_replicating_is_sent_once_both_sides_have_it() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    mesh.node("n1").sql("insert into acct values (1, 10)");
    mesh.settle();
    mesh.everywhere("alter table acct add column note text");
    mesh.node("n1").sql("insert into acct values (2, 20, 'two'); update acct set note = 'one' where id = 1");
    mesh.settle();
    mesh.every_node_reads("select * from acct order by id", "1|10|one\n2|20|two");
}
