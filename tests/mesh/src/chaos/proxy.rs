//! A line between two nodes that can be broken, or carry nothing: a socket in a directory of its own, through which one
//! subscriber reaches one provider.
//!
//! **Invariant:** a line that is broken has no connection left, at whatever byte of the stream, and takes no new one.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::MeshError;
use crate::node::Node;

/// How much is handed on at once: small, so that breaking a line cuts messages in the middle.
const PIECE_BYTES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Broken,
    Stalled,
    Closed,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    live: Mutex<Vec<UnixStream>>,
}

/// The way from one subscriber to one provider.
pub struct Line {
    shared: Arc<Shared>,
    directory: PathBuf,
    port: u16,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// Opens a line to `provider` whose socket is in `directory`, which is made.
    pub fn open(provider: &Node, directory: &Path) -> Result<Self, MeshError> {
        fs::create_dir(directory).map_err(MeshError::io("make", directory))?;
        let name = format!(".s.PGSQL.{}", provider.port());
        let (from, to) = (directory.join(&name), provider.dir().join(&name));
        let listener = UnixListener::bind(&from).map_err(MeshError::io("listen at", &from))?;
        // Servers run as another account.
        for (path, mode) in [(directory, 0o755), (from.as_path(), 0o777)] {
            let rights = fs::Permissions::from_mode(mode);
            fs::set_permissions(path, rights).map_err(MeshError::io("open to all", path))?;
        }
        let shared =
            Arc::new(Shared { state: Mutex::new(State::Whole), changed: Condvar::new(), live: Mutex::new(Vec::new()) });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &to, &theirs));
        Ok(Self { shared, directory: directory.to_owned(), port: provider.port() })
    }

    /// The connection string of the provider by way of this line.
    pub fn dsn(&self) -> String {
        format!("host={} port={} user=postgres dbname=postgres", self.directory.display(), self.port)
    }

    /// Breaks all connections and refuses new ones.
    pub fn cut(&self) {
        self.shared.turn(State::Broken);
    }

    /// Lets connections stand, with nothing going through.
    pub fn stall(&self) {
        self.shared.turn(State::Stalled);
    }

    /// Makes the line whole.
    pub fn heal(&self) {
        self.shared.turn(State::Whole);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.turn(State::Closed);
        // Wakes the thread that accepts; when it is gone already there is nobody to wake.
        drop(UnixStream::connect(self.directory.join(format!(".s.PGSQL.{}", self.port))));
    }
}

impl Shared {
    fn turn(&self, to: State) {
        *lock(&self.state) = to;
        self.changed.notify_all();
        if matches!(to, State::Broken | State::Closed) {
            for stream in lock(&self.live).drain(..) {
                hang_up(&stream);
            }
        }
    }

    /// Waits while the line is stalled; false when it is broken.
    fn passes(&self) -> bool {
        let mut state = lock(&self.state);
        while *state == State::Stalled {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        *state == State::Whole
    }
}

/// A stream that the other side has closed already is as good.
fn hang_up(stream: &UnixStream) {
    drop(stream.shutdown(Shutdown::Both));
}

fn accept(listener: &UnixListener, to: &Path, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let state = *lock(&shared.state);
        match (state, stream) {
            (State::Closed, _) | (_, Err(_)) => return,
            (State::Broken, Ok(stream)) => hang_up(&stream),
            (State::Whole | State::Stalled, Ok(stream)) => match connect(stream, to, shared) {
                Ok(()) => {}
                // The provider is down: the subscriber sees its connection closed.
                Err(_refused) => {}
            },
        }
    }
}

fn connect(subscriber: UnixStream, to: &Path, shared: &Arc<Shared>) -> io::Result<()> {
    let provider = UnixStream::connect(to)?;
    {
        let mut live = lock(&shared.live);
        // Ended ones go with each new one.
        live.retain(|stream| stream.peer_addr().is_ok());
        live.extend([subscriber.try_clone()?, provider.try_clone()?]);
    }
    // A cut between the look at the state and here would have missed these two.
    if matches!(*lock(&shared.state), State::Broken | State::Closed) {
        hang_up(&subscriber);
        hang_up(&provider);
        return Ok(());
    }
    for (from, to) in [(subscriber.try_clone()?, provider.try_clone()?), (provider, subscriber)] {
        let shared = Arc::clone(shared);
        thread::spawn(move || carry(from, to, &shared));
    }
    Ok(())
}

fn carry(mut from: UnixStream, mut to: UnixStream, shared: &Shared) {
    let mut piece = [0; PIECE_BYTES];
    loop {
        match from.read(&mut piece) {
            Ok(count) if count > 0 && shared.passes() && to.write_all(&piece[..count]).is_ok() => {}
            _ => break,
        }
    }
    hang_up(&from);
    hang_up(&to);
}
