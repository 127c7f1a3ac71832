//! Values that are stored out of line, and changes that leave them alone: nodes end with the value that the newest change of a
//! row had, in whatever order changes arrive.
//!
//! The names are those of the case in the charter of convergence. A table holds a number that is changed, a value that is
//! stored as it is and one that is stored compressed; deliveries are held by cutting links and released by healing them.

use spock_mesh::prefix::ServerKind;
use spock_mesh::story::{must, server_under_test};
use spock_mesh::{Mesh, Node};

const COLUMNS: &str = "(id int primary key, n int, body text, doc text, size int generated always as (length(body)) stored, \
                       hits int not null default 10)";

/// Three nodes with these tables.
fn with_tables(tables: &[&str]) -> Mesh {
    let mut mesh = Mesh::of(["n1", "n2", "n3"]);
    for table in tables {
        mesh = mesh.with_table(&format!("{table} {COLUMNS}"));
        mesh.everywhere(&format!("alter table {table} alter body set storage external"));
    }
    mesh
}

/// Ten thousand characters, and some that are still out of line once they are compressed.
fn values(of: char) -> String {
    format!(
        "repeat('{of}', 10000), (select string_agg('{of}: the same words again ' || md5(i::text), '') \
         from generate_series(1, 200) i)"
    )
}

fn insert(node: &Node, table: &str, id: u32, of: char) {
    node.sql(&format!("insert into {table} values ({id}, 0, {})", values(of)));
}

/// Changes the large values too.
fn rewrite(node: &Node, table: &str, id: u32, n: u32, of: char) {
    node.sql(&format!("update {table} set n = {n}, (body, doc) = (select {}) where id = {id}", values(of)));
}

fn touch(node: &Node, table: &str, id: u32, n: u32) {
    node.sql(&format!("update {table} set n = {n} where id = {id}"));
}

/// What a table holds, a row as `id:n body's letter, doc's letter`.
fn content(table: &str) -> String {
    format!(
        "select coalesce(string_agg(format('%s:%s%s%s', id, n, left(body, 1), left(doc, 1)), ' ' order by id), 'none') \
         from {table} where size = 10000 and length(doc) > 10000"
    )
}

/// How the large values of a table are stored: their numbers.
fn stored(node: &Node, table: &str) -> String {
    let toast = node.query_one(&format!("select reltoastrelid::regclass from pg_class where relname = '{table}'"));
    node.query_one(&format!("select string_agg(distinct chunk_id::text, ',') from {toast}"))
}

/// An older UPDATE of the values, made on another node, arrives after and before the one that left them alone.
#[test]
fn d11_an_older_update_of_the_value_loses_in_every_order() {
    let mesh = with_tables(&["t", "whole"]);
    mesh.everywhere("alter table whole replica identity full");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    for table in ["t", "whole"] {
        insert(n1, table, 1, 'A');
        insert(n1, table, 2, 'A');
    }
    mesh.settle();
    // A value that comes and is there already is not stored again.
    let before = stored(n2, "t");
    touch(n1, "t", 1, 1);
    mesh.settle();
    n2.reads(&content("t"), "1:1AA 2:0AA");
    assert_eq!(stored(n2, "t"), before, "the values of t on n2");
    mesh.isolate();
    for table in ["t", "whole"] {
        rewrite(n2, table, 1, 2, 'B');
        touch(n1, table, 1, 3);
    }
    mesh.deliver("n1", "n3");
    mesh.deliver("n2", "n3");
    for table in ["t", "whole"] {
        rewrite(n2, table, 2, 2, 'B');
        touch(n1, table, 2, 3);
    }
    mesh.deliver("n2", "n3");
    mesh.deliver("n1", "n3");
    for table in ["t", "whole"] {
        mesh.node("n3").reads(&content(table), "1:3AA 2:3AA");
    }
    mesh.reunite();
    for table in ["t", "whole"] {
        mesh.every_node_reads(&content(table), "1:3AA 2:3AA");
        mesh.same_everywhere(table);
    }
    mesh.logs_hold_nothing_unexpected(&[]);
}

