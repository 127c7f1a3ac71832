//! What a utility statement says, read from the server's parse tree: which kind it is, which relations it names or makes.
//!
//! # Invariants
//! 1. Read before the statement runs: it may change its tree. What is needed later is copied.
//! 2. Names are resolved without a lock: a statement that names what is not there fails by itself.

use core::ffi::CStr;
use pgrx::pg_sys;
use spock_core::ddl::membership::Altered;
use spock_core::ddl::{Clustered, Statement};

use super::script::elements;
use super::touched;
use super::utility::Utility;

/// A relation's name as a statement writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationName {
    /// `None`: found with the search path.
    pub schema: Option<String>,
    /// Without quotes.
    pub name: String,
}

/// A table whose replication sets a statement may concern.
#[derive(Debug, Clone)]
pub enum Table {
    /// It will be made.
    New {
        /// How the statement names it.
        name: RelationName,
        /// It is there already, and IF NOT EXISTS leaves it alone.
        found: bool,
    },
    /// It is altered.
    Altered {
        /// The table.
        oid: u32,
        /// What of the change matters.
        altered: Altered,
        /// Tables that become its partitions.
        attached: Vec<u32>,
    },
    /// It gets another schema.
    Moved(u32),
}

type Node = *mut pg_sys::Node;

/// GRANT names its objects one by one.
const ON_OBJECTS: pg_sys::GrantTargetType::Type = pg_sys::GrantTargetType::ACL_TARGET_OBJECT;

/// # Safety
/// `node` is a live node of the parse tree, or null.
unsafe fn tag(node: Node) -> pg_sys::NodeTag {
    // SAFETY: every node starts with its tag.
    if node.is_null() { pg_sys::NodeTag::T_Invalid } else { unsafe { (*node).type_ } }
}

/// # Safety
/// `text` is null or a NUL-terminated string.
unsafe fn owned(text: *const core::ffi::c_char) -> Option<String> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// # Safety
/// `node` is a live node of the parse tree, or null.
unsafe fn string(node: Node) -> Option<String> {
    // SAFETY: a node is of the type that its tag says.
    unsafe { (tag(node) == pg_sys::NodeTag::T_String).then(|| owned((*node.cast::<pg_sys::String>()).sval)).flatten() }
}

/// The OID of the relation that a range variable names.
///
/// # Safety
/// `relation` is a live RangeVar or null.
unsafe fn resolve(relation: *mut pg_sys::RangeVar) -> Option<u32> {
    if relation.is_null() {
        return None;
    }
    // SAFETY: a look-up without a lock, inside a transaction.
    let oid = unsafe {
        pg_sys::RangeVarGetRelidExtended(
            relation,
            pg_sys::NoLock as pg_sys::LOCKMODE,
            pg_sys::RVROption::RVR_MISSING_OK,
            None,
            core::ptr::null_mut(),
        )
    };
    (oid != pg_sys::InvalidOid).then(|| oid.to_u32())
}

/// # Safety
/// `relation` is a live RangeVar.
unsafe fn name_of(relation: *mut pg_sys::RangeVar) -> Option<RelationName> {
    // SAFETY: the caller's promise; its texts are NUL-terminated.
    unsafe { Some(RelationName { schema: owned((*relation).schemaname), name: owned((*relation).relname)? }) }
}

/// # Safety
/// `names` is a list of strings; its last `skipped` elements do not belong to the relation's name.
unsafe fn resolve_list(names: *mut pg_sys::List, skipped: usize) -> Option<u32> {
    // SAFETY: the copy is ours to cut; a name of one to three parts makes a RangeVar.
    unsafe {
        let count = elements(names).count();
        let parts = count.checked_sub(skipped).filter(|parts| (1..=3).contains(parts))?;
        let cut = pg_sys::list_truncate(pg_sys::list_copy(names), i32::try_from(parts).ok()?);
        resolve(pg_sys::makeRangeVarFromNameList(cut))
    }
}

