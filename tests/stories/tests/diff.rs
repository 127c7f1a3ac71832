//! `spock.diff` finds the rows that differ, and no others; `spock.repair` makes them the same, as the version that won.

use spock_mesh::Mesh;
use spock_mesh::node::Node;
use spock_mesh::story::must;
use spock_mesh::writer::Writer;

const SIDES: &str = "select key, side from spock.diff";
/// Commit time and origin of the version of a row.
const VERSION: &str =
    "select o.\"timestamp\", o.roident from acct, pg_xact_commit_timestamp_origin(acct.xmin) o where id =";

/// Three equal rows on two nodes.
fn accounts() -> Mesh {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int, note text)");
    mesh.node("n1").sql("insert into acct select n, 100, null from generate_series(1, 3) n");
    mesh.settle();
    mesh
}

/// Does something that no other node hears of.
fn in_silence(node: &Node, sql: &str) {
    node.sql(&format!("begin; select spock.repair_mode(true); {sql}; commit"));
}

fn is_equal(mesh: &Mesh, table: &str) {
    for (one, other) in [("n1", "n2"), ("n2", "n1")] {
        mesh.node(one).reads(&format!("{SIDES}('{other}', '{table}')"), "");
    }
    let digest = mesh.node("n1").query_one(&format!("select * from spock.table_digest('{table}')"));
    mesh.node("n2").reads(&format!("select * from spock.table_digest('{table}')"), &digest);
}

#[test]
fn equal_nodes_have_no_difference_while_both_are_written_to() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int, note text)");
    mesh.node("n1").sql("insert into acct select n, 0, null from generate_series(1, 2000) n");
    mesh.settle();
    let write = |name: &'static str, first: u64| {
        Writer::start(mesh.node(name), first, move |n| match n % 4 {
            0 => format!("insert into acct values ({n}, 1, '{name}') on conflict (id) do update set bal = 1"),
            1 => format!("delete from acct where id = {}", n.saturating_sub(1)),
            // A few rows that never stand still, and many that seldom move.
            2 => format!("update acct set bal = {n}, note = '{name}' where id = {}", n % 5 + 1),
            _ => format!("update acct set bal = {n}, note = '{name}' where id = {}", n % 2000 + 1),
        })
    };
    let writers = [write("n1", 100_000), write("n2", 500_000)];
    for round in 0..6 {
        for writer in &writers {
            writer.wait_for_more(50);
        }
        let (one, other) = if round % 2 == 0 { ("n1", "n2") } else { ("n2", "n1") };
        mesh.node(one).reads(&format!("select * from spock.diff('{other}', 'acct')"), "");
    }
    for writer in writers {
        writer.finish();
    }
    mesh.settle();
    is_equal(&mesh, "acct");
}

#[test]
fn every_kind_of_difference_is_found_from_both_nodes() {
    let mesh = accounts();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    in_silence(n1, "update acct set bal = 1, note = 'it''s' where id = 1; insert into acct values (4, 4, null)");
    in_silence(n2, "delete from acct where id = 2");
    let seen = "select key, side, local_row, remote_row, local_origin, remote_origin, local_time > remote_time from spock.diff";
    n1.reads(
        &format!("{seen}('n2', 'acct')"),
        "{\"id\": 1}|both|{\"id\": 1, \"bal\": 1, \"note\": \"it's\"}|{\"id\": 1, \"bal\": 100, \"note\": null}|n1|n1|t\n\
         {\"id\": 2}|local only|{\"id\": 2, \"bal\": 100, \"note\": null}||n1||\n\
         {\"id\": 4}|local only|{\"id\": 4, \"bal\": 4, \"note\": null}||n1||",
    );
    n2.reads(&format!("{SIDES}('n1', 'acct')"), "{\"id\": 1}|both\n{\"id\": 2}|remote only\n{\"id\": 4}|remote only");
    // A limit is told.
    n1.reads(&format!("{SIDES}('n2', 'acct', max_rows => 2)"), "{\"id\": 1}|both\n{\"id\": 2}|local only\n|cut off");
    n1.reads("select count(*) from spock.diff('n2', 'acct', max_rows => 3)", "3");
    n1.reads("select count(*) from spock.diff('n2', 'acct', max_rows => null, timeout => 0)", "3");
}

