//! Each unmet requirement of the server's configuration is said in words that name the setting.

use std::sync::Arc;

use spock_mesh::node::NodeOptions;
use spock_mesh::story::{must, prefix_under_test};
use spock_mesh::topology::wait_replicating;
use spock_mesh::wait::Deadline;
use spock_mesh::{Cluster, ClusterOptions, Mesh, MeshError};

fn one_node(settings: &[(&str, &str)]) -> Cluster {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let node = NodeOptions { settings, ..NodeOptions::default() };
    let options = ClusterOptions { names: vec!["n1".into()], node, leave_stopped: true };
    must(Cluster::create(&Arc::clone(&prefix_under_test()), &options))
}

/// The server does not start, and the last lines of its log name the setting and the very line that mends it.
fn refuses_to_start(settings: &[(&str, &str)], lines: &[&str]) {
    let cluster = one_node(settings);
    match cluster.nodes()[0].start() {
        Err(MeshError::Child { tail, .. }) => {
            let mends = |hint: &str| lines.iter().all(|line| hint.contains(&format!("\"{line}\"")));
            let named = tail.lines().any(|line| line.contains("HINT:") && mends(line));
            assert!(tail.contains("FATAL:") && named, "{settings:?}: {tail}");
        }
        Err(other) => panic!("{settings:?}: {other}"),
        Ok(()) => panic!("{settings:?}: the server started"),
    }
}

#[test]
fn a_wal_level_below_logical_is_refused_at_start() {
    refuses_to_start(&[("wal_level", "replica")], &["wal_level = logical"]);
}

#[test]
fn missing_commit_timestamps_are_refused_at_start() {
    refuses_to_start(&[("track_commit_timestamp", "off")], &["track_commit_timestamp = on"]);
}

#[test]
fn a_server_without_worker_processes_is_refused_at_start() {
    refuses_to_start(&[("max_worker_processes", "0")], &["max_worker_processes = 16"]);
}

#[test]
fn all_that_is_missing_is_said_at_once() {
    refuses_to_start(
        &[
            ("wal_level", "replica"),
            ("track_commit_timestamp", "off"),
            ("max_replication_slots", "0"),
            ("max_wal_senders", "0"),
        ],
        &["wal_level = logical", "track_commit_timestamp = on", "max_replication_slots = 16", "max_wal_senders = 16"],
    );
}

#[test]
fn a_library_that_was_not_preloaded_says_so() {
    let cluster = one_node(&[("shared_preload_libraries", "")]);
    let node = &cluster.nodes()[0];
    must(node.start());
    for statement in ["load 'spock'", "create extension spock"] {
        let error = node.sql_error(statement);
        assert_eq!(error.code, "55000", "{error}");
        assert!(error.to_string().contains("shared_preload_libraries") && !error.hint.is_empty(), "{error}");
    }
}

/// Servers that know the list refuse other plugins; the reason, and the line that mends it, reach the person who subscribes, and
/// the log of the server that refuses.
#[test]
fn an_output_plugin_that_is_not_listed_is_named_with_its_setting() {
    let name = "requirements::an_output_plugin_that_is_not_listed_is_named_with_its_setting";
    let prefix = prefix_under_test();
    if !prefix.lists_output_plugins() {
        return spock_mesh::story::skipped(name, "this server does not know output_plugin_libraries");
    }
    let line = "output_plugin_libraries = 'pgoutput, test_decoding, spock_output'";
    let mesh = Mesh::unjoined(["n1", "n2"]);
    let (n1, n2) = (mesh.node("n1"), mesh.node("n2"));
    must(n1.set("output_plugin_libraries", "pgoutput"));
    n1.restart_fast();
    n1.comes_to_log(line);
    let error = n1.sql_error("select pg_create_logical_replication_slot('s', 'spock_output')");
    assert_eq!(error.code, "42501", "{error}");
    let create = format!("select spock.sub_create('s', '{}')", n1.dsn());
    let error = n2.sql_error(&create);
    assert!(
        error.code == "55000" && error.message.contains("output_plugin_libraries") && error.hint.contains(line),
        "{error}"
    );
    n2.reads("select (select count(*) from spock.subscription), (select count(*) from spock.node)", "0|1");
    // That line, and a reload, are enough.
    must(n1.set("output_plugin_libraries", "pgoutput, test_decoding, spock_output"));
    must(n1.reload());
    n1.comes_to_read("show output_plugin_libraries", "pgoutput, test_decoding, spock_output");
    n2.sql(&create);
    must(wait_replicating(n2, "s", Deadline::story()));
}
