//! A database whose objects an earlier version made is brought to this version: it ends with the same catalogs as a new
//! one, keeps what it knew, and replication goes on where it stopped.
//!
//! The earlier catalogs come from `tests/upgrade`; the library is this version's from the start, as it is when somebody
//! has exchanged the files and starts the server.

use std::fmt::Write;
use std::sync::Arc;

use spock_mesh::former::{FormerPrefix, of_version};
use spock_mesh::mesh::{MeshOptions, Stage};
use spock_mesh::story::{must, prefix_under_test};
use spock_mesh::wait::{Deadline, Probe, wait_until};
use spock_mesh::writer::Writer;
use spock_mesh::{Mesh, Node, Stop};

use crate::former::{APPLIED_AT, Release, SLOT, populate, position, progress_record, stop_as_former};

/// Versions that lead to this one.
pub const FORMER: [&str; 13] = [
    "5.0.0", "5.0.1", "5.0.2", "5.0.3", "5.0.4", "5.0.5", "5.0.6", "5.0.7", "5.0.8", "5.0.9", "5.0.10", "5.0.11",
    "6.0.0",
];
const BASE_5: &str = include_str!("../../upgrade/spock--5.0.sql");
const BASE_6: &str = include_str!("../../upgrade/spock--6.0.0.sql");
const DESCRIBE: &str = include_str!("../../upgrade/describe.sql");

/// The installation under test, which can also make databases of earlier versions.
pub fn with_former_versions() -> FormerPrefix {
    let script = |version: &&str| {
        let text = if version.starts_with("5.") { of_version(BASE_5, version) } else { BASE_6.to_owned() };
        (format!("spock--{version}.sql"), text)
    };
    let scripts: Vec<(String, String)> = FORMER.iter().map(script).collect();
    must(FormerPrefix::create(&prefix_under_test(), &scripts))
}

/// Servers `names` without anything, where no manager looks for a node any more: one that starts late would find the extension of
/// an earlier version and update it.
pub fn servers(former: &FormerPrefix, names: &[&str], settings: &[(&str, &str)]) -> Mesh {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mesh = Mesh::on(
        &Arc::clone(former.prefix()),
        &MeshOptions {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            settings: settings.iter().chain(&[TELLS_OF_ENDS]).map(pair).collect(),
            stage: Stage::Servers,
            ..MeshOptions::default()
        },
    );
    for node in mesh.nodes() {
        let database = node.query_one("select oid from pg_database where datname = current_database()");
        let manager = format!("background worker \"spock manager {database}\" (PID ");
        must(wait_until(Deadline::story(), &format!("the manager of {} to leave", node.name()), || {
            let log = node.log();
            let left = log.lines().any(|line| line.contains(&manager) && line.contains("exited with exit code 0"));
            Ok(if left { Probe::Ready(()) } else { Probe::NotYet("it has not".into()) })
        }));
        must(node.unset(TELLS_OF_ENDS.0));
        must(node.reload());
    }
    mesh
}

/// With it the server logs that a worker has ended without an error.
const TELLS_OF_ENDS: (&str, &str) = ("log_min_messages", "debug1");

/// Runs statements in a database of its own.
fn in_database(node: &Node, database: &str, sql: &str) -> String {
    node.sql(&format!("create database {database}"));
    let mut session = must(node.connect(database));
    must(session.run(sql).map_err(|failure| node.explain(sql, failure))).to_string()
}

/// Lines that only one of two sorted descriptions has.
fn difference(new: &str, upgraded: &str) -> String {
    let (new, upgraded): (Vec<&str>, Vec<&str>) = (new.lines().collect(), upgraded.lines().collect());
    let mut out = String::new();
    for (sign, from, other) in [('-', &new, &upgraded), ('+', &upgraded, &new)] {
        for line in from.iter().filter(|line| !other.contains(line)) {
            writeln!(out, "{sign} {line}").expect("a string takes all");
        }
    }
    out
}

#[test]
fn every_earlier_version_ends_with_the_catalogs_of_a_new_installation() {
    let former = with_former_versions();
    let mesh = servers(&former, &["n1"], &[]);
    let node = mesh.node("n1");
    let new = in_database(node, "fresh", &format!("create extension spock; {DESCRIBE}"));
    assert!(new.lines().count() > 300, "the description says too little:\n{new}");
    for version in FORMER {
        let name = format!("from_{}", version.replace('.', "_"));
        // In one transaction, so that the manager never sees the version between.
        let sql = format!("create extension spock version '{version}'; alter extension spock update; {DESCRIBE}");
        let upgraded = in_database(node, &name, &sql);
        let difference = difference(&new, &upgraded);
        assert!(
            difference.is_empty(),
            "{version}: - only in a new installation, + only after the upgrade:\n{difference}"
        );
    }
}

