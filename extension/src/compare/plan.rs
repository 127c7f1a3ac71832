//! What is compared: which table, which columns of it, by which key, and whether the caller may.

use crate::catalog::query::select_as_is;
use crate::catalog::relations::{self, Relation};
use crate::catalog::repset;
use crate::catalog::topology::{self, LocalNode, Node, Subscription};
use crate::compare::side::{Here, Peer, Side, required};
use crate::error::Report;
use crate::pg::authority::is_superuser;
use crate::pg::script::Role;
use crate::sync::provider::Session;
use pgrx::PgSqlErrorCode;
use spock_core::compare::text::{Column, KeyColumn, Shape, array, literal};
use spock_core::options::identifiers;
use spock_core::sync::TableName;
use spock_core::types::NodeId;

/// A comparison that can begin.
pub struct Plan {
    /// The table here.
    pub table: Relation,
    /// Its name on both nodes.
    pub name: TableName,
    /// The table as this node has it.
    pub here: Shape,
    /// The table as the other node has it.
    pub there: Shape,
    /// This node.
    pub local: LocalNode,
    /// The other node.
    pub node: Node,
    /// Whether the other node has an enabled subscription to this one.
    pub followed: bool,
    /// All nodes that this one knows.
    pub nodes: Vec<Node>,
}

/// A column, as the server describes it.
struct Described {
    name: String,
    type_name: String,
    built_in: bool,
    generated: bool,
}

/// A table, as the server describes it.
struct Facts {
    kind: String,
    columns: Vec<Described>,
    key: Vec<KeyColumn>,
}

fn report(code: PgSqlErrorCode, message: impl Into<String>) -> Report {
    Report::new(code, message)
}

/// `None`: there is no such table.
fn facts(side: &mut dyn Side, name: &TableName) -> Result<Option<Facts>, Report> {
    let table = literal(&name.quoted());
    let rows = side.ask(
        "look for a table",
        &format!(
            "SELECT c.relkind::pg_catalog.text, a.attname::pg_catalog.text, format_type(a.atttypid, NULL),
                    (a.atttypid::pg_catalog.int8 < 16384)::pg_catalog.text, (a.attgenerated <> '')::pg_catalog.text
               FROM pg_catalog.pg_class c
               LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
              WHERE c.oid = to_regclass({table}) ORDER BY a.attname"
        ),
    )?;
    let Some(first) = rows.first() else { return Ok(None) };
    let kind = required(first, 0)?.to_owned();
    let column = |row: &Vec<Option<String>>| {
        Ok(Described {
            name: required(row, 1)?.to_owned(),
            type_name: required(row, 2)?.to_owned(),
            built_in: required(row, 3)? == "true",
            generated: required(row, 4)? == "true",
        })
    };
    let columns = rows.iter().filter(|row| row[1].is_some()).map(column).collect::<Result<_, Report>>()?;
    let rows = side.ask("look for the key of a table", &KEY.replace("$1", &table))?;
    let key = |row: &Vec<Option<String>>| {
        Ok(KeyColumn {
            name: required(row, 0)?.to_owned(),
            type_name: required(row, 1)?.to_owned(),
            operator: required(row, 2)?.to_owned(),
        })
    };
    Ok(Some(Facts { kind, columns, key: rows.iter().map(key).collect::<Result<_, Report>>()? }))
}

/// The index that identifies rows (that of the replica identity, else the primary key), with the type below domains and the
/// operator of equality of each column.
const KEY: &str = "WITH RECURSIVE k AS (
     SELECT u.place, a.attname, a.atttypid AS type, i.indclass[(u.place - 1)::pg_catalog.int4] AS opclass
       FROM pg_catalog.pg_index i
       JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
      CROSS JOIN LATERAL unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY u (attnum, place)
       JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
      WHERE i.indrelid = to_regclass($1) AND u.place <= i.indnkeyatts AND i.indisunique AND i.indimmediate
        AND i.indpred IS NULL AND (i.indisvalid OR c.relkind = 'p')
        AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END),
   base AS (
     SELECT k.place, k.type FROM k
     UNION ALL
     SELECT b.place, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype = 'd')
 SELECT k.attname::pg_catalog.text, format_type(b.type, NULL), quote_ident(n.nspname) || '.' || o.oprname
   FROM k
   JOIN base b ON b.place = k.place
   JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'
   JOIN pg_catalog.pg_opclass p ON p.oid = k.opclass
   JOIN pg_catalog.pg_amop m ON m.amopfamily = p.opcfamily AND m.amopstrategy = 3 AND m.amoplefttype = p.opcintype
        AND m.amoprighttype = p.opcintype
   JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
   JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
  ORDER BY k.place";

