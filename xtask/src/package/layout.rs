//! Where the files of a server and its extension go on the user's system.
//!
//! **Invariant:** our own server has a prefix of its own, so it stands beside a distribution's; the extension for a
//! distribution's server goes where that server's `pg_config` says.

use std::path::Path;

use crate::cx::Cx;
use crate::exit::Result;
use crate::major::{Kind, Major};
use crate::matrix::Machine;
use crate::target::{Places, Target};

/// Directories, absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Programs.
    pub bin: String,
    /// Loadable modules.
    pub pkglib: String,
    /// Data files.
    pub share: String,
    /// Is the server ours, in a prefix of its own?
    pub own: bool,
}

impl Layout {
    /// That of our own server.
    pub fn own(major: Major) -> Self {
        let prefix = Self::own_prefix(major);
        Self {
            bin: format!("{prefix}/bin"),
            pkglib: format!("{prefix}/lib"),
            share: format!("{prefix}/share"),
            own: true,
        }
    }

    /// The prefix of our own server; it is compiled in.
    pub fn own_prefix(major: Major) -> String {
        format!("/usr/lib/spock-postgresql/{major}")
    }

    /// Where the distribution's server of a major is, whether it is installed or not.
    pub fn of_distribution(major: Major, family: Family) -> Self {
        let (bin, pkglib, share) = match family {
            Family::Debian => {
                let prefix = format!("/usr/lib/postgresql/{major}");
                (format!("{prefix}/bin"), format!("{prefix}/lib"), format!("/usr/share/postgresql/{major}"))
            }
            Family::Enterprise => {
                let prefix = format!("/usr/pgsql-{major}");
                (format!("{prefix}/bin"), format!("{prefix}/lib"), format!("{prefix}/share"))
            }
        };
        Self { bin, pkglib, share, own: false }
    }

    /// As a `pg_config` says.
    pub fn of_places(places: &Places) -> Self {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Self { bin: text(&places.bin), pkglib: text(&places.pkglib), share: text(&places.share), own: false }
    }

    /// The layout for a target's packages of a family; a plan has no installed server that is patched.
    pub fn of(cx: &Cx, target: &Target, family: Family) -> Result<Self> {
        match (target.kind, &target.origin) {
            (Kind::Patched, _) => Ok(Self::own(target.major)),
            (Kind::Stock, crate::target::Origin::Installed(_)) => {
                Ok(Self::of_places(&Places::ask(cx, &target.pg_config())?))
            }
            (Kind::Stock, _) => Ok(Self::of_distribution(target.major, family)),
        }
    }

    /// A directory without its leading slash, as trees have it.
    pub fn relative(dir: &str) -> &str {
        dir.trim_start_matches('/')
    }
}

/// Whose conventions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Debian and Ubuntu, with the names of the PostgreSQL project's own repository for them.
    Debian,
    /// Enterprise Linux and Fedora, likewise.
    Enterprise,
}

impl Family {
    /// That of the machine that builds.
    pub fn of(machine: &Machine) -> Self {
        let deb = ["debian", "ubuntu"].iter().any(|id| machine.distribution.starts_with(id));
        if deb { Self::Debian } else { Self::Enterprise }
    }

    /// The `pg_config` of the distribution's server, where one is installed with its headers.
    pub fn installed_pg_config(self, cx: &Cx, major: Major) -> Option<std::path::PathBuf> {
        let path = Path::new(&Layout::of_distribution(major, self).bin).join("pg_config");
        let headers = cx.ask(&path.to_string_lossy(), &["--includedir-server"]).ok()?;
        Path::new(headers.trim()).join("postgres.h").is_file().then_some(path)
    }
}

/// What built files depend on beyond their sources: `debian12`, `el9`. It is part of a package's version.
pub fn dist_tag(machine: &Machine) -> String {
    let (id, version) = machine.distribution.split_once('-').unwrap_or((&machine.distribution, ""));
    let major = version.split('.').next().unwrap_or_default();
    match id {
        "rhel" | "rocky" | "almalinux" | "centos" | "ol" => format!("el{major}"),
        "fedora" => format!("fc{major}"),
        "debian" => format!("deb{major}"),
        _ => format!("{id}{version}").replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_what_was_built_on() {
        let cases = [
            ("debian-12", "deb12"),
            ("ubuntu-24.04", "ubuntu24.04"),
            ("rocky-9.4", "el9"),
            ("almalinux-10.0", "el10"),
            ("fedora-43", "fc43"),
        ];
        for (distribution, want) in cases {
            let machine = Machine { distribution: distribution.to_owned(), arch: "x86_64".to_owned() };
            assert_eq!(dist_tag(&machine), want);
        }
    }

    #[test]
    fn files_go_where_pg_config_says() {
        let places = Places {
            version: "PostgreSQL 15.18".to_owned(),
            bin: "/opt/pg/bin".into(),
            lib: "/opt/pg/lib".into(),
            pkglib: "/opt/pg/lib/modules".into(),
            share: "/opt/pg/data".into(),
        };
        let want = Layout {
            bin: "/opt/pg/bin".to_owned(),
            pkglib: "/opt/pg/lib/modules".to_owned(),
            share: "/opt/pg/data".to_owned(),
            own: false,
        };
        assert_eq!(Layout::of_places(&places), want);
    }

    #[test]
    fn our_server_stands_beside_the_distributions() {
        let major: Major = "17".parse().unwrap();
        for family in [Family::Debian, Family::Enterprise] {
            let (own, other) = (Layout::own(major), Layout::of_distribution(major, family));
            assert!(own.bin != other.bin && own.pkglib != other.pkglib && own.share != other.share);
        }
    }
}