/// How many of a name's parts come after the relation, where the named object is a relation or a part of one.
fn parts_behind(kind: pg_sys::ObjectType::Type) -> Option<usize> {
    use pg_sys::ObjectType as O;
    match kind {
        O::OBJECT_TABLE
        | O::OBJECT_VIEW
        | O::OBJECT_MATVIEW
        | O::OBJECT_INDEX
        | O::OBJECT_SEQUENCE
        | O::OBJECT_FOREIGN_TABLE => Some(0),
        O::OBJECT_COLUMN | O::OBJECT_TRIGGER | O::OBJECT_RULE | O::OBJECT_POLICY | O::OBJECT_TABCONSTRAINT => Some(1),
        _ => None,
    }
}

impl RelationName {
    /// The relation that a statement has made under this name, or under it among the temporary ones: a view becomes temporary
    /// when what it reads is.
    pub fn find_made(&self) -> Option<u32> {
        self.find().or_else(|| Self { schema: Some("pg_temp".to_owned()), name: self.name.clone() }.find())
    }

    /// The relation of that name now.
    pub fn find(&self) -> Option<u32> {
        let c = |text: &str| std::ffi::CString::new(text).unwrap_or_default();
        let (schema, name) = (self.schema.as_deref().map(c), c(&self.name));
        let schema = schema.as_ref().map_or(core::ptr::null_mut(), |schema| schema.as_ptr().cast_mut());
        // SAFETY: the strings live through the look-up.
        unsafe { resolve(pg_sys::makeRangeVar(schema, name.as_ptr().cast_mut(), -1)) }
    }
}

impl Utility {
    /// The statement itself; that inside EXPLAIN ANALYZE.
    fn node(&self) -> Node {
        // SAFETY: a planned utility statement; the query of EXPLAIN is analysed by now.
        unsafe {
            let node = (*self.planned).utilityStmt;
            if tag(node) != pg_sys::NodeTag::T_ExplainStmt {
                return node;
            }
            let inner = (*node.cast::<pg_sys::ExplainStmt>()).query;
            if tag(inner) == pg_sys::NodeTag::T_Query { (*inner.cast::<pg_sys::Query>()).utilityStmt } else { inner }
        }
    }

    /// CREATE EXTENSION, DROP EXTENSION and CREATE SCHEMA.
    pub fn is_container(&self) -> bool {
        let node = self.node();
        // SAFETY: a node is of the type that its tag says.
        unsafe {
            match tag(node) {
                pg_sys::NodeTag::T_CreateExtensionStmt | pg_sys::NodeTag::T_CreateSchemaStmt => true,
                pg_sys::NodeTag::T_DropStmt => {
                    (*node.cast::<pg_sys::DropStmt>()).removeType == pg_sys::ObjectType::OBJECT_EXTENSION
                }
                _ => false,
            }
        }
    }

    /// Whether it makes, updates or drops this extension.
    pub fn is_about_us(&self) -> bool {
        let node = self.node();
        let ours = |name: Option<String>| name.is_some_and(|name| name == "spock");
        // SAFETY: a node is of the type that its tag says; names of extensions are String nodes.
        unsafe {
            match tag(node) {
                pg_sys::NodeTag::T_CreateExtensionStmt => {
                    ours(owned((*node.cast::<pg_sys::CreateExtensionStmt>()).extname))
                }
                pg_sys::NodeTag::T_AlterExtensionStmt => {
                    ours(owned((*node.cast::<pg_sys::AlterExtensionStmt>()).extname))
                }
                pg_sys::NodeTag::T_DropStmt => {
                    let statement = node.cast::<pg_sys::DropStmt>();
                    (*statement).removeType == pg_sys::ObjectType::OBJECT_EXTENSION
                        && elements((*statement).objects).any(|name| ours(string(name.cast())))
                }
                _ => false,
            }
        }
    }

