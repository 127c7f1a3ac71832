//! One server: its directory, settings, process and a connection to it.
//!
//! **Invariants.** The directory belongs to the servers' account. The process is ours: it is ended by its id when the
//! node is dropped. A node can be stopped, killed and started again; its name, port and directory stay.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::Signal;

use crate::error::MeshError;
use crate::prefix::Prefix;
use crate::process;
use crate::session::{Failure, Rows, Session};
use crate::wait::{Deadline, Probe, wait_until};

/// A server that does not answer or end within this time is broken: recovery after a kill takes a second or two.
const START_STOP_LIMIT_S: u64 = 60;
/// A setting of ours that the server only carries.
const WRITTEN: &str = "mesh.written";
/// Where Debian puts the library that moves a process's clock; other distributions differ in the directory only.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];

/// The wall clock that a server sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Clock {
    #[default]
    Real,
    /// Seconds ahead (or behind) of the real one, going on.
    Moved(i64),
    /// Standing still at a time in UTC, `YYYY-MM-DD HH:MM:SS`.
    Frozen(String),
}

impl Clock {
    /// What libfaketime is told.
    fn faketime(&self) -> Option<String> {
        match self {
            Self::Real => None,
            Self::Moved(offset_s) => Some(format!("{offset_s:+}")),
            Self::Frozen(at) => Some(at.clone()),
        }
    }
}

/// How to end a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT: sessions are ended, a checkpoint is written.
    Fast,
    /// SIGQUIT: no checkpoint; the next start recovers.
    Immediate,
    /// SIGKILL to the server and all its processes at once.
    Kill,
}

/// What a node is made with.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// Also listen on 127.0.0.1, for people with clients that know no sockets.
    pub loopback: bool,
    /// Settings on top of, or instead of, the usual ones.
    pub settings: Vec<(String, String)>,
}

/// A server with a data directory of its own.
pub struct Node {
    name: String,
    prefix: Arc<Prefix>,
    dir: PathBuf,
    port: u16,
    options: NodeOptions,
    settings: Mutex<BTreeMap<String, String>>,
    /// How often they were written: in the file, so that a session can tell which of them it has.
    written: AtomicU64,
    clock: Mutex<Clock>,
    stays: AtomicBool,
    child: Mutex<Option<Child>>,
    session: Mutex<Option<Session>>,
}

