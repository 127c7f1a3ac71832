//! `repset`: replication sets and what is in them.

use clap::{Args, Subcommand};

use super::one_of;
use crate::connect::Query;
use crate::exit::Result;
use crate::operation::{Act, Call, Operation, Wants};
use crate::value;

/// What can be done with replication sets.
#[derive(Debug, Subcommand)]
pub enum RepsetCommand {
    /// Create a replication set
    Create(Flags),
    /// Change what a replication set replicates
    Alter(Flags),
    /// Drop a replication set
    Drop(DropSet),
    /// Add a table
    AddTable(AddTable),
    /// Remove a table
    RemoveTable(RemoveTable),
    /// Add partitions of a table whose parent is in a set
    AddPartition(Partition),
    /// Remove partitions
    RemovePartition(RemovePartition),
    /// Add all tables of schemas
    AddAllTables(AddAll),
    /// Add a sequence
    AddSeq(Sequence),
    /// Remove a sequence
    RemoveSeq(RemoveSequence),
    /// Add all sequences of schemas
    AddAllSequences(AddAll),
    /// List the node's replication sets
    List(List),
    /// List tables and the sets that they are in
    ListTables(ListTables),
}

/// `repset create` and `alter`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Name of the set
    #[arg(value_name = "SET")]
    set: Option<String>,
    /// Node of the configuration
    #[arg(long, short = 'n')]
    node: Option<String>,
    /// Name of the set
    #[arg(long, short = 's', value_name = "SET")]
    set_name: Option<String>,
    /// Replicate INSERT
    #[arg(long, short = 'i', value_parser = value::boolean)]
    replicate_insert: Option<bool>,
    /// Replicate UPDATE
    #[arg(long, short = 'u', value_parser = value::boolean)]
    replicate_update: Option<bool>,
    /// Replicate DELETE
    #[arg(long, short = 'e', value_parser = value::boolean)]
    replicate_delete: Option<bool>,
    /// Replicate TRUNCATE
    #[arg(long, short = 't', value_parser = value::boolean)]
    replicate_truncate: Option<bool>,
}

/// `repset drop`.
#[derive(Debug, Args)]
pub struct DropSet {
    /// Name of the set
    #[arg(value_name = "SET")]
    set: Option<String>,
    /// Node of the configuration
    #[arg(long, short = 'n')]
    node: Option<String>,
    /// Name of the set
    #[arg(long, short = 's', value_name = "SET")]
    set_name: Option<String>,
    /// A set that is not there is fine
    #[arg(long, alias = "if-exists")]
    ifexists: bool,
}

/// A set and what is put into it.
#[derive(Debug, Args)]
pub struct Member {
    /// Name of the set
    #[arg(value_name = "SET")]
    set: Option<String>,
    /// Table or sequence, with its schema
    #[arg(value_name = "RELATION")]
    relation: Option<String>,
    /// Node of the configuration
    #[arg(long, short = 'n')]
    node: Option<String>,
    /// Name of the set
    #[arg(long, short = 'r', value_name = "SET", alias = "set-name")]
    replication_set: Option<String>,
    /// Table or sequence, with its schema
    #[arg(long, short = 'a', value_name = "RELATION", visible_alias = "relation")]
    table: Option<String>,
}

/// `repset add-table`.
#[derive(Debug, Args)]
pub struct AddTable {
    #[command(flatten)]
    member: Member,
    /// Copy its rows to subscribers
    #[arg(long, short = 'y', value_parser = value::boolean, num_args = 0..=1, default_missing_value = "true")]
    synchronize_data: Option<bool>,
    /// Only these columns: a,b
    #[arg(long, short = 'c', value_parser = value::list)]
    columns: Option<String>,
    /// Only rows for which this expression is true
    #[arg(long, short = 'f')]
    row_filter: Option<String>,
    /// Its partitions too
    #[arg(long, short = 'p', value_parser = value::boolean)]
    include_partitions: Option<bool>,
}

/// `repset remove-table`.
#[derive(Debug, Args)]
pub struct RemoveTable {
    #[command(flatten)]
    member: Member,
    /// Its partitions too
    #[arg(long, short = 'p', value_parser = value::boolean)]
    include_partitions: Option<bool>,
}

/// `repset add-partition`.
#[derive(Debug, Args)]
pub struct Partition {
    #[command(flatten)]
    of: RemovePartition,
    /// Only rows for which this expression is true
    #[arg(long, short = 'f')]
    row_filter: Option<String>,
}

