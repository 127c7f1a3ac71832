//! Each unmet requirement of the server's configuration is said in words that name the setting.

use std::sync::Arc;

use spock_mesh::node::NodeOptions;
use spock_mesh::story::{must, prefix_under_test};
use spock_mesh::{Cluster, ClusterOptions, MeshError};

fn one_node(settings: &[(&str, &str)]) -> Cluster {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let node = NodeOptions { settings, ..NodeOptions::default() };
    let options = ClusterOptions { names: vec!["n1".into()], node, leave_stopped: true };
    must(Cluster::create(&Arc::clone(&prefix_under_test()), &options))
}

/// The server does not start, and the last lines of its log name the setting and what to do.
fn refuses_to_start(settings: &[(&str, &str)], named: &str) {
    let cluster = one_node(settings);
    match cluster.nodes()[0].start() {
        Err(MeshError::Child { tail, .. }) => {
            assert!(tail.contains("FATAL:") && tail.contains(named) && tail.contains("HINT:"), "{settings:?}: {tail}");
        }
        Err(other) => panic!("{settings:?}: {other}"),
        Ok(()) => panic!("{settings:?}: the server started"),
    }
}

#[test]
fn a_wal_level_below_logical_is_refused_at_start() {
    refuses_to_start(&[("wal_level", "replica")], "wal_level");
}

#[test]
fn missing_commit_timestamps_are_refused_at_start() {
    refuses_to_start(&[("track_commit_timestamp", "off")], "track_commit_timestamp");
}

#[test]
fn a_server_without_worker_processes_is_refused_at_start() {
    refuses_to_start(&[("max_worker_processes", "0")], "max_worker_processes");
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

/// Servers that know the list refuse other plugins; the reason has to reach the person who subscribes.
#[test]
fn an_output_plugin_that_is_not_listed_is_named_with_its_setting() {
    let name = "requirements::an_output_plugin_that_is_not_listed_is_named_with_its_setting";
    let prefix = prefix_under_test();
    if !prefix.lists_output_plugins() {
        return spock_mesh::story::skipped(name, "this server does not know output_plugin_libraries");
    }
    let cluster = one_node(&[("output_plugin_libraries", "pgoutput")]);
    let node = &cluster.nodes()[0];
    must(node.start());
    node.sql("create extension spock");
    let error = node.sql_error("select pg_create_logical_replication_slot('s', 'spock_output')");
    assert_eq!(error.code, "42501", "{error}");
}
