//! A story's cast: nodes that replicate to each other, and the verbs on all of them.
//!
//! **Invariant:** whatever makes a story fail (a failed statement, an assertion, a deadline), the drop of its mesh writes
//! one bundle with the logs and states of all nodes and prints where it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::bundle;
use crate::cluster::{Cluster, ClusterOptions};
use crate::log;
use crate::node::{Node, NodeOptions};
use crate::prefix::Prefix;
use crate::story::{must, prefix_under_test};
use crate::topology::{self, Digest, literal, subscription_name};
use crate::wait::{Deadline, Probe, wait_until};

/// What would act at a moment of its own and that no story is about: a slow story would see it, a quick one not.
const PINNED: [(&str, &str); 2] = [
    ("autovacuum", "off"),
    // Workers of ours that wait in a circle with a session give way before it is ended for that.
    ("deadlock_timeout", "10s"),
];

/// How a mesh is made; [`Mesh::of`] is the usual way.
#[derive(Debug, Clone, Default)]
pub struct MeshOptions {
    /// Names of the nodes.
    pub names: Vec<String>,
    /// Server settings on top of the usual ones.
    pub settings: Vec<(String, String)>,
    /// How far the nodes are taken.
    pub stage: Stage,
    /// Further named arguments of every `sub_create`, each with a leading comma.
    pub subscription_arguments: String,
}

/// How far the nodes of a mesh are taken when it is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Servers run, without the extension.
    Servers,
    /// Each database has the extension and is a node.
    Nodes,
    /// Every node subscribes to every other one.
    #[default]
    Joined,
}

/// Nodes that replicate to each other.
pub struct Mesh {
    cluster: Cluster,
    cut: Mutex<Vec<String>>,
}

impl Mesh {
    /// A full mesh of the named nodes on the installation under test.
    #[track_caller]
    pub fn of<const N: usize>(names: [&str; N]) -> Self {
        Self::with(&MeshOptions { names: names.map(str::to_owned).to_vec(), ..MeshOptions::default() })
    }

    /// Nodes that do not subscribe to each other yet.
    #[track_caller]
    pub fn unjoined<const N: usize>(names: [&str; N]) -> Self {
        let names = names.map(str::to_owned).to_vec();
        Self::with(&MeshOptions { names, stage: Stage::Nodes, ..MeshOptions::default() })
    }

    /// A mesh made to measure.
    #[track_caller]
    pub fn with(options: &MeshOptions) -> Self {
        Self::on(&prefix_under_test(), options)
    }

    /// A mesh on a given installation.
    #[track_caller]
    pub fn on(prefix: &Arc<Prefix>, options: &MeshOptions) -> Self {
        let pinned = PINNED.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = pinned.into_iter().chain(options.settings.iter().cloned()).collect();
        let node = NodeOptions { settings, ..NodeOptions::default() };
        let wanted = ClusterOptions { names: options.names.clone(), node, leave_stopped: false };
        let mesh = Self { cluster: must(Cluster::create(prefix, &wanted)), cut: Mutex::new(Vec::new()) };
        if options.stage >= Stage::Nodes {
            for node in mesh.nodes() {
                must(topology::create_node(node));
            }
        }
        if options.stage >= Stage::Joined {
            mesh.join_with(&options.subscription_arguments);
        }
        mesh
    }

    /// Subscribes every node to every other one.
    #[track_caller]
    pub fn join(&self) -> &Self {
        self.join_with("")
    }

    #[track_caller]
    fn join_with(&self, arguments: &str) -> &Self {
        must(topology::join_all(&self.all(), arguments, Deadline::story()));
        self
    }

    /// Subscribes one node to another and waits until that replicates.
    #[track_caller]
    pub fn subscribe(&self, subscriber: &str, provider: &str, arguments: &str) -> &Self {
        let node = self.node(subscriber);
        must(topology::subscribe(node, self.node(provider), arguments));
        must(topology::wait_replicating(node, &subscription_name(provider, subscriber), Deadline::story()));
        self
    }

