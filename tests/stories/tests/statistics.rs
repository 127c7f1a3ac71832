//! Conflicts are counted by subscription and kind, beyond the life of workers and over a clean restart.

use spock_mesh::{Mesh, story::must};

const STATS: &str = "select confl_insert_exists, confl_update_missing, confl_delete_missing, confl_update_exists,
    stats_reset is not null from spock.subscription s, spock.get_subscription_stats(s.sub_id)";

/// n1 and n2 insert 10, delete 1, and n2 updates a row that n1 deletes.
fn collided() -> Mesh {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key, bal int)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into acct values (1, 1), (2, 2)");
    mesh.settle();
    mesh.cut("n1", "n2");
    n1.sql("insert into acct values (10, 1)").sql("delete from acct where id = 1").sql("delete from acct where id = 2");
    n2.sql("insert into acct values (10, 2)").sql("delete from acct where id = 1");
    n2.sql("update acct set bal = 3 where id = 2");
    mesh.heal("n1", "n2").settle();
    mesh
}

#[test]
fn conflicts_are_counted_by_kind_and_outlive_a_restart() {
    let mesh = collided();
    let n1 = mesh.node("n1");
    n1.comes_to_read(STATS, "1|1|1|0|f");
    mesh.node("n2").comes_to_read(STATS, "1|0|1|0|f");
    n1.restart_fast();
    n1.reads(STATS, "1|1|1|0|f");
    n1.sql("select spock.reset_subscription_stats()").reads(STATS, "0|0|0|0|t");
    let id = mesh.node("n2").query_one("select sub_id from spock.subscription");
    mesh.node("n2").sql(&format!("select spock.reset_subscription_stats({id})")).reads(STATS, "0|0|0|0|t");
}

#[test]
fn a_subscription_that_is_dropped_takes_its_counters_along() {
    let mesh = collided();
    let n1 = mesh.node("n1");
    n1.comes_to_read(STATS, "1|1|1|0|f");
    let id = n1.query_one("select sub_id from spock.subscription");
    let one = format!("select confl_insert_exists from spock.get_subscription_stats({id})");
    n1.sql("begin").sql("select spock.sub_drop('sub_n2_n1')").sql("rollback");
    n1.reads(&one, "1").sql("select spock.sub_drop('sub_n2_n1')").reads(&one, "0");
}

/// Changes of rows that another node wrote are daily business: which of them are written down is set, and all are counted.
#[test]
fn changes_of_others_rows_are_counted_whatever_is_reported() {
    let mesh = Mesh::of(["n1", "n2", "n3"]).with_table("t (id int primary key, v text)");
    let (n1, n2, n3) = (mesh.node("n1"), mesh.node("n2"), mesh.node("n3"));
    must(n3.set("spock.save_resolutions", "on"));
    let counted = "select confl_update_origin_differs, confl_delete_origin_differs
        from spock.subscription s, spock.get_subscription_stats(s.sub_id) where s.sub_name = 'sub_n2_n3'";
    for (round, (mode, reported)) in
        (1..).zip([("none", ""), ("remote_only_differs", "1"), ("since_sub_creation", "1 3")])
    {
        must(n3.set("spock.log_origin_change", mode));
        must(n3.reload());
        n1.sql("insert into t values (1, 'n1'), (2, 'n1')");
        n3.sql("insert into t values (3, 'n3')");
        mesh.settle();
        n2.sql("update t set v = 'n2' where id in (1, 3); delete from t where id = 2");
        mesh.settle();
        n3.comes_to_read(counted, &format!("{}|{round}", 2 * round));
        let rows = "select coalesce(string_agg(local_tuple::json->>'id', ' ' order by local_tuple), '')
            from spock.resolutions where conflict_type = 'update_origin_differs'";
        n3.reads(rows, reported).sql("delete from spock.resolutions");
        n1.sql("delete from t");
        mesh.settle();
        n3.sql("delete from spock.resolutions");
    }
}

/// An UPDATE that meets another row in a unique index.
#[test]
fn an_update_that_meets_another_row_is_counted() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("t (id int primary key, name text)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t values (1, 'a'), (2, 'b')");
    mesh.settle();
    n2.sql("create unique index on t (name)");
    n1.sql("update t set name = 'a' where id = 2");
    mesh.settle();
    n2.comes_to_read(STATS, "0|0|0|1|f");
    n2.reads("select * from t", "2|a").reads("select status from spock.sub_show_status()", "replicating");
}

#[test]
fn a_file_that_does_not_fit_is_ignored() {
    let mesh = collided();
    let n1 = mesh.node("n1");
    if n1.query_one("select current_setting('server_version_num')::int >= 180000") == "t" {
        let name = "statistics::a_file_that_does_not_fit_is_ignored";
        return spock_mesh::story::skipped(name, "the server itself keeps these statistics");
    }
    spock_mesh::story::must(n1.stop(spock_mesh::node::Stop::Fast));
    let file = n1.data().join("spock").join("conflicts.dat");
    let written = std::fs::read(&file).expect("the file that a clean stop leaves");
    for (bytes, said) in [
        (written[..written.len() - 1].to_vec(), "its length does not fit"),
        (Vec::new(), "its version is not known"),
        ([&written[..8], &[0xff; 8], &written[16..]].concat(), "it belongs to another server"),
    ] {
        std::fs::write(&file, bytes).expect("a file of ours");
        n1.start_again();
        n1.comes_to_log(said);
        n1.reads(STATS, "0|0|0|0|f");
        spock_mesh::story::must(n1.stop(spock_mesh::node::Stop::Fast));
    }
    std::fs::write(&file, written).expect("a file of ours");
    n1.start_again();
    n1.reads(STATS, "1|1|1|0|f");
}
