//! Row filters: which rows go out, and what becomes of rows that come to satisfy a filter or cease to.

use spock_mesh::Mesh;
use spock_mesh::mesh::{MeshOptions, Stage};

/// n2 gets from n1 what the sets of n1 say; the tables of n1 are in sets only where the story says so.
fn pair() -> Mesh {
    Mesh::with(&MeshOptions { names: vec!["n1".into(), "n2".into()], stage: Stage::Joined, ..MeshOptions::default() })
}

const ALL: &str = "select id, region, note from t order by id";

#[test]
fn d22_an_update_that_crosses_the_filter_is_an_insert_or_a_delete() {
    let mesh = pair();
    mesh.everywhere("create table t (id int primary key, region text, note text)");
    let n1 = mesh.node("n1");
    n1.sql("select spock.repset_add_table('default', 't', row_filter := $$region = 'eu'$$)")
        .sql("alter table t replica identity full")
        .sql("insert into t values (1, 'eu', 'a'), (2, 'us', 'b'), (3, 'eu', 'c'), (4, null, 'd')");
    mesh.settle();
    mesh.node("n2").reads(ALL, "1|eu|a\n3|eu|c");
    n1.sql("update t set region = 'us' where id = 1")
        .sql("update t set region = 'eu' where id = 2")
        .sql("update t set note = 'x'")
        .sql("update t set region = 'eu', id = 40 where id = 4");
    mesh.settle();
    mesh.node("n2").reads(ALL, "2|eu|x\n3|eu|x\n40|eu|x");
    n1.sql("delete from t");
    mesh.settle();
    mesh.node("n2").reads(ALL, "");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn a_row_that_comes_in_brings_its_unchanged_large_value_along() {
    let mesh = pair();
    mesh.everywhere("create table t (id int primary key, region text, note text)");
    mesh.everywhere("alter table t alter note set storage external");
    let n1 = mesh.node("n1");
    n1.sql("select spock.repset_add_table('default', 't', row_filter := $$region = 'eu' and length(note) > 9$$)")
        .sql("alter table t replica identity full")
        .sql("insert into t values (1, 'us', repeat('long', 5000))")
        .sql("update t set region = 'eu'");
    mesh.settle();
    mesh.node("n2").reads("select id, region, md5(note) = md5(repeat('long', 5000)) from t", "1|eu|t");
    n1.sql("update t set region = 'us'");
    mesh.settle();
    mesh.node("n2").reads("select count(*) from t", "0");
}

/// With the default identity, the old row is known when the filter reads nothing but the key.
#[test]
fn d22_a_filter_on_the_key_is_crossed_when_the_key_changes() {
    let mesh = pair();
    mesh.everywhere("create table t (id int primary key, region text, note text)");
    let n1 = mesh.node("n1");
    n1.sql("select spock.repset_add_table('default', 't', row_filter := 'id < 100')")
        .sql("insert into t values (1, 'eu', 'a'), (200, 'eu', 'b')")
        .sql("update t set id = 101 where id = 1")
        .sql("update t set id = 20 where id = 200");
    mesh.settle();
    mesh.node("n2").reads(ALL, "20|eu|b");
    n1.sql("delete from t");
    mesh.settle();
    mesh.node("n2").reads(ALL, "");
    mesh.logs_hold_nothing_unexpected(&[]);
}

/// The old row is not known: what comes in is sent, what leaves stays, and a deleted row is deleted.
#[test]
fn a_filter_on_other_columns_looks_at_the_new_row_alone() {
    let mesh = pair();
    mesh.everywhere("create table t (id int primary key, region text, note text)");
    let n1 = mesh.node("n1");
    n1.sql("select spock.repset_add_table('default', 't', row_filter := $$region = 'eu'$$)")
        .sql("insert into t values (1, 'eu', 'a'), (2, 'us', 'b'), (3, 'eu', 'c')")
        .sql("update t set region = 'us' where id = 1")
        .sql("update t set region = 'eu' where id = 2")
        .sql("delete from t where id = 3");
    mesh.settle();
    mesh.node("n2").reads(ALL, "1|eu|a\n2|eu|b");
}

#[test]
fn any_subscribed_set_that_wants_a_row_sends_it() {
    let mesh = pair();
    mesh.everywhere("create table t (id int primary key, region text, note text)");
    let n1 = mesh.node("n1");
    n1.sql("select spock.repset_add_table('default', 't', row_filter := 'id < 10')")
        .sql("select spock.repset_add_table('default_insert_only', 't', row_filter := 'id > 90')")
        .sql("insert into t values (1, 'eu', 'a'), (50, 'eu', 'b'), (99, 'eu', 'c')");
    mesh.settle();
    mesh.node("n2").reads(ALL, "1|eu|a\n99|eu|c");
    // Without a filter in one of them, every row goes.
    n1.sql("select spock.repset_add_table('ddl_sql', 't')").sql("insert into t values (51, 'eu', 'd')");
    mesh.settle();
    mesh.node("n2").reads(ALL, "1|eu|a\n51|eu|d\n99|eu|c");
}

#[test]
fn columns_that_are_not_listed_stay_at_home() {
    let mesh = pair();
    mesh.everywhere("create table t (id int primary key, region text, note text default 'mine')");
    let n1 = mesh.node("n1");
    n1.sql(
        "select spock.repset_add_table('default', 't', columns := '{id,region}', row_filter := $$note <> 'secret'$$)",
    )
    .sql("insert into t values (1, 'eu', 'open'), (2, 'eu', 'secret')");
    mesh.settle();
    mesh.node("n2").reads(ALL, "1|eu|mine");
    n1.sql("update t set region = 'us', note = 'other' where id = 1");
    mesh.settle();
    mesh.node("n2").reads(ALL, "1|us|mine");
}

/// The function is gone with everything that needed it: decoding goes on.
/// Who reads the stream, or copies, may be a superuser; and whoever owns a function can give it another body later.
#[test]
fn a_filter_runs_as_the_owner_of_its_table() {
    let mesh = pair();
    mesh.everywhere("create table t (id int primary key, region text, note text)");
    mesh.everywhere("create role holder");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("alter table t owner to holder")
        .sql(
            "create function wanted(int) returns boolean language plpgsql immutable as
                $$begin if current_user <> 'holder' then raise exception 'run by %', current_user; end if; return $1 < 10; end$$",
        )
        .sql("select spock.repset_add_table('default', 't', row_filter := 'wanted(id) and wanted(1)')")
        .sql("insert into t values (1, 'eu', 'a'), (50, 'eu', 'b')")
        .sql("update t set note = 'c'");
    mesh.settle();
    n2.reads(ALL, "1|eu|c");
    n2.sql("select spock.sub_resync_table('sub_n1_n2', 't')").sql("select spock.table_wait_for_sync('sub_n1_n2', 't')");
    n2.reads(ALL, "1|eu|c");
    n1.sql("create function hidden(int) returns boolean language sql immutable as 'select $1 < 10'")
        .sql("revoke execute on function hidden(int) from public");
    let error = n1.sql_error("select spock.repset_add_table('default_insert_only', 't', row_filter := 'hidden(id)')");
    assert_eq!(error.code, "42501", "{error}");
}

#[test]
fn a_filter_goes_with_the_function_that_it_calls() {
    let mesh = pair();
    mesh.everywhere("create table t (id int primary key, region text, note text)");
    let n1 = mesh.node("n1");
    n1.sql("create function wanted(int) returns boolean language sql immutable as 'select $1 < 10'")
        .sql("select spock.repset_add_table('default', 't', row_filter := 'wanted(id)')")
        .sql("insert into t values (1, 'eu', 'a'), (50, 'eu', 'b')");
    mesh.settle();
    assert_eq!(n1.sql_error("drop function wanted(int)").code, "2BP01");
    n1.sql("drop function wanted(int) cascade").sql("insert into t values (2, 'eu', 'c')");
    mesh.settle();
    mesh.node("n2").reads(ALL, "1|eu|a");
}