const VERSION: &str = "select extversion from pg_extension where extname = 'spock'";

/// Settings that 5.0 knew, with values that mean nothing now: they do not keep a server from starting.
const LEFT_OVER: [(&str, &str); 5] = [
    ("spock.use_spi", "on"),
    ("spock.batch_inserts", "on"),
    ("spock.feedback_frequency", "200"),
    ("spock.use_native_failover_slots", "on"),
    ("spock.exception_replay_queue_size", "4194304"),
];

/// Both nodes are stopped as the earlier version stops, started with this library, and written to all the time.
fn replication_goes_on(release: Release) {
    let former = with_former_versions();
    let settings = if release == Release::V5_0_11 { &LEFT_OVER[..] } else { &[] };
    let mesh = servers(&former, &["n1", "n2"], settings);
    populate(&mesh, release);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    let in_step = position(n1);
    n1.sql("insert into acct select n, n from generate_series(11, 20) n; insert into acct values (21, -1)")
        .sql("insert into event select -n, 'before' from generate_series(11, 20) n");
    stop_as_former(n1, release, &in_step);
    stop_as_former(n2, release, &in_step);

    n2.start_again();
    n2.comes_to_read(VERSION, "7.0.0");
    n2.comes_to_log(&format!(
        "updated extension \"spock\" in database \"postgres\" from version {} to 7.0.0",
        release.version()
    ));
    n2.reads(
        "select node_id, remote_node_id, remote_commit_ts, remote_commit_lsn, remote_insert_lsn, updated_by_decode from spock.progress",
        &format!("26863|49708|{}|{in_step}|{in_step}|t", APPLIED_AT.trim_end_matches("+00").to_owned() + "+00"),
    );
    n1.start_again();
    let writer = Writer::start(n1, 1, |n| format!("insert into event values ({n}, 'during')"));
    n1.comes_to_read(VERSION, "7.0.0");
    writer.wait_for_more(50);
    n2.restart_fast();
    writer.wait_for_more(50);
    n1.restart_fast();
    writer.wait_for_more(50);
    let ledger = writer.finish();
    n1.sql("insert into acct values (31, 31), (32, -1)");
    mesh.settle();

    ledger.check_exactly_once(n2, "select id from event where by = 'during'");
    n2.reads(
        "select by, count(*), count(distinct id) from event where by <> 'during' group by by order by by",
        "before|10|10\nkept|10|10",
    );
    // The tenth row would be back after a copy, and rows that the filter keeps out would be there.
    n2.reads("select count(*), max(id), count(*) filter (where id = 10 or balance < 0) from acct", "20|31|0");
    n2.reads(
        "select sub_id, sub_slot_name, sub_skip_schema from spock.subscription",
        &format!("{}|{SLOT}|{{legacy,\"Old one\"}}", release.subscription()),
    );
    n2.reads("select sync_kind, sync_relname, sync_status from spock.local_sync_status order by 2", "d|acct|r\nf||r");
    n1.reads("select slot_name, plugin, active from pg_replication_slots", &format!("{SLOT}|spock_output|t"));
    n2.reads("select external_id from pg_replication_origin_status", SLOT);
    // A reload still takes effect, whatever is left over in the file.
    must(n2.set("spock.save_resolutions", "on"));
    must(n2.reload());
    n2.comes_to_read("show spock.save_resolutions", "on");
    mesh.logs_hold_nothing_unexpected(&[
        "the provider ended the stream",
        "terminating",
        "connection",
        "could not",
        "shutting down",
        "starting up",
        "configuration parameter",
        "outside the valid range",
        // A restarted subscriber can be back before the provider has noticed that it was gone.
        "is active for PID",
    ]);
}

#[test]
fn the_file_of_progress_is_written_as_earlier_versions_read_it() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("insert into acct values (1)");
    mesh.settle();
    let applied = n2.query_one("select d.oid, n.node_id, r.node_id, p.remote_commit_lsn from pg_database d, spock.node n, spock.node r, spock.progress p where datname = 'postgres' and n.node_name = 'n2' and r.node_name = 'n1'");
    let system = n2.query_one("select system_identifier from pg_control_system()");
    must(n2.stop(Stop::Fast));
    let (of_system, record) = progress_record(&n2.data().join("spock/resource.dat"));
    assert_eq!((of_system.to_string(), record), (system, applied));
}

