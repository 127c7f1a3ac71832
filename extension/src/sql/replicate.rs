//! `replicate_ddl`: runs a command here and queues it for subscribers.
//!
//! # Invariants
//! 1. Nobody gets further than with SET ROLE: the role is one that the caller may take.
//! 2. The command is queued before it runs, and both are rolled back together.

use pgrx::PgSqlErrorCode;

use super::null_argument;
use crate::catalog::{queue, repset, topology};
use crate::ddl::replay::{require_role, run_here};
use crate::error::Report;
use crate::pg::function::{Answer, Call, Value};
use crate::pg::log_filter::hide_statement;
use crate::pg::script::{quoted_list, search_path_elements, set_search_path};

/// Queue message of a command that was given to `replicate_ddl`.
const MESSAGE_TYPE: char = 'Q';

/// `replicate_ddl(command, replication_sets, search_path, role)`
pub fn command(call: &Call) -> Result<Answer, Report> {
    hide_statement();
    let command = call.text(0).ok_or_else(|| null_argument("the command"))?;
    let sets: Option<Vec<String>> = call.texts(1).unwrap_or_default().into_iter().collect();
    let sets = sets.ok_or_else(|| null_argument("the name of a replication set"))?;
    let path = call.text(2).ok_or_else(|| null_argument("search_path"))?;
    let role = require_role(&call.text(3).ok_or_else(|| null_argument("the role"))?)?;
    if !role.may_be_taken() {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied to replicate a command as role \"{}\"", role.name()),
        )
        .hint("The command can run as a role that you may become with SET ROLE."));
    }
    let path = search_path_elements(&path).ok_or_else(|| {
        Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, "search_path is not a list of schema names")
            .hint("Names are separated by commas; others than plain ones need double quotes.")
    })?;
    let local = topology::require_local_node()?;
    for set in &sets {
        repset::require_set(local.node.id, set)?;
    }
    let text = format!("{}{command}", set_search_path(&path));
    // No set at all means every subscriber, as in the C edition.
    let sets = (!sets.is_empty()).then_some(sets.as_slice());
    run_here(&command, role, &quoted_list(&path), || queue::enqueue_text(MESSAGE_TYPE, &role.name(), sets, &text))?;
    Ok(Answer::One(Value::Bool(true)))
}