#[test]
fn the_winner_is_written_with_its_own_time_and_origin() {
    let mesh = accounts();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    // Two versions that win on n1, in two transactions; one on n2; and a row that only n1 has.
    in_silence(n1, "update acct set bal = 1 where id = 1");
    in_silence(n1, "insert into acct values (4, 4, 'new')");
    in_silence(n2, "update acct set bal = 2, note = '' where id = 2");
    in_silence(n2, "delete from acct where id = 3");
    let shows = "select key, action, version_origin from spock.repair";
    let on_n2 = "{\"id\": 1}|updated|n1\n{\"id\": 2}|kept|n2\n{\"id\": 3}|inserted|n1\n{\"id\": 4}|inserted|n1";
    n2.reads(&format!("{shows}('n1', 'acct', dry_run => true)"), on_n2);
    n2.reads("select id, bal from acct order by id", "1|100\n2|2");
    n2.reads(&format!("{shows}('n1', 'acct')"), on_n2);
    n2.reads("select * from acct order by id", "1|1|\n2|2|\n3|100|\n4|4|new");
    // What n2 has won is for n1 to write; nothing of what n2 wrote went back.
    n1.reads(&format!("{shows}('n2', 'acct')"), "{\"id\": 2}|updated|n2");
    let own = |node: &Node| node.query_one("select node_id from spock.local_node");
    let (id1, id2) = (own(n1), own(n2));
    for (key, writer, other, origin) in [(1, n1, n2, &id1), (2, n2, n1, &id2), (3, n1, n2, &id1), (4, n1, n2, &id1)] {
        let version = writer.query_one(&format!("{VERSION} {key}"));
        let (time, _) = version.split_once('|').unwrap_or_else(|| panic!("time and origin: {version}"));
        other.reads(&format!("{VERSION} {key}"), &format!("{time}|{origin}"));
    }
    is_equal(&mesh, "acct");
    // Nothing of it is left behind, and the next change is an ordinary one.
    n2.reads("select count(*) from pg_replication_origin where roname like 'spock_repair%'", "0");
    n2.sql("update acct set bal = 9");
    mesh.settle();
    n1.reads("select distinct bal from acct", "9");
    is_equal(&mesh, "acct");
    mesh.logs_hold_nothing_unexpected(&[]);
}

/// An error ends a repair; what was committed before stays, and nothing is left behind.
#[test]
fn a_row_that_cannot_be_written_is_told() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int unique)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into acct values (1, 1), (2, 2)");
    mesh.settle();
    in_silence(n2, "update acct set bal = 7 where id = 2");
    in_silence(n1, "insert into acct values (3, 3)");
    in_silence(n1, "insert into acct values (4, 7)");
    n2.reads(
        "select key, action from spock.repair('n1', 'acct')",
        "{\"id\": 2}|kept\n{\"id\": 3}|inserted\n{\"id\": 4}|changed",
    );
    in_silence(n1, "update acct set bal = 30 where id = 3");
    in_silence(n1, "delete from acct where id = 4; update acct set bal = 7 where id = 1");
    let error = n2.sql_error("select key, action from spock.repair('n1', 'acct')");
    assert_eq!(error.code, "23505", "{error}");
    n2.reads("select * from acct order by id", "1|1\n2|7\n3|30");
    n2.reads("select count(*) from pg_replication_origin where roname like 'spock_repair%'", "0");
    n2.reads(
        "select key, action from spock.repair('n1', 'acct', prefer => 'local')",
        "{\"id\": 1}|kept\n{\"id\": 2}|kept",
    );
}

#[test]
fn a_preferred_side_wins_whatever_the_versions_are() {
    let mesh = accounts();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    in_silence(n1, "update acct set bal = 1 where id = 1; insert into acct values (4, 4, null)");
    let acts = "select key, action from spock.repair";
    n1.reads(&format!("{acts}('n2', 'acct', prefer => 'local')"), "{\"id\": 1}|kept\n{\"id\": 4}|kept");
    n1.reads(&format!("{acts}('n2', 'acct', prefer => 'remote')"), "{\"id\": 1}|updated\n{\"id\": 4}|deleted");
    is_equal(&mesh, "acct");
    n2.reads("select count(*) from acct", "3");
}

