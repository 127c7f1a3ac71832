//! `spock.exception_behaviour = park`: a transaction that cannot be applied is put aside whole, those that depend on it wait, the
//! rest goes on, and nothing is lost or applied twice.

use crate::exceptions::mesh;
use spock_mesh::mesh::MeshOptions;
use spock_mesh::session::Failure;
use spock_mesh::story::must;
use spock_mesh::wait::{Deadline, Probe, wait_until};
use spock_mesh::{Mesh, Node};

const STATUS: &str = "select status from spock.sub_show_status('sub_n1_n2')";
const PARKED: &str = "select string_agg(concat_ws(' ', coalesce(cause_sqlstate, 'waits'), relation), ', ' order by id) from spock.parked()";
const COUNT: &str = "select count(*) from spock.parked()";
/// Something of the content without a row, or the other way round.
const TORN: &str = "select count(*) from spock.parked_transaction p full join
    (select parked_id, sum(length(content)) as bytes from spock.parked_content group by 1) c using (parked_id)
    where p.bytes is distinct from c.bytes";
/// Makes every change of `acct` fail on this node.
const REFUSE: &str = "
    create function refuse() returns trigger language plpgsql as 'begin raise exception ''not here''; end';
    create trigger refuses before insert or update or delete on acct for each row execute function refuse();
    alter table acct enable always trigger refuses";
const ALLOW: &str = "drop trigger refuses on acct; drop function refuse()";

fn with_settings(more: &[(&str, &str)]) -> Mesh {
    let usual = [("spock.exception_behaviour", "park")];
    let settings = usual.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let names = vec!["n1".to_owned(), "n2".to_owned()];
    Mesh::with(&MeshOptions { names, settings, ..MeshOptions::default() })
        .with_table("good (id int primary key)")
        .with_table("acct (id int primary key, bal int, mail text unique)")
}

fn accounts() -> Mesh {
    with_settings(&[])
}

/// Both nodes hold the same rows with the same versions.
fn same_versions(mesh: &Mesh, table: &str) {
    mesh.same_everywhere(table);
    // Each node calls the other by its id, and itself 0.
    let version = format!(
        "select string_agg(concat_ws(' ', t.id, extract(epoch from pg_xact_commit_timestamp(t.xmin)),
                coalesce(nullif(x.roident::text, '0'), (select node_id::text from spock.local_node))), ', ' order by t.id)
         from {table} t, spock.xact_commit_timestamp_origin(t.xmin) x"
    );
    assert_eq!(mesh.node("n1").query_one(&version), mesh.node("n2").query_one(&version), "versions of {table}");
}

/// What n2 cannot apply, and what makes it applicable.
struct Cause {
    table: &'static str,
    here: &'static str,
    statement: &'static str,
    parked: &'static str,
    repair: &'static str,
}

const CAUSES: [Cause; 4] = [
    Cause {
        table: "mails (id int primary key, mail text)",
        here: "alter table mails add constraint long check (length(mail) > 3)",
        statement: "insert into mails values (1, 'a')",
        parked: "23514 \"public\".\"mails\"",
        repair: "alter table mails drop constraint long",
    },
    Cause {
        table: "absent (id int primary key, note text)",
        here: "drop table absent",
        statement: "insert into absent values (1, 'x')",
        parked: "42P01 \"public\".\"absent\"",
        repair: "create table absent (id int primary key, note text)",
    },
    Cause {
        table: "triggered (id int primary key)",
        here: "create function refuse_row() returns trigger language plpgsql as 'begin raise exception ''not here''; end';
               create trigger refuses before insert on triggered for each row execute function refuse_row();
               alter table triggered enable always trigger refuses",
        statement: "insert into triggered values (1)",
        parked: "P0001 \"public\".\"triggered\"",
        repair: "drop trigger refuses on triggered",
    },
    Cause {
        table: "late (id int primary key)",
        here: "create function refuse_late() returns trigger language plpgsql as 'begin raise exception ''too late''; end';
               create constraint trigger late after insert on late deferrable initially deferred for each row
                   execute function refuse_late();
               alter table late enable always trigger late",
        statement: "insert into late values (1)",
        parked: "P0001",
        repair: "drop trigger late on late",
    },
];

