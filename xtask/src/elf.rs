//! What an ELF file says about itself: what it needs, where it looks, what it exports.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_SONAME, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, Object, ObjectSymbol};

use crate::exit::{Failure, Result};

/// The dynamic part of an ELF file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elf {
    /// DT_NEEDED, in the file's order.
    pub needed: Vec<String>,
    /// DT_RUNPATH or DT_RPATH.
    pub runpath: Option<String>,
    /// DT_SONAME.
    pub soname: Option<String>,
    /// Library and version of each versioned need: `libc.so.6`, `GLIBC_2.34`.
    pub versions: BTreeSet<(String, String)>,
    /// The linker's build id in hexadecimal.
    pub build_id: Option<String>,
    /// Names of defined dynamic symbols.
    pub exports: BTreeSet<String>,
    /// Is it a program or library, not an object file?
    pub linked: bool,
}

/// Reads a file; none when it is no 64-bit ELF file.
pub fn read(path: &Path) -> Result<Option<Elf>> {
    let bytes = fs::read(path).map_err(Failure::io("read", path))?;
    if !is_elf(&bytes) {
        return Ok(None);
    }
    parse(&bytes).map(Some).map_err(|error| not_elf(path, &error))
}

/// Does it begin like one?
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF\x02")
}

/// Reads the bytes of a file.
pub fn parse(bytes: &[u8]) -> object::Result<Elf> {
    let file = object::File::parse(bytes)?;
    let mut elf = Elf {
        build_id: file.build_id()?.map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()),
        linked: matches!(file.kind(), object::ObjectKind::Executable | object::ObjectKind::Dynamic),
        ..Elf::default()
    };
    let defined = file.dynamic_symbols().filter(|symbol| !symbol.is_undefined());
    elf.exports = defined.filter_map(|symbol| symbol.name().ok()).map(str::to_owned).collect();
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let Some((_, section)) = sections.dynamic(endian, bytes)? else { return Ok(elf) };
    let strings = sections.strings(endian, bytes, section)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for segment in header.program_headers(endian, bytes)? {
        for entry in segment.dynamic(endian, bytes)?.unwrap_or_default() {
            match entry.tag32(endian) {
                Some(DT_NEEDED) => elf.needed.push(text(entry.string(endian, strings)?)),
                Some(DT_RPATH | DT_RUNPATH) => elf.runpath = Some(text(entry.string(endian, strings)?)),
                Some(DT_SONAME) => elf.soname = Some(text(entry.string(endian, strings)?)),
                _ => {}
            }
        }
    }
    if let Some((mut needs, link)) = sections.gnu_verneed(endian, bytes)? {
        let strings = sections.strings(endian, bytes, link)?;
        while let Some((need, mut versions)) = needs.next()? {
            let library = text(need.file(endian, strings)?);
            while let Some(version) = versions.next()? {
                elf.versions.insert((library.clone(), text(version.name(endian, strings)?)));
            }
        }
    }
    Ok(elf)
}

/// The offset and name of the section that holds a byte of the file.
pub fn section_at(bytes: &[u8], at: u64) -> Option<String> {
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let found = sections.iter().find(|section| {
        section.file_range(endian).is_some_and(|(begin, length)| (begin..begin + length).contains(&at))
    })?;
    sections.section_name(endian, found).ok().map(|name| String::from_utf8_lossy(name).into_owned())
}

/// The failure for a file that should be one.
pub fn not_elf(path: &Path, error: &object::Error) -> Failure {
    Failure::failed(format!("{} is not a loadable ELF file: {error}", path.display()), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_says_what_it_needs() {
        let own = std::env::current_exe().unwrap();
        let elf = read(&own).unwrap().unwrap();
        assert!(elf.linked && elf.needed.iter().any(|name| name.starts_with("libc.so")), "{:?}", elf.needed);
        assert!(
            elf.versions.iter().any(|(library, version)| library.starts_with("libc.so") && version.contains("GLIBC_"))
        );
        assert_eq!(read(Path::new("/etc/passwd")).unwrap(), None);
    }
}
