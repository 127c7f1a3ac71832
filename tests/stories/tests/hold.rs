//! A session holds the apply workers of its database between two transactions: what a joining node does with its provider.

use spock_mesh::mesh::{MeshOptions, Stage};
use spock_mesh::node::Node;
use spock_mesh::{Mesh, story::must};

const PAUSE: &str = "select spock.pause_apply_workers()";
const RESUME: &str = "select spock.resume_apply_workers()";
const HOLDS: &str = "select spock.apply_workers_paused()";
const STATUS: &str = "select status from spock.sub_worker_status('sub_n1_n2')";
const COUNT: &str = "select count(*) from t";

fn pair() -> Mesh {
    let mesh = Mesh::of(["n1", "n2"]).with_table("t (id int primary key)");
    mesh.node("n2").sql("set spock.pause_timeout = '1h'");
    mesh
}

fn is_held(node: &Node) {
    node.comes_to_read(STATUS, "paused");
    node.reads(COUNT, "0");
}

#[test]
fn nothing_is_applied_while_a_session_holds_the_workers() {
    let mesh = pair();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql(PAUSE);
    n1.sql("insert into t values (1)");
    is_held(n2);
    n2.reads(HOLDS, "t").sql(RESUME).reads(HOLDS, "f");
    mesh.settle();
    n2.reads(COUNT, "1").comes_to_read(STATUS, "running");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn a_worker_in_the_middle_of_a_transaction_is_waited_for() {
    let mesh = pair();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql(PAUSE).sql(RESUME);
    let mut blocker = must(n2.connect("postgres"));
    assert!(blocker.run("begin; lock table t in exclusive mode").is_ok());
    n1.sql("insert into t values (1)");
    n2.comes_to_read("select count(*) from pg_locks where relation = 't'::regclass and not granted", "1");
    // Whoever cannot wait for it gets an error and holds nothing.
    n2.sql("set spock.pause_timeout = '1s'");
    let error = n2.sql_error(PAUSE);
    assert_eq!(error.code, "55P03", "{error}");
    n2.reads(HOLDS, "f");
    // And who is cancelled while waiting.
    n2.sql("set spock.pause_timeout = '1h'");
    let error = n2.sql_error(&format!("set local statement_timeout = '100ms'; {PAUSE}"));
    assert_eq!(error.code, "57014", "{error}");
    n2.reads(HOLDS, "f");
    drop(blocker);
    n2.sql(PAUSE).reads(COUNT, "1").sql(RESUME);
    n1.sql("insert into t values (2)");
    mesh.settle();
    n2.reads(COUNT, "2");
}

/// Two nodes join at the same time: the first to be ready does not release what the second still needs.
#[test]
fn each_session_releases_its_own_hold_only() {
    let mesh = pair();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    let mut other = must(n2.connect("postgres"));
    assert!(other.run("set spock.pause_timeout = '1h'").is_ok());
    assert!(other.run(PAUSE).is_ok());
    n2.sql(PAUSE);
    n1.sql("insert into t values (1)");
    is_held(n2);
    n2.sql(RESUME).sql(RESUME);
    is_held(n2);
    // The end of a session ends its hold.
    drop(other);
    mesh.settle();
    n2.reads(COUNT, "1");
}

#[test]
fn another_database_is_not_held() {
    let mesh = pair();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql("create database elsewhere");
    let mut other = must(n2.connect("elsewhere"));
    for statement in ["create extension spock", "set spock.pause_timeout = '1h'", PAUSE] {
        assert!(other.run(statement).is_ok(), "{statement}");
    }
    n1.sql("insert into t values (1)");
    mesh.settle();
    n2.reads(COUNT, "1");
    drop(other);
}

#[test]
fn workers_go_on_when_the_time_is_over_and_the_session_learns_of_it() {
    let mesh = pair();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql("set spock.pause_timeout = '1s'").sql(PAUSE).reads(HOLDS, "t");
    n1.sql("insert into t values (1)");
    mesh.settle();
    n2.reads(COUNT, "1").reads(HOLDS, "f");
    n2.comes_to_log("apply workers go on although process");
    n2.sql(RESUME);
    n2.comes_to_log("apply workers had gone on before they were released");
    mesh.logs_hold_nothing_unexpected(&["apply workers"]);
}

/// A worker that starts while it is held does not begin either, and one that dies is not waited for.
#[test]
fn a_worker_that_starts_again_is_held_too() {
    let mesh = pair();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql(PAUSE);
    let pid = n2.query_one("select worker_pid from spock.sub_worker_status('sub_n1_n2')");
    n2.sql(&format!("select pg_terminate_backend({pid})"));
    n2.comes_to_read(
        &format!("select worker_pid <> {pid} from spock.sub_worker_status('sub_n1_n2') where status = 'running'"),
        "t",
    );
    n1.sql("insert into t values (1)");
    is_held(n2);
    n2.sql(PAUSE).sql(RESUME);
    mesh.settle();
    n2.reads(COUNT, "1");
}

/// The position that a joining node is told covers exactly the rows that it sees.
#[test]
fn what_a_joining_node_is_told_fits_what_it_sees() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("t (id int primary key)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t values (1)");
    mesh.settle();
    let asked = "select remote_commit_lsn from spock.read_peer_progress('none',
        (select node_id from spock.local_node), 0) where remote_node_id is not null";
    let stands = "select remote_lsn from pg_replication_origin_status s
        join spock.subscription b on b.sub_slot_name::text = s.external_id";
    n2.sql(PAUSE);
    n1.sql("insert into t values (2)");
    n2.comes_to_read(STATUS, "paused");
    let told = n2.query_one(asked);
    n2.reads(stands, &told).reads(COUNT, "1").sql(RESUME);
    mesh.settle();
    n2.reads(COUNT, "2").reads(&format!("select ({asked}) > '{told}'"), "t");
    // Not even a restart without a word from the provider makes the peer disappear.
    n2.sql("select spock.sub_disable('sub_n1_n2')").restart_fast();
    n2.reads(&format!("select count(*) from ({asked}) p"), "1");
}

/// Making the slot takes longer than the provider's workers stand still: what it then says about its own providers would not
/// fit the snapshot, so the subscriber begins again.
#[test]
fn a_node_that_joins_begins_again_when_the_provider_has_gone_on() {
    let mesh = Mesh::with(&MeshOptions {
        names: vec!["n1".into(), "n2".into(), "n3".into()],
        stage: Stage::Nodes,
        settings: vec![("spock.pause_timeout".to_owned(), "1s".to_owned())],
        ..MeshOptions::default()
    })
    .with_table("t (id int primary key)");
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    mesh.subscribe("n1", "n3", "");
    n3.sql("insert into t values (1)");
    n1.comes_to_read(COUNT, "1");
    // A slot waits for transactions that run.
    let mut long = must(n1.connect("postgres"));
    assert!(long.run("begin; create table unseen ()").is_ok());
    n2.sql(&format!("select spock.sub_create('joins', '{}', synchronize_data := true)", n1.dsn()));
    n1.comes_to_read("select count(*) from pg_replication_slots where plugin = 'spock_output'", "1");
    n3.sql("insert into t values (2)");
    n1.comes_to_log("apply workers go on although process");
    n1.comes_to_read(COUNT, "2");
    drop(long);
    n2.comes_to_log("the provider's apply workers had gone on before its snapshot was taken");
    n2.comes_to_read(COUNT, "2");
    n2.comes_to_read("select status from spock.sub_show_status()", "replicating");
}