#[test]
fn a_transaction_that_fails_is_parked_whole_and_applied_after_the_repair() {
    let mesh = mesh("park", "all");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    for (n, cause) in CAUSES.iter().enumerate() {
        let name = cause.table.split(' ').next().unwrap_or_default();
        for node in [n1, n2] {
            node.sql(&format!("create table {}", cause.table));
        }
        n2.sql(cause.here);
        n1.sql(&format!("select spock.repset_add_table('default', '{name}')"));
        let first = 10 * n;
        n1.sql(&format!("begin; insert into good values ({first}); {}; commit", cause.statement));
        n1.sql(&format!("insert into good values ({})", first + 1));
        mesh.settle();
        n2.reads(PARKED, cause.parked);
        n2.reads(&format!("select string_agg(id::text, ',') from good where id >= {first}"), &(first + 1).to_string());
        n2.reads(STATUS, "replicating");
        n2.reads("select transactions, blocked from spock.parked_status", "1|keys");
        n2.reads(TORN, "0");
        // As long as the cause is there it stays, and the error says which one and why.
        let error = n2.sql_error("select spock.replay_parked()");
        assert!(error.code == "55000" && error.message.contains("cannot be applied"), "{error:?}");
        n2.reads("select count(*) from spock.parked() where tried_at is not null", "1");
        n2.reads(PARKED, cause.parked);
        n2.sql(cause.repair).reads("select spock.replay_parked()", "1").reads(COUNT, "0").reads(TORN, "0");
        mesh.settle();
        same_versions(&mesh, name);
        same_versions(&mesh, "good");
    }
    n2.reads("select count(*) from spock.exception_log", "0");
}

#[test]
fn transactions_with_the_same_keys_wait_and_others_do_not() {
    let mesh = accounts();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into acct values (1, 0, 'a'), (2, 0, 'b'), (3, 0, 'c')");
    mesh.settle();
    n2.sql(REFUSE);
    n1.sql("update acct set bal = 1 where id = 1");
    mesh.settle();
    n2.reads(PARKED, "P0001 \"public\".\"acct\"");
    n2.sql(ALLOW);
    // The same row, a row behind it, a row with a unique value that was freed, and one that is free of all of them.
    n1.sql("begin; update acct set bal = 2 where id = 1; update acct set bal = 2 where id = 2; commit")
        .sql("update acct set bal = 3 where id = 2")
        .sql("update acct set id = 9, mail = 'z' where id = 1")
        .sql("insert into acct values (10, 5, 'a')")
        .sql("insert into acct values (11, 5, 'z2'), (12, 5, null)")
        .sql("update acct set bal = 7 where id = 3")
        .sql("insert into good values (1)");
    mesh.settle();
    n2.reads(
        "select string_agg(concat(id - first, ':', (select string_agg((w - first)::text, '+') from unnest(waits_for) w)), ' '
                           order by id) from spock.parked(), (select min(id) as first from spock.parked()) f",
        "0: 1:0 2:1 3:1 4:1",
    );
    n2.reads(
        "select string_agg(concat_ws(' ', id, bal, mail), ',' order by id) from acct where id in (1, 2, 3)",
        "1 0 a,2 0 b,3 7 c",
    );
    n2.reads("select count(*) from good", "1");
    n2.reads("select spock.replay_parked()", "5");
    mesh.settle();
    same_versions(&mesh, "acct");
    n2.reads(COUNT, "0");
    // Nothing waits any more.
    n1.sql("update acct set bal = 8 where id = 2");
    mesh.settle();
    n2.reads(COUNT, "0");
    same_versions(&mesh, "acct");
}

#[test]
fn one_is_applied_with_those_that_it_waits_for() {
    let mesh = accounts();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql(REFUSE);
    n1.sql("insert into acct values (1, 0)")
        .sql("insert into acct values (2, 0)")
        .sql("update acct set bal = 1 where id = 1");
    mesh.settle();
    n2.reads(COUNT, "3").sql(ALLOW);
    n2.reads("select spock.replay_parked((select max(id) from spock.parked()))", "2");
    n2.reads("select string_agg(concat_ws(' ', id, bal), ',') from acct", "1 1").reads(COUNT, "1");
    n2.reads("select spock.replay_parked()", "1").reads("select spock.replay_parked()", "0");
    same_versions(&mesh, "acct");
}

