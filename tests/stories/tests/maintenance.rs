//! Functions that look after a running node: slots of its subscribers, other sessions, the history of conflicts.

use spock_mesh::{Mesh, story::must};

#[test]
fn waiting_for_a_slot_ends_when_the_subscriber_has_everything() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("t (id int primary key)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t select generate_series(1, 1000)").sql("select spock.wait_slot_confirm_lsn(null, null)");
    n2.reads("select count(*) from t", "1000");
    // A slot that nobody serves does not move, and the wait can be cancelled.
    let slot = mesh.slot_of("n2", "sub_n1_n2");
    n2.sql("select spock.sub_disable('sub_n1_n2')");
    n1.comes_to_read(&format!("select active from pg_replication_slots where slot_name = '{slot}'"), "f");
    n1.sql("insert into t values (0)");
    let wait = format!("select spock.wait_slot_confirm_lsn('{slot}', null)");
    let error = n1.sql_error(&format!("set local statement_timeout = '300ms'; {wait}"));
    assert_eq!(error.code, "57014", "{error}");
    n2.sql("select spock.sub_enable('sub_n1_n2')");
    n1.sql(&wait);
    n2.reads("select count(*) from t", "1001");
}

#[test]
fn other_transactions_end_and_replication_goes_on() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("t (id int primary key)");
    let n1 = mesh.node("n1");
    n1.sql("create database elsewhere");
    let (mut here, mut there) = (must(n1.connect("postgres")), must(n1.connect("elsewhere")));
    assert!(here.run("begin; insert into t values (1)").is_ok());
    assert!(there.run("begin; create table x ()").is_ok());
    n1.reads("select spock.terminate_active_transactions()", "t");
    n1.comes_to_read("select count(*) from pg_stat_activity where backend_type = 'client backend'", "1");
    assert!(here.run("select 1").is_err() && there.run("select 1").is_err());
    n1.sql("insert into t values (2)");
    mesh.settle();
    mesh.every_node_reads("select id from t", "2");
}

#[test]
fn old_conflicts_are_forgotten_by_themselves() {
    let mesh = Mesh::of(["n1", "n2"]);
    let n1 = mesh.node("n1");
    // Counted at once: the manager, too, looks for old ones when it has started.
    n1.reads(
        "with made as (insert into spock.resolutions (node_name, log_time)
                select 'n1', now() - make_interval(days => n) from generate_series(99, 101) n returning 1)
         select count(*) from made",
        "3",
    );
    n1.restart_fast();
    n1.comes_to_read("select count(*) from spock.resolutions", "1");
}

/// From 17 on; before, there is nothing to do.
#[test]
fn slots_get_the_failover_flag() {
    let mesh = Mesh::of(["n1", "n2"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    let slot = mesh.slot_of("n2", "sub_n1_n2");
    let modern = n1.query_one("select current_setting('server_version_num')::int >= 170000") == "t";
    let flag = format!(
        "select coalesce(to_jsonb(s)->>'failover', 'unknown') from pg_replication_slots s where slot_name = '{slot}'"
    );
    n1.sql("select pg_create_logical_replication_slot('spk_idle', 'spock_output')")
        .sql("select pg_create_logical_replication_slot('foreign', 'pgoutput')");
    // One in use stays as it is.
    let before = n1.query_one(&flag);
    n1.reads("select spock.slot_enable_failover()", if modern { "1" } else { "0" });
    n1.reads(&flag, &before).reads("select spock.slot_enable_failover()", "0");
    n2.sql("select spock.sub_disable('sub_n1_n2')");
    n1.comes_to_read(&format!("select active from pg_replication_slots where slot_name = '{slot}'"), "f");
    n1.sql("select spock.slot_enable_failover()").reads(&flag, if modern { "true" } else { "unknown" });
    n1.reads(
        "select count(*) from pg_replication_slots s where slot_name = 'foreign' and to_jsonb(s)->>'failover' = 'true'",
        "0",
    );
    n2.sql("select spock.sub_enable('sub_n1_n2')");
    mesh.settle();
}

#[test]
fn waiting_for_a_synchronization_ends_when_the_user_says_so() {
    let mesh = Mesh::of(["n1", "n2"]);
    let n2 = mesh.node("n2");
    let wait = "select spock.sub_wait_for_sync('sub_n1_n2')";
    n2.sql("set spock.sync_timeout = '1s'").sql(wait);
    n2.sql("update spock.local_sync_status set sync_status = 'i'");
    let error = n2.sql_error(wait);
    assert_eq!(error.code, "57014", "{error}");
    n2.sql("update spock.local_sync_status set sync_status = 'r'").sql(wait);
}

#[test]
fn conflicts_are_kept_for_as_many_days_as_is_set() {
    let mesh = Mesh::unjoined(["n1"]);
    let n1 = mesh.node("n1");
    must(n1.set("spock.resolutions_retention_days", "10"));
    n1.sql(
        "insert into spock.resolutions (node_name, log_time, relname)
         values ('n1', now() - interval '9 days', 'newer'), ('n1', now() - interval '11 days', 'older')",
    );
    n1.restart_fast();
    n1.comes_to_read("select string_agg(relname, ' ') from spock.resolutions", "newer");
}
