//! SIGKILL in the middle of a load: nothing acknowledged is lost, and nothing is applied twice.
//!
//! The table has no key, so a row applied twice would be there twice.

use spock_mesh::story::must;
use spock_mesh::topology::wait_replicating;
use spock_mesh::wait::Deadline;
use spock_mesh::writer::Writer;
use spock_mesh::{Mesh, Node};

fn events() -> Mesh {
    Mesh::of(["n1", "n2"])
        .with_table_in("default_insert_only", "event (id bigint, by text)")
        .with_table("total (by text primary key, n bigint)")
}

/// Each transaction writes an event and counts it: both or none must arrive.
fn load(node: &Node) -> Writer {
    let name = node.name().to_owned();
    node.sql(&format!("insert into total values ('{name}', 0)"));
    let first = if name == "n1" { 1 } else { 1_000_001 };
    Writer::start(node, first, move |n| {
        format!("insert into event values ({n}, '{name}'); update total set n = n + 1 where by = '{name}'")
    })
}

/// After everything settled: each node holds each event of `writer` once, and as many as its total says.
fn check(mesh: &Mesh, writer: &str, ledger: &spock_mesh::writer::Ledger) {
    for node in mesh.nodes() {
        ledger.check_exactly_once(node, &format!("select id from event where by = '{writer}'"));
        node.reads(
            &format!("select n = (select count(*) from event e where e.by = t.by) from total t where by = '{writer}'"),
            "t",
        );
    }
    mesh.same_everywhere("event");
    mesh.same_everywhere("total");
}

#[test]
fn d25_a_killed_apply_worker_loses_and_repeats_nothing() {
    let mesh = events();
    let writer = load(mesh.node("n1"));
    for _kill in 0..3 {
        writer.wait_for_more(150);
        mesh.node("n2").kill_worker("spock apply");
        must(wait_replicating(mesh.node("n2"), "sub_n1_n2", Deadline::story()));
    }
    let ledger = writer.finish();
    mesh.settle();
    check(&mesh, "n1", &ledger);
}

#[test]
fn d25_a_killed_subscriber_loses_and_repeats_nothing() {
    let mesh = events();
    let writer = load(mesh.node("n1"));
    for _kill in 0..3 {
        writer.wait_for_more(150);
        mesh.node("n2").kill();
        writer.wait_for_more(50);
        mesh.node("n2").start_again();
    }
    let ledger = writer.finish();
    mesh.settle();
    check(&mesh, "n1", &ledger);
}

#[test]
fn d25_a_killed_provider_loses_and_repeats_nothing() {
    let mesh = events();
    let writer = load(mesh.node("n1"));
    for _kill in 0..3 {
        writer.wait_for_more(150);
        mesh.node("n1").kill();
        mesh.node("n1").start_again();
    }
    writer.wait_for_more(50);
    let ledger = writer.finish();
    mesh.settle();
    check(&mesh, "n1", &ledger);
}

#[test]
fn killing_both_nodes_in_turn_while_both_are_written_to_loses_and_repeats_nothing() {
    let mesh = events();
    let writers = [load(mesh.node("n1")), load(mesh.node("n2"))];
    for (victim, witness) in [("n1", 1), ("n2", 0), ("n1", 1), ("n2", 0)] {
        writers[witness].wait_for_more(100);
        mesh.node(victim).kill();
        mesh.node(victim).start_again();
    }
    let [first, second] = writers.map(|writer| {
        writer.wait_for_more(50);
        writer.finish()
    });
    mesh.settle();
    check(&mesh, "n1", &first);
    check(&mesh, "n2", &second);
}

/// Half of its rows are in the table, none is committed: the change between the halves waits for a row that a session holds.
#[test]
fn d25_a_large_transaction_cut_off_by_a_kill_arrives_whole() {
    let mesh = events();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into total values ('n1', 0)");
    mesh.settle();
    let mut holder = must(n2.connect("postgres"));
    assert!(holder.run("begin; select from total where by = 'n1' for update").is_ok(), "the row is free");
    let half =
        |first: u32| format!("insert into event select n, 'n1' from generate_series({first}, {first} + 49999) n");
    n1.sql(&format!("begin; {}; update total set n = 100000; {}; commit", half(1), half(50_001)));
    let waits =
        "select count(*) from pg_stat_activity where backend_type like 'spock apply%' and wait_event_type = 'Lock'";
    n2.comes_to_read(waits, "1");
    n2.reads("select pg_relation_size('event') > 1000000, count(*) from event", "t|0");
    n2.kill();
    drop(holder);
    n2.start_again();
    mesh.settle();
    mesh.every_node_reads("select count(*), count(distinct id) from event", "100000|100000");
    mesh.every_node_reads("select n from total", "100000");
}

#[test]
fn a_provider_that_restarts_in_mid_load_goes_on_sending() {
    let mesh = events();
    let writer = load(mesh.node("n1"));
    for _restart in 0..2 {
        writer.wait_for_more(100);
        mesh.node("n1").restart_fast();
    }
    writer.wait_for_more(50);
    let ledger = writer.finish();
    mesh.settle();
    check(&mesh, "n1", &ledger);
}

#[test]
fn a_checkpoint_between_apply_and_crash_does_not_move_the_position_back() {
    let mesh = events();
    mesh.node("n1").sql("insert into event select n, 'n1' from generate_series(1, 1000) n");
    mesh.settle();
    mesh.node("n2").sql("checkpoint");
    mesh.node("n1").sql("insert into event select n, 'n1' from generate_series(1001, 2000) n");
    mesh.settle();
    mesh.node("n2").kill();
    mesh.node("n2").start_again();
    mesh.settle();
    mesh.every_node_reads("select count(*), count(distinct id) from event", "2000|2000");
}