#[test]
fn truncate_and_statements_wait_behind_what_is_parked() {
    let mesh = accounts();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql(REFUSE);
    n1.sql("insert into acct values (1, 0)");
    mesh.settle();
    n2.reads(COUNT, "1").sql(ALLOW);
    n1.sql("truncate acct").sql("insert into acct values (2, 0)");
    mesh.settle();
    n2.reads("select blocked, blocked_tables from spock.parked_status", "tables|{public.acct}");
    n1.sql("insert into good values (1)");
    mesh.settle();
    n2.reads("select count(*) from good", "1");
    n1.sql("select spock.replicate_ddl('alter table public.good add column note text')")
        .sql("insert into good values (2, 'x')");
    mesh.settle();
    n2.reads("select blocked from spock.sub_show_status()", "everything").reads(COUNT, "5");
    n2.reads("select count(*) from good", "1").reads("select count(*) from acct", "0");
    n2.reads("select spock.replay_parked()", "5");
    mesh.settle();
    same_versions(&mesh, "acct");
    same_versions(&mesh, "good");
}

#[test]
fn a_transaction_too_large_to_keep_is_applied_or_sent_again_and_parked() {
    let mesh = with_settings(&[("spock.exception_replay_queue_size", "1MB")]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql(REFUSE);
    n1.sql("insert into acct values (1, 0)");
    mesh.settle();
    n2.reads(COUNT, "1").sql(ALLOW);
    n1.sql("insert into good select n from generate_series(1, 60000) n");
    mesh.settle();
    n2.reads(COUNT, "1").reads("select count(*) from good", "60000");
    // It meets the parked row in its last change.
    n1.sql("begin; insert into good select n from generate_series(60001, 120000) n; update acct set bal = 1; commit");
    mesh.settle();
    n2.reads(PARKED, "P0001 \"public\".\"acct\", waits").reads("select count(*) from good", "60000");
    n2.reads(
        "select count(*) > 1 from spock.parked_content where parked_id = (select max(id) from spock.parked())",
        "t",
    );
    n2.reads(TORN, "0").reads("select spock.replay_parked()", "2");
    mesh.settle();
    mesh.same_everywhere("good");
    same_versions(&mesh, "acct");
}

/// Lets the server of `node` crash at `point` while `start` is under way, and starts it again without the fault.
pub fn crash_at(node: &Node, point: &str, start: &dyn Fn()) {
    must(node.set("restart_after_crash", "off"));
    must(node.set("spock.fault_point", point));
    must(node.reload());
    // The server has told all its processes by then.
    node.comes_to_read("show spock.fault_point", point);
    start();
    must(wait_until(Deadline::story(), &format!("{} to crash at {point}", node.name()), || {
        let down = node.log().contains("was terminated by signal 9") && node.connect("postgres").is_err();
        Ok(if down { Probe::Ready(()) } else { Probe::NotYet("it runs".into()) })
    }));
    node.kill();
    must(node.unset("spock.fault_point"));
    node.start_again();
}

/// The table has no key: a row applied twice would be there twice.
fn events() -> Mesh {
    let mesh = accounts().with_table_in("default_insert_only", "event (id int)");
    mesh.node("n2").sql("alter table event add constraint positive check (id > 0)");
    mesh
}

const SEND: &str = "begin; insert into event values (1), (-1); insert into good values (1); commit";

fn parked_once_and_applied_once(mesh: &Mesh) {
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into good values (2)");
    mesh.settle();
    n2.reads(COUNT, "1").reads(TORN, "0").reads("select count(*) from event", "0").reads("select id from good", "2");
    n2.sql("alter table event drop constraint positive").reads("select spock.replay_parked()", "1");
    mesh.settle();
    mesh.every_node_reads("select count(*), count(distinct id) from event", "2|2");
    mesh.same_everywhere("good");
}

#[test]
fn a_crash_before_the_commit_that_parks_parks_once() {
    let mesh = events();
    crash_at(mesh.node("n2"), "PARK_UNCOMMITTED", &|| {
        mesh.node("n1").sql(SEND);
    });
    parked_once_and_applied_once(&mesh);
}

#[test]
fn a_crash_after_the_commit_that_parks_parks_once() {
    let mesh = events();
    crash_at(mesh.node("n2"), "PARK_COMMITTED", &|| {
        mesh.node("n1").sql(SEND);
    });
    parked_once_and_applied_once(&mesh);
}

fn crash_in_replay(point: &str, left: &str) {
    let mesh = events();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql(SEND);
    mesh.settle();
    n2.sql("alter table event drop constraint positive");
    crash_at(n2, point, &|| {
        // The session goes down with the server.
        assert!(n2.execute("select spock.replay_parked()").is_err(), "it was to crash");
    });
    n2.reads(COUNT, left);
    n2.comes_to_read(STATUS, "replicating");
    n2.reads("select spock.replay_parked()", left);
    n1.sql("insert into good values (2)");
    mesh.settle();
    mesh.every_node_reads("select count(*), count(distinct id) from event", "2|2");
    mesh.same_everywhere("good");
    n2.reads(COUNT, "0").reads(TORN, "0");
}

#[test]
fn a_crash_before_the_commit_of_a_replay_applies_once() {
    crash_in_replay("REPLAY_UNCOMMITTED", "1");
}

#[test]
fn a_crash_after_the_commit_of_a_replay_applies_once() {
    crash_in_replay("REPLAY_COMMITTED", "0");
}

#[test]
fn what_is_parked_outlives_a_crash_and_still_holds_others_back() {
    let mesh = accounts();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql(REFUSE);
    n1.sql("insert into acct values (1, 0)");
    mesh.settle();
    n2.sql(ALLOW);
    n2.kill();
    n2.start_again();
    n1.sql("update acct set bal = 1").sql("insert into acct values (2, 0)");
    mesh.settle();
    n2.reads(PARKED, "P0001 \"public\".\"acct\", waits").reads("select id from acct", "2");
    // In another mode, too.
    must(n2.set("spock.exception_behaviour", "sub_disable"));
    must(n2.reload());
    n1.sql("update acct set bal = 2 where id = 1");
    mesh.settle();
    n2.reads(COUNT, "3").reads(STATUS, "replicating").reads("select spock.replay_parked()", "3");
    same_versions(&mesh, "acct");
}

#[test]
fn when_no_more_can_be_parked_the_subscription_is_disabled_and_enabling_tries_again() {
    for (name, value) in [("spock.park_max_transactions", "2"), ("spock.park_max_size", "1MB")] {
        let mesh = with_settings(&[(name, value)]);
        let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
        n2.sql(REFUSE);
        n1.sql("insert into acct values (1, 0)").sql("insert into acct values (2, 0)");
        mesh.settle();
        n2.reads(COUNT, "2");
        n1.sql("insert into acct select n, 0, repeat('x', 400) || n from generate_series(3, 4000) n");
        n2.comes_to_read(STATUS, "disabled");
        n2.reads(COUNT, "2").reads(TORN, "0");
        n2.reads(
            &format!("select count(*) from spock.exception_log where operation = 'SUB_DISABLE' and error_message like '%{name}%not here%'"),
            "1",
        );
        assert_eq!(n2.sql_error("select spock.replay_parked()").code, "55000");
        // A server that was started since does so when not even a small one could be parked.
        if name == "spock.park_max_transactions" {
            n2.restart_fast();
        }
        n2.sql(ALLOW).sql("select spock.sub_enable('sub_n1_n2')");
        mesh.settle();
        n2.comes_to_read(COUNT, "0");
        same_versions(&mesh, "acct");
    }
}

#[test]
fn what_is_discarded_is_in_the_exception_log() {
    let mesh = accounts();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql(REFUSE);
    n1.sql("begin; insert into acct values (1, 0, 'a'); insert into good values (1); commit")
        .sql("update acct set bal = 1")
        .sql("insert into acct values (2, 0)");
    mesh.settle();
    n2.reads(COUNT, "3").sql(ALLOW);
    let first = n2.query_one("select min(id) from spock.parked()");
    let error = n2.sql_error(&format!("select spock.discard_parked({first})"));
    assert_eq!(error.code, "2BP01");
    n2.sql(&format!("begin; select spock.discard_parked({first}, true); rollback")).reads(COUNT, "3");
    n2.reads("select count(*) from spock.exception_log", "0");
    n2.reads(&format!("select spock.discard_parked({first}, cascade => true)"), "2").reads(COUNT, "1").reads(TORN, "0");
    n2.reads(
        "select string_agg(concat_ws(' ', command_counter, operation, table_name, remote_new_tup->0->>'value'), ', '
                           order by remote_commit_ts, command_counter) from spock.exception_log
         where error_message like 'parked transaction % was discarded: %'",
        "1 INSERT acct 1, 2 INSERT good 1, 1 UPDATE acct 1",
    );
    // Nothing waits for them any more.
    n1.sql("update acct set bal = 3 where id = 1");
    mesh.settle();
    n2.reads("select string_agg(concat_ws(' ', id, bal), ',') from acct", "1 3").reads(COUNT, "1");
}