    /// Its kind.
    pub fn statement(&self) -> Statement {
        use pg_sys::NodeTag as T;
        use pg_sys::ObjectType as O;
        let node = self.node();
        let of = |kind: O::Type| match kind {
            O::OBJECT_SUBSCRIPTION => Statement::Subscription,
            O::OBJECT_DATABASE => Statement::Database,
            O::OBJECT_TABLESPACE => Statement::TablespaceChange,
            _ => Statement::Other,
        };
        let concurrently = |concurrent: bool| if concurrent { Statement::Concurrently } else { Statement::Other };
        // SAFETY: a node is of the type that its tag says.
        unsafe {
            match tag(node) {
                T::T_CreateTableAsStmt => create_as((*node.cast::<pg_sys::CreateTableAsStmt>()).query),
                T::T_IndexStmt => concurrently((*node.cast::<pg_sys::IndexStmt>()).concurrent),
                T::T_DropStmt => concurrently((*node.cast::<pg_sys::DropStmt>()).concurrent),
                T::T_AlterTableStmt => concurrently(detaches_concurrently(node.cast())),
                T::T_ClusterStmt => Statement::Cluster(clustered(node.cast())),
                T::T_CreateSubscriptionStmt | T::T_AlterSubscriptionStmt | T::T_DropSubscriptionStmt => {
                    Statement::Subscription
                }
                T::T_CreatedbStmt
                | T::T_DropdbStmt
                | T::T_AlterDatabaseStmt
                | T::T_AlterDatabaseSetStmt
                | T::T_AlterDatabaseRefreshCollStmt => Statement::Database,
                T::T_AlterSystemStmt => Statement::System,
                T::T_CreateTableSpaceStmt | T::T_DropTableSpaceStmt => Statement::Tablespace,
                T::T_AlterTableSpaceOptionsStmt => Statement::TablespaceChange,
                T::T_RenameStmt => of((*node.cast::<pg_sys::RenameStmt>()).renameType),
                T::T_AlterOwnerStmt => of((*node.cast::<pg_sys::AlterOwnerStmt>()).objectType),
                _ => Statement::Other,
            }
        }
    }

    /// The relations that it is about and that exist before it runs.
    pub fn addressed(&self) -> Vec<u32> {
        let node = self.node();
        let mut found = Vec::new();
        // SAFETY: a node is of the type that its tag says.
        unsafe {
            addressed_by_list(node, &mut found);
            let relation = addressed_relation(node);
            found.extend(resolve(relation));
            if tag(node) == pg_sys::NodeTag::T_CreateStmt {
                let like = elements((*node.cast::<pg_sys::CreateStmt>()).tableElts)
                    .map(|element| element.cast::<pg_sys::Node>())
                    .filter(|element| tag(*element) == pg_sys::NodeTag::T_TableLikeClause)
                    .map(|element| (*element.cast::<pg_sys::TableLikeClause>()).relation);
                found.extend(like.filter_map(|source| resolve(source)));
            }
        }
        found
    }

    /// The schemas of what it comments on, labels or grants on, where that is neither a relation nor a schema; `None` for
    /// what is in no schema.
    pub fn remarked_schemas(&self) -> Vec<Option<String>> {
        use pg_sys::NodeTag as T;
        use pg_sys::ObjectType as O;
        let node = self.node();
        // SAFETY: a node is of the type that its tag says.
        unsafe {
            let (kind, objects) = match tag(node) {
                T::T_CommentStmt => {
                    let statement = node.cast::<pg_sys::CommentStmt>();
                    ((*statement).objtype, vec![(*statement).object])
                }
                T::T_SecLabelStmt => {
                    let statement = node.cast::<pg_sys::SecLabelStmt>();
                    ((*statement).objtype, vec![(*statement).object])
                }
                T::T_GrantStmt if (*node.cast::<pg_sys::GrantStmt>()).targtype == ON_OBJECTS => {
                    let statement = node.cast::<pg_sys::GrantStmt>();
                    ((*statement).objtype, elements((*statement).objects).map(|object| object.cast()).collect())
                }
                _ => return Vec::new(),
            };
            let elsewhere = matches!(kind, O::OBJECT_SCHEMA) || parts_behind(kind).is_some();
            // The names of types that GRANT has are of another form than those of COMMENT.
            let other_form = tag(node) == T::T_GrantStmt && matches!(kind, O::OBJECT_TYPE | O::OBJECT_DOMAIN);
            if elsewhere || other_form {
                return Vec::new();
            }
            objects.into_iter().map(|object| touched::schema_of_named(kind, object)).collect()
        }
    }

