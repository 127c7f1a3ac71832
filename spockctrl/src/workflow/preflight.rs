//! What must hold before a workflow's first step: the locks of its nodes, and what a built-in one needs of servers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Origin;
use super::builtin::Builtin;
use crate::connect::{Query, Session, pause};
use crate::exit::{Exit, Failure, Result};
use crate::output::text_of;
use crate::value::array_literal;

/// Both halves of the advisory lock's key: `Spoc` in ASCII, and the first lock of this program.
const LOCK: &str = "1399877475, 1";
/// Another operator's lock is waited for so long.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Between two looks at it.
const LOCK_POLL: Duration = Duration::from_millis(100);
/// The first version whose functions the built-in workflows use.
const VERSION_MIN: i64 = 70_000;

/// Takes the lock of a node's database for this session's life; another operator who has it is named.
pub fn lock(session: &mut Session) -> Result<()> {
    let query = Query::new(format!("select pg_catalog.pg_try_advisory_lock({LOCK})"), Vec::new(), &["got"]);
    // The server takes a moment to notice that a program which had it has ended.
    let until = Instant::now() + LOCK_WAIT;
    loop {
        if session.query(&query)?.first("got") == Some(&Value::Bool(true)) {
            return Ok(());
        }
        if Instant::now() >= until {
            break;
        }
        pause(LOCK_POLL)?;
    }
    let who = Query::new(
        "select a.pid, coalesce(a.client_addr::text, 'a local socket'), a.usename, a.backend_start::timestamptz(0) \
         from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid \
         where l.locktype = 'advisory' and l.classid = 1399877475 and l.objid = 1 and l.granted \
         and l.database = (select oid from pg_catalog.pg_database where datname = current_database())",
        Vec::new(),
        &["pid", "address", "user", "since"],
    );
    let rows = session.query(&who)?;
    let cell = |name: &str| rows.first(name).map(text_of).unwrap_or_default();
    let (pid, user) = (cell("pid"), cell("user"));
    let hint = format!("session {pid} of {user} from {} has the lock since {}", cell("address"), cell("since"));
    let what = format!("node \"{}\": another spockctrl changes the cluster", session.node);
    Err(Failure::new(Exit::Precondition, what, hint))
}

/// Asks what a built-in workflow needs. `session` is one of the nodes that take part.
pub fn check(origin: &Origin, session: &mut Session) -> Result<()> {
    let Origin::Builtin(which) = origin else { return Ok(()) };
    let Some(kind) = which.builtin() else { return Ok(()) };
    let node = session.node.clone();
    let joins = match kind {
        Builtin::AddNode => which.new.as_deref() == Some(node.as_str()),
        Builtin::CrossWire => true,
        _ => false,
    };
    if joins {
        let source = which.source.as_ref().filter(|_| kind == Builtin::CrossWire);
        let role = match source {
            Some(source) if *source == node => Role::Source,
            None if kind == Builtin::CrossWire => Role::Member,
            _ => Role::Copy,
        };
        return may_join(session, role);
    }
    if kind == Builtin::UncrossWire {
        return Ok(());
    }
    is_node(session)?;
    if kind == Builtin::AddNode && which.source.as_deref() == Some(node.as_str()) {
        warn_of_tables(session, true)?;
    }
    Ok(())
}

/// What a server becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A node as it is.
    Member,
    /// The node that others are copied from; it can be one already.
    Source,
    /// A node that is copied from another one, into an empty database.
    Copy,
}

/// Says how many tables a copy leaves out because they are in no replication set; of a source that becomes a node only now,
/// those outside of schema public.
fn warn_of_tables(session: &mut Session, is_node: bool) -> Result<()> {
    let in_no_set = if is_node {
        "select count(*) from spock.tables where set_name is null and relid not in \
         (select objid from pg_catalog.pg_depend where classid = 'pg_class'::regclass and deptype = 'e')"
    } else {
        "select count(*) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where c.relkind in ('r', 'p') and c.relpersistence = 'p' and n.nspname !~ '^pg_' \
         and n.nspname not in ('information_schema', 'spock', 'public') \
         and not exists (select from pg_catalog.pg_depend d where d.objid = c.oid and d.deptype = 'e')"
    };
    let rows = session.query(&Query::new(in_no_set, Vec::new(), &["count"]))?;
    let count = rows.first("count").and_then(Value::as_i64).unwrap_or_default();
    if count > 0 {
        let node = &session.node;
        crate::log::warn(&format!(
            "node \"{node}\": {count} tables are in no replication set: their rows are not copied (spockctrl repset add-all-tables)"
        ));
    }
    Ok(())
}

