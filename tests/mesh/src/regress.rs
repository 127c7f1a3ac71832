//! SQL in, expected output out: each file of `sql/` is fed to psql on a fresh server and compared with
//! `expected/NAME_<major>.out` where that exists, else with `expected/NAME.out`.
//!
//! A file may ask for server settings in lines `-- setting: name = value`. The variable `dsn` reaches the server itself.
//! `SPOCK_REGRESS_ACCEPT=1` writes what came out as what is expected.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use similar::TextDiff;

use crate::cluster::{Cluster, ClusterOptions};
use crate::error::MeshError;
use crate::node::{Node, NodeOptions};
use crate::prefix::{Major, Prefix};

/// Set to 1: rewrite expected files instead of failing.
pub const ACCEPT_VARIABLE: &str = "SPOCK_REGRESS_ACCEPT";

/// The names of all SQL files below `dir/sql`, without suffix, sorted.
pub fn names(dir: &Path) -> Result<Vec<String>, MeshError> {
    let sql = dir.join("sql");
    let mut names = Vec::new();
    for entry in fs::read_dir(&sql).map_err(MeshError::io("read", &sql))? {
        let path = entry.map_err(MeshError::io("read", &sql))?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            names.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Runs one file; the error holds the unified diff.
pub fn check(prefix: &Arc<Prefix>, dir: &Path, name: &str) -> Result<(), MeshError> {
    let script = dir.join("sql").join(format!("{name}.sql"));
    let text = fs::read_to_string(&script).map_err(MeshError::io("read", &script))?;
    let node = NodeOptions { settings: wanted_settings(&text), ..NodeOptions::default() };
    let options = ClusterOptions { names: vec!["regress".to_owned()], node, leave_stopped: false };
    let cluster = Cluster::create(prefix, &options)?;
    let got = run_script(&cluster.nodes()[0], &script)?;
    let expected = expected_path(dir, name, prefix.major());
    if std::env::var_os(ACCEPT_VARIABLE).is_some_and(|value| value == "1") {
        return fs::write(&expected, got).map_err(MeshError::io("write", &expected));
    }
    let want = fs::read_to_string(&expected).map_err(MeshError::io("read", &expected))?;
    if want == got {
        return Ok(());
    }
    let diff = TextDiff::from_lines(&want, &got);
    let diff = diff.unified_diff().header("expected", "got").context_radius(3).to_string();
    Err(MeshError::Unexpected(format!("{name}: other output than {}\n{diff}", expected.display())))
}

fn expected_path(dir: &Path, name: &str, major: Major) -> PathBuf {
    let special = dir.join("expected").join(format!("{name}_{major}.out"));
    if special.is_file() { special } else { dir.join("expected").join(format!("{name}.out")) }
}

fn wanted_settings(script: &str) -> Vec<(String, String)> {
    let lines = script.lines().filter_map(|line| line.strip_prefix("-- setting: ")?.split_once('='));
    lines.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

/// Both outputs go to one file, so that errors stand where they happened.
fn run_script(node: &Node, script: &Path) -> Result<String, MeshError> {
    let input = File::open(script).map_err(MeshError::io("open", script))?;
    let path = node.dir().join("out");
    let output = File::create(&path).map_err(MeshError::io("make", &path))?;
    let errors = output.try_clone().map_err(MeshError::io("open", &path))?;
    let mut psql = node.prefix().command("psql");
    psql.args(["-X", "-a", "-q", "-U", "postgres", "-d", "postgres", "-p", &node.port().to_string(), "-h"])
        .arg(node.dir());
    psql.args(["-v", "HIDE_TABLEAM=on", "-v", &format!("dsn={}", node.dsn())]);
    psql.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(errors));
    // psql's exit status tells nothing here: errors of statements are part of the output, and so is a lost connection.
    psql.status().map_err(|source| MeshError::Io { what: "run psql".into(), source })?;
    fs::read_to_string(&path).map_err(MeshError::io("read", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_asks_for_settings_in_comments() {
        let script = "-- Nodes.\n-- setting: wal_level = replica\nselect 1; -- setting: no\n";
        assert_eq!(wanted_settings(script), [("wal_level".to_owned(), "replica".to_owned())]);
    }
}
