//! In which form the values of a column travel to this client (protocol sheet, datum formats). Pure.

use crate::pg::types::{Form, TypeFacts};

/// What the session granted to the client at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Datum images of base types: both servers lay them out alike.
    pub internal: bool,
    /// Send-function output: both servers have the same major.
    pub binary: bool,
}

/// The form for values of a type.
pub fn form(granted: Granted, facts: &TypeFacts) -> Form {
    let built_in = facts.oid.is_built_in();
    if granted.internal && facts.is_base && built_in && !facts.has_element {
        return Form::Internal;
    }
    // Composites and arrays of local types carry oids that mean nothing elsewhere.
    if granted.binary && facts.has_receive && (built_in || !(facts.is_composite || facts.has_element)) {
        return Form::Binary;
    }
    Form::Text
}
