//! How the packages get on with others: another edition, another patch set, systemd, the distribution's own server.

use std::fs;
use std::path::Path;

use super::Checks;
use super::cases::Suite;
use super::root::Root;
use crate::child::Child;
use crate::exit::{Failure, Result};
use crate::files;
use crate::major::Kind;
use crate::package::layout::{Family, Layout};
use crate::package::plan::{Format, Package, Relation, Role};
use crate::package::publish::Artefact;
use crate::package::tree::Tree;
use crate::package::{deb, rpm};

/// A version that is newer than ours.
const LATER: &str = "999";
/// The chapter whose commands are run.
const CHAPTER: &str = "manual/src/building.md";

/// Runs the commands of a unit for the cluster `main`, which is there, by hand, as systemd would: BIN, the unit's file, DATADIR.
const UNIT: &str = r#"set -eu
bin=$1 unit=$2 data=$3
command_of() { sed -n "s|^$1=||p" "$unit" | sed 's|%i|main|g'; }
printf "listen_addresses = ''\n" >> "$data/postgresql.conf"
$(command_of ExecStart) > /dev/null
trap "$bin/pg_ctl stop -s -m immediate -D $data" EXIT
[ -s "$(command_of PIDFile)" ]
$(command_of ExecReload) > /dev/null
"$bin/psql" -XqAt -p 5433 -c 'create extension spock' -c 'select 1' postgres
$(command_of ExecStop) > /dev/null
trap - EXIT
[ ! -e "$(command_of PIDFile)" ]
"#;

