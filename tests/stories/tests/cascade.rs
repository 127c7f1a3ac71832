//! Forwarding: a node that hands on what it got from others, without loops and without forgetting who wrote it.

use spock_mesh::Mesh;
use spock_mesh::prefix::ServerKind;
use spock_mesh::story::server_under_test;

const ALL: &str = "select * from t order by id";
const WRITTEN: &str = "select (spock.xact_commit_timestamp_origin(xmin)).timestamp from t where id = 1";

fn three() -> Mesh {
    let mesh = Mesh::unjoined(["n1", "n2", "n3"]);
    mesh.everywhere("create table t (id int primary key, what text)");
    mesh.everywhere("select spock.repset_add_table('default', 't')");
    mesh
}

fn settle_rounds(mesh: &Mesh) {
    // Each round takes what is there one node further.
    for _ in mesh.nodes() {
        mesh.settle();
    }
}

#[test]
fn a_chain_hands_on_what_was_written_at_its_start() {
    let mesh = three();
    mesh.subscribe("n2", "n1", "").subscribe("n3", "n2", ", forward_origins := '{all}'");
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    n1.sql("insert into t values (1, 'one'), (2, 'two')").sql("update t set what = 'zwei' where id = 2");
    n2.sql("insert into t values (3, 'from n2')");
    settle_rounds(&mesh);
    n1.reads(ALL, "1|one\n2|zwei");
    n3.reads(ALL, "1|one\n2|zwei\n3|from n2");
    // Whoever passed it on, the row is of the node and of the time where it was written.
    let writer = n1.query_one("select node_id from spock.node_info()");
    for node in [n2, n3] {
        node.reads("select (spock.xact_commit_timestamp_origin(xmin)).roident from t where id = 1", &writer);
        node.reads(WRITTEN, &n1.query_one(WRITTEN));
    }
    let passed_on_by = n2.query_one("select node_id from spock.node_info()");
    n3.reads("select (spock.xact_commit_timestamp_origin(xmin)).roident from t where id = 3", &passed_on_by);
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn without_forwarding_nothing_is_handed_on() {
    let mesh = three();
    mesh.subscribe("n2", "n1", "").subscribe("n3", "n2", "");
    mesh.node("n1").sql("insert into t values (1, 'one')");
    mesh.settle();
    mesh.node("n2").sql("insert into t values (2, 'two')");
    settle_rounds(&mesh);
    mesh.node("n3").reads(ALL, "2|two");
}

#[test]
fn forwarding_is_switched_on_and_off() {
    let mesh = three();
    mesh.subscribe("n2", "n1", "").subscribe("n3", "n2", "");
    let n3 = mesh.node("n3");
    let forward = r#"select spock.sub_alter_options('sub_n2_n3', '{"forward_origins": ["all"]}')"#;
    n3.with_new_worker("sub_n2_n3", forward);
    n3.reads("select forward_origins from spock.sub_show_status()", "{all}");
    mesh.node("n1").sql("insert into t values (1, 'one')");
    settle_rounds(&mesh);
    n3.reads(ALL, "1|one");
}

#[test]
fn a_ring_of_forwarding_nodes_ends_equal_and_does_not_turn_for_ever() {
    let mesh = three();
    for (subscriber, provider) in [("n2", "n1"), ("n3", "n2"), ("n1", "n3")] {
        mesh.subscribe(subscriber, provider, ", forward_origins := '{all}'");
    }
    mesh.node("n1").sql("insert into t values (1, 'a')");
    mesh.node("n2").sql("insert into t values (2, 'b')");
    mesh.node("n3").sql("insert into t values (3, 'c')");
    settle_rounds(&mesh);
    mesh.every_node_reads(ALL, "1|a\n2|b\n3|c");
    mesh.node("n2").sql("update t set what = what || '!'");
    settle_rounds(&mesh);
    mesh.every_node_reads(ALL, "1|a!\n2|b!\n3|c!");
    // Every row came to each other node exactly once.
    let applied = "select sum(n_tup_ins), sum(n_tup_upd) from spock.channel_summary_stats
        where sub_name <> '<output>'";
    mesh.node("n1").reads(applied, "2|3");
    mesh.node("n2").reads(applied, "2|0");
    mesh.node("n3").reads(applied, "2|3");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn a_forwarding_subscription_stands_alone() {
    let mesh = three();
    mesh.subscribe("n3", "n2", ", forward_origins := '{all}'");
    let dsn = mesh.node("n1").dsn();
    let error = mesh.node("n3").sql_error(&format!("select spock.sub_create('second', '{dsn}')"));
    assert_eq!(error.code, "55000", "{error}");
}

/// The last node of the chain displaces by itself what is displaced on the way: it is told of no removal.
#[test]
fn a_row_that_is_displaced_on_the_way_comes_back_at_the_end_of_the_chain() {
    let mesh = Mesh::unjoined(["n1", "n2", "n3"]);
    mesh.everywhere("create table t (id int primary key, u int unique, v text)");
    mesh.everywhere("create table aside (id int primary key)");
    mesh.everywhere("select spock.repset_add_table('default', 't'), spock.repset_add_table('default', 'aside')");
    // n3 knows of three nodes, so it remembers what is removed.
    mesh.subscribe("n3", "n1", "").hold("n1", "n3");
    mesh.subscribe("n2", "n1", "").subscribe("n3", "n2", ", forward_origins := '{all}'");
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    // What triggers delete on the way because of it is a removal.
    n2.sql("insert into aside select generate_series(1, 200)")
        .sql(
            "create function beside() returns trigger language plpgsql as $$ begin
                delete from public.aside where id = old.id + tg_argv[0]::int;
                return old;
            end $$",
        )
        .sql("create trigger before before delete on t for each row execute function beside(0)")
        .sql("create trigger after after delete on t for each row execute function beside(100)")
        .sql("alter table t enable always trigger before, enable always trigger after");
    let shown = |rows: &str| {
        for node in [n2, n3] {
            node.comes_to_read("select coalesce(string_agg(id || v, ',' order by id), 'none') from t", rows);
        }
    };
    n2.sql("insert into t values (2, 7, 'b')");
    shown("2b");
    n1.sql("insert into t values (1, 7, 'a')");
    shown("1a");
    n1.sql("delete from t where id = 1");
    shown("2b");
    // It is the version that it was.
    let writer = n2.query_one("select node_id from spock.local_node");
    n3.reads("select (spock.xact_commit_timestamp_origin(xmin)).roident from t", &writer);
    settle_rounds(&mesh);
    assert_eq!(n3.query_one("select * from t"), n2.query_one("select * from t"));
    // Of the row that was displaced, and of the one that was deleted.
    for node in [n2, n3] {
        node.reads(
            "select string_agg(id::text, ',') from generate_series(1, 200) id where id not in (table aside)",
            "1,2,101,102",
        );
    }
    // The link that is held was cut.
    mesh.logs_hold_nothing_unexpected(&["connection to client lost"]);
}

/// What an older change adds to a row leaves it the version that it has, down the chain too.
#[test]
fn a_row_that_is_added_to_on_the_way_keeps_its_version() {
    let mesh = Mesh::unjoined(["n1", "n2", "n3"]);
    mesh.everywhere("create table t (id int primary key, n int not null, w text)");
    mesh.everywhere("select spock.repset_add_table('default', 't')");
    if server_under_test() == ServerKind::Stock {
        mesh.everywhere("alter table t replica identity full");
    }
    mesh.everywhere("select spock.delta_apply('t', 'n')");
    mesh.subscribe("n2", "n1", "");
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    n1.sql("insert into t values (1, 0, 'none'), (2, 0, 'none')");
    mesh.settle();
    mesh.hold("n1", "n2");
    n1.sql("update t set n = n + 1, w = 'older'");
    n2.sql("update t set n = n + 10, w = 'newer'");
    // What it has of the first row it knows from a copy.
    mesh.subscribe("n3", "n2", ", forward_origins := '{all}'");
    n2.sql("update t set n = n + 100, w = 'newest' where id = 2");
    mesh.settle_between("n2", "n3", "sub_n2_n3");
    mesh.release("n1", "n2");
    settle_rounds(&mesh);
    let version =
        "select coalesce(v.commit_ts, c.timestamp), coalesce(nullif(coalesce(v.origin, c.roident), 0), l.node_id)
        from t cross join lateral spock.xact_commit_timestamp_origin(t.xmin) c cross join spock.local_node l
        left join spock.row_version v on (v.written_by::text::numeric % 4294967296)::text = t.xmin::text order by id";
    for node in [n2, n3] {
        node.reads("select * from t order by id", "1|11|newer\n2|111|newest");
        node.reads(version, &n2.query_one(version));
    }
    mesh.logs_hold_nothing_unexpected(&["the statement is not replicated"]);
}