    /// Schemas that it names as such: made, dropped, commented on, granted on.
    pub fn named_schemas(&self) -> Vec<String> {
        use pg_sys::NodeTag as T;
        use pg_sys::ObjectType as O;
        let node = self.node();
        // SAFETY: a node is of the type that its tag says; names of schemas are String nodes.
        unsafe {
            let names: *mut pg_sys::List = match tag(node) {
                T::T_CommentStmt if (*node.cast::<pg_sys::CommentStmt>()).objtype == O::OBJECT_SCHEMA => {
                    return string((*node.cast::<pg_sys::CommentStmt>()).object).into_iter().collect();
                }
                T::T_GrantStmt => {
                    let statement = node.cast::<pg_sys::GrantStmt>();
                    let all = (*statement).targtype == pg_sys::GrantTargetType::ACL_TARGET_ALL_IN_SCHEMA;
                    if all || (*statement).objtype == O::OBJECT_SCHEMA {
                        (*statement).objects
                    } else {
                        return Vec::new();
                    }
                }
                _ => return Vec::new(),
            };
            elements(names).filter_map(|name| string(name.cast())).collect()
        }
    }

    /// The relation that it makes, if it makes one.
    pub fn makes(&self) -> Option<RelationName> {
        use pg_sys::NodeTag as T;
        let node = self.node();
        // SAFETY: a node is of the type that its tag says.
        unsafe {
            let relation = match tag(node) {
                T::T_CreateStmt | T::T_CreateForeignTableStmt => (*node.cast::<pg_sys::CreateStmt>()).relation,
                T::T_CreateTableAsStmt => (*(*node.cast::<pg_sys::CreateTableAsStmt>()).into).rel,
                T::T_ViewStmt => (*node.cast::<pg_sys::ViewStmt>()).view,
                T::T_CreateSeqStmt => (*node.cast::<pg_sys::CreateSeqStmt>()).sequence,
                _ => return None,
            };
            // The keyword decides where an unqualified name is looked for.
            let mut name = name_of(relation)?;
            if name.schema.is_none() {
                let temporary = (*relation).relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP;
                name.schema = if temporary { Some("pg_temp".to_owned()) } else { creation_schema(relation) };
            }
            Some(name)
        }
    }

    /// The tables whose replication sets it may concern.
    pub fn tables(&self) -> Vec<Table> {
        use pg_sys::NodeTag as T;
        let node = self.node();
        // SAFETY: a node is of the type that its tag says.
        unsafe {
            match tag(node) {
                T::T_CreateStmt => {
                    let statement = node.cast::<pg_sys::CreateStmt>();
                    new_table((*statement).relation, (*statement).if_not_exists, None).into_iter().collect()
                }
                T::T_CreateTableAsStmt => {
                    let statement = node.cast::<pg_sys::CreateTableAsStmt>();
                    if (*statement).objtype != pg_sys::ObjectType::OBJECT_TABLE {
                        return Vec::new();
                    }
                    new_table((*(*statement).into).rel, (*statement).if_not_exists, None).into_iter().collect()
                }
                T::T_CreateSchemaStmt => tables_of_schema(node.cast()),
                T::T_AlterTableStmt => altered_table(node.cast()).into_iter().collect(),
                T::T_DropStmt => tables_of_indexes(node.cast()),
                T::T_AlterObjectSchemaStmt => {
                    let statement = node.cast::<pg_sys::AlterObjectSchemaStmt>();
                    let table = (*statement).objectType == pg_sys::ObjectType::OBJECT_TABLE;
                    if table { resolve((*statement).relation) } else { None }.map(Table::Moved).into_iter().collect()
                }
                _ => Vec::new(),
            }
        }
    }
}

/// The schema that a relation without a schema in its name will be made in.
///
/// # Safety
/// `relation` is a live RangeVar of a relation that will not be temporary by its keyword.
unsafe fn creation_schema(relation: *mut pg_sys::RangeVar) -> Option<String> {
    // SAFETY: raises as the statement would when there is no schema to make something in.
    unsafe { owned(pg_sys::get_namespace_name(pg_sys::RangeVarGetCreationNamespace(relation))) }
}

