//! What this client subscribes to: replication sets of the local node with their action flags, or one table.
//! Read once at the start of the session; later changes of a set arrive as decoded rows of `spock.replication_set`.

use crate::error::Report;
use crate::pg::catalog_scan::{self, OidKey};
use pgrx::PgSqlErrorCode;
use spock_core::filter::{Actions, Membership, sends_queue_row};
use spock_core::types::{NodeId, RelId};

/// Schema of our catalog tables.
pub const CATALOG_SCHEMA: &str = "spock";
/// Control messages as rows.
pub const QUEUE: &str = "queue";
/// Table with versions of rows that the server cannot keep.
pub const ROW_VERSION: &str = "row_version";
/// The sets themselves.
pub const REPLICATION_SET: &str = "replication_set";
/// Which tables are in which set.
const REPLICATION_SET_TABLE: &str = "replication_set_table";

/// Columns of `spock.replication_set`.
pub mod set_columns {
    /// set_id
    pub const ID: u16 = 1;
    /// set_nodeid
    pub const NODE: u16 = 2;
    /// set_name
    pub const NAME: u16 = 3;
    /// replicate_insert; update, delete and truncate follow.
    pub const INSERT: u16 = 4;
    /// replicate_update
    pub const UPDATE: u16 = 5;
    /// replicate_delete
    pub const DELETE: u16 = 6;
    /// replicate_truncate
    pub const TRUNCATE: u16 = 7;
}

/// A set that the client subscribes to.
#[derive(Debug, Clone)]
pub struct Set {
    /// Id of the set.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// What it replicates now.
    pub actions: Actions,
}

/// How one set publishes one table.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Actions and columns.
    pub membership: Membership,
    /// Only rows for which this stored expression is true; `None` for all.
    pub row_filter: Option<String>,
}

/// The sets of a session.
#[derive(Debug, Clone, Default)]
pub struct Sets(Vec<Set>);

impl Sets {
    /// Looks up the sets of `node` by name. Needs an open transaction.
    pub fn load(node: NodeId, wanted: &[String]) -> Result<Self, Report> {
        let mut known = Vec::new();
        if let Some(table) = catalog_scan::relation_oid(CATALOG_SCHEMA, REPLICATION_SET) {
            catalog_scan::scan(table, None, &[OidKey { column: set_columns::NODE, value: node.get() }], |row| {
                let flag = |column| row.boolean(column).unwrap_or(false);
                if let (Some(id), Some(name)) = (row.oid(set_columns::ID), row.name(set_columns::NAME)) {
                    let actions = Actions {
                        insert: flag(set_columns::INSERT),
                        update: flag(set_columns::UPDATE),
                        delete: flag(set_columns::DELETE),
                        truncate: flag(set_columns::TRUNCATE),
                    };
                    known.push(Set { id, name, actions });
                }
            });
        }
        wanted.iter().map(|name| find(&known, name)).collect::<Result<Vec<_>, _>>().map(Self)
    }

    /// The set with this id, if the client subscribes to it.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut Set> {
        self.0.iter_mut().find(|set| set.id == id)
    }

    /// Whether a row of `spock.queue` that names these sets (none: everybody) is for this client.
    pub fn want_queue_row(&self, names: Option<&[String]>) -> bool {
        let own: Vec<String> = self.0.iter().map(|set| set.name.clone()).collect();
        sends_queue_row(names, &own)
    }

    /// How the sets of this session publish a table, one entry per set that holds it. Runs under the historic snapshot.
    pub fn publications(&self, table: RelId) -> Vec<Publication> {
        let Some(catalog) = catalog_scan::relation_oid(CATALOG_SCHEMA, REPLICATION_SET_TABLE) else {
            return Vec::new();
        };
        let index = catalog_scan::relation_oid(CATALOG_SCHEMA, "replication_set_table_pkey");
        let mut found = Vec::new();
        for set in &self.0 {
            let keys = [OidKey { column: 1, value: set.id }, OidKey { column: 2, value: table.0 }];
            catalog_scan::scan(catalog, index, &keys, |row| {
                let columns = row.text_array(3).map(|names| names.into_iter().collect());
                let membership = Membership { actions: set.actions, columns };
                found.push(Publication { membership, row_filter: row.text(4) });
            });
        }
        found
    }
}

fn find(known: &[Set], name: &str) -> Result<Set, Report> {
    known.iter().find(|set| set.name == name).cloned().ok_or_else(|| {
        Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("replication set \"{name}\" does not exist on the local node"),
        )
        .hint("Create it with spock.repset_create, or remove it from the subscription.")
    })
}

/// The node of this database: id and name. Needs an open transaction, outside of decoding.
pub fn local_node() -> Result<(NodeId, String), Report> {
    let mut id = None;
    if let Some(table) = catalog_scan::relation_oid(CATALOG_SCHEMA, "local_node") {
        catalog_scan::scan(table, None, &[], |row| id = row.oid(1).and_then(NodeId::new));
    }
    id.and_then(|id| node_name(id.get()).map(|name| (id, name))).ok_or_else(|| {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the current database is not a spock node",
        )
        .hint("Create a node with spock.node_create first.")
    })
}

/// Name of a node, if this database knows it.
pub fn node_name(id: u32) -> Option<String> {
    let table = catalog_scan::relation_oid(CATALOG_SCHEMA, "node")?;
    let mut name = None;
    let index = catalog_scan::relation_oid(CATALOG_SCHEMA, "node_pkey");
    catalog_scan::scan(table, index, &[OidKey { column: 1, value: id }], |row| name = row.name(2));
    name
}
