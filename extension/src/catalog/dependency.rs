//! What memberships in replication sets depend on (`spock.depend`): the relation itself, and all that a row filter needs.
//!
//! # Invariants
//! 1. A row names the membership as the C edition does: oid of the membership table, set, and the relation's oid as a signed
//!    number; its type is always `n`.
//! 2. Objects that come with the server are not written down: they cannot be dropped.

use std::collections::BTreeSet;

use spock_core::expression::Reference;

use crate::catalog::query::{execute, select, select_one};
use crate::catalog::topology::oid;
use crate::error::Report;
use crate::pg::drop_hook::{Class, Dropped};

/// Catalog of the server that holds objects of a class.
fn catalog(class: Class) -> &'static str {
    match class {
        Class::Relation => "pg_catalog.pg_class",
        Class::Function => "pg_catalog.pg_proc",
        Class::Operator => "pg_catalog.pg_operator",
        Class::Type => "pg_catalog.pg_type",
        Class::Collation => "pg_catalog.pg_collation",
    }
}

fn insert(set: u32, relation: u32, class: Class, object: u32, part: i16) -> Result<(), Report> {
    execute(
        "INSERT INTO spock.depend (classid, objid, objsubid, refclassid, refobjid, refobjsubid, deptype)
         VALUES ('spock.replication_set_table'::regclass, $1::oid, ($2::oid)::int8::bit(32)::int4, $3::regclass,
             $4::oid, $5, 'n')",
        &[oid(set), oid(relation), catalog(class).into(), oid(object), i32::from(part).into()],
    )?;
    Ok(())
}

/// Writes down what the membership of a table depends on.
pub fn record(set: u32, relation: u32, needed: &BTreeSet<Reference>) -> Result<(), Report> {
    insert(set, relation, Class::Relation, relation, 0)?;
    for reference in needed {
        let (class, object, part) = match *reference {
            Reference::Column(number) => (Class::Relation, relation, number),
            // A row without one of its columns is still a row.
            Reference::WholeRow => continue,
            Reference::Function(function) => (Class::Function, function, 0),
            Reference::Operator(operator) => (Class::Operator, operator, 0),
            Reference::Type(type_oid) => (Class::Type, type_oid, 0),
            Reference::Collation(collation) => (Class::Collation, collation, 0),
        };
        insert(set, relation, class, object, part)?;
    }
    Ok(())
}

/// Forgets all that the membership of a table depended on.
pub fn forget(set: u32, relation: u32) -> Result<(), Report> {
    execute(
        "DELETE FROM spock.depend WHERE classid = 'spock.replication_set_table'::regclass AND objid = $1::oid
            AND objsubid = ($2::oid)::int8::bit(32)::int4",
        &[oid(set), oid(relation)],
    )?;
    Ok(())
}

/// A membership that needs an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependent {
    /// The set.
    pub set: u32,
    /// Its name.
    pub set_name: String,
    /// The member.
    pub relation: u32,
    /// The member is a sequence.
    pub sequence: bool,
    /// Schema and name of the member.
    pub name: String,
}

/// The memberships that need what is about to be dropped, each once.
pub fn dependents(dropped: Dropped) -> Result<Vec<Dependent>, Report> {
    select(
        "SELECT DISTINCT s.set_id::int8, s.set_name::text, c.oid::int8, d.classid = 'spock.replication_set_seq'::regclass,
             n.nspname::text || '.' || c.relname::text
           FROM spock.depend d JOIN spock.replication_set s ON s.set_id = d.objid
           JOIN pg_catalog.pg_class c ON c.oid = (d.objsubid::int8 & 4294967295)::oid
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE d.refclassid = $1::regclass AND d.refobjid = $2::oid AND ($3 = 0 OR d.refobjsubid = $3)
            AND d.classid IN ('spock.replication_set_table'::regclass, 'spock.replication_set_seq'::regclass)
          ORDER BY 5, 2",
        &[catalog(dropped.class).into(), oid(dropped.object), dropped.part.into()],
        |row| {
            Ok(Dependent {
                set: row.oid(1)?,
                set_name: row.get(2)?,
                relation: row.oid(3)?,
                sequence: row.get(4)?,
                name: row.get(5)?,
            })
        },
    )
}

/// What the server calls the object, such as `function f(integer)`.
pub fn describe(dropped: Dropped) -> Result<String, Report> {
    let text = select_one(
        "SELECT pg_catalog.pg_describe_object($1::regclass, $2::oid, $3)",
        &[catalog(dropped.class).into(), oid(dropped.object), dropped.part.into()],
        |row| row.opt::<String>(1),
    )?;
    Ok(text.flatten().unwrap_or_else(|| format!("object {}", dropped.object)))
}
