//! Sequences: which are in replication sets, what was announced of them, and where they stand.
//!
//! # Invariants
//! 1. A sequence has a row in `spock.sequence_state` exactly while it is in some set.
//! 2. Reading and moving a sequence is not transactional, as the server has it; all else here is.

use spock_core::sequence::{Announced, CACHE_MIN, Sequence};

use crate::catalog::query::{Row, execute, execute_returning, select, select_one};
use crate::catalog::topology::oid;
use crate::error::Report;

/// Where the sequence stands now; `None` when there is none with that OID.
pub fn read(sequence: u32) -> Result<Option<Sequence>, Report> {
    let facts = select_one(
        "SELECT s.seqrelid::regclass::text, s.seqincrement, s.seqmin, s.seqmax FROM pg_catalog.pg_sequence s
          WHERE s.seqrelid = $1::oid",
        &[oid(sequence)],
        |row| Ok((row.get::<String>(1)?, row.get::<i64>(2)?, row.get::<i64>(3)?, row.get::<i64>(4)?)),
    )?;
    let Some((name, increment, min, max)) = facts else { return Ok(None) };
    // The server wrote the name, quoted and qualified as the search path of these statements needs it.
    select_one(&format!("SELECT last_value, is_called FROM {name}"), &[], |row| {
        Ok(Sequence { last: row.get(1)?, called: row.get(2)?, increment, min, max })
    })
}

/// Moves a sequence: its next value is the one after `value`.
pub fn set_value(sequence: u32, value: i64) -> Result<(), Report> {
    execute("SELECT pg_catalog.setval($1::oid::regclass, $2, true)", &[oid(sequence), value.into()])?;
    Ok(())
}

fn read_state(row: &Row<'_>) -> Result<Announced, Report> {
    Ok(Announced { cache: row.get(1)?, value: row.get(2)? })
}

/// What was announced last; `None` when the sequence is in no set.
pub fn state(sequence: u32) -> Result<Option<Announced>, Report> {
    select_one(
        "SELECT cache_size, last_value FROM spock.sequence_state WHERE seqoid = $1::oid",
        &[oid(sequence)],
        read_state,
    )
}

/// Writes down what is announced. False: the sequence has left its last set meanwhile.
pub fn set_state(sequence: u32, state: Announced) -> Result<bool, Report> {
    let written = execute(
        "UPDATE spock.sequence_state SET cache_size = $2, last_value = $3 WHERE seqoid = $1::oid",
        &[oid(sequence), state.cache.into(), state.value.into()],
    )?;
    Ok(written > 0)
}

/// A sequence that is in some set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its OID.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
}

/// All sequences that are in sets and still exist, by OID.
pub fn members() -> Result<Vec<Member>, Report> {
    select(
        "SELECT c.oid::int8, n.nspname::text, c.relname::text
           FROM spock.sequence_state t JOIN pg_catalog.pg_class c ON c.oid = t.seqoid
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' ORDER BY c.oid",
        &[],
        |row| Ok(Member { oid: row.oid(1)?, schema: row.get(2)?, name: row.get(3)? }),
    )
}

/// Ids and names of the sets that a sequence is in.
pub fn sets_with(sequence: u32) -> Result<Vec<(u32, String)>, Report> {
    select(
        "SELECT s.set_id::int8, s.set_name::text
           FROM spock.replication_set_seq t JOIN spock.replication_set s ON s.set_id = t.set_id
          WHERE t.set_seqoid = $1::oid ORDER BY s.set_name",
        &[oid(sequence)],
        |row| Ok((row.oid(1)?, row.get(2)?)),
    )
}

/// Puts a sequence that stands at `last` into a set.
pub fn insert_member(set: u32, sequence: u32, last: i64) -> Result<(), Report> {
    execute(
        "INSERT INTO spock.replication_set_seq (set_id, set_seqoid) VALUES ($1::oid, $2::oid)",
        &[oid(set), oid(sequence)],
    )?;
    // ON CONFLICT does not work on tables that decoding reads.
    execute(
        "INSERT INTO spock.sequence_state (seqoid, cache_size, last_value)
         SELECT $1::oid, $2, $3 WHERE NOT EXISTS (SELECT FROM spock.sequence_state WHERE seqoid = $1::oid)",
        &[oid(sequence), CACHE_MIN.into(), last.into()],
    )?;
    execute(
        "INSERT INTO spock.depend (classid, objid, objsubid, refclassid, refobjid, refobjsubid, deptype)
         VALUES ('spock.replication_set_seq'::regclass, $1::oid, ($2::oid)::int8::bit(32)::int4, 'pg_catalog.pg_class'::regclass,
             $2::oid, 0, 'n')",
        &[oid(set), oid(sequence)],
    )?;
    Ok(())
}

/// Takes a sequence out of a set, and its state away with its last set. Returns whether it was in.
pub fn delete_member(set: u32, sequence: u32) -> Result<bool, Report> {
    let gone = execute_returning(
        "DELETE FROM spock.replication_set_seq WHERE set_id = $1::oid AND set_seqoid = $2::oid RETURNING 1",
        &[oid(set), oid(sequence)],
        |_| Ok(()),
    )?;
    execute(
        "DELETE FROM spock.sequence_state WHERE seqoid = $1::oid
            AND NOT EXISTS (SELECT FROM spock.replication_set_seq WHERE set_seqoid = $1::oid)",
        &[oid(sequence)],
    )?;
    execute(
        "DELETE FROM spock.depend WHERE classid = 'spock.replication_set_seq'::regclass AND objid = $1::oid
            AND objsubid = ($2::oid)::int8::bit(32)::int4",
        &[oid(set), oid(sequence)],
    )?;
    Ok(!gone.is_empty())
}
