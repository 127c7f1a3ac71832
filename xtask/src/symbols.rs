//! Undefined symbols of the built extension, held against what the server and the libraries export.
//!
//! A server loads modules with all symbols bound, so one missing symbol makes the whole extension unloadable. This finds it
//! at build time.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSymbol};

use crate::exit::{Failure, Result};

/// Where the system keeps its libraries, over the distributions.
const SYSTEM_DIRS: [&str; 8] = [
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
    let file = object::File::parse(&*bytes).map_err(|e| not_elf(library, &e))?;
    let mut exported = exports(postgres)?;
    for needed in needed_libraries(&bytes, library)? {
        if let Some(path) = find(&needed, libdir) {
            exported.extend(exports(&path)?);
        }
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

fn exports(path: &Path) -> Result<HashSet<String>> {
    let bytes = fs::read(path).map_err(Failure::io("read", path))?;
    let file = object::File::parse(&*bytes).map_err(|e| not_elf(path, &e))?;
    let defined = file.dynamic_symbols().filter(|symbol| !symbol.is_undefined());
    Ok(defined.filter_map(|symbol| symbol.name().ok()).map(str::to_owned).collect())
}

fn needed_libraries(bytes: &[u8], path: &Path) -> Result<Vec<String>> {
    use object::elf::{DT_NEEDED, FileHeader64};
    use object::read::elf::{Dyn, FileHeader, ProgramHeader};
    let header = FileHeader64::<object::Endianness>::parse(bytes).map_err(|e| not_elf(path, &e))?;
    let endian = header.endian().map_err(|e| not_elf(path, &e))?;
    let sections = header.sections(endian, bytes).map_err(|e| not_elf(path, &e))?;
    let segments = header.program_headers(endian, bytes).map_err(|e| not_elf(path, &e))?;
    let strings = match sections.dynamic(endian, bytes).map_err(|e| not_elf(path, &e))? {
        Some((_, section)) => sections.strings(endian, bytes, section).map_err(|e| not_elf(path, &e))?,
        None => return Ok(Vec::new()),
    };
    let mut names = Vec::new();
    for segment in segments {
        for entry in segment.dynamic(endian, bytes).ok().flatten().unwrap_or_default() {
            if entry.tag32(endian) == Some(DT_NEEDED) {
                let name = entry.string(endian, strings).map_err(|e| not_elf(path, &e))?;
                names.push(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    Ok(names)
}

/// A library by its file name, in `libdir` or where the system keeps its own.
pub fn find(name: &str, libdir: &Path) -> Option<PathBuf> {
    let dirs = std::iter::once(libdir).chain(SYSTEM_DIRS.iter().map(Path::new));
    dirs.map(|dir| dir.join(name)).find(|path| path.exists())
}

fn not_elf(path: &Path, error: &object::Error) -> Failure {
    Failure::failed(format!("{} is not a loadable ELF file: {error}", path.display()), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_needs_what_its_libraries_export() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(missing(&own, &own, Path::new("/nowhere")).unwrap(), Vec::<String>::new());
        assert!(
            needed_libraries(&fs::read(&own).unwrap(), &own).unwrap().iter().any(|name| name.starts_with("libc.so"))
        );
    }
}