#[test]
fn a_dropped_subscription_leaves_what_was_parked_in_the_log() {
    let mesh = accounts();
    let n2 = mesh.node("n2");
    n2.sql(REFUSE);
    mesh.node("n1").sql("insert into acct values (1, 0)");
    mesh.settle();
    n2.reads(COUNT, "1").sql("select spock.sub_drop('sub_n1_n2')").reads(COUNT, "0").reads(TORN, "0");
    n2.reads("select string_agg(concat_ws(' ', operation, table_name), ',') from spock.exception_log", "INSERT acct");
    n2.comes_to_log("is dropped with 1 parked transactions");
}

/// A deadlock or the like is not the transaction's fault; but nobody tries for ever.
#[test]
fn what_may_pass_by_itself_is_tried_again_when_parked_transactions_are_applied() {
    let mesh = accounts();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql(REFUSE);
    n1.sql("insert into acct values (1, 0)");
    mesh.settle();
    n2.reads(PARKED, "P0001 \"public\".\"acct\"").sql(ALLOW);
    let contends_until = |tries: u32| {
        format!(
            "drop sequence if exists tries; create sequence tries;
             create or replace function contend() returns trigger language plpgsql as
                 $$begin if nextval('public.tries') < {tries} then raise serialization_failure; end if; return new; end$$"
        )
    };
    n2.sql(&contends_until(1000)).sql(
        "create trigger contends before insert on acct for each row execute function contend();
         alter table acct enable always trigger contends",
    );
    let error = n2.sql_error("select spock.replay_parked()");
    assert!(error.code == "55000" && error.detail.contains("SQLSTATE 40001"), "{error}");
    n2.reads(PARKED, "40001 \"public\".\"acct\"");
    n2.reads("select last_value from tries", "5");
    n2.sql(&contends_until(4)).reads("select spock.replay_parked()", "1").reads("select id from acct", "1");
    n2.reads(COUNT, "0").reads("select last_value from tries", "4");
}

