//! Safe wrappers around the server: the only folder (with `compatNN/`) where `unsafe` and `pg_sys` stand.
//!
//! # Invariants
//! 1. Server functions are called through the guarded `pg_sys` functions, so an ERROR unwinds as a Rust panic and every
//!    destructor on the way runs. Function pointers and variadic functions go through `pg_guard_ffi_boundary`, and what each row
//!    needs through one guard for many calls (`unguarded`).
//! 2. Every guard says what its Drop does on ERROR: nothing when abort cleans up, always when nobody else would.
//! 3. What the server calls is a short shim with `#[pg_guard]` over safe code.
//! 4. Nothing here knows a replication rule.

pub mod attempt;
pub mod authority;
pub mod before_commit;
pub mod catalog_scan;
pub mod changed;
pub mod child;
pub mod collisions;
pub mod commits;
pub mod compat;
pub mod conn;
pub mod copy;
pub mod dead_rows;
pub mod decoding;
pub mod deletes;
pub mod delta;
pub mod drop_hook;
pub mod error_context;
pub mod fault;
pub mod filtered_rows;
pub mod function;
pub mod guc;
pub mod heap;
pub mod horizon;
pub mod in_flight;
pub mod invalidation;
pub mod latch;
pub mod libpq;
pub mod lock;
pub mod log_filter;
pub mod memory;
pub mod message;
pub mod origin;
pub mod own_message;
pub mod parse_tree;
pub mod part;
pub mod partition;
pub mod platform;
pub mod predicate;
pub mod process;
pub mod progress_wal;
pub mod raise;
pub mod readonly;
pub mod relation;
pub mod resource_manager;
pub mod row_filter;
pub mod row_image;
pub mod scope;
pub mod script;
pub mod search;
pub mod security_label;
pub mod server;
pub mod session;
pub mod shmem;
pub mod slot;
pub mod slots;
pub mod standby;
pub mod statistics;
pub mod toast;
pub mod touched;
pub mod tuple;
pub mod types;
pub mod unguarded;
pub mod unique;
pub mod unique_keys;
pub mod utility;
pub mod wal;
pub mod whole_row;
pub mod worker_main;
