//! What a run made, for those who fetch it: digests, a manifest for programs, a signature.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::child::Child;
use crate::cx::Cx;
use crate::digest::{Digest, files_below};
use crate::exit::{Failure, Result};
use crate::files;
use crate::package::plan::{Format, Role};
use crate::system;

/// Version of `manifest.json`.
const SCHEMA: u32 = 1;
/// Name and digest of every file.
pub const SUMS: &str = "SHA256SUMS";
/// The artefacts as JSON.
pub const MANIFEST: &str = "manifest.json";

/// A package that was written.
#[derive(Debug, Clone)]
pub struct Artefact {
    /// Of which format.
    pub format: Format,
    /// What it is for.
    pub role: Role,
    /// Name of the package.
    pub package: String,
    /// Version and release.
    pub version: String,
    /// Of the server; empty for what belongs to none.
    pub major: String,
    /// patched or stock; likewise.
    pub server: String,
    /// Of the server; empty for a stock one.
    pub patch_set: String,
    /// On what it was built.
    pub distribution: String,
    /// As in Rust.
    pub arch: String,
    /// Every time in it.
    pub epoch: u64,
    /// Bytes.
    pub size: u64,
    /// Of the file; of an image its index.
    pub digest: String,
    /// File, or directory of an image.
    pub path: PathBuf,
    /// Its SBOM.
    pub sbom: PathBuf,
}

/// With what sums are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A secret key file without a password.
    Minisign(PathBuf),
    /// A key of the user's key ring.
    Gpg(String),
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            Some(("minisign", path)) if !path.is_empty() => Ok(Self::Minisign(path.into())),
            Some(("gpg", id)) if !id.is_empty() => Ok(Self::Gpg(id.to_owned())),
            _ => Err("give minisign:SECRET_KEY_FILE or gpg:KEY_ID".to_owned()),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minisign(_) => f.write_str("minisign"),
            Self::Gpg(id) => write!(f, "gpg, key {id}"),
        }
    }
}

#[derive(Serialize)]
struct Manifest<'a> {
    schema: u32,
    artefacts: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    file: String,
    sbom: String,
    sha256: &'a str,
    size: u64,
    format: Format,
    role: Role,
    package: &'a str,
    version: &'a str,
    major: &'a str,
    server: &'a str,
    patch_set: &'a str,
    distribution: &'a str,
    arch: &'a str,
    source_date_epoch: u64,
}

/// Whether `key` can sign, asked before anything is built.
pub fn can_sign(key: &Key) -> Result<()> {
    let (program, package) = match key {
        Key::Minisign(file) if !file.is_file() => {
            let what = format!("there is no key file {}", file.display());
            return Err(Failure::usage(what, "minisign -G -W -s FILE makes one without a password"));
        }
        Key::Minisign(_) => ("minisign", "minisign"),
        Key::Gpg(_) => ("gpg", "gnupg"),
    };
    if system::program(program).is_some() {
        return Ok(());
    }
    Err(Failure::Missing { missing: vec![program.to_owned()], fix: format!("install the package {package}") })
}

/// Writes manifest and sums into `out`; signs the sums when there is a key.
pub fn publish(cx: &Cx, out: &Path, artefacts: &[Artefact], key: Option<&Key>) -> Result<()> {
    let listed = artefacts.iter().map(|artefact| Listed {
        file: name_of(&artefact.path),
        sbom: name_of(&artefact.sbom),
        sha256: &artefact.digest,
        size: artefact.size,
        format: artefact.format,
        role: artefact.role,
        package: &artefact.package,
        version: &artefact.version,
        major: &artefact.major,
        server: &artefact.server,
        patch_set: &artefact.patch_set,
        distribution: &artefact.distribution,
        arch: &artefact.arch,
        source_date_epoch: artefact.epoch,
    });
    let manifest = Manifest { schema: SCHEMA, artefacts: listed.collect() };
    let text = serde_json::to_string_pretty(&manifest).map_err(|e| Failure::failed(e.to_string(), ""))?;
    files::write_whole(&out.join(MANIFEST), (text + "\n").as_bytes())?;
    files::write_whole(&out.join(SUMS), sums(out, artefacts)?.as_bytes())?;
    for old in ["minisig", "asc"] {
        files::remove_if_there(&out.join(format!("{SUMS}.{old}")))?;
    }
    key.map_or(Ok(()), |key| sign(cx, out, key, None))
}

