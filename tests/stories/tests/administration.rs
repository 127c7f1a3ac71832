//! What an administrator calls while nodes replicate: markers, sets of a subscription, second subscriptions, what is shown.

use spock_mesh::story::must;
use spock_mesh::topology::wait_replicating;
use spock_mesh::wait::Deadline;
use spock_mesh::{Mesh, Node};

const SUB: &str = "sub_n1_n2";

/// `n2` gets the table `t` of `n1`, and nothing goes back.
fn one_way() -> Mesh {
    let mesh = Mesh::unjoined(["n1", "n2"]).with_table("t (id int primary key, n int)");
    mesh.subscribe("n2", "n1", "");
    mesh
}

fn replicates(node: &Node) {
    must(wait_replicating(node, SUB, Deadline::story()));
}

#[test]
fn a_marker_has_been_applied_when_the_wait_for_it_ends() {
    let mesh = one_way();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    let wait = |origin: &str, lsn: &str, more: &str| {
        format!("call spock.wait_for_sync_event(null, {origin}, '{lsn}', {more})")
    };

    n1.sql("insert into t values (1)");
    let marker = n1.query_one("select spock.sync_event()");
    n2.reads(&wait("'n1'::name", &marker, "60"), "t").reads("select count(*) from t", "1");
    // One that belongs to a transaction arrives with it.
    n1.sql("begin; insert into t values (2)");
    let marker = n1.query_one("select spock.sync_event(true)");
    n1.sql("commit");
    n2.reads(&wait("49708::oid", &marker, "60"), "t").reads("select count(*) from t", "2");
    // Not within its time: that is an answer, no error.
    n2.reads(&wait("'n1'::name", "FFFFFFFF/0", "1"), "f");

    for (origin, lsn) in
        [("'nobody'::name", "'0/1'"), ("4711::oid", "'0/1'"), ("null::oid", "'0/1'"), ("'n1'::name", "null")]
    {
        let error = n2.sql_error(&format!("call spock.wait_for_sync_event(null, {origin}, {lsn}::pg_lsn, 1)"));
        assert_eq!(error.code, "P0001", "{origin} {lsn}: {error}");
        assert!(!error.hint.is_empty(), "{origin} {lsn}: {error}");
    }
    n2.sql(&format!("select spock.sub_disable('{SUB}')"));
    let error = n2.sql_error(&wait("'n1'::name", "FFFFFFFF/0", "60"));
    assert!(error.code == "P0001" && error.message.contains("enabled"), "{error}");
    n2.reads(&wait("'n1'::name", "FFFFFFFF/0", "1, true"), "f");
}

#[test]
fn a_subscription_gets_what_its_sets_have_and_those_of_the_provider_only() {
    let mesh = one_way();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    mesh.everywhere("create table more (id int primary key)");
    n1.sql("select spock.repset_create('extra')").sql("select spock.repset_add_table('extra', 'more')");
    let sets = format!("select sub_replication_sets from spock.subscription where sub_name = '{SUB}'");
    let change = |how: &str, set: &str| format!("select spock.sub_{how}_repset('{SUB}', '{set}')");

    let error = n2.sql_error(&change("add", "nothing"));
    assert!(error.code == "22023" && error.hint.contains("extra"), "{error}");
    n2.reads(&sets, "{default,default_insert_only,ddl_sql}");
    n2.reads(&change("add", "extra"), "t").reads(&change("add", "extra"), "f");
    replicates(n2);
    n1.sql("insert into more values (1)");
    mesh.settle();
    n2.reads("select count(*) from more", "1");

    n2.reads(&change("remove", "extra"), "t").reads(&change("remove", "extra"), "f");
    replicates(n2);
    n1.sql("begin; insert into more values (2); insert into t values (2); commit");
    mesh.settle();
    n2.reads("select (select count(*) from more), (select count(*) from t)", "1|1");
    // A provider that is away cannot be asked; the subscription can be changed all the same.
    n1.kill();
    n2.reads(&change("add", "extra"), "t").reads(&sets, "{default,default_insert_only,ddl_sql,extra}");
    n1.start_again();
    replicates(n2);
    n1.sql("insert into more values (3)");
    mesh.settle();
    n2.reads("select id from more order by 1", "1\n3");
    // No set at all is nothing, not everything.
    for set in ["default", "default_insert_only", "ddl_sql", "extra"] {
        n2.sql(&change("remove", set));
    }
    n2.reads(&format!("select sub_replication_sets is null from spock.subscription where sub_name = '{SUB}'"), "t");
    replicates(n2);
    n1.sql("insert into t values (4)");
    mesh.settle();
    n2.reads("select count(*) from t where id = 4", "0");
}

