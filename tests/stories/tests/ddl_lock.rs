//! Schema changes of several nodes: one at a time, after those of the others have arrived; or refused.

use spock_mesh::mesh::MeshOptions;
use spock_mesh::node::Stop;
use spock_mesh::session::{Failure, SqlError};
use spock_mesh::story::must;
use spock_mesh::{Mesh, Node};

/// Statements are captured. A turn may take longer than usual on a loaded machine.
const SETTINGS: [(&str, &str); 4] = [
    ("spock.enable_ddl_replication", "on"),
    ("spock.include_ddl_repset", "on"),
    ("spock.ddl_lock_timeout", "50s"),
    ("max_prepared_transactions", "2"),
];

const REPLICATING: &str = "select bool_and(status = 'replicating') from spock.sub_show_status()";
const FREE: &str = "select count(*) from pg_locks where locktype = 'advisory' and classid = 1936748387 and granted";

fn mesh<const N: usize>(names: [&str; N]) -> Mesh {
    let settings = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Mesh::with(&MeshOptions { names, settings, ..MeshOptions::default() })
}

/// Runs a statement on each node at once, in sessions of their own.
fn at_once(nodes: &[Node], sql: &str) -> Vec<Result<(), SqlError>> {
    let run = |node: &Node| {
        let mut session = must(node.connect("postgres"));
        match session.run(sql) {
            Ok(_) => Ok(()),
            Err(Failure::Sql(error)) => Err(error),
            Err(Failure::Lost(why)) => panic!("{}: {why}", node.name()),
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = nodes.iter().map(|node| scope.spawn(move || run(node))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that ran to its end")).collect()
    })
}

/// One of the nodes was first; the others saw what it had done.
#[track_caller]
fn one_was_first(outcomes: &[Result<(), SqlError>], code: &str) {
    let refused: Vec<&SqlError> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert_eq!(refused.len() + 1, outcomes.len(), "{outcomes:?}");
    assert!(refused.iter().all(|error| error.code == code), "{outcomes:?}");
}

#[test]
fn d24_statements_of_all_nodes_at_once_run_one_after_the_other() {
    let mesh = mesh(["n1", "n2", "n3"]);
    one_was_first(&at_once(mesh.nodes(), "create table public.t (id int primary key)"), "42P07");
    one_was_first(&at_once(mesh.nodes(), "alter table public.t add column who text"), "42701");
    let given = "select spock.replicate_ddl('alter table public.t add column given int default 7')";
    one_was_first(&at_once(mesh.nodes(), given), "42701");
    // Statements that do not exclude each other all succeed.
    let several = "create schema if not exists app; create table if not exists app.log (id int primary key)";
    let outcomes = at_once(mesh.nodes(), several);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    for (n, node) in mesh.nodes().iter().enumerate() {
        node.sql(&format!("insert into public.t (id, who) values ({n}, '{}')", node.name()));
    }
    mesh.settle();
    mesh.every_node_reads(REPLICATING, "t");
    mesh.every_node_reads("select * from public.t order by id", "0|n1|7\n1|n2|7\n2|n3|7");
    mesh.every_node_reads("select count(*) from app.log", "0");
    for node in mesh.nodes() {
        node.comes_to_read(FREE, "0");
    }
}

#[test]
fn d24_a_session_that_holds_the_lock_makes_others_wait_and_gives_it_back_however_it_ends() {
    let mesh = mesh(["n1", "n2"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("begin").sql("savepoint s").sql("create table public.a (id int primary key)").sql("rollback to s");
    n2.sql("set spock.ddl_lock_timeout = '200ms'");
    let error = n2.sql_error("create table public.a (id int primary key)");
    assert_eq!(error.code, "55P03", "{error}");
    assert!(error.hint.contains("spock.ddl_lock_timeout"), "{error}");
    // What stays on the node does not wait.
    n2.sql("create temp table mine (id int)").sql("drop table mine");
    n2.reads("select to_regclass('public.a')", "").reads("select count(*) from spock.queue", "0");
    n2.sql("reset spock.ddl_lock_timeout");
    n1.sql("rollback");
    n2.sql("create table public.a (id int primary key)");
    // A session that is killed.
    let mut killed = must(n1.connect("postgres"));
    let pid =
        killed.run("begin; create table public.b (id int); select pg_backend_pid()").expect("a session").to_string();
    n1.sql(&format!("select pg_terminate_backend({pid})"));
    n2.sql("create table public.b (id int)");
    // A transaction that would outlive the session.
    n1.sql("begin").sql("create table public.c (id int)");
    let error = n1.sql_error("prepare transaction 'c'");
    assert_eq!(error.code, "0A000", "{error}");
    // A node that forgets it while the transaction is open.
    n1.sql("rollback").sql("begin").sql("create table public.c (id int)");
    n2.restart_fast();
    let error = n1.sql_error("commit");
    assert!(error.message.contains("was lost at node \"n2\""), "{error}");
    n1.reads("select to_regclass('public.c')", "");
    mesh.settle();
    mesh.every_node_reads("select count(*) from pg_class where relname in ('a', 'b') and relkind = 'r'", "2");
    mesh.every_node_reads(REPLICATING, "t");
}

#[test]
fn d24_without_all_nodes_a_statement_is_refused_and_nothing_is_done() {
    let mesh = mesh(["n1", "n2"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    must(n2.stop(Stop::Fast));
    for sql in ["create table public.t (id int)", "select spock.replicate_ddl('create table public.t (id int)')"] {
        let error = n1.sql_error(sql);
        assert_eq!(error.code, "08001", "{error}");
        assert!(error.message.contains("node \"n2\"") && error.hint.contains("spock.ddl_lock"), "{error}");
    }
    n1.reads("select to_regclass('public.t')", "").reads("select count(*) from spock.queue", "0");
    n2.start_again();
    n2.sql("select spock.sub_disable('sub_n1_n2', true)");
    let error = n2.sql_error("create table public.t (id int)");
    assert_eq!(error.code, "55000", "{error}");
    assert!(error.detail.contains("sub_n1_n2") && error.hint.contains("spock.ddl_lock"), "{error}");
    // Without the lock both make the same table, and the streams stop with the whole transaction held.
    n1.sql("set spock.ddl_lock = off")
        .sql("begin; create table public.t (id int primary key); insert into public.t values (1); commit");
    n2.sql("set spock.ddl_lock = off")
        .sql("begin; create table public.t (id int primary key); insert into public.t values (2); commit");
    n2.sql("select spock.sub_enable('sub_n1_n2', true)");
    for (node, other, row) in [(n1, "n2", "1"), (n2, "n1", "2")] {
        let status = format!("select status from spock.sub_show_status('sub_{other}_{}')", node.name());
        node.comes_to_read(&status, "disabled");
        node.reads("select * from public.t", row);
        node.reads("select count(*) > 0 from spock.exception_log where error_message like '%42P07%'", "t");
    }
}

#[test]
fn d24_a_schema_change_with_data_in_flight_never_leaves_half_of_a_transaction() {
    let mesh = mesh(["n1", "n2"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("create table public.t (id int primary key, v text)").sql("create table public.u (id int primary key)");
    mesh.settle();
    let waits = "select count(*) > 0 from pg_locks where not granted and relation = 'public.t'::regclass";
    let both =
        |id: u32, row: &str| format!("begin; insert into public.u values ({id}); insert into public.t {row}; commit");
    // n2 writes rows of the old shape while n1 adds a column.
    n1.sql("begin").sql("alter table public.t add column w int default 7");
    n2.sql(&both(1, "values (1, 'old')"));
    n1.comes_to_read(waits, "t");
    n1.sql("commit");
    mesh.settle();
    mesh.every_node_reads("select * from public.t", "1|old|7");
    mesh.every_node_reads("select * from public.u", "1");
    // The same while n1 drops one: the whole transaction is held, as spock.exception_behaviour says.
    n1.sql("begin").sql("alter table public.t drop column v");
    n2.sql(&both(2, "values (2, 'late')"));
    n1.comes_to_read(waits, "t");
    n1.sql("commit");
    n1.comes_to_read("select status from spock.sub_show_status('sub_n2_n1')", "disabled");
    n1.reads("select * from public.t", "1|7").reads("select * from public.u", "1");
    n2.comes_to_read("select * from public.t order by id", "1|7\n2|7");
    // Once n1 has room for it, it is applied whole; then the schemas are the same again.
    n1.sql("begin; select spock.repair_mode(true); alter table public.t add column v text; commit");
    n1.sql("select spock.sub_enable('sub_n2_n1')");
    n1.comes_to_read("select id, w from public.t order by id", "1|7\n2|7");
    n1.reads("select * from public.u order by id", "1\n2");
    n1.sql("begin; select spock.repair_mode(true); alter table public.t drop column v; commit");
    n2.sql("alter table public.t add column x int");
    mesh.settle();
    mesh.same_everywhere("public.t");
    mesh.every_node_reads(REPLICATING, "t");
}

/// A transaction that has looked at a table would wait for a change of it, which waits for the transaction.
#[test]
fn d24_a_transaction_that_would_wait_for_itself_is_ended() {
    let mesh = mesh(["n1", "n2"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("create table public.t (id int primary key)");
    mesh.settle();
    n2.sql("begin").sql("select * from public.t");
    n1.sql("alter table public.t add column v text");
    let error = n2.sql_error("create table public.other (id int)");
    assert_eq!(error.code, "40P01", "{error}");
    n2.sql("rollback");
    mesh.settle();
    n2.sql("create table public.other (id int)");
    mesh.settle();
    mesh.every_node_reads("select count(*) from public.other", "0");
}
