//! Entry points of the background workers: what the postmaster calls by name. Each sets its signals and goes on in
//! `crate::worker`. The names are part of what installations and monitoring know.

use crate::pg::process::install_signal_handlers;
use crate::worker::{apply, failover, manager, supervisor};
use pgrx::{pg_guard, pg_sys};

#[pg_guard]
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn spock_supervisor_main(_argument: pg_sys::Datum) {
    install_signal_handlers();
    supervisor::main();
}

#[pg_guard]
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn spock_manager_main(argument: pg_sys::Datum) {
    install_signal_handlers();
    manager::main(argument.value() as u64);
}

#[pg_guard]
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn spock_apply_main(argument: pg_sys::Datum) {
    install_signal_handlers();
    apply::apply_main(argument.value() as u64);
}

#[pg_guard]
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn spock_sync_main(argument: pg_sys::Datum) {
    install_signal_handlers();
    apply::sync_main(argument.value() as u64);
}

#[pg_guard]
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn spock_failover_slots_main(_argument: pg_sys::Datum) {
    install_signal_handlers();
    failover::main();
}
