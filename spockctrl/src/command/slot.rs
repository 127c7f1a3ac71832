//! `slot`: replication slots, made by hand for subscriptions that are created disabled.

use clap::{Args, Subcommand};

use super::one_of;
use crate::connect::Query;
use crate::exit::Result;
use crate::operation::{Act, Call, Operation, Wants};

/// What can be done with slots.
#[derive(Debug, Subcommand)]
pub enum SlotCommand {
    /// Create a logical slot
    Create(Create),
    /// Drop a slot
    Drop(Drop),
    /// List the logical slots of the node's database
    List(List),
}

/// `slot create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Name of the slot; spockctrl sub show-status on the subscriber shows which one a subscription wants
    #[arg(value_name = "SLOT")]
    name: Option<String>,
    /// Node of the configuration where it is made
    #[arg(long, short = 'n')]
    node: Option<String>,
    /// Name of the slot
    #[arg(long, short = 's')]
    slot: Option<String>,
    /// Output plugin
    #[arg(long, short = 'p', default_value = "spock_output")]
    plugin: String,
}

/// `slot drop`.
#[derive(Debug, Args)]
pub struct Drop {
    /// Name of the slot
    #[arg(value_name = "SLOT")]
    name: Option<String>,
    /// Node of the configuration where it is
    #[arg(long, short = 'n')]
    node: Option<String>,
    /// Name of the slot
    #[arg(long, short = 's')]
    slot: Option<String>,
    /// A slot that is not there is fine
    #[arg(long, alias = "if-exists")]
    ifexists: bool,
}

/// `slot list`.
#[derive(Debug, Args)]
pub struct List {
    /// Node of the configuration
    #[arg(long, short = 'n')]
    node: Option<String>,
}

const LIST: &str = "select slot_name, plugin, active, restart_lsn, confirmed_flush_lsn from pg_catalog.pg_replication_slots \
    where database = current_database() order by 1";

impl SlotCommand {
    /// What is to be done.
    pub fn operation(&self) -> Result<Operation> {
        match self {
            Self::Create(args) => {
                let slot = one_of(args.name.as_ref(), args.slot.as_ref(), "the slot's name")?;
                let call = Call::of("pg_catalog.pg_create_logical_replication_slot")
                    .with("slot_name", "name", slot)
                    .with("plugin", "name", &args.plugin);
                let check = Query::new(
                    "select plugin = $2::name, database = current_database() from pg_catalog.pg_replication_slots \
                     where slot_name = $1::name",
                    vec![Some(slot.to_owned()), Some(args.plugin.clone())],
                    &["plugin", "database"],
                );
                let operation =
                    Operation::new(args.node.as_ref(), format!("create slot {slot}"), Act::Change(call.query()));
                Ok(operation.checked(Wants::Absent, check))
            }
            Self::Drop(args) => {
                let slot = one_of(args.name.as_ref(), args.slot.as_ref(), "the slot's name")?;
                let query = Query::new(
                    "select true from pg_catalog.pg_drop_replication_slot($1::name)",
                    vec![Some(slot.to_owned())],
                    &["result"],
                );
                let check = Query::new(
                    "select true from pg_catalog.pg_replication_slots where slot_name = $1::name",
                    vec![Some(slot.to_owned())],
                    &["is_there"],
                );
                let operation = Operation::new(args.node.as_ref(), format!("drop slot {slot}"), Act::Change(query));
                Ok(if args.ifexists { operation.checked(Wants::Present, check) } else { operation })
            }
            Self::List(args) => {
                let columns = ["slot_name", "plugin", "active", "restart_lsn", "confirmed_flush_lsn"];
                let query = Query::new(LIST, Vec::new(), &columns);
                Ok(Operation::new(args.node.as_ref(), "list slots", Act::Show(query)))
            }
        }
    }
}
