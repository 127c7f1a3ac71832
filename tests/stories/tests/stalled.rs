//! Providers that keep their connections and say nothing.

use spock_mesh::story::must;
use spock_mesh::topology::wait_replicating;
use spock_mesh::wait::{Deadline, Probe, wait_until};
use spock_mesh::{Mesh, Node};

const SUB: &str = "sub_n1_n2";

/// A provider is given up after so long, which a busy machine has to answer `sub_create` in as well.
fn is_silent_after_five_seconds(n2: &Node) {
    must(n2.set("spock.apply_idle_timeout", "5"));
    must(n2.reload());
}

fn go_on(mesh: &Mesh) {
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    must(n2.unset("spock.apply_idle_timeout"));
    must(n2.reload());
    n1.sql("insert into t values (2)");
    must(wait_replicating(n2, SUB, Deadline::story()));
    mesh.settle();
    n2.reads("select string_agg(id::text, ',' order by id) from t", "1,2");
}

/// What the apply worker asks before it asks for the stream waits there for a lock.
#[test]
fn a_provider_that_does_not_answer_before_the_stream_is_left() {
    let mesh = Mesh::unjoined(["n1", "n2"]).with_table("t (id int primary key)");
    mesh.subscribe("n2", "n1", "");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t values (1)").comes_to_read("select state from pg_stat_replication", "streaming");
    let newest = n1.query_one("select spock.spock_max_proto_version()");
    n1.sql(&format!(
        "create or replace function spock.spock_max_proto_version() returns integer language sql volatile
         as 'select pg_advisory_xact_lock(42); select {newest}'"
    ));
    let mut holder = must(n1.connect("postgres"));
    holder.run("select pg_advisory_lock(42)").expect("the lock");
    is_silent_after_five_seconds(n2);
    n1.sql("select pg_terminate_backend(pid) from pg_stat_replication");
    n2.comes_to_log("connection to the provider: no answer for 5000 ms");
    holder.run("select pg_advisory_unlock(42)").expect("the lock is given back");
    go_on(&mesh);
}

/// Making a slot waits for a transaction that is open there.
#[test]
fn a_copy_waits_for_a_provider_that_works_and_leaves_one_that_stands_still() {
    let mesh = Mesh::unjoined(["n1", "n2"]).with_table("t (id int primary key)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    must(n1.set("log_connections", "on"));
    must(n1.reload());
    let mut open = must(n1.connect("postgres"));
    open.run("begin; insert into t values (1)").expect("an open transaction");
    is_silent_after_five_seconds(n2);
    n2.sql(&format!("select spock.sub_create('{SUB}', '{}', synchronize_data := true)", n1.dsn()));
    n1.comes_to_read(
        "select count(*) from pg_stat_activity where query like 'CREATE_REPLICATION_SLOT%' and wait_event = 'transactionid'",
        "1",
    );
    let worker = || n2.query_one("select pid from pg_stat_activity where backend_type like 'spock apply%'");
    let (before, probes) = (worker(), || n1.log().matches("application_name=spock_probe").count());
    let had = probes();
    must(wait_until(Deadline::story(), "two more probes", || {
        let more = probes() - had;
        Ok(if more >= 2 { Probe::Ready(()) } else { Probe::NotYet(format!("{more} so far")) })
    }));
    assert_eq!(worker(), before, "it goes on waiting while the provider lives");
    let server = n1.freeze_server();
    n2.comes_to_log("no answer for 5000 ms");
    n1.thaw(server);
    open.run("commit").expect("a commit");
    go_on(&mesh);
}