#[test]
fn a_second_subscription_to_one_provider_cannot_have_the_same_sets() {
    let mesh = one_way();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("select spock.repset_create('other')");
    let create = |name: &str, more: &str| format!("select spock.sub_create('{name}', '{}'{more})", n1.dsn());
    let refused = |sql: &str| {
        let before = n2.query_one("select * from spock.subscription order by 1");
        let error = n2.sql_error(sql);
        assert!(error.code == "42710" && error.message.contains(SUB) && error.hint.contains(SUB), "{sql}: {error}");
        n2.reads("select * from spock.subscription order by 1", &before);
    };
    refused(&create("second", ""));
    n1.reads("select count(*) from pg_replication_slots where plugin = 'spock_output'", "1");
    // Prepared for later, and then instead of the first one.
    n2.sql(&create("second", ", enabled := false"));
    refused("select spock.sub_enable('second')");
    // Other sets with the same table are taken, with a warning.
    n1.sql("select spock.repset_add_table('other', 't')");
    n2.sql(&create("third", ", '{other}'"));
    n2.comes_to_log(&format!("subscription \"{SUB}\" receives table \"public.t\" of node \"n1\" too"));
    must(wait_replicating(n2, "third", Deadline::story()));
    refused("select spock.sub_add_repset('third', 'default')");
    n2.sql(&format!("select spock.sub_disable('{SUB}')"));
    n2.sql("select spock.sub_add_repset('third', 'default')");
}

#[test]
fn a_set_that_is_altered_sends_from_then_on_what_it_says() {
    let mesh = one_way();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t values (1, 1), (2, 1), (3, 1)");
    mesh.settle();
    n1.sql("select spock.repset_alter('default', replicate_insert := false, replicate_update := false, replicate_delete := false, replicate_truncate := false)");
    n1.sql("insert into t values (4, 2)").sql("update t set n = 2 where id = 1").sql("delete from t where id = 2");
    mesh.settle();
    n2.reads("select * from t order by id", "1|1\n2|1\n3|1");
    n1.sql("select spock.repset_alter('default', replicate_update := true)");
    n1.sql("insert into t values (5, 3)").sql("update t set n = 3 where id = 3").sql("delete from t where id = 1");
    mesh.settle();
    n2.reads("select * from t order by id", "1|1\n2|1\n3|3");
    n1.sql("select spock.repset_alter('default', true, null, true, true)").sql("insert into t values (6, 4)");
    mesh.settle();
    n2.reads("select * from t order by id", "1|1\n2|1\n3|3\n6|4");
    n1.sql("truncate t");
    mesh.settle();
    n2.reads("select count(*) from t", "0");
}