/// `repset remove-partition`.
#[derive(Debug, Args)]
pub struct RemovePartition {
    /// Partitioned table
    #[arg(value_name = "PARENT")]
    parent: Option<String>,
    /// Only this partition
    #[arg(value_name = "PARTITION")]
    one: Option<String>,
    /// Node of the configuration
    #[arg(long, short = 'n')]
    node: Option<String>,
    /// Partitioned table
    #[arg(long, short = 'b', value_name = "PARENT", alias = "parent")]
    parent_table: Option<String>,
    /// Only this partition
    #[arg(long, short = 'q')]
    partition: Option<String>,
}

/// `repset add-all-tables` and `add-all-sequences`.
#[derive(Debug, Args)]
pub struct AddAll {
    /// Name of the set
    #[arg(value_name = "SET")]
    set: String,
    /// Schemas: a,b
    #[arg(value_name = "SCHEMAS", value_parser = value::list)]
    schemas: String,
    /// Node of the configuration
    #[arg(long, short = 'n')]
    node: Option<String>,
    /// Copy what is in them to subscribers
    #[arg(long, short = 'y', value_parser = value::boolean, num_args = 0..=1, default_missing_value = "true")]
    synchronize_data: Option<bool>,
}

/// `repset add-seq`.
#[derive(Debug, Args)]
pub struct Sequence {
    #[command(flatten)]
    member: Member,
    /// Send its value to subscribers
    #[arg(long, short = 'y', value_parser = value::boolean, num_args = 0..=1, default_missing_value = "true")]
    synchronize_data: Option<bool>,
}

/// `repset remove-seq`.
#[derive(Debug, Args)]
pub struct RemoveSequence {
    #[command(flatten)]
    member: Member,
}

/// `repset list`.
#[derive(Debug, Args)]
pub struct List {
    /// Node of the configuration
    #[arg(long, short = 'n')]
    node: Option<String>,
}

/// `repset list-tables`.
#[derive(Debug, Args)]
pub struct ListTables {
    /// Only this set
    #[arg(value_name = "SET")]
    set: Option<String>,
    /// Node of the configuration
    #[arg(long, short = 'n')]
    node: Option<String>,
    /// Only this schema
    #[arg(long, short = 'm')]
    schema: Option<String>,
}

const LIST: &str = "select r.set_name, r.replicate_insert, r.replicate_update, r.replicate_delete, r.replicate_truncate \
    from spock.replication_set r join spock.local_node l on l.node_id = r.set_nodeid order by 1";

impl RepsetCommand {
    /// What is to be done.
    pub fn operation(&self) -> Result<Operation> {
        match self {
            Self::Create(args) => args.create(),
            Self::Alter(args) => args.alter(),
            Self::Drop(args) => {
                let set = one_of(args.set.as_ref(), args.set_name.as_ref(), "the set's name")?;
                let call = Call::of("spock.repset_drop").with("set_name", "name", set).with(
                    "ifexists",
                    "boolean",
                    args.ifexists,
                );
                Ok(Operation::new(args.node.as_ref(), format!("drop set {set}"), Act::ChangeIf(call.query())))
            }
            Self::AddTable(args) => {
                let call = args
                    .member
                    .call("spock.repset_add_table")?
                    .maybe("synchronize_data", "boolean", args.synchronize_data.as_ref())
                    .maybe("columns", "text[]", args.columns.as_ref())
                    .maybe("row_filter", "text", args.row_filter.as_ref())
                    .maybe("include_partitions", "boolean", args.include_partitions.as_ref());
                args.member.operation("add", call)
            }
            Self::RemoveTable(args) => {
                let call = args.member.call("spock.repset_remove_table")?;
                let call = call.maybe("include_partitions", "boolean", args.include_partitions.as_ref());
                args.member.operation("remove", call)
            }
            Self::AddSeq(args) => {
                let call = args.member.call("spock.repset_add_seq")?;
                args.member.operation("add", call.maybe("synchronize_data", "boolean", args.synchronize_data.as_ref()))
            }
            Self::RemoveSeq(args) => args.member.operation("remove", args.member.call("spock.repset_remove_seq")?),
            Self::AddPartition(args) => {
                args.of.operation("spock.repset_add_partition", "add partitions to", args.row_filter.as_ref())
            }
            Self::RemovePartition(args) => {
                args.operation("spock.repset_remove_partition", "remove partitions of", None)
            }
            Self::AddAllTables(args) => args.operation("spock.repset_add_all_tables"),
            Self::AddAllSequences(args) => args.operation("spock.repset_add_all_seqs"),
            Self::List(args) => {
                let columns = ["set_name", "insert", "update", "delete", "truncate"];
                let query = Query::new(LIST, Vec::new(), &columns);
                Ok(Operation::new(args.node.as_ref(), "list sets", Act::Show(query)))
            }
            Self::ListTables(args) => {
                let query = Query::new(
                    "select nspname, relname, set_name from spock.tables where ($1 is null or nspname = $1::name) \
                     and ($2 is null or set_name = $2::name) order by 1, 2, 3",
                    vec![args.schema.clone(), args.set.clone()],
                    &["schema", "table", "set_name"],
                );
                Ok(Operation::new(args.node.as_ref(), "list tables", Act::Show(query)))
            }
        }
    }
}