#[test]
fn replication_goes_on_from_5_0_11_without_a_copy() {
    replication_goes_on(Release::V5_0_11);
}

#[test]
fn replication_goes_on_from_6_0_0_without_a_copy() {
    replication_goes_on(Release::V6_0_0);
}

/// What a database of an earlier version holds, and what of it is the user's.
fn rows_stay(release: Release) {
    let former = with_former_versions();
    let mesh = servers(&former, &["n1", "n2"], &[]);
    populate(&mesh, release);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    let in_step = position(n1);
    for node in [n1, n2] {
        stop_as_former(node, release, &in_step);
        node.start_again();
    }
    for node in [n1, n2] {
        node.comes_to_read(VERSION, "7.0.0");
    }
    n1.reads("select node_id, node_name, location, country, info from spock.node", "49708|n1|here|DE|{\"tiebreaker\": \"7\"}")
        .reads("select * from spock.local_node", "49708|1001")
        .reads("select set_id, set_name, replicate_insert, replicate_update, replicate_delete, replicate_truncate from spock.replication_set order by 1", "101|default|t|t|t|t\n102|default_insert_only|t|f|f|t\n103|ddl_sql|t|f|f|f")
        .reads("select set_reloid, att_list, has_row_filter from spock.replication_set_table, spock.repset_show_table(set_reloid, '{default,default_insert_only}') order by 1", "acct|{id,balance}|t\nevent|{id,by}|f")
        .reads("select * from spock.sequence_state, spock.replication_set_seq where seqoid = set_seqoid", &format!("{0}|1000|1000|101|ticket", n1.query_one("select 'ticket'::regclass::oid")))
        .reads("select nspname, relname from my_tables order by 2", "public|acct\npublic|event")
        .reads("select label from pg_seclabels where objname = 'acct.balance'", "spock.delta_apply")
        .reads("select has_table_privilege('reader', 'spock.node', 'select'), has_schema_privilege('reader', 'spock', 'usage')", "t|t");
    assert_eq!(n1.sql_error("drop table acct").code, "2BP01", "the membership still protects the table");
    let conflicts = "select string_agg(conflict_type, ',' order by id) from spock.resolutions";
    match release {
        Release::V5_0_11 => n2.reads(conflicts, "insert_exists,update_exists,update_missing,delete_missing"),
        Release::V6_0_0 => n2
            .reads(conflicts, "insert_exists")
            .reads("select count(*) filter (where builtin), string_agg(name, ',') filter (where not builtin) from spock.reserved_object", "7|audit"),
    };
    let samples = "select count(*) from pg_proc p where pronamespace = 'spock'::regnamespace
        and proname in ('sync_timeout', 'gen_sub_name', 'version_to_array', 'wait_subscription')";
    n2.reads(samples, "4").reads("select spock.gen_sub_name('a', 'b')", "sub_a_b");
}

#[test]
fn rows_of_5_0_11_stay() {
    rows_stay(Release::V5_0_11);
}

#[test]
fn rows_of_6_0_0_stay() {
    rows_stay(Release::V6_0_0);
}

#[test]
fn an_update_that_fails_is_told_and_tried_again_and_nothing_else_runs_meanwhile() {
    let former = with_former_versions();
    let mesh = servers(&former, &["n1", "n2"], &[("spock.restart_delay_default", "300")]);
    populate(&mesh, Release::V5_0_11);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    let in_step = position(n1);
    n2.sql("create view public.lag as select * from spock.lag_tracker");
    n1.sql("insert into event values (1, 'waits')");
    for node in [n1, n2] {
        stop_as_former(node, Release::V5_0_11, &in_step);
        node.start_again();
    }
    let complaint = "could not update extension \"spock\" in database \"postgres\" from version 5.0.11 to 7.0.0";
    n2.comes_to_log(complaint);
    n2.comes_to_log("cannot drop view lag_tracker because other objects depend on it");
    let tries = || n2.log().matches(complaint).count();
    let before = tries();
    must(wait_until(Deadline::story(), "two more tries", || {
        let now = tries();
        Ok(if now >= before + 2 { Probe::Ready(()) } else { Probe::NotYet(format!("{now}")) })
    }));
    n2.reads(VERSION, "5.0.11");
    n2.reads("select count(*) from pg_stat_activity where backend_type like 'spock apply%'", "0");
    n2.reads("select count(*) from event where by = 'waits'", "0");
    n2.sql("drop view public.lag");
    n2.comes_to_read(VERSION, "7.0.0");
    mesh.settle();
    n2.reads("select count(*) from event where by = 'waits'", "1");
}

