//! Replication sets: which tables of this node go out, with which columns and rows.
//!
//! # Invariants
//! 1. Sets belong to a node; only the local node's are used.
//! 2. A membership without a column list means all columns, also those that are added later. An empty list is not stored.
//! 3. Every change of a membership sends the relation to be looked up again by running decoders.

use pgrx::PgSqlErrorCode;
use pgrx::datum::DatumWithOid;
use spock_core::expression;
use spock_core::types::NodeId;

use crate::catalog::dependency;
use crate::catalog::query::{Row, execute, execute_returning, select, select_one};
use crate::catalog::topology::oid;
use crate::error::Report;
use crate::pg::authority::forget_relation;
use crate::pg::row_filter::RowFilter;

/// One set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepSet {
    /// Hash of node and name.
    pub id: u32,
    /// Unique within the node.
    pub name: String,
    /// What goes out.
    pub actions: Actions,
}

/// Which kinds of change a set lets out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]

pub struct Actions {
    /// INSERT
    pub insert: bool,
    /// UPDATE
    pub update: bool,
    /// DELETE
    pub delete: bool,
    /// TRUNCATE
    pub truncate: bool,
}

impl Actions {
    /// Everything.
    pub const ALL: Self = Self { insert: true, update: true, delete: true, truncate: true };

    /// Whether rows must be found again on the other side, so that a table needs an identity.
    pub fn needs_identity(self) -> bool {
        self.update || self.delete
    }
}

/// A table in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The set.
    pub set: String,
    /// `None`: all columns.
    pub columns: Option<Vec<String>>,
    /// Whether only some rows go out.
    pub has_row_filter: bool,
}

/// The sets that `node_create` makes.
pub const DEFAULT_SETS: [(&str, Actions); 3] = [
    ("default", Actions::ALL),
    ("default_insert_only", Actions { insert: true, update: false, delete: false, truncate: true }),
    ("ddl_sql", Actions { insert: true, update: false, delete: false, truncate: false }),
];

const SETS: &str =
    "SELECT set_id::int8, set_name::text, replicate_insert, replicate_update, replicate_delete, replicate_truncate
    FROM spock.replication_set WHERE set_nodeid = $1::oid";

fn read_set(row: &Row<'_>) -> Result<RepSet, Report> {
    let actions = Actions { insert: row.get(3)?, update: row.get(4)?, delete: row.get(5)?, truncate: row.get(6)? };
    Ok(RepSet { id: row.oid(1)?, name: row.get(2)?, actions })
}

/// All sets of `node`, in the order in which they were written.
pub fn sets_of(node: NodeId) -> Result<Vec<RepSet>, Report> {
    select(&format!("{SETS} ORDER BY ctid"), &[oid(node.get())], read_set)
}

/// The set of `node` with that name.
pub fn set_by_name(node: NodeId, name: &str) -> Result<Option<RepSet>, Report> {
    select_one(&format!("{SETS} AND set_name = $2::name"), &[oid(node.get()), name.into()], read_set)
}

/// The set of `node` with that name; 42704 when there is none.
pub fn require_set(node: NodeId, name: &str) -> Result<RepSet, Report> {
    set_by_name(node, name)?.ok_or_else(|| no_such_set(name))
}

/// The error for a set that does not exist.
pub fn no_such_set(name: &str) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("replication set \"{name}\" does not exist"))
        .hint("spock.replication_set shows the sets of this node; spock.repset_create makes one.")
}

/// Writes a set.
pub fn insert_set(node: NodeId, set: &RepSet) -> Result<(), Report> {
    execute(
        "INSERT INTO spock.replication_set
             (set_id, set_nodeid, set_name, replicate_insert, replicate_update, replicate_delete, replicate_truncate)
         VALUES ($1::oid, $2::oid, $3::name, $4, $5, $6, $7)",
        &[
            oid(set.id),
            oid(node.get()),
            set.name.as_str().into(),
            set.actions.insert.into(),
            set.actions.update.into(),
            set.actions.delete.into(),
            set.actions.truncate.into(),
        ],
    )?;
    Ok(())
}

/// Changes what a set lets out.
pub fn update_set(id: u32, actions: Actions) -> Result<(), Report> {
    execute(
        "UPDATE spock.replication_set SET replicate_insert = $2, replicate_update = $3, replicate_delete = $4,
             replicate_truncate = $5 WHERE set_id = $1::oid",
        &[oid(id), actions.insert.into(), actions.update.into(), actions.delete.into(), actions.truncate.into()],
    )?;
    forget_members(id)
}

/// Removes a set with its members and all that hangs on them.
pub fn delete_set(id: u32) -> Result<(), Report> {
    forget_members(id)?;
    execute("DELETE FROM spock.replication_set_table WHERE set_id = $1::oid", &[oid(id)])?;
    execute("DELETE FROM spock.replication_set_seq WHERE set_id = $1::oid", &[oid(id)])?;
    execute(
        "DELETE FROM spock.sequence_state t
          WHERE NOT EXISTS (SELECT FROM spock.replication_set_seq s WHERE s.set_seqoid::oid = t.seqoid)",
        &[],
    )?;
    execute(
        "DELETE FROM spock.depend
          WHERE classid IN ('spock.replication_set_table'::regclass, 'spock.replication_set_seq'::regclass) AND objid = $1::oid",
        &[oid(id)],
    )?;
    execute("DELETE FROM spock.replication_set WHERE set_id = $1::oid", &[oid(id)])?;
    Ok(())
}

