//! What is no exception: causes that pass by themselves, and attempts that succeed after all.

use crate::exceptions::mesh;
use spock_mesh::mesh::{MeshOptions, Stage};
use spock_mesh::story::must;
use spock_mesh::{Mesh, Node};

const STATUS: &str = "select status from spock.sub_show_status('sub_n1_n2')";
const WORKER: &str = "select pid from pg_stat_activity where backend_type like 'spock apply%'";
const BLOCKED: &str =
    "select count(*) from pg_stat_activity where backend_type like 'spock apply%' and wait_event_type = 'Lock'";

fn table(mode: &str) -> Mesh {
    let mesh = mesh(mode, "all").with_table("acct (id int primary key, bal int)");
    mesh.node("n1").sql("insert into acct values (1, 0), (2, 0)");
    mesh.settle();
    mesh
}

fn nothing_was_left_out(node: &Node) {
    node.reads("select count(*) from spock.exception_log", "0").reads("select count(*) from spock.parked()", "0");
    assert!(!node.log().contains("leaves out"), "something was left out");
}

/// Sends a transaction whose second change waits for a lock that a session of n2 holds, and gives that session.
fn blocked(mesh: &Mesh) -> spock_mesh::session::Session {
    let mut session = must(mesh.node("n2").connect("postgres"));
    assert!(session.run("begin").is_ok() && session.run("update acct set bal = 5 where id = 2").is_ok());
    mesh.node("n1").sql("begin; update acct set bal = 1 where id = 1; update acct set bal = 1 where id = 2; commit");
    mesh.node("n2").comes_to_read(BLOCKED, "1");
    session
}

/// A session holds row 2 and waits for row 1, which the worker holds; the worker comes to row 2 last. So the circle is closed
/// whenever it looks for one, which a session that never looks leaves to it.
#[test]
fn a_deadlock_with_a_local_session_is_retried_in_every_mode() {
    for mode in ["discard", "transdiscard", "sub_disable", "park"] {
        let mesh = table(mode).with_table("gate (id int primary key, n int)");
        let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
        must(n2.set("deadlock_timeout", "1s"));
        must(n2.reload());
        n1.sql("insert into gate values (1, 0)");
        mesh.settle();
        let mut gate = must(n2.connect("postgres"));
        assert!(gate.run("begin; update gate set n = 5").is_ok());
        n1.sql(
            "begin; update acct set bal = 1 where id = 1; update gate set n = 1; update acct set bal = 1 where id = 2; commit",
        );
        n2.comes_to_read(BLOCKED, "1");
        let mut session = must(n2.connect("postgres"));
        let begin =
            "set deadlock_timeout = '1h'; set statement_timeout = '2min'; begin; update acct set bal = 5 where id = 2";
        assert!(session.run(begin).is_ok());
        let pid = session.run("select pg_backend_pid()").expect("a session").to_string();
        std::thread::scope(|scope| {
            let waits = scope.spawn(move || session.run("update acct set bal = 5 where id = 1; commit").is_ok());
            n2.comes_to_read(&format!("select wait_event_type from pg_stat_activity where pid = {pid}"), "Lock");
            assert!(gate.run("rollback").is_ok());
            assert!(waits.join().is_ok_and(|went_on| went_on), "the worker gives way");
        });
        mesh.settle();
        n2.comes_to_log("deadlock detected");
        mesh.every_node_reads("select bal from acct order by id", "5\n5");
        mesh.every_node_reads("select n from gate", "1");
        nothing_was_left_out(n2);
        n2.reads(STATUS, "replicating");
    }
}

/// Fails with the code that is in `gate` as long as there is one.
const GATE: &str = "
    create table gate (code text);
    create function fails() returns trigger language plpgsql as 'begin
        if exists (select from public.gate) then
            raise exception using errcode = (select code from public.gate), message = ''stopped by '' || (select code from public.gate);
        end if;
        return new;
    end';
    create trigger fails before update on acct for each row execute function fails();
    alter table acct enable always trigger fails";

