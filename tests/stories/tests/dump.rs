//! pg_dump of a database with a node, restored into another: users' tables and rows come along, the node does not.

use spock_mesh::mesh::{MeshOptions, Stage};
use spock_mesh::process::output_of;
use spock_mesh::story::must;
use spock_mesh::{Mesh, Node};

/// Dumps `from` into a file and restores it into a new database of `to`, stopping at the first error.
fn dump_and_restore(from: &Node, to: &Node, database: &str) {
    let file = to.dir().join("dump");
    let mut dump = from.prefix().command("pg_dump");
    dump.args(["-Fc", "-U", "postgres", "-d", "postgres", "-p", &from.port().to_string(), "-h"]).arg(from.dir());
    must(output_of(dump.arg("-f").arg(&file)));
    to.sql(&format!("create database {database}"));
    let mut restore = to.prefix().command("pg_restore");
    restore.args(["-e", "-U", "postgres", "-d", database, "-p", &to.port().to_string(), "-h"]).arg(to.dir());
    must(output_of(restore.arg(&file)));
}

fn ask(node: &Node, database: &str, sql: &str) -> String {
    let mut session = must(node.connect(database));
    must(session.run(sql).map_err(|failure| node.explain(sql, failure))).to_string()
}

/// A node with everything that a dump must carry, or leave: a subscription, memberships, labels, reserved objects, grants.
fn mesh_to_dump() -> Mesh {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, balance int)");
    let n1 = mesh.node("n1");
    n1.sql("select spock.reserved_object_add('audit', 'schema', true, true, false)")
        .sql("security label for spock on column acct.balance is 'spock.delta_apply'")
        .sql("create role reader; grant usage on schema spock to reader; grant select on spock.node to reader")
        .sql("create view public.mine as select relname from spock.tables where set_name is not null")
        .sql("insert into acct values (1, 10), (2, 20)");
    mesh.settle();
    mesh
}

#[test]
fn a_restored_dump_has_the_users_rows_and_an_empty_extension() {
    let mesh = mesh_to_dump();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql("create role reader");
    dump_and_restore(n1, n2, "copy");
    let reads = |sql: &str, expected: &str| assert_eq!(ask(n2, "copy", sql), expected, "{sql}");
    reads("select * from acct order by id", "1|10\n2|20");
    reads("select extversion from pg_extension where extname = 'spock'", "7.0.0");
    reads(
        "select (select count(*) from spock.node), (select count(*) from spock.subscription), (select count(*) from spock.replication_set), (select count(*) from spock.replication_set_table)",
        "0|0|0|0",
    );
    reads("select name, replicate_ddl from spock.reserved_object where not builtin", "audit|f");
    reads("select count(*) from spock.reserved_object where builtin", "7");
    reads("select label from pg_seclabels where provider = 'spock'", "spock.delta_apply");
    reads(
        "select has_schema_privilege('reader', 'spock', 'usage'), has_table_privilege('reader', 'spock.node', 'select')",
        "t|t",
    );
    reads("select count(*) from public.mine", "0");
    // The copy can become a node of its own.
    reads("select spock.node_create('n3', 'dbname=copy') is not null", "t");
    // What was dumped goes on.
    n1.sql("insert into acct values (3, 30)");
    mesh.settle();
    n2.reads("select count(*) from acct", "3");
}

#[test]
fn roles_and_their_rights_are_there_on_a_server_that_never_had_them() {
    let mesh = mesh_to_dump();
    let other =
        Mesh::with(&MeshOptions { names: vec!["other".into()], stage: Stage::Servers, ..MeshOptions::default() });
    let node = other.node("other");
    node.sql("create role reader");
    dump_and_restore(mesh.node("n1"), node, "copy");
    let rights = "select has_schema_privilege('spock_monitor', 'spock', 'usage'), has_table_privilege('spock_monitor', 'spock.progress', 'select'),
        has_column_privilege('spock_monitor', 'spock.node_interface', 'if_dsn', 'select'), has_any_column_privilege('spock_admin', 'spock.reserved_object', 'insert')";
    assert_eq!(ask(node, "copy", rights), "t|t|f|t");
}
