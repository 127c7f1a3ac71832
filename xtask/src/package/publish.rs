//! What a run made, for those who fetch it: digests, a manifest for programs, a signature.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::child::Child;
use crate::cx::Cx;
use crate::digest::{Digest, files_below};
use crate::exit::{Failure, Result};
use crate::files;
use crate::package::plan::{Format, Role};
use crate::system;

/// Version of `manifest.json`.
const SCHEMA: u32 = 1;
/// Name and digest of every file, images file by file: what `sha256sum --check` reads.
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

impl Key {
    /// What the signature's file has behind the name of the signed one.
    fn suffix(&self) -> &'static str {
        match self {
            Self::Minisign(_) => "minisig",
            Self::Gpg(_) => "asc",
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

#[derive(Serialize, Deserialize)]
struct Manifest {
    schema: u32,
    artefacts: Vec<Listed>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Listed {
    file: String,
    sbom: String,
    sha256: String,
    size: u64,
    format: Format,
    role: Role,
    package: String,
    version: String,
    major: String,
    server: String,
    patch_set: String,
    distribution: String,
    arch: String,
    source_date_epoch: u64,
}

/// Files by their names below the directory of artefacts, and their digests.
type Sums = BTreeMap<String, String>;

impl Listed {
    fn of(artefact: &Artefact) -> Self {
        Self {
            file: name_of(&artefact.path),
            sbom: name_of(&artefact.sbom),
            sha256: artefact.digest.clone(),
            size: artefact.size,
            format: artefact.format,
            role: artefact.role,
            package: artefact.package.clone(),
            version: artefact.version.clone(),
            major: artefact.major.clone(),
            server: artefact.server.clone(),
            patch_set: artefact.patch_set.clone(),
            distribution: artefact.distribution.clone(),
            arch: artefact.arch.clone(),
            source_date_epoch: artefact.epoch,
        }
    }

    /// Digests of its SBOM and itself, of an image file by file; none when one of the two is not there.
    fn sums(&self, out: &Path) -> Result<Option<Sums>> {
        let (path, sbom) = (out.join(&self.file), out.join(&self.sbom));
        if !path.exists() || !sbom.is_file() {
            return Ok(None);
        }
        let mut files = if path.is_dir() { files_below(&path, &[])? } else { vec![path] };
        files.push(sbom);
        let name = |file: &Path| file.strip_prefix(out).unwrap_or(file).to_string_lossy().into_owned();
        let sums = files.iter().map(|file| Ok((name(file), Digest::of_file(file)?.to_string())));
        sums.collect::<Result<Sums>>().map(Some)
    }
}

/// What earlier runs listed in a directory of artefacts.
#[derive(Debug, Default)]
pub struct Earlier {
    artefacts: Vec<Listed>,
    sums: Sums,
}

impl Earlier {
    /// Reads manifest and sums of `out`; fails when the manifest is not that of such runs.
    pub fn read(out: &Path) -> Result<Self> {
        let path = out.join(MANIFEST);
        let Some(bytes) = read_if_there(&path)? else { return Ok(Self::default()) };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| {
            let what = format!("{} is not the manifest of a run before this one: {e}", path.display());
            Failure::usage(what, "choose another --out, or remove that file")
        })?;
        let text = read_if_there(&out.join(SUMS))?.unwrap_or_default();
        let lines = String::from_utf8_lossy(&text).into_owned();
        let pairs = lines.lines().filter_map(|line| line.split_once("  "));
        let sums = pairs.map(|(digest, name)| (name.to_owned(), digest.to_owned())).collect();
        Ok(Self { artefacts: manifest.artefacts, sums })
    }

    /// The digests of an artefact whose files are all just what was listed.
    fn unchanged(&self, out: &Path, listed: &Listed) -> Result<Option<Sums>> {
        let Some(now) = listed.sums(out)? else { return Ok(None) };
        let below = format!("{}/", listed.file);
        let of_it = |name: &String| *name == listed.file || *name == listed.sbom || name.starts_with(&below);
        let then: Sums =
            self.sums.iter().filter(|(name, _)| of_it(name)).map(|(n, d)| (n.clone(), d.clone())).collect();
        Ok((now == then).then_some(now))
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::io("read", path)(e)),
    }
}

/// Whether `key` can sign, asked before anything is built.
pub fn can_sign(cx: &Cx, key: &Key) -> Result<()> {
    match key {
        Key::Minisign(file) if !file.is_file() => {
            let what = format!("there is no key file {}", file.display());
            Err(Failure::usage(what, "minisign -G -W -s FILE makes one without a password"))
        }
        Key::Minisign(_) => system::require_named(cx, "minisign"),
        Key::Gpg(id) => {
            system::require_named(cx, "gpg")?;
            has_secret_key(cx, id, None)
        }
    }
}

/// Fails unless gpg has the secret key; `home` as for [`sign`].
pub fn has_secret_key(cx: &Cx, id: &str, home: Option<&Path>) -> Result<()> {
    let child = Child::new("gpg", &cx.root, Path::new("/dev/null")).args(["--batch", "--list-secret-keys", "--", id]);
    let child = home.into_iter().fold(child, |child, home| child.env("GNUPGHOME", home));
    child.read().map(drop).map_err(|failure| match failure {
        Failure::Child { .. } => {
            Failure::usage(format!("gpg has no secret key {id}"), "gpg --list-secret-keys prints those that it has")
        }
        other => other,
    })
}

/// Lists `artefacts` in the manifest and the sums of `out`, beside what earlier runs listed there and is still there
/// unchanged; signs the sums when there is a key.
pub fn publish(cx: &Cx, out: &Path, artefacts: &[Artefact], key: Option<&Key>) -> Result<()> {
    files::make_dir(out)?;
    // Of two runs that end at once, the second has to read what the first one listed.
    let lock = std::fs::File::open(out).map_err(Failure::io("open", out))?;
    lock.lock().map_err(Failure::io("lock", out))?;
    let earlier = Earlier::read(out)?;
    let mut listed: BTreeMap<String, Listed> = artefacts.iter().map(Listed::of).map(|l| (l.file.clone(), l)).collect();
    let mut sums = Sums::new();
    for new in listed.values() {
        let gone = || Failure::failed(format!("{} is not there any more", out.join(&new.file).display()), "");
        sums.extend(new.sums(out)?.ok_or_else(gone)?);
    }
    let ours = listed.len();
    for old in &earlier.artefacts {
        if listed.contains_key(&old.file) {
            continue;
        }
        match earlier.unchanged(out, old)? {
            Some(same) => {
                sums.extend(same);
                listed.insert(old.file.clone(), old.clone());
            }
            None => cx.say.note("Dropped", &format!("{} from {SUMS}: gone, or not what was listed", old.file)),
        }
    }
    if listed.len() > ours {
        let kept = listed.len() - ours;
        cx.say.note("Listed", &format!("{ours} artefacts of this run and {kept} of earlier ones in {}", out.display()));
    }
    let manifest = Manifest { schema: SCHEMA, artefacts: listed.into_values().collect() };
    let text = serde_json::to_string_pretty(&manifest).map_err(|e| Failure::failed(e.to_string(), ""))? + "\n";
    sums.insert(MANIFEST.to_owned(), Digest::of_bytes(text.as_bytes()).to_string());
    let lines: String = sums.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect();
    if read_if_there(&out.join(SUMS))?.is_none_or(|old| old != lines.as_bytes()) {
        forget_signatures(cx, out, key)?;
    }
    files::write_whole(&out.join(MANIFEST), text.as_bytes())?;
    files::write_whole(&out.join(SUMS), lines.as_bytes())?;
    key.map_or(Ok(()), |key| sign(cx, out, key, None))
}

/// Removes signatures of sums that are about to change, and says so of those that `key` does not make again.
fn forget_signatures(cx: &Cx, out: &Path, key: Option<&Key>) -> Result<()> {
    for suffix in ["minisig", "asc"] {
        let file = format!("{SUMS}.{suffix}");
        if !out.join(&file).exists() {
            continue;
        }
        files::remove_if_there(&out.join(&file))?;
        if key.is_none_or(|key| key.suffix() != suffix) {
            cx.say.note("Removed", &format!("{file}: {SUMS} has changed; --sign with that key signs it again"));
        }
    }
    Ok(())
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
        let mut manifest: serde_json::Value = serde_json::from_slice(&bytes).map_err(bad)?;
        for artefact in manifest["artefacts"].as_array_mut().into_iter().flatten() {
            for name in ["file", "sbom"] {
                let from = artefact[name].as_str().map(|name| cell.join(name));
                let Some(from) = from else { continue };
                if name == "file" {
                    must_be_listed(&from, artefact)?;
                }
                let to = moved(cx, &from, dir)?;
                if name == "file" && from.is_dir() {
                    list_tarball(artefact, &to)?;
                }
                all.push(to);
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

/// The file that stands for an artefact: of an image its index.
pub fn identity(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("index.json") } else { path.to_owned() }
}

/// A cell's file may have been damaged on its way here.
fn must_be_listed(file: &Path, artefact: &serde_json::Value) -> Result<()> {
    if artefact["sha256"].as_str() == Some(Digest::of_file(&identity(file))?.to_string().as_str()) {
        return Ok(());
    }
    let what = format!("{} is not what the {MANIFEST} beside it says", file.display());
    Err(Failure::failed(what, "make that cell's packages again"))
}

/// Says of an image what is published of it: the tarball. Its SBOM and registries know it by its index.
fn list_tarball(artefact: &mut serde_json::Value, tarball: &Path) -> Result<()> {
    let size = std::fs::metadata(tarball).map_err(Failure::io("look at", tarball))?.len();
    artefact["index_sha256"] = artefact["sha256"].take();
    artefact["sha256"] = Digest::of_file(tarball)?.to_string().into();
    artefact["size"] = size.into();
    artefact["file"] = name_of(tarball).into();
    Ok(())
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
            let file = format!("{SUMS}.{}", key.suffix());
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

    /// One that was written to `out`.
    fn artefact(out: &Path, name: &str, text: &str) -> Artefact {
        let (path, sbom) = (out.join(name), out.join(format!("{name}.cdx.json")));
        let file = if name.ends_with(".oci") { path.join("index.json") } else { path.clone() };
        files::write_whole(&file, text.as_bytes()).unwrap();
        files::write_whole(&sbom, b"{}").unwrap();
        let digest = Digest::of_bytes(text.as_bytes()).to_string();
        let of = str::to_owned;
        Artefact {
            format: Format::Deb,
            role: Role::Server,
            package: of("p"),
            version: of("1"),
            major: of("17"),
            server: of("patched"),
            patch_set: String::new(),
            distribution: of("debian-12"),
            arch: of("x86_64"),
            epoch: 1,
            size: text.len() as u64,
            digest,
            path,
            sbom,
        }
    }

    /// What is listed, after a look that manifest and sums agree and are true.
    fn listed(out: &Path) -> Vec<String> {
        let earlier = Earlier::read(out).unwrap();
        for artefact in &earlier.artefacts {
            assert!(earlier.unchanged(out, artefact).unwrap().is_some(), "{}", artefact.file);
        }
        let manifest = Digest::of_file(&out.join(MANIFEST)).unwrap().to_string();
        assert_eq!(earlier.sums.get(MANIFEST), Some(&manifest));
        let names: Vec<String> = earlier.artefacts.iter().map(|artefact| artefact.file.clone()).collect();
        let files = earlier.sums.keys().filter(|name| !name.ends_with(".cdx.json") && *name != MANIFEST);
        let files: Vec<&str> = files.map(|name| name.split('/').next().unwrap_or_default()).collect();
        assert_eq!(files, names);
        names
    }

    #[test]
    fn a_second_run_lists_what_the_first_one_made() {
        let dir = tempfile::tempdir().unwrap();
        let (cx, out) = (Cx::for_tests(), dir.path());
        let first = ["a.deb", "b.oci", "c.deb"].map(|name| artefact(out, name, name));
        publish(&cx, out, &first, None).unwrap();
        assert_eq!(listed(out), ["a.deb", "b.oci", "c.deb"]);
        let put = |name: &str| files::write_whole(&out.join(name), b"signature").unwrap();
        ["SHA256SUMS.minisig", "SHA256SUMS.asc"].into_iter().for_each(put);
        // The same again leaves the sums as they are, so that signatures of them stay good.
        publish(&cx, out, &first[..1], None).unwrap();
        assert!(out.join("SHA256SUMS.asc").exists());
        let again = [artefact(out, "a.deb", "newer"), artefact(out, "d.deb", "d")];
        publish(&cx, out, &again, None).unwrap();
        assert_eq!(listed(out), ["a.deb", "b.oci", "c.deb", "d.deb"]);
        assert!(!out.join("SHA256SUMS.asc").exists() && !out.join("SHA256SUMS.minisig").exists());
        put("c.deb");
        put("b.oci/blob");
        files::remove_if_there(&out.join("a.deb.cdx.json")).unwrap();
        publish(&cx, out, &[artefact(out, "e.deb", "e")], None).unwrap();
        assert_eq!(listed(out), ["d.deb", "e.deb"]);
    }

    #[test]
    fn a_foreign_manifest_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (cx, out) = (Cx::for_tests(), dir.path());
        files::write_whole(&out.join(MANIFEST), br#"{"schema":1,"cells":{}}"#).unwrap();
        let failure = publish(&cx, out, &[artefact(out, "a.deb", "a")], None).unwrap_err();
        assert_eq!(failure.exit() as u8, 2, "{failure}");
        assert!(!out.join(SUMS).exists());
    }

    /// A cell that made `x.deb`.
    fn cell(dir: &Path, cell: &str, text: &str) {
        let put = |name: &str, text: &str| files::write_whole(&dir.join(cell).join(name), text.as_bytes()).unwrap();
        let digest = Digest::of_bytes(text.as_bytes());
        let artefact = format!(r#"{{"file":"x.deb","sbom":"x.deb.cdx.json","sha256":"{digest}"}}"#);
        put(MANIFEST, &format!(r#"{{"schema":1,"artefacts":[{artefact}]}}"#));
        put("x.deb", text);
        put("x.deb.cdx.json", "{}");
    }

    #[test]
    fn cells_are_put_together_once_each() {
        let dir = tempfile::tempdir().unwrap();
        cell(dir.path(), "a", "x");
        // The same file of two cells is one.
        cell(dir.path(), "c", "x");
        skipped(&dir.path().join("b"), "b", "source not obtainable").unwrap();
        merge(&Cx::for_tests(), dir.path(), None).unwrap();
        let sums = std::fs::read_to_string(dir.path().join(SUMS)).unwrap();
        let names: Vec<&str> = sums.lines().filter_map(|line| line.split_once("  ")).map(|(_, name)| name).collect();
        assert_eq!(names, ["manifest.json", "x.deb", "x.deb.cdx.json"]);
        let manifest = std::fs::read_to_string(dir.path().join(MANIFEST)).unwrap();
        assert!(manifest.contains("source not obtainable"), "{manifest}");
    }

    #[test]
    fn cells_that_do_not_fit_together_are_not_published() {
        let dir = tempfile::tempdir().unwrap();
        cell(dir.path(), "a", "x");
        cell(dir.path(), "d", "another");
        let error = merge(&Cx::for_tests(), dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("two cells made x.deb"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        cell(dir.path(), "a", "x");
        files::write_whole(&dir.path().join("a/x.deb"), b"damaged").unwrap();
        let error = merge(&Cx::for_tests(), dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("a/x.deb is not what"), "{error}");
        assert!(!dir.path().join(SUMS).exists());
    }

    #[test]
    fn an_image_is_listed_as_the_tarball_that_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let (cx, cell) = (Cx::for_tests(), dir.path().join("a"));
        publish(&cx, &cell, &[artefact(&cell, "x.oci", "index")], None).unwrap();
        merge(&cx, dir.path(), None).unwrap();
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&read(MANIFEST)).unwrap();
        let told = &manifest["cells"]["a"]["artefacts"][0];
        let tarball = read("x.oci.tar");
        let digest = Digest::of_bytes(&tarball).to_string();
        assert_eq!(told["file"], "x.oci.tar");
        assert_eq!(told["size"], tarball.len());
        assert_eq!(told["sha256"], digest.as_str());
        assert_eq!(told["index_sha256"], Digest::of_bytes(b"index").to_string().as_str());
        let sums = String::from_utf8(read(SUMS)).unwrap();
        assert!(sums.contains(&format!("{digest}  x.oci.tar\n")), "{sums}");
    }

    #[test]
    fn a_key_that_is_not_there_is_said_before_anything_is_built() {
        let cx = Cx::for_tests();
        let failure = can_sign(&cx, &Key::Minisign("/no/such/key".into())).unwrap_err();
        assert_eq!((failure.exit() as u8, failure.hint().is_empty()), (2, false), "{failure}");
        let home = tempfile::tempdir().unwrap();
        let (failure, code) = match system::program("gpg") {
            Some(_) => (has_secret_key(&cx, "nobody@spock.invalid", Some(home.path())).unwrap_err(), 2),
            None => (can_sign(&cx, &Key::Gpg("nobody@spock.invalid".to_owned())).unwrap_err(), 3),
        };
        assert_eq!((failure.exit() as u8, failure.hint().is_empty()), (code, false), "{failure}");
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