/// The relation, which must be a table.
pub fn table_of(oid: u32) -> Result<Relation, Report> {
    let relation = relations::relation(oid)?.ok_or_else(|| {
        report(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, format!("relation with OID {oid} does not exist"))
    })?;
    if matches!(relation.kind, 'r' | 'p') {
        return Ok(relation);
    }
    Err(report(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, format!("\"{}\" is not a table", relation.qualified())))
}

fn name_of(table: &Relation) -> TableName {
    TableName { schema: table.schema.clone(), table: table.name.clone() }
}

fn missing_here(table: &Relation) -> Report {
    report(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, format!("table \"{}\" was dropped", table.qualified()))
}

fn shape(facts: &Facts, name: &TableName, wanted: impl Fn(&Described) -> bool) -> Shape {
    let columns = facts.columns.iter().filter(|column| wanted(column));
    Shape {
        table: name.quoted(),
        only: facts.kind != "p",
        columns: columns.map(|column| Column { name: column.name.clone(), built_in: column.built_in }).collect(),
        key: facts.key.clone(),
    }
}

/// A table of this node for a digest: `columns`, or all that are not generated.
pub fn digest_shape(oid: u32, columns: Option<&[String]>) -> Result<Shape, Report> {
    let table = table_of(oid)?;
    let name = name_of(&table);
    let facts = facts(&mut Here, &name)?.ok_or_else(|| missing_here(&table))?;
    for wanted in columns.unwrap_or_default() {
        if !facts.columns.iter().any(|column| column.name == *wanted) {
            return Err(report(
                PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                format!("table \"{}\" has no column \"{wanted}\"", table.qualified()),
            ));
        }
    }
    Ok(shape(&facts, &name, |column| match columns {
        Some(columns) => columns.contains(&column.name),
        None => !column.generated,
    }))
}

/// The columns of `oid` that can be written here, in the form that rows are written in. For [`super::write`].
pub fn writable(oid: u32, columns: &[String]) -> Result<(Relation, Shape), Report> {
    let shape = digest_shape(oid, Some(columns))?;
    let table = table_of(oid)?;
    if shape.key.is_empty() {
        return Err(no_key(&table.qualified(), "this node"));
    }
    Ok((table, shape))
}

fn no_key(table: &str, node: &str) -> Report {
    report(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("table \"{table}\" has no key on {node} that identifies its rows"),
    )
    .hint("Add a primary key, or compare spock.table_digest of both nodes.")
}

/// The enabled subscriptions of this node to `node`.
fn subscriptions(local: &LocalNode, node: &Node) -> Result<Vec<Subscription>, Report> {
    let all = topology::subscriptions_of(local.node.id)?;
    let found: Vec<_> = all.into_iter().filter(|subscription| subscription.origin.id == node.id).collect();
    if found.is_empty() {
        return Err(report(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("this node has no subscription to node \"{}\"", node.name),
        )
        .hint("Compare with a node that this one subscribes to, or ask that node."));
    }
    if let Some(disabled) = found.iter().find(|subscription| !subscription.enabled) {
        return Err(report(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("subscription \"{}\" is disabled: what is under way would count as different", disabled.name),
        )
        .hint("Enable it with spock.sub_enable, and see spock.sub_worker_status()."));
    }
    Ok(found)
}

/// What the provider sends to a subscriber with some sets.
struct Sent {
    member: bool,
    filtered: bool,
    /// `None`: all columns.
    columns: Option<Vec<String>>,
}

/// What the other node sends us.
fn sent_by_peer(peer: &mut Peer, name: &TableName, sets: &[&str]) -> Result<Sent, Report> {
    let (table, sets) = (literal(&name.quoted()), array(sets));
    let rows = peer.ask(
        "look for a table in the replication sets of the other node",
        &format!(
            "SELECT EXISTS (SELECT FROM spock.tables s WHERE s.relid = i.relid
                        AND s.set_name::pg_catalog.text = ANY ({sets}::pg_catalog.text[]))::pg_catalog.text,
                    i.has_row_filter::pg_catalog.text, u.name
               FROM spock.repset_show_table({table}::pg_catalog.regclass, {sets}::pg_catalog.text[]) i
               LEFT JOIN LATERAL unnest(i.att_list) u (name) ON true"
        ),
    )?;
    let flag = |n: usize| rows.first().is_some_and(|row| row[n].as_deref() == Some("true"));
    let columns = rows.iter().filter_map(|row| row[2].clone()).collect();
    Ok(Sent { member: flag(0), filtered: flag(1), columns: Some(columns) })
}

