//! Built-in workflows, for any number of nodes: made from the configuration as a workflow file, and run as one.
//!
//! # Invariants
//! 1. They ask servers for names of slots and subscriptions, and compute none that a server can tell.
//! 2. A new node gets what a third one writes exactly from where the copy ends: its slot is made before the copy, and moved to
//!    where the copied node had applied the third; without such a position it stays where it was made.
//! 3. Every step that creates something says what undoes it.

use serde_json::{Value, json};

use crate::cli::Which;
use crate::config::Config;
use crate::exit::{Failure, Result};
use crate::value::literal;

/// The built-in workflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    /// A further node, copied from one of the others.
    AddNode,
    /// A node less.
    RemoveNode,
    /// Nodes that subscribe to each other.
    CrossWire,
    /// No nodes any more; tables stay.
    UncrossWire,
    /// Does everything arrive everywhere?
    Check,
}

impl Builtin {
    const ALL: [Self; 5] = [Self::AddNode, Self::RemoveNode, Self::CrossWire, Self::UncrossWire, Self::Check];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddNode => "add-node",
            Self::RemoveNode => "remove-node",
            Self::CrossWire => "cross-wire",
            Self::UncrossWire => "uncross-wire",
            Self::Check => "check",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its steps as the text of a workflow file.
    pub fn render(self, which: &Which, config: &Config) -> Result<String> {
        let all: Vec<String> = config.nodes.iter().map(|node| node.name.clone()).collect();
        let nodes = if which.nodes.is_empty() { all } else { which.nodes.clone() };
        for node in nodes.iter().chain(&which.new).chain(&which.source).chain(&which.node) {
            config.node(node)?;
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            if !node.chars().all(plain) {
                let what =
                    format!("node \"{node}\": built-in workflows take names of letters, digits, _, . and - only");
                return Err(Failure::config(what, "call it otherwise in the configuration, or write a workflow file"));
            }
        }
        if let Some(twice) = nodes.iter().enumerate().find(|(at, node)| nodes[..*at].contains(node)) {
            return Err(Failure::usage(format!("node \"{}\" is named twice", twice.1), "name each once in --nodes"));
        }
        self.refuse_strangers(which)?;
        let make = Make { which, config, steps: Vec::new() };
        let steps = match self {
            Self::AddNode => make.whole_add(&nodes)?,
            Self::RemoveNode => make.remove(&nodes)?,
            Self::CrossWire => make.cross(&nodes)?,
            Self::UncrossWire => make.uncross(&nodes),
            Self::Check => make.check(&nodes),
        };
        let file = json!({"workflow_name": self.name(), "description": format!("made by spockctrl workflow render {}", self.name()),
            "steps": steps});
        serde_json::to_string_pretty(&file).map_err(|error| Failure::usage(error.to_string(), ""))
    }

    /// Options that this workflow does not have are mistakes.
    fn refuse_strangers(self, which: &Which) -> Result<()> {
        let given = [
            ("--new", which.new.is_some(), matches!(self, Self::AddNode)),
            ("--source", which.source.is_some(), matches!(self, Self::AddNode | Self::CrossWire)),
            ("--node", which.node.is_some(), matches!(self, Self::RemoveNode)),
            ("--force", which.force, matches!(self, Self::RemoveNode)),
        ];
        match given.iter().find(|(_, given, wanted)| *given && !wanted) {
            Some((option, ..)) => Err(Failure::usage(format!("{} has no option {option}", self.name()), "")),
            None => Ok(()),
        }
    }
}

/// Name of the subscription of one node to another.
fn subscription(provider: &str, subscriber: &str) -> String {
    format!("sub_{provider}_{subscriber}")
}

/// A node's name as part of a step's name.
fn word(node: &str) -> String {
    node.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn spock(node: &str, description: &str, command: &str, args: &[String]) -> Value {
    json!({"spock": {"node": node, "description": description, "command": command, "args": args}})
}

fn sql(node: &str, description: &str, text: &str) -> Value {
    json!({"sql": {"node": node, "description": description, "command": "SQL", "args": [format!("--sql={text}")]}})
}

/// The step with a further member.
fn and(mut step: Value, member: &str, value: Value) -> Value {
    if let Some(body) = step.as_object_mut().and_then(|step| step.values_mut().next()) {
        body[member] = value;
    }
    step
}

struct Make<'a> {
    which: &'a Which,
    config: &'a Config,
    steps: Vec<Value>,
}