    /// Creates a table on every node and adds it to each one's set `default`. `definition` is what follows
    /// `create table`, a name first.
    #[track_caller]
    pub fn with_table(self, definition: &str) -> Self {
        self.with_table_in("default", definition)
    }

    /// The same for another replication set.
    #[track_caller]
    pub fn with_table_in(self, set: &str, definition: &str) -> Self {
        let end = definition.find(|c: char| c.is_whitespace() || c == '(').unwrap_or(definition.len());
        let name = &definition[..end];
        for node in self.nodes() {
            node.sql(&format!("create table {definition}"));
            node.sql(&format!("select spock.repset_add_table({}, {})", literal(set), literal(name)));
        }
        self
    }

    /// Makes and starts `name`, a physical standby of the node `primary`, with the slot `standby_NAME` there and further
    /// settings. It is no member of the mesh: verbs on all nodes leave it out.
    #[track_caller]
    pub fn standby_of(mut self, primary: &str, name: &str, settings: &[(&str, &str)]) -> Self {
        let settings: Vec<_> = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        must(self.cluster.add_standby(primary, name, &settings));
        self
    }

    /// Waits until everything committed so far on `provider`, which may be a promoted standby, is applied by a
    /// subscription of `subscriber`.
    #[track_caller]
    pub fn settle_between(&self, provider: &str, subscriber: &str, subscription: &str) -> &Self {
        let target = must(topology::position_behind_all(self.node(provider)));
        let slot = self.slot_of(subscriber, subscription);
        let ask = format!(
            "select confirmed_flush_lsn >= {}::pg_lsn from pg_replication_slots where slot_name = {}",
            literal(&target),
            literal(&slot)
        );
        self.node(provider).comes_to_read(&ask, "t");
        self
    }

    /// The node or standby of that name.
    #[track_caller]
    pub fn node(&self, name: &str) -> &Node {
        self.cluster.find(name).unwrap_or_else(|| panic!("this mesh has no node {name:?}"))
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        self.cluster.nodes()
    }

    fn all(&self) -> Vec<&Node> {
        self.nodes().iter().collect()
    }

    fn cuts(&self) -> MutexGuard<'_, Vec<String>> {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the same statements on every node.
    #[track_caller]
    pub fn everywhere(&self, sql: &str) -> &Self {
        for node in self.nodes() {
            node.sql(sql);
        }
        self
    }

    /// Waits until everything committed so far, on any node, is applied on all that subscribe to it.
    #[track_caller]
    pub fn settle(&self) -> &Self {
        must(topology::settle(&self.all(), &self.cuts(), Deadline::story()));
        self
    }

    /// Stops replication between two nodes in both directions, and waits until nothing more can arrive.
    #[track_caller]
    pub fn cut(&self, one: &str, other: &str) -> &Self {
        self.hold(one, other).hold(other, one)
    }

    /// Lets two nodes replicate again.
    #[track_caller]
    pub fn heal(&self, one: &str, other: &str) -> &Self {
        self.release(one, other).release(other, one)
    }

    /// Holds back what `provider` sends to `subscriber`, and waits until nothing more can arrive.
    #[track_caller]
    pub fn hold(&self, provider: &str, subscriber: &str) -> &Self {
        let name = subscription_name(provider, subscriber);
        let slot = self.slot_of(subscriber, &name);
        self.node(subscriber).sql(&format!("select spock.sub_disable({})", literal(&name)));
        let ask = format!("select active from pg_replication_slots where slot_name = {}", literal(&slot));
        self.node(provider).comes_to_read(&ask, "f");
        // Its worker is gone, so that the next one is not taken for it.
        let ask = format!("select status from spock.sub_show_status({})", literal(&name));
        self.node(subscriber).comes_to_read(&ask, "disabled");
        self.cuts().push(name);
        self
    }

