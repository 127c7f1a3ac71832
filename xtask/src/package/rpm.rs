//! Writes an rpm, through the `rpm` crate: no rpm tool is needed where it is built, and no clock or host name gets in.

use std::path::{Path, PathBuf};

use rpm::{BuildConfig, CompressionWithLevel, Dependency, FileOptions, PackageBuilder};

use crate::exit::{Failure, Result};
use crate::files;
use crate::package::plan::{Package, Relation};
use crate::package::tree::{Entry, Node};

/// `name-version-release.arch.rpm`
pub fn file_name(package: &Package) -> String {
    format!("{}-{}.{}.rpm", package.name, package.full_version(), package.arch)
}

/// Makes the rpm in `out`.
pub fn write(package: &Package, epoch: u64, out: &Path) -> Result<PathBuf> {
    let file = out.join(file_name(package));
    let bad = |error: rpm::Error| Failure::failed(format!("could not make {}: {error}", file.display()), "");
    let mut bytes = Vec::new();
    builder(package, epoch)?.build().and_then(|made| made.write(&mut bytes)).map_err(bad)?;
    files::write_whole(&file, &bytes)?;
    Ok(file)
}

fn builder(package: &Package, epoch: u64) -> Result<PackageBuilder> {
    let time = u32::try_from(epoch).unwrap_or(u32::MAX);
    let config = BuildConfig::v4().compression(CompressionWithLevel::Gzip(9)).source_date(time);
    let mut builder =
        PackageBuilder::new(&package.name, &package.version, "PostgreSQL", &package.arch, &package.summary);
    builder.using_config(config).release(&package.release).description(&package.description);
    builder.vendor(&package.maintainer).packager(&package.maintainer).build_host("localhost");
    for release in &package.changelog {
        let changes: Vec<String> = release.changes.iter().map(|change| format!("- {change}")).collect();
        let who = format!("{} - {}", package.maintainer, release.version);
        builder.add_changelog_entry(who, changes.join("\n"), u32::try_from(release.epoch()).unwrap_or(u32::MAX));
    }
    for (path, entry) in package.tree.entries() {
        add(&mut builder, path, entry)?;
    }
    for relation in &package.depends {
        builder.requires(dependency(relation));
    }
    for relation in &package.provides {
        builder.provides(dependency(relation));
    }
    for relation in &package.conflicts {
        builder.conflicts(dependency(relation));
    }
    if let Some(scripts) = &package.scripts {
        for name in ["/bin/sh", "shadow-utils", "coreutils", "util-linux"] {
            builder.requires(Dependency::any(name));
        }
        builder.post_install_script(scripts.configure.as_str());
        // The argument counts the versions that are left: 1 in an upgrade. A failure keeps the package.
        builder.pre_uninstall_script(format!("if [ \"$1\" = 0 ]; then\nset -e\n{}fi\n", scripts.stop));
        builder.post_uninstall_script(format!("if [ \"$1\" = 0 ]; then\n{}fi\n", scripts.remove));
    }
    Ok(builder)
}

fn add(builder: &mut PackageBuilder, path: &str, entry: &Entry) -> Result<()> {
    let bad = |error: rpm::Error| Failure::failed(format!("could not pack {path}: {error}"), "");
    let to = format!("/{path}");
    let mode = u16::try_from(entry.mode).unwrap_or(0o644);
    let added = match &entry.node {
        // Only directories that no other package has.
        Node::Dir if !path.contains("spock") => return Ok(()),
        Node::Dir => builder.with_dir_entry(FileOptions::dir(to).permissions(mode)),
        Node::Link(goal) => builder.with_symlink(FileOptions::symlink(to, goal.as_str())),
        Node::File(content) => {
            let options = FileOptions::new(to).permissions(mode);
            let options = if path.starts_with("usr/share/licenses/") { options.license() } else { options };
            let options = if path.starts_with("usr/share/doc/") { options.doc() } else { options };
            builder.with_file_contents(content.read()?, options)
        }
    };
    added.map(drop).map_err(bad)
}

fn dependency(relation: &Relation) -> Dependency {
    match &relation.version {
        Some((">=", version)) => Dependency::greater_eq(relation.name.as_str(), version.as_str()),
        Some((_, version)) => Dependency::eq(relation.name.as_str(), version.as_str()),
        None => Dependency::any(relation.name.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::plan::tests::sample;

    #[test]
    fn the_bytes_depend_on_package_and_epoch_alone() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str, epoch| {
            let out = dir.path().join(name);
            std::fs::read(write(&sample(), epoch, &out).unwrap()).unwrap()
        };
        assert_eq!(read("a", 86_400), read("b", 86_400));
        assert_ne!(read("a", 86_400), read("c", 86_401));
    }

    #[test]
    fn an_rpm_says_what_went_in() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(&sample(), 86_400, dir.path()).unwrap();
        assert!(file.ends_with("spock-postgresql-17-17.11+spock7.0.0-1.deb12.x86_64.rpm"), "{file:?}");
        let read = rpm::Package::open(&file).unwrap();
        assert_eq!(read.metadata.get_name().unwrap(), "spock-postgresql-17");
        let entries = read.metadata.get_file_entries().unwrap();
        let modes: Vec<(String, u16)> = entries
            .iter()
            .map(|entry| (entry.path().to_string_lossy().into_owned(), entry.mode().permissions()))
            .collect();
        let want = [("/usr/lib/spock", 0o755), ("/usr/lib/spock/a", 0o755), ("/usr/lib/spock/b", 0o777)];
        assert_eq!(modes, want.map(|(path, mode)| (path.to_owned(), mode)));
        let needs = read.metadata.get_requires().unwrap();
        assert!(needs.iter().any(|need| need.name == "libc6" && need.version == "2.36"), "{needs:?}");
    }
}