impl Make<'_> {
    fn push(&mut self, step: Value) {
        self.steps.push(step);
    }

    fn whole_add(mut self, nodes: &[String]) -> Result<Vec<Value>> {
        let need = |value: &Option<String>, option: &str| {
            value.clone().ok_or_else(|| {
                Failure::usage(
                    format!("add-node needs {option}"),
                    "spockctrl workflow run add-node --new n4 --source n1",
                )
            })
        };
        let (new, source) = (need(&self.which.new, "--new")?, need(&self.which.source, "--source")?);
        if new == source {
            return Err(Failure::usage("the new node cannot be its own source", ""));
        }
        let others: Vec<String> = nodes.iter().filter(|node| **node != new && **node != source).cloned().collect();
        self.add(&new, &source, &others);
        let mut all = vec![source, new];
        all.extend(others);
        self.round_trips(&all);
        Ok(self.steps)
    }

    fn node(&mut self, node: &str) {
        self.push(sql(node, &format!("extension on {node}"), "create extension if not exists spock"));
        let step = spock(
            node,
            &format!("node {node}"),
            "CREATE NODE",
            &[format!("--node-name={node}"), format!("--dsn=@{node}")],
        );
        let undo = spock(node, "drop the node", "DROP NODE", &[format!("--node-name={node}"), "--ifexists".to_owned()]);
        self.push(and(step, "undo", json!([undo])));
    }

    /// The node that others are copied from: it can be one already. Tables of one that is not get into a set.
    fn source(&mut self, source: &str) {
        let begin = self.steps.len();
        self.node(source);
        let mut made: Vec<Value> = self.steps.drain(begin..).collect();
        let fresh = format!("fresh_{}", word(source));
        let ask =
            sql(source, &format!("is {source} new?"), "select not exists (select from spock.local_node) as fresh");
        made.insert(1, and(ask, "name", json!(fresh)));
        let is_fresh = format!("select ${fresh}.fresh::boolean");
        self.steps.extend(made.into_iter().enumerate().map(|(at, step)| match at {
            2 => and(step, "when", json!(is_fresh)),
            _ => step,
        }));
        let text = "select spock.repset_add_all_tables('default', '{public}') \
            where pg_catalog.to_regnamespace('public') is not null";
        self.push(and(sql(source, &format!("tables of {source} in a set"), text), "when", json!(is_fresh)));
    }

    fn subscribe(&mut self, provider: &str, subscriber: &str, options: &[&str]) {
        let name = subscription(provider, subscriber);
        let mut args = vec![format!("--sub-name={name}"), format!("--provider-dsn=@{provider}")];
        args.extend(options.iter().map(|option| (*option).to_owned()));
        let step = spock(subscriber, &format!("{subscriber} subscribes to {provider}"), "CREATE SUBSCRIPTION", &args);
        let undo = [format!("--sub-name={name}"), "--ifexists".to_owned()];
        let undo = spock(subscriber, "drop the subscription", "DROP SUBSCRIPTION", &undo);
        self.push(and(step, "undo", json!([undo])));
    }

    /// `new` joins `source` and `others`, which subscribe to each other.
    fn add(&mut self, new: &str, source: &str, others: &[String]) {
        self.node(new);
        for other in others {
            self.hold(other, new);
        }
        for other in others {
            self.marker(other);
            self.wait(source, other);
        }
        self.subscribe(source, new, &["--synchronize-structure=true", "--synchronize-data=true"]);
        self.wait_for_copy(source, new);
        self.sets(source, new);
        for other in others {
            self.let_go(other, new);
        }
        self.subscribe(new, source, &[]);
        for other in others {
            self.subscribe(new, other, &[]);
        }
    }

    /// `other` keeps from now on what it writes, for `new`.
    fn hold(&mut self, other: &str, new: &str) {
        self.subscribe(other, new, &["--enabled=false"]);
        let slot = format!("slot_{}_{}", word(other), word(new));
        let text = format!("select slot_name from spock.sub_show_status({})", literal(&subscription(other, new)));
        let ask = sql(new, &format!("which slot {new} wants on {other}"), &text);
        self.push(and(ask, "name", json!(slot)));
        // Dropping the subscription drops the slot: what undoes that undoes this.
        let args = [format!("--slot=${slot}.slot_name")];
        self.push(spock(other, &format!("slot for {new} on {other}"), "CREATE SLOT", &args));
    }

    /// What `other` kept goes to `new` from where the copy ends.
    fn let_go(&mut self, other: &str, new: &str) {
        let position = format!("position_{}_{}", word(other), word(new));
        let text = format!(
            "select max(p.remote_commit_lsn) as lsn from spock.progress p join spock.node n on n.node_id = p.remote_node_id \
             join spock.local_node l on l.node_id = p.node_id where n.node_name = {}",
            literal(other)
        );
        self.push(and(sql(new, &format!("how far the copy has {other}"), &text), "name", json!(position)));
        let slot = format!("slot_{}_{}", word(other), word(new));
        let text = format!(
            "select pg_catalog.pg_replication_slot_advance(r.slot_name, w.lsn) from pg_catalog.pg_replication_slots r, \
             (select ${position}.lsn::pg_lsn as lsn) w where r.slot_name = ${slot}.slot_name::name \
             and w.lsn > r.confirmed_flush_lsn and w.lsn <= pg_catalog.pg_current_wal_flush_lsn()"
        );
        self.push(sql(other, &format!("move the slot on {other} there"), &text));
        let args = [format!("--sub-name={}", subscription(other, new)), "--immediate=true".to_owned()];
        self.push(spock(new, &format!("{new} gets from {other}"), "ENABLE SUBSCRIPTION", &args));
    }

    fn wait_for_copy(&mut self, source: &str, new: &str) {
        let args = [format!("--sub-name={}", subscription(source, new))];
        self.push(spock(new, &format!("copy from {source}"), "sub wait-for-sync", &args));
    }

    /// The new node's sets hold what the source's hold: only then its writes reach the others.
    fn sets(&mut self, source: &str, new: &str) {
        let name = format!("sets_{}_{}", word(source), word(new));
        let relation = "pg_catalog.format('%I.%I', n.nspname, c.relname)";
        let local = "join spock.replication_set r using (set_id) join spock.local_node l on l.node_id = r.set_nodeid";
        let ask = format!(
            "select (select coalesce(json_agg(json_build_object('name', r.set_name, 'i', r.replicate_insert, 'u', r.replicate_update, \
             'd', r.replicate_delete, 't', r.replicate_truncate)), '[]') from spock.replication_set r \
             join spock.local_node l on l.node_id = r.set_nodeid) as sets, \
             (select coalesce(json_agg(json_build_object('name', r.set_name, 'relation', {relation}, 'columns', t.set_att_list, \
             'filter', pg_catalog.pg_get_expr(t.set_row_filter, t.set_reloid))), '[]') from spock.replication_set_table t {local} \
             join pg_catalog.pg_class c on c.oid = t.set_reloid join pg_catalog.pg_namespace n on n.oid = c.relnamespace) as tables, \
             (select coalesce(json_agg(json_build_object('name', r.set_name, 'relation', {relation})), '[]') \
             from spock.replication_set_seq t {local} join pg_catalog.pg_class c on c.oid = t.set_seqoid \
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace) as sequences"
        );
        self.push(and(sql(source, &format!("replication sets of {source}"), &ask), "name", json!(name)));
        let mine = "spock.replication_set m join spock.local_node l on l.node_id = m.set_nodeid";
        let create = format!(
            "select spock.repset_create(s.name, s.i, s.u, s.d, s.t) from json_to_recordset(${name}.sets::json) \
             as s(name name, i boolean, u boolean, d boolean, t boolean) \
             where not exists (select from {mine} where m.set_name = s.name)"
        );
        let tables = format!(
            "select spock.repset_add_table(s.name, s.relation::regclass, false, s.columns, s.filter, false) \
             from json_to_recordset(${name}.tables::json) as s(name name, relation text, columns text[], filter text) \
             where not exists (select from {mine} join spock.replication_set_table t using (set_id) \
             where m.set_name = s.name and t.set_reloid = s.relation::regclass)"
        );
        let sequences = format!(
            "select spock.repset_add_seq(s.name, s.relation::regclass) from json_to_recordset(${name}.sequences::json) \
             as s(name name, relation text) where not exists (select from {mine} join spock.replication_set_seq t using (set_id) \
             where m.set_name = s.name and t.set_seqoid = s.relation::regclass)"
        );
        self.push(sql(new, &format!("replication sets of {new}"), &create));
        self.push(sql(new, &format!("tables in sets of {new}"), &tables));
        self.push(sql(new, &format!("sequences in sets of {new}"), &sequences));
    }

    fn marker(&mut self, node: &str) {
        let step = sql(node, &format!("marker in the stream of {node}"), "select spock.sync_event() as lsn");
        self.push(and(step, "name", json!(format!("marker_{}", word(node)))));
    }

    /// `node` has applied what `origin` had written before its last marker.
    fn wait(&mut self, node: &str, origin: &str) {
        let args = [
            format!("--origin={origin}"),
            format!("--lsn=$marker_{}.lsn", word(origin)),
            format!("--timeout={}", self.which.timeout),
        ];
        self.push(spock(node, &format!("{node} has all of {origin}"), "wait-for-sync-event", &args));
    }

    /// What each node has written is everywhere.
    fn round_trips(&mut self, nodes: &[String]) {
        for origin in nodes {
            self.marker(origin);
            for node in nodes.iter().filter(|node| *node != origin) {
                self.wait(node, origin);
            }
        }
    }

    fn check(mut self, nodes: &[String]) -> Vec<Value> {
        self.round_trips(nodes);
        self.steps
    }

    fn cross(mut self, nodes: &[String]) -> Result<Vec<Value>> {
        if nodes.len() < 2 {
            return Err(Failure::usage("cross-wire needs two nodes or more", "--nodes n1,n2"));
        }
        match self.which.source.clone() {
            Some(source) => {
                self.source(&source);
                let mut joined: Vec<String> = Vec::new();
                for node in nodes.iter().filter(|node| **node != source) {
                    self.add(node, &source, &joined);
                    joined.push(node.clone());
                }
            }
            None => {
                nodes.iter().for_each(|node| self.node(node));
                for subscriber in nodes {
                    for provider in nodes.iter().filter(|provider| *provider != subscriber) {
                        self.subscribe(provider, subscriber, &[]);
                    }
                }
            }
        }
        self.round_trips(nodes);
        Ok(self.steps)
    }

    fn uncross(mut self, nodes: &[String]) -> Vec<Value> {
        nodes.iter().for_each(|node| self.drop_subscriptions(node));
        nodes.iter().for_each(|node| self.drop_node(node));
        self.steps
    }

    fn drop_subscriptions(&mut self, node: &str) {
        let text = "select spock.sub_drop(s.sub_name) from spock.subscription s join spock.local_node l on l.node_id = s.sub_target";
        self.push(sql(node, &format!("drop what {node} subscribes to"), text));
    }

    fn drop_node(&mut self, node: &str) {
        let text = "select spock.node_drop(n.node_name) from spock.local_node l join spock.node n using (node_id)";
        self.push(sql(node, &format!("drop node {node}"), text));
    }

    fn remove(mut self, nodes: &[String]) -> Result<Vec<Value>> {
        let Some(gone) = self.which.node.clone() else {
            return Err(Failure::usage("remove-node needs --node", "spockctrl workflow run remove-node --node n4"));
        };
        let rest: Vec<String> = nodes.iter().filter(|node| **node != gone).cloned().collect();
        if !self.which.force {
            self.marker(&gone);
            rest.iter().for_each(|node| self.wait(node, &gone));
        }
        for node in &rest {
            let text = format!(
                "select spock.sub_drop(s.sub_name) from spock.subscription s join spock.node n on n.node_id = s.sub_origin \
                 join spock.local_node l on l.node_id = s.sub_target where n.node_name = {}",
                literal(&gone)
            );
            self.push(sql(node, &format!("{node} no longer subscribes to {gone}"), &text));
        }
        if !self.which.force {
            self.drop_subscriptions(&gone);
            self.drop_node(&gone);
        }
        let database = self.config.node(&gone)?.database();
        for node in &rest {
            // The lost node alone knows its subscription's name; this program's and the samples' is tried.
            let text = format!(
                "select pg_catalog.pg_drop_replication_slot(r.slot_name) from pg_catalog.pg_replication_slots r \
                 where r.plugin = 'spock_output' and r.database = current_database() and not r.active and r.slot_name in \
                 (select spock.spock_gen_slot_name({}, n.node_name, ('sub_' || n.node_name || '_' || {})::name) \
                 from spock.local_node l join spock.node n using (node_id))",
                literal(&database),
                literal(&gone)
            );
            if self.which.force {
                self.push(sql(node, &format!("slot of {gone} on {node}"), &text));
            }
            let text = format!("select spock.node_drop({}, true)", literal(&gone));
            self.push(sql(node, &format!("{node} forgets {gone}"), &text));
        }
        Ok(self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, WorkflowCommand};
    use crate::workflow::{Origin, parse};
    use clap::Parser;

    fn config() -> Config {
        config_of(&["n1", "n-2", "n3", "n4"])
    }

    fn config_of(names: &[&str]) -> Config {
        let node = |name: &&str| format!(r#"{{"node_name":"{name}","dsn":"host=h password=s3cret dbname=app"}}"#);
        let nodes: Vec<String> = names.iter().map(node).collect();
        Config::parse(std::path::Path::new("c"), &format!(r#"{{"spock-nodes":[{}]}}"#, nodes.join(","))).unwrap()
    }

    fn which(line: &str) -> Which {
        let words = format!("spockctrl workflow render {line}");
        match Cli::try_parse_from(words.split_whitespace()).unwrap().command {
            Some(Command::Workflow(WorkflowCommand::Render(args))) => args.which,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_is_a_valid_file_without_secrets() {
        let cases = [
            ("add-node --new n4 --source n1 --nodes n1,n4", 13),
            ("add-node --new n4 --source n1", 43),
            ("remove-node --node n4", 12),
            ("remove-node --node n4 --force", 9),
            ("cross-wire --nodes n1,n-2", 10),
            ("cross-wire --nodes n1,n-2,n3 --source n1", 40),
            ("uncross-wire", 8),
            ("check", 16),
        ];
        for (line, count) in cases {
            let which = which(line);
            let text = which.builtin().unwrap().render(&which, &config()).unwrap();
            assert!(!text.contains("s3cret"), "{line}");
            let workflow = parse::parse(line, &text, Origin::Builtin(which), &config())
                .unwrap_or_else(|e| panic!("{line}: {e:?}"));
            assert!(workflow.warnings.is_empty(), "{line}: {:?}", workflow.warnings);
            assert_eq!(workflow.steps.len(), count, "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, want) in [
            ("add-node --new n4", "add-node needs --source"),
            ("add-node --new n4 --source n4", "cannot be its own source"),
            ("add-node --new n9 --source n1", "node \"n9\" is not in"),
            ("remove-node", "remove-node needs --node"),
            ("check --force", "check has no option --force"),
            ("cross-wire --nodes n1", "two nodes or more"),
            ("check --nodes n1,n3,n1", "node \"n1\" is named twice"),
        ] {
            let which = which(line);
            let failure = which.builtin().unwrap().render(&which, &config()).unwrap_err();
            assert!(failure.message.contains(want), "{line}: {}", failure.message);
        }
        let which = which("check");
        for name in ["n}5", "n 5", "n'5"] {
            let failure = Builtin::Check.render(&which, &config_of(&["n1", name])).unwrap_err();
            assert!(failure.message.contains("take names of letters"), "{name}: {}", failure.message);
        }
    }
}
