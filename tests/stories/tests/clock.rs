//! What a patched server promises, asked through SQL. A stock server skips these stories.

use spock_mesh::story::must;
use spock_mesh::writer::Writer;
use spock_mesh::{Mesh, ServerKind};

/// True on a patched server; otherwise the story is reported as skipped.
fn patched(story: &str) -> bool {
    match spock_mesh::story::server_under_test() {
        ServerKind::Patched => true,
        ServerKind::Stock => {
            spock_mesh::story::skipped(&format!("clock::{story}"), "needs a patched server");
            false
        }
    }
}

fn faketime(story: &str) -> bool {
    let found = spock_mesh::node::faketime().is_some();
    if !found {
        spock_mesh::story::skipped(&format!("clock::{story}"), "libfaketime is not installed");
    }
    found
}

#[test]
fn local_commit_times_are_all_different() {
    if !patched("local_commit_times_are_all_different") {
        return;
    }
    let mesh = Mesh::unjoined(["n1"]);
    let n1 = mesh.node("n1");
    n1.sql("create table stamp (id bigint)");
    let writers = [1, 1_000_001, 2_000_001, 3_000_001]
        .map(|first| Writer::start(n1, first, |n| format!("insert into stamp values ({n})")));
    for writer in &writers {
        writer.wait_for_more(300);
    }
    for writer in writers {
        writer.finish();
    }
    n1.reads("select count(*) - count(distinct pg_xact_commit_timestamp(xmin)) from stamp", "0");
}

#[test]
fn d7_after_a_restart_with_the_clock_behind_commits_are_later_than_all_before() {
    let name = "d7_after_a_restart_with_the_clock_behind_commits_are_later_than_all_before";
    if !patched(name) || !faketime(name) {
        return;
    }
    let mesh = Mesh::unjoined(["n1"]);
    let n1 = mesh.node("n1");
    n1.sql("create table stamp (id bigint)").sql("insert into stamp values (1)").sql("insert into stamp values (2)");
    let in_order = "select bool_and(later > earlier) from (select pg_xact_commit_timestamp(xmin) as later,
                    lag(pg_xact_commit_timestamp(xmin)) over (order by id) as earlier from stamp) s";
    n1.move_clock(-3600);
    n1.restart_fast();
    n1.reads("select clock_timestamp() < (select max(pg_xact_commit_timestamp(xmin)) from stamp)", "t");
    n1.sql("insert into stamp values (3)").sql("insert into stamp values (4)").reads(in_order, "t");
    // The same after a crash, with the clock still further behind.
    n1.move_clock(-7200);
    n1.kill();
    n1.start_again();
    n1.sql("insert into stamp values (5)").reads(in_order, "t");
}

#[test]
fn d7_a_local_commit_after_a_remote_one_from_the_future_is_later_than_it() {
    let name = "d7_a_local_commit_after_a_remote_one_from_the_future_is_later_than_it";
    if !patched(name) || !faketime(name) {
        return;
    }
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    let n1 = mesh.node("n1");
    n1.move_clock(3600);
    n1.restart_fast();
    n1.sql("insert into acct values (1, 1), (2, 2)");
    mesh.settle();
    let n2 = mesh.node("n2");
    n2.reads("select clock_timestamp() < pg_xact_commit_timestamp(xmin) from acct where id = 1", "t");
    n2.sql("update acct set bal = 10 where id = 1");
    let later = "select (select pg_xact_commit_timestamp(xmin) from acct where id = 1) > (select pg_xact_commit_timestamp(xmin) from acct where id = 2)";
    n2.reads(later, "t");
    mesh.settle();
    // So n2's update is the later version on n1 as well, although n2's clock is an hour behind.
    mesh.every_node_reads("select bal from acct where id = 1", "10");
    n2.restart_fast();
    n2.sql("update acct set bal = 20 where id = 1").reads(later, "t");
    mesh.settle();
    mesh.every_node_reads("select bal from acct where id = 1", "20");
}

#[test]
fn a_local_commit_after_a_repair_from_the_future_is_later_than_it() {
    let name = "a_local_commit_after_a_repair_from_the_future_is_later_than_it";
    if !patched(name) || !faketime(name) {
        return;
    }
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.move_clock(3600);
    n1.restart_fast();
    // No other commit of the clock that is ahead reaches n2.
    n1.sql("begin; select spock.repair_mode(true); insert into acct values (1, 1); commit");
    n2.reads("select action, version_origin from spock.repair('n1', 'acct')", "inserted|n1");
    n2.reads("select clock_timestamp() < pg_xact_commit_timestamp(xmin) from acct", "t");
    n2.sql("update acct set bal = 10");
    mesh.settle();
    mesh.every_node_reads("select bal from acct", "10");
}

#[test]
fn old_values_of_marked_columns_are_in_the_wal() {
    if !patched("old_values_of_marked_columns_are_in_the_wal") {
        return;
    }
    let mesh = Mesh::unjoined(["n1"]);
    let n1 = mesh.node("n1");
    n1.sql("create table acct (id int primary key, bal int, note text)")
        .sql("alter table acct alter bal set (log_old_value = true)");
    n1.sql("insert into acct values (1, 100, 'x')");
    n1.sql("select pg_create_logical_replication_slot('look', 'test_decoding')");
    n1.sql("update acct set note = 'y' where id = 1").sql("update acct set bal = 110 where id = 1");
    let changes = n1.query_one(
        "select data from pg_logical_slot_get_changes('look', null, null) where data like 'table public.acct:%'",
    );
    let lines: Vec<&str> = changes.lines().collect();
    assert_eq!(lines.len(), 2, "{changes}");
    for line in lines {
        assert!(line.contains("old-key:") && line.contains("bal[integer]:100"), "{line}");
    }
}

