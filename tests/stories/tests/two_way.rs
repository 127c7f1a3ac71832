//! Two nodes, each one's changes on the other.

use spock_mesh::Mesh;

#[test]
fn inserts_of_both_nodes_are_on_both() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    mesh.node("n1").sql("insert into acct values (1, 100)");
    mesh.node("n2").sql("insert into acct values (2, 200)");
    mesh.settle();
    mesh.every_node_reads("select * from acct order by id", "1|100\n2|200");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn updates_and_deletes_reach_the_other_node() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    mesh.node("n1").sql("insert into acct select n, 0 from generate_series(1, 10) n");
    mesh.settle();
    mesh.node("n2").sql("update acct set bal = id where id <= 5");
    mesh.node("n1").sql("delete from acct where id > 8");
    mesh.settle();
    mesh.every_node_reads(
        "select string_agg(id || ':' || bal, ' ' order by id) from acct",
        "1:1 2:2 3:3 4:4 5:5 6:0 7:0 8:0",
    );
    mesh.same_everywhere("acct");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn a_changed_primary_key_moves_the_row_on_the_other_node() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    mesh.node("n1").sql("insert into acct values (1, 100), (2, 200)");
    mesh.node("n1").sql("update acct set id = 20 where id = 2");
    mesh.settle();
    mesh.every_node_reads("select * from acct order by id", "1|100\n20|200");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn a_transaction_arrives_whole_and_a_rolled_back_one_not_at_all() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    let n1 = mesh.node("n1");
    n1.sql("begin; insert into acct values (1, 1), (2, 2); update acct set bal = 10 where id = 1; delete from acct where id = 2; commit");
    n1.sql("begin; insert into acct values (3, 3); rollback");
    n1.sql("begin; insert into acct values (4, 4); savepoint s; insert into acct values (5, 5); rollback to s; commit");
    mesh.settle();
    mesh.every_node_reads("select * from acct order by id", "1|10\n4|4");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn truncate_empties_the_table_on_the_other_node() {
    let mesh = Mesh::of(["n1", "n2"])
        .with_table("acct (id int primary key, bal int)")
        .with_table("other (id int primary key)");
    mesh.everywhere("select 1").node("n1").sql("insert into acct values (1, 1); insert into other values (1)");
    mesh.settle();
    mesh.node("n2").sql("truncate acct");
    mesh.settle();
    mesh.every_node_reads("select (select count(*) from acct), (select count(*) from other)", "0|1");
    mesh.node("n1").sql("insert into acct values (2, 2)");
    mesh.settle();
    mesh.every_node_reads("select id from acct", "2");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn two_tables_are_truncated_by_one_command() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("one (id int primary key)").with_table("two (id int primary key)");
    mesh.node("n1").sql("insert into one values (1); insert into two values (1)");
    mesh.node("n1").sql("truncate one, two");
    mesh.settle();
    mesh.every_node_reads("select (select count(*) from one), (select count(*) from two)", "0|0");
}

#[test]
fn triggers_of_users_do_not_fire_for_replicated_rows_unless_asked_to() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    mesh.everywhere(
        "create table fired (what text);
         create function note() returns trigger language plpgsql as $$ begin insert into public.fired values (tg_name); return new; end $$;
         create trigger usual after insert on acct for each row execute function note();
         create trigger always after insert on acct for each row execute function note();
         alter table acct enable always trigger always",
    );
    mesh.node("n1").sql("insert into acct values (1, 1)");
    mesh.settle();
    mesh.node("n1").reads("select string_agg(what, ' ' order by what) from fired", "always usual");
    mesh.node("n2").reads("select string_agg(what, ' ' order by what) from fired", "always");
}

#[test]
fn a_transaction_of_many_rows_arrives_whole() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("big (id int primary key, filler text)");
    mesh.node("n1").sql("insert into big select n, repeat('x', 100) from generate_series(1, 50000) n");
    mesh.node("n2").sql("insert into big select n, repeat('y', 100) from generate_series(50001, 60000) n");
    mesh.settle();
    assert_eq!(mesh.same_everywhere("big").rows, 60_000);
    mesh.node("n1").sql("update big set filler = 'short' where id % 2 = 0");
    mesh.settle();
    mesh.every_node_reads("select count(*) from big where filler = 'short'", "30000");
    mesh.same_everywhere("big");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn a_table_with_replica_identity_full_replicates_updates_and_deletes() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int, note text)");
    mesh.everywhere("alter table acct replica identity full");
    mesh.node("n1").sql("insert into acct values (1, 1, null), (2, 2, 'two')");
    mesh.node("n1").sql("update acct set bal = 10 where id = 1; delete from acct where id = 2");
    mesh.settle();
    mesh.every_node_reads("select * from acct", "1|10|");
}

#[test]
fn a_replica_identity_index_other_than_the_primary_key_finds_rows() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, code text not null unique, bal int)");
    mesh.everywhere("alter table acct replica identity using index acct_code_key");
    mesh.node("n1").sql("insert into acct values (1, 'a', 1), (2, 'b', 2)");
    mesh.node("n1").sql("update acct set bal = 10 where id = 1; update acct set code = 'c' where id = 2");
    mesh.settle();
    mesh.every_node_reads("select * from acct order by id", "1|a|10\n2|c|2");
}
