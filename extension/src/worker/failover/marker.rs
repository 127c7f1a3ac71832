//! `spock/failover_slots` below the data directory: names of the slots that the worker has made, one a line. Without it a
//! restart could not tell them from slots that a user made.
//!
//! # Invariants
//! 1. A name is in the file before its slot is on disk, and leaves it after the slot is gone.
//! 2. Written whole to a temporary name, synced, renamed: a reader sees the old file or the new one.

use crate::pg::process;
use crate::pg::raise;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

/// How messages name the file.
pub const SHOWN: &str = "spock/failover_slots";

/// Names of the slots that the worker has made.
#[derive(Debug, Default)]
pub struct Marker(BTreeSet<String>);

fn path() -> PathBuf {
    process::data_directory().join("spock").join("failover_slots")
}

impl Marker {
    /// What the file says; nothing without it.
    pub fn load() -> Self {
        match fs::read_to_string(path()) {
            Ok(text) => Self(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::default(),
            Err(error) => {
                raise::warn(format!("could not read {SHOWN}, slots of an earlier run are left alone: {error}"));
                Self::default()
            }
        }
    }

    /// Whether the worker has made the slot.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Adds a name.
    pub fn add(&mut self, name: &str) {
        self.0.insert(name.to_owned());
    }

    /// Takes a name off. Returns whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name)
    }

    /// Keeps the names that `keep` wants. Returns whether any went.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|name| keep(name));
        self.0.len() != before
    }

    /// Writes the file.
    pub fn save(&self) -> io::Result<()> {
        let target = path();
        let temporary = target.with_extension("tmp");
        let folder = target.parent().unwrap_or(&target);
        fs::create_dir_all(folder)?;
        let mut file = File::create(&temporary)?;
        for name in &self.0 {
            writeln!(file, "{name}")?;
        }
        file.sync_all()?;
        fs::rename(&temporary, &target)?;
        File::open(folder)?.sync_all()
    }
}

/// Removes the file: the server is no standby, its slots are its own.
pub fn remove() -> io::Result<()> {
    match fs::remove_file(path()) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
