//! D23, D25: a node joins, and what breaks in the middle of a transaction.

use crate::park::crash_at;
use spock_mesh::prefix::ServerKind;
use spock_mesh::story::{must, server_under_test};
use spock_mesh::topology::literal;
use spock_mesh::writer::Writer;
use spock_mesh::{Mesh, Node};

fn events(node: &Node, first: u64) -> Writer {
    Writer::start(node, first, |n| {
        format!("insert into event values ({n}, 1); update hot set n = {n} where id = {}", n % 5 + 1)
    })
}

/// n3 copies from n1. Its slot on n2 is there before, and n1 has what n2 wrote before that; where its own stream of n2 begins
/// the copy tells.
fn join(mesh: &Mesh) {
    let (n2, n3) = (mesh.node("n2"), mesh.node("n3"));
    n3.sql(&format!("select spock.sub_create('sub_n2_n3', {}, enabled := false)", literal(&n2.dsn())));
    let slot = literal(&mesh.slot_of("n3", "sub_n2_n3"));
    n2.sql(&format!("select pg_create_logical_replication_slot({slot}, 'spock_output')"));
    mesh.settle_between("n2", "n1", "sub_n2_n1");
    mesh.subscribe("n3", "n1", ", synchronize_structure := true, synchronize_data := true");
    let told = n3.query_one(
        "select p.remote_commit_lsn from spock.progress p join spock.node n on n.node_id = p.remote_node_id
          where n.node_name = 'n2' and p.node_id = (select node_id from spock.local_node)",
    );
    n3.sql(&format!("select pg_replication_origin_advance({slot}, {})", literal(&told)))
        .sql("select spock.sub_enable('sub_n2_n3')")
        .sql("select spock.repset_add_table('default_insert_only', 'event')")
        .sql("select spock.repset_add_table('default', 'hot')");
    mesh.subscribe("n1", "n3", "").subscribe("n2", "n3", "");
}

#[test]
fn d23_a_node_that_joins_while_all_others_are_written_to_misses_nothing_and_has_nothing_twice() {
    let mesh = Mesh::unjoined(["n1", "n2", "n3"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    for node in [n1, n2] {
        // Without a key a row that came twice would be there twice.
        node.sql("create table event (id bigint, n int); create table hot (id int primary key, n bigint)")
            .sql("select spock.repset_add_table('default_insert_only', 'event')")
            .sql("select spock.repset_add_table('default', 'hot')");
    }
    mesh.subscribe("n1", "n2", "").subscribe("n2", "n1", "");
    n1.sql("insert into hot select id, 0 from generate_series(1, 5) id");
    n1.sql("insert into event select -id, 0 from generate_series(1, 2000) id");
    mesh.settle();
    let writers = [events(n1, 1), events(n2, 1_000_001)];
    for writer in &writers {
        writer.wait_for_more(100);
    }
    join(&mesh);
    for writer in &writers {
        writer.wait_for_more(100);
    }
    let [one, other] = writers.map(Writer::finish);
    mesh.node("n3").sql("insert into event values (0, 0); update hot set n = -1 where id = 1");
    mesh.settle();
    for node in mesh.nodes() {
        one.check_exactly_once(node, "select id from event where id between 1 and 1000000");
        other.check_exactly_once(node, "select id from event where id > 1000000");
    }
    assert_eq!(mesh.same_everywhere("hot").rows, 5);
    mesh.same_everywhere("event");
}

/// What is to happen while a transaction is being applied.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Connection,
    Worker,
    Server,
}

/// `fault` happens while the change of `gate` is waiting for its row: nothing, a part or all but the commit is applied.
fn broken_at(mesh: &Mesh, gate: u32, fault: Fault, number: u32) {
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    let mut holder = must(n2.connect("postgres"));
    assert!(holder.run("begin").is_ok());
    assert!(holder.run(&format!("update gate set n = n where id = {gate}")).is_ok(), "the row is free");
    let change =
        |gate: u32| format!("update gate set n = {number} where id = {gate}; insert into event values ({number})");
    n1.sql(&(1..=3).map(change).collect::<Vec<_>>().join("; "));
    let waits =
        "select count(*) from pg_stat_activity where backend_type like 'spock apply%' and wait_event_type = 'Lock'";
    n2.comes_to_read(waits, "1");
    match fault {
        Fault::Connection => {
            n1.sql("select pg_terminate_backend(active_pid) from pg_replication_slots where active and slot_type = 'logical'");
        }
        Fault::Worker => n2.kill_worker("spock apply"),
        Fault::Server => {
            n2.kill();
            n2.start_again();
        }
    }
    drop(holder);
    mesh.settle();
    n2.reads(&format!("select count(*) from event where id = {number}"), "3");
    n2.reads("select string_agg(n::text, ' ') from gate", &format!("{number} {number} {number}"));
}

#[test]
fn d25_what_breaks_at_any_point_of_a_transaction_leaves_it_applied_once() {
    let mesh = Mesh::of(["n1", "n2"])
        .with_table("gate (id int primary key, n int)")
        .with_table_in("default_insert_only", "event (id int)");
    mesh.node("n1").sql("insert into gate select id, 0 from generate_series(1, 3) id");
    mesh.settle();
    let breaks = [
        (1, Fault::Connection),
        (2, Fault::Connection),
        (3, Fault::Connection),
        (1, Fault::Worker),
        (3, Fault::Worker),
        (2, Fault::Server),
    ];
    for (number, (gate, fault)) in (1..).zip(breaks) {
        broken_at(&mesh, gate, fault, number);
    }
    mesh.same_everywhere("event");
    mesh.same_everywhere("gate");
}

/// The server goes at each point of a commit: rows, what counts and the position are there together, or not at all.
#[test]
fn d25_a_crash_at_any_point_of_a_commit_leaves_the_transaction_applied_once() {
    let mesh = Mesh::of(["n1", "n2"])
        .with_table("total (id int primary key, n int not null)")
        .with_table("named (id int primary key, name text unique)")
        .with_table_in("default_insert_only", "event (id int)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    for node in mesh.nodes() {
        if server_under_test() == ServerKind::Stock {
            node.sql("alter table total replica identity full");
        }
        node.sql("select spock.delta_apply('total', 'n')");
    }
    n1.sql("insert into total values (1, 0)");
    mesh.settle();
    for (number, point) in (1..).zip(["APPLY_UNCOMMITTED", "APPLY_ANNOUNCED", "APPLY_COMMITTED"]) {
        mesh.hold("n2", "n1");
        // Newer than what comes: n1's addition is written with this version. And n1's row displaces this one.
        n2.sql(&format!("insert into named values ({number}0, 'name {number}')"));
        crash_at(n2, point, &|| {
            n1.sql(&format!(
                "begin; update total set n = n + 1; insert into event values ({number});
                 insert into named values ({number}1, 'name {number}'); commit"
            ));
        });
        mesh.reunite();
        mesh.every_node_reads(
            "select n, (select count(*) from event), (select count(distinct id) from event) from total",
            &format!("{number}|{number}|{number}"),
        );
        mesh.every_node_reads("select count(*), count(distinct name) from named", &format!("{number}|{number}"));
        mesh.every_node_reads("select count(*) from spock.displaced_row", &number.to_string());
    }
    mesh.same_everywhere("named");
    mesh.same_everywhere("event");
}
