//! Two directories of artefacts, byte by byte; and where in an artefact the first difference is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::archive;
use crate::cx::Cx;
use crate::digest::files_below;
use crate::elf;
use crate::exit::{Failure, Result};

/// How many differing files of one artefact are named.
const SHOWN_MAX: usize = 12;

/// What comparing found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Files that are the same on both sides.
    pub same: Vec<String>,
    /// Lines that say what differs, and where.
    pub differences: Vec<String>,
}

/// Compares all files of two directories; unpacks what differs into `work` to say where.
pub fn directories(cx: &Cx, one: &Path, two: &Path, work: &Path) -> Result<Comparison> {
    let (left, right) = (names(one)?, names(two)?);
    let mut result = Comparison::default();
    for name in left.union(&right) {
        let (a, b) = (one.join(name), two.join(name));
        match (left.contains(name), right.contains(name)) {
            (true, false) => result.differences.push(format!("{name}: only the first build made it")),
            (false, _) => result.differences.push(format!("{name}: only the second build made it")),
            (true, true) if read(&a)? == read(&b)? => result.same.push(name.clone()),
            (true, true) => {
                result.differences.push(first_difference(name, &read(&a)?, &read(&b)?));
                result.differences.extend(inside(cx, &a, &b, work)?.into_iter().map(|line| format!("  {line}")));
            }
        }
    }
    Ok(result)
}

fn names(dir: &Path) -> Result<BTreeSet<String>> {
    let relative = |path: PathBuf| path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
    Ok(files_below(dir, &[])?.into_iter().map(relative).collect())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    match fs::symlink_metadata(path).map_err(Failure::io("look at", path))? {
        meta if meta.is_symlink() => {
            let goal = fs::read_link(path).map_err(Failure::io("read", path))?;
            Ok(goal.to_string_lossy().into_owned().into_bytes())
        }
        _ => fs::read(path).map_err(Failure::io("read", path)),
    }
}

/// `usr/bin/x: 4096 and 4100 bytes, first at byte 52 in .text`
pub fn first_difference(name: &str, a: &[u8], b: &[u8]) -> String {
    let at = a.iter().zip(b).position(|(x, y)| x != y).unwrap_or(a.len().min(b.len()));
    let size =
        if a.len() == b.len() { format!("{} bytes", a.len()) } else { format!("{} and {} bytes", a.len(), b.len()) };
    let place = if elf::is_elf(a) {
        elf::section_at(a, at as u64).map_or_else(String::new, |section| format!(" in {section}"))
    } else if std::str::from_utf8(a).is_ok() {
        let line = a[..at.min(a.len())].iter().filter(|byte| **byte == b'\n').count();
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).lines().nth(line).unwrap_or_default().chars().take(120).collect::<String>()
        };
        format!(", line {}: {:?} and {:?}", line + 1, text(a), text(b))
    } else {
        String::new()
    };
    format!("{name}: {size}, first difference at byte {at}{place}")
}

/// What differs inside two archives of the same name.
fn inside(cx: &Cx, a: &Path, b: &Path, work: &Path) -> Result<Vec<String>> {
    let (Some(left), Some(right)) = (unpacked(cx, a, &work.join("1"))?, unpacked(cx, b, &work.join("2"))?) else {
        return Ok(Vec::new());
    };
    let mut lines = Vec::new();
    for name in left.keys().chain(right.keys()).collect::<BTreeSet<_>>() {
        match (left.get(name), right.get(name)) {
            (Some(x), Some(y)) if x != y => lines.push(first_difference(name, x, y)),
            (Some(_), None) => lines.push(format!("{name}: only in the first")),
            (None, Some(_)) => lines.push(format!("{name}: only in the second")),
            _ => {}
        }
    }
    if lines.is_empty() {
        lines.push("the same files with the same bytes: modes, owners, times or compression differ".to_owned());
    }
    let more = lines.len().saturating_sub(SHOWN_MAX);
    lines.truncate(SHOWN_MAX);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    Ok(lines)
}

