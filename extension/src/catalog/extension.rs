//! Which version the extension's objects in this database are of, and bringing them to another.

use super::query;
use crate::error::Report;
use crate::pg::authority::{TableLock, lock_table};

/// The version of the objects in this database. `None`: the extension is not installed.
pub fn installed_version() -> Result<Option<String>, Report> {
    query::select_one("SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'spock'", &[], |row| row.get(1))
}

/// Nobody installs, updates or drops an extension in this database until the transaction ends.
pub fn lock() -> bool {
    lock_table(c"pg_catalog", c"pg_extension", TableLock::ShareUpdateExclusive)
}

/// Runs the upgrade scripts that lead to `version`, which is one of ours and needs no quoting.
pub fn update_to(version: &str) -> Result<(), Report> {
    query::execute(&format!("ALTER EXTENSION spock UPDATE TO '{version}'"), &[]).map(|_| ())
}