#[test]
fn progress_lag_workers_and_channels_are_shown() {
    let mesh = one_way();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t values (1), (2)").sql("update t set n = 1 where id = 1").sql("delete from t where id = 2");
    mesh.settle();
    let committed = n1.query_one("select pg_xact_commit_timestamp(xmin) from t");
    let worker = "select format('spock apply %s:%s|running', d.oid, s.sub_id) from pg_database d, spock.subscription s
        where datname = 'postgres'";
    n2.reads("select node_id, remote_node_id from spock.progress", "26863|49708")
        .reads(
            "select node_id, remote_node_id, dbid = (select oid from pg_database where datname = 'postgres')
            from spock.apply_group_progress()",
            "26863|49708|t",
        )
        .comes_to_read(
            &format!(
                "select remote_commit_ts >= '{committed}' and remote_commit_lsn > '0/0' and updated_by_decode
            and received_lsn >= remote_commit_lsn and last_updated_ts >= remote_commit_ts from spock.progress"
            ),
            "t",
        )
        .comes_to_read(
            &format!(
                "select origin_name, receiver_name, commit_timestamp >= '{committed}', commit_lsn > '0/0',
            replication_lag_bytes >= 0, replication_lag >= '0' from spock.lag_tracker"
            ),
            "n1|n2|t|t|t|t",
        )
        .comes_to_read(
            "select a.backend_type, w.worker_status from spock.get_apply_worker_status() w
            join pg_stat_activity a on a.pid = w.worker_pid join spock.subscription s on s.sub_id = w.worker_subid",
            &n2.query_one(worker),
        );
    let counts = "select sub_name, table_name, n_tup_ins, n_tup_upd, n_tup_del, n_conflict, n_dca from spock.channel_table_stats where table_name = 'public.t'";
    n2.reads(counts, &format!("{SUB}|public.t|2|1|1|0|0"));
    n1.reads(counts, "<output>|public.t|2|1|1|0|0");
    n2.reads(
        "select sub_name, n_tup_ins, n_tup_upd, n_tup_del from spock.channel_summary_stats",
        &format!("{SUB}|2|1|1"),
    );
}

#[test]
fn only_what_the_provider_sends_is_emptied_and_copied_again() {
    let mesh = one_way();
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into t values (1)");
    mesh.settle();
    n2.sql("create table own (id int primary key)").sql("insert into own values (1)");
    n2.sql("create temp table passing as select 1 as id");
    let resync = |table: &str| format!("select spock.sub_resync_table('{SUB}', '{table}')");
    let left =
        "select (select count(*) > 300 from pg_class), (select count(*) from spock.node), (select count(*) from own),
        (select count(*) from passing), (select count(*) from t), (select count(*) from spock.local_sync_status)";
    for table in ["pg_catalog.pg_class", "information_schema.sql_features", "spock.node", "own", "passing"] {
        let error = n2.sql_error(&resync(table));
        assert!(error.code == "22023" && !error.hint.is_empty(), "{table}: {error}");
        n2.reads(left, "t|2|1|1|1|1");
    }
    // Nor while nobody can be asked for the rows.
    n1.kill();
    let error = n2.sql_error(&resync("t"));
    assert_eq!(error.code, "08001", "{error}");
    n2.reads(left, "t|2|1|1|1|1");
    n1.start_again();
    n2.sql(&resync("t")).sql(&format!("select spock.table_wait_for_sync('{SUB}', 't')"));
    n2.reads("select count(*) from t", "1");
}

/// A provider is reached by a role that is no superuser: what it may not look at is not asked for.
#[test]
fn a_subscription_works_through_a_role_that_administers_spock_and_replicates() {
    let mesh = Mesh::unjoined(["n1", "n2"]).with_table("t (id int primary key, n int)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("create role link login in role spock_admin");
    let dsn = n1.dsn().replace("user=postgres", "user=link");
    let create = format!("select spock.sub_create('{SUB}', '{dsn}')");
    let error = n2.sql_error(&create);
    assert!(error.code == "42501" || error.code == "08001", "{error}");
    n2.reads("select (select count(*) from spock.subscription), (select count(*) from spock.node)", "0|1");
    n1.sql("alter role link replication")
        .sql("grant select on pg_replication_origin_status to spock_admin")
        .sql("grant execute on function pg_show_replication_origin_status() to spock_admin");
    n2.sql(&create);
    replicates(n2);
    n1.sql("insert into t values (1)");
    mesh.settle();
    n2.reads("select count(*) from t", "1");
}
