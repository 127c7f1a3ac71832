//! D5, D6, D9: versions of one time, and of none.

use super::{FIRST_FROM_N1, FIRST_FROM_N2, all_hold, recorded, three};
use spock_mesh::story::{must, server_under_test, skipped};
use spock_mesh::wait::{Deadline, Probe, wait_until};
use spock_mesh::{Mesh, MeshError, Node, ServerKind};

/// As many keys as may be tried for a tie from each base on; a base is 100 apart from the next.
const TRIES: u32 = 50;

fn written_at(node: &Node, id: u32) -> i64 {
    let ask =
        format!("select (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::bigint from t where id = {id}");
    node.query_one(&ask).parse().expect("microseconds")
}

/// n1 and n2 write one key at the same time, and which one it is comes back. Where their clocks stand still, a stock server's
/// commits all have that time, and a patched one's are a microsecond apart: the node that is behind commits until it is not.
fn tie(mesh: &Mesh, base: u32) -> u32 {
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    for id in base * 10..base * 10 + TRIES {
        for node in [n1, n2] {
            node.sql(&format!("update t set v = '{}' where id = {id}", node.name()));
        }
        let behind = written_at(n1, id) - written_at(n2, id);
        let late = match behind {
            0 => return id,
            1.. => n2,
            _ => n1,
        };
        assert!(behind.abs() < 100_000, "the clocks are {behind} microseconds apart");
        late.sql(&format!(
            "do $$ begin for n in 1..{} loop perform txid_current(); commit; end loop; end $$",
            behind.abs()
        ));
    }
    panic!("no key from {base} on was written at one time");
}

/// n3 hears of the tied keys in either order, and all nodes agree on who wins.
fn ties_end_equal(mesh: &Mesh, clocks_run_again: impl Fn()) {
    let first = tie(mesh, FIRST_FROM_N1);
    mesh.deliver("n1", "n3");
    let second = tie(mesh, FIRST_FROM_N2);
    mesh.deliver("n2", "n3").deliver("n1", "n3");
    clocks_run_again();
    mesh.reunite();
    mesh.same_everywhere("t");
    // One node wins, whoever comes first.
    let who = format!("select count(distinct v), bool_and(v in ('n1', 'n2')) from t where id in ({first}, {second})");
    mesh.every_node_reads(&who, "1|t");
    for node in mesh.nodes() {
        let ask = format!(
            "select count(*) from spock.resolutions where local_timestamp = remote_timestamp
                and conflict_type = 'update_origin_differs' and local_tuple::json->>'id' in ('{first}', '{second}')"
        );
        node.reads(&ask, "2");
    }
}

fn with_rows() -> Mesh {
    let mesh = three("1");
    mesh.node("n1")
        .sql(&format!("insert into t select id, 'old' from generate_series(100, {}) id", FIRST_FROM_N2 * 10 + TRIES));
    mesh.settle();
    mesh
}

#[test]
fn d5_equal_commit_times_end_equal_on_three_nodes_in_either_order() {
    if spock_mesh::node::faketime().is_none() {
        let name = "cases::times::d5_equal_commit_times_end_equal_on_three_nodes_in_either_order";
        return skipped(name, "libfaketime is not installed");
    }
    let mesh = with_rows();
    mesh.isolate();
    // Later than anything that a node commits before its clock stands still, on a slow machine too.
    let soon = "select to_char(clock_timestamp() at time zone 'UTC' + interval '5 s', 'YYYY-MM-DD HH24:MI:SS')";
    let soon = mesh.node("n1").query_one(soon);
    for name in ["n1", "n2"] {
        mesh.node(name).freeze_clock(&soon);
        mesh.node(name).restart_fast();
    }
    ties_end_equal(&mesh, || {
        for name in ["n1", "n2"] {
            mesh.node(name).move_clock(0);
            mesh.node(name).restart_fast();
        }
    });
}

#[test]
fn d6_nodes_that_run_behind_a_third_ones_clock_and_give_one_time_end_equal() {
    let name = "cases::times::d6_nodes_that_run_behind_a_third_ones_clock_and_give_one_time_end_equal";
    if server_under_test() == ServerKind::Stock {
        return skipped(name, "needs a patched server: a stock one's times are those of its own clock");
    }
    if spock_mesh::node::faketime().is_none() {
        return skipped(name, "libfaketime is not installed");
    }
    let mesh = with_rows();
    let n3 = mesh.node("n3");
    n3.move_clock(3600);
    n3.restart_fast();
    n3.sql("update t set v = 'ahead' where id = 1");
    mesh.settle();
    mesh.isolate();
    ties_end_equal(&mesh, || {});
    mesh.node("n1").reads("select max(pg_xact_commit_timestamp(xmin)) > clock_timestamp() from t", "t");
}

/// So many transactions that times of rows which are there now need not be kept, as soon as all nodes have the rows.
fn many_transactions(node: &Node) {
    node.sql(
        "create temporary table burnt (n int);
         do $$ begin for n in 1 .. 20001 loop begin insert into burnt values (n); exception when others then raise; end; end loop; end $$",
    );
}

