//! Columns that count: additions of all nodes end in one sum, on every node and in every order of delivery.
//!
//! Names that begin with `d` and a number are those of cases in the charter of convergence.

use spock_mesh::prefix::ServerKind;
use spock_mesh::story::{must, server_under_test};
use spock_mesh::{Mesh, Node};

const STATUS: &str = "select status from spock.sub_show_status('sub_n1_n2')";
/// `columns` of `t` count on `node`.
fn counts(node: &Node, columns: &[&str]) {
    if server_under_test() == ServerKind::Stock {
        node.sql("alter table t replica identity full");
    }
    for column in columns {
        node.reads(&format!("select spock.delta_apply('t', '{column}')"), "t");
    }
}

fn three(table: &str, columns: &[&str]) -> Mesh {
    let mesh = Mesh::of(["n1", "n2", "n3"]).with_table(table);
    mesh.nodes().iter().for_each(|node| counts(node, columns));
    mesh
}

/// `rows` are on all nodes, and from here on nothing arrives.
fn apart(table: &str, columns: &[&str], rows: &str) -> Mesh {
    let mesh = three(table, columns);
    mesh.node("n1").sql(&format!("insert into t values {rows}"));
    mesh.settle();
    mesh.isolate();
    mesh
}

/// The later version's other columns stay, also where an older change comes after one of its own transaction's kind.
#[test]
fn additions_of_three_nodes_end_in_one_sum_whatever_the_order() {
    let table = "t (id int primary key, a int2 not null, b int not null, c int8 not null, d numeric(12,2) not null,
        e money not null, f numeric not null, w text)";
    let mesh = apart(table, &["a", "b", "c", "d", "e", "f"], "(1, 100, 100, 100, 100, 100, 100, 'none')");
    let add = |node: &str, n: i32| {
        let types = [("a", "int2"), ("b", "int"), ("c", "int"), ("d", "numeric"), ("e", "money"), ("f", "numeric")];
        let sums = types.map(|(column, kind)| format!("{column} = {column} + ({n})::text::{kind}"));
        format!("update t set {}, w = '{node}{n}'", sums.join(", "))
    };
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    // n1: two transactions, the second with two changes of the row. All of it is older than what the others do.
    n1.sql(&add("n1", 1)).sql(&format!("begin; {}; {}; commit", add("n1", 2), add("n1", 4)));
    n2.sql(&add("n2", -10)).sql(&add("n2", 30));
    n3.sql(&add("n3", 500));
    mesh.deliver("n3", "n2");
    mesh.deliver("n1", "n2");
    n2.reads("select a, w from t", "627|n3500");
    mesh.deliver("n2", "n1");
    n1.reads("select a, w from t", "127|n230");
    mesh.reunite();
    mesh.every_node_reads("select a, b, c, d, e = 627::money, f, w from t", "627|627|627|627.00|t|627|n3500");
    // What n2 counted after n3's change had come was counted by itself, and says so.
    n2.reads("select sum(n_dca) from spock.channel_table_stats", "3");
    if server_under_test() == ServerKind::Patched {
        let version = "select (spock.xact_commit_timestamp_origin(xmin)).timestamp from t";
        mesh.every_node_reads(version, &n3.query_one(version));
    }
    n1.sql("update t set a = a - 600, w = 'last'");
    mesh.settle();
    mesh.every_node_reads("select a, b, w from t", "27|627|last");
}

#[test]
fn an_update_that_comes_before_its_insert_and_two_inserts_of_one_key_count() {
    let mesh = three("t (id int primary key, n int not null)", &["n"]);
    mesh.cut("n1", "n3");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t values (1, 5)").sql("update t set n = n + 10");
    mesh.settle_between("n1", "n2", "sub_n1_n2");
    n2.sql("update t set n = n + 1");
    mesh.settle_between("n2", "n3", "sub_n2_n3");
    mesh.heal("n1", "n3").settle();
    mesh.every_node_reads("select * from t", "1|16");
    mesh.isolate();
    for node in mesh.nodes() {
        node.sql("insert into t values (2, 1)")
            .sql("insert into t values (2, 1) on conflict (id) do update set n = t.n + 1");
    }
    mesh.deliver("n3", "n1");
    mesh.deliver("n1", "n2");
    mesh.reunite();
    mesh.every_node_reads("select * from t where id = 2", "2|6");
}

