//! Automatic replication of statements: decides for each statement that a session runs whether it is queued, and queues it.
//! Between `pg::utility` (a statement comes and goes), `spock_core::ddl` (the rules) and `catalog::queue`.
//!
//! # Invariants
//! 1. A statement is queued with the text, the role and the search path that it ran with, in its own transaction.
//! 2. What a replayed statement does is never queued.
//! 3. In a database without a node nothing is queued, and nothing is said.

use pgrx::PgSqlErrorCode;
use spock_core::ddl::{self, Facts, Gate, Verdict};

use super::upkeep::{self, Upkeep};
use super::{Mode, lock, mode};
use crate::catalog::{queue, relations, topology};
use crate::error::{OrRaise, Report};
use crate::pg::authority::extension_installed;
use crate::pg::parse_tree::{RelationName, is_temporary, schema_of};
use crate::pg::raise::{Level, log};
use crate::pg::scope::Txn;
use crate::pg::script::{Role, search_path_statement};
use crate::pg::touched::Watch;
use crate::pg::utility::{After, Utility, in_extension_script, statement_done};
use crate::settings;

/// Queue message of a statement that was captured.
const MESSAGE_TYPE: char = 'D';
/// Captured statements go to everybody who gets rows of tables without an identity.
const SETS: [&str; 1] = ["default_insert_only"];

/// Called before each utility statement. Raises 42501 when statements of its kind are denied.
pub fn watch(utility: &Utility) -> Option<After> {
    if !utility.is_definition() {
        return None;
    }
    if settings::deny_all_ddl() {
        denied(&utility.tag()).raise();
    }
    // Each node brings its own objects up to date. Before that, catalogs may be missing that are read below.
    if utility.is_about_us() {
        return None;
    }
    let hidden = settings::repair_mode() || settings::restores_structure();
    let gate = Gate {
        enabled: settings::enable_ddl_replication(),
        from_functions: settings::allow_ddl_from_functions(),
        silent: hidden || mode() != Mode::Given,
        in_extension_script: in_extension_script(),
        place: utility.place(),
        top_level_only: utility.is_container(),
    };
    let whole = gate.place != ddl::Place::Part;
    let replayed = mode() == Mode::Replayed { automatic: true } && whole && !hidden && settings::include_ddl_repset();
    if !(gate.opens() || replayed) || !Txn::is_open() {
        return None;
    }
    if !extension_installed() || topology::local_node().or_raise().is_none() {
        return None;
    }
    let mut sets = Upkeep::of(utility);
    if !gate.opens() {
        return Some(Box::new(move || {
            statement_done();
            upkeep::run(sets).or_raise();
        }));
    }
    let mut seen = Seen::of(utility);
    // What arrives while it is waited for the lock may be what the statement is about.
    if ddl::may_be_sent(&seen.facts()) {
        if lock::take().or_raise() {
            drop(seen);
            seen = Seen::of(utility);
            sets = Upkeep::of(utility);
        }
        seen.lock_asked_for = true;
    }
    Some(Box::new(move || after(seen, sets).or_raise()))
}

fn denied(tag: &str) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("{tag} is denied by \"spock.deny_all_ddl\""))
        .hint("A superuser can set \"spock.deny_all_ddl\" to off.")
}

/// What must be known before the statement runs.
struct Seen {
    tag: String,
    text: String,
    search_path: String,
    role: Role,
    statement: ddl::Statement,
    temporary: bool,
    makes: Option<RelationName>,
    /// Schemas of the relations that it names.
    schemas: Vec<Option<String>>,
    /// Schemas whose statements stay here, and what is noted of the objects that the statement touches.
    local: Option<(Vec<String>, Watch)>,
    lock_asked_for: bool,
}

impl Seen {
    fn of(utility: &Utility) -> Self {
        let addressed = utility.addressed();
        let local = relations::local_only_schemas().or_raise();
        let mut schemas: Vec<Option<String>> = addressed.iter().map(|oid| schema_of(*oid)).collect();
        schemas.extend(utility.named_schemas().into_iter().map(Some));
        schemas.extend(utility.remarked_schemas());
        let makes = utility.makes();
        Self {
            tag: utility.tag(),
            text: utility.text(),
            search_path: search_path_statement(),
            role: Role::current(),
            statement: utility.statement(),
            temporary: addressed.iter().any(|oid| is_temporary(*oid)),
            makes,
            schemas,
            local: (!local.is_empty()).then(|| (local, Watch::start())),
            lock_asked_for: false,
        }
    }

    /// What can be told of it before it runs.
    fn facts(&self) -> Facts {
        let made_in = self.makes.as_ref().map(|made| made.schema.clone());
        let makes_temporary = made_in.as_ref().is_some_and(|schema| schema.as_deref() == Some("pg_temp"));
        let named: Vec<_> = self.schemas.iter().cloned().chain(made_in).collect();
        Facts {
            statement: self.statement,
            temporary: self.temporary || makes_temporary,
            in_local_schema: self.local.as_ref().is_some_and(|(local, _)| all_in(local, named.iter())),
        }
    }
}

fn after(seen: Seen, sets: Upkeep) -> Result<(), Report> {
    if !Txn::is_open() {
        return Ok(());
    }
    statement_done();
    // DROP EXTENSION may have been the statement.
    if !extension_installed() || topology::local_node()?.is_none() {
        return Ok(());
    }
    let made = seen.makes.as_ref().and_then(RelationName::find_made);
    let facts = Facts {
        statement: seen.statement,
        temporary: seen.temporary || made.is_some_and(is_temporary),
        in_local_schema: stays_in_local_schemas(&seen),
    };
    match ddl::verdict(&facts) {
        Verdict::Stays(reason) => {
            let message = format!("{} is not replicated", seen.tag);
            say(Level::Warning, Report::new(PgSqlErrorCode::ERRCODE_WARNING, message).detail(reason.sentence()));
            Ok(())
        }
        Verdict::Sent { search_path, risky } => {
            // It looked as if it would stay here.
            if !seen.lock_asked_for {
                lock::take()?;
            }
            let prefix = if search_path { seen.search_path.as_str() } else { "" };
            let sets_of_queue = SETS.map(str::to_owned);
            let text = format!("{prefix}{}", seen.text);
            queue::enqueue_text(MESSAGE_TYPE, &seen.role.name(), Some(&sets_of_queue), &text)?;
            if risky {
                let message = format!("{} is replicated, and its rows can differ on other nodes", seen.tag);
                let detail = "The query runs again on each node.";
                say(Level::Warning, Report::new(PgSqlErrorCode::ERRCODE_WARNING, message).detail(detail));
            } else {
                let message = format!("{} is replicated", seen.tag);
                say(Level::Info, Report::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message));
            }
            if settings::include_ddl_repset() { upkeep::run(sets) } else { Ok(()) }
        }
    }
}

/// Whether all that the statement is about lies in schemas whose statements stay here.
fn stays_in_local_schemas(seen: &Seen) -> bool {
    let Some((local, watch)) = &seen.local else { return false };
    let touched = watch.schemas();
    all_in(local, seen.schemas.iter().chain(&touched))
}

/// Whether there are schemas, and each is among the local ones.
fn all_in<'a>(local: &[String], schemas: impl Iterator<Item = &'a Option<String>>) -> bool {
    let mut all = schemas.peekable();
    all.peek().is_some() && all.all(|schema| schema.as_ref().is_some_and(|schema| local.contains(schema)))
}

/// To the client, or with `spock.enable_quiet_mode` to the log only.
fn say(level: Level, report: Report) {
    log(if settings::quiet() { Level::Log } else { level }, &report);
}
