//! `node`: nodes and their interfaces.

use clap::{Args, Subcommand};

use super::one_of;
use crate::connect::Query;
use crate::exit::{Failure, Result};
use crate::operation::{Act, Call, Operation, Wants};

/// What can be done with nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Make the database a node
    Create(Create),
    /// Remove a node
    Drop(Drop),
    /// Give a node a further address
    AddInterface(AddInterface),
    /// Remove an address of a node
    DropInterface(DropInterface),
    /// List the nodes that a node knows
    List(OnNode),
    /// The node, what it subscribes to, and how far it is
    Status(OnNode),
    /// Settings that replication depends on
    Gucs(OnNode),
    /// Version of the extension
    SpockVersion(OnNodeN),
    /// Version of the server
    PgVersion(OnNode),
}

/// On which node of the configuration.
#[derive(Debug, Args)]
pub struct OnNode {
    /// Node of the configuration whose server is asked
    #[arg(long, short = 't', value_name = "NODE")]
    node: Option<String>,
    /// The same by its place
    #[arg(value_name = "NODE")]
    placed: Option<String>,
}

/// The same with another short option.
#[derive(Debug, Args)]
pub struct OnNodeN {
    /// Node of the configuration whose server is asked
    #[arg(long, short = 'n', value_name = "NODE")]
    node: Option<String>,
    /// The same by its place
    #[arg(value_name = "NODE")]
    placed: Option<String>,
}

/// `node create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Name of the new node
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Node of the configuration that becomes it; by default the one of that name
    #[arg(long, short = 't', value_name = "NODE")]
    node: Option<String>,
    /// Name of the new node
    #[arg(long, short = 'n', value_name = "NAME")]
    node_name: Option<String>,
    /// How other nodes reach it; @NODE takes that from the configuration
    #[arg(long, short = 'd')]
    dsn: String,
    /// Where it is
    #[arg(long, short = 'l')]
    location: Option<String>,
    /// In which country
    #[arg(long, short = 'c')]
    country: Option<String>,
    /// Anything else, as JSON
    #[arg(long, short = 'i', value_parser = json)]
    info: Option<String>,
}

/// `node drop`.
#[derive(Debug, Args)]
pub struct Drop {
    /// Name of the node
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Node of the configuration where it is removed; by default the one of that name
    #[arg(long, short = 't', value_name = "NODE")]
    node: Option<String>,
    /// Name of the node
    #[arg(long, short = 'n', value_name = "NAME")]
    node_name: Option<String>,
    /// A node that is not there is fine
    #[arg(long, short = 'e', alias = "if-exists")]
    ifexists: bool,
}

/// `node add-interface`.
#[derive(Debug, Args)]
pub struct AddInterface {
    /// Name of the node
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Name of the interface
    #[arg(value_name = "INTERFACE")]
    interface: Option<String>,
    /// Node of the configuration where it is added; by default the one of that name
    #[arg(long, short = 't', value_name = "NODE")]
    node: Option<String>,
    /// Name of the node
    #[arg(long, short = 'n', value_name = "NAME")]
    node_name: Option<String>,
    /// Name of the interface
    #[arg(long, short = 'i', value_name = "INTERFACE")]
    interface_name: Option<String>,
    /// The address; @NODE takes it from the configuration
    #[arg(long, short = 's')]
    dsn: String,
}

/// `node drop-interface`.
#[derive(Debug, Args)]
pub struct DropInterface {
    /// Name of the node
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Name of the interface
    #[arg(value_name = "INTERFACE")]
    interface: Option<String>,
    /// Node of the configuration where it is removed; by default the one of that name
    #[arg(long, short = 't', value_name = "NODE")]
    node: Option<String>,
    /// Name of the node
    #[arg(long, short = 'n', value_name = "NAME")]
    node_name: Option<String>,
    /// Name of the interface
    #[arg(long, short = 'i', value_name = "INTERFACE")]
    interface_name: Option<String>,
}

fn json(text: &str) -> std::result::Result<String, String> {
    let valid = serde_json::from_str::<serde_json::Value>(text);
    valid.map(|_| text.to_owned()).map_err(|error| format!("this is no JSON: {error}"))
}

const LIST: &str = "select n.node_name, i.if_name, i.if_dsn, n.location, n.country, n.info, l.node_id is not null \
    from spock.node n join spock.node_interface i on i.if_nodeid = n.node_id \
    left join spock.local_node l on l.node_id = n.node_id order by 1, 2";
const STATUS: &str = "select n.node_name, s.subscription_name, s.provider_node, s.status, \
      (select t.commit_timestamp from spock.lag_tracker t \
        where t.origin_name = s.provider_node and t.receiver_name = n.node_name), \
      (select string_agg(r.slot_name || case when r.active then '' else ' (inactive)' end, ', ' order by r.slot_name) \
         from pg_catalog.pg_replication_slots r where r.plugin = 'spock_output' and r.database = current_database()) \
    from spock.node_info() n left join spock.sub_show_status() s on true order by 2";
const GUCS: &str = "select name, setting, unit from pg_catalog.pg_settings where name like 'spock.%' or name in \
    ('wal_level', 'max_replication_slots', 'max_wal_senders', 'max_worker_processes', 'track_commit_timestamp', \
     'shared_preload_libraries', 'output_plugin_libraries') order by 1";

fn on(placed: Option<&String>, node: Option<&String>, what: &str, query: Query) -> Result<Operation> {
    let node = match (placed, node) {
        (None, None) => None,
        _ => Some(one_of(placed, node, "the node")?.to_owned()),
    };
    Ok(Operation::new(node.as_ref(), what, Act::Show(query)))
}

