//! Spock: multi-master replication for PostgreSQL. This file lists the modules in reading order and registers the
//! extension with the server; it holds no logic.
//!
//! Data flows one way: WAL -> `output` -> wire (crate `spock-core`) -> `apply` -> heap. `worker` runs the processes,
//! `catalog` reads and writes our own tables, `sql` is what users call, `pg` is the only place for `unsafe`.

#[cfg(not(panic = "unwind"))]
compile_error!("the server's errors unwind through this library: build it with panic=unwind");

mod apply;
mod catalog;
mod compare;
mod conflict;
mod counters;
mod ddl;
mod error;
mod output;
mod pg;
mod requirements;
mod sequences;
mod settings;
mod sql;
mod sync;
mod worker;

pgrx::pg_module_magic!(name, version);

/// Called once by the server when it loads the library.
///
/// Order: what must be right, settings, resource manager, shared memory and workers. Under pg_upgrade only what it checks
/// for is there: settings and the resource manager.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    if !pg::server::is_preloading() {
        requirements::not_preloaded().raise();
    }
    if !pg::server::is_binary_upgrade() {
        requirements::check();
    }
    settings::define();
    pg::security_label::register();
    pg::resource_manager::register();
    pg::statistics::register();
    if !pg::server::is_binary_upgrade() {
        pg::log_filter::install();
        pg::drop_hook::install(sql::dropped::before_drop);
        pg::readonly::install(settings::refuses_writes);
        pg::utility::install(sql::dropped::watch);
    }
    output::hold_back::watch_supervisor(worker::registry::supervisor_runs);
    worker::init();
}
