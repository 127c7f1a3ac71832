//! What a package needs from the system, read from the files that are in it.
//!
//! **Invariant:** nothing is guessed: deb asks `dpkg-shlibdeps`, which knows the owner of each library and the oldest version
//! of it with the used symbols; rpm states each library and symbol version, as its own generator does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::child::Child;
use crate::elf::{self, Elf};
use crate::exit::{Failure, Result};
use crate::files;
use crate::package::plan::{Package, Relation};
use crate::package::tree::Tree;

/// Programs and libraries of a tree, with what they say.
pub fn linked(tree: &Tree) -> Result<Vec<(String, Elf)>> {
    let mut found = Vec::new();
    for (path, content) in tree.files() {
        let bytes = content.read()?;
        if elf::is_elf(&bytes) {
            let elf = elf::parse(&bytes).map_err(|e| elf::not_elf(Path::new(path), &e))?;
            if elf.linked {
                found.push((path.to_owned(), elf));
            }
        }
    }
    Ok(found)
}

/// The libraries that a directory of our own server provides: nobody else is asked for them.
pub fn private(dir: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).map_err(Failure::io("read", dir))? {
        let path = entry.map_err(Failure::io("read", dir))?.path();
        if path.is_file() && path.to_string_lossy().contains(".so") {
            names.extend(elf::read(&path)?.and_then(|elf| elf.soname));
        }
    }
    Ok(names)
}

/// What a deb needs. `root` holds its tree, `libdir` the libraries that `local`, in the form of shlibs files, speaks of.
pub fn deb(root: &Path, tree: &Tree, libdir: &Path, local: &str, log: &Path) -> Result<Vec<Relation>> {
    let programs: Vec<PathBuf> = linked(tree)?.into_iter().map(|(path, _)| root.join(path)).collect();
    if programs.is_empty() {
        return Ok(Vec::new());
    }
    let dir = root.with_extension("shlibs");
    files::remove_if_there(&dir)?;
    files::write_whole(&dir.join("debian/control"), b"Source: x\n\nPackage: x\nArchitecture: any\n")?;
    files::write_whole(&dir.join("debian/shlibs.local"), local.as_bytes())?;
    let said = Child::new("dpkg-shlibdeps", &dir, log)
        .args(["-O".to_owned(), "--warnings=0".to_owned(), format!("-l{}", libdir.display())])
        .args(programs.iter().map(|path| format!("-e{}", path.display())))
        .read()?;
    files::remove_if_there(&dir)?;
    let list = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends=")).unwrap_or_default();
    Ok(list.split(',').map(str::trim).filter(|one| !one.is_empty()).map(read_relation).collect())
}

/// A line of a shlibs file for each library of our own server. Without a package it means that the library asks for none.
pub fn shlibs(private: &BTreeSet<String>) -> String {
    private.iter().filter_map(|name| shlibs_line(name)).collect()
}

/// `libpq.so.5`: `libpq 5`, the form of shlibs files.
fn shlibs_line(soname: &str) -> Option<String> {
    let (library, version) = soname.split_once(".so.")?;
    Some(format!("{library} {version}\n"))
}

fn read_relation(text: &str) -> Relation {
    let version = text.split_once(" (>= ").and_then(|(name, rest)| Some((name, rest.strip_suffix(')')?)));
    match version {
        Some((name, version)) if !text.contains('|') => Relation::since(name, version),
        _ => Relation::any(text),
    }
}

/// What an rpm needs: `libc.so.6()(64bit)`, `libc.so.6(GLIBC_2.34)(64bit)`.
pub fn rpm(tree: &Tree, private: &BTreeSet<String>) -> Result<Vec<Relation>> {
    let mut needs = BTreeSet::new();
    for (_, elf) in linked(tree)? {
        let public = |name: &String| !private.contains(name);
        needs.extend(elf.needed.iter().filter(|name| public(name)).map(|name| format!("{name}()(64bit)")));
        let versions = elf.versions.iter().filter(|(library, _)| public(library));
        needs.extend(versions.map(|(library, version)| format!("{library}({version})(64bit)")));
    }
    Ok(needs.into_iter().map(Relation::any).collect())
}

/// The libraries of the system that a package's files name.
pub fn system_libraries(package: &Package, private: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let linked = linked(&package.tree)?;
    Ok(linked.into_iter().flat_map(|(_, elf)| elf.needed).filter(|name| !private.contains(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::tree::Content;

    #[test]
    fn relations_of_shlibdeps_are_read() {
        assert_eq!(read_relation("libc6 (>= 2.36)"), Relation::since("libc6", "2.36"));
        assert_eq!(read_relation("libfoo1"), Relation::any("libfoo1"));
        assert_eq!(read_relation("liba (>= 1) | libb").to_string(), "liba (>= 1) | libb");
        assert_eq!(shlibs_line("libpq.so.5").as_deref(), Some("libpq 5\n"));
    }

    #[test]
    fn an_rpm_states_libraries_and_symbol_versions() {
        let mut tree = Tree::default();
        tree.file("usr/bin/x", 0o755, Content::From(std::env::current_exe().unwrap()));
        tree.text("usr/bin/y", 0o755, "#!/bin/sh\n");
        let needs: Vec<String> = rpm(&tree, &BTreeSet::new()).unwrap().into_iter().map(|need| need.name).collect();
        assert!(needs.contains(&"libc.so.6()(64bit)".to_owned()), "{needs:?}");
        assert!(needs.iter().any(|need| need.starts_with("libc.so.6(GLIBC_")), "{needs:?}");
        let without = rpm(&tree, &BTreeSet::from(["libc.so.6".to_owned()])).unwrap();
        assert!(!without.iter().any(|need| need.name.starts_with("libc.so.6")), "{without:?}");
    }
}
