//! The tests, format by format: install, compare, use, upgrade, remove.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use super::root::Root;
use super::{Checks, manifest, needs, papers};
use crate::archive;
use crate::child::Child;
use crate::cx::Cx;
use crate::digest::files_below;
use crate::elf;
use crate::exit::{Failure, Result};
use crate::files;
use crate::major::{Kind, Major};
use crate::matrix::Machine;
use crate::package::layout::Family;
use crate::package::plan::Format;
use crate::package::publish::Artefact;
use crate::package::tools;

/// Where the nodes of the round trip live in a root.
const NODES: &str = "nodes";

/// The packages of one target, and how they are tested.
pub struct Suite<'a> {
    /// The run.
    pub cx: &'a Cx,
    /// Of the server.
    pub major: Major,
    /// Of the server.
    pub kind: Kind,
    /// This one.
    pub machine: Machine,
    /// For debootstrap.
    pub release: &'static str,
    /// Revision 1, all formats.
    pub artefacts: Vec<Artefact>,
    /// Revision 2, deb and rpm.
    pub newer: Vec<Artefact>,
    /// Write manifests?
    pub accept: bool,
}

impl Suite<'_> {
    /// Tests one format.
    pub fn format(&self, format: Format, checks: &mut Checks<'_>) -> Result<()> {
        match format {
            Format::Deb => self.deb(checks),
            Format::Rpm => self.rpm(checks),
            Format::Tar => self.tar(checks),
            Format::Oci => self.oci(checks),
        }
    }

    fn deb(&self, checks: &mut Checks<'_>) -> Result<()> {
        let root = Root::clean(self.cx, self.release, self.scratch("root-deb"))?;
        if !self.has_server(&root, checks, "deb")? {
            return Ok(());
        }
        let (before, patched) = (root.paths()?, self.kind == Kind::Patched);
        let packages = self.of(Format::Deb);
        if !checks.check("deb: apt installs it with what it depends on", || self.apt_install(&root, &packages))? {
            return Ok(());
        }
        let paths = || {
            let mut paths = BTreeSet::new();
            for package in &packages {
                let said = root.run(&["dpkg", "--listfiles", &package.package])?;
                paths.extend(said.lines().map(|line| line.trim_start_matches('/').to_owned()));
            }
            paths.extend(made_by_scripts(root.dir()));
            Ok(own_paths(root.dir(), paths))
        };
        self.contract(&root, checks, "deb", paths)?;
        let bin = self.bin(Family::Debian);
        self.round_trip(&root, checks, "deb", "postgres", &bin)?;
        checks.check("deb: debug symbols are found by build id", || papers::symbols_found(&root, &paths()?))?;
        self.tools(&root, checks, "deb", "/usr/bin/spockctrl")?;
        self.relations(&root, checks, Format::Deb)?;
        if !patched {
            self.with_distribution(&root, checks)?;
        }
        let newer = self.newer_of(Format::Deb);
        checks.check("deb: an upgrade keeps the clusters, which go on replicating", || {
            if patched {
                self.enable(&root, Family::Debian)?;
            }
            self.apt_install(&root, &newer)?;
            if patched {
                self.still_enabled(&root, Family::Debian)?;
            }
            self.write(&root, "postgres", &bin, "2")
        })?;
        checks.check("deb: removal leaves nothing", || {
            files::remove_if_there(&root.dir().join(NODES))?;
            files::remove_if_there(&root.dir().join("packages"))?;
            let names: Vec<&str> = packages.iter().map(|package| package.package.as_str()).collect();
            root.run(&[&["apt-get", "purge", "--yes"], names.as_slice()].concat())?;
            root.run(&["apt-get", "autoremove", "--purge", "--yes"])?;
            // What the distribution's own server leaves is its own.
            let ours = |path: &&String| patched || path.contains("spock");
            nothing_left(root.paths()?.difference(&before).filter(ours).cloned().collect(), &root)
        })?;
        if patched { self.beside(&root, checks, &newer) } else { Ok(()) }
    }

    /// Runs rpm on a root, from outside: the root has no rpm.
    pub(super) fn rpm_in(&self, root: &Root, words: &[&str], files: &[PathBuf]) -> Result<String> {
        let log = self.cx.root.join("target/pg/log/package-suite.log");
        let debian = (Family::of(&self.machine) == Family::Debian).then_some("--force-debian");
        let dir = root.dir().to_string_lossy().into_owned();
        Child::new("rpm", Path::new("/"), &log).args(["--root", &dir]).args(debian).args(words).args(files).read()
    }

    fn rpm(&self, checks: &mut Checks<'_>) -> Result<()> {
        let root = Root::clean(self.cx, self.release, self.scratch("root-rpm"))?;
        if !self.with_libraries(&root, checks, "rpm")? {
            return Ok(());
        }
        let before = root.paths()?;
        let packages = self.of(Format::Rpm);
        let rpm = |words: &[&str], files: &[PathBuf]| self.rpm_in(&root, words, files);
        let files: Vec<PathBuf> = packages.iter().map(|package| package.path.clone()).collect();
        checks.check("rpm: beside the system's libraries and tools they need nothing but each other", || {
            let said = needs::ask_rpm(self.cx, root.dir(), &files)?;
            needs::only_the_systems(&said, &self.stock_capability())
        })?;
        let installed = checks.check("rpm: rpm installs it, and its scripts run", || {
            rpm(&["--install", "--nodeps", "--nosignature"], &files).map(drop)
        })?;
        checks.skip(
            "rpm: the libraries of the system that it names are in Enterprise Linux",
            "there is no Enterprise Linux root on this machine",
        );
        if !installed {
            return Ok(());
        }
        let paths = || {
            let said = rpm(&["--query", "--list", "--package"], &files)?;
            let mut paths: BTreeSet<String> =
                said.lines().map(|line| line.trim_start_matches('/').to_owned()).collect();
            paths.extend(made_by_scripts(root.dir()));
            Ok(own_paths(root.dir(), paths))
        };
        self.contract(&root, checks, "rpm", paths)?;
        self.tools(&root, checks, "rpm", "/usr/bin/spockctrl")?;
        self.relations(&root, checks, Format::Rpm)?;
        let newer: Vec<PathBuf> = self.newer_of(Format::Rpm).iter().map(|package| package.path.clone()).collect();
        let upgrade = || rpm(&["--upgrade", "--nodeps", "--nosignature"], &newer).map(drop);
        let keeps = "rpm: an upgrade keeps the clusters, which go on replicating";
        match self.kind {
            Kind::Patched => {
                let bin = self.bin(Family::Enterprise);
                self.round_trip(&root, checks, "rpm", "postgres", &bin)?;
                checks.check(keeps, || {
                    self.enable(&root, Family::Enterprise)?;
                    upgrade()?;
                    self.still_enabled(&root, Family::Enterprise)?;
                    self.write(&root, "postgres", &bin, "2")
                })?;
            }
            Kind::Stock => {
                let why = "the server that it is for is that of Enterprise Linux";
                checks.skip("rpm: two nodes replicate", why);
                checks.check("rpm: an upgrade goes through", upgrade)?;
                checks.skip(keeps, why);
            }
        }
        checks.check("rpm: removal leaves nothing", || {
            files::remove_if_there(&root.dir().join(NODES))?;
            let names: Vec<&str> = packages.iter().map(|package| package.package.as_str()).collect();
            rpm(&[&["--erase", "--nodeps"], names.as_slice()].concat(), &[])?;
            let left: BTreeSet<String> = root.paths()?.difference(&before).cloned().collect();
            // The database of rpm itself was not there before.
            nothing_left(
                left.into_iter().filter(|path| !path.contains("/rpm/") && !path.contains("/.rpmdb/")).collect(),
                &root,
            )
        })?;
        if self.kind == Kind::Patched { self.erase_with_systemd(&root, checks) } else { Ok(()) }
    }

    fn tar(&self, checks: &mut Checks<'_>) -> Result<()> {
        let root = Root::clean(self.cx, self.release, self.scratch("root-tar"))?;
        if !self.with_libraries(&root, checks, "tar")? {
            return Ok(());
        }
        let prefix = root.dir().join("opt/anywhere");
        let unpacked = checks.check("tar: it unpacks", || {
            let packages = self.of(Format::Tar);
            packages.iter().try_for_each(|package| archive::unpack(&package.path, &prefix))?;
            let owner =
                |path: PathBuf| std::os::unix::fs::lchown(&path, Some(0), Some(0)).map_err(Failure::io("own", &path));
            files_below(&prefix, &[])?.into_iter().try_for_each(owner)
        })?;
        if !unpacked {
            return Ok(());
        }
        let paths = || {
            let all = files_below(&prefix, &[])?;
            Ok(all
                .iter()
                .filter_map(|path| Some(path.strip_prefix(root.dir()).ok()?.to_string_lossy().into_owned()))
                .collect())
        };
        self.contract(&root, checks, "tar", paths)?;
        self.tools(&root, checks, "tar", "/opt/anywhere/bin/spockctrl")?;
        if self.kind == Kind::Patched {
            self.round_trip(&root, checks, "tar", "nobody", "/opt/anywhere/bin")?;
        } else {
            checks.skip("tar: two nodes replicate", "it holds files to copy into a server, and brings none");
        }
        Ok(())
    }

    fn oci(&self, checks: &mut Checks<'_>) -> Result<()> {
        let root = Root::empty(self.cx, self.scratch("root-oci"))?;
        let image = self.of(Format::Oci);
        let Some(image) = image.first() else { return Ok(()) };
        if !checks
            .check("oci: every blob has its digest, and the layers unpack", || unpack_image(&image.path, root.dir()))?
        {
            return Ok(());
        }
        let paths = || {
            let all = files_below(root.dir(), &["proc", "dev"])?;
            Ok(all
                .iter()
                .filter_map(|path| Some(path.strip_prefix(root.dir()).ok()?.to_string_lossy().into_owned()))
                .collect())
        };
        self.contract(&root, checks, "oci", paths)?;
        let bin = self.bin(Family::Debian);
        self.tools(&root, checks, "oci", &format!("{bin}/spockctrl"))?;
        checks.check("oci: the entry point makes a cluster and serves it", || {
            let script = format!(
                "export LANG=C.UTF-8 PATH={bin}:/bin PGDATA=/var/lib/spock-postgresql/{}/main\n\
                 spock-entrypoint 2>&1 | while IFS= read -r line; do\n\
                 case $line in *'ready to accept connections'*)\n\
                 psql -XqAt -U postgres -c 'create extension spock' -c 'select spock.spock_version()' || echo failed\n\
                 pg_ctl stop -s -m fast;; esac; done",
                self.major
            );
            let said = root.run_as("999:999", &["/bin/sh", "-c", &script])?;
            let served = said.lines().any(|line| line == env!("CARGO_PKG_VERSION"));
            if served { Ok(()) } else { Err(Failure::failed(format!("it said: {said}"), "")) }
        })?;
        checks.check("oci: the entry point refuses a cluster that was not finished, and says what to do", || {
            let script = format!(
                "export LANG=C.UTF-8 PATH={bin}:/bin PGDATA=/var/lib/spock-postgresql/{}/half\n\
                 initdb -D \"$PGDATA\" -U postgres > /dev/null\n\
                 spock-entrypoint -C shared_preload_libraries 2>&1 && echo served\n\
                 spock-configure \"$PGDATA\" > /dev/null\n\
                 spock-entrypoint -C shared_preload_libraries",
                self.major
            );
            let said = root.run_as("999:999", &["/bin/sh", "-c", &script])?;
            let lines: Vec<&str> = said.lines().collect();
            let right = matches!(lines.as_slice(), [why, hint, setting]
                if why.contains("was not finished") && hint.contains("spock-configure") && *setting == "spock");
            if right { Ok(()) } else { Err(Failure::failed(format!("it said: {said}"), "")) }
        })?;
        self.round_trip(&root, checks, "oci", "999:999", &bin)
    }

    /// What the extension for a stock server needs of it on Enterprise Linux.
    fn stock_capability(&self) -> Option<String> {
        (self.kind == Kind::Stock).then(|| format!("postgresql{}-server", self.major))
    }

    /// Does the root's apt have the server that the packages are for? Our own packages bring it.
    fn has_server(&self, root: &Root, checks: &mut Checks<'_>, format: &str) -> Result<bool> {
        let server = format!("postgresql-{}", self.major);
        let there = self.kind == Kind::Patched
            || root.run(&["apt-cache", "show", &server]).is_ok_and(|said| said.contains("Package:"));
        if !there {
            checks.skip(
                &format!("{format}: install, use, upgrade, remove"),
                &format!("{} has no {server}, and no other release of Debian that is known here", self.release),
            );
        }
        Ok(there)
    }

    /// Installs the system's libraries that the debs depend on, and nothing of ours.
    fn with_libraries(&self, root: &Root, checks: &mut Checks<'_>, format: &str) -> Result<bool> {
        let name = format!("{format}: the system's libraries that it names are in a clean root");
        checks.check(&name, || {
            let mut libraries = BTreeSet::new();
            for package in self.of(Format::Deb) {
                let said = self.cx.ask("dpkg-deb", &["--field", &package.path.to_string_lossy(), "Depends"])?;
                let names = said.split(',').filter_map(|one| one.split_whitespace().next()).map(str::to_owned);
                // The debug symbols of one of ours depend on it.
                libraries.extend(names.filter(|name| !name.contains("postgresql") && name != tools::NAME));
            }
            let names: Vec<&str> = libraries.iter().map(String::as_str).collect();
            root.apt_install(&names)
        })
    }

    pub(super) fn apt_install(&self, root: &Root, packages: &[&Artefact]) -> Result<()> {
        let mut words = Vec::new();
        for package in packages {
            let name = format!("packages/{}", package.path.file_name().unwrap_or_default().to_string_lossy());
            root.bring(&package.path, &name)?;
            words.push(format!("/{name}"));
        }
        root.apt_install(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Files with modes and owners, links and symbols, against the manifest; every library is found; no path of this machine.
    fn contract(
        &self,
        root: &Root,
        checks: &mut Checks<'_>,
        format: &str,
        paths: impl Fn() -> Result<BTreeSet<String>>,
    ) -> Result<()> {
        let name =
            format!("{}-{}/{}-{}-{format}.txt", self.machine.distribution, self.machine.arch, self.major, self.kind);
        checks.check(&format!("{format}: files, modes, owners and links are as agreed"), || {
            let found = manifest::describe(root.dir(), &without_debug(paths()?))?;
            manifest::compare(self.cx, &name, &found, self.accept)
        })?;
        checks.check(&format!("{format}: the library exports what is agreed"), || {
            let found = manifest::exports(root.dir(), &paths()?)?;
            manifest::compare(self.cx, manifest::EXPORTS, &found, self.accept)
        })?;
        checks.check(&format!("{format}: every library is found"), || libraries_found(root, &paths()?))?;
        // Others have neither.
        if format == "deb" || format == "rpm" && self.kind == Kind::Patched {
            checks.check(&format!("{format}: what units and licences refer to is there"), || {
                references_found(root.dir(), &paths()?)
            })?;
        }
        checks.check(&format!("{format}: no path of the building machine"), || {
            let home = std::env::var("HOME").unwrap_or_default();
            let paths = paths()?;
            no_path(root.dir(), &paths, &[&self.cx.root.to_string_lossy(), &format!("{home}/.")])
        })?;
        Ok(())
    }

    /// The operator's program runs where it was installed.
    fn tools(&self, root: &Root, checks: &mut Checks<'_>, format: &str, program: &str) -> Result<()> {
        if !tools::is_there(&self.cx.root) {
            return Ok(());
        }
        checks.check(&format!("{format}: {program} says which version it is"), || {
            let said = root.run_as("65534:65534", &[program, "--version"])?;
            match said.contains(env!("CARGO_PKG_VERSION")) {
                true => Ok(()),
                false => Err(Failure::failed(format!("it said {said}"), "")),
            }
        })?;
        Ok(())
    }

    fn round_trip(&self, root: &Root, checks: &mut Checks<'_>, format: &str, account: &str, bin: &str) -> Result<()> {
        checks.check(
            &format!("{format}: two nodes, made with the installed tools by {account}, replicate both ways"),
            || {
                let nodes = root.dir().join(NODES);
                files::make_dir(&nodes)?;
                let (uid, gid) = ids_of(root.dir(), account)?;
                chown(&nodes, Some(uid), Some(gid)).map_err(Failure::io("give away", &nodes))?;
                root.bring(&self.cx.root.join("tests/package/round_trip.sh"), "round_trip.sh")?;
                root.run_as(account, &["/bin/sh", "/round_trip.sh", bin, &format!("/{NODES}"), "create"])?;
                self.write(root, account, bin, "1")
            },
        )?;
        Ok(())
    }

    fn write(&self, root: &Root, account: &str, bin: &str, number: &str) -> Result<()> {
        root.run_as(account, &["/bin/sh", "/round_trip.sh", bin, &format!("/{NODES}"), "write", number]).map(drop)
    }
}

/// What the scripts of the packages make.
fn made_by_scripts(root: &Path) -> Vec<String> {
    let dir = "var/lib/spock-postgresql";
    let majors = fs::read_dir(root.join(dir)).into_iter().flatten().flatten();
    let below = majors.map(|entry| format!("{dir}/{}", entry.file_name().to_string_lossy()));
    std::iter::once(dir.to_owned()).chain(below).filter(|path| root.join(path).exists()).collect()
}

/// Without debug symbols: how many files of them there are follows from the build's profile.
fn without_debug(paths: BTreeSet<String>) -> BTreeSet<String> {
    let debug = |path: &str| ["usr/lib/debug", "-dbgsym", "-debuginfo"].iter().any(|part| path.contains(part));
    paths.into_iter().filter(|path| !debug(path)).collect()
}

/// Without directories that other packages have as well.
fn own_paths(root: &Path, paths: BTreeSet<String>) -> BTreeSet<String> {
    let shared = |path: &String| {
        path.is_empty()
            || path == "."
            || !path.contains("spock") && fs::symlink_metadata(root.join(path)).is_ok_and(|meta| meta.is_dir())
    };
    paths.into_iter().filter(|path| !shared(path)).collect()
}

fn nothing_left(left: Vec<String>, root: &Root) -> Result<()> {
    let mut left: Vec<String> = left.into_iter().filter(|path| path != "round_trip.sh").collect();
    left.extend(made_by_scripts(root.dir()));
    if left.is_empty() {
        return Ok(());
    }
    left.truncate(20);
    Err(Failure::failed(format!("left behind: {}", left.join(", ")), ""))
}

/// Files that are named by texts of the packages: a unit's documentation, and lists of licences.
fn references_found(root: &Path, paths: &BTreeSet<String>) -> Result<()> {
    let (mut found, mut lost) = (0, Vec::new());
    for path in paths.iter().filter(|path| path.ends_with(".service") || path.ends_with("/copyright")) {
        let full = root.join(path);
        let text = fs::read_to_string(&full).map_err(Failure::io("read", &full))?;
        let named = text.split_whitespace().filter_map(|word| {
            let page = word.strip_prefix("Documentation=file://");
            page.or_else(|| word.strip_suffix("third-party.txt").map(|_| word))
        });
        for name in named.map(|name| name.trim_start_matches('/')) {
            found += 1;
            if !root.join(name).is_file() {
                lost.push(format!("{path} names /{name}"));
            }
        }
    }
    if found > 0 && lost.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("of {found} names: {}", lost.join("; ")), ""))
}

