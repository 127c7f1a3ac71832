//! `sub`: subscriptions.

use clap::{Args, Subcommand};

use super::one_of;
use crate::connect::Query;
use crate::exit::Result;
use crate::operation::{Act, Call, Operation, Wants};
use crate::value;

/// The sets of a subscription that names none.
const DEFAULT_SETS: &str = "{default,default_insert_only,ddl_sql}";

/// What can be done with subscriptions.
#[derive(Debug, Subcommand)]
pub enum SubCommand {
    /// Subscribe to another node
    Create(Box<Create>),
    /// Drop a subscription
    Drop(Drop),
    /// Let a subscription run
    #[command(name = "enable")]
    Enable(Switch),
    /// Stop a subscription
    Disable(Switch),
    /// Status of subscriptions
    ShowStatus(OptionalName),
    /// Status of a table in a subscription
    ShowTable(Table),
    /// Copy a table again
    ResyncTable(Resync),
    /// Subscribe to a further set
    AddRepset(Set),
    /// Leave a set
    RemoveRepset(Set),
    /// List the node's subscriptions
    List(OnNode),
    /// Wait until what there was has been copied
    WaitForSync(WaitForSync),
}

/// A subscription, by its place or by an option.
#[derive(Debug, Args)]
pub struct Name {
    /// Name of the subscription
    #[arg(value_name = "SUBSCRIPTION")]
    placed: Option<String>,
    /// Name of the subscription
    #[arg(long, short = 's', value_name = "SUBSCRIPTION", alias = "subscription-name")]
    sub_name: Option<String>,
}

impl Name {
    fn get(&self) -> Result<&str> {
        one_of(self.placed.as_ref(), self.sub_name.as_ref(), "the subscription's name")
    }

    fn call(&self, function: &'static str) -> Result<Call> {
        Ok(Call::of(function).with("subscription_name", "name", self.get()?))
    }
}

/// Where the subscription is.
#[derive(Debug, Args)]
pub struct OnNode {
    /// Node of the configuration that subscribes
    #[arg(long, short = 'n', alias = "target-node")]
    node: Option<String>,
}

/// `sub create`.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    name: Name,
    /// How the provider is reached
    #[arg(value_name = "PROVIDER_DSN")]
    provider: Option<String>,
    #[command(flatten)]
    on: OnNode,
    /// How the provider is reached; @NODE takes that from the configuration
    #[arg(long, short = 'p', value_name = "DSN")]
    provider_dsn: Option<String>,
    /// Replication sets: a,b
    #[arg(long, short = 'r', visible_alias = "repsets", value_parser = value::list)]
    replication_sets: Option<String>,
    /// Copy the schema
    #[arg(long, short = 'y', value_parser = value::boolean, num_args = 0..=1, default_missing_value = "true")]
    synchronize_structure: Option<bool>,
    /// Copy the rows
    #[arg(long, short = 'z', value_parser = value::boolean, num_args = 0..=1, default_missing_value = "true")]
    synchronize_data: Option<bool>,
    /// Also what the provider got from others: all, or none
    #[arg(long, short = 'f', value_parser = value::list)]
    forward_origins: Option<String>,
    /// Stay this far behind: an interval
    #[arg(long, short = 'a', value_parser = value::interval)]
    apply_delay: Option<String>,
    /// Send all values as text
    #[arg(long, short = 'x', value_parser = value::boolean, num_args = 0..=1, default_missing_value = "true")]
    force_text_transfer: Option<bool>,
    /// Begin at once
    #[arg(long, short = 'e', visible_alias = "enable", value_parser = value::boolean, num_args = 0..=1, default_missing_value = "true")]
    enabled: Option<bool>,
    /// Schemas that are not copied: a,b
    #[arg(long, value_parser = value::list)]
    skip_schema: Option<String>,
}

/// `sub drop`.
#[derive(Debug, Args)]
pub struct Drop {
    #[command(flatten)]
    name: Name,
    /// Node of the configuration that subscribes
    #[arg(long, short = 't', alias = "target-node")]
    node: Option<String>,
    /// A subscription that is not there is fine
    #[arg(long, short = 'e', alias = "if-exists")]
    ifexists: bool,
}

/// `sub enable` and `disable`.
#[derive(Debug, Args)]
pub struct Switch {
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    on: OnNode,
    /// Do not wait for the end of the transaction
    #[arg(long, short = 'i', value_parser = value::boolean, num_args = 0..=1, default_missing_value = "true")]
    immediate: Option<bool>,
}

