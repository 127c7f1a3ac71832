//! `spock/resource.dat` below the data directory: the groups' progress over a restart. Format of the C edition 6.0:
//! native byte order, 24 bytes of header, 72 bytes a record.
//!
//! # Invariants
//! 1. Written whole to a temporary name, synced, renamed: a reader sees the old file or the new one.
//! 2. A file of another server, of another layout or cut short is ignored with a WARNING.

use crate::pg::process;
use crate::pg::raise;
use crate::worker::progress::{ProgressKey, ProgressRow};
use spock_core::types::{Lsn, NodeId, PgTime};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

/// Layout number of the C edition 6.0.
const VERSION: u32 = 202_508_251;
const HEADER_BYTES: usize = 24;
const RECORD_BYTES: usize = 72;

fn path() -> PathBuf {
    process::data_directory().join("spock").join("resource.dat")
}

/// What was written last.
pub fn load() -> Vec<ProgressRow> {
    let bytes = match fs::read(path()) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            raise::warn(format!("could not read spock/resource.dat, progress starts anew: {error}"));
            return Vec::new();
        }
    };
    match decode(&bytes) {
        Ok(rows) => rows,
        Err(why) => {
            raise::warn(format!("spock/resource.dat is ignored, progress starts anew: {why}"));
            Vec::new()
        }
    }
}

/// Writes `rows` for the next start; on disk when it returns. Not for two processes at once.
pub fn save(rows: &[ProgressRow]) -> std::io::Result<()> {
    let target = path();
    let temporary = target.with_extension("dat.tmp");
    let folder = target.parent().unwrap_or(&target);
    fs::create_dir_all(folder)?;
    let mut file = File::create(&temporary)?;
    file.write_all(&encode(rows))?;
    file.sync_all()?;
    fs::rename(&temporary, &target)?;
    File::open(folder)?.sync_all()
}

fn encode(rows: &[ProgressRow]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + rows.len() * RECORD_BYTES);
    out.extend(VERSION.to_ne_bytes());
    out.extend([0; 4]);
    out.extend(process::system_identifier().to_ne_bytes());
    // 16 bits of flags, none defined, and two bytes of padding.
    out.extend([0; 4]);
    out.extend((rows.len() as u32).to_ne_bytes());
    for row in rows {
        let start = out.len();
        for id in [row.key.database, row.key.node.get(), row.key.remote.get(), 0] {
            out.extend(id.to_ne_bytes());
        }
        for time in [row.remote_commit_ts, row.prev_remote_ts] {
            out.extend(time.map_or(0, PgTime::micros).to_ne_bytes());
        }
        for lsn in [row.remote_commit_lsn, row.remote_insert_lsn, row.received_lsn] {
            out.extend(Lsn::raw(lsn).to_ne_bytes());
        }
        out.extend(row.last_updated_ts.map_or(0, PgTime::micros).to_ne_bytes());
        out.push(u8::from(row.updated_by_decode));
        out.resize(start + RECORD_BYTES, 0);
    }
    out
}

/// `length` bytes at `at`.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

fn decode(bytes: &[u8]) -> Result<Vec<ProgressRow>, &'static str> {
    if bytes.len() < HEADER_BYTES {
        return Err("it is too short");
    }
    if u32::from_ne_bytes(field(bytes, 0)) != VERSION {
        return Err("its version is not known");
    }
    if u64::from_ne_bytes(field(bytes, 8)) != process::system_identifier() {
        return Err("it belongs to another server");
    }
    let count = u32::from_ne_bytes(field(bytes, 20)) as usize;
    let records = &bytes[HEADER_BYTES..];
    if records.len() / RECORD_BYTES < count {
        return Err("it is cut short");
    }
    Ok(records.chunks_exact(RECORD_BYTES).take(count).filter_map(decode_record).collect())
}

fn decode_record(record: &[u8]) -> Option<ProgressRow> {
    let id = |at| u32::from_ne_bytes(field(record, at));
    let number = |at| u64::from_ne_bytes(field(record, at));
    let time = |at| Some(number(at).cast_signed()).filter(|micros| *micros != 0).map(PgTime::from_micros);
    Some(ProgressRow {
        key: ProgressKey { database: id(0), node: NodeId::new(id(4))?, remote: NodeId::new(id(8))? },
        remote_commit_ts: time(16),
        prev_remote_ts: time(24),
        remote_commit_lsn: Lsn::new(number(32)),
        remote_insert_lsn: Lsn::new(number(40)),
        received_lsn: Lsn::new(number(48)),
        last_updated_ts: time(56),
        updated_by_decode: record.get(64).is_some_and(|flag| *flag != 0),
    })
}
