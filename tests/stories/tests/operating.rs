//! Settings that an operator changes while nodes replicate, each with what it does.

use std::fs;

use spock_mesh::mesh::MeshOptions;
use spock_mesh::story::must;
use spock_mesh::topology::wait_replicating;
use spock_mesh::wait::Deadline;
use spock_mesh::{Mesh, Node};

const SUB: &str = "sub_n1_n2";

fn set(node: &Node, name: &str, value: &str) {
    must(node.set(name, value));
    must(node.reload());
    node.comes_to_read(&format!("select setting from pg_settings where name = '{name}'"), value);
}

/// A provider that says nothing is left, and found again.
#[test]
fn a_provider_that_is_silent_for_too_long_is_connected_to_anew() {
    let mesh = Mesh::unjoined(["n1", "n2"]).with_table("t (id int primary key)");
    mesh.subscribe("n2", "n1", "");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.comes_to_read("select state from pg_stat_replication", "streaming");
    let sender = n1.freeze_sender(&mesh.slot_of("n2", SUB));
    set(n2, "spock.apply_idle_timeout", "1");
    n2.comes_to_log("nothing was heard from the provider for 1 s");
    n1.thaw(sender);
    set(n2, "spock.apply_idle_timeout", "0");
    n1.sql("insert into t values (1)");
    must(wait_replicating(n2, SUB, Deadline::story()));
    mesh.settle();
    n2.reads("select count(*) from t", "1").reads("select sub_enabled from spock.subscription", "t");
}

/// What an apply worker runs with, as a trigger sees it; and a conflict at the level that was asked for.
#[test]
fn workers_commit_as_set_and_conflicts_are_logged_at_the_level_that_is_set() {
    let names = vec!["n1".to_owned(), "n2".to_owned()];
    let mesh = Mesh::with(&MeshOptions { names, ..MeshOptions::default() })
        .with_table("t (id int primary key, n int, how text)");
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n2.sql("create function note() returns trigger language plpgsql as $$
            begin new.how := current_setting('synchronous_commit') || ' ' || current_setting('session_replication_role'); return new; end $$")
        .sql("create trigger notes before insert on t for each row execute function note()")
        .sql("alter table t enable replica trigger notes");
    n1.sql("insert into t values (1)");
    mesh.settle();
    n2.reads("select how from t where id = 1", "off replica");
    must(n2.set("spock.synchronous_commit", "on"));
    n2.restart_fast();
    n1.sql("insert into t values (2)");
    mesh.settle();
    n2.reads("select how from t where id = 2", "local replica");

    let conflict = |id: u32, level: &str| {
        set(n2, "spock.conflict_log_level", level);
        mesh.hold("n1", "n2");
        n1.sql(&format!("update t set n = 1 where id = {id}"));
        n2.sql(&format!("update t set n = 2 where id = {id}"));
        mesh.release("n1", "n2").settle();
        n2.log()
            .lines()
            .filter(|line| line.contains("CONFLICT: update_origin_differs"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(conflict(1, "debug1"), Vec::<String>::new());
    let lines = conflict(2, "warning");
    assert!(lines.len() == 1 && lines[0].contains("WARNING:") && lines[0].contains("keep_local"), "{lines:?}");
}

/// A copy of the structure needs a place; a bad one is named, and once it is good the copy goes on.
#[test]
fn the_structure_is_kept_where_the_setting_says_and_nothing_of_it_is_left() {
    let mesh = Mesh::unjoined(["n1", "n2"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    n1.sql("create table t (id int primary key)").sql("insert into t values (1)");
    n1.sql("select spock.repset_add_table('default', 't')");
    let (bad, good) = (n2.dir().join("a_file"), n2.dir().join("structures"));
    fs::write(&bad, "not a directory").unwrap_or_else(|error| panic!("{error}"));
    set(n2, "spock.temp_directory", &bad.display().to_string());
    n2.sql(&format!(
        "select spock.sub_create('{SUB}', '{}', synchronize_structure := true, synchronize_data := true)",
        n1.dsn()
    ));
    n2.comes_to_read(
        &format!("select last_error like '%could not use the directory%' from spock.sub_worker_status('{SUB}')"),
        "t",
    );
    n2.comes_to_read(&format!("select status from spock.sub_show_status('{SUB}')"), "disabled");
    n2.comes_to_log("a_file/sync_");
    set(n2, "spock.temp_directory", &good.display().to_string());
    n2.sql(&format!("select spock.sub_enable('{SUB}')")).sql(&format!("select spock.sub_wait_for_sync('{SUB}')"));
    n2.reads("select count(*) from t", "1");
    let left = fs::read_dir(&good).unwrap_or_else(|error| panic!("{}: {error}", good.display())).count();
    assert_eq!(left, 0, "{}", good.display());
}

/// What is said of replicated statements goes to the client, or to the log.
#[test]
fn in_quiet_mode_what_is_said_of_statements_goes_to_the_log() {
    let mesh = Mesh::unjoined(["n1"]);
    let n1 = mesh.node("n1");
    n1.sql("set spock.enable_ddl_replication = on").sql("create table loud (id int primary key)");
    assert!(!n1.log().contains("CREATE TABLE is replicated"));
    set(n1, "spock.enable_quiet_mode", "on");
    n1.sql("create table quiet (id int primary key)");
    assert!(n1.log().contains("LOG:  CREATE TABLE is replicated"));
    n1.reads("select count(*) from spock.queue where message_type = 'D'", "2");
}
