//! Runs a text of statements: one that a provider queued, or one that is being queued here.
//! Between `apply::queue`, `sql::replicate` and `pg::script`.

use pgrx::PgSqlErrorCode;

use super::{Mode, ModeScope, lock, mode};
use crate::error::Report;
use crate::pg::script::{Class, Role, Script, SettingsScope, Statement};
use crate::settings;

/// Runs what a provider queued, as `role`. `automatic`: it was captured there.
pub fn replay(text: &str, role: &str, automatic: bool) -> Result<(), Report> {
    let role = require_role(role)?;
    let script = Script::parse(text)?;
    for statement in script.statements() {
        if statement.class() != Class::Setting {
            require_definition(&statement)?;
        }
    }
    let _mode = ModeScope::enter(Mode::Replayed { automatic });
    let _settings = SettingsScope::enter();
    for statement in script.statements() {
        statement.run(role);
    }
    Ok(())
}

/// Runs what `replicate_ddl` was given, after `queue` has put it into the queue.
pub fn run_here(
    command: &str,
    role: Role,
    search_path: &str,
    queue: impl FnOnce() -> Result<(), Report>,
) -> Result<(), Report> {
    let script = Script::parse(command)?;
    for statement in script.statements() {
        require_definition(&statement)?;
    }
    // What is hidden from subscribers stays here.
    if mode() == Mode::Given && !settings::repair_mode() {
        lock::take()?;
    }
    queue()?;
    let _mode = ModeScope::enter(Mode::Queued);
    let settings = SettingsScope::enter();
    settings.set(c"search_path", search_path);
    for statement in script.statements() {
        statement.run(role);
    }
    Ok(())
}

/// The role of that name; 42704 when there is none.
pub fn require_role(name: &str) -> Result<Role, Report> {
    Role::by_name(name).ok_or_else(|| {
        Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("role \"{name}\" does not exist"))
            .hint("Statements are replicated with the role that ran them: create the role on every node.")
    })
}

fn require_definition(statement: &Statement<'_>) -> Result<(), Report> {
    if statement.class() == Class::Definition {
        return Ok(());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("{} is not a command that defines something and cannot be replicated as one", statement.tag()),
    )
    .hint("Changes of rows are replicated by themselves, TRUNCATE as well."))
}