/// # Safety
/// `relation` is a live RangeVar of a CREATE statement. `schema`: where its name is looked for otherwise.
unsafe fn new_table(relation: *mut pg_sys::RangeVar, may_be_there: bool, schema: Option<&str>) -> Option<Table> {
    // SAFETY: the caller's promise. The namespace for a new relation is only looked up for tables that are not temporary:
    // a look-up for those would make the session's own schema.
    unsafe {
        if (*relation).relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP {
            return None;
        }
        let mut name = name_of(relation)?;
        if name.schema.is_none() {
            name.schema = schema.map_or_else(|| creation_schema(relation), |schema| Some(schema.to_owned()));
        }
        let found = may_be_there
            && pg_sys::get_relname_relid((*relation).relname, pg_sys::RangeVarGetCreationNamespace(relation))
                != pg_sys::InvalidOid;
        Some(Table::New { name, found })
    }
}

/// # Safety
/// A live CREATE SCHEMA statement.
unsafe fn tables_of_schema(statement: *mut pg_sys::CreateSchemaStmt) -> Vec<Table> {
    // SAFETY: a node is of the type that its tag says.
    unsafe {
        let role = (*statement).authrole;
        let schema = match owned((*statement).schemaname) {
            Some(schema) => schema,
            None if !role.is_null() => owned(pg_sys::get_rolespec_name(role)).unwrap_or_default(),
            None => return Vec::new(),
        };
        elements((*statement).schemaElts)
            .map(|element| element.cast::<pg_sys::Node>())
            .filter(|element| tag(*element) == pg_sys::NodeTag::T_CreateStmt)
            .filter_map(|element| new_table((*element.cast::<pg_sys::CreateStmt>()).relation, false, Some(&schema)))
            .collect()
    }
}

/// The table of an index.
fn table_of_index(index: u32) -> Option<u32> {
    // SAFETY: a look-up in the system caches that does not mind what is no index.
    let table = unsafe { pg_sys::IndexGetRelation(pg_sys::Oid::from(index), true) };
    (table != pg_sys::InvalidOid).then(|| table.to_u32())
}

/// The tables that lose an index: it may be the one that identifies their rows.
///
/// # Safety
/// A live DROP statement.
unsafe fn tables_of_indexes(statement: *mut pg_sys::DropStmt) -> Vec<Table> {
    // SAFETY: a node is of the type that its tag says; indexes are lists of names.
    unsafe {
        if (*statement).removeType != pg_sys::ObjectType::OBJECT_INDEX {
            return Vec::new();
        }
        let indexes = elements((*statement).objects).filter_map(|name| resolve_list(name.cast(), 0));
        let altered = Altered { may_lose_identity: true, ..Altered::default() };
        indexes.filter_map(table_of_index).map(|oid| Table::Altered { oid, altered, attached: Vec::new() }).collect()
    }
}

/// # Safety
/// A live ALTER TABLE or ALTER INDEX statement.
unsafe fn altered_table(statement: *mut pg_sys::AlterTableStmt) -> Option<Table> {
    use pg_sys::AlterTableType as A;
    // SAFETY: a node is of the type that its tag says.
    unsafe {
        let oid = match (*statement).objtype {
            pg_sys::ObjectType::OBJECT_TABLE => resolve((*statement).relation)?,
            // The index of a partition can complete that of its parent.
            pg_sys::ObjectType::OBJECT_INDEX => {
                let altered = Altered { may_gain_identity: true, ..Altered::default() };
                let oid = table_of_index(resolve((*statement).relation)?)?;
                return Some(Table::Altered { oid, altered, attached: Vec::new() });
            }
            _ => return None,
        };
        let mut altered = Altered::default();
        let mut attached = Vec::new();
        for command in elements((*statement).cmds) {
            let command = &*command.cast::<pg_sys::AlterTableCmd>();
            match command.subtype {
                A::AT_AddConstraint | A::AT_AddIndexConstraint => {
                    altered.may_gain_identity |= is_primary_key(command.def);
                }
                A::AT_AddColumn => altered.may_gain_identity |= column_is_primary_key(command.def),
                A::AT_DropConstraint | A::AT_DropColumn => altered.may_lose_identity = true,
                A::AT_ReplicaIdentity => {
                    let kind = (*command.def.cast::<pg_sys::ReplicaIdentityStmt>()).identity_type as u8;
                    altered.may_gain_identity |= kind != pg_sys::REPLICA_IDENTITY_NOTHING;
                    altered.may_lose_identity |=
                        matches!(kind, pg_sys::REPLICA_IDENTITY_NOTHING | pg_sys::REPLICA_IDENTITY_DEFAULT);
                }
                A::AT_SetLogged => altered.set_logged = true,
                A::AT_AttachPartition => {
                    attached.extend(resolve((*command.def.cast::<pg_sys::PartitionCmd>()).name));
                }
                _ => {}
            }
        }
        Some(Table::Altered { oid, altered, attached })
    }
}