#[test]
fn an_update_steps_back_from_a_session_that_holds_a_table() {
    let former = with_former_versions();
    let mesh = servers(&former, &["n1"], &[("spock.restart_delay_default", "300")]);
    let n1 = mesh.node("n1");
    n1.sql("create extension spock version '5.0.11'").sql("create view public.lag as select * from spock.lag_tracker");
    n1.restart_fast();
    n1.comes_to_log("cannot drop view lag_tracker because other objects depend on it");
    let mut holder = must(n1.connect("postgres"));
    let hold = "begin; lock table spock.resolutions in row exclusive mode";
    must(holder.run(hold).map_err(|failure| n1.explain(hold, failure)));
    n1.sql("drop view public.lag");
    n1.comes_to_log("canceling statement due to lock timeout.");
    n1.reads(VERSION, "5.0.11").reads("select count(*) from spock.progress", "0");
    must(holder.run("commit").map_err(|failure| n1.explain("commit", failure)));
    n1.comes_to_read(VERSION, "7.0.0");
}

#[test]
fn an_array_that_5_0_2_labelled_text_is_an_array_afterwards() {
    let former = with_former_versions();
    let mesh = servers(&former, &["n1"], &[]);
    let n1 = mesh.node("n1");
    n1.sql("create extension spock version '5.0.2'");
    // The column's bytes are an array, whatever its type says.
    let label = |kind: &str| {
        format!(
            "update pg_attribute set atttypid = '{kind}'::regtype where attrelid = 'spock.subscription'::regclass and attname = 'sub_skip_schema'"
        )
    };
    n1.sql("insert into spock.node values (1, 'a'), (2, 'b'); insert into spock.node_interface values (11, 'a', 1, 'x'), (12, 'b', 2, 'y')")
        .sql(&label("text[]"))
        .sql("insert into spock.subscription (sub_id, sub_name, sub_origin, sub_target, sub_origin_if, sub_target_if, sub_slot_name, sub_skip_schema) values (5, 's', 1, 2, 11, 12, 'slot', '{a,\"b c\"}')")
        .sql(&label("text"))
        .sql("alter extension spock update")
        .reads("select sub_skip_schema[2], sub_created_at is null from spock.subscription", "b c|t")
        .sql("analyze spock.subscription");
}

#[test]
fn functions_of_earlier_catalogs_work_before_the_update() {
    let former = with_former_versions();
    let mesh = servers(&former, &["n1"], &[]);
    let n1 = mesh.node("n1");
    for version in ["5.0.0", "5.0.11", "6.0.0"] {
        // The update must not come between: nothing is committed.
        let calls = format!(
            "create extension spock version '{version}';
             select spock.delta_apply(1::int2, 3::int2, 10::int2), spock.delta_apply(1, 3, 10), spock.delta_apply(1::int8, 3, 10),
                    spock.delta_apply(1::float4, 3, 10), spock.delta_apply(1::float8, 3, 10), spock.delta_apply(1.5, 3, 10),
                    spock.delta_apply('$1'::money, '$3', '$10') = '$12'::money, spock.delta_apply(null, 3.5, 10) is null,
                    (select (roident, \"timestamp\" is null) from spock.xact_commit_timestamp_origin('3')),
                    spock.spock_gen_slot_name('postgres', 'n1', 'sub_n1_n2'), spock.spock_version_num() >= 70000,
                    (select count(*) from spock.tables) >= 0, (select count(*) from spock.lag_tracker)"
        );
        let sql = format!("begin; {calls}");
        n1.reads(&sql, &format!("12|12|12|12|12|11.5|t|t|(,t)|{SLOT}|t|t|0"));
        n1.sql("rollback");
    }
    assert_eq!(
        n1.sql_error("begin; create extension spock version '6.0.0'; select spock.delta_apply(1, 2, 2147483647)").code,
        "22003"
    );
    n1.sql("rollback");
}

#[test]
fn settings_that_keep_users_from_changing_the_schema_do_not_keep_the_update_back() {
    let former = with_former_versions();
    let mesh = servers(&former, &["n1"], &[]);
    let n1 = mesh.node("n1");
    n1.sql("create extension spock version '6.0.0'");
    for (name, value) in [
        ("default_transaction_read_only", "on"),
        ("spock.deny_all_ddl", "on"),
        ("spock.enable_ddl_replication", "on"),
        ("spock.allow_ddl_from_functions", "on"),
        ("spock.readonly", "all"),
    ] {
        must(n1.set(name, value));
    }
    n1.restart_fast();
    n1.comes_to_read(VERSION, "7.0.0");
    n1.reads("select count(*) from spock.queue", "0");
}