/// A test that panicked while holding a lock has failed anyway; its clean-up must go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// Makes the data directory below `dir` and writes the settings; does not start the server.
    pub fn create(prefix: &Arc<Prefix>, name: &str, dir: &Path, options: NodeOptions) -> Result<Self, MeshError> {
        fs::create_dir_all(dir).map_err(MeshError::io("make", dir))?;
        give_to_servers(prefix, dir)?;
        let node = Self::stopped(prefix, name, dir, options)?;
        let mut initdb = prefix.command("initdb");
        initdb.arg("-D").arg(node.data()).args(["-U", "postgres", "-A", "trust", "-N", "--no-instructions"]);
        process::output_of(initdb.args(["-E", "UTF8", "--locale=C"]))?;
        node.append("data/postgresql.conf", "include 'mesh.conf'\n")?;
        node.write_settings()?;
        Ok(node)
    }

    fn stopped(prefix: &Arc<Prefix>, name: &str, dir: &Path, options: NodeOptions) -> Result<Self, MeshError> {
        let mut settings = usual_settings(prefix);
        settings.extend(options.settings.iter().cloned());
        Ok(Self {
            name: name.to_owned(),
            prefix: Arc::clone(prefix),
            dir: dir.to_owned(),
            port: free_port()?,
            options,
            settings: Mutex::new(settings),
            written: AtomicU64::new(0),
            clock: Mutex::new(Clock::Real),
            stays: AtomicBool::new(false),
            child: Mutex::new(None),
            session: Mutex::new(None),
        })
    }

    /// Makes a standby of `primary`, which runs, in `dir`, with a slot of its own on the primary; does not start it. Its
    /// settings are the primary's, what a standby needs, and those in `settings`.
    pub fn create_standby(
        primary: &Self,
        name: &str,
        dir: &Path,
        settings: &[(String, String)],
    ) -> Result<Self, MeshError> {
        fs::create_dir_all(dir).map_err(MeshError::io("make", dir))?;
        give_to_servers(&primary.prefix, dir)?;
        let slot = standby_slot(name);
        let mut options = primary.options.clone();
        let conninfo = format!("{} application_name={name}", primary.dsn());
        let own =
            [("primary_conninfo", conninfo.as_str()), ("primary_slot_name", &slot), ("hot_standby_feedback", "on")];
        options.settings.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
        options.settings.push(("wal_receiver_status_interval".into(), "1s".into()));
        options.settings.extend(settings.iter().cloned());
        let node = Self::stopped(&primary.prefix, name, dir, options)?;
        let mut backup = primary.prefix.command("pg_basebackup");
        backup.args(["-X", "stream", "-c", "fast", "-N", "-C", "-S", &slot, "-d", &primary.dsn(), "-D"]);
        process::output_of(backup.arg(node.data()))?;
        let signal = node.data().join("standby.signal");
        File::create(&signal).map_err(MeshError::io("make", &signal))?;
        node.write_settings()?;
        Ok(node)
    }

    /// Its name, also as a node of the mesh.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its port, on the socket and on loopback alike.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The installation that it runs.
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// The directory of its socket, log and data.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The server's log.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The log's text so far.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// A connection string with which other nodes reach this one.
    pub fn dsn(&self) -> String {
        format!("host={} port={} user=postgres dbname=postgres", self.dir.display(), self.port)
    }

    /// Sets one parameter; takes effect with [`Node::reload`] or the next start.
    pub fn set(&self, name: &str, value: &str) -> Result<(), MeshError> {
        lock(&self.settings).insert(name.to_owned(), value.to_owned());
        self.write_settings().map(|_| ())
    }

    /// Leaves one parameter to the server's default.
    pub fn unset(&self, name: &str) -> Result<(), MeshError> {
        lock(&self.settings).remove(name);
        self.write_settings().map(|_| ())
    }

    /// Moves the clock that the server will see from its next start on; 0 gives it the real one back. `false` when this
    /// machine has no libfaketime.
    pub fn move_clock(&self, offset_s: i64) -> bool {
        *lock(&self.clock) = if offset_s == 0 { Clock::Real } else { Clock::Moved(offset_s) };
        offset_s == 0 || faketime().is_some()
    }

    /// Lets the clock that the server will see from its next start on stand still at a time in UTC, given as
    /// `YYYY-MM-DD HH:MM:SS`. `false` when this machine has no libfaketime.
    pub fn freeze_clock(&self, at: &str) -> bool {
        *lock(&self.clock) = Clock::Frozen(at.to_owned());
        faketime().is_some()
    }

    /// Starts the server and waits until it takes connections.
    pub fn start(&self) -> Result<(), MeshError> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.map_err(MeshError::io("open", &self.log_path()))?;
        let again = log.try_clone().map_err(MeshError::io("open", &self.log_path()))?;
        let stays = self.stays.load(Ordering::Relaxed);
        let wrapper = if stays { &[] } else { process::dies_with_us() };
        let mut command = self.prefix.wrapped(wrapper, "postgres");
        command.arg("-D").arg(self.data()).stdout(Stdio::from(log)).stderr(Stdio::from(again));
        if stays {
            // Ctrl-C in the terminal is for us, not for a server that is to stay.
            command.process_group(0);
        }
        if let (Some(clock), Some(library)) = (lock(&self.clock).faketime(), faketime()) {
            // Only the wall clock moves: time-outs of the server run on the monotonic one.
            command.env("LD_PRELOAD", library).env("FAKETIME", clock).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let line = process::command_line(&command);
        let child =
            process::spawn(command).map_err(|source| MeshError::Io { what: format!("start `{line}`"), source })?;
        *lock(&self.child) = Some(child);
        self.wait_ready(&line)
    }

    /// Waits until the running server takes connections, also after a crash of one of its processes.
    pub fn wait_until_up(&self) -> Result<(), MeshError> {
        self.wait_ready("postgres")
    }

    fn wait_ready(&self, line: &str) -> Result<(), MeshError> {
        let what = format!("{} to take connections", self.name);
        wait_until(Deadline::in_seconds(START_STOP_LIMIT_S), &what, || {
            if let Some(status) = self.exit_status()? {
                let tail = process::last_lines(&self.log(), 30);
                return Err(MeshError::Child { command: line.to_owned(), status, tail });
            }
            Ok(match Session::open(&self.dir, self.port, "postgres") {
                Ok(session) => {
                    *lock(&self.session) = Some(session);
                    Probe::Ready(())
                }
                Err(Failure::Sql(error)) => Probe::NotYet(error.to_string()),
                Err(Failure::Lost(why)) => Probe::NotYet(why),
            })
        })
    }

    /// How the server ended; none while it runs. A server that was never started has ended.
    fn exit_status(&self) -> Result<Option<String>, MeshError> {
        match lock(&self.child).as_mut() {
            None => Ok(Some("not started".to_owned())),
            Some(child) => {
                let status =
                    child.try_wait().map_err(|source| MeshError::Io { what: "ask for a child".into(), source })?;
                Ok(status.map(|status| status.to_string()))
            }
        }
    }

    /// Process id of the running server.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.child).as_ref().map(Child::id)
    }

    /// Ends the server and waits for its end. A server that does not run is fine.
    pub fn stop(&self, how: Stop) -> Result<(), MeshError> {
        lock(&self.session).take();
        let Some(mut child) = lock(&self.child).take() else { return Ok(()) };
        let pid = child.id();
        match how {
            Stop::Kill => return process::kill_with_children(&mut child),
            Stop::Fast => process::signal(pid, Signal::SIGINT)?,
            Stop::Immediate => process::signal(pid, Signal::SIGQUIT)?,
        }
        let what = format!("{} to stop", self.name);
        let ended = wait_until(Deadline::in_seconds(START_STOP_LIMIT_S), &what, || {
            let status = child.try_wait().map_err(|source| MeshError::Io { what: "ask for a child".into(), source })?;
            Ok(status.map_or(Probe::NotYet("still running".into()), |_| Probe::Ready(())))
        });
        if ended.is_err() {
            process::kill_with_children(&mut child)?;
        }
        ended
    }

    /// Stops and starts the server.
    pub fn restart(&self, how: Stop) -> Result<(), MeshError> {
        self.stop(how)?;
        self.start()
    }

    /// Makes the server read its configuration again, and returns once all its processes have been told: none of them takes up
    /// anything that comes later without having been told before.
    pub fn reload(&self) -> Result<(), MeshError> {
        // Processes are told one after the other. Once one has heard of the second time, all have been told the first time.
        for _ in 0..2 {
            let written = self.write_settings()?.to_string();
            self.execute("select pg_reload_conf()")?;
            let what = format!("{} to read its settings", self.name);
            wait_until(Deadline::in_seconds(START_STOP_LIMIT_S), &what, || {
                let seen = self.execute(&format!("show {WRITTEN}"))?.to_string();
                Ok(if seen == written { Probe::Ready(()) } else { Probe::NotYet(format!("{seen} of {written}")) })
            })?;
        }
        Ok(())
    }

    /// Starts the server anew so that it goes on when this process ends, and lets it be. Gives its process id.
    ///
    /// Until then it dies with us: an interrupted run leaves nothing behind.
    pub fn let_go(&self) -> Result<Option<u32>, MeshError> {
        self.stays.store(true, Ordering::Relaxed);
        self.restart(Stop::Fast)?;
        lock(&self.session).take();
        Ok(lock(&self.child).take().map(|child| child.id()))
    }

    /// Runs statements on the node's connection, which is made anew when it was lost before.
    pub fn execute(&self, sql: &str) -> Result<Rows, MeshError> {
        let mut slot = lock(&self.session);
        if slot.as_ref().is_none_or(Session::is_closed) {
            *slot = Some(self.connect("postgres")?);
        }
        let Some(session) = slot.as_mut() else { return Ok(Rows::default()) };
        let result = session.run(sql);
        if matches!(result, Err(Failure::Lost(_))) {
            *slot = None;
        }
        result.map_err(|failure| self.explain(sql, failure))
    }

    /// A further connection, for sessions that hold transactions open or run beside others.
    pub fn connect(&self, database: &str) -> Result<Session, MeshError> {
        Session::open(&self.dir, self.port, database).map_err(|failure| self.explain("connect", failure))
    }

    /// Puts the node's name and the statement to a failure.
    pub fn explain(&self, sql: &str, failure: Failure) -> MeshError {
        let node = self.name.clone();
        match failure {
            Failure::Sql(error) => {
                let statement = sql.trim().chars().take(300).collect();
                MeshError::Sql { node, statement, error: Box::new(error) }
            }
            Failure::Lost(why) => MeshError::Connection { node, why },
        }
    }

    /// Gives a file or directory that was put into the data directory to the servers' account.
    pub fn hand_over(&self, path: &Path) -> Result<(), MeshError> {
        give_to_servers(&self.prefix, path)
    }

    /// Gives how often they have been written now.
    fn write_settings(&self) -> Result<u64, MeshError> {
        let written = self.written.fetch_add(1, Ordering::Relaxed) + 1;
        let mut text = format!("{WRITTEN} = {written}\n");
        for (name, value) in lock(&self.settings).iter() {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        let listen = if self.options.loopback { "127.0.0.1" } else { "" };
        text.push_str(&format!("listen_addresses = '{listen}'\nport = {}\n", self.port));
        text.push_str(&format!("unix_socket_directories = '{}'\n", self.dir.display()));
        let path = self.data().join("mesh.conf");
        fs::write(&path, text).map_err(MeshError::io("write", &path))?;
        Ok(written)
    }

    fn append(&self, name: &str, text: &str) -> Result<(), MeshError> {
        let path = self.dir.join(name);
        let mut file: File = OpenOptions::new().append(true).open(&path).map_err(MeshError::io("open", &path))?;
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(MeshError::io("write", &path))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = self.stop(Stop::Immediate) {
            eprintln!("{}: {error}", self.name);
        }
    }
}

