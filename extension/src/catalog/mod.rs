//! Rows of our own tables as Rust structs; no policy.

pub mod dsn;
