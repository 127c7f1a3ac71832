//! A mesh in memory that runs the core's rules. Two ways to try them:
//!
//! - [`model`]: every history up to a small size, and every order of delivery.
//! - [`mesh`]: long random histories with delays, cut links, crashes, skewed clocks and nodes that join, from a seed.
//!
//! Both run [`replica`]: what an apply worker does, by `spock_core`, with a [`rule`] that tests can break.

#![forbid(unsafe_code)]

pub mod mesh;
pub mod model;
pub mod replica;
pub mod rng;
pub mod rule;