/// Vacuum freezes until nobody can tell any more when row 10 was written.
fn forget_times(node: &Node) {
    node.sql("update pg_database set datallowconn = true where datname = 'template0'");
    let round = || -> Result<Probe<()>, MeshError> {
        // Slots let go of old transactions at a record that lists running ones, once their subscribers are past it.
        node.execute("checkpoint")?;
        node.execute("update other set n = n + 1")?;
        for database in ["template0", "template1", "postgres"] {
            let mut session = node.connect(database)?;
            session.run("vacuum (freeze)").map_err(|failure| node.explain("vacuum (freeze)", failure))?;
        }
        let known = node.execute("select pg_xact_commit_timestamp(xmin) is null from t where id = 10")?.to_string();
        Ok(if known == "t" { Probe::Ready(()) } else { Probe::NotYet("its time is known".to_owned()) })
    };
    must(wait_until(Deadline::story(), "the time of a row to be forgotten", round));
}

/// What n2 wrote before is on its way to n1 when n1 vacuums: of row 1 n1 must know when it was written, of row 10 it need not.
#[test]
fn d9_times_are_kept_until_nothing_older_can_come() {
    let mesh =
        Mesh::of(["n1", "n2"]).with_table("t (id int primary key, v text)").with_table("other (n int primary key)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t values (1, 'old'), (10, 'old'); insert into other values (1)");
    mesh.settle();
    many_transactions(n1);
    let kept = "select age(s.catalog_xmin) < age(t.xmin) from pg_replication_slots s, t
                 where s.slot_name = 'spock_tombstones' and t.id = 10";
    n1.comes_to_read(kept, "t");
    mesh.hold("n2", "n1");
    n2.sql("update t set v = 'older' where id = 1");
    n1.sql("update t set v = 'newer' where id = 1");
    forget_times(n1);
    n1.reads("select pg_xact_commit_timestamp(xmin) is null from t where id = 1", "f");
    mesh.reunite();
    mesh.every_node_reads("select string_agg(id || v, ' ' order by id) from t", "1newer 10old");
}

/// n1 does not know when the rows were written, n2 and n3 do. What they write goes in there all the same, in either order.
#[test]
fn d9_rows_without_a_time_are_older_than_what_comes() {
    let mesh = three("10, 11, 12, 13, 20, 21, 22, 23").with_table("other (n int primary key)");
    let n1 = mesh.node("n1");
    n1.sql("insert into other values (1)");
    many_transactions(n1);
    forget_times(n1);
    mesh.settle().isolate();
    let write = |base: u32| {
        mesh.node("n2").sql(&format!("update t set v = 'b' where id in ({base}, {base} + 1)"));
        mesh.node("n3").sql(&format!("update t set v = 'c' where id in ({base}, {base} + 2)"));
        mesh.node("n2").sql(&format!("delete from t where id = {base} + 3"));
        mesh.node("n3").sql(&format!("update t set v = 'c' where id = {base} + 1"));
        mesh.node("n2").sql(&format!("update t set v = 'b' where id = {base} + 2"));
    };
    write(10);
    mesh.deliver("n2", "n1");
    write(20);
    mesh.deliver("n3", "n1").deliver("n2", "n1").reunite();
    all_hold(&mesh, "10c 11c 12b 20c 21c 22b");
    let updates = "update_origin_differs apply_remote, update_origin_differs keep_local";
    recorded(&mesh, [updates, updates, &format!("delete_origin_differs apply_remote, {updates}")]);
}

/// Row 1 is displaced for row 10. Which of them is newer must be known when the server has forgotten when they were written.
#[test]
fn d12_a_row_whose_time_is_forgotten_keeps_its_value() {
    let mesh = Mesh::of(["n1", "n2"])
        .with_table("t (id int primary key, v text unique)")
        .with_table("other (n int primary key)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    mesh.isolate();
    n1.sql("insert into t values (3, 'z')").sql("insert into t values (1, 'x')");
    n2.sql("insert into t values (30, 'z')").sql("insert into t values (10, 'x'); insert into other values (1)");
    mesh.reunite();
    let shown = "select string_agg(id || v, ' ' order by id) from t";
    mesh.every_node_reads(shown, "10x 30z");
    let written = n2.query_one("select pg_xact_commit_timestamp(xmin) from t where id = 10");
    many_transactions(n1);
    forget_times(n1);
    n1.reads(&format!("select count(*) from spock.holder_version where version_time = '{written}'"), "1");
    // Displaced rows are tried again newest first: row 1 before row 3.
    n1.sql("delete from t where id = 30");
    for node in mesh.nodes() {
        node.comes_to_read(shown, "3z 10x");
    }
    n2.sql("delete from t where id = 10");
    for node in mesh.nodes() {
        node.comes_to_read(shown, "1x 3z");
        node.comes_to_read("select count(*) from spock.holder_version", "0");
    }
    mesh.same_everywhere("t");
}