/// `sub show-status`.
#[derive(Debug, Args)]
pub struct OptionalName {
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    on: OnNode,
}

/// `sub show-table`.
#[derive(Debug, Args)]
pub struct Table {
    #[command(flatten)]
    name: Name,
    /// The table, with its schema
    #[arg(value_name = "RELATION")]
    table: Option<String>,
    #[command(flatten)]
    on: OnNode,
    /// The table, with its schema
    #[arg(long, short = 'r')]
    relation: Option<String>,
}

/// `sub resync-table`.
#[derive(Debug, Args)]
pub struct Resync {
    #[command(flatten)]
    table: Table,
    /// Empty it first
    #[arg(long, short = 't', value_parser = value::boolean, num_args = 0..=1, default_missing_value = "true")]
    truncate: Option<bool>,
}

/// `sub add-repset` and `remove-repset`.
#[derive(Debug, Args)]
pub struct Set {
    #[command(flatten)]
    name: Name,
    /// Name of the set
    #[arg(value_name = "SET")]
    set: Option<String>,
    #[command(flatten)]
    on: OnNode,
    /// Name of the set
    #[arg(long, short = 'r', value_name = "SET")]
    replication_set: Option<String>,
}

/// `sub wait-for-sync`.
#[derive(Debug, Args)]
pub struct WaitForSync {
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    on: OnNode,
    /// Give up after this many seconds; 0 waits for ever
    #[arg(long, default_value_t = 0)]
    timeout: u64,
}

impl SubCommand {
    /// What is to be done.
    pub fn operation(&self) -> Result<Operation> {
        match self {
            Self::Create(args) => args.operation(),
            Self::Drop(args) => {
                let call = args.name.call("spock.sub_drop")?.with("ifexists", "boolean", args.ifexists);
                let what = format!("drop subscription {}", args.name.get()?);
                let operation = Operation::new(args.node.as_ref(), what, Act::ChangeIf(call.query()));
                Ok(if args.ifexists { operation.checked(Wants::Present, args.name.is_there()?) } else { operation })
            }
            Self::Enable(args) => args.operation("spock.sub_enable", "enable", true),
            Self::Disable(args) => args.operation("spock.sub_disable", "disable", false),
            Self::ShowStatus(args) => {
                let name = args.name.placed.as_ref().or(args.name.sub_name.as_ref());
                Ok(statuses(args.on.node.as_ref(), name.cloned()))
            }
            Self::List(on) => Ok(statuses(on.node.as_ref(), None)),
            Self::ShowTable(args) => {
                let query = Query::new(
                    "select nspname, relname, status from spock.sub_show_table($1::name, $2::regclass)",
                    vec![Some(args.name.get()?.to_owned()), Some(args.relation()?.to_owned())],
                    &["schema", "table", "status"],
                );
                Ok(Operation::new(args.on.node.as_ref(), "show a table's status", Act::Show(query)))
            }
            Self::ResyncTable(args) => {
                let table = &args.table;
                let call = table.name.call("spock.sub_resync_table")?.with("relation", "regclass", table.relation()?);
                let call = call.maybe("truncate", "boolean", args.truncate.as_ref());
                let what = format!("copy {} again for {}", table.relation()?, table.name.get()?);
                Ok(Operation::new(table.on.node.as_ref(), what, Act::Change(call.query())))
            }
            Self::AddRepset(args) => args.operation("spock.sub_add_repset", "add a set to"),
            Self::RemoveRepset(args) => args.operation("spock.sub_remove_repset", "remove a set from"),
            Self::WaitForSync(args) => {
                let name = args.name.get()?;
                let query = Query::new(
                    "select true from spock.sub_wait_for_sync($1::name)",
                    vec![Some(name.to_owned())],
                    &["result"],
                );
                let what = format!("wait for the copy of {name}");
                let limit = Some(args.timeout).filter(|limit| *limit > 0);
                Ok(Operation::new(args.on.node.as_ref(), what, Act::Wait(query)).within(limit))
            }
        }
    }
}

