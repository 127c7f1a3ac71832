//! Undefined symbols of the built extension, held against what the server and the libraries export.
//!
//! A server loads modules with all symbols bound, so one missing symbol makes the whole extension unloadable. This finds it
//! at build time.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSymbol};

use crate::elf;
use crate::exit::{Failure, Result};

/// Where the system keeps its libraries, over the distributions.
pub const SYSTEM_DIRS: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// The symbols that `library` needs and nobody exports: neither `postgres` nor the libraries it names, looked for in
/// `libdir` and the system's directories.
pub fn missing(library: &Path, postgres: &Path, libdir: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(library).map_err(Failure::io("read", library))?;
    let file = object::File::parse(&*bytes).map_err(|e| elf::not_elf(library, &e))?;
    let needed = elf::parse(&bytes).map_err(|e| elf::not_elf(library, &e))?.needed;
    let mut exported: BTreeSet<String> = BTreeSet::new();
    for path in std::iter::once(postgres.to_owned()).chain(needed.iter().filter_map(|name| find(name, libdir))) {
        exported.extend(elf::read(&path)?.unwrap_or_default().exports);
    }
    let undefined = file.dynamic_symbols().filter(|symbol| symbol.is_undefined() && !symbol.is_weak());
    let mut names: Vec<String> = undefined
        .filter_map(|symbol| symbol.name().ok())
        .filter(|name| !name.is_empty() && !exported.contains(*name))
        .map(str::to_owned)
        .collect();
    names.sort();
    Ok(names)
}

/// A library by its file name, in `libdir` or where the system keeps its own.
pub fn find(name: &str, libdir: &Path) -> Option<PathBuf> {
    let dirs = std::iter::once(libdir).chain(SYSTEM_DIRS.iter().map(Path::new));
    dirs.map(|dir| dir.join(name)).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_needs_what_its_libraries_export() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(missing(&own, &own, Path::new("/nowhere")).unwrap(), Vec::<String>::new());
    }
}
