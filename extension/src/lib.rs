//! Spock: multi-master replication for PostgreSQL. This file lists the modules in reading order and registers the
//! extension with the server; it holds no logic.
//!
//! Data flows one way: WAL -> `output` -> wire (crate `spock-core`) -> `apply` -> heap. `worker` runs the processes,
//! `catalog` reads and writes our own tables, `sql` is what users call, `pg` is the only place for `unsafe`.

#[cfg(not(panic = "unwind"))]
compile_error!("the server's errors unwind through this library: build it with panic=unwind");

mod apply;
mod catalog;
mod conflict;
mod error;
mod output;
mod pg;
mod settings;
mod sql;
mod worker;

pgrx::pg_module_magic!(name, version);
