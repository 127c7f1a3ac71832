//! Rows are found by whatever identifies them: equal keys that look different, another index than the primary key, columns that the
//! index only carries along.

use spock_mesh::Mesh;

/// Changes made on both nodes at once, then one after the other: each finds the row that the other node wrote.
#[test]
fn rows_are_found_by_odd_keys_and_other_identities() {
    let case_blind = "create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
    let mesh = Mesh::unjoined(["n1", "n2"]);
    mesh.everywhere(case_blind)
        .everywhere("create table word (k text collate blind primary key, v int, w int)")
        .everywhere("create table number (k numeric primary key, v int, w int)")
        .everywhere("create table padded (k char(5) primary key, v int, w int)")
        .everywhere("create table code (id int primary key, k text not null unique, v int, w int)")
        .everywhere("alter table code replica identity using index code_k_key")
        .everywhere("create table carries (k int not null, v int, w int, x int not null)")
        .everywhere("create unique index carries_k on carries (k desc, x) include (v)")
        .everywhere("alter table carries replica identity using index carries_k");
    let tables = ["word", "number", "padded", "code", "carries"];
    for table in tables {
        mesh.everywhere(&format!("select spock.repset_add_table('default', '{table}')"));
    }
    mesh.subscribe("n2", "n1", "").subscribe("n1", "n2", "").settle();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into word values ('Ab', 0, 0), ('Cd', 0, 0)")
        .sql("insert into number values (1.0, 0, 0), (2.0, 0, 0)")
        .sql("insert into padded values ('a', 0, 0), ('b', 0, 0)")
        .sql("insert into code values (1, 'a', 0, 0), (2, 'b', 0, 0)")
        .sql("insert into carries values (1, 0, 0, 1), (2, 0, 0, 1)");
    mesh.settle();
    // What identifies a row keeps its meaning and changes its looks; what does not, changes.
    mesh.isolate();
    n2.sql("update word set k = 'AB' where k = 'ab'")
        .sql("update number set k = 1.000 where k = 1")
        .sql("update padded set k = 'a ' where k = 'a'")
        .sql("update code set id = 7 where k = 'a'")
        .sql("update carries set v = 3 where k = 1");
    for table in tables {
        n1.sql(&format!("update {table} set w = 1"));
    }
    mesh.reunite();
    for table in tables {
        mesh.same_everywhere(table);
    }
    for table in tables {
        n2.sql(&format!("update {table} set w = 2"));
    }
    n2.sql("delete from word where k = 'CD'")
        .sql("delete from number where k = 2.00")
        .sql("delete from padded where k = 'b'")
        .sql("delete from code where k = 'b'")
        .sql("delete from carries where k = 2");
    mesh.settle();
    for table in tables {
        mesh.every_node_reads(&format!("select count(*), min(w) from {table}"), "1|2");
        mesh.same_everywhere(table);
    }
    n1.sql("delete from word where k = 'aB'").sql("delete from number where k = 1");
    mesh.settle();
    mesh.every_node_reads("select (select count(*) from word) + (select count(*) from number)", "0");
    mesh.logs_hold_nothing_unexpected(&[]);
}