type Members = BTreeMap<String, Vec<u8>>;

/// The files in an archive; none for what is no archive.
fn unpacked(cx: &Cx, file: &Path, dir: &Path) -> Result<Option<Members>> {
    crate::files::remove_if_there(dir)?;
    let name = file.to_string_lossy().into_owned();
    if name.ends_with(".deb") {
        cx.ask("dpkg-deb", &["--raw-extract", &name, &dir.to_string_lossy()])?;
    } else if name.ends_with(".tar.gz") {
        archive::unpack(file, dir)?;
    } else if name.ends_with(".rpm") {
        return rpm_members(file).map(Some);
    } else {
        return Ok(None);
    }
    let mut members = Members::new();
    for name in names(dir)? {
        members.insert(name.clone(), read(&dir.join(name))?);
    }
    Ok(Some(members))
}

/// The files in an rpm.
pub fn rpm_members(file: &Path) -> Result<Members> {
    let bad = |error: rpm::Error| Failure::failed(format!("{}: {error}", file.display()), "");
    let package = rpm::Package::open(file).map_err(bad)?;
    let mut members = Members::new();
    for member in package.files().map_err(bad)? {
        let member = member.map_err(bad)?;
        let path = member.metadata.path().to_string_lossy().trim_start_matches('/').to_owned();
        members.insert(path, member.content().unwrap_or_default().to_vec());
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_says_where_it_is() {
        let cases: [(&[u8], &[u8], &str); 3] = [
            (b"a\nb\n", b"a\nc\n", "x: 4 bytes, first difference at byte 2, line 2: \"b\" and \"c\""),
            (b"\xff\x00", b"\xff\x00\x01", "x: 2 and 3 bytes, first difference at byte 2"),
            (b"", b"a", "x: 0 and 1 bytes, first difference at byte 0, line 1: \"\" and \"a\""),
        ];
        for (a, b, want) in cases {
            assert_eq!(first_difference("x", a, b), want);
        }
    }

    #[test]
    fn a_difference_inside_an_archive_is_found() {
        use crate::package::plan::tests::sample;
        use crate::package::{rpm, tarball};
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, text: &str| {
            let out = dir.path().join(name);
            let mut package = sample();
            package.tree.text("usr/lib/spock/conf", 0o644, text);
            tarball::write("x", &package.tree, 0, &out).unwrap();
            rpm::write(&package, 0, &out).unwrap();
            crate::files::write_whole(&out.join("SHA256SUMS"), b"the same").unwrap();
            out
        };
        let (one, two) = (make("1", "a\nb\n"), make("2", "a\nc\n"));
        crate::files::write_whole(&one.join("only"), b"").unwrap();
        let cx = Cx::for_tests();
        let found = directories(&cx, &one, &two, &dir.path().join("work")).unwrap();
        assert_eq!(found.same, ["SHA256SUMS"]);
        let where_inside = "usr/lib/spock/conf: 4 bytes, first difference at byte 2, line 2: \"b\" and \"c\"";
        let inside: Vec<&String> = found.differences.iter().filter(|line| line.ends_with(where_inside)).collect();
        assert_eq!(inside.len(), 2, "{:?}", found.differences);
        assert!(
            found.differences.contains(&"only: only the first build made it".to_owned()),
            "{:?}",
            found.differences
        );
        assert!(directories(&cx, &one, &one, &dir.path().join("work")).unwrap().differences.is_empty());
    }

    #[test]
    fn a_changed_program_names_the_section() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let header = object::File::parse(&*own).unwrap();
        use object::{Object, ObjectSection};
        let (begin, _) = header.section_by_name(".rodata").unwrap().file_range().unwrap();
        let mut other = own.clone();
        let at = usize::try_from(begin).unwrap() + 1;
        other[at] ^= 0xff;
        assert!(first_difference("x", &own, &other).ends_with(" in .rodata"));
    }
}