fn statuses(node: Option<&String>, name: Option<String>) -> Operation {
    let query = Query::new(
        "select subscription_name, status, provider_node, provider_dsn, slot_name, replication_sets, forward_origins \
         from spock.sub_show_status($1::name) order by 1",
        vec![name],
        &[
            "subscription_name",
            "status",
            "provider_node",
            "provider_dsn",
            "slot_name",
            "replication_sets",
            "forward_origins",
        ],
    );
    Operation::new(node, "show the status of subscriptions", Act::Show(query))
}

impl Name {
    fn is_there(&self) -> Result<Query> {
        let sql = "select true from spock.subscription where sub_name = $1::name";
        Ok(Query::new(sql, vec![Some(self.get()?.to_owned())], &["is_there"]))
    }
}

impl Table {
    fn relation(&self) -> Result<&str> {
        one_of(self.table.as_ref(), self.relation.as_ref(), "the table's name")
    }
}

impl Switch {
    fn operation(&self, function: &'static str, verb: &str, enabled: bool) -> Result<Operation> {
        let call = self.name.call(function)?.maybe("immediate", "boolean", self.immediate.as_ref());
        let what = format!("{verb} subscription {}", self.name.get()?);
        let check = Query::new(
            "select sub_enabled = $2::boolean from spock.subscription where sub_name = $1::name and sub_enabled = $2::boolean",
            vec![Some(self.name.get()?.to_owned()), Some(enabled.to_string())],
            &["enabled"],
        );
        Ok(Operation::new(self.on.node.as_ref(), what, Act::Change(call.query())).checked(Wants::Absent, check))
    }
}

impl Set {
    fn operation(&self, function: &'static str, what: &str) -> Result<Operation> {
        let set = one_of(self.set.as_ref(), self.replication_set.as_ref(), "the set's name")?;
        let call = self.name.call(function)?.with("replication_set", "name", set);
        let what = format!("{what} subscription {}", self.name.get()?);
        Ok(Operation::new(self.on.node.as_ref(), what, Act::Change(call.query())))
    }
}

impl Create {
    fn operation(&self) -> Result<Operation> {
        let (placed, option) = (self.provider.as_ref(), self.provider_dsn.as_ref());
        // With the name as an option a single placed word is the address.
        let (name, dsn) = match (&self.name.placed, &self.name.sub_name, placed, option) {
            (Some(only), Some(name), None, None) => (name.as_str(), only.as_str()),
            _ => (self.name.get()?, one_of(placed, option, "the provider's address")?),
        };
        let call = Call::of("spock.sub_create")
            .with("subscription_name", "name", name)
            .with("provider_dsn", "text", dsn)
            .maybe("replication_sets", "text[]", self.replication_sets.as_ref())
            .maybe("synchronize_structure", "boolean", self.synchronize_structure.as_ref())
            .maybe("synchronize_data", "boolean", self.synchronize_data.as_ref())
            .maybe("forward_origins", "text[]", self.forward_origins.as_ref())
            .maybe("apply_delay", "interval", self.apply_delay.as_ref())
            .maybe("force_text_transfer", "boolean", self.force_text_transfer.as_ref())
            .maybe("enabled", "boolean", self.enabled.as_ref())
            .maybe("skip_schema", "text[]", self.skip_schema.as_ref());
        let sets = self.replication_sets.clone().unwrap_or_else(|| DEFAULT_SETS.to_owned());
        let check = Query::new(
            "select i.if_dsn = $2, s.sub_replication_sets = $3::text[], coalesce(s.sub_forward_origins, '{}') = $4::text[], \
             s.sub_apply_delay = $5::interval, s.sub_force_text_transfer = $6::boolean, s.sub_enabled = $7::boolean \
             from spock.subscription s join spock.node_interface i on i.if_id = s.sub_origin_if where s.sub_name = $1::name",
            vec![
                Some(name.to_owned()),
                Some(dsn.to_owned()),
                Some(sets),
                Some(self.forward_origins.clone().unwrap_or_else(|| "{}".to_owned())),
                Some(self.apply_delay.clone().unwrap_or_else(|| "0".to_owned())),
                Some(self.force_text_transfer.unwrap_or(false).to_string()),
                Some(self.enabled.unwrap_or(true).to_string()),
            ],
            &["provider_dsn", "replication_sets", "forward_origins", "apply_delay", "force_text_transfer", "enabled"],
        );
        let what = format!("create subscription {name}");
        let operation = Operation::new(self.on.node.as_ref(), what, Act::Change(call.query()));
        Ok(operation.checked(Wants::Absent, check).reaches(dsn))
    }
}