/// What may pass by itself is tried again, after pauses that grow, until it has passed.
#[test]
fn what_may_pass_by_itself_is_retried_in_every_mode_and_recorded_nowhere() {
    let settings = [("spock.restart_delay_default", "100ms"), ("spock.save_resolutions", "on")];
    let mesh = Mesh::with(&MeshOptions {
        names: vec!["n1".to_owned(), "n2".to_owned()],
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..MeshOptions::default()
    })
    .with_table("acct (id int primary key, bal int)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into acct values (1, 0), (2, 0)");
    mesh.settle();
    n2.sql(GATE);
    let tries = |error: &str| {
        let asked = format!(
            "select attempts >= 3 and next_retry is not null from spock.sub_worker_status('sub_n1_n2') where last_error like '%{error}%'"
        );
        n2.comes_to_read(&asked, "t");
    };
    let modes = [("discard", "40001"), ("transdiscard", "55P03"), ("sub_disable", "53300"), ("park", "57P03")];
    for (round, (mode, code)) in (1..).zip(modes) {
        must(n2.set("spock.exception_behaviour", mode));
        must(n2.reload());
        n2.comes_to_read("show spock.exception_behaviour", mode);
        n2.sql(&format!("insert into gate values ('{code}')"));
        n1.sql(&format!(
            "begin; update acct set bal = {round} where id = 1; update acct set bal = {round} where id = 2; commit"
        ));
        tries(&format!("stopped by {code}"));
        n2.sql("delete from gate");
        mesh.settle();
        mesh.every_node_reads("select bal from acct", &format!("{round}\n{round}"));
    }
    nothing_was_left_out(n2);
    n2.reads("select count(*) from spock.resolutions", "0").reads(STATUS, "replicating");
}

#[test]
fn a_provider_that_is_out_of_connections_is_asked_again() {
    let settings = vec![("spock.restart_delay_default".to_owned(), "100ms".to_owned())];
    let names = ["n1", "n2", "n3"].map(str::to_owned).to_vec();
    let mesh = Mesh::with(&MeshOptions { names, settings, stage: Stage::Nodes, ..MeshOptions::default() })
        .with_table("acct (id int primary key, bal int)");
    mesh.subscribe("n2", "n1", "").subscribe("n3", "n1", "");
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    n3.sql("select spock.sub_disable('sub_n1_n3')");
    must(n1.set("max_wal_senders", "1"));
    n1.restart_fast();
    // n2's worker may not know yet that its connection is gone: n1 knows who has its only place.
    n1.comes_to_read("select state from pg_stat_replication", "streaming");
    n3.sql("select spock.sub_enable('sub_n1_n3')");
    n3.comes_to_read(
        "select attempts >= 3 from spock.sub_worker_status() where last_error like '%max_wal_senders%'",
        "t",
    );
    n1.sql("insert into acct values (1, 1)");
    n2.sql("select spock.sub_disable('sub_n1_n2')");
    n3.comes_to_read("select count(*) from acct", "1");
    n3.reads("select count(*) from spock.exception_log", "0");
}

#[test]
fn a_worker_that_is_terminated_in_mid_transaction_leaves_nothing_out() {
    for mode in ["transdiscard", "sub_disable", "park"] {
        let mesh = table(mode);
        let session = blocked(&mesh);
        let pid = mesh.node("n2").query_one(WORKER);
        mesh.node("n2").sql(&format!("select pg_terminate_backend({pid})"));
        mesh.node("n2").comes_to_read(&format!("select count(*) from pg_stat_activity where pid = {pid}"), "0");
        drop(session);
        mesh.settle();
        mesh.every_node_reads("select bal from acct order by id", "1\n1");
        nothing_was_left_out(mesh.node("n2"));
        mesh.node("n2").reads(STATUS, "replicating");
    }
}

#[test]
fn a_worker_that_is_cancelled_leaves_nothing_out() {
    let mesh = table("transdiscard");
    let session = blocked(&mesh);
    mesh.node("n2").sql(&format!("select pg_cancel_backend(({WORKER}))"));
    mesh.node("n2").comes_to_log("canceling statement due to user request");
    drop(session);
    mesh.settle();
    mesh.every_node_reads("select bal from acct order by id", "1\n1");
    nothing_was_left_out(mesh.node("n2"));
}