/// # Safety
/// `definition` is what an ADD CONSTRAINT command adds.
unsafe fn is_primary_key(definition: Node) -> bool {
    // SAFETY: a node is of the type that its tag says.
    unsafe {
        match tag(definition) {
            pg_sys::NodeTag::T_Constraint => {
                (*definition.cast::<pg_sys::Constraint>()).contype == pg_sys::ConstrType::CONSTR_PRIMARY
            }
            pg_sys::NodeTag::T_IndexStmt => (*definition.cast::<pg_sys::IndexStmt>()).primary,
            _ => false,
        }
    }
}

/// # Safety
/// `definition` is what an ADD COLUMN command adds.
unsafe fn column_is_primary_key(definition: Node) -> bool {
    // SAFETY: a node is of the type that its tag says.
    unsafe {
        tag(definition) == pg_sys::NodeTag::T_ColumnDef
            && elements((*definition.cast::<pg_sys::ColumnDef>()).constraints).any(|one| is_primary_key(one.cast()))
    }
}

/// # Safety
/// `query` is what a CREATE TABLE AS statement runs.
unsafe fn create_as(query: Node) -> Statement {
    // SAFETY: a node is of the type that its tag says; the text of a tree is palloc'd and copied.
    unsafe {
        let prepared = tag(query) == pg_sys::NodeTag::T_Query
            && tag((*query.cast::<pg_sys::Query>()).utilityStmt) == pg_sys::NodeTag::T_ExecuteStmt;
        let tree = owned(pg_sys::nodeToString(query.cast())).unwrap_or_default();
        // As the server writes trees: the relation of each range table entry, and parameters that come from outside.
        let reads_temporary = tree
            .split(":relid ")
            .skip(1)
            .filter_map(|rest| rest.split(' ').next()?.parse::<u32>().ok())
            .any(|oid| oid != 0 && is_temporary(oid));
        let has_parameters = tree.contains("{PARAM :paramkind 0 ");
        Statement::CreateAs { prepared, reads_temporary, has_parameters }
    }
}

/// # Safety
/// A live ALTER TABLE statement.
unsafe fn detaches_concurrently(statement: *mut pg_sys::AlterTableStmt) -> bool {
    // SAFETY: a node is of the type that its tag says.
    unsafe {
        elements((*statement).cmds).map(|command| &*command.cast::<pg_sys::AlterTableCmd>()).any(|command| {
            command.subtype == pg_sys::AlterTableType::AT_DetachPartition
                && (*command.def.cast::<pg_sys::PartitionCmd>()).concurrent
        })
    }
}

/// # Safety
/// A live CLUSTER statement.
unsafe fn clustered(statement: *mut pg_sys::ClusterStmt) -> Clustered {
    // SAFETY: the caller's promise; look-ups in the system caches.
    unsafe {
        if (*statement).relation.is_null() {
            return Clustered::All;
        }
        let kind = resolve((*statement).relation).map(|oid| pg_sys::get_rel_relkind(pg_sys::Oid::from(oid)) as u8);
        if kind == Some(pg_sys::RELKIND_PARTITIONED_TABLE) { Clustered::Partitioned } else { Clustered::Table }
    }
}

