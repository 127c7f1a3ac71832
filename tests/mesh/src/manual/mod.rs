//! The user manual as a test: its command blocks are run, in order, on a fresh cluster for each chapter, and what they
//! print is compared with what the chapter shows.
//!
//! [`blocks`] reads a chapter, [`shown`] compares output, [`play`] runs the blocks, [`run`] plays all chapters and counts.

pub mod blocks;
pub mod play;
pub mod run;
pub mod shown;
