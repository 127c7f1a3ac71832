//! What the server's configuration must have before anything of ours can work. Checked once, while the postmaster loads the
//! library, so that a wrong configuration is told at start and not by a worker at night.

use pgrx::PgSqlErrorCode;

use crate::error::OrRaise as _;
use crate::error::Report;
use crate::pg::raise::{Level, log};
use crate::pg::server::{self, StartSettings};

/// The error of a session that loads the library on its own.
pub fn not_preloaded() -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "spock is not in \"shared_preload_libraries\"",
    )
    .hint("Put \"shared_preload_libraries = 'spock'\" into postgresql.conf and restart the server.")
}

/// Every requirement that is not met: what is wrong, and the line that mends it.
fn unmet(settings: &StartSettings) -> Vec<(&'static str, &'static str)> {
    let rules = [
        (settings.wal_is_logical, "\"wal_level\" is not \"logical\"", "wal_level = logical"),
        (settings.commit_timestamps, "\"track_commit_timestamp\" is off", "track_commit_timestamp = on"),
        (settings.worker_processes > 0, "\"max_worker_processes\" is 0", "max_worker_processes = 16"),
        (settings.replication_slots > 0, "\"max_replication_slots\" is 0", "max_replication_slots = 16"),
        (settings.wal_senders > 0, "\"max_wal_senders\" is 0", "max_wal_senders = 16"),
    ];
    rules.into_iter().filter(|(met, ..)| !met).map(|(_, wrong, line)| (wrong, line)).collect()
}

fn refusal(settings: &StartSettings) -> Result<(), Report> {
    let unmet = unmet(settings);
    if unmet.is_empty() {
        return Ok(());
    }
    let wrong: Vec<_> = unmet.iter().map(|(wrong, _)| *wrong).collect();
    let lines: Vec<_> = unmet.iter().map(|(_, line)| format!("\"{line}\"")).collect();
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("spock cannot work with this configuration: {}", wrong.join(", ")),
    )
    .hint(format!("Put {} into postgresql.conf and restart the server.", lines.join(" and "))))
}

/// What to tell an administrator whose server refuses our output plugin.
pub const ALLOW_OUTPUT_PLUGIN: &str = "Put \"output_plugin_libraries = 'pgoutput, test_decoding, spock_output'\" into postgresql.conf and reload the server.";

/// Raises when something is missing without which nothing works; warns about what only keeps others from subscribing.
pub fn check() {
    refusal(&server::start_settings()).or_raise();
    if server::output_plugin_allowed() == Some(false) {
        let report = Report::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            "\"output_plugin_libraries\" does not list \"spock_output\": no node can subscribe to this one",
        );
        log(Level::Warning, &report.hint(ALLOW_OUTPUT_PLUGIN));
    }
}