/// Says in a manifest of its own why a cell made nothing.
pub fn skipped(out: &Path, cell: &str, why: &str) -> Result<()> {
    let manifest = serde_json::json!({ "schema": SCHEMA, "skipped": { "cell": cell, "why": why }, "artefacts": [] });
    files::write_whole(&out.join(MANIFEST), manifest.to_string().as_bytes())
}

/// Puts what each cell left in `dir/<cell>/` into `dir`, images as tarballs, with one manifest of all cells.
pub fn merge(cx: &Cx, dir: &Path, key: Option<&Key>) -> Result<()> {
    let bad = |e: serde_json::Error| Failure::failed(format!("{}: {e}", dir.display()), "");
    let mut cells = serde_json::Map::new();
    let mut all: Vec<PathBuf> = Vec::new();
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Failure::io("read", dir))? {
        let path = entry.map_err(Failure::io("read", dir))?.path();
        entries.extend(path.join(MANIFEST).is_file().then_some(path));
    }
    entries.sort();
    for cell in &entries {
        let path = cell.join(MANIFEST);
        let bytes = std::fs::read(&path).map_err(Failure::io("read", &path))?;
        let manifest: serde_json::Value = serde_json::from_slice(&bytes).map_err(bad)?;
        for artefact in manifest["artefacts"].as_array().into_iter().flatten() {
            for name in [&artefact["file"], &artefact["sbom"]].into_iter().filter_map(|name| name.as_str()) {
                all.push(moved(cx, &cell.join(name), dir)?);
            }
        }
        cells.insert(name_of(cell), manifest);
    }
    if cells.is_empty() {
        return Err(Failure::usage(
            format!("{} holds no cell with a {MANIFEST}", dir.display()),
            "give the directory that holds one for each",
        ));
    }
    let manifest = serde_json::json!({ "schema": SCHEMA, "cells": cells });
    let text = serde_json::to_string_pretty(&manifest).map_err(bad)?;
    files::write_whole(&dir.join(MANIFEST), (text + "\n").as_bytes())?;
    all.push(dir.join(MANIFEST));
    all.sort();
    all.dedup();
    let mut sums = String::new();
    for file in &all {
        sums.push_str(&format!("{}  {}\n", Digest::of_file(file)?, name_of(file)));
    }
    files::write_whole(&dir.join(SUMS), sums.as_bytes())?;
    cx.say.result("published", &format!("{} cells, {} files", entries.len(), all.len()));
    key.map_or(Ok(()), |key| sign(cx, dir, key, None))
}

/// Moves a file up into `dir`; of an image a tarball is made there.
fn moved(cx: &Cx, from: &Path, dir: &Path) -> Result<PathBuf> {
    let name = name_of(from);
    let to = dir.join(if from.is_dir() { format!("{name}.tar") } else { name });
    if to.is_file() && from.is_file() && Digest::of_file(&to)? == Digest::of_file(from)? {
        // The operator's program is made by every cell of a machine, with the same bytes.
        return Ok(to);
    }
    if to.exists() {
        return Err(Failure::failed(format!("two cells made {}", name_of(&to)), "their packages need different names"));
    }
    if from.is_dir() {
        let words = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-cf"];
        let log = cx.root.join("target/pg/log/publish.log");
        Child::new("tar", from, &log).args(words).args([&to]).args(["."]).read()?;
    } else {
        std::fs::rename(from, &to).map_err(Failure::io("move", from))?;
    }
    Ok(to)
}