/// Gives a directory to the account that servers run as.
pub(crate) fn give_to_servers(prefix: &Prefix, dir: &Path) -> Result<(), MeshError> {
    match prefix.account() {
        Some(account) => chown(dir, Some(account.uid), Some(account.gid)).map_err(MeshError::io("give away", dir)),
        None => Ok(()),
    }
}

/// The library that moves a process's clock, where installed.
pub fn faketime() -> Option<&'static str> {
    FAKETIME.into_iter().find(|path| Path::new(path).is_file())
}

/// Name of the slot that a standby has on its primary.
pub fn standby_slot(name: &str) -> String {
    format!("standby_{name}")
}

fn free_port() -> Result<u16, MeshError> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|source| MeshError::Io { what: "find a free port".into(), source })
}

/// What every node needs, and small: a test machine runs several servers at once.
fn usual_settings(prefix: &Prefix) -> BTreeMap<String, String> {
    let mut settings: BTreeMap<String, String> = [
        ("wal_level", "logical"),
        ("track_commit_timestamp", "on"),
        ("shared_preload_libraries", "spock"),
        ("max_worker_processes", "32"),
        ("max_wal_senders", "20"),
        ("max_replication_slots", "20"),
        ("max_connections", "50"),
        ("shared_buffers", "32MB"),
        // The operating system survives every test, so the page cache does as well.
        ("fsync", "off"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("log_line_prefix", "%m [%p] %b %q%a: "),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    if prefix.lists_output_plugins() {
        settings.insert("output_plugin_libraries".into(), "pgoutput, test_decoding, spock_output".into());
    }
    settings
}
