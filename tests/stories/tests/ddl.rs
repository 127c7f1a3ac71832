//! Statements that define things travel: given to `replicate_ddl`, or captured by themselves.

use spock_mesh::Mesh;
use spock_mesh::mesh::{MeshOptions, Stage};
use spock_mesh::story::must;

const STATUS: &str = "select status from spock.sub_show_status('sub_n1_n2')";
const COLUMNS: &str = "select string_agg(attname || ' ' || atttypid::regtype, ', ' order by attnum) from pg_attribute
    where attrelid = 't'::regclass and attnum > 0 and not attisdropped";

fn with_settings<const N: usize>(names: [&str; N], settings: &[(&str, &str)]) -> Mesh {
    made_to(Stage::Joined, names, settings)
}

fn made_to<const N: usize>(stage: Stage, names: [&str; N], settings: &[(&str, &str)]) -> Mesh {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Mesh::with(&MeshOptions { names, settings, stage, ..MeshOptions::default() })
}

/// Statements are captured, and tables put into sets.
const AUTOMATIC: [(&str, &str); 2] = [("spock.enable_ddl_replication", "on"), ("spock.include_ddl_repset", "on")];

fn automatic<const N: usize>(names: [&str; N]) -> Mesh {
    with_settings(names, &AUTOMATIC)
}

fn sets_of(table: &str) -> String {
    format!("select string_agg(set_name, ',' order by set_name) from spock.tables where relid = '{table}'::regclass")
}