/// What `sha256sum --check` reads: every file that was written, images file by file.
fn sums(out: &Path, artefacts: &[Artefact]) -> Result<String> {
    let mut all = vec![out.join(MANIFEST)];
    for artefact in artefacts {
        all.push(artefact.sbom.clone());
        if artefact.path.is_dir() {
            all.extend(files_below(&artefact.path, &[])?);
        } else {
            all.push(artefact.path.clone());
        }
    }
    all.sort();
    let mut text = String::new();
    for file in all {
        let name = file.strip_prefix(out).unwrap_or(&file).to_string_lossy().into_owned();
        text.push_str(&format!("{}  {name}\n", Digest::of_file(&file)?));
    }
    Ok(text)
}

/// Signs the sums in `out`; `home` is where gpg looks for keys, when it is not the user's own place.
pub fn sign(cx: &Cx, out: &Path, key: &Key, home: Option<&Path>) -> Result<()> {
    let name = format!("sign with {key}");
    let progress = cx.say.begin(&name, "");
    let log = cx.root.join("target/pg/log/sign.log");
    match key {
        Key::Minisign(secret) => {
            let secret = std::path::absolute(secret).map_err(Failure::io("find", secret))?;
            Child::new("minisign", out, &log)
                .args(["-S", "-m", SUMS, "-t", "Spock packages", "-s"])
                .args([secret])
                .run(&progress)?;
        }
        Key::Gpg(id) => {
            let file = format!("{SUMS}.asc");
            let words = ["--batch", "--yes", "--armor", "--local-user", id, "--output", &file, "--detach-sign", SUMS];
            let child = Child::new("gpg", out, &log).args(words);
            match home {
                Some(home) => child.env("GNUPGHOME", home).run(&progress)?,
                None => child.run(&progress)?,
            }
        }
    }
    progress.done();
    Ok(())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_put_together_once_each() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| files::write_whole(&dir.path().join(name), text.as_bytes()).unwrap();
        let cx = Cx::for_tests();
        put("a/manifest.json", r#"{"schema":1,"artefacts":[{"file":"x.deb","sbom":"x.deb.cdx.json"}]}"#);
        put("a/x.deb", "x");
        put("a/x.deb.cdx.json", "{}");
        // The same file of two cells is one.
        put("c/manifest.json", r#"{"schema":1,"artefacts":[{"file":"x.deb","sbom":"x.deb.cdx.json"}]}"#);
        put("c/x.deb", "x");
        put("c/x.deb.cdx.json", "{}");
        skipped(&dir.path().join("b"), "b", "source not obtainable").unwrap();
        merge(&cx, dir.path(), None).unwrap();
        let sums = std::fs::read_to_string(dir.path().join(SUMS)).unwrap();
        let names: Vec<&str> = sums.lines().filter_map(|line| line.split_once("  ")).map(|(_, name)| name).collect();
        assert_eq!(names, ["manifest.json", "x.deb", "x.deb.cdx.json"]);
        let manifest = std::fs::read_to_string(dir.path().join(MANIFEST)).unwrap();
        assert!(manifest.contains("source not obtainable"), "{manifest}");
        put("d/manifest.json", r#"{"schema":1,"artefacts":[{"file":"x.deb","sbom":"x.deb.cdx.json"}]}"#);
        put("d/x.deb", "another");
        put("d/x.deb.cdx.json", "{}");
        let error = merge(&cx, dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("two cells made x.deb"), "{error}");
    }

    #[test]
    fn a_key_that_is_not_there_is_said_before_anything_is_built() {
        let failure = can_sign(&Key::Minisign("/no/such/key".into())).unwrap_err();
        assert_eq!((failure.exit() as u8, failure.hint().is_empty()), (2, false), "{failure}");
    }

    #[test]
    fn keys_are_read() {
        assert_eq!("minisign:/k".parse(), Ok(Key::Minisign("/k".into())));
        assert_eq!("gpg:ABCD".parse(), Ok(Key::Gpg("ABCD".to_owned())));
        for wrong in ["", "gpg:", "pgp:x", "/k"] {
            assert!(wrong.parse::<Key>().is_err(), "{wrong}");
        }
    }
}
