//! The commands: for each what was typed, and the operation that it becomes. Spellings of the C edition's program are kept, and
//! the positional ones that its manual promised.
//!
//! **Invariant.** An operation follows from what was typed alone; nothing here talks to a server.

pub mod node;
pub mod repset;
pub mod slot;
pub mod sql;
pub mod sub;

use crate::exit::{Failure, Result};

/// A value that can be given by its place or by an option.
fn one_of<'a>(placed: Option<&'a String>, option: Option<&'a String>, what: &str) -> Result<&'a str> {
    match (placed, option) {
        (Some(_), Some(_)) => Err(Failure::usage(format!("{what} is given twice"), "")),
        (Some(value), None) | (None, Some(value)) => Ok(value),
        (None, None) => Err(Failure::usage(format!("{what} is missing"), "see --help of this command")),
    }
}