/// The dynamic loader itself says where each library is.
fn libraries_found(root: &Root, paths: &BTreeSet<String>) -> Result<()> {
    let loader = match std::env::consts::ARCH {
        "aarch64" => "/lib/ld-linux-aarch64.so.1",
        _ => "/lib64/ld-linux-x86-64.so.2",
    };
    let mut linked = Vec::new();
    for path in paths.iter().filter(|path| !path.ends_with(".debug")) {
        let full = root.dir().join(path);
        let regular = fs::symlink_metadata(&full).is_ok_and(|meta| meta.is_file());
        if regular && elf::read(&full)?.is_some_and(|elf| elf.linked && !elf.needed.is_empty()) {
            linked.push(format!("/{path}"));
        }
    }
    let script =
        "loader=$1; shift; for file in \"$@\"; do \"$loader\" --list \"$file\" || echo \"$file => not found\"; done";
    let words: Vec<&str> =
        ["/bin/sh", "-c", script, "sh", loader].into_iter().chain(linked.iter().map(String::as_str)).collect();
    let said = root.run(&words)?;
    let lost: Vec<&str> = said.lines().filter(|line| line.contains("not found")).map(str::trim).collect();
    if linked.is_empty() || !lost.is_empty() {
        return Err(Failure::failed(format!("of {} programs and libraries: {}", linked.len(), lost.join("; ")), ""));
    }
    Ok(())
}

