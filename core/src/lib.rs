//! What the extension decides, as functions of values: wire format, merge rule, names and ids. No I/O, no clock, no server.
//!
//! Reading order: [`types`], [`hash`], [`names`] (identities that other nodes rely on), [`wire`] (messages), [`options`]
//! (what a subscriber asks and a provider grants), [`filter`] (what is sent to whom), [`merge`] (who wins), [`progress`]
//! (what may be confirmed), [`sync`] (states of the initial copy), [`settled`] (which of its rows have versions of their
//! own), [`sequence`] (announced values), [`expression`] (what a stored filter refers to), [`change_log`] (a line of the
//! log), [`exceptions`] (what cannot be applied), [`park`] (what is put aside because of it), [`failover`] (slots on
//! standbys), [`compare`] (is a table the same on two nodes), [`backoff`].

#![forbid(unsafe_code)]

pub mod backoff;
pub mod change_log;
pub mod compare;
pub mod copy;
pub mod ddl;
pub mod exceptions;
pub mod expression;
pub mod failover;
pub mod filter;
pub mod hash;
pub mod merge;
pub mod names;
pub mod options;
pub mod park;
pub mod progress;
pub mod redact;
pub mod sequence;
pub mod settled;
pub mod skew;
pub mod sync;
pub mod types;
pub mod wire;