/// What we send to the other node, if it subscribes to us. The second value: whether that is enabled.
fn sent_by_us(peer: &mut Peer, local: NodeId, table: &Relation) -> Result<(Sent, bool), Report> {
    let rows = peer.ask(
        "look for the other node's subscription to this one",
        &format!(
            "SELECT s.sub_name::pg_catalog.text, s.sub_enabled::pg_catalog.text, u.name
               FROM spock.subscription s JOIN spock.local_node l ON l.node_id = s.sub_target
               LEFT JOIN LATERAL unnest(s.sub_replication_sets) u (name) ON true WHERE s.sub_origin = {}",
            local.get()
        ),
    )?;
    if let Some(disabled) = rows.iter().find(|row| row[1].as_deref() == Some("false")) {
        return Err(report(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "subscription \"{}\" of the other node to this one is disabled: what is under way would count as different",
                required(disabled, 0)?
            ),
        )
        .hint("Enable it there with spock.sub_enable, and see spock.sub_worker_status()."));
    }
    let sets: Vec<String> = rows.iter().filter_map(|row| row[2].clone()).collect();
    let memberships = repset::memberships(local, table.oid, &sets)?;
    let all = memberships.is_empty() || memberships.iter().any(|membership| membership.columns.is_none());
    let columns = memberships.iter().flat_map(|membership| membership.columns.iter().flatten().cloned()).collect();
    let sent = Sent {
        member: !memberships.is_empty(),
        filtered: memberships.iter().any(|membership| membership.has_row_filter),
        columns: (!all).then_some(columns),
    };
    Ok((sent, !rows.is_empty()))
}

/// 42501 unless the caller may read all of the table here, and a role of the caller's name may there.
fn check_reader(peer: &mut Peer, name: &TableName) -> Result<(), Report> {
    let refused = |message: String| Err(report(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message));
    let table = literal(&name.quoted());
    let rows =
        select_as_is(&format!("SELECT pg_catalog.row_security_active({table}::pg_catalog.regclass)::pg_catalog.text"))?;
    if rows.first().is_some_and(|row| row[0].as_deref() == Some("true")) {
        return refused(format!("row security hides rows of table {name} from you"))
            .map_err(|report| report.hint("Compare it as a role that bypasses row security."));
    }
    if is_superuser() {
        return Ok(());
    }
    let role = Role::current().name();
    let quoted = literal(&role);
    let rows = peer.ask(
        "look at privileges on the other node",
        &format!(
            "SELECT (r.rolsuper OR (has_schema_privilege(r.oid, c.relnamespace, 'USAGE') AND NOT EXISTS (
                        SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                           AND NOT has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT'))))::pg_catalog.text,
                    (c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls)::pg_catalog.text
               FROM pg_catalog.pg_roles r, pg_catalog.pg_class c
              WHERE r.rolname = {quoted} AND c.oid = to_regclass({table})"
        ),
    )?;
    let Some(row) = rows.first() else {
        return refused(format!("role \"{role}\" does not exist on the other node"))
            .map_err(|report| report.hint("What you may read there is what a role of your name may."));
    };
    if row[0].as_deref() != Some("true") {
        return refused(format!("role \"{role}\" may not read table {name} on the other node"))
            .map_err(|report| report.hint("Grant it SELECT there."));
    }
    if row[1].as_deref() == Some("true") {
        return refused(format!("row security on the other node hides rows of table {name} from role \"{role}\""))
            .map_err(|report| report.hint("Compare it as a role that bypasses row security."));
    }
    Ok(())
}

/// 42704 for an unknown node, 22023 for this one.
fn other_node(local: &LocalNode, name: &str) -> Result<Node, Report> {
    let node = topology::node_by_name(name)?.ok_or_else(|| {
        report(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("node \"{name}\" does not exist"))
            .hint("See spock.node.")
    })?;
    if node.id == local.node.id {
        return Err(report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("node \"{name}\" is this node")));
    }
    Ok(node)
}