impl OnNode {
    fn ask(&self, what: &str, sql: &str, columns: &[&'static str]) -> Result<Operation> {
        on(self.placed.as_ref(), self.node.as_ref(), what, Query::new(sql, Vec::new(), columns))
    }
}

impl NodeCommand {
    /// What is to be done.
    pub fn operation(&self) -> Result<Operation> {
        match self {
            Self::Create(args) => args.operation(),
            Self::Drop(args) => args.operation(),
            Self::AddInterface(args) => args.operation(),
            Self::DropInterface(args) => args.operation(),
            Self::List(on) => {
                on.ask("list nodes", LIST, &["node_name", "interface", "dsn", "location", "country", "info", "local"])
            }
            Self::Status(on) => {
                let columns = ["node_name", "subscription", "provider", "status", "last_commit", "slots"];
                on.ask("show the node's status", STATUS, &columns)
            }
            Self::Gucs(on) => on.ask("show settings", GUCS, &["name", "setting", "unit"]),
            Self::PgVersion(on) => on.ask("show the server's version", "select version()", &["version"]),
            Self::SpockVersion(args) => {
                let query = Query::new(
                    "select spock.spock_version(), spock.spock_version_num()",
                    Vec::new(),
                    &["spock_version", "spock_version_num"],
                );
                on(args.placed.as_ref(), args.node.as_ref(), "show the extension's version", query)
            }
        }
    }
}

impl Create {
    fn operation(&self) -> Result<Operation> {
        let name = one_of(self.name.as_ref(), self.node_name.as_ref(), "the node's name")?;
        let call = Call::of("spock.node_create")
            .with("node_name", "name", name)
            .with("dsn", "text", &self.dsn)
            .maybe("location", "text", self.location.as_ref())
            .maybe("country", "text", self.country.as_ref())
            .maybe("info", "jsonb", self.info.as_ref());
        let values = [
            Some(&name.to_owned()),
            Some(&self.dsn),
            self.location.as_ref(),
            self.country.as_ref(),
            self.info.as_ref(),
        ];
        let check = Query::new(
            "select i.if_dsn = $2, n.location is not distinct from $3, n.country is not distinct from $4, \
             n.info is not distinct from $5::jsonb from spock.local_node l join spock.node n on n.node_id = l.node_id \
             join spock.node_interface i on i.if_id = l.node_local_interface where n.node_name = $1::name",
            values.map(|value| value.cloned()).to_vec(),
            &["dsn", "location", "country", "info"],
        );
        let operation = Operation::new(self.node.as_ref(), format!("create node {name}"), Act::Change(call.query()));
        Ok(operation.named(name).checked(Wants::Absent, check).reaches(&self.dsn))
    }
}

impl Drop {
    fn operation(&self) -> Result<Operation> {
        let name = one_of(self.name.as_ref(), self.node_name.as_ref(), "the node's name")?;
        let call = Call::of("spock.node_drop")
            .with("node_name", "name", name)
            .with("ifexists", "boolean", self.ifexists)
            .query();
        Ok(Operation::new(self.node.as_ref(), format!("drop node {name}"), Act::ChangeIf(call)).named(name))
    }
}

impl AddInterface {
    fn operation(&self) -> Result<Operation> {
        let (name, interface) = place(
            [self.name.as_ref(), self.interface.as_ref()],
            [self.node_name.as_ref(), self.interface_name.as_ref()],
        )?;
        let call = Call::of("spock.node_add_interface")
            .with("node_name", "name", &name)
            .with("interface_name", "name", &interface)
            .with("dsn", "text", &self.dsn);
        let check = Query::new(
            "select i.if_dsn = $3 from spock.node n join spock.node_interface i on i.if_nodeid = n.node_id \
             where n.node_name = $1::name and i.if_name = $2::name",
            vec![Some(name.clone()), Some(interface.clone()), Some(self.dsn.clone())],
            &["dsn"],
        );
        let what = format!("add interface {interface} to node {name}");
        let operation = Operation::new(self.node.as_ref(), what, Act::Change(call.query()));
        Ok(operation.named(&name).checked(Wants::Absent, check).reaches(&self.dsn))
    }
}

impl DropInterface {
    fn operation(&self) -> Result<Operation> {
        let (name, interface) = place(
            [self.name.as_ref(), self.interface.as_ref()],
            [self.node_name.as_ref(), self.interface_name.as_ref()],
        )?;
        let call = Call::of("spock.node_drop_interface").with("node_name", "name", &name).with(
            "interface_name",
            "name",
            &interface,
        );
        let what = format!("drop interface {interface} of node {name}");
        Ok(Operation::new(self.node.as_ref(), what, Act::ChangeIf(call.query())).named(&name))
    }
}

/// Name and interface; a single placed word is the one that has no option.
fn place(placed: [Option<&String>; 2], options: [Option<&String>; 2]) -> Result<(String, String)> {
    let [first, second] = placed;
    let (name, interface) = match (first, second, options) {
        (Some(only), None, [Some(_), None]) => (None, Some(only)),
        _ => (first, second),
    };
    let name = one_of(name, options[0], "the node's name")?.to_owned();
    let interface = one_of(interface, options[1], "the interface's name")?.to_owned();
    if name.is_empty() { Err(Failure::usage("the node's name is empty", "")) } else { Ok((name, interface)) }
}
