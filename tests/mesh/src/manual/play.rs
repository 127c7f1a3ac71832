//! One chapter on one cluster.
//!
//! Nodes have a database `app`, with the extension and a node of their name when the chapter begins with a joined cluster.
//! Where a node's shell runs, `spockctrl.json` names all nodes.
//! In commands `host=n1 dbname=app` stands for the connection string of n1, and output is compared with it put back.

use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::cluster::{Cluster, ClusterOptions};
use crate::error::MeshError;
use crate::manual::blocks::{Block, Chapter, What};
use crate::manual::shown;
use crate::node::{Node, NodeOptions, Stop};
use crate::prefix::Prefix;
use crate::topology::{literal, subscription_name};
use crate::wait::{Deadline, Probe, wait_until};

/// The database of every chapter.
const DATABASE: &str = "app";
/// What psql is asked to print last: the SQLSTATE of the last statement that failed.
const STATE_MARK: &str = "manual-sqlstate";
const SUCCESS: &str = "00000";

/// How a block ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// As the chapter says.
    Right,
    /// Not run, and why.
    Skipped(String),
    /// Other than the chapter says: how, and what was printed where only that differs.
    Wrong {
        /// For people.
        why: String,
        /// What the block that shows it should hold.
        printed: Option<String>,
    },
}

/// A cluster on which a chapter is played.
pub struct Stage {
    cluster: Cluster,
}

