//! Several nodes in one temporary directory, made and started at the same time.
//!
//! **Invariant:** when a cluster is dropped its servers are ended and its directory is gone, unless it was told to stay.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use crate::error::MeshError;
use crate::node::{Node, NodeOptions, Stop, give_to_servers};
use crate::prefix::Prefix;

/// A socket's path may be 107 bytes long; `n1/.s.PGSQL.12345` and a margin come on top of the directory.
const DIRECTORY_BYTES_MAX: usize = 70;

/// What a cluster is made with.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// Names of the nodes, which are also the names of their directories.
    pub names: Vec<String>,
    /// The same for all nodes.
    pub node: NodeOptions,
    /// Do not start the servers yet.
    pub leave_stopped: bool,
}

/// Nodes with a directory of their own.
pub struct Cluster {
    dir: PathBuf,
    nodes: Vec<Node>,
    standbys: Vec<Node>,
    stays: AtomicBool,
}

impl Cluster {
    /// Makes the nodes, all at once.
    pub fn create(prefix: &Arc<Prefix>, options: &ClusterOptions) -> Result<Self, MeshError> {
        let mut cluster = Self {
            dir: make_directory(prefix)?,
            nodes: Vec::new(),
            standbys: Vec::new(),
            stays: AtomicBool::new(false),
        };
        let dir = cluster.dir.clone();
        let made: Vec<Result<Node, MeshError>> = thread::scope(|scope| {
            let one = |name: String| {
                let dir = dir.join(&name);
                scope.spawn(move || -> Result<Node, MeshError> {
                    let node = Node::create(prefix, &name, &dir, options.node.clone())?;
                    if !options.leave_stopped {
                        node.start()?;
                    }
                    Ok(node)
                })
            };
            let threads: Vec<_> = options.names.iter().cloned().map(one).collect();
            threads
                .into_iter()
                .map(|made| made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        for node in made {
            cluster.nodes.push(node?);
        }
        Ok(cluster)
    }

    /// The directory of all nodes.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All nodes, in the order of their names' list.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All standbys, also promoted ones.
    pub fn standbys(&self) -> &[Node] {
        &self.standbys
    }

    /// Makes and starts a standby of a running node.
    pub fn add_standby(&mut self, of: &str, name: &str, settings: &[(String, String)]) -> Result<(), MeshError> {
        let Some(primary) = self.find(of) else {
            return Err(MeshError::Unexpected(format!("there is no node {of:?} to make a standby of")));
        };
        let node = Node::create_standby(primary, name, &self.dir.join(name), settings)?;
        node.start()?;
        self.standbys.push(node);
        Ok(())
    }

    /// The node or standby of that name.
    pub fn find(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().chain(&self.standbys).find(|node| node.name() == name)
    }

    /// Lets servers and directory be: a person wants to look at them. Gives the servers' process ids.
    pub fn let_go(&self) -> Result<Vec<u32>, MeshError> {
        // All down before the first comes up again, so that none finds its peer vanishing once more.
        for node in &self.nodes {
            node.stop(Stop::Fast)?;
        }
        let mut pids = Vec::new();
        for node in &self.nodes {
            pids.extend(node.let_go()?);
        }
        self.stays.store(true, Ordering::Relaxed);
        Ok(pids)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The servers first: they write into the directory.
        self.standbys.clear();
        self.nodes.clear();
        if !self.stays.load(Ordering::Relaxed)
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            eprintln!("could not remove {}: {error}", self.dir.display());
        }
    }
}

/// A new directory with a short path that belongs to the servers' account and can be searched by all.
fn make_directory(prefix: &Prefix) -> Result<PathBuf, MeshError> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let mut base = std::env::temp_dir();
    if base.as_os_str().len() > DIRECTORY_BYTES_MAX / 2 {
        base = PathBuf::from("/tmp");
    }
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = base.join(format!("spock-{}-{number}", std::process::id()));
        match fs::create_dir(&dir) {
            Ok(()) => {
                give_to_servers(prefix, &dir)?;
                return Ok(dir);
            }
            // Left by an earlier process of the same id.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(MeshError::io("make", &dir)(e)),
        }
    }
}
