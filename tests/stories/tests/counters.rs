//! Rows are counted by table where they are sent and where they are applied.

use spock_mesh::Mesh;
use spock_mesh::mesh::{MeshOptions, Stage};
use spock_mesh::story::must;

const ROWS: &str = "select sub_name, table_name, n_tup_ins, n_tup_upd, n_tup_del, n_conflict
    from spock.channel_table_stats where table_name like 'public.%' order by 1, 2";

#[test]
fn rows_are_counted_on_both_sides() {
    let mesh =
        Mesh::of(["n1", "n2"]).with_table("t (id int primary key, what text)").with_table("u (id int primary key)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t select n, 'a' from generate_series(1, 10) n")
        .sql("update t set what = 'b' where id < 6; delete from t where id = 1; insert into u values (1)");
    // What is rolled back is not sent.
    n1.sql("begin; insert into t values (11, 'a'); rollback");
    mesh.settle();
    n1.reads(ROWS, "<output>|public.t|10|5|1|0\n<output>|public.u|1|0|0|0");
    n2.reads(ROWS, "sub_n1_n2|public.t|10|5|1|0\nsub_n1_n2|public.u|1|0|0|0");
    n2.reads("select sub_name, n_tup_ins from spock.channel_summary_stats", "sub_n1_n2|11");
    n1.sql("select spock.reset_channel_stats()").reads(ROWS, "").sql("insert into u values (2)");
    mesh.settle();
    n1.reads(ROWS, "<output>|public.u|1|0|0|0");
}

#[test]
fn as_many_tables_are_counted_as_the_setting_allows() {
    let settings = vec![("spock.stats_max_entries".to_owned(), "3".to_owned())];
    let mesh = Mesh::with(&MeshOptions {
        names: vec!["n1".into(), "n2".into()],
        settings,
        stage: Stage::Joined,
        ..MeshOptions::default()
    });
    for table in ["a", "b", "c", "d", "e"] {
        mesh.everywhere(&format!("create table {table} (id int primary key)"));
        mesh.everywhere(&format!("select spock.repset_add_table('default', '{table}')"));
        mesh.node("n1").sql(&format!("insert into {table} values (1)"));
        mesh.settle();
    }
    let n2 = mesh.node("n2");
    n2.reads(ROWS, "sub_n1_n2|public.a|1|0|0|0\nsub_n1_n2|public.b|1|0|0|0\nsub_n1_n2|public.c|1|0|0|0");
    n2.comes_to_log("more than 3 tables were counted");
    // Their places are free again.
    n2.sql("select spock.reset_channel_stats()");
    mesh.node("n1").sql("insert into e values (2)");
    mesh.settle();
    n2.reads(ROWS, "sub_n1_n2|public.e|1|0|0|0");
}

#[test]
fn nothing_is_counted_when_it_is_turned_off() {
    let settings = vec![("spock.channel_counters".to_owned(), "off".to_owned())];
    let mesh = Mesh::with(&MeshOptions { names: vec!["n1".into(), "n2".into()], settings, ..MeshOptions::default() })
        .with_table("t (id int primary key)");
    mesh.node("n1").sql("insert into t values (1)");
    mesh.settle();
    mesh.every_node_reads("select count(*) from t", "1");
    mesh.every_node_reads(ROWS, "");
}

/// What every connection gets stands below what the DSN says.
#[test]
fn extra_connection_options_fill_what_a_dsn_leaves_out() {
    let mesh = Mesh::with(&MeshOptions {
        names: vec!["n1".into(), "n2".into()],
        stage: Stage::Nodes,
        ..MeshOptions::default()
    });
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("create role linker superuser replication login");
    must(n2.set("spock.extra_connection_options", "user=linker options='-c work_mem=777kB'"));
    must(n2.reload());
    n2.comes_to_read("select setting <> '' from pg_settings where name = 'spock.extra_connection_options'", "t");
    let short = format!("host={} port={} dbname=postgres", n1.dir().display(), n1.port());
    n2.sql(&format!("select spock.sub_create('short', '{short}')"));
    n1.comes_to_read("select usename from pg_stat_replication", "linker");
    n2.sql("select spock.sub_drop('short')");
    n2.sql(&format!("select spock.sub_create('full', '{}')", n1.dsn()));
    n1.comes_to_read("select usename from pg_stat_replication", "postgres");
}