/// Relations of a set that still exist.
pub fn member_tables(id: u32) -> Result<Vec<u32>, Report> {
    select(
        "SELECT c.oid::int8 FROM spock.replication_set_table t JOIN pg_catalog.pg_class c ON c.oid = t.set_reloid
          WHERE t.set_id = $1::oid",
        &[oid(id)],
        |row| row.oid(1),
    )
}

fn forget_members(id: u32) -> Result<(), Report> {
    for relation in member_tables(id)? {
        forget_relation(relation);
    }
    Ok(())
}

/// Whether a table is in a set.
pub fn is_member(set: u32, relation: u32) -> Result<bool, Report> {
    let found = select(
        "SELECT 1 FROM spock.replication_set_table WHERE set_id = $1::oid AND set_reloid = $2::oid",
        &[oid(set), oid(relation)],
        |_| Ok(()),
    )?;
    Ok(!found.is_empty())
}

/// Ids and names of the sets that a table is in.
pub fn sets_with(relation: u32) -> Result<Vec<(u32, String)>, Report> {
    select(
        "SELECT s.set_id::int8, s.set_name::text
           FROM spock.replication_set_table t JOIN spock.replication_set s ON s.set_id = t.set_id
          WHERE t.set_reloid = $1::oid ORDER BY s.set_name",
        &[oid(relation)],
        |row| Ok((row.oid(1)?, row.get(2)?)),
    )
}

/// One membership of a partitioned table, as its partitions take it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentMembership {
    /// The set.
    pub set: RepSet,
    /// `None`: all columns.
    pub columns: Option<Vec<String>>,
    /// The filter as SQL, with column names.
    pub filter: Option<String>,
}

/// All memberships of a table in sets of `node`, with the filter written as SQL.
pub fn memberships_of_parent(node: NodeId, relation: u32) -> Result<Vec<ParentMembership>, Report> {
    select(
        "SELECT s.set_id::int8, s.set_name::text, s.replicate_insert, s.replicate_update, s.replicate_delete,
             s.replicate_truncate, t.set_att_list, pg_catalog.pg_get_expr(t.set_row_filter, t.set_reloid)
           FROM spock.replication_set_table t JOIN spock.replication_set s ON s.set_id = t.set_id
          WHERE s.set_nodeid = $1::oid AND t.set_reloid = $2::oid ORDER BY s.set_name",
        &[oid(node.get()), oid(relation)],
        |row| {
            let columns = row.texts(7)?;
            Ok(ParentMembership {
                set: read_set(row)?,
                columns: (!columns.is_empty()).then_some(columns),
                filter: row.opt(8)?,
            })
        },
    )
}

/// Puts a table into a set.
pub fn insert_member(
    set: u32,
    relation: u32,
    columns: Option<&[String]>,
    filter: Option<&RowFilter>,
) -> Result<(), Report> {
    let columns =
        columns.filter(|columns| !columns.is_empty()).map(|names| names.iter().cloned().map(Some).collect::<Vec<_>>());
    let filter_tree = filter;
    let filter = match filter {
        Some(filter) => filter.parameter(),
        None => RowFilter::null_parameter(),
    };
    execute(
        "INSERT INTO spock.replication_set_table (set_id, set_reloid, set_att_list, set_row_filter)
         VALUES ($1::oid, $2::oid, $3, $4)",
        &[oid(set), oid(relation), DatumWithOid::from(columns), filter],
    )?;
    let needed = filter_tree.map(|filter| expression::references(filter.tree())).unwrap_or_default();
    dependency::record(set, relation, &needed)?;
    forget_relation(relation);
    Ok(())
}

/// Takes a table out of a set. Returns whether it was in.
pub fn delete_member(set: u32, relation: u32) -> Result<bool, Report> {
    let gone = execute_returning(
        "DELETE FROM spock.replication_set_table WHERE set_id = $1::oid AND set_reloid = $2::oid RETURNING 1",
        &[oid(set), oid(relation)],
        |_| Ok(()),
    )?;
    dependency::forget(set, relation)?;
    if gone.is_empty() {
        return Ok(false);
    }
    forget_relation(relation);
    Ok(true)
}

/// The stored row filter of each membership of a table in the sets of `node` named in `sets`; `None` for one without.
pub fn row_filters(node: NodeId, relation: u32, sets: &[String]) -> Result<Vec<Option<String>>, Report> {
    select(
        "SELECT t.set_row_filter::text
           FROM spock.replication_set_table t JOIN spock.replication_set s ON s.set_id = t.set_id
          WHERE s.set_nodeid = $1::oid AND t.set_reloid = $2::oid AND s.set_name::text = ANY ($3) ORDER BY s.set_name",
        &[oid(node.get()), oid(relation), DatumWithOid::from(sets.iter().cloned().map(Some).collect::<Vec<_>>())],
        |row| row.opt(1),
    )
}

/// The memberships of one table in the local node's sets named in `sets`.
pub fn memberships(node: NodeId, relation: u32, sets: &[String]) -> Result<Vec<Membership>, Report> {
    select(
        "SELECT s.set_name::text, t.set_att_list, t.set_row_filter IS NOT NULL
           FROM spock.replication_set_table t JOIN spock.replication_set s ON s.set_id = t.set_id
          WHERE s.set_nodeid = $1::oid AND t.set_reloid = $2::oid AND s.set_name::text = ANY ($3)",
        &[oid(node.get()), oid(relation), DatumWithOid::from(sets.iter().cloned().map(Some).collect::<Vec<_>>())],
        |row| {
            let columns = row.texts(2)?;
            Ok(Membership {
                set: row.get(1)?,
                columns: (!columns.is_empty()).then_some(columns),
                has_row_filter: row.get(3)?,
            })
        },
    )
}
