//! Processes: named, restarted after a failure, gone when told to.

use spock_mesh::{Mesh, Stop};

#[test]
fn workers_bear_the_names_that_monitoring_knows() {
    let mesh = Mesh::of(["n1", "n2"]);
    let kinds = "select string_agg(regexp_replace(backend_type, '[0-9]+', 'N', 'g'), ', ' order by backend_type)
                 from pg_stat_activity where backend_type like 'spock%'";
    for node in mesh.nodes() {
        node.comes_to_read(kinds, "spock apply N:N, spock manager N, spock supervisor");
    }
    let slot = mesh.slot_of("n2", "sub_n1_n2");
    assert_eq!(slot, "spk_postgres_n1_sub_n1_n2");
    // A sender catches up first.
    mesh.node("n1")
        .comes_to_read("select application_name, state from pg_stat_replication", &format!("{slot}|streaming"));
}

#[test]
fn a_provider_that_is_away_shows_as_down_and_replication_resumes_when_it_is_back() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)");
    let status = "select status from spock.sub_show_status('sub_n1_n2')";
    spock_mesh::story::must(mesh.node("n1").stop(Stop::Fast));
    mesh.node("n2").comes_to_read(status, "down");
    // What is wrong, how often it was tried and when it will be tried again can be seen.
    let retry =
        "select attempts > 1, next_retry is not null, last_error is not null from spock.sub_worker_status('sub_n1_n2')";
    mesh.node("n2").comes_to_read(retry, "t|t|t");
    mesh.node("n1").start_again();
    mesh.node("n2").comes_to_read(status, "replicating");
    mesh.node("n1").sql("insert into acct values (1)");
    mesh.settle();
    mesh.node("n2").reads("select id from acct", "1");
}

#[test]
fn a_terminated_apply_worker_comes_back_and_loses_nothing() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)");
    let pid = "select pid from pg_stat_activity where backend_type like 'spock apply%'";
    let before = mesh.node("n2").query_one(pid);
    mesh.node("n2").sql(&format!("select pg_terminate_backend({before})"));
    mesh.node("n2").comes_to_read(&format!("select count(*) from pg_stat_activity where pid = {before}"), "0");
    mesh.node("n1").sql("insert into acct values (1)");
    mesh.settle();
    mesh.node("n2").reads("select id from acct", "1");
    assert_ne!(mesh.node("n2").query_one(pid), before);
}

#[test]
fn a_terminated_walsender_only_interrupts() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)");
    mesh.node("n1").sql("select pg_terminate_backend(pid) from pg_stat_replication");
    mesh.node("n1").sql("insert into acct values (1)");
    mesh.settle();
    mesh.node("n2").reads("select id from acct", "1");
}

#[test]
fn a_server_with_running_workers_stops_on_request() {
    let mesh = Mesh::of(["n1", "n2", "n3"]).with_table("acct (id int primary key)");
    mesh.node("n1").sql("insert into acct values (1)");
    for node in mesh.nodes() {
        // Fails when the server does not end within its limit.
        spock_mesh::story::must(node.stop(Stop::Fast));
    }
    for node in mesh.nodes() {
        node.start_again();
    }
    mesh.settle();
    mesh.every_node_reads("select id from acct", "1");
}

#[test]
fn a_second_database_can_be_a_node_of_its_own() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)");
    mesh.node("n1").sql("create database plain");
    mesh.node("n1").sql("insert into acct values (1)");
    mesh.settle();
    mesh.node("n2").reads("select id from acct", "1");
    // A database without the extension keeps no worker, and can be dropped.
    mesh.node("n1").sql("drop database plain");
}