impl Plan {
    /// Looks at both nodes and finds what is to be compared.
    pub fn make(node_name: &str, oid: u32) -> Result<(Self, Peer), Report> {
        let local = topology::require_local_node()?;
        let node = other_node(&local, node_name)?;
        let table = table_of(oid)?;
        let name = name_of(&table);
        let subscriptions = subscriptions(&local, &node)?;
        let mut peer = Peer::new(Session::open(&subscriptions[0], "diff")?)?;
        check_peer(&mut peer, &node)?;
        let there = facts(&mut peer, &name)?.ok_or_else(|| {
            report(
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                format!("table {name} does not exist on node \"{node_name}\""),
            )
            .hint("Tables are compared by schema and name.")
        })?;
        check_reader(&mut peer, &name)?;
        let sets: Vec<&str> =
            subscriptions.iter().flat_map(|one| one.replication_sets.iter().map(String::as_str)).collect();
        let theirs = sent_by_peer(&mut peer, &name, &sets)?;
        if !theirs.member {
            return Err(report(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("table {name} is in none of the replication sets that this node subscribes to"),
            )
            .hint(format!("Add it with spock.repset_add_table on node \"{node_name}\".")));
        }
        let (ours, followed) = sent_by_us(&mut peer, local.node.id, &table)?;
        if theirs.filtered || ours.filtered {
            return Err(report(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("table {name} has a row filter between these nodes"),
            )
            .detail("Rows that are meant to be on one node only cannot be told from rows that are missing."));
        }
        let here = facts(&mut Here, &name)?.ok_or_else(|| missing_here(&table))?;
        let compared = compared(&name, node_name, &here, &there, [&theirs, &ours])?;
        let wanted = |column: &Described| compared.contains(&column.name);
        let (here, there) = (shape(&here, &name, wanted), shape(&there, &name, wanted));
        Ok((Self { table, name, here, there, local, node, followed, nodes: topology::nodes()? }, peer))
    }
}

/// The other end must be the node that the catalog says it is.
fn check_peer(peer: &mut Peer, node: &Node) -> Result<(), Report> {
    let rows = peer.ask(
        "ask the other node who it is",
        "SELECT l.node_id::pg_catalog.int8::pg_catalog.text FROM spock.local_node l",
    )?;
    if rows.first().is_some_and(|row| row[0].as_deref() == Some(node.id.get().to_string().as_str())) {
        return Ok(());
    }
    Err(report(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("the connection for node \"{}\" leads to another node", node.name),
    )
    .hint("Correct the interface with spock.node_add_interface and spock.sub_alter_interface."))
}

/// The columns that both nodes have and send, by name.
fn compared(
    name: &TableName,
    node: &str,
    here: &Facts,
    there: &Facts,
    sent: [&Sent; 2],
) -> Result<Vec<String>, Report> {
    let keys = |facts: &Facts| facts.key.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    let who = |is_here| if is_here { "this node".to_owned() } else { format!("node \"{node}\"") };
    for (facts, is_here) in [(here, true), (there, false)] {
        if !matches!(facts.kind.as_str(), "r" | "p") {
            return Err(report(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("{name} is not a table on {}", who(is_here)),
            ));
        }
        if facts.key.is_empty() {
            return Err(no_key(&name.to_string(), &who(is_here)));
        }
    }
    if keys(here) != keys(there) {
        return Err(report(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("rows of table {name} are identified by different columns on the two nodes"),
        )
        .detail(format!(
            "Here: {}. On node \"{node}\": {}.",
            identifiers::join(&keys(here)),
            identifiers::join(&keys(there))
        )));
    }
    let travels = |column: &Described| {
        !column.generated
            && sent.iter().all(|sent| sent.columns.as_ref().is_none_or(|columns| columns.contains(&column.name)))
    };
    // A column that the other node sends must be here; one that is only here is not replicated.
    let absent: Vec<&str> = there
        .columns
        .iter()
        .filter(|column| travels(column) && here.columns.iter().all(|own| own.name != column.name))
        .map(|column| column.name.as_str())
        .collect();
    if !absent.is_empty() {
        return Err(report(
            PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            format!(
                "table {name} lacks columns on this node that node \"{node}\" sends: {}",
                identifiers::join(&absent)
            ),
        )
        .hint("Add them here, or leave them out with a column list of the replication set."));
    }
    let mut names = Vec::new();
    for column in there.columns.iter().filter(|column| travels(column)) {
        let Some(own) = here.columns.iter().find(|own| own.name == column.name && !own.generated) else { continue };
        if own.type_name != column.type_name {
            return Err(report(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("column \"{}\" of table {name} has different types on the two nodes", own.name),
            )
            .detail(format!("Here: {}. On node \"{node}\": {}.", own.type_name, column.type_name))
            .hint("Give the column the same type on both nodes."));
        }
        names.push(own.name.clone());
    }
    Ok(names)
}