/// The one relation that stands in the statement as such.
///
/// # Safety
/// `node` is a live utility statement.
unsafe fn addressed_relation(node: Node) -> *mut pg_sys::RangeVar {
    use pg_sys::NodeTag as T;
    // SAFETY: a node is of the type that its tag says.
    unsafe {
        match tag(node) {
            T::T_IndexStmt => (*node.cast::<pg_sys::IndexStmt>()).relation,
            T::T_AlterTableStmt => (*node.cast::<pg_sys::AlterTableStmt>()).relation,
            T::T_RenameStmt => (*node.cast::<pg_sys::RenameStmt>()).relation,
            T::T_AlterObjectSchemaStmt => (*node.cast::<pg_sys::AlterObjectSchemaStmt>()).relation,
            T::T_AlterObjectDependsStmt => (*node.cast::<pg_sys::AlterObjectDependsStmt>()).relation,
            T::T_AlterOwnerStmt => (*node.cast::<pg_sys::AlterOwnerStmt>()).relation,
            T::T_AlterSeqStmt => (*node.cast::<pg_sys::AlterSeqStmt>()).sequence,
            T::T_CreateTrigStmt => (*node.cast::<pg_sys::CreateTrigStmt>()).relation,
            T::T_RuleStmt => (*node.cast::<pg_sys::RuleStmt>()).relation,
            T::T_CreatePolicyStmt => (*node.cast::<pg_sys::CreatePolicyStmt>()).table,
            T::T_AlterPolicyStmt => (*node.cast::<pg_sys::AlterPolicyStmt>()).table,
            T::T_ClusterStmt => (*node.cast::<pg_sys::ClusterStmt>()).relation,
            T::T_RefreshMatViewStmt => (*node.cast::<pg_sys::RefreshMatViewStmt>()).relation,
            _ => core::ptr::null_mut(),
        }
    }
}

/// Relations that stand in lists of names.
///
/// # Safety
/// `node` is a live utility statement.
unsafe fn addressed_by_list(node: Node, found: &mut Vec<u32>) {
    use pg_sys::NodeTag as T;
    // SAFETY: a node is of the type that its tag says; objects of these kinds are lists of names, those of GRANT on tables and
    // of CREATE STATISTICS are range variables.
    unsafe {
        match tag(node) {
            T::T_DropStmt => {
                let statement = node.cast::<pg_sys::DropStmt>();
                if let Some(behind) = parts_behind((*statement).removeType) {
                    let names = elements((*statement).objects);
                    found.extend(names.filter_map(|name| resolve_list(name.cast(), behind)));
                }
            }
            T::T_CommentStmt => {
                let statement = node.cast::<pg_sys::CommentStmt>();
                if let Some(behind) = parts_behind((*statement).objtype) {
                    found.extend(resolve_list((*statement).object.cast(), behind));
                }
            }
            T::T_SecLabelStmt => {
                let statement = node.cast::<pg_sys::SecLabelStmt>();
                if let Some(behind) = parts_behind((*statement).objtype) {
                    found.extend(resolve_list((*statement).object.cast(), behind));
                }
            }
            T::T_GrantStmt => {
                let statement = node.cast::<pg_sys::GrantStmt>();
                let relations = matches!(
                    (*statement).objtype,
                    pg_sys::ObjectType::OBJECT_TABLE | pg_sys::ObjectType::OBJECT_SEQUENCE
                );
                if relations && (*statement).targtype == pg_sys::GrantTargetType::ACL_TARGET_OBJECT {
                    found.extend(elements((*statement).objects).filter_map(|name| resolve(name.cast())));
                }
            }
            T::T_CreateStatsStmt => {
                let relations = elements((*node.cast::<pg_sys::CreateStatsStmt>()).relations);
                let named = relations.filter(|relation| tag(relation.cast()) == T::T_RangeVar);
                found.extend(named.filter_map(|name| resolve(name.cast())));
            }
            _ => {}
        }
    }
}

/// Whether a relation belongs to one session.
pub fn is_temporary(oid: u32) -> bool {
    let oid = pg_sys::Oid::from(oid);
    // SAFETY: look-ups in the system caches; the second one is for relations that are there.
    unsafe {
        pg_sys::get_rel_relkind(oid) != 0 && pg_sys::get_rel_persistence(oid) as u8 == pg_sys::RELPERSISTENCE_TEMP
    }
}

/// The name of a relation's schema.
pub fn schema_of(oid: u32) -> Option<String> {
    // SAFETY: look-ups in the system caches.
    unsafe { owned(pg_sys::get_namespace_name(pg_sys::get_rel_namespace(pg_sys::Oid::from(oid)))) }
}
