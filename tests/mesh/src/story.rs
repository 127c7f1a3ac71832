//! The verbs of one node in a story. They panic: in a test a failed statement is a failed test, and the mesh leaves a
//! bundle when it is dropped by a panic.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::MeshError;
use crate::node::{Node, Stop};
use crate::prefix::{Prefix, ServerKind};
use crate::process;
use crate::session::SqlError;
use crate::topology::literal;
use crate::wait::{Deadline, Probe, wait_until};

/// The installation under test.
pub const PREFIX_VARIABLE: &str = "SPOCK_TEST_PREFIX";
/// `patched` or `stock`: what the server under test is.
pub const SERVER_VARIABLE: &str = "SPOCK_TEST_SERVER";

/// The installation that `SPOCK_TEST_PREFIX` names.
#[track_caller]
pub fn prefix_under_test() -> Arc<Prefix> {
    let path = std::env::var_os(PREFIX_VARIABLE).map(PathBuf::from);
    let path = path.unwrap_or_else(|| {
        panic!(
            "{PREFIX_VARIABLE} is not set. Run `cargo xtask test --pg 17`, or set it to an installed server's directory"
        )
    });
    Arc::new(Prefix::open(&path).unwrap_or_else(|error| panic!("{PREFIX_VARIABLE}: {error}")))
}

/// Is the server under test a patched one? `SPOCK_TEST_SERVER` says so; without it, it is taken to be a stock one.
#[track_caller]
pub fn server_under_test() -> ServerKind {
    match std::env::var(SERVER_VARIABLE).as_deref() {
        Ok("patched") => ServerKind::Patched,
        Ok("stock") | Err(_) => ServerKind::Stock,
        Ok(other) => panic!("{SERVER_VARIABLE} is {other:?}, it can be patched or stock"),
    }
}

/// Says that a story cannot run here. Goes past the test framework's capture, so that the runner can count it.
pub fn skipped(name: &str, reason: &str) {
    let line = format!("\nSKIPPED {name}: {reason}\n");
    if let Err(error) = std::io::stdout().lock().write_all(line.as_bytes()) {
        eprintln!("could not report a skipped story: {error}");
    }
}