    /// Lets it through again.
    #[track_caller]
    pub fn release(&self, provider: &str, subscriber: &str) -> &Self {
        let name = subscription_name(provider, subscriber);
        self.node(subscriber).sql(&format!("select spock.sub_enable({})", literal(&name)));
        must(topology::wait_replicating(self.node(subscriber), &name, Deadline::story()));
        self.cuts().retain(|cut| *cut != name);
        self
    }

    /// What `provider` has committed so far is applied on `subscriber`, and nothing that comes later: the link is held
    /// before and after.
    #[track_caller]
    pub fn deliver(&self, provider: &str, subscriber: &str) -> &Self {
        self.release(provider, subscriber)
            .settle_between(provider, subscriber, &subscription_name(provider, subscriber))
            .hold(provider, subscriber)
    }

    /// Holds every link.
    #[track_caller]
    pub fn isolate(&self) -> &Self {
        for (provider, subscriber) in self.links() {
            self.hold(&provider, &subscriber);
        }
        self
    }

    /// Releases every link that is held, and waits until everything is everywhere.
    #[track_caller]
    pub fn reunite(&self) -> &Self {
        for (provider, subscriber) in self.links() {
            if self.cuts().contains(&subscription_name(&provider, &subscriber)) {
                self.release(&provider, &subscriber);
            }
        }
        self.settle()
    }

    /// Every provider with every other node.
    fn links(&self) -> Vec<(String, String)> {
        let names: Vec<&str> = self.nodes().iter().map(Node::name).collect();
        let to = |from: &str| {
            names.iter().filter(|to| **to != from).map(|to| (from.to_owned(), (*to).to_owned())).collect::<Vec<_>>()
        };
        names.iter().flat_map(|from| to(from)).collect()
    }

    /// Name of a subscription's slot and origin.
    #[track_caller]
    pub fn slot_of(&self, subscriber: &str, subscription: &str) -> String {
        let ask = format!("select slot_name from spock.sub_show_status({})", literal(subscription));
        self.node(subscriber).query_one(&ask)
    }

    /// Asserts that a query gives the same known answer on every node.
    #[track_caller]
    pub fn every_node_reads(&self, sql: &str, expected: &str) -> &Self {
        for node in self.nodes() {
            node.reads(sql, expected);
        }
        self
    }

    /// Asserts that a table holds the same rows on every node, and gives their digest.
    #[track_caller]
    pub fn same_everywhere(&self, table: &str) -> Digest {
        let all: Vec<(&str, Digest)> =
            self.nodes().iter().map(|node| (node.name(), must(topology::digest(node, table)))).collect();
        let (_, first) = &all[0];
        assert!(all.iter().all(|(_, digest)| digest == first), "{table} differs: {all:?}");
        first.clone()
    }

    /// Waits until no transaction of clients is open on a node: killed sessions take a moment to be gone.
    #[track_caller]
    pub fn wait_quiet(&self, name: &str) {
        let ask =
            "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
        let node = self.node(name);
        must(wait_until(Deadline::story(), &format!("{name} to have no other sessions"), || {
            let count = node.execute(ask)?.to_string();
            Ok(if count == "0" { Probe::Ready(()) } else { Probe::NotYet(count) })
        }));
    }

    /// Asserts that no log holds a WARNING or worse, other than lines with one of the texts in `allowed`.
    #[track_caller]
    pub fn logs_hold_nothing_unexpected(&self, allowed: &[&str]) {
        for node in self.nodes() {
            let log = node.log();
            let lines = log::unexpected_lines(&log, allowed);
            assert!(lines.is_empty(), "{} logged:\n{}", node.name(), lines.join("\n"));
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if thread::panicking() {
            match bundle::write(&self.cluster) {
                Ok(dir) => eprintln!("logs and states of all nodes: {}", dir.display()),
                Err(error) => eprintln!("no bundle: {error}"),
            }
        }
    }
}
