//! Comparing a table between two nodes: the statements that both are asked, how the search narrows to the rows that
//! differ, which differences are real, and what a repair does about them.
//!
//! # Invariants
//! 1. [`text`]: the same rows give the same digest on every node and major, whatever settings, physical order, order of
//!    columns or dropped columns there are.
//! 2. [`narrow`]: what is held of either side at once has a limit that does not depend on the table's size.
//! 3. [`verdict`]: a row that is on its way is no difference.

pub mod narrow;
pub mod text;
pub mod verdict;
