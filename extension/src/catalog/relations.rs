//! What the server's catalogs say about a user's table: for the checks of `sql`, not for the data path.

use crate::catalog::query::{Row, select, select_one};
use crate::catalog::topology::oid;
use crate::error::Report;

/// One relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `relkind`: `r` ordinary, `p` partitioned.
    pub kind: char,
    /// Neither temporary nor unlogged.
    pub permanent: bool,
    /// Its rows are in the server's own heap, or it has none itself: versions of rows are read from there.
    pub heap: bool,
    /// Part of a partitioned table.
    pub is_partition: bool,
    /// The extension that owns it.
    pub extension: Option<String>,
    /// Columns of the index that identifies rows (REPLICA IDENTITY or primary key). `None`: there is no such index.
    pub identity: Option<Vec<String>>,
}

impl Relation {
    /// Whether it belongs to the server's own catalogs.
    pub fn is_system(&self) -> bool {
        /// First OID that is given to users' objects.
        const FIRST_NORMAL_OID: u32 = 16384;
        self.oid < FIRST_NORMAL_OID
    }

    /// Schema and name, for messages.
    pub fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// One column that is not dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Computed from others.
    pub generated: bool,
}

/// An index that the server itself would take as the identity of rows: valid, unique, not deferred, whole.
const RELATION: &str =
    "SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence = 'p', c.relispartition,
       c.relkind <> 'r' OR EXISTS (SELECT FROM pg_catalog.pg_am m WHERE m.oid = c.relam
           AND m.amhandler = 'pg_catalog.heap_tableam_handler'::pg_catalog.regproc),
       (SELECT e.extname::text FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
           AND d.refclassid = 'pg_catalog.pg_extension'::regclass LIMIT 1),
       (SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.place)
          FROM pg_catalog.pg_index i
          CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
         WHERE i.indrelid = c.oid AND k.place <= i.indnkeyatts
           AND i.indisunique AND i.indimmediate AND i.indpred IS NULL AND (i.indisvalid OR c.relkind = 'p')
           AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ";

fn read(row: &Row<'_>) -> Result<Relation, Report> {
    let identity = row.texts(9)?;
    Ok(Relation {
        oid: row.oid(1)?,
        schema: row.get(2)?,
        name: row.get(3)?,
        kind: row.get::<String>(4)?.chars().next().unwrap_or(' '),
        permanent: row.get(5)?,
        is_partition: row.get(6)?,
        heap: row.get(7)?,
        extension: row.opt(8)?,
        identity: (!identity.is_empty()).then_some(identity),
    })
}

/// The relation with that OID; `None` when it does not exist.
pub fn relation(relation: u32) -> Result<Option<Relation>, Report> {
    select_one(&format!("{RELATION} WHERE c.oid = $1::oid"), &[oid(relation)], read)
}

/// A partitioned table's partitions of every level, without itself.
pub fn partitions(relation: u32) -> Result<Vec<Relation>, Report> {
    let sql = format!(
        "{RELATION} WHERE c.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree($1::oid::regclass) t WHERE t.level > 0)
         ORDER BY c.oid"
    );
    select(&sql, &[oid(relation)], read)
}

/// Ordinary and partitioned tables of a schema that can be replicated and are not in the set yet, by OID.
pub fn candidates(schema: &str, set: u32) -> Result<Vec<Relation>, Report> {
    let sql = format!(
        "{RELATION} WHERE n.nspname = $1::name AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384
            AND NOT EXISTS (SELECT FROM spock.replication_set_table t WHERE t.set_id = $2::oid AND t.set_reloid = c.oid)
         ORDER BY c.oid"
    );
    select(&sql, &[schema.into(), oid(set)], read)
}

/// Sequences of a schema that can be replicated and are not in the set yet, by OID.
pub fn candidate_sequences(schema: &str, set: u32) -> Result<Vec<Relation>, Report> {
    let sql = format!(
        "{RELATION} WHERE n.nspname = $1::name AND c.relkind = 'S' AND c.relpersistence = 'p' AND c.oid >= 16384
            AND NOT EXISTS (SELECT FROM spock.replication_set_seq t WHERE t.set_id = $2::oid AND t.set_seqoid = c.oid)
         ORDER BY c.oid"
    );
    select(&sql, &[schema.into(), oid(set)], read)
}

/// OID of the sequence of that name.
pub fn sequence_by_name(schema: &str, name: &str) -> Result<Option<u32>, Report> {
    select_one(
        "SELECT c.oid::int8 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = $1::name AND c.relname = $2::name AND c.relkind = 'S'",
        &[schema.into(), name.into()],
        |row| row.oid(1),
    )
}

/// The columns of a relation in order.
pub fn columns(relation: u32) -> Result<Vec<Column>, Report> {
    select(
        "SELECT attname::text, attgenerated <> '' FROM pg_catalog.pg_attribute
          WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        &[oid(relation)],
        |row| Ok(Column { name: row.get(1)?, generated: row.get(2)? }),
    )
}

/// Whether there is a schema of that name.
pub fn schema_exists(name: &str) -> Result<bool, Report> {
    Ok(select_one("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1::name", &[name.into()], |_| Ok(()))?
        .is_some())
}

/// Whether a schema or an extension is kept out of replication sets.
pub fn is_blocked(kind: &str, name: &str) -> Result<bool, Report> {
    let found = select_one(
        "SELECT 1 FROM spock.reserved_object WHERE kind = $1 AND name = $2::name AND block_in_repset",
        &[kind.into(), name.into()],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

/// Schemas whose tables are kept out of replication sets and copies.
pub fn blocked_schemas() -> Result<Vec<String>, Report> {
    let sql = "SELECT name::text FROM spock.reserved_object WHERE kind = 'schema' AND block_in_repset";
    select(sql, &[], |row| row.get(1))
}

/// Names of schemas whose statements stay on this node.
pub fn local_only_schemas() -> Result<Vec<String>, Report> {
    select("SELECT name::text FROM spock.reserved_object WHERE kind = 'schema' AND NOT replicate_ddl", &[], |row| {
        row.get(1)
    })
}

/// Whether a table has REPLICA IDENTITY FULL.
pub fn identity_is_full(relation: u32) -> Result<bool, Report> {
    let found = select_one(
        "SELECT 1 FROM pg_catalog.pg_class WHERE oid = $1::oid AND relreplident = 'f'",
        &[oid(relation)],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

/// A replication slot of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether a sender uses it now.
    pub active: bool,
}

/// Logical slots of this database that belong to our output plugin, of any name that subscriptions use.
pub fn own_slots() -> Result<Vec<Slot>, Report> {
    select(
        "SELECT slot_name::text, active FROM pg_catalog.pg_replication_slots
          WHERE database = pg_catalog.current_database() AND plugin IN ('spock_output', 'spock') AND slot_name ~ 'spk_.*'
          ORDER BY slot_name",
        &[],
        |row| Ok(Slot { name: row.get(1)?, active: row.get(2)? }),
    )
}
