//! The merge rule: what a change from another node does to what is here. Pure, whole, and the same on every node.
//!
//! ```text
//! state of a key    nothing | row (version) | tombstone (version)          a larger version replaces a smaller one
//! state of a table  its keys, and the newest TRUNCATE: a tombstone of every key that is older
//! visible rows      those keys' rows that no newer visible row displaces through a unique index
//! ```
//! Reading order: [`version`] (the order), [`conflict`] (names), [`decide`] (one change meets one key: **the** entry point for
//! an apply worker), [`delta`] and [`rest`] (columns that count), [`unique`] (secondary unique keys), [`stability`] (when a
//! tombstone may go).
//!
//! # Invariants
//! 1. Nothing here reads a clock, a setting or the node it runs on: equal sets of changes give equal tables in every order of
//!    delivery that keeps the order of each origin. `core/tests` proves it by properties and by exhaustion.
//! 2. What has to be remembered beside the rows is named: tombstones, the newest TRUNCATE, displaced rows, what is left of
//!    counters of removed rows. Each goes when it is stable.

pub mod conflict;
pub mod decide;
pub mod delta;
pub mod rest;
pub mod stability;
pub mod unique;
pub mod version;

pub use conflict::{ConflictType, Resolution};
pub use decide::{Change, Counters, Decision, Known, Report, Values, Write, decide, decide_old_key, decide_rekey};
pub use version::{Tiebreaker, Version, merge};