/// Where a server keeps the flags that it was compiled with, the directory among them: `docs/limits.md` says so.
const RECORDS: [&str; 6] = [
    "/bin/pg_config",
    "/bin/postgres",
    "/include/pg_config.h",
    "/include/server/pg_config.h",
    "/lib/libpgcommon.a",
    "/lib/libpgcommon_shlib.a",
];

fn no_path(root: &Path, paths: &BTreeSet<String>, unwanted: &[&str]) -> Result<()> {
    let mut found = Vec::new();
    for path in paths.iter().filter(|path| !RECORDS.iter().any(|name| path.ends_with(name))) {
        let full = root.join(path);
        if !fs::symlink_metadata(&full).is_ok_and(|meta| meta.is_file()) {
            continue;
        }
        let bytes = fs::read(&full).map_err(Failure::io("read", &full))?;
        for text in unwanted {
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(format!("{path} holds {text}"));
            }
        }
    }
    if found.is_empty() { Ok(()) } else { Err(Failure::failed(found.join("; "), "map it away when it is compiled")) }
}

/// User and group of an account of the root, by name or as numbers.
fn ids_of(root: &Path, account: &str) -> Result<(u32, u32)> {
    let unknown = || Failure::failed(format!("the root has no account {account}"), "");
    if let Some((uid, gid)) = account.split_once(':') {
        return uid.parse().ok().zip(gid.parse().ok()).ok_or_else(unknown);
    }
    let path = root.join("etc/passwd");
    let text = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
    let line = text.lines().find(|line| line.split(':').next() == Some(account)).ok_or_else(unknown)?;
    let mut fields = line.split(':').skip(2).map(str::parse);
    match (fields.next(), fields.next()) {
        (Some(Ok(uid)), Some(Ok(gid))) => Ok((uid, gid)),
        _ => Err(unknown()),
    }
}

