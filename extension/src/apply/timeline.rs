//! From which timeline of its provider a subscription streams: remembered in `spock/timeline.SLOT` below the data directory, so
//! that a promoted standby that lacks what was applied is noticed also after it has written on. What a gap is decides
//! `spock_core::failover::timeline`.
//!
//! # Invariants
//! 1. The file names a timeline before anything of it is applied.
//! 2. It is a safeguard: without it (a fresh copy of the server) a subscription goes on.

use crate::error::Report;
use crate::pg::conn::{ConnError, Connection};
use crate::pg::process;
use crate::pg::raise;
use pgrx::PgSqlErrorCode;
use spock_core::failover::timeline::{Gap, find_gap, parse_history};
use spock_core::types::Lsn;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

/// What a provider says of itself.
struct Provider {
    system: String,
    timeline: u32,
    end: Option<Lsn>,
}

/// What was remembered.
struct Known {
    system: String,
    timeline: u32,
}

fn path(slot: &str) -> PathBuf {
    process::data_directory().join("spock").join(format!("timeline.{slot}"))
}

/// Asks the provider who it is, refuses to go on when it lacks what was applied, and remembers its timeline. `slot` is the
/// subscription's, `applied` how far it is.
pub fn check(connection: &mut Connection, slot: &str, applied: Option<Lsn>) -> Result<(), ConnError> {
    let rows = connection.query("IDENTIFY_SYSTEM", &[])?;
    let odd = || ConnError::Unexpected("the answer to IDENTIFY_SYSTEM is not complete");
    let provider = Provider {
        system: rows.get(0, 0).ok_or_else(odd)?.to_owned(),
        timeline: rows.get(0, 1).and_then(|text| text.parse().ok()).ok_or_else(odd)?,
        end: rows.get(0, 2).and_then(|text| text.parse().ok()),
    };
    let known = load(slot).filter(|known| known.system == provider.system).map(|known| known.timeline);
    let history = match known {
        Some(timeline) if timeline != provider.timeline && provider.timeline > 1 => {
            let rows = connection.query(&format!("TIMELINE_HISTORY {}", provider.timeline), &[])?;
            parse_history(rows.get(0, 1).unwrap_or_default())
        }
        _ => Vec::new(),
    };
    if let Some(gap) = find_gap(applied, known, provider.timeline, provider.end, &history) {
        lacks(applied, gap).raise();
    }
    if known != Some(provider.timeline)
        && let Err(error) = save(slot, &provider)
    {
        raise::warn(format!("could not write spock/timeline.{slot}: {error}"));
    }
    Ok(())
}

fn lacks(applied: Option<Lsn>, gap: Gap) -> Report {
    let applied = applied.map_or_else(String::new, |lsn| lsn.to_string());
    let detail = match gap {
        Gap::Behind { end } => format!("Changes up to {applied} were applied, the provider's WAL ends at {end}."),
        Gap::Left { at } => {
            format!("Changes up to {applied} were applied, the provider was promoted when it had WAL up to {at}.")
        }
    };
    Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "the provider lacks changes that this subscription has applied from the server before it",
    )
    .detail(detail)
    .hint(
        "A standby that was behind the subscriber was promoted. Compare the data of both nodes, then drop the subscription \
         and create it again. \"spock.pg_standby_slot_names\" (from 18 on \"synchronized_standby_slots\") prevents this.",
    )
}

fn load(slot: &str) -> Option<Known> {
    let text = match fs::read_to_string(path(slot)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            raise::warn(format!("could not read spock/timeline.{slot}: {error}"));
            return None;
        }
    };
    let (system, timeline) = text.trim().split_once(' ')?;
    Some(Known { system: system.to_owned(), timeline: timeline.parse().ok()? })
}

/// Written whole to a temporary name, synced, renamed.
fn save(slot: &str, provider: &Provider) -> io::Result<()> {
    let target = path(slot);
    let temporary = target.with_file_name(format!("timeline.{slot}.tmp"));
    let folder = target.parent().unwrap_or(&target);
    fs::create_dir_all(folder)?;
    let mut file = File::create(&temporary)?;
    writeln!(file, "{} {}", provider.system, provider.timeline)?;
    file.sync_all()?;
    fs::rename(&temporary, &target)?;
    File::open(folder)?.sync_all()
}

/// A new slot begins a new life: what was known of an older one of the same name is void.
pub fn forget(slot: &str) {
    match fs::remove_file(path(slot)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            raise::warn(format!("could not remove spock/timeline.{slot}: {error}"));
        }
        _ => {}
    }
}
