//! What cannot be applied stops the subscription and is said; it is not dropped in silence, and goes on once it can.

use spock_mesh::Mesh;
use spock_mesh::mesh::{MeshOptions, Stage};
use spock_mesh::session::Failure;
use spock_mesh::story::must;

const STATUS: &str = "select status from spock.sub_show_status('sub_n1_n2')";

#[test]
fn a_table_missing_at_the_subscriber_stops_the_subscription_until_it_is_there() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("known (id int primary key)");
    let n1 = mesh.node("n1");
    n1.sql("create table acct (id int primary key)").sql("select spock.repset_add_table('default', 'acct')");
    n1.sql("begin; insert into known values (1); insert into acct values (1); commit");
    mesh.node("n2").comes_to_read(STATUS, "disabled");
    mesh.node("n2").reads("select count(*) from known", "0");
    mesh.node("n2").comes_to_log("acct");
    mesh.node("n2").sql("create table acct (id int primary key)").sql("select spock.sub_enable('sub_n1_n2')");
    mesh.node("n2").comes_to_read(STATUS, "replicating");
    mesh.settle();
    mesh.node("n2").reads("select (select id from known), (select id from acct)", "1|1");
}

#[test]
fn a_row_that_breaks_a_constraint_stops_the_subscription_and_leaves_no_half_transaction() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    mesh.node("n2").sql("alter table acct add constraint positive check (bal > 0)");
    mesh.node("n1")
        .sql("insert into acct values (1, 1)")
        .sql("begin; insert into acct values (2, 2); insert into acct values (3, -3); commit");
    mesh.node("n2").comes_to_read(STATUS, "disabled");
    mesh.node("n2").reads("select id from acct", "1");
    mesh.node("n2").comes_to_log("positive");
    mesh.node("n2").sql("alter table acct drop constraint positive").sql("select spock.sub_enable('sub_n1_n2')");
    mesh.node("n2").comes_to_read(STATUS, "replicating");
    mesh.settle();
    mesh.same_everywhere("acct");
}

#[test]
fn a_column_missing_at_the_subscriber_stops_the_subscription() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)");
    mesh.node("n1").sql("alter table acct add column note text").sql("insert into acct values (1, 'x')");
    mesh.node("n2").comes_to_read(STATUS, "disabled");
    mesh.node("n2").sql("alter table acct add column note text").sql("select spock.sub_enable('sub_n1_n2')");
    mesh.node("n2").comes_to_read(STATUS, "replicating");
    mesh.settle();
    mesh.every_node_reads("select * from acct", "1|x");
}

/// Whatever the server repeats of a statement, it repeats without its secrets: in the log, and in the views of activity.
#[test]
fn a_password_in_a_connection_string_is_never_shown() {
    let mesh = Mesh::unjoined(["n1"]);
    let n1 = mesh.node("n1");
    n1.sql("alter system set log_statement = 'all'").sql("alter system set log_min_duration_statement = 0");
    must(n1.reload());
    n1.comes_to_read("show log_min_duration_statement", "0");
    let mut other = must(n1.connect("postgres"));
    for dsn in [
        "host=/nonexistent port=1 user=postgres password=tops3cret dbname=postgres",
        "host=/nonexistent port=1 password = ''tops3cret''",
        "host=/nonexistent port=1 sslpassword=tops3cret",
        "postgresql://postgres:tops3cret@localhost:1/postgres",
    ] {
        let statements = [
            format!("select spock.sub_create('s', '{dsn}')"),
            format!("select spock.node_add_interface('absent', 'second', '{dsn}')"),
            format!("do $$ begin perform spock.sub_create('s', '{dsn}'); end $$"),
            format!("prepare p(text) as select spock.sub_create('s', $1); execute p('{dsn}')"),
            format!("deallocate all; select spock.node_create('n2', '{dsn}')"),
        ];
        for statement in statements {
            match other.run(&statement) {
                Err(Failure::Sql(error)) => assert!(!error.to_string().contains("tops3cret"), "{statement}: {error}"),
                outcome => panic!("{statement}: {outcome:?}"),
            }
            n1.reads("select count(*) from pg_stat_activity where query like '%tops' || '3cret%' and pid <> pg_backend_pid()", "0");
        }
    }
    n1.sql_error("select spock.replicate_ddl('create role r password ''tops3cret''; select 1')");
    let log = n1.log();
    assert!(
        log.contains("statement: select spock.sub_create('s', 'host=/nonexistent port=1 user=postgres password\n"),
        "{log}"
    );
    let shown: Vec<&str> = log.lines().filter(|line| line.contains("tops3cret")).collect();
    assert!(shown.is_empty(), "{shown:?}");
    n1.reads("select count(*) from spock.subscription", "0").reads("select count(*) from spock.node_interface", "1");
    // Others' texts that only speak of passwords stay as they are.
    n1.sql("select 'no password here'");
    assert!(n1.log().contains("statement: select 'no password here'"));
}

#[test]
fn a_provider_that_is_no_node_is_refused_with_its_reason() {
    let names = vec!["n1".to_owned(), "n2".to_owned()];
    let mesh = Mesh::with(&MeshOptions { names, stage: Stage::Servers, ..MeshOptions::default() });
    mesh.everywhere("create extension spock");
    let (to_n1, own) = (mesh.node("n1").dsn(), mesh.node("n2").dsn());
    let create = format!("select spock.sub_create('s', '{to_n1}')");
    assert_eq!(mesh.node("n2").sql_error(&create).code, "55000");
    mesh.node("n2").sql(&format!("select spock.node_create('n2', '{own}')"));
    let error = mesh.node("n2").sql_error(&create);
    assert!(error.message.contains("node") || error.detail.contains("node"), "{error}");
    mesh.node("n2").reads("select count(*) from spock.subscription", "0");
}