/// Checks a layout directory and unpacks its layers, as a container engine does.
fn unpack_image(dir: &Path, root: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).map_err(Failure::io("read", path));
    let json = |bytes: &[u8]| -> Result<serde_json::Value> {
        serde_json::from_slice(bytes).map_err(|e| Failure::failed(format!("{}: {e}", dir.display()), ""))
    };
    let blob = |descriptor: &serde_json::Value| -> Result<Vec<u8>> {
        let digest = descriptor["digest"]
            .as_str()
            .and_then(|digest| digest.strip_prefix("sha256:"))
            .unwrap_or_default()
            .to_owned();
        let bytes = read(&dir.join("blobs/sha256").join(&digest))?;
        let size = descriptor["size"].as_u64() == Some(bytes.len() as u64);
        match crate::digest::Digest::of_bytes(&bytes).to_string() == digest && size {
            true => Ok(bytes),
            false => Err(Failure::failed(format!("blob {digest} is another one"), "")),
        }
    };
    let index = json(&read(&dir.join("index.json"))?)?;
    let manifest = json(&blob(&index["manifests"][0])?)?;
    let config = json(&blob(&manifest["config"])?)?;
    let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
    let ids = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
    if layers.len() != 2 || ids.len() != 2 {
        return Err(Failure::failed(format!("{} layers and {} ids, not 2", layers.len(), ids.len()), ""));
    }
    for (layer, id) in layers.iter().zip(ids) {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(blob(layer)?.as_slice()), &mut bytes)
            .map_err(Failure::io("unpack", dir))?;
        if id.as_str() != Some(&format!("sha256:{}", crate::digest::Digest::of_bytes(&bytes))) {
            return Err(Failure::failed(format!("the layer of {id} has another content"), ""));
        }
        let mut archive = tar::Archive::new(bytes.as_slice());
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(true);
        archive.unpack(root).map_err(Failure::io("unpack into", root))?;
    }
    Ok(())
}