/// What is inexact is refused when it is set up, and again when a change comes.
#[test]
fn d17_a_column_of_floating_point_numbers_is_refused() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("t (id int primary key, r real not null, f float8 not null, n int)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    for column in ["r", "f"] {
        let error = n1.sql_error(&format!("select spock.delta_apply('t', '{column}')"));
        assert_eq!(error.code, "0A000", "{error}");
        assert!(error.detail.contains("order"), "{error}");
    }
    n2.sql(match server_under_test() {
        ServerKind::Patched => "alter table t alter column f set (delta_apply_function = 'spock.delta_apply')",
        ServerKind::Stock => "security label for spock on column t.f is 'spock.delta_apply'",
    });
    n1.sql("insert into t values (1, 1, 1, 1)").sql("update t set f = 2");
    n2.comes_to_read(STATUS, "disabled");
    n2.comes_to_log("its type cannot be added exactly");
    n2.reads("select f from t", "1");
    n2.reads("select spock.delta_apply('t', 'f', true)", "t").sql("select spock.sub_enable('sub_n1_n2')");
    mesh.settle();
    mesh.every_node_reads("select * from t", "1|1|2|1");
}

#[test]
fn d18_a_sum_that_passes_the_limit_on_its_way_is_the_same_everywhere() {
    let mesh = apart(
        "t (id int primary key, a int2 not null, d numeric(3,1) not null)",
        &["a", "d"],
        "(1, 32766, 99.8), (2, 32766, 99.8), (3, -32768, -99.9)",
    );
    let n1 = mesh.node("n1");
    must(n1.set("spock.save_resolutions", "on"));
    must(n1.reload());
    n1.comes_to_read("show spock.save_resolutions", "on");
    n1.sql("update t set a = a + 1, d = d + 0.1");
    mesh.node("n2").sql("update t set a = a + 1, d = d + 0.1");
    mesh.node("n3").sql("update t set a = a - 1, d = d - 0.1 where id = 1");
    // On n1 the sum passes the limit, and comes back; on n2 it does not.
    mesh.deliver("n2", "n1");
    mesh.node("n1").reads("select a, d from t where id = 1", "-32768|-99.9");
    mesh.deliver("n3", "n1");
    mesh.deliver("n3", "n2");
    mesh.reunite();
    mesh.every_node_reads("select * from t order by id", "1|32767|99.9\n2|-32768|-99.9\n3|-32766|-99.7");
    mesh.node("n1").comes_to_log("passes the limit of its type");
    let overflows = "select count(*) > 0, bool_and(relname = '\"public\".\"t\"') from spock.resolutions
        where conflict_type = 'counter_overflow' and remote_tuple is not null";
    mesh.node("n1").reads(overflows, "t|t");
}

#[test]
fn d19_a_change_without_its_old_value_is_refused() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("t (id int primary key, n int not null, w text)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    if server_under_test() == ServerKind::Stock {
        let error = n1.sql_error("select spock.delta_apply('t', 'n')");
        assert_eq!(error.code, "55000", "{error}");
        assert!(error.hint.contains("ALTER TABLE public.t REPLICA IDENTITY FULL"), "{error}");
    }
    counts(n2, &["n"]);
    n1.sql("insert into t values (1, 10, 'a')").sql("update t set n = 11");
    n2.comes_to_read(STATUS, "disabled");
    n2.comes_to_log("came without the old value of column \"n\"");
    n2.reads("select n from t", "10");
    // Sent already without it, so it is taken as it is; from then on both sides count.
    n2.reads("select spock.delta_apply('t', 'n', true)", "t").sql("select spock.sub_enable('sub_n1_n2')");
    mesh.settle();
    mesh.every_node_reads("select n from t", "11");
    counts(n1, &["n"]);
    counts(n2, &["n"]);
    n2.sql("alter table t alter column n drop not null").sql("update t set n = null");
    n1.sql("update t set n = n + 1");
    n2.comes_to_read(STATUS, "disabled");
    n2.comes_to_log("one of its values is NULL");
}

#[test]
fn d20_additions_and_a_concurrent_delete_end_equal() {
    let mesh = apart("t (id int primary key, n int not null)", &["n"], "(1, 10), (2, 10), (3, 10), (4, 10)");
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    n2.sql("update t set n = n + 5 where id = 2");
    n3.sql("update t set n = n + 100 where id = 4");
    n1.sql("delete from t");
    n2.sql("update t set n = n + 5 where id in (1, 3, 4)");
    n3.sql("update t set n = n + 7 where id = 3");
    // A DELETE that loses has no effect: what n3 added to 4 before it counts as well.
    mesh.deliver("n1", "n2");
    mesh.deliver("n1", "n3");
    mesh.deliver("n3", "n1");
    mesh.reunite();
    mesh.every_node_reads("select * from t order by id", "1|15\n3|22\n4|115");
}

