//! What an upgrade and a removal do to clusters and to what systemd is to start: files of clusters stay, nothing else does.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::Checks;
use super::cases::Suite;
use super::root::Root;
use crate::exit::{Failure, Result};
use crate::files;
use crate::package::layout::Family;
use crate::package::plan::Format;
use crate::package::publish::Artefact;

/// Serves a cluster without systemd, purges packages, and looks what is left: BIN, DATADIR, packages.
const PURGE: &str = r#"set -eu
bin=$1 data=$2
shift 2
runuser -u postgres -- "$bin/pg_ctl" start -D "$data" -w -l /tmp/serving.log > /dev/null
[ -s "$data/postmaster.pid" ]
apt-get purge --yes "$@" > /dev/null
[ ! -e "$data/postmaster.pid" ] || echo "it is served still"
[ -s "$data/PG_VERSION" ] || echo "the cluster is gone"
"#;

/// Stands for systemd's program, and notes what it was asked.
const SYSTEMCTL: &str = "#!/bin/sh\nprintf '%s\\n' \"$*\" >> /systemctl.log\n";

impl Suite<'_> {
    /// The link by which systemd starts the cluster `main`, as `systemctl enable` makes it.
    fn wants(&self, family: Family) -> String {
        format!("etc/systemd/system/multi-user.target.wants/{}@main.service", self.server_name(family))
    }

    /// Makes that link by hand.
    pub(super) fn enable(&self, root: &Root, family: Family) -> Result<()> {
        let link = root.dir().join(self.wants(family));
        files::make_dir(link.parent().unwrap_or(root.dir()))?;
        let unit = format!("/usr/lib/systemd/system/{}@.service", self.server_name(family));
        symlink(unit, &link).map_err(Failure::io("make", &link))
    }

    /// Is it there?
    pub(super) fn is_enabled(&self, root: &Root, family: Family) -> bool {
        fs::symlink_metadata(root.dir().join(self.wants(family))).is_ok()
    }

    /// Fails when an upgrade has taken it away.
    pub(super) fn still_enabled(&self, root: &Root, family: Family) -> Result<()> {
        match self.is_enabled(root, family) {
            true => Ok(()),
            false => Err(Failure::failed("the upgrade has disabled the cluster", "")),
        }
    }

    /// `data` is a cluster that `beside` has made, without its leading slash.
    pub(super) fn purge_while_served(
        &self,
        root: &Root,
        checks: &mut Checks<'_>,
        packages: &[&Artefact],
        data: &str,
    ) -> Result<()> {
        checks.check("deb: removal stops a cluster, disables its unit, and keeps its files", || {
            if !self.is_enabled(root, Family::Debian) {
                self.enable(root, Family::Debian)?;
            }
            let names = packages.iter().map(|package| package.package.as_str());
            let (bin, data) = (self.bin(Family::Debian), format!("/{data}"));
            let words: Vec<&str> = ["/bin/sh", "-c", PURGE, "sh", &bin, &data].into_iter().chain(names).collect();
            let mut left = root.run(&words)?;
            if self.is_enabled(root, Family::Debian) {
                left.push_str("its unit is enabled");
            }
            if left.is_empty() { Ok(()) } else { Err(Failure::failed(left.trim().to_owned(), "")) }
        })?;
        Ok(())
    }

    /// In a root where the packages are not installed.
    pub(super) fn erase_with_systemd(&self, root: &Root, checks: &mut Checks<'_>) -> Result<()> {
        checks.check(
            "rpm: removal stops the units of clusters, disables them, and keeps what clusters hold",
            || {
                let newer = self.newer_of(Format::Rpm);
                let paths: Vec<_> = newer.iter().map(|package| package.path.clone()).collect();
                self.rpm_in(root, &["--install", "--nodeps", "--nosignature"], &paths)?;
                let kept = root.dir().join(format!("var/lib/spock-postgresql/{}/main/PG_VERSION", self.major));
                files::write_whole(&kept, format!("{}\n", self.major).as_bytes())?;
                self.enable(root, Family::Enterprise)?;
                files::make_dir(&root.dir().join("run/systemd/system"))?;
                let program = root.dir().join("usr/bin/systemctl");
                files::write_whole(&program, SYSTEMCTL.as_bytes())?;
                fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
                    .map_err(Failure::io("set mode of", &program))?;
                let names: Vec<&str> = newer.iter().map(|package| package.package.as_str()).collect();
                self.rpm_in(root, &[&["--erase", "--nodeps"], names.as_slice()].concat(), &[])?;
                let asked = fs::read_to_string(root.dir().join("systemctl.log")).unwrap_or_default();
                let want = format!("stop {}@*.service\ndaemon-reload\n", self.server_name(Family::Enterprise));
                let kept = kept.is_file();
                if asked == want && kept && !self.is_enabled(root, Family::Enterprise) {
                    return Ok(());
                }
                let enabled = self.is_enabled(root, Family::Enterprise);
                Err(Failure::failed(format!("kept: {kept}, enabled: {enabled}, systemctl was asked: {asked}"), ""))
            },
        )?;
        Ok(())
    }
}
