//! What is dropped is gone on both sides.

use spock_mesh::{Mesh, Stop};

#[test]
fn a_dropped_subscription_leaves_neither_slot_nor_origin_nor_worker() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)");
    let slot = mesh.slot_of("n2", "sub_n1_n2");
    let n2 = mesh.node("n2");
    n2.reads(&format!("select count(*) from pg_replication_origin where roname = '{slot}'"), "1");
    n2.reads("select spock.sub_drop('sub_n1_n2')", "1");
    n2.reads("select count(*) from spock.sub_show_status()", "0");
    n2.reads(&format!("select count(*) from pg_replication_origin where roname = '{slot}'"), "0");
    n2.comes_to_read("select count(*) from pg_stat_activity where backend_type like 'spock apply%'", "0");
    mesh.node("n1").reads(&format!("select count(*) from pg_replication_slots where slot_name = '{slot}'"), "0");
    // The other direction is not touched.
    n2.sql("insert into acct values (1)");
    mesh.settle();
    mesh.node("n1").reads("select id from acct", "1");
}

#[test]
fn a_subscription_dropped_while_its_provider_is_away_is_gone_with_a_warning() {
    let mesh = Mesh::of(["n1", "n2"]);
    spock_mesh::story::must(mesh.node("n1").stop(Stop::Fast));
    mesh.node("n2").reads("select spock.sub_drop('sub_n1_n2')", "1");
    mesh.node("n2").reads("select count(*) from spock.subscription", "0");
    mesh.node("n2").comes_to_log("WARNING:");
    mesh.node("n1").start_again();
}

#[test]
fn a_subscription_can_be_dropped_and_made_again() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)");
    mesh.node("n2").sql("select spock.sub_drop('sub_n1_n2')");
    mesh.subscribe("n2", "n1", "");
    mesh.node("n1").sql("insert into acct values (1)");
    mesh.settle();
    mesh.node("n2").reads("select id from acct", "1");
}

#[test]
fn a_missing_subscription_is_an_error_unless_told_otherwise() {
    let mesh = Mesh::unjoined(["n1"]);
    let error = mesh.node("n1").sql_error("select spock.sub_drop('nothing')");
    assert!(error.message.contains("nothing"), "{error}");
    mesh.node("n1").reads("select spock.sub_drop('nothing', true)", "0");
}

#[test]
fn a_node_with_subscriptions_is_not_dropped() {
    let mesh = Mesh::of(["n1", "n2"]);
    assert_eq!(mesh.node("n1").sql_error("select spock.node_drop('n1')").code, "55000");
    assert_eq!(mesh.node("n1").sql_error("select spock.node_drop('n2')").code, "55000");
}

#[test]
fn a_node_can_leave_and_join_again() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)");
    mesh.node("n1").sql("select spock.sub_drop('sub_n2_n1')");
    mesh.node("n2").sql("select spock.sub_drop('sub_n1_n2')").reads("select spock.node_drop('n2')", "t");
    mesh.node("n2").reads("select count(*) from spock.local_node", "0");
    let dsn = mesh.node("n2").dsn();
    mesh.node("n2")
        .sql(&format!("select spock.node_create('n2', '{dsn}')"))
        .sql("select spock.repset_add_table('default', 'acct')");
    mesh.join();
    mesh.node("n1").sql("insert into acct values (1)");
    mesh.node("n2").sql("insert into acct values (2)");
    mesh.settle();
    mesh.every_node_reads("select id from acct order by id", "1\n2");
}

#[test]
fn the_extension_can_be_dropped_and_created_again() {
    let mesh = Mesh::unjoined(["n1"]);
    let n1 = mesh.node("n1");
    let dsn = n1.dsn();
    n1.sql("select spock.node_drop('n1')").sql("drop extension spock").sql("create extension spock");
    n1.sql(&format!("select spock.node_create('n1', '{dsn}')"));
    n1.reads("select node_name from spock.node_info()", "n1");
}

#[test]
fn the_extension_is_not_dropped_while_it_has_subscriptions_unless_told_to() {
    let mesh = Mesh::unjoined(["n1", "n2"]).with_table("t (id int primary key)");
    mesh.subscribe("n2", "n1", "");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    for statement in ["drop extension spock", "drop extension if exists plpgsql_check, spock restrict"] {
        let error = n2.sql_error(statement);
        assert!(
            error.code == "2BP01" && error.detail.contains("sub_n1_n2") && error.hint.contains("sub_drop"),
            "{error}"
        );
    }
    n1.sql("insert into t values (1)");
    mesh.settle();
    n2.reads("select count(*) from t", "1");
    n2.sql("drop extension spock cascade").sql("drop extension if exists spock").sql("create extension spock");
    n2.reads("select count(*) from spock.subscription", "0").reads("select count(*) from t", "1");
    n1.sql("drop extension spock");
}

#[test]
fn a_table_can_be_dropped_while_it_replicates() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)").with_table("other (id int primary key)");
    mesh.node("n1")
        .sql("insert into acct values (1)")
        .sql("drop table acct cascade")
        .sql("insert into other values (1)");
    mesh.settle();
    mesh.node("n2").reads("select (select count(*) from acct), (select count(*) from other)", "1|1");
}
