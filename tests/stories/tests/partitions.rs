//! Partitioned tables: which partitions go out, and with which rows.

use spock_mesh::Mesh;
use spock_mesh::mesh::{MeshOptions, Stage};

fn one_way() -> Mesh {
    let mesh = Mesh::with(&MeshOptions {
        names: vec!["n1".into(), "n2".into()],
        stage: Stage::Nodes,
        ..MeshOptions::default()
    });
    mesh.subscribe("n2", "n1", "");
    mesh
}

const MEASURES: &str =
    "create table measure (id int, region text, value int, primary key (id)) partition by range (id);
    create table measure_1 partition of measure for values from (0) to (100);
    create table measure_2 (value int, gone int, region text, id int primary key);
    alter table measure_2 drop column gone;
    alter table measure attach partition measure_2 for values from (100) to (200);";

#[test]
fn partitions_come_along_and_rows_move_between_them() {
    let mesh = one_way();
    mesh.everywhere(MEASURES);
    let n1 = mesh.node("n1");
    n1.sql("select spock.repset_add_table('default', 'measure')")
        .sql("insert into measure values (1, 'eu', 1), (150, 'us', 2)")
        .sql("update measure set id = 151 where id = 1")
        .sql("update measure set value = 20 where id = 150");
    mesh.settle();
    mesh.node("n2")
        .reads("select tableoid::regclass, * from measure order by id", "measure_2|150|us|20\nmeasure_2|151|eu|1");
    n1.sql("truncate measure");
    mesh.settle();
    mesh.node("n2").reads("select count(*) from measure", "0");
}

#[test]
fn each_partition_is_filtered_by_its_own_columns() {
    let mesh = one_way();
    mesh.everywhere(MEASURES);
    let n1 = mesh.node("n1");
    n1.sql("select spock.repset_add_table('default', 'measure', columns := '{id,region}', row_filter := $$region = 'eu'$$, include_partitions := false)")
        .sql("select spock.repset_add_partition('measure')")
        .sql("insert into measure values (1, 'eu', 1), (2, 'us', 2), (101, 'eu', 3), (102, 'us', 4)");
    mesh.settle();
    mesh.node("n2").reads("select * from measure order by id", "1|eu|\n101|eu|");
}

#[test]
fn a_partition_that_is_added_or_removed_is_sent_from_then_on_or_no_more() {
    let mesh = one_way();
    mesh.everywhere(MEASURES);
    let n1 = mesh.node("n1");
    n1.sql("select spock.repset_add_table('default', 'measure')");
    mesh.everywhere("create table measure_3 partition of measure for values from (200) to (300)");
    n1.sql("insert into measure values (201, 'eu', 1)")
        .sql("select spock.repset_add_partition('measure', 'measure_3')")
        .sql("insert into measure values (202, 'eu', 2)");
    mesh.settle();
    mesh.node("n2").reads("select id from measure", "202");
    n1.sql("select spock.repset_remove_partition('measure', 'measure_3')")
        .sql("insert into measure values (203, 'eu', 3)");
    mesh.settle();
    mesh.node("n2").reads("select id from measure", "202");
}

const SPREAD: &str =
    "create table t (region text, value int, id int, primary key (id, region)) partition by list (region);
    create table t_eu (value int, id int not null, region text not null);
    alter table t attach partition t_eu for values in ('eu');
    create table t_rest partition of t default partition by range (id);
    create table t_low partition of t_rest for values from (0) to (100);
    create table t_high partition of t_rest for values from (100) to (200);";

#[test]
fn rows_of_a_plain_table_go_to_the_partitions_of_the_subscriber() {
    let mesh = one_way();
    mesh.node("n1").sql("create table t (id int, region text, value int, primary key (id, region))");
    mesh.node("n2").sql(SPREAD);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("select spock.repset_add_table('default', 't')")
        .sql("begin; insert into t values (1, 'eu', 1), (2, 'us', 2); insert into t values (150, 'us', 3), (4, 'eu', 4); commit")
        .sql("update t set value = 10 where id = 1")
        .sql("delete from t where id = 4");
    mesh.settle();
    let all = "select tableoid::regclass, id, region, value from t order by id";
    n2.reads(all, "t_eu|1|eu|10\nt_low|2|us|2\nt_high|150|us|3");
    // A key that changes moves the row.
    n1.sql("update t set region = 'us', value = 11 where id = 1").sql("update t set id = 20 where id = 150");
    mesh.settle();
    n2.reads(all, "t_low|1|us|11\nt_low|2|us|2\nt_low|20|us|3");
    n1.sql("truncate t").sql("insert into t values (7, 'eu', 7)");
    mesh.settle();
    n2.reads(all, "t_eu|7|eu|7");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn a_row_for_which_there_is_no_partition_stops_the_subscription_until_there_is_one() {
    let mesh = one_way();
    mesh.node("n1").sql("create table t (id int primary key)");
    mesh.node("n2").sql("create table t (id int primary key) partition by range (id)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("select spock.repset_add_table('default', 't')").sql("insert into t values (1)");
    n2.comes_to_read("select status from spock.sub_show_status()", "disabled");
    n2.sql("create table t_1 partition of t for values from (0) to (10)").sql("select spock.sub_enable('sub_n1_n2')");
    n2.comes_to_read("select status from spock.sub_show_status()", "replicating");
    mesh.settle();
    n2.reads("select id from t_1", "1");
}

/// The key that the provider sends does not say where the row is, so that an update could leave two of it.
#[test]
fn updates_are_refused_where_the_key_does_not_tell_the_partition() {
    let mesh = one_way();
    mesh.node("n1").sql("create table t (id int primary key, region text, value int)");
    mesh.node("n2").sql(SPREAD);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("select spock.repset_add_table('default', 't')").sql("insert into t values (1, 'eu', 1)");
    mesh.settle();
    n1.sql("update t set region = 'us'");
    n2.comes_to_read("select status from spock.sub_show_status()", "disabled");
    n2.comes_to_log("cannot apply UPDATE and DELETE to partitioned table");
    n2.reads("select id, region from t", "1|eu");
}