#[test]
fn a_table_and_its_rows_arrive_in_one_transaction() {
    let mesh = Mesh::of(["n1", "n2"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql(
        "begin;
         select spock.replicate_ddl('create table public.t (id int primary key, v text); comment on table public.t is ''x''');
         select spock.repset_add_table('default', 't');
         insert into t values (1, 'one');
         select spock.replicate_ddl('alter table t add column w int default 7');
         insert into t values (2, 'two', 8);
         update t set v = 'eins' where id = 1;
         commit",
    );
    mesh.settle();
    n2.reads("select * from t order by id", "1|eins|7\n2|two|8").reads("select obj_description('t'::regclass)", "x");
    n1.sql(
        "begin; select spock.replicate_ddl('alter table t drop column v'); insert into t values (3, 9); commit;
         insert into t values (4, 10)",
    );
    mesh.settle();
    n2.reads("select * from t order by id", "1|7\n2|8\n3|9\n4|10");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn several_commands_run_in_their_order() {
    let mesh = Mesh::of(["n1", "n2"]);
    mesh.node("n1").reads(
        "select spock.replicate_ddl(array['create table t (id int primary key)', 'create view v as select id from t',
            'create index on t (id)', 'grant select on t to public', 'create extension pg_trgm',
            'create materialized view m as select id from t', 'refresh materialized view m', 'cluster t using t_pkey',
            'create type mood as enum (''ok'')', 'alter type mood add value ''fine'''])",
        "t\nt\nt\nt\nt\nt\nt\nt\nt\nt",
    );
    mesh.settle();
    mesh.every_node_reads("select count(*) from v", "0");
    mesh.every_node_reads("select has_table_privilege('pg_monitor', 't', 'select')", "t");
    mesh.every_node_reads("select count(*) from pg_index where indrelid = 't'::regclass", "2");
    mesh.every_node_reads("select count(*) from pg_extension where extname = 'pg_trgm'", "1");
    mesh.every_node_reads("select count(*) from m", "0");
    mesh.every_node_reads("select enum_range(null::mood)", "{ok,fine}");
}

#[test]
fn role_and_search_path_are_those_of_the_command_and_do_not_stay() {
    let mesh = Mesh::of(["n1", "n2"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    mesh.everywhere(
        "create role alice; create schema alice authorization alice; create schema \"Odd, name\" authorization alice",
    );
    n1.sql("set search_path = 'Odd, name', public")
        .sql("select spock.replicate_ddl('create table here (id int)', role := 'alice')")
        .sql("select spock.replicate_ddl('create table there (id int)', search_path := '\"$user\"', role := 'alice')")
        .sql("select spock.replicate_ddl('create table public.nowhere (id int)', search_path := '')")
        .sql("reset search_path");
    mesh.settle();
    let owned = "select relname, relnamespace::regnamespace, relowner::regrole from pg_class
        where relname in ('here', 'there', 'nowhere') order by 1";
    mesh.every_node_reads(owned, "here|\"Odd, name\"|alice\nnowhere|public|postgres\nthere|alice|alice");
    // A command that follows in the same session of the subscriber sees nothing of them.
    n1.sql("select spock.replicate_ddl('create table last (id int)')");
    mesh.settle();
    n2.reads(
        "select relnamespace::regnamespace, relowner::regrole from pg_class where relname = 'last'",
        "public|postgres",
    );
}

#[test]
fn a_command_that_fails_on_the_subscriber_stops_it_and_is_recorded_without_its_password() {
    let mesh = Mesh::of(["n1", "n2"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("set log_min_error_statement = panic");
    n2.sql("create role bob");
    n1.sql(
        "begin; select spock.replicate_ddl('create table t (id int)');
            select spock.replicate_ddl('create role bob password ''tops3cret'''); commit",
    );
    n2.comes_to_read(STATUS, "disabled");
    n2.reads(
        "select operation, ddl_statement, ddl_user, error_message from spock.exception_log
          where operation = 'DDL' and ddl_statement like '%role%'",
        r#"DDL|"SET search_path TO \"$user\", public; create role bob password (left out)"|postgres|[SQLSTATE 42710] role "bob" already exists"#,
    );
    n2.reads("select to_regclass('t')", "");
    n2.reads("select count(*) from spock.exception_log e where e::text like '%tops3cret%'", "0");
    n2.comes_to_log("In a replicated statement of role \"postgres\": SET search_path TO");
    assert!(!n2.log().contains("tops3cret"));
    n2.sql("drop role bob; select spock.sub_enable('sub_n1_n2')");
    n2.comes_to_read(STATUS, "replicating");
    mesh.settle();
    n2.reads(
        "select rolname, to_regclass('t') from pg_authid where rolname = 'bob' and rolpassword is not null",
        "bob|t",
    );
}

#[test]
fn a_role_that_is_missing_stops_the_subscriber() {
    let mesh = Mesh::of(["n1", "n2"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql(
        "create role carol superuser; select spock.replicate_ddl('create table public.t (id int)', role := 'carol')",
    );
    n2.comes_to_read(STATUS, "disabled");
    n2.comes_to_log("role \"carol\" does not exist");
    n2.sql("create role carol superuser; select spock.sub_enable('sub_n1_n2')");
    n2.comes_to_read("select relowner::regrole from pg_class where relname = 't'", "carol");
}

#[test]
fn commands_are_in_the_change_log() {
    let mesh = Mesh::of(["n1", "n2"]);
    must(mesh.node("n2").set("spock.apply_change_logging", "verbose"));
    must(mesh.node("n2").reload());
    mesh.node("n1").sql("select spock.replicate_ddl('create role r password ''tops3cret''')");
    mesh.settle();
    mesh.node("n2")
        .comes_to_log("\"sql\":\"SET search_path TO \\\"$user\\\", public; create role r password (left out)\"");
    assert!(!mesh.node("n2").log().contains("tops3cret"));
}

#[test]
fn statements_are_captured_and_tables_follow_into_sets_on_every_node() {
    let mesh = automatic(["n1", "n2", "n3"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("create table t (id int primary key, v text)").sql("insert into t values (1, 'one')");
    mesh.settle();
    mesh.every_node_reads("select * from t", "1|one");
    mesh.every_node_reads(&sets_of("t"), "default");
    // What another node writes into it replicates as well, and a column travels with its rows.
    n2.sql("begin; alter table t add column w int default 3; insert into t values (2, 'two', 4); commit");
    mesh.settle();
    mesh.every_node_reads("select * from t order by id", "1|one|3\n2|two|4");
    n1.sql("alter table t alter column w type bigint; alter table t rename column v to what");
    mesh.settle();
    mesh.every_node_reads(COLUMNS, "id integer, what text, w bigint");
    n1.sql("alter table t drop constraint t_pkey");
    mesh.settle();
    mesh.every_node_reads(&sets_of("t"), "default_insert_only");
    n2.sql("alter table t add primary key (id)");
    mesh.settle();
    mesh.every_node_reads(&sets_of("t"), "default");
    n1.sql("drop table t");
    mesh.settle();
    mesh.every_node_reads("select to_regclass('t'), count(*) from spock.replication_set_table", "|0");
    // One row for each statement and node: nothing was queued again, nothing came back.
    mesh.every_node_reads("select count(*), count(distinct message::text) from spock.queue", "7|7");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn the_role_that_ran_a_statement_owns_what_it_made_everywhere() {
    let mesh = automatic(["n1", "n2"]);
    mesh.node("n1").sql(
        "create role dave; create schema dave authorization dave; set role dave; create table own (id int); reset role",
    );
    mesh.settle();
    mesh.every_node_reads(
        "select relowner::regrole, relnamespace::regnamespace from pg_class where relname = 'own'",
        "dave|dave",
    );
    mesh.node("n1").reads("select distinct role from spock.queue where message::text like '%own%'", "dave");
}

#[test]
fn partitions_are_in_the_sets_of_their_parent() {
    let mesh = automatic(["n1", "n2"]);
    let n1 = mesh.node("n1");
    n1.sql("create table p (id int primary key) partition by range (id)");
    mesh.settle();
    for node in mesh.nodes() {
        node.sql("select spock.repset_create('mine')");
        node.sql("select spock.repset_add_table('mine', 'p'), spock.repset_remove_table('default', 'p')");
    }
    n1.sql("create table p1 partition of p for values from (0) to (10)").sql("create table p2 (id int primary key)");
    n1.sql("alter table p attach partition p2 for values from (10) to (20)");
    mesh.settle();
    mesh.every_node_reads(&sets_of("p1"), "mine");
    mesh.every_node_reads(&sets_of("p2"), "mine");
}

#[test]
fn statements_in_functions_are_captured_only_where_that_is_allowed() {
    let mesh = automatic(["n1", "n2"]);
    let n1 = mesh.node("n1");
    n1.sql("do $$ begin create table here (id int primary key); end $$");
    n1.sql("set spock.allow_ddl_from_functions = on");
    n1.sql("do $$ begin create table t (id int primary key); execute 'create index i on t (id)'; create schema local; end $$");
    n1.sql("do $$ declare x int := 1; begin create table made as select x as id; end $$");
    mesh.settle();
    mesh.node("n2").reads(
        "select to_regclass('here'), to_regclass('t'), to_regclass('i'), to_regclass('made'), to_regnamespace('local')",
        "|t|i||",
    );
    n1.comes_to_log("Its query has variables of a function.");
}

#[test]
fn what_is_of_one_session_or_one_server_stays_here() {
    let mesh = automatic(["n1", "n2"]);
    let n1 = mesh.node("n1");
    n1.sql("set spock.enable_ddl_replication = off; create table t (id int primary key); create schema pgedge_ace; reset all");
    mesh.node("n2").sql("set spock.enable_ddl_replication = off; create table t (id int primary key); reset all");
    n1.sql("create temp table t (id int); alter table t add column v int; create index on t (id); comment on table t is 'x'")
        .sql("create table u (like t); create view w as select * from t; create table x as select * from t")
        .sql("prepare q as select 1 as id; create table y as execute q; drop table t cascade")
        .sql("create index concurrently here on public.t (id)")
        .sql("create database elsewhere")
        .sql("alter system set work_mem = '5MB'")
        .sql("create table pgedge_ace.a (id int); alter table pgedge_ace.a add v int; create function pgedge_ace.f() returns int
              language sql return 1; drop table pgedge_ace.a");
    mesh.settle();
    n1.reads("select count(*) from spock.queue", "0");
    mesh.node("n2").reads("select count(*) from pg_index where indrelid = 't'::regclass", "1");
    n1.comes_to_log("It is about a temporary object of this session.");
    n1.sql("create table z as select 1 as id");
    mesh.settle();
    mesh.every_node_reads("select * from z", "1");
    n1.comes_to_log("The query runs again on each node.");
}

#[test]
fn nothing_that_defines_something_runs_where_all_of_it_is_denied() {
    let mesh = Mesh::unjoined(["n1"]);
    let n1 = mesh.node("n1");
    n1.sql("create table t (id int); set spock.deny_all_ddl = on");
    for statement in ["drop table t", "create role r", "grant select on t to public", "select 1 as id into u"] {
        assert_eq!(n1.sql_error(statement).code, "42501", "{statement}");
    }
    n1.sql("truncate t").sql("vacuum t").sql("reset spock.deny_all_ddl; drop table t");
}

#[test]
fn repair_hides_rows_and_statements() {
    let mesh = automatic(["n1", "n2"]);
    let n1 = mesh.node("n1");
    n1.sql("create table t (id int primary key); insert into t values (1), (2)");
    mesh.settle();
    n1.sql(
        "begin; select spock.repair_mode(true); delete from t where id = 1; create table here (id int);
            select spock.repair_mode(false); delete from t where id = 2; insert into t values (3); commit",
    );
    mesh.settle();
    n1.reads("select id from t", "3");
    mesh.node("n2").reads("select id from t order by id", "1\n3").reads("select to_regclass('here')", "");
    n1.sql("begin; select spock.repair_mode(true); truncate t; commit; insert into t values (4)");
    mesh.settle();
    mesh.node("n2").reads("select id from t order by id", "1\n3\n4");
}

#[test]
fn a_session_that_restores_a_structure_is_left_alone() {
    let mesh = automatic(["n1", "n2"]);
    let n1 = mesh.node("n1");
    n1.sql("set spock.subscription_schema_restore = on; create table t (id int primary key)");
    mesh.settle();
    n1.reads(&sets_of("t"), "").reads("select count(*) from spock.queue", "0");
    mesh.node("n2").reads("select to_regclass('t')", "");
}

#[test]
fn a_structure_that_is_copied_is_not_sent_on() {
    let mesh = made_to(Stage::Nodes, ["n1", "n2"], &AUTOMATIC);
    mesh.node("n1").sql("create table t (id int primary key); create view v as select id from t");
    mesh.subscribe("n2", "n1", ", synchronize_structure := true, synchronize_data := true");
    let n2 = mesh.node("n2");
    n2.reads("select count(*) from v", "0").reads("select count(*) from spock.queue", "0");
    n2.reads(&sets_of("t"), "");
    // What comes later is sent, and the table follows.
    mesh.node("n1").sql("create table u (id int primary key)");
    mesh.settle();
    n2.reads(&sets_of("u"), "default");
}

#[test]
fn a_command_that_fails_is_left_out_where_that_is_wanted() {
    let mesh = with_settings(["n1", "n2"], &[("spock.exception_behaviour", "discard")]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql("create schema s");
    n1.sql(
        "begin;
         select spock.replicate_ddl('create schema s');
         select spock.replicate_ddl('create table public.t (id int primary key)');
         select spock.repset_add_table('default', 't');
         insert into t values (1);
         commit",
    );
    mesh.settle();
    n2.reads("select id from t", "1").reads(
        "select ddl_statement, ddl_user from spock.exception_log where error_message like '%42P06%'",
        "SET search_path TO \"$user\", public; create schema s|postgres",
    );
    n1.sql("insert into t values (2)");
    mesh.settle();
    n2.reads("select count(*) from t", "2");
}

#[test]
fn the_queue_is_emptied_of_what_every_subscriber_has() {
    let mesh = with_settings(["n1", "n2"], &[("spock.queue_retention", "0")]);
    let n1 = mesh.node("n1");
    n1.sql("select spock.replicate_ddl('create table t (id int primary key)')")
        .sql("select spock.repset_add_table('default', 't')");
    mesh.settle();
    n1.sql("insert into t values (1)");
    mesh.settle();
    for node in mesh.nodes() {
        node.comes_to_read("select count(*) from spock.queue", "0");
    }
    mesh.everywhere("create sequence s");
    mesh.cut("n1", "n2");
    n1.sql("set spock.ddl_lock = off").sql("select spock.replicate_ddl('alter table t add column v int')");
    // Another pass of the manager has come by meanwhile.
    n1.sql("select spock.repset_add_seq('default', 's')");
    n1.comes_to_read("select last_value > 1 from spock.sequence_state", "t");
    n1.reads("select count(*) > 0 from spock.queue where message_type = 'Q'", "t");
    mesh.heal("n1", "n2").settle();
    mesh.node("n2").reads(COLUMNS, "id integer, v integer");
    n1.comes_to_read("select count(*) from spock.queue", "0");
}