impl Suite<'_> {
    /// Packages of others that must not, or may, come beside the installed ones.
    pub(super) fn relations(&self, root: &Root, checks: &mut Checks<'_>, format: Format) -> Result<()> {
        let family = if format == Format::Rpm { Family::Enterprise } else { Family::Debian };
        let server = self.server_name(family);
        let library = |server: &str| Relation::any(format!("{server}-extension-spock"));
        let text = "another edition for the same server is refused, for another one it is not";
        checks.check(&format!("{format}: {text}"), || {
            let edition = |name: &str, owns: Relation| {
                let package = self.stand_in(name, vec![owns.clone()], vec![owns]);
                self.would_install(root, format, &package)
            };
            refused(&edition("other-edition", library(&server))?, "conflict")?;
            accepted(&edition("other-edition-elsewhere", library("postgresql-9"))?, "conflict")
        })?;
        if self.kind == Kind::Patched {
            let text = "a server of another patch set would not leave the extension, a later one of the same would";
            checks.check(&format!("{format}: {text}"), || {
                let patch_set = crate::patchset::PatchSet::load(&self.cx.root, self.major)?.short();
                let of = |id: &str| {
                    let name = Relation::any(format!("{server}-patch-set-{id}"));
                    self.would_install(root, format, &self.stand_in(&server, vec![name], Vec::new()))
                };
                // Symbols go with exactly one version, so they alone are in the way of any other server.
                let lacks = match format {
                    Format::Rpm => format!("{server}-patch-set-{patch_set} is needed by"),
                    _ => format!("Remv {server}-spock "),
                };
                refused(&of("000000000000")?, &lacks)?;
                accepted(&of(&patch_set)?, &lacks)
            })?;
        }
        Ok(())
    }

    /// What the package that the extension is for is called.
    pub(super) fn server_name(&self, family: Family) -> String {
        match (self.kind, family) {
            (Kind::Patched, Family::Debian) => format!("spock-postgresql-{}", self.major),
            (Kind::Patched, Family::Enterprise) => format!("spock-postgresql{}", self.major),
            (Kind::Stock, Family::Debian) => format!("postgresql-{}", self.major),
            (Kind::Stock, Family::Enterprise) => format!("postgresql{}-server", self.major),
        }
    }

    /// A package with next to nothing in it.
    fn stand_in(&self, name: &str, provides: Vec<Relation>, conflicts: Vec<Relation>) -> Package {
        let mut tree = Tree::default();
        tree.text(&format!("usr/share/doc/{name}/stand-in-of-spock"), 0o644, "For a test.\n");
        Package {
            name: name.to_owned(),
            version: LATER.to_owned(),
            release: "1".to_owned(),
            arch: self.machine.arch.clone(),
            role: Role::Extension,
            summary: "stand-in for a package of others".to_owned(),
            description: "For a test.".to_owned(),
            maintainer: "Spock <packages@spock.invalid>".to_owned(),
            depends: Vec::new(),
            provides,
            conflicts,
            tree,
            scripts: None,
            changelog: Vec::new(),
        }
    }

    /// What the package manager says when it is asked whether it would install a package; it installs nothing.
    fn would_install(&self, root: &Root, format: Format, package: &Package) -> Result<String> {
        let (work, log) = (self.scratch("stand-ins"), self.cx.root.join("target/pg/log/package-suite.log"));
        files::make_dir(&work)?;
        if format == Format::Rpm {
            let file = rpm::write(package, 0, &work)?;
            let script = "rpm --root \"$1\" --test --upgrade --nosignature \"$2\" 2>&1 || :";
            return Child::new("sh", Path::new("/"), &log).args(["-c", script, "sh"]).args([root.dir(), &file]).read();
        }
        let progress = self.cx.say.begin("stand-in", "");
        let file = deb::write(package, &work.join("tree"), 0, &work, &log, &progress)?;
        drop(progress);
        let inside = format!("packages/{}", file.file_name().unwrap_or_default().to_string_lossy());
        root.bring(&file, &inside)?;
        let script = "dpkg --simulate --install \"$1\" 2>&1 || :\n\
            apt-get install --simulate --yes \"$1\" 2>&1 || :";
        root.run(&["/bin/sh", "-c", script, "sh", &format!("/{inside}")])
    }

    /// Root's commands of the block in the manual that contains `words`, for this major.
    pub(super) fn commands(&self, words: &str) -> Result<String> {
        let path = self.cx.root.join(CHAPTER);
        let text = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        let block = text.split("```").find(|block| block.starts_with("console ") && block.contains(words));
        let block = block.ok_or_else(|| Failure::failed(format!("no block of {CHAPTER} has {words}"), ""))?;
        let lines = block.lines().filter_map(|line| line.strip_prefix("# ")).map(|line| format!("{line}\n"));
        Ok(lines.collect::<String>().replace("17", self.major.to_string().as_str()))
    }

    /// The distribution's own server is told of the extension as the manual says.
    pub(super) fn with_distribution(&self, root: &Root, checks: &mut Checks<'_>) -> Result<()> {
        checks.check("deb: what the manual says configures the distribution's cluster", || {
            let commands = self.commands("spock.conf.sample")?;
            let commands: String = commands
                .lines()
                .filter(|line| !line.starts_with("systemctl "))
                .map(|line| format!("{line}\n"))
                .collect();
            root.run(&["/bin/sh", "-c", &format!("set -e\n{commands}")])?;
            let (postgres, data) =
                (format!("{}/postgres", self.bin(Family::Debian)), format!("/etc/postgresql/{}/main", self.major));
            let said = root.run_as("postgres", &[&postgres, "-D", &data, "-C", "shared_preload_libraries"])?;
            // The copy is the administrator's, so removing the package leaves it.
            files::remove_if_there(&root.dir().join(Layout::relative(&data)).join("conf.d/spock.conf"))?;
            if said.trim() == "spock" { Ok(()) } else { Err(Failure::failed(format!("it preloads {said}"), "")) }
        })?;
        Ok(())
    }

    /// With systemd and the distribution's server in the same root.
    pub(super) fn beside(&self, root: &Root, checks: &mut Checks<'_>, packages: &[&Artefact]) -> Result<()> {
        let bin = self.bin(Family::Debian);
        let name = self.server_name(Family::Debian);
        let data = format!("var/lib/spock-postgresql/{}", self.major);
        let there = checks.check("deb: with systemd, account and directory are made as its files say", || {
            // The account stays when packages go: Debian has it so. Here systemd is to make it.
            root.run(&["userdel", "postgres"])?;
            root.apt_install(&["systemd"])?;
            self.apt_install(root, packages)?;
            let said = root.run(&["getent", "passwd", "postgres"])?;
            let made = root.run(&["stat", "--format=%U:%G %a", &format!("/{data}")])?;
            match said.contains(":/var/lib/spock-postgresql:/bin/sh") && made.trim() == "postgres:postgres 700" {
                true => Ok(()),
                false => Err(Failure::failed(format!("{} and {}", said.trim(), made.trim()), "")),
            }
        })?;
        if !there {
            return Ok(());
        }
        let unit = format!("/usr/lib/systemd/system/{name}@.service");
        checks.check("deb: systemd finds no fault in the unit", || {
            let said = root.run(&[
                "/bin/sh",
                "-c",
                "systemd-analyze verify --man=no \"$1\" 2>&1",
                "sh",
                &unit.replace("@.", "@main."),
            ])?;
            let ours: Vec<&str> = said.lines().filter(|line| line.contains("spock")).collect();
            if ours.is_empty() { Ok(()) } else { Err(Failure::failed(ours.join("; "), "")) }
        })?;
        checks.check("deb: what the manual says makes a cluster and enables its unit", || {
            // Nothing can be started in a root: systemd does not run there.
            let commands = self.commands("initdb -D $data")?.replace("enable --now", "enable");
            root.run(&["/bin/sh", "-c", &format!("set -e\n{commands}")])?;
            if self.is_enabled(root, Family::Debian) { Ok(()) } else { Err(Failure::failed("it is not enabled", "")) }
        })?;
        checks.check("deb: the unit's commands start, reload and stop a cluster", || {
            let said =
                root.run_as("postgres", &["/bin/sh", "-c", UNIT, "sh", &bin, &unit, &format!("/{data}/main")])?;
            if said.trim() == "1" { Ok(()) } else { Err(Failure::failed(format!("it said {said}"), "")) }
        })?;
        checks.check("deb: the distribution's server installs beside it, and both are whole", || {
            root.apt_install(&["postgresql"])?;
            for bin in distribution_servers(root.dir()).iter().map(String::as_str).chain([bin.as_str()]) {
                root.run(&[&format!("{bin}/postgres"), "--version"])?;
            }
            let names: Vec<&str> = packages.iter().map(|package| package.package.as_str()).collect();
            let changed = root.run(&[&["dpkg", "--verify"], names.as_slice()].concat())?;
            let both = distribution_servers(root.dir()).is_empty() || !changed.trim().is_empty();
            if both { Err(Failure::failed(format!("changed: {}", changed.trim()), "")) } else { Ok(()) }
        })?;
        self.purge_while_served(root, checks, packages, &format!("{data}/main"))
    }
}

/// The program directories of the distribution's servers in a root, with their leading slash.
fn distribution_servers(root: &Path) -> Vec<String> {
    let majors = fs::read_dir(root.join("usr/lib/postgresql")).into_iter().flatten().flatten();
    let bin = |entry: fs::DirEntry| format!("/usr/lib/postgresql/{}/bin", entry.file_name().to_string_lossy());
    majors.map(bin).filter(|bin| root.join(Layout::relative(bin)).join("postgres").is_file()).collect()
}

fn refused(said: &str, because: &str) -> Result<()> {
    if said.contains(because) {
        Ok(())
    } else {
        Err(Failure::failed(format!("it is not refused: {}", said.trim()), ""))
    }
}

fn accepted(said: &str, because: &str) -> Result<()> {
    if said.contains(because) { Err(Failure::failed(format!("it is refused: {}", said.trim()), "")) } else { Ok(()) }
}
