//! Logical slots that outlive their server: which of the primary's slots a standby copies ([`filter`]), what it does with
//! each of them ([`standby`]), how far a primary may send ahead of its standbys ([`hold_back`]), and whether a subscription can
//! go on at a promoted one ([`timeline`]).
//!
//! # Invariants
//! 1. A copy never stands ahead of the slot that it follows in what it still needs, and counts as good only once decoding
//!    from it has been seen to reach a consistent state.
//! 2. Slots that the standby did not make itself are never touched.

pub mod filter;
pub mod hold_back;
pub mod standby;
pub mod timeline;
