//! For how long an answer of the peer is waited for.
//!
//! A server that stands still keeps its connections: the kernel of its machine acknowledges what it is sent. So a silence ends
//! after `spock.apply_idle_timeout`; where an answer may take longer, then only if the server does not let anybody in either.

use super::{ConnError, Connection, Purpose};
use crate::catalog::dsn::Dsn;
use crate::settings;
use std::time::{Duration, Instant};

/// A server that lets nobody in for so long stands still.
const PROBE_DEADLINE: Duration = Duration::from_secs(15);
/// How such connections are seen on the peer.
const PROBE: &str = "spock_probe";
/// One wait without a limit; only bounds how long a missed wake could last.
const SLICE: Duration = Duration::from_secs(60);

/// What a connection does when its peer is silent.
pub struct Patience {
    /// A silence of this length is looked into; `None`: none is.
    limit: Option<Duration>,
    /// Who is asked then whether the server lives; `None`: the limit is the end.
    probed: Option<Dsn>,
}

impl Patience {
    /// The peer answers at once, or is taken to be gone.
    pub(super) fn short() -> Self {
        let limit = Duration::from_secs(u64::from(settings::apply_idle_timeout_s()));
        Self { limit: Some(limit).filter(|limit| !limit.is_zero()), probed: None }
    }

    /// The same, with another limit. `None`: as before.
    pub(super) fn within(limit: Option<Duration>) -> Self {
        limit.map_or_else(Self::short, |limit| Self { limit: Some(limit), probed: None })
    }

    /// The peer may have to work or to wait before it answers.
    pub fn long(peer: Dsn) -> Self {
        Self { probed: Some(peer), ..Self::short() }
    }

    /// How long to wait now, when nothing has come since `heard_at`.
    pub(super) fn slice(&self, heard_at: Instant) -> Duration {
        self.limit.map_or(SLICE, |limit| limit.saturating_sub(heard_at.elapsed()).min(SLICE))
    }

    /// Fails when nothing has come for too long. What came last came at `heard_at`; a server that lives counts as heard now.
    ///
    /// # Errors
    /// [`ConnError::Silent`].
    pub fn check(&self, heard_at: &mut Instant) -> Result<(), ConnError> {
        let Some(limit) = self.limit.filter(|limit| heard_at.elapsed() >= *limit) else { return Ok(()) };
        if let Some(peer) = &self.probed {
            let purpose = Purpose { application_name: PROBE, replication: false };
            // An error is an answer too.
            if !matches!(Connection::connect(peer, purpose, PROBE_DEADLINE), Err(ConnError::Deadline(_))) {
                *heard_at = Instant::now();
                return Ok(());
            }
        }
        Err(ConnError::Silent(limit))
    }
}
