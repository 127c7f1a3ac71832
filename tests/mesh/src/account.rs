//! The account that servers run as. PostgreSQL refuses root; anybody else runs servers as himself.

use std::process::Command;

use nix::unistd::{Uid, User, geteuid};

use crate::error::MeshError;

/// Made when a machine has neither of the usual accounts.
const OWN_ACCOUNT: &str = "spock-test";

/// An unprivileged account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name in the passwd database.
    pub name: String,
    /// User id, never 0.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

impl Account {
    /// The account to switch to: none when this process is not root, else `postgres`, `nobody` or `spock-test`.
    pub fn for_servers() -> Result<Option<Self>, MeshError> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        for name in ["postgres", "nobody", OWN_ACCOUNT] {
            if let Some(account) = Self::named(name)? {
                return Ok(Some(account));
            }
        }
        create(OWN_ACCOUNT)?;
        match Self::named(OWN_ACCOUNT)? {
            Some(account) => Ok(Some(account)),
            None => Err(MeshError::Account(format!("useradd did not create {OWN_ACCOUNT}"))),
        }
    }

    fn named(name: &str) -> Result<Option<Self>, MeshError> {
        let found = User::from_name(name).map_err(|e| MeshError::Account(format!("look up {name}: {e}")))?;
        Ok(found.filter(|user| user.uid != Uid::from_raw(0)).map(|user| Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }))
    }
}

fn create(name: &str) -> Result<(), MeshError> {
    let made = Command::new("useradd").args(["--system", "--no-create-home", "--shell", "/bin/sh", name]).output();
    match made {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(MeshError::Account(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Err(e) => Err(MeshError::Account(format!("useradd: {e}"))),
    }
}