#[test]
fn a_stock_server_refuses_the_column_options_by_name() {
    if spock_mesh::story::server_under_test() == ServerKind::Patched {
        let name = "clock::a_stock_server_refuses_the_column_options_by_name";
        return spock_mesh::story::skipped(name, "this server is patched");
    }
    let mesh = Mesh::unjoined(["n1"]);
    mesh.node("n1").sql("create table acct (id int primary key, bal int)");
    let error = mesh.node("n1").sql_error("alter table acct alter bal set (log_old_value = true)");
    assert!(error.message.contains("log_old_value"), "{error}");
}

/// Within the limit the commit waits until the local clock has passed the remote one; beyond it that is said, and counted.
#[test]
fn a_stock_server_waits_for_its_clock_before_it_commits_what_comes_from_ahead() {
    let name = "a_stock_server_waits_for_its_clock_before_it_commits_what_comes_from_ahead";
    if spock_mesh::story::server_under_test() == ServerKind::Patched {
        return spock_mesh::story::skipped(
            &format!("clock::{name}"),
            "this server is patched: its commits are later anyway",
        );
    }
    if !faketime(name) {
        return;
    }
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    let limit = |milliseconds: &str| {
        must(n2.set("spock.maximum_clock_skew", milliseconds));
        must(n2.reload());
        n2.comes_to_read("select setting from pg_settings where name = 'spock.maximum_clock_skew'", milliseconds);
    };
    limit("60000");
    n1.move_clock(5);
    n1.restart_fast();
    n1.sql("insert into acct values (1, 0)");
    mesh.settle();
    n2.sql("update acct set bal = 20");
    mesh.settle();
    mesh.every_node_reads("select bal from acct", "20");
    let warning = "the clock of the node where a change was made is";
    assert!(!n2.log().contains(warning), "it was waited for");
    limit("10");
    n1.move_clock(3600);
    n1.restart_fast();
    n1.sql("insert into acct values (2, 0)");
    mesh.settle();
    n2.comes_to_log(warning);
    n2.comes_to_log("since the worker started: 1.");
}

/// Half a minute: nothing that a busy machine does comes near it.
const APART_S: i64 = 30;

#[test]
fn d8_clocks_apart_are_measured_shown_and_warned_about_and_nodes_end_equal() {
    if !faketime("d8_clocks_apart_are_measured_shown_and_warned_about_and_nodes_end_equal") {
        return;
    }
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    if n1.query_one("select current_setting('server_version_num')::int < 160000") == "t" {
        let name = "clock::d8_clocks_apart_are_measured_shown_and_warned_about_and_nodes_end_equal";
        let why = "a postmaster of 15 starts workers in signal handlers, where libfaketime does not move their clocks";
        return spock_mesh::story::skipped(name, why);
    }
    let skew = "select peer, round(skew_ms / 1000), within_limit, limit_ms, abs(round(skew_ms / 30000) * 30000 - skew_ms) <= uncertainty_ms + 1
                from spock.clock_skew";
    n2.comes_to_read(skew, "n1|0|t|1000|t");
    n1.move_clock(APART_S);
    n1.restart_fast();
    n2.comes_to_read(skew, "n1|30|f|1000|t");
    n1.comes_to_read(skew, "n2|-30|f|1000|t");
    n2.comes_to_log("ms ahead of ours");
    n1.comes_to_log("ms behind ours");
    n1.sql("insert into acct values (1, 0), (2, 0), (3, 0)");
    mesh.settle();
    for shown in ["spock.sub_show_status()", "spock.lag_tracker"] {
        n2.comes_to_read(&format!("select clock_skew between '29 s' and '31 s' from {shown}"), "t");
    }
    mesh.cut("n1", "n2");
    n1.sql("update acct set bal = 10 where id = 1").sql("delete from acct where id = 2");
    n2.sql("update acct set bal = 20");
    mesh.heal("n1", "n2").settle();
    // Both take the change of the clock that is ahead, though the other one was made later.
    mesh.every_node_reads("select * from acct where id < 3", "1|10");
    // Nobody but n2 changes row 3, which it had got from the clock ahead. Its server must be able to make that the later version.
    let untouched = "select bal from acct where id = 3";
    match spock_mesh::story::server_under_test() {
        ServerKind::Patched => {
            mesh.every_node_reads(untouched, "20");
            mesh.same_everywhere("acct");
        }
        ServerKind::Stock => {
            n2.reads(untouched, "20").comes_to_log("counts as older than the row until our clock is past it");
            n1.reads(untouched, "0").reads("select key->>'id', side from spock.diff('n2', 'acct')", "3|both");
        }
    }
    let warnings = n2.log().lines().filter(|line| line.contains("the clock of node \"n1\" is")).count();
    assert_eq!(warnings, 1, "each excursion is warned about once");
    n1.move_clock(0);
    n1.restart_fast();
    n2.comes_to_read(skew, "n1|0|t|1000|t");
    n2.comes_to_log("the clock of node \"n1\" and ours are together again");
}
