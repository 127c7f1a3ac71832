//! Writes a deb, through `dpkg-deb`: the format's own tool knows its order, owners and times.

use std::path::{Path, PathBuf};

use crate::child::Child;
use crate::exit::Result;
use crate::files;
use crate::package::plan::{Package, Relation, Role};
use crate::package::texts::rfc2822;
use crate::package::tree::{Node, Tree};
use crate::say::Progress;

/// The architecture as Debian calls it.
pub fn architecture(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `name_version_arch.deb`
pub fn file_name(package: &Package) -> String {
    format!("{}_{}_{}.deb", package.name, package.full_version(), architecture(&package.arch))
}

/// The changelog in Debian's format, newest entry first.
pub fn changelog(package: &Package) -> String {
    let mut text = String::new();
    for (number, release) in package.changelog.iter().enumerate() {
        let version = if number == 0 { package.full_version() } else { format!("{}-1", release.version) };
        let changes: String = release.changes.iter().map(|change| format!("  * {change}\n")).collect();
        text.push_str(&format!(
            "{} ({version}) unstable; urgency=medium\n\n{changes}\n -- {}  {}\n\n",
            package.name,
            package.maintainer,
            rfc2822(release.epoch())
        ));
    }
    text
}

/// Writes the package's tree below `root`, which is removed before, and makes `out` of it.
pub fn write(
    package: &Package,
    root: &Path,
    epoch: u64,
    out: &Path,
    log: &Path,
    progress: &Progress<'_>,
) -> Result<PathBuf> {
    files::remove_if_there(root)?;
    package.tree.materialise(root, epoch)?;
    let mut control = Tree::default();
    control.text("DEBIAN/control", 0o644, control_file(package)?);
    control.text("DEBIAN/md5sums", 0o644, md5sums(package, root, log)?);
    if let Some(scripts) = &package.scripts {
        let script = |when: &str, body: &str| format!("#!/bin/sh\nset -e\nif {when}; then\n{body}fi\n");
        control.text("DEBIAN/postinst", 0o755, script("[ \"$1\" = configure ]", &scripts.configure));
        control.text("DEBIAN/prerm", 0o755, script("[ \"$1\" = remove ]", &scripts.stop));
        let gone = "[ \"$1\" = remove ] || [ \"$1\" = purge ]";
        control.text("DEBIAN/postrm", 0o755, script(gone, &scripts.remove));
    }
    control.materialise(root, epoch)?;
    let (made, file) = (files::beside(&out.join(file_name(package))), out.join(file_name(package)));
    Child::new("dpkg-deb", root, log)
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .args(["--root-owner-group", "-Zxz", "--build"])
        .args([root, &made])
        .run(progress)?;
    std::fs::rename(&made, &file).map_err(crate::exit::Failure::io("make", &file))?;
    Ok(file)
}

fn control_file(package: &Package) -> Result<String> {
    let dirs = package.tree.entries().filter(|(_, entry)| matches!(entry.node, Node::Dir)).count() as u64;
    let mut kib = dirs;
    for (_, content) in package.tree.files() {
        kib += content.size()?.div_ceil(1024);
    }
    let mut text = format!(
        "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: {}\nInstalled-Size: {kib}\n",
        package.name,
        package.full_version(),
        architecture(&package.arch),
        package.maintainer
    );
    for (field, relations) in
        [("Depends", &package.depends), ("Provides", &package.provides), ("Conflicts", &package.conflicts)]
    {
        if !relations.is_empty() {
            let list: Vec<String> = relations.iter().map(Relation::to_string).collect();
            text.push_str(&format!("{field}: {}\n", list.join(", ")));
        }
    }
    let section = if package.role == Role::Debug { "debug" } else { "database" };
    text.push_str(&format!("Section: {section}\nPriority: optional\nDescription: {}\n", package.summary));
    package.description.lines().for_each(|line| text.push_str(&format!(" {line}\n")));
    Ok(text)
}

fn md5sums(package: &Package, root: &Path, log: &Path) -> Result<String> {
    let names: Vec<&str> = package.tree.files().map(|(path, _)| path).collect();
    Child::new("md5sum", root, log).args(["--"]).args(names).read()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::plan::tests::sample;

    #[test]
    fn a_control_file_names_everything() {
        let text = control_file(&sample()).unwrap();
        let want = "Package: spock-postgresql-17\nVersion: 17.11+spock7.0.0-1.deb12\nArchitecture: amd64\n";
        assert!(text.starts_with(want), "{text}");
        assert!(text.contains("Depends: libc6 (>= 2.36)\nProvides: p\nSection: database\n"), "{text}");
        assert!(text.ends_with("Description: one line\n several\n lines\n"), "{text}");
    }

    #[test]
    fn a_changelog_entry_for_each_release() {
        let text = changelog(&sample());
        assert!(text.starts_with("spock-postgresql-17 (17.11+spock7.0.0-1.deb12) unstable; urgency=medium\n\n  * First.\n\n -- M <m@x>  Sat, 28 Nov 2026"), "{text}");
    }
}