impl Stage {
    /// Makes the cluster that a chapter asks for.
    pub fn set(prefix: &Arc<Prefix>, chapter: &Chapter) -> Result<Self, MeshError> {
        let settings = [("wal_receiver_status_interval", "1s"), ("log_min_messages", "log")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let node = NodeOptions { settings, ..NodeOptions::default() };
        let options = ClusterOptions { names: chapter.nodes.clone(), node, leave_stopped: false };
        let stage = Self { cluster: Cluster::create(prefix, &options)? };
        for node in stage.cluster.nodes() {
            // A manager of ours may still look into template1, and a template with sessions is not copied.
            node.execute(&format!("create database {DATABASE} template template0"))?;
            let path = node.dir().join("spockctrl.json");
            std::fs::write(&path, stage.operators_file()).map_err(MeshError::io("write", &path))?;
        }
        if chapter.joined {
            stage.join()?;
        }
        Ok(stage)
    }

    /// As `host=n1 dbname=app`: what each node says in the manual, and what reaches it here.
    fn names(&self) -> Vec<(String, String)> {
        let name = |node: &Node| {
            let real = node.dsn().replace("dbname=postgres", &format!("dbname={DATABASE}"));
            (format!("host={} dbname={DATABASE}", node.name()), real)
        };
        self.cluster.nodes().iter().map(name).collect()
    }

    /// The configuration of the operator's program.
    fn operators_file(&self) -> String {
        let node = |node: &Node, dsn: &str| {
            let (name, dir, port) = (node.name(), node.dir().display(), node.port());
            format!(
                r#"{{"node_name":"{name}","peer_dsn":"{dsn}","postgres":{{"postgres_ip":"{dir}","postgres_port":{port},
                "postgres_user":"postgres","postgres_db":"{DATABASE}"}}}}"#
            )
        };
        let nodes = self.cluster.nodes().iter().zip(self.names());
        let nodes: Vec<String> = nodes.map(|(one, (_, real))| node(one, &real)).collect();
        format!(r#"{{"spock-nodes":[{}]}}"#, nodes.join(","))
    }

    fn join(&self) -> Result<(), MeshError> {
        let names = self.names();
        for (node, (dsn, _)) in self.cluster.nodes().iter().zip(&names) {
            let create = format!("select spock.node_create({}, {});", literal(node.name()), literal(dsn));
            self.must(node, &format!("create extension spock; {create}"))?;
        }
        for subscriber in self.cluster.nodes() {
            for (provider, (dsn, _)) in self.cluster.nodes().iter().zip(&names) {
                if provider.name() != subscriber.name() {
                    let name = literal(&subscription_name(provider.name(), subscriber.name()));
                    self.must(subscriber, &format!("select spock.sub_create({name}, {});", literal(dsn)))?;
                }
            }
        }
        let ask = "select count(*) = count(*) filter (where status = 'replicating') from spock.sub_show_status();";
        for node in self.cluster.nodes() {
            wait_until(Deadline::story(), &format!("all subscriptions of {} to replicate", node.name()), || {
                let printed = self.psql(node, ask)?.0;
                Ok(if printed.contains(" t\n") { Probe::Ready(()) } else { Probe::NotYet(printed) })
            })?;
        }
        Ok(())
    }

    fn must(&self, node: &Node, sql: &str) -> Result<(), MeshError> {
        match self.psql(node, sql)? {
            (_, state) if state == SUCCESS => Ok(()),
            (printed, _) => Err(MeshError::Unexpected(format!("{}: {sql}\n{printed}", node.name()))),
        }
    }

    /// Runs one block.
    pub fn play(&self, block: &Block) -> Result<Ended, MeshError> {
        match &block.what {
            What::Skip { reason } => Ok(Ended::Skipped(reason.clone())),
            What::Sql { node, until, fails } => {
                self.sql(self.node(node)?, block, *until, fails.as_deref().unwrap_or(SUCCESS))
            }
            What::Console { node } => self.console(self.node(node)?, &block.text),
            What::Settings { node } => settings(self.node(node)?, &block.text),
        }
    }

    fn node(&self, name: &str) -> Result<&Node, MeshError> {
        self.cluster.find(name).ok_or_else(|| MeshError::Unexpected(format!("there is no node {name:?}")))
    }

    fn sql(&self, node: &Node, block: &Block, until: bool, state: &str) -> Result<Ended, MeshError> {
        if until {
            let mut last = Ended::Right;
            let seen = wait_until(Deadline::story(), "the manual's output", || {
                last = self.sql_once(node, block, state)?;
                Ok(if last == Ended::Right { Probe::Ready(()) } else { Probe::NotYet(String::new()) })
            });
            return match seen {
                Ok(()) | Err(MeshError::Deadline { .. }) => Ok(last),
                Err(other) => Err(other),
            };
        }
        self.sql_once(node, block, state)
    }

    fn sql_once(&self, node: &Node, block: &Block, want: &str) -> Result<Ended, MeshError> {
        let (printed, state) = self.psql(node, &block.text)?;
        if state != want {
            let why = format!("SQLSTATE {want} was wanted, it ended with {state}:\n{printed}");
            return Ok(Ended::Wrong { why, printed: None });
        }
        let difference = block.shows.as_ref().and_then(|shows| shown::compare(&shows.text, &printed).err());
        Ok(match difference {
            None => Ended::Right,
            Some(why) => Ended::Wrong { why, printed: Some(printed) },
        })
    }

    /// What psql prints for statements, errors where they happen, and the SQLSTATE of the last one that failed.
    fn psql(&self, node: &Node, sql: &str) -> Result<(String, String), MeshError> {
        let script = format!("{}\n\\echo {STATE_MARK} :LAST_ERROR_SQLSTATE\n", self.real(sql));
        let path = node.dir().join(format!("manual-{}.sql", std::process::id()));
        std::fs::write(&path, script).map_err(MeshError::io("write", &path))?;
        let arguments = "exec psql -X -q -P pager=off < \"$1\" 2>&1";
        let printed = self.shell(node, arguments, &[&path.display().to_string()])?;
        let (printed, state) = printed
            .rsplit_once(STATE_MARK)
            .ok_or_else(|| MeshError::Unexpected(format!("psql ended early:\n{printed}")))?;
        Ok((self.manual(printed), state.trim().to_owned()))
    }

    fn console(&self, node: &Node, text: &str) -> Result<Ended, MeshError> {
        let mut commands: Vec<(&str, String)> = Vec::new();
        for line in text.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command, String::new())),
                (None, Some((_, shows))) => *shows += &format!("{line}\n"),
                (None, None) => return Ok(wrong("a console block begins with a line `$ COMMAND`".to_owned())),
            }
        }
        for (command, shows) in commands {
            let printed = self.shell(node, &format!("{{ {}; }} 2>&1", self.real(command)), &[])?;
            if let Err(why) = shown::compare(&shows, &self.manual(&printed)) {
                return Ok(wrong(format!("$ {command}\n{why}")));
            }
        }
        Ok(Ended::Right)
    }

    /// A shell's output, whatever its status; as the servers' account, with libpq's variables set to `node`.
    fn shell(&self, node: &Node, command: &str, arguments: &[&str]) -> Result<String, MeshError> {
        // The wrapped program is the shell's `$0`.
        let mut shell: Command = node.prefix().wrapped(&["/bin/sh", "-c", command], "psql");
        let bin = node.prefix().root().join("bin");
        shell.args(arguments).stdin(Stdio::null()).current_dir(node.dir());
        shell.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        // What somebody keeps at home is none of the chapter's, and what the chapter keeps is no one else's.
        shell.env("HOME", node.dir()).env_remove("XDG_STATE_HOME").env_remove("SPOCKCTRL_CONFIG");
        shell.envs([("PGUSER", "postgres"), ("PGDATABASE", DATABASE)]);
        shell.env("PGHOST", node.dir()).env("PGPORT", node.port().to_string()).env("PGDATA", node.data());
        let output = shell.output().map_err(|source| MeshError::Io { what: "run a shell".into(), source })?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn real(&self, text: &str) -> String {
        self.names().iter().fold(text.to_owned(), |text, (manual, real)| text.replace(manual, real))
    }

    fn manual(&self, text: &str) -> String {
        self.names().iter().fold(text.to_owned(), |text, (manual, real)| text.replace(real, manual))
    }
}

fn wrong(why: String) -> Ended {
    Ended::Wrong { why, printed: None }
}

/// Restarts the server with settings; they must be known, and right.
fn settings(node: &Node, text: &str) -> Result<Ended, MeshError> {
    let mut names = Vec::new();
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        match line.split_once('=') {
            Some((name, value)) => {
                names.push(name.trim());
                node.set(name.trim(), value.trim().trim_matches('\''))?;
            }
            None if line.is_empty() => {}
            None => return Ok(wrong(format!("{line:?} is no setting"))),
        }
    }
    node.restart(Stop::Fast)?;
    let wrong_lines = node.execute("select name, error from pg_file_settings where error is not null")?.to_string();
    if !wrong_lines.is_empty() {
        return Ok(wrong(wrong_lines));
    }
    for name in names {
        let known = node.execute(&format!("select count(*) from pg_settings where name = {}", literal(name)))?;
        if known.to_string() != "1" {
            return Ok(wrong(format!("the server knows no setting {name}")));
        }
    }
    Ok(Ended::Right)
}