/// The replay of a transaction in mode discard, too, meets locks and signals.
#[test]
fn a_cancel_in_a_replay_discards_nothing_but_what_fails() {
    let mesh = table("discard");
    let n2 = mesh.node("n2");
    n2.sql("alter table acct add constraint positive check (bal >= 0)");
    let mut session = must(n2.connect("postgres"));
    assert!(session.run("begin").is_ok() && session.run("update acct set bal = 5 where id = 2").is_ok());
    // Fails at the first change; the second attempt takes each change alone and waits at the next one.
    mesh.node("n1").sql("begin; update acct set bal = -1 where id = 1; update acct set bal = 1 where id = 2; commit");
    n2.comes_to_read(BLOCKED, "1");
    n2.sql(&format!("select pg_cancel_backend(({WORKER}))"));
    n2.comes_to_log("canceling statement due to user request");
    drop(session);
    mesh.settle();
    n2.reads("select bal from acct order by id", "0\n1");
    n2.reads("select string_agg(concat_ws(' ', command_counter, operation), ',') from spock.exception_log", "1 UPDATE");
}

#[test]
fn a_second_attempt_that_succeeds_is_simply_applied() {
    for mode in ["discard", "transdiscard", "sub_disable", "park"] {
        let mesh = table(mode);
        let n2 = mesh.node("n2");
        // Fails as long as nobody has called it: what a sequence counts is not rolled back.
        n2.sql("create sequence calls");
        n2.sql(
            "create function once() returns trigger language plpgsql as
             'begin if nextval(''public.calls'') = 1 then raise exception ''not yet''; end if; return new; end'",
        );
        n2.sql("create trigger once before update on acct for each row execute function once()");
        n2.sql("alter table acct enable always trigger once");
        mesh.node("n1").sql("update acct set bal = 1");
        mesh.settle();
        mesh.every_node_reads("select bal from acct order by id", "1\n1");
        nothing_was_left_out(n2);
        n2.reads(STATUS, "replicating");
    }
}

#[test]
fn the_next_attempt_waits_as_long_as_is_set() {
    let names = vec!["n1".to_owned(), "n2".to_owned()];
    let settings = vec![
        ("spock.restart_delay_on_exception".to_owned(), "1h".to_owned()),
        ("spock.exception_behaviour".to_owned(), "transdiscard".to_owned()),
    ];
    let mesh = Mesh::with(&MeshOptions { names, settings, ..MeshOptions::default() })
        .with_table("acct (id int primary key, bal int)");
    let n2 = mesh.node("n2");
    n2.sql("alter table acct add constraint positive check (bal > 0)");
    mesh.node("n1").sql("insert into acct values (1, -1)");
    n2.comes_to_read(
        "select next_retry > now() + interval '50 minutes' from spock.sub_worker_status('sub_n1_n2')",
        "t",
    );
    n2.reads("select count(*) from spock.exception_log", "0");
    // A change of the subscription ends the wait, and the transaction is tried anew.
    n2.sql("alter table acct drop constraint positive");
    n2.sql("select spock.sub_disable('sub_n1_n2')").sql("select spock.sub_enable('sub_n1_n2')");
    mesh.settle();
    mesh.every_node_reads("select bal from acct", "-1");
}

#[test]
fn many_changes_that_fail_do_not_cost_the_worker_its_memory() {
    let mesh = mesh("discard", "discard").with_table("acct (id int primary key, bal int)");
    let n2 = mesh.node("n2");
    n2.sql("alter table acct add constraint even check (bal % 2 = 0)");
    mesh.node("n1").sql("insert into acct select n, n from generate_series(1, 20000) n");
    mesh.node("n1").sql("begin; insert into good values (1); insert into acct values (0, 1); commit");
    mesh.settle();
    n2.reads("select count(*), sum(bal % 2) from acct", "10000|0");
    n2.reads("select count(*), count(distinct command_counter) from spock.exception_log", "10001|10001");
    n2.comes_to_log("leaves out 10000 of 20000 changes");
    let status = std::fs::read_to_string(format!("/proc/{}/status", n2.query_one(WORKER))).unwrap_or_default();
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    let own_kb: u64 = own.trim().trim_end_matches(" kB").parse().unwrap_or_else(|_| panic!("no RssAnon in {status}"));
    assert!(own_kb < 60_000, "the worker holds {own_kb} kB");
}