impl Flags {
    fn call(&self, function: &'static str) -> Result<(String, Call)> {
        let set = one_of(self.set.as_ref(), self.set_name.as_ref(), "the set's name")?;
        let call = Call::of(function)
            .with("set_name", "name", set)
            .maybe("replicate_insert", "boolean", self.replicate_insert.as_ref())
            .maybe("replicate_update", "boolean", self.replicate_update.as_ref())
            .maybe("replicate_delete", "boolean", self.replicate_delete.as_ref())
            .maybe("replicate_truncate", "boolean", self.replicate_truncate.as_ref());
        Ok((set.to_owned(), call))
    }

    fn create(&self) -> Result<Operation> {
        let (set, call) = self.call("spock.repset_create")?;
        let flags = [self.replicate_insert, self.replicate_update, self.replicate_delete, self.replicate_truncate];
        let mut values = vec![Some(set.clone())];
        values.extend(flags.map(|flag| Some(flag.unwrap_or(true).to_string())));
        let check = Query::new(
            "select r.replicate_insert = $2::boolean, r.replicate_update = $3::boolean, r.replicate_delete = $4::boolean, \
             r.replicate_truncate = $5::boolean from spock.replication_set r \
             join spock.local_node l on l.node_id = r.set_nodeid where r.set_name = $1::name",
            values,
            &["replicate_insert", "replicate_update", "replicate_delete", "replicate_truncate"],
        );
        let operation = Operation::new(self.node.as_ref(), format!("create set {set}"), Act::Change(call.query()));
        Ok(operation.checked(Wants::Absent, check))
    }

    fn alter(&self) -> Result<Operation> {
        let (set, call) = self.call("spock.repset_alter")?;
        Ok(Operation::new(self.node.as_ref(), format!("alter set {set}"), Act::Change(call.query())))
    }
}

impl Member {
    fn names(&self) -> Result<(&str, &str)> {
        // A single placed word is the one that has no option.
        let (set, relation) = match (&self.set, &self.relation, &self.replication_set, &self.table) {
            (Some(only), None, Some(_), None) => (None, Some(only)),
            _ => (self.set.as_ref(), self.relation.as_ref()),
        };
        let set = one_of(set, self.replication_set.as_ref(), "the set's name")?;
        Ok((set, one_of(relation, self.table.as_ref(), "the table's or sequence's name")?))
    }

    fn call(&self, function: &'static str) -> Result<Call> {
        let (set, relation) = self.names()?;
        Ok(Call::of(function).with("set_name", "name", set).with("relation", "regclass", relation))
    }

    fn operation(&self, verb: &str, call: Call) -> Result<Operation> {
        let (set, relation) = self.names()?;
        let (preposition, what) = if verb == "add" { ("to", verb) } else { ("from", verb) };
        let what = format!("{what} {relation} {preposition} set {set}");
        Ok(Operation::new(self.node.as_ref(), what, Act::Change(call.query())))
    }
}

impl RemovePartition {
    fn operation(&self, function: &'static str, what: &str, row_filter: Option<&String>) -> Result<Operation> {
        let parent = one_of(self.parent.as_ref(), self.parent_table.as_ref(), "the partitioned table")?;
        let partition = self.one.as_ref().or(self.partition.as_ref());
        let call = Call::of(function)
            .with("parent", "regclass", parent)
            .maybe("partition", "regclass", partition)
            .maybe("row_filter", "text", row_filter);
        Ok(Operation::new(self.node.as_ref(), format!("{what} {parent}"), Act::Change(call.query())))
    }
}

impl AddAll {
    fn operation(&self, function: &'static str) -> Result<Operation> {
        let call = Call::of(function)
            .with("set_name", "name", &self.set)
            .with("schema_names", "text[]", &self.schemas)
            .maybe("synchronize_data", "boolean", self.synchronize_data.as_ref());
        let what = format!("add all of schemas {} to set {}", self.schemas, self.set);
        Ok(Operation::new(self.node.as_ref(), what, Act::Change(call.query())))
    }
}