/// Refuses to take nodes apart of which some are wired with nodes that do not take part.
pub fn is_whole(origin: &Origin, sessions: &mut BTreeMap<String, Session>) -> Result<()> {
    match origin {
        Origin::Builtin(which) if which.builtin() == Some(Builtin::UncrossWire) => {}
        _ => return Ok(()),
    }
    let members: Vec<String> = sessions.keys().cloned().collect();
    let members = Some(array_literal(&members));
    let mut slots = Vec::new();
    let mut nodes = Vec::new();
    for session in sessions.values_mut() {
        let installed = Query::new("select to_regclass('spock.subscription') is not null", Vec::new(), &["is"]);
        if session.query(&installed)?.first("is") != Some(&Value::Bool(true)) {
            continue;
        }
        let query = Query::new(
            "select n.node_name, s.sub_name, s.sub_slot_name, n.node_name = any ($1::name[]) from spock.subscription s \
             join spock.local_node l on l.node_id = s.sub_target join spock.node n on n.node_id = s.sub_origin",
            vec![members.clone()],
            &["provider", "name", "slot", "member"],
        );
        for row in session.query(&query)?.rows {
            if row[3] != Value::Bool(true) {
                let what = format!("it subscribes to {}, which does not take part", text_of(&row[0]));
                let hint =
                    format!("name that node in --nodes too, or drop the subscription {} first", text_of(&row[1]));
                return Err(refused(&session.node, &what, &hint));
            }
            slots.push(text_of(&row[2]));
        }
        nodes.push(session.node.clone());
    }
    for node in nodes {
        let Some(session) = sessions.get_mut(&node) else { continue };
        let query = Query::new(
            "select string_agg(slot_name, ', ' order by slot_name) from pg_catalog.pg_replication_slots \
             where plugin = 'spock_output' and database = current_database() and slot_name <> all ($1::name[])",
            vec![Some(array_literal(&slots))],
            &["slots"],
        );
        if let Some(strange) = session.query(&query)?.first("slots").and_then(Value::as_str) {
            let what = format!("it has slots of nodes that do not take part: {strange}");
            return Err(refused(&node, &what, "name those nodes in --nodes too, or drop slots that nobody uses"));
        }
    }
    Ok(())
}

/// `node` is a node of that name, with an extension that is new enough.
fn is_node(session: &mut Session) -> Result<()> {
    let node = session.node.clone();
    let query = Query::new(
        "select spock.spock_version_num(), (select n.node_name from spock.local_node l join spock.node n using (node_id))",
        Vec::new(),
        &["version", "name"],
    );
    let rows = session.query(&query).map_err(|failure| Failure { exit: Exit::Precondition, ..failure })?;
    if rows.first("version").and_then(Value::as_i64).is_none_or(|version| version < VERSION_MIN) {
        return Err(refused(&node, "its extension is older than 7.0", "upgrade it first, or use a workflow file"));
    }
    match rows.first("name").and_then(Value::as_str) {
        Some(name) if name == node => Ok(()),
        Some(name) => {
            let what = format!("its database is the node \"{name}\"");
            Err(refused(&node, &what, "let the configuration call it by this name"))
        }
        None => Err(refused(&node, "its database is no node", "spockctrl node create")),
    }
}

/// The database can become a node, and be copied into.
fn may_join(session: &mut Session, role: Role) -> Result<()> {
    let node = session.node.clone();
    let query = Query::new(
        "select current_setting('wal_level'), current_setting('shared_preload_libraries') ~ '\\mspock\\M', \
         exists (select from pg_catalog.pg_available_extensions where name = 'spock'), to_regclass('spock.local_node') is not null, \
         current_setting('max_replication_slots')::int - (select count(*) from pg_catalog.pg_replication_slots), \
         (select string_agg(c.oid::regclass::text, ', ' order by 1) from pg_catalog.pg_class c \
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') and c.relpersistence = 'p' \
           and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'spock') \
           and not exists (select from pg_catalog.pg_depend d where d.objid = c.oid and d.deptype = 'e')), \
         (select setting = '' or 'spock_output' = any (pg_catalog.string_to_array(pg_catalog.translate(setting, ' \"', ''), ',')) \
           from pg_catalog.pg_settings where name = 'output_plugin_libraries')",
        Vec::new(),
        &["wal_level", "preloaded", "available", "installed", "slots", "tables", "plugin_listed"],
    );
    let rows = session.query(&query)?;
    let is = |name: &str| rows.first(name) == Some(&Value::Bool(true));
    if rows.first("wal_level") != Some(&Value::from("logical")) {
        return Err(refused(&node, "wal_level is not logical", "set it and restart the server"));
    }
    if !is("preloaded") || !is("available") {
        return Err(refused(
            &node,
            "the extension is not loaded",
            "install it, and put spock into shared_preload_libraries",
        ));
    }
    if rows.first("plugin_listed") == Some(&Value::Bool(false)) {
        let hint = "set output_plugin_libraries = 'pgoutput, test_decoding, spock_output' and reload the server";
        return Err(refused(&node, "its output_plugin_libraries does not list spock_output", hint));
    }
    if rows.first("slots").and_then(Value::as_i64).is_none_or(|free| free < 1) {
        return Err(refused(&node, "it has no free replication slot", "raise max_replication_slots"));
    }
    if let Some(tables) = rows.first("tables").and_then(Value::as_str).filter(|_| role == Role::Copy) {
        let what = format!("its database is not empty: {}", tables.chars().take(200).collect::<String>());
        return Err(refused(&node, &what, "what is copied needs an empty database"));
    }
    if is("installed") {
        let query = Query::new(
            "select n.node_name from spock.local_node l join spock.node n using (node_id)",
            Vec::new(),
            &["name"],
        );
        if let Some(name) = session.query(&query)?.first("name").map(text_of) {
            if role == Role::Source && name == node {
                return warn_of_tables(session, true);
            }
            let what = format!("its database is the node \"{name}\" already");
            return Err(refused(&node, &what, "go on with a kept run by --resume, or remove the node first"));
        }
    }
    if role == Role::Source { warn_of_tables(session, false) } else { Ok(()) }
}

fn refused(node: &str, what: &str, hint: &str) -> Failure {
    Failure::new(Exit::Precondition, format!("node \"{node}\": {what}"), hint)
}
