//! One directory with all that is known about a cluster at the moment a story failed.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use crate::cluster::Cluster;
use crate::error::MeshError;
use crate::node::Node;

/// What is asked of every node that still answers.
const QUESTIONS: [(&str, &str); 8] = [
    ("subscriptions", "select * from spock.sub_show_status()"),
    ("slots", "select * from pg_replication_slots"),
    ("failover slots", "select * from spock.failover_slot_status()"),
    ("senders", "select * from pg_stat_replication"),
    ("origins", "select * from pg_show_replication_origin_status()"),
    (
        "activity",
        "select pid, backend_type, application_name, state, wait_event_type, wait_event, query from pg_stat_activity",
    ),
    ("exceptions", "select * from spock.exception_log"),
    ("resolutions", "select * from spock.resolutions"),
];

/// Writes the bundle and gives its path. `SPOCK_TEST_BUNDLES` chooses the parent directory.
pub fn write(cluster: &Cluster) -> Result<PathBuf, MeshError> {
    let parent = std::env::var_os("SPOCK_TEST_BUNDLES")
        .map_or_else(|| std::env::temp_dir().join("spock-bundles"), PathBuf::from);
    let story = thread::current().name().unwrap_or("story").replace("::", ".");
    let id = cluster.dir().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dir = parent.join(format!("{story}-{id}"));
    fs::create_dir_all(&dir).map_err(MeshError::io("make", &dir))?;
    for node in cluster.nodes().iter().chain(cluster.standbys()) {
        write_node(node, &dir)?;
    }
    Ok(dir)
}

fn write_node(node: &Node, dir: &Path) -> Result<(), MeshError> {
    let log = dir.join(format!("{}.log", node.name()));
    fs::write(&log, node.log()).map_err(MeshError::io("write", &log))?;
    let conf = dir.join(format!("{}.conf", node.name()));
    let settings = fs::read_to_string(node.data().join("mesh.conf")).unwrap_or_default();
    fs::write(&conf, settings).map_err(MeshError::io("write", &conf))?;
    let mut text = String::new();
    for (title, question) in QUESTIONS {
        let answer = node.execute(question).map_or_else(|error| error.to_string(), |rows| rows.to_string());
        text.push_str(&format!("-- {title}: {question}\n{answer}\n\n"));
    }
    let state = dir.join(format!("{}.state", node.name()));
    fs::write(&state, text).map_err(MeshError::io("write", &state))
}
