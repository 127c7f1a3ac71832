//! The provider's schema: dumped under the snapshot of the slot, made here in two sections. Runs the server's own programs.
//!
//! # Invariants
//! 1. A section and the state that says that it is here are one transaction, so an interrupted one leaves nothing.
//! 2. The dump is kept in a private directory until the second section is here: a worker that starts anew goes on with it.
//! 3. Names are handed to `pg_dump` as literal patterns.

use crate::catalog::query::select;
use crate::catalog::topology::Subscription;
use crate::error::Report;
use crate::pg::child::{Program, Run};
use crate::pg::conn::for_program;
use crate::pg::scope::Txn;
use crate::pg::{process, server};
use crate::settings;
use pgrx::PgSqlErrorCode;
use spock_core::names;
use spock_core::sync::SyncState;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// First version whose `pg_dump` can leave extensions out.
const EXCLUDES_EXTENSIONS: i32 = 170_000;

/// The extension must not take what is restored for commands of a user.
const RESTORING: &str = "-c spock.subscription_schema_restore=on";

/// A part of the dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Everything that rows need.
    PreData,
    /// Indexes, constraints, triggers.
    PostData,
}

impl Section {
    const fn name(self) -> &'static str {
        match self {
            Self::PreData => "pre-data",
            Self::PostData => "post-data",
        }
    }
}

/// Whether the programs that a copy of the structure needs are there: asked before a subscription is made.
pub fn check_programs() -> Result<(), Report> {
    ["pg_dump", "pg_restore", "psql"].into_iter().try_for_each(|name| Program::find(name).map(|_| ()))
}

/// The private directory of one subscription's copy.
pub struct Workspace {
    directory: PathBuf,
}

fn unusable(what: &Path, why: impl core::fmt::Display) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_IO_ERROR, "could not use the directory for the structure of the provider")
        .detail(format!("{}: {why}.", what.display()))
        .hint("See \"spock.temp_directory\".")
}

impl Workspace {
    /// Makes the directory, or takes the one that an interrupted attempt has left.
    pub fn open(subscription: &Subscription) -> Result<Self, Report> {
        let parent = settings::temp_directory().unwrap_or_else(|| process::data_directory().join("spock"));
        let name =
            format!("sync_{:x}_{}_{}", server::system_identifier(), process::own_database(), subscription.id.get());
        let directory = parent.join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|error| unusable(&directory, error))?;
        // In a shared directory somebody else could have made it before us.
        let facts = fs::symlink_metadata(&directory).map_err(|error| unusable(&directory, error))?;
        let owner = fs::metadata(process::data_directory()).map_err(|error| unusable(&directory, error))?.uid();
        if !facts.is_dir() || facts.uid() != owner || facts.permissions().mode() & 0o077 != 0 {
            return Err(unusable(&directory, "it is not a directory that only the server's user can use"));
        }
        Ok(Self { directory })
    }

    fn dump(&self) -> PathBuf {
        self.directory.join("structure.dump")
    }

    /// Whether there is a dump to go on with.
    pub fn has_dump(&self) -> bool {
        self.dump().is_file()
    }

    /// Removes everything. What cannot be removed is harmless.
    pub fn remove(self) {
        drop(fs::remove_dir_all(&self.directory));
    }

    /// Dumps the provider's structure as of `snapshot`.
    pub fn take(&self, subscription: &Subscription, snapshot: &str) -> Result<(), Report> {
        let application_name = names::application_name(&subscription.name, Some("snap"));
        let (target, password) = for_program(&subscription.origin_if.dsn, &application_name, "")?;
        let mut arguments: Vec<OsString> = vec!["--format=custom".into(), "--schema-only".into()];
        arguments.push(format!("--snapshot={snapshot}").into());
        for (name, kind) in left_out(subscription)? {
            let pattern = format!("\"{}\"", name.replace('"', "\"\""));
            match kind.as_str() {
                "schema" => arguments.push(format!("--exclude-schema={pattern}").into()),
                _ if server::pg_version_num() >= EXCLUDES_EXTENSIONS => {
                    arguments.push(format!("--exclude-extension={pattern}").into());
                }
                _ => {}
            }
        }
        // Written beside and renamed: what is there is whole.
        let part = self.directory.join("structure.part");
        arguments.push(format!("--file={}", part.display()).into());
        arguments.push(format!("--dbname={target}").into());
        let environment = password.as_deref().map(|password| ("PGPASSWORD", password)).into_iter().collect();
        let run = Run {
            arguments,
            environment,
            log: &self.directory.join("pg_dump.log"),
            peer: Some(&subscription.origin_if.dsn),
        };
        Program::find("pg_dump")?.run(&run)?;
        fs::rename(&part, self.dump()).map_err(|error| unusable(&part, error))
    }

    /// Makes `section` here and moves the subscription from `from` to `to`, in one transaction.
    pub fn restore(
        &self,
        subscription: &Subscription,
        section: Section,
        from: SyncState,
        to: SyncState,
    ) -> Result<(), Report> {
        let script = self.directory.join("section.sql");
        let run = Run {
            arguments: vec![
                format!("--section={}", section.name()).into(),
                format!("--file={}", script.display()).into(),
                self.dump().into(),
            ],
            environment: Vec::new(),
            log: &self.directory.join("pg_restore.log"),
            peer: None,
        };
        Program::find("pg_restore")?.run(&run)?;
        let state = self.directory.join("state.sql");
        fs::write(&state, state_script(subscription, from, to)).map_err(|error| unusable(&state, error))?;
        let application_name = names::application_name(&subscription.name, Some("copy"));
        let (target, password) = for_program(&subscription.target_if.dsn, &application_name, RESTORING)?;
        let arguments = ["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f"].map(OsString::from).into_iter();
        let files = [script.clone().into(), "-f".into(), state.clone().into(), "-d".into(), target.into()];
        let environment = password.as_deref().map(|password| ("PGPASSWORD", password)).into_iter().collect();
        let run = Run {
            arguments: arguments.chain(files).collect(),
            environment,
            log: &self.directory.join("psql.log"),
            peer: None,
        };
        let done = Program::find("psql")?.run(&run);
        drop((fs::remove_file(&script), fs::remove_file(&state)));
        done
    }
}

/// Schemas and extensions that are not copied: the reserved ones, and what the subscription skips.
fn left_out(subscription: &Subscription) -> Result<Vec<(String, String)>, Report> {
    let txn = Txn::begin();
    let mut names = select(
        "SELECT name::text, kind FROM spock.reserved_object WHERE exclude_from_dump ORDER BY kind, name",
        &[],
        |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?)),
    )?;
    txn.commit();
    names.extend(subscription.skip_schemas.iter().map(|name| (name.clone(), "schema".to_owned())));
    Ok(names)
}

/// Runs at the end of the section's transaction, under the local interface's user.
fn state_script(subscription: &Subscription, from: SyncState, to: SyncState) -> String {
    format!(
        "DO $state$ BEGIN
             UPDATE spock.local_sync_status SET sync_status = '{to}'
              WHERE sync_subid = {id} AND sync_nspname IS NULL AND sync_relname IS NULL AND sync_status = '{from}';
             IF NOT FOUND THEN
                 RAISE EXCEPTION 'the subscription was changed while its structure was copied';
             END IF;
         END $state$;\n",
        to = to.as_char(),
        from = from.as_char(),
        id = subscription.id.get(),
    )
}