#[test]
fn a_table_that_is_copied_again_has_what_was_parked_of_it() {
    let mesh = accounts();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql(REFUSE);
    n1.sql("begin; insert into acct values (1, 0), (2, 0); insert into good values (1); commit");
    mesh.settle();
    n2.reads(COUNT, "1").sql(ALLOW);
    // Applied after the copy, the parked INSERT would bring the row back.
    n1.sql("delete from acct where id = 1");
    mesh.settle();
    n2.sql("select spock.sub_resync_table('sub_n1_n2', 'acct')")
        .sql("select spock.table_wait_for_sync('sub_n1_n2', 'acct')");
    n2.sql("select spock.replay_parked()").reads(COUNT, "0");
    mesh.settle();
    mesh.same_everywhere("acct");
    mesh.same_everywhere("good");
}

#[test]
fn what_is_parked_can_be_applied_while_the_provider_is_gone() {
    let mesh = with_settings(&[("spock.restart_delay_default", "100ms")]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql(REFUSE);
    n1.sql("insert into acct values (1, 0)");
    mesh.settle();
    n2.reads(COUNT, "1").sql(ALLOW);
    n1.kill();
    n2.comes_to_read(STATUS, "down");
    n2.reads("select spock.replay_parked()", "1").reads("select id from acct", "1");
    n1.start_again();
    mesh.settle();
    same_versions(&mesh, "acct");
}

#[test]
fn calls_that_cannot_be_are_refused() {
    let mesh = accounts();
    let n2 = mesh.node("n2");
    for (call, code) in [
        ("select spock.replay_parked(4711)", "42704"),
        ("select spock.replay_parked(0)", "42704"),
        ("select spock.replay_parked(-1)", "42704"),
        ("begin; select spock.replay_parked()", "25001"),
        ("select spock.discard_parked(4711)", "42704"),
        ("set role spock_monitor; select spock.replay_parked()", "42501"),
        ("set role spock_monitor; select spock.discard_parked(1)", "42501"),
        ("set role spock_monitor; select content from spock.parked_content", "42501"),
        ("set role spock_admin; select content from spock.parked_content", "42501"),
        ("set role spock_monitor; select touched from spock.parked_transaction", "42501"),
    ] {
        // A session of its own: role and transaction end with it.
        match must(n2.connect("postgres")).run(call) {
            Err(Failure::Sql(error)) => assert_eq!(error.code, code, "{call}"),
            other => panic!("{call}: {other:?}"),
        }
    }
    for role in ["spock_monitor", "spock_admin"] {
        let mut session = must(n2.connect("postgres"));
        for sql in [&format!("set role {role}"), "select * from spock.parked()", "select * from spock.parked_status"] {
            assert!(session.run(sql).is_ok(), "{role}: {sql}");
        }
    }
    n2.reads("select spock.replay_parked()", "0");
}

/// It says that it has what is parked: a copy would be without it, and nobody would send it again.
#[test]
fn a_node_that_has_something_parked_is_not_copied_from() {
    let mesh = Mesh::unjoined(["n1", "n2", "n3"]).with_table("acct (id int primary key, bal int)");
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    must(n2.set("spock.exception_behaviour", "park"));
    must(n2.reload());
    mesh.subscribe("n2", "n1", "");
    n2.sql(REFUSE);
    n1.sql("insert into acct values (1, 1)");
    n2.comes_to_read(COUNT, "1");
    n3.sql(&format!(
        "select spock.sub_create('sub_n2_n3', '{}', synchronize_data := true)",
        n2.dsn().replace('\'', "''")
    ));
    n3.comes_to_read("select status from spock.sub_show_status('sub_n2_n3')", "disabled");
    n3.comes_to_log("the provider has parked transactions (1), and a copy would be without them");
    n2.comes_to_read("select count(*) from pg_replication_slots where slot_name ~ 'n2_n3'", "0");
    n2.sql(ALLOW).sql("select spock.replay_parked()");
    n3.sql("select spock.sub_enable('sub_n2_n3')");
    n3.comes_to_read("select bal from acct", "1");
}

/// The removal comes from a third node while the older update of the key is parked, and is kept until that has met it.
#[test]
fn what_parked_changes_have_to_be_compared_with_is_kept() {
    let mesh = Mesh::of(["n1", "n2", "n3"]).with_table("acct (id int primary key, bal int)");
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    n1.sql("insert into acct values (1, 1)");
    mesh.settle();
    must(n2.set("spock.exception_behaviour", "park"));
    must(n2.reload());
    n2.sql(REFUSE);
    n1.sql("update acct set bal = 2");
    n2.comes_to_read(COUNT, "1");
    n3.comes_to_read("select bal from acct", "2");
    n2.sql(ALLOW);
    n3.sql("delete from acct");
    n2.comes_to_read("select count(*) from acct", "0");
    must(n2.set("spock.fault_point", "ANNOUNCEMENT_PROBE"));
    must(n2.reload());
    let n1_id = n1.query_one("select node_id from spock.local_node");
    n2.comes_to_log(&format!("announcement probe: unknown because of node {n1_id}: transactions of it are parked"));
    must(n2.unset("spock.fault_point"));
    must(n2.reload());
    n2.sql("select spock.replay_parked()");
    mesh.settle();
    mesh.every_node_reads("select count(*) from acct", "0");
}