/// Turns a failure into a failed test.
#[track_caller]
pub fn must<T>(result: Result<T, MeshError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

impl Node {
    /// Runs statements that must succeed.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> &Self {
        must(self.execute(sql));
        self
    }

    /// The rows of a query: columns separated by `|`, rows by line ends, NULL as nothing.
    #[track_caller]
    pub fn query_one(&self, sql: &str) -> String {
        must(self.execute(sql)).to_string()
    }

    /// Asserts what a query gives.
    #[track_caller]
    pub fn reads(&self, sql: &str, expected: &str) -> &Self {
        let got = self.query_one(sql);
        assert_eq!(got, expected, "{} reads: {sql}", self.name());
        self
    }

    /// Waits until a query gives `expected`: for what workers do on their own.
    #[track_caller]
    pub fn comes_to_read(&self, sql: &str, expected: &str) -> &Self {
        let what = format!("{} to read {expected:?} from: {sql}", self.name());
        must(wait_until(Deadline::story(), &what, || {
            let got = self.execute(sql)?.to_string();
            Ok(if got == expected { Probe::Ready(()) } else { Probe::NotYet(format!("{got:?}")) })
        }));
        self
    }

    /// Vacuums a table until no dead row of it or of its large values is left: what another process has just begun to read, or
    /// has not counted yet, keeps some for a moment.
    #[track_caller]
    pub fn vacuum(&self, table: &str) -> &Self {
        let dead = format!(
            "select sum(n_dead_tup) from pg_stat_all_tables where relid in
             (select unnest(array[oid, reltoastrelid]) from pg_class where oid = {}::regclass)",
            literal(table)
        );
        must(wait_until(Deadline::story(), &format!("vacuum to leave nothing dead in {table}"), || {
            self.execute(&format!("vacuum {table}"))?;
            let left = self.execute(&dead)?.to_string();
            Ok(if left == "0" { Probe::Ready(()) } else { Probe::NotYet(left) })
        }));
        self
    }

    /// Runs statements that must fail in the server, and gives the error.
    #[track_caller]
    pub fn sql_error(&self, sql: &str) -> SqlError {
        match self.execute(sql) {
            Err(MeshError::Sql { error, .. }) => *error,
            Err(other) => panic!("{other}"),
            Ok(rows) => panic!("{}: this was to fail, but it gave {:?}: {sql}", self.name(), rows.to_string()),
        }
    }

    /// Runs statements that make the server replace a subscription's worker, and waits until the new one streams: until then the
    /// old one may go on for a moment, and it counts as running.
    #[track_caller]
    pub fn with_new_worker(&self, subscription: &str, sql: &str) -> &Self {
        let name = literal(subscription);
        let before = self.query_one(&format!("select worker_pid from spock.sub_worker_status({name})"));
        self.sql(sql);
        let ask = format!("select status, worker_pid <> {before} from spock.sub_worker_status({name})");
        self.comes_to_read(&ask, "running|t")
    }

    /// Waits until a line of the log holds `text`.
    #[track_caller]
    pub fn comes_to_log(&self, text: &str) {
        must(wait_until(Deadline::story(), &format!("{} to log {text:?}", self.name()), || {
            let log = self.log();
            Ok(if log.contains(text) { Probe::Ready(()) } else { Probe::NotYet(process::last_lines(&log, 5)) })
        }));
    }

    /// SIGKILL to the one process whose `backend_type` begins with `kind`, and waits until the server has started
    /// itself again (it does so whenever a process with access to shared memory dies).
    #[track_caller]
    pub fn kill_worker(&self, kind: &str) {
        let ask = format!("select pid from pg_stat_activity where starts_with(backend_type, {})", literal(kind));
        let pids = self.query_one(&ask);
        let pid: u32 =
            pids.parse().unwrap_or_else(|_| panic!("{}: one {kind:?} was wanted, got {pids:?}", self.name()));
        let restarts = || self.log().matches("all server processes terminated; reinitializing").count();
        let before = restarts();
        must(process::signal(pid, nix::sys::signal::Signal::SIGKILL));
        must(wait_until(Deadline::story(), &format!("{} to restart its processes", self.name()), || {
            Ok(if restarts() > before { Probe::Ready(()) } else { Probe::NotYet(format!("killed {pid}")) })
        }));
        must(self.wait_until_up());
    }

    /// SIGSTOP to the process behind the connection of that `application_name`: it stays there and says nothing.
    #[track_caller]
    pub fn freeze_sender(&self, application_name: &str) -> u32 {
        let ask = format!("select pid from pg_stat_replication where application_name = {}", literal(application_name));
        let pids = self.query_one(&ask);
        let pid = pids.parse().unwrap_or_else(|_| panic!("{}: one sender was wanted, got {pids:?}", self.name()));
        must(process::signal(pid, nix::sys::signal::Signal::SIGSTOP));
        pid
    }

    /// SIGSTOP to the server's first process: nobody is let in, and what was connected stays.
    #[track_caller]
    pub fn freeze_server(&self) -> u32 {
        let pid = self.pid().unwrap_or_else(|| panic!("{} does not run", self.name()));
        must(process::signal(pid, nix::sys::signal::Signal::SIGSTOP));
        pid
    }

    /// SIGCONT to such a process.
    #[track_caller]
    pub fn thaw(&self, pid: u32) {
        must(process::signal(pid, nix::sys::signal::Signal::SIGCONT));
    }

    /// SIGKILL to all processes of the server; it stays down.
    #[track_caller]
    pub fn kill(&self) {
        must(self.stop(Stop::Kill));
    }

    /// Starts a stopped or killed server.
    #[track_caller]
    pub fn start_again(&self) {
        must(self.start());
    }

    /// Makes a primary of a standby, and waits until it takes writes.
    #[track_caller]
    pub fn promote(&self) {
        self.sql("select pg_promote(false)");
        self.comes_to_read("select pg_is_in_recovery()", "f");
    }

    /// Stops the server as an operator would, and starts it again.
    #[track_caller]
    pub fn restart_fast(&self) {
        must(self.restart(Stop::Fast));
    }
}
