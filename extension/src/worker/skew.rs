//! How far the clocks of providers are apart from ours: one estimate for each provider of a database, in shared memory, so that
//! it outlives a worker. Lost with the server's memory; the next stream measures anew.

use crate::pg::shmem::{self, SharedTable, shareable};
use spock_core::skew::{self, Estimate, Notice, Skew};
use spock_core::types::{NodeId, PgTime};

/// Providers beyond `max_worker_processes`: those of dropped subscriptions stay until their place is needed.
const PLACES_MIN: usize = 64;

shareable! {
    struct Place {
        database: u32,
        /// 0: a free place.
        remote: u32,
        offset_us: i64,
        uncertainty_us: i64,
        measured_at: i64,
        /// 1: it was said that the limit is exceeded.
        outside: u32,
        unused: u32,
    }
}

static PLACES: SharedTable<Place> = SharedTable::new(c"spock_clock_skew", places_max, |_| {});

fn places_max() -> usize {
    PLACES_MIN.max(2 * shmem::max_worker_processes())
}

/// Asks for the shared memory. Only while the server preloads libraries.
pub fn reserve() {
    PLACES.reserve();
}

impl Place {
    fn is(&self, database: u32, remote: NodeId) -> bool {
        self.database == database && self.remote == remote.get()
    }

    fn skew(&self) -> Skew {
        Skew {
            offset_us: self.offset_us,
            uncertainty_us: self.uncertainty_us,
            measured_at: PgTime::from_micros(self.measured_at),
        }
    }
}

/// Notes a measurement of the clock of `remote`, and decides what is to be said about a limit in microseconds. `doubtful`: the
/// stream's last measurement, if it was not believed. Returns what is known now.
pub fn measured(database: u32, remote: NodeId, new: Skew, doubtful: Option<Skew>, limit_us: i64) -> (Estimate, Notice) {
    let mut places = PLACES.write();
    let known = places.iter().position(|place| place.is(database, remote));
    // A free place, else the one that was not measured for longest: its subscription is gone.
    let oldest = || places.iter().enumerate().min_by_key(|(_, place)| (place.remote != 0, place.measured_at));
    let before = Estimate { known: known.map(|at| places[at].skew()), doubtful };
    let estimate = before.after(new);
    let place = known.or_else(|| oldest().map(|(at, _)| at));
    let Some((now_known, at)) = estimate.known.zip(place) else { return (estimate, Notice::Nothing) };
    let place = &mut places[at];
    let outside = known.is_some() && place.outside != 0;
    let notice = skew::notice(now_known, limit_us, outside);
    *place = Place {
        database,
        remote: remote.get(),
        offset_us: now_known.offset_us,
        uncertainty_us: now_known.uncertainty_us,
        measured_at: now_known.measured_at.micros(),
        outside: match notice {
            Notice::Exceeded => 1,
            Notice::Within => 0,
            Notice::Nothing => u32::from(outside),
        },
        unused: 0,
    };
    (estimate, notice)
}

/// What is known of the providers of a database.
pub fn of_database(database: u32) -> Vec<(NodeId, Skew)> {
    let places = PLACES.read();
    let known = places.iter().filter(|place| place.database == database);
    known.filter_map(|place| Some((NodeId::new(place.remote)?, place.skew()))).collect()
}