/// The third node gets UPDATEs, also one of the key, before the row; their provider has moved its files meanwhile.
#[test]
fn d11_an_update_that_comes_before_the_insert_brings_the_value() {
    let mesh = with_tables(&["t", "moved"]);
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    mesh.cut("n1", "n3");
    for table in ["t", "moved"] {
        insert(n1, table, 1, 'A');
        insert(n1, table, 2, 'B');
    }
    mesh.settle_between("n1", "n2", "sub_n1_n2");
    mesh.cut("n2", "n3");
    for table in ["t", "moved"] {
        touch(n2, table, 1, 1);
        n2.sql(&format!("update {table} set id = 3 where id = 2"));
    }
    n2.sql("vacuum full moved").sql("reindex table moved");
    touch(n2, "moved", 1, 2);
    n2.sql("reindex table moved");
    mesh.heal("n2", "n3");
    mesh.settle_between("n2", "n3", "sub_n2_n3");
    n3.reads(&content("t"), "1:1AA 3:0BB").reads(&content("moved"), "1:2AA 3:0BB");
    mesh.heal("n1", "n3").settle();
    mesh.every_node_reads(&content("t"), "1:1AA 3:0BB").every_node_reads(&content("moved"), "1:2AA 3:0BB");
    mesh.logs_hold_nothing_unexpected(&[]);
}

/// The provider sends an UPDATE after vacuum has taken the value: the row has been given another one, or is gone.
#[test]
fn d11_a_value_that_is_gone_has_a_newer_one_on_its_way() {
    let mesh = with_tables(&["t", "whole", "emptied", "dropped", "held", "counted"]);
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    mesh.everywhere("alter table whole replica identity full");
    if server_under_test() == ServerKind::Stock {
        mesh.everywhere("alter table counted replica identity full");
    }
    mesh.nodes().iter().for_each(|node| {
        node.reads("select spock.delta_apply('counted', 'hits')", "t");
    });
    for table in ["t", "whole", "emptied", "dropped", "held"] {
        insert(n1, table, 1, 'A');
    }
    mesh.settle();
    // What the key's change below removes would keep vacuum from taking anything.
    for (node, setting, value) in [(n2, "spock.tombstone_retention", "0"), (n3, "spock.save_resolutions", "on")] {
        must(node.set(setting, value));
        must(node.reload());
        node.comes_to_read(&format!("show {setting}"), value);
    }
    mesh.cut("n1", "n3");
    insert(n1, "t", 2, 'A');
    insert(n1, "t", 3, 'A');
    insert(n1, "whole", 2, 'A');
    insert(n1, "counted", 2, 'A');
    insert(n1, "counted", 3, 'A');
    mesh.settle_between("n1", "n2", "sub_n1_n2");
    isolate_rest(&mesh);
    // Row 1 is on the third node, rows 2 and 3 are not yet.
    n2.sql("update t set id = 4 where id = 3");
    rewrite(n2, "t", 4, 2, 'B');
    for table in ["t", "whole"] {
        for id in [1, 2] {
            touch(n2, table, id, 1);
            rewrite(n2, table, id, 2, 'B');
        }
        n2.vacuum(table);
    }
    n2.sql("update counted set hits = hits + 1 where id = 2");
    rewrite(n2, "counted", 2, 2, 'B');
    n2.sql(&format!(
        "begin; update counted set hits = hits + 1 where id = 3; \
         update counted set n = 2, (body, doc) = (select {}) where id = 3; commit",
        values('B')
    ));
    n2.vacuum("counted");
    ["emptied", "dropped", "held"].iter().for_each(|table| touch(n2, table, 1, 1));
    n2.sql("truncate emptied").sql("drop table dropped cascade");
    // Whoever empties a table may have to wait for the third node to have its transaction: so nobody waits for the table.
    let mut session = must(n2.connect("postgres"));
    assert!(session.run("begin; truncate held").is_ok());
    mesh.deliver("n2", "n3");
    drop(session);
    n3.reads(&content("t"), "1:2BB 2:2BB 4:2BB").reads(&content("whole"), "1:2BB 2:2BB");
    n3.reads(&content("held"), "1:1AA").reads(&content("dropped"), "1:1AA").reads(&content("emptied"), "none");
    let skipped = "select string_agg(relname, ',') from spock.resolutions \
                   where conflict_type = 'update_missing' and conflict_resolution = 'skip' and relname like '%\"t\"'";
    n3.reads(skipped, "\"public\".\"t\",\"public\".\"t\"");
    // What an UPDATE added counts, though no row could be made of it.
    n3.reads("select n, hits from counted order by id", "2|1\n2|1");
    mesh.reunite();
    mesh.every_node_reads("select n, hits from counted order by id", "2|11\n2|11");
    mesh.every_node_reads(&content("t"), "1:2BB 2:2BB 4:2BB").every_node_reads(&content("whole"), "1:2BB 2:2BB");
    mesh.every_node_reads(&content("held"), "1:1AA").every_node_reads(&content("emptied"), "none");
    n1.reads(&content("dropped"), "1:1AA");
    mesh.logs_hold_nothing_unexpected(&["the statement is not replicated"]);
}

/// The links that are left when the one between the first and the third node is cut.
fn isolate_rest(mesh: &Mesh) {
    mesh.cut("n1", "n2").cut("n2", "n3");
}