#[test]
fn a_difference_in_a_large_table_is_reached_without_reading_the_rest() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("large (id bigint primary key, filler text)");
    mesh.node("n1").sql("insert into large select n, 'row ' || n from generate_series(1, 100000) n");
    mesh.settle();
    let n2 = mesh.node("n2");
    in_silence(n2, "update large set filler = 'other' where id in (17, 99999); delete from large where id = 500");
    n2.sql("set log_min_messages = debug1");
    n2.reads(&format!("{SIDES}('n1', 'large')"), "{\"id\": 17}|both\n{\"id\": 500}|remote only\n{\"id\": 99999}|both");
    let log = n2.log();
    let line =
        log.lines().rfind(|line| line.contains("compared table public.large")).unwrap_or_else(|| panic!("{log}"));
    let number = |before: &str| -> usize {
        let (_, rest) = line.split_once(before).unwrap_or_else(|| panic!("{before:?} in {line}"));
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("a number behind {before:?} in {line}"))
    };
    assert_eq!(number("\"n1\": "), 3, "buckets that differ: {line}");
    assert!(number("differed, ") < 300, "about 25 rows of each side in a bucket: {line}");
    assert_eq!(number("fetched, "), 3, "rows that looked different: {line}");
}

#[test]
fn what_both_nodes_replicate_is_compared() {
    let mesh = Mesh::of(["n1", "n2"]);
    mesh.everywhere(
        "create type mood as enum ('sad', 'ok'); create domain code as text;
         create table part (k code, at timestamptz, m mood, secret text, twice int generated always as (1) stored, primary key (k, at))
             partition by list (k);
         create table part_a partition of part for values in ('a'); create table part_b partition of part for values in ('b');
         select spock.repset_add_table('default', 'part', columns => '{k,at,m}')",
    );
    mesh.node("n2").sql("alter table part add column local_only int default 7");
    mesh.node("n1").sql("insert into part values ('a', '2026-01-01 00:00:00+00', 'ok', 's'), ('b', '2026-01-02 00:00:00+00', null, 's')");
    mesh.settle();
    for (one, other) in [("n1", "n2"), ("n2", "n1")] {
        mesh.node(one)
            .reads(&format!("{SIDES}('{other}', 'part')"), "")
            .reads(&format!("{SIDES}('{other}', 'part_a')"), "");
    }
    in_silence(mesh.node("n2"), "update part set m = 'sad' where k = 'a'; delete from part where k = 'b'");
    mesh.node("n1").reads(
        "select key, side, remote_row from spock.diff('n2', 'part')",
        "{\"k\": \"a\", \"at\": \"2026-01-01T00:00:00+00:00\"}|both|{\"k\": \"a\", \"m\": \"sad\", \"at\": \"2026-01-01T00:00:00+00:00\"}\n\
         {\"k\": \"b\", \"at\": \"2026-01-02T00:00:00+00:00\"}|local only|",
    );
    mesh.node("n1").reads("select action from spock.repair('n2', 'part')", "updated\nkept");
    mesh.node("n2").reads("select action from spock.repair('n1', 'part')", "inserted");
    mesh.node("n1").reads("select k, m, secret, twice from part order by k", "a|sad|s|1\nb||s|1");
    mesh.node("n2").reads("select k, m, secret, twice, local_only from part order by k", "a|sad||1|7\nb|||1|7");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let mesh = accounts();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    let fails = |sql: &str, code: &str, words: &str| {
        let error = n1.sql_error(sql);
        assert!(error.code == code && error.message.contains(words), "{sql}: wanted {code} {words:?}, got {error}");
        assert!(!error.to_string().contains("host="), "{error}");
    };
    n1.sql("create table here (id int primary key)");
    fails("select spock.diff('n2', 'here')", "42P01", "does not exist on node \"n2\"");
    n2.sql("create table here (id int primary key)");
    fails("select spock.diff('n2', 'here')", "55000", "in none of the replication sets");
    mesh.everywhere("create table keyless (a int); select spock.repset_add_table('default_insert_only', 'keyless')");
    fails("select spock.diff('n2', 'keyless')", "55000", "has no key");
    mesh.everywhere("create table filtered (id int primary key, v int); select spock.repset_add_table('default', 'filtered', row_filter => 'v > 0')");
    fails("select spock.diff('n2', 'filtered')", "0A000", "row filter");
    n2.sql("alter table acct alter bal type bigint");
    fails("select spock.diff('n2', 'acct')", "42804", "column \"bal\" of table public.acct has different types");
    n2.sql("alter table acct alter bal type int; alter table acct add more int");
    fails("select spock.diff('n2', 'acct')", "42703", "lacks columns");
    n2.sql("alter table acct drop more; alter table acct drop constraint acct_pkey; alter table acct add primary key (id, bal)");
    fails("select spock.diff('n2', 'acct')", "55000", "identified by different columns");
    n2.sql("alter table acct drop constraint acct_pkey; alter table acct add primary key (id)");
    n1.sql("create role reader in role spock_monitor");
    fails(
        "set role reader; select spock.diff('n2', 'acct')",
        "42501",
        "role \"reader\" does not exist on the other node",
    );
    n2.sql("create role reader");
    fails("set role reader; select spock.diff('n2', 'acct')", "42501", "may not read table public.acct");
    n2.sql("grant select on acct to reader");
    fails("set role reader; select spock.diff('n2', 'acct')", "42501", "permission denied for table acct");
    n1.sql("grant select on acct to reader");
    let mut session = must(n1.connect("postgres"));
    assert!(session.run("set role reader; select * from spock.diff('n2', 'acct')").is_ok_and(|rows| rows.0.is_empty()));
    n2.sql("alter table acct enable row level security");
    fails("set role reader; select spock.diff('n2', 'acct')", "42501", "row security on the other node");
    // What is under way cannot be waited for.
    n2.sql("select spock.sub_disable('sub_n1_n2')");
    fails(
        "select spock.diff('n2', 'acct')",
        "55000",
        "subscription \"sub_n1_n2\" of the other node to this one is disabled",
    );
    n1.sql("select spock.sub_disable('sub_n2_n1')");
    fails("select spock.diff('n2', 'acct')", "55000", "subscription \"sub_n2_n1\" is disabled");
}

