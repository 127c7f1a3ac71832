//! Several databases of one server that replicate.

use spock_mesh::session::Session;
use spock_mesh::story::must;
use spock_mesh::wait::{Deadline, Probe, wait_until};
use spock_mesh::{Mesh, Node};

fn one(session: &mut Session, sql: &str) -> String {
    let rows = session.run(sql).unwrap_or_else(|failure| panic!("{sql}: {failure:?}"));
    rows.to_string()
}

/// A database of that name which is a node of that name.
fn beside(node: &Node, name: &str) -> Session {
    node.sql("create database beside");
    let mut session = must(node.connect("beside"));
    one(&mut session, "create extension spock");
    one(&mut session, &format!("select spock.node_create('{name}', '{}')", dsn(node)));
    session
}

fn dsn(node: &Node) -> String {
    node.dsn().replace("dbname=postgres", "dbname=beside")
}

/// After a start, one database lets go of what it kept before the manager of the other has looked.
#[test]
fn what_one_database_keeps_survives_a_start_in_which_another_is_faster() {
    let mesh = Mesh::of(["n1", "n2"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    drop(beside(n2, "b2"));
    let mut other = beside(n1, "b1");
    one(&mut other, &format!("select spock.sub_create('of_b2', '{}')", dsn(n2)));
    one(&mut other, "create table t (id int primary key); insert into t select generate_series(1, 10)");
    let kept = "select kept_from from spock.tombstone_status()";
    must(wait_until(Deadline::story(), "a removed key to be remembered", || {
        one(&mut other, "delete from t where id = (select min(id) from t)");
        let from = one(&mut other, kept);
        Ok(if from.parse::<u64>().is_ok() { Probe::Ready(()) } else { Probe::NotYet(from) })
    }));
    // The other node cannot say that it has it, so it is kept for minutes.
    one(&mut other, "select spock.sub_disable('of_b2')");
    let before: u64 = one(&mut other, kept).parse().expect("it is kept");
    // Its manager cannot look.
    one(&mut other, "alter table spock.subscription rename to away");
    drop(other);
    n1.restart_fast();
    n1.comes_to_read("select kept_from is null, relations from spock.tombstone_status()", "t|0");
    let mut other = must(n1.connect("beside"));
    one(&mut other, "alter table spock.away rename to subscription");
    must(wait_until(Deadline::story(), "the manager of the database to have looked", || {
        let from = one(&mut other, kept);
        Ok(match from.parse::<u64>() {
            Ok(from) if from <= before => Probe::Ready(()),
            _ => Probe::NotYet(format!("{from:?}, {before} before")),
        })
    }));
}
