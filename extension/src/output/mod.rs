//! Publisher: decoded WAL to messages. Never imports `apply`, `conflict`, `sync` or `worker`; the two sides meet only in `spock_core::wire`.
//!
//! # Invariants
//! 1. One publisher per decoding session; it holds no state outside of it.
//! 2. `session` runs once, before the first change; after that nobody sees an option string again.

pub mod format;
pub mod frame;
pub mod hold_back;
pub mod plugin;
pub mod session;
pub mod sets;
pub mod tables;
pub mod versions;