#[test]
fn what_does_not_arrive_in_time_ends_the_comparison() {
    let mesh = accounts();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    let mut blocker = must(n2.connect("postgres"));
    assert!(blocker.run("begin; lock table acct in exclusive mode").is_ok());
    n1.sql("update acct set bal = 5");
    let error = n1.sql_error("select * from spock.diff('n2', 'acct', timeout => 15)");
    assert_eq!(error.code, "57014", "{error}");
    assert_eq!(error.message, "node \"n2\" has not applied what node \"n1\" had written within 15 s");
    drop(blocker);
    n1.reads("select * from spock.diff('n2', 'acct')", "");
}

/// A third node's change reaches the two at different times: that is no difference either.
#[test]
fn changes_of_a_third_node_are_waited_for() {
    let mesh = Mesh::of(["n1", "n2", "n3"]).with_table("acct (id int primary key, bal int)");
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    n3.sql("insert into acct values (1, 1)");
    mesh.settle();
    // n2 stands still for n3 only: a row of another table that n3 wrote is locked there.
    mesh.everywhere("create table gate (id int primary key); select spock.repset_add_table('default', 'gate')");
    let mut blocker = must(n2.connect("postgres"));
    assert!(blocker.run("begin; lock table gate in exclusive mode").is_ok());
    n3.sql("insert into gate values (1)").sql("update acct set bal = 2");
    n1.comes_to_read("select bal from acct", "2");
    let error = n1.sql_error("select * from spock.diff('n2', 'acct', timeout => 15)");
    assert_eq!(error.message, "node \"n2\" has not applied what node \"n3\" had written within 15 s");
    drop(blocker);
    n1.reads("select * from spock.diff('n2', 'acct')", "");
    in_silence(n2, "update acct set bal = 3");
    n1.reads("select key, local_origin, remote_origin from spock.diff('n2', 'acct')", "{\"id\": 1}|n3|n2");
}
