//! Replicated sequences: telling subscribers a value ahead of use, and taking such values from others.
//! Between `catalog::sequence` (rows), `catalog::queue` (the way out) and `spock_core::sequence` (how far, and whether).
//!
//! # Invariants
//! 1. What is announced is written down in the transaction that announces it.
//! 2. A value that arrives moves a sequence forward or not at all.
//!
//! # What it is for
//! After a node is lost, another one goes on without giving out a value twice. Two nodes that draw from one sequence at the
//! same time can still get the same value: use different increments, or snowflake sequences.

use pgrx::PgSqlErrorCode;
use spock_core::sequence::Pass;

use crate::catalog::query::select;
use crate::catalog::queue;
use crate::catalog::relations;
use crate::catalog::sequence::{self, Member};
use crate::error::Report;
use crate::pg::lock::TryLock;

/// Queue message that carries a sequence's value.
const MESSAGE_TYPE: char = 'S';

/// Queues `value` of a sequence for the subscribers of `sets`. Message `S`: three strings.
pub fn announce(member: &Member, value: i64, sets: &[String]) -> Result<(), Report> {
    let message = select(
        // Spaces as the C edition writes them.
        "SELECT '{\"schema_name\": ' || pg_catalog.to_json($1::text) || ',\"sequence_name\": ' || pg_catalog.to_json($2::text)
             || ',\"last_value\": ' || pg_catalog.to_json($3::text) || '}'",
        &[member.schema.as_str().into(), member.name.as_str().into(), value.to_string().into()],
        |row| row.get::<String>(1),
    )?;
    for text in message {
        queue::enqueue(MESSAGE_TYPE, Some(sets), &text)?;
    }
    Ok(())
}

fn set_names(sequence: u32) -> Result<Vec<String>, Report> {
    Ok(sequence::sets_with(sequence)?.into_iter().map(|(_, name)| name).collect())
}

/// What `sync_seq` does: announces one step ahead to all sets of the sequence. False: it is in no set.
pub fn synchronize(member: &Member) -> Result<bool, Report> {
    let (Some(told), Some(stands)) = (sequence::state(member.oid)?, sequence::read(member.oid)?) else {
        return Ok(false);
    };
    let state = stands.announce(told);
    let known = sequence::set_state(member.oid, state)?;
    if known {
        announce(member, state.value, &set_names(member.oid)?)?;
    }
    Ok(known)
}

/// One look at every sequence that is in a set. Returns whether the next look should come soon.
pub fn pass() -> Result<bool, Report> {
    let mut again = false;
    for member in sequence::members()? {
        let (Some(told), Some(stands)) = (sequence::state(member.oid)?, sequence::read(member.oid)?) else {
            // Dropped or removed since the list was read.
            continue;
        };
        if let Pass::Announce { state, soon } = stands.pass(told)
            && sequence::set_state(member.oid, state)?
        {
            announce(&member, state.value, &set_names(member.oid)?)?;
            again |= soon;
        }
    }
    Ok(again)
}

/// Carries out a message `S` that arrived: moves the local sequence of that name to the value, unless it is there already.
pub fn apply_value(message: &str) -> Result<(), Report> {
    let (schema, name, value) = read_message(message)?;
    let found = relations::sequence_by_name(&schema, &name)?;
    let Some(oid) = found else {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            format!("sequence \"{schema}.{name}\", whose value the provider sent, does not exist on this node"),
        )
        .hint("Create the sequence here."));
    };
    take_value(oid, value)
}

/// Moves a sequence to a value that another node has given out, unless it is there already.
pub fn take_value(oid: u32, value: i64) -> Result<(), Report> {
    // Between reading and moving, a session here could draw past the value. The lock keeps it out for that moment; where a
    // session holds the sequence anyway, waiting for the end of its transaction would be worse than the small window.
    let lock = TryLock::against_writes(oid);
    if let Some(stands) = sequence::read(oid)?
        && stands.takes(value)
    {
        sequence::set_value(oid, value)?;
        if let Some(told) = sequence::state(oid)?
            && let Some(stands) = sequence::read(oid)?
        {
            sequence::set_state(oid, stands.taken_over(told))?;
        }
    }
    drop(lock);
    Ok(())
}

/// Schema, name and value.
fn read_message(message: &str) -> Result<(String, String, i64), Report> {
    let [schema, name, value] = queue::message_texts(message, ["schema_name", "sequence_name", "last_value"])?;
    let value = value.parse().map_err(|_| {
        Report::new(PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION, "the provider sent an invalid value of a sequence")
    })?;
    Ok((schema, name, value))
}