/// Sums of rows that an UPDATE brings back, whichever of its additions a node gets before the DELETE, after it, or after the row is
/// back; and nothing is kept once all nodes have the DELETE.
#[test]
fn d20_a_row_that_comes_back_has_all_that_was_added_to_it() {
    let mesh = apart(
        "t (id int primary key, n int2 not null, d numeric(5,2) not null)",
        &["n", "d"],
        "(1, 10, 10), (2, 10, 10), (3, 10, 10), (4, 10, 10), (5, 32758, 10)",
    );
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    let add = |node: &Node, n: i32, ids: &str| {
        node.sql(&format!("update t set n = n + ({n})::int2, d = d + {n} / 10.0 where id in ({ids})"));
    };
    add(n1, 1, "1, 2, 3, 4");
    add(n3, 2, "1, 2, 3, 4");
    add(n2, 4, "1, 3, 5");
    n1.sql("delete from t");
    add(n3, 8, "2, 3, 5");
    add(n2, 16, "1, 3");
    // n1: of 2 and 3 the latest change, then older ones. n2: an addition, the DELETE, another. n3: DELETE first.
    mesh.deliver("n3", "n1");
    n1.reads("select id, n from t order by id", "2|21\n3|21\n5|32766");
    mesh.deliver("n2", "n1");
    mesh.deliver("n1", "n2");
    mesh.deliver("n1", "n3");
    mesh.deliver("n2", "n3");
    mesh.reunite();
    mesh.every_node_reads("select * from t order by id", "1|33|12.30\n2|21|11.10\n3|41|13.10\n5|-32766|11.20");
    mesh.same_everywhere("t");
    for node in mesh.nodes() {
        node.comes_to_read(
            "select kept_from is null, (select count(*) from spock.counter_rest) from spock.tombstone_status()",
            "t|0",
        );
    }
    // From here on a removed key begins anew.
    n2.sql("insert into t values (4, 1, 1)");
    mesh.settle();
    add(n3, 1, "4");
    mesh.settle();
    mesh.every_node_reads("select n, d from t where id = 4", "2|1.10");
}

/// A row that another one keeps out of its table counts on.
#[test]
fn d12_additions_to_a_displaced_row_count() {
    let mesh = apart("t (id int primary key, n int not null, u int unique)", &["n"], "(1, 10, 1), (2, 10, 2)");
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    n3.sql("update t set n = n + 5 where id = 1");
    n1.sql("update t set u = 7, n = n + 1 where id = 1");
    n2.sql("update t set u = 7, n = n + 1 where id = 2");
    mesh.deliver("n2", "n1");
    mesh.deliver("n3", "n1");
    mesh.deliver("n1", "n2");
    mesh.reunite();
    mesh.every_node_reads("select * from t", "2|11|7");
    n2.sql("update t set u = 8 where id = 2");
    for node in mesh.nodes() {
        node.comes_to_read("select * from t order by id", "1|16|7\n2|11|8");
    }
}

/// A row that was counted by itself is handed on as what it adds.
#[test]
fn additions_are_handed_on_by_a_node_in_between() {
    let mesh = Mesh::unjoined(["n1", "n2", "n3"]);
    mesh.everywhere("create table t (id int primary key, n int not null, w text)");
    mesh.everywhere("insert into t values (1, 0, 'none')");
    mesh.everywhere("select spock.repset_add_table('default', 't')");
    mesh.nodes().iter().for_each(|node| counts(node, &["n"]));
    mesh.subscribe("n2", "n1", "").subscribe("n3", "n2", ", forward_origins := '{all}'");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql("select spock.sub_disable('sub_n1_n2', true)");
    n1.comes_to_read("select count(*) from pg_replication_slots where active", "0");
    n1.sql("update t set n = n + 1, w = 'n1'").sql("update t set n = n + 2, w = 'n1'");
    n2.sql("update t set n = n + 10, w = 'n2'").sql("select spock.sub_enable('sub_n1_n2')");
    mesh.settle();
    // Each round takes what is there one node further.
    mesh.settle();
    n2.reads("select n, w from t", "13|n2").reads("select sum(n_dca) from spock.channel_table_stats", "2");
    mesh.node("n3").reads("select n, w from t", "13|n2");
}
