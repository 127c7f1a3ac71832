//! D10, D15, D16: tables and rows that are hard to find.

use super::recording;
use spock_mesh::story::must;
use spock_mesh::writer::Writer;
use spock_mesh::{Mesh, Node};

#[test]
fn d10_tables_whose_rows_do_not_say_who_wrote_them_are_refused() {
    let mesh = Mesh::unjoined(["n1"]);
    let n1 = mesh.node("n1");
    // A handler of another name stands for any other table access method.
    n1.sql(
        "create function other_heap(internal) returns table_am_handler language internal as 'heap_tableam_handler';
         create access method other type table handler other_heap;
         create access method same type table handler heap_tableam_handler",
    )
    .sql("create table elsewhere (id int primary key) using other")
    .sql("create unlogged table unlogged (id int primary key)")
    .sql("create foreign data wrapper nowhere; create server nowhere foreign data wrapper nowhere")
    .sql("create foreign table away (id int) server nowhere")
    .sql("create view seen as select 1 as id")
    .sql("create table parent (id int primary key) partition by range (id)")
    .sql("create table child partition of parent for values from (0) to (10) using other")
    .sql("create table good (id int primary key) using same");
    for (table, reason) in [
        ("elsewhere", "access method is not heap"),
        ("unlogged", "unlogged tables cannot"),
        ("away", "Only tables"),
        ("seen", "Only tables"),
        ("parent", "access method is not heap"),
    ] {
        let error =
            n1.sql_error(&format!("select spock.repset_add_table('default', '{table}', include_partitions := true)"));
        assert_eq!(error.code, "22023", "{table}: {error}");
        assert!(error.detail.contains(reason), "{table}: {error}");
    }
    n1.sql("select spock.repset_add_all_tables('default', '{public}')");
    let members = "select string_agg(set_reloid::text, ' ' order by set_reloid) from spock.replication_set_table";
    n1.reads(members, "parent good");
    n1.comes_to_log("table \"public.elsewhere\" is skipped: Its table access method is not heap");
}

const APPLY_WAITS: &str =
    "select count(*) from pg_stat_activity where backend_type like 'spock apply%' and wait_event_type = 'Lock'";

/// While a transaction of n2 has done `local` to row `id` and not ended, the UPDATE of n1 looks for that row.
fn during(mesh: &Mesh, id: u32, local: &str, end: &str) {
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    let mut session = must(n2.connect("postgres"));
    assert!(session.run("begin").is_ok() && session.run(local).is_ok(), "{local}");
    n1.sql(&format!("update t set v = 'n1' where id = {id}"));
    n2.comes_to_read(APPLY_WAITS, "1");
    assert!(session.run(end).is_ok(), "{end}");
    mesh.settle();
}

fn writes(node: &Node) -> Writer {
    let name = node.name().to_owned();
    Writer::start(node, 1, move |n| format!("update t set v = '{name} {n}', n = {n} where id = {}", n % 3 + 1))
}

#[test]
fn d15_a_row_that_is_changed_while_it_is_looked_for_is_found() {
    // Each new version of a row has its own place in every index, because `n` is in one.
    let mesh = recording(["n1", "n2"]).with_table("t (id int primary key, v text, n int)");
    mesh.everywhere("create index on t (n)");
    let n1 = mesh.node("n1");
    n1.sql("insert into t select id, 'old', 0 from generate_series(1, 9) id");
    mesh.settle();
    during(&mesh, 4, "update t set v = 'n2', n = 1 where id = 4", "commit");
    during(&mesh, 5, "update t set v = 'n2', n = 1 where id = 5", "rollback");
    during(&mesh, 6, "delete from t where id = 6", "rollback");
    during(&mesh, 7, "update t set id = 17 where id = 7; update t set id = 7 where id = 17", "commit");
    let rows = "select string_agg(id || v, ' ' order by id) from t where id between 4 and 7";
    // n2 committed 4 and 7 after n1 had changed them.
    mesh.every_node_reads(rows, "4n2 5n1 6n1 7old");
    let writers = [writes(n1), writes(mesh.node("n2"))];
    for writer in &writers {
        writer.wait_for_more(500);
    }
    for writer in writers {
        writer.finish();
    }
    mesh.settle();
    mesh.same_everywhere("t");
    let missed = "select count(*) from spock.resolutions where conflict_type like '%missing'";
    mesh.every_node_reads(missed, "0");
}

#[test]
fn d16_an_identity_index_can_be_rebuilt_or_dropped_while_changes_are_applied() {
    let mesh = recording(["n1", "n2"]).with_table("t (id int primary key, code int not null unique, n int)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t select id, id, 0 from generate_series(1, 10) id");
    mesh.settle();
    let writer = Writer::start(n1, 1, |n| format!("update t set n = {n} where id = {}", n % 10 + 1));
    writer.wait_for_more(50);
    n2.sql("reindex table concurrently t");
    writer.wait_for_more(50);
    n2.sql("alter table t replica identity using index t_code_key").sql("reindex index concurrently t_code_key");
    writer.wait_for_more(50);
    n2.sql("alter table t replica identity default; alter table t drop constraint t_code_key, add unique (code)");
    writer.wait_for_more(50);
    // Without any key rows cannot be found: the subscription waits for somebody to repair that, and nothing is passed over.
    n2.sql("alter table t drop constraint t_pkey");
    n2.comes_to_read("select status from spock.sub_show_status()", "disabled");
    n2.sql("alter table t add primary key (id)").sql("select spock.sub_enable('sub_n1_n2')");
    writer.wait_for_more(50);
    let ledger = writer.finish();
    mesh.settle();
    mesh.same_everywhere("t");
    let last = ledger.acknowledged.last().expect("something was written");
    n2.reads("select max(n) from t", &last.to_string());
    n2.reads("select count(*) from spock.resolutions where conflict_type like '%missing'", "0");
}
