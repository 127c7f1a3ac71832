//! What goes along with the packages: SBOMs, sums and signatures, debug symbols, and what lintian says of a deb.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use super::cases::Suite;
use super::root::Root;
use super::{Checks, packages_dir};
use crate::child::Child;
use crate::digest::{Digest, files_below};
use crate::elf;
use crate::exit::{Failure, Result};
use crate::extension;
use crate::files;
use crate::package::plan::{Format, Role};
use crate::package::publish::{self, Artefact, Key, MANIFEST, SUMS};
use crate::package::tools;
use crate::patchset::PatchSet;

/// Where debuggers look for symbols by build id.
const DEBUG_DIR: &str = "usr/lib/debug/.build-id/";

/// What an SBOM has to say.
struct Told<'a> {
    role: Role,
    /// Of the artefact, as hexadecimal digits.
    digest: String,
    version: &'a str,
    /// The text of each patch, in order.
    patches: Vec<String>,
}

impl Suite<'_> {
    /// The documents of one format.
    pub(super) fn papers(&self, format: Format, checks: &mut Checks<'_>) -> Result<()> {
        checks.check(&format!("{format}: each SBOM tells of artefact, patches, crates and libraries"), || {
            self.of(format).into_iter().try_for_each(|artefact| self.sbom(artefact))
        })?;
        if format == Format::Deb {
            checks.check("deb: lintian finds no error", || {
                let debs = self.of(Format::Deb).into_iter().filter(|artefact| artefact.role != Role::Debug);
                let debs = debs.map(|artefact| artefact.path.clone());
                let log = self.cx.root.join("target/pg/log/package-suite.log");
                // Two modules of contrib call the server alone, and so link nothing.
                let words = ["--fail-on", "error", "--suppress-tags", "library-not-linked-against-libc", "--"];
                Child::new("lintian", &self.cx.root, &log).args(words).args(debs).read().map(drop)
            })?;
        }
        Ok(())
    }

    fn sbom(&self, artefact: &Artefact) -> Result<()> {
        let text = fs::read(&artefact.sbom).map_err(Failure::io("read", &artefact.sbom))?;
        let bad = |why: String| Failure::failed(format!("{}: {why}", artefact.sbom.display()), "");
        let document: Value = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        let index = artefact.path.join("index.json");
        let identity = if artefact.path.is_dir() { &index } else { &artefact.path };
        let mut patches = Vec::new();
        for diff in &PatchSet::load(&self.cx.root, self.major)?.diffs {
            patches.push(String::from_utf8_lossy(&fs::read(diff).map_err(Failure::io("read", diff))?).into_owned());
        }
        let told = Told {
            role: artefact.role,
            digest: Digest::of_file(identity)?.to_string(),
            version: &artefact.version,
            patches,
        };
        let faults = faults(&document, &told);
        if faults.is_empty() { Ok(()) } else { Err(bad(faults.join("; "))) }
    }

    /// Sums of all that was made, and their signatures, with the programs that users check them with.
    pub(super) fn sums(&self, checks: &mut Checks<'_>) -> Result<()> {
        let out = packages_dir(self.cx, self.major, self.kind, 1);
        let log = self.cx.root.join("target/pg/log/package-suite.log");
        let run = |program: &str, dir: &Path, words: &[&str]| Child::new(program, dir, &log).args(words).read();
        checks.check("sums: every file that was made is listed, with its digest", || {
            publish::publish(self.cx, &out, &self.artefacts, None)?;
            run("sha256sum", &out, &["--check", "--strict", "--quiet", SUMS])?;
            let text = fs::read_to_string(out.join(SUMS)).map_err(Failure::io("read", out.join(SUMS)))?;
            let listed: BTreeSet<&str> = text.lines().filter_map(|line| Some(line.split_once("  ")?.1)).collect();
            let made = files_below(&out, &[])?;
            let name = |path: &Path| path.strip_prefix(&out).unwrap_or(path).to_string_lossy().into_owned();
            let missing: Vec<String> = made
                .iter()
                .map(|path| name(path))
                .filter(|name| !name.starts_with(SUMS) && !listed.contains(name.as_str()))
                .collect();
            let manifest = listed.contains(MANIFEST);
            if missing.is_empty() && manifest {
                Ok(())
            } else {
                Err(Failure::failed(format!("{SUMS} lacks {}", missing.join(", ")), ""))
            }
        })?;
        // A short path: the socket of gpg's agent has to fit into it.
        let keys = std::env::temp_dir().join(format!("spock-keys-{}", std::process::id()));
        files::make_dir(&keys)?;
        checks.check("sums: signed with minisign, they verify", || {
            run("minisign", &keys, &["-G", "-W", "-p", "public", "-s", "secret"])?;
            publish::sign(self.cx, &out, &Key::Minisign(keys.join("secret")), None)?;
            let public = keys.join("public");
            run("minisign", &out, &["-V", "-p", &public.to_string_lossy(), "-m", SUMS]).map(drop)
        })?;
        checks.check("sums: signed with gpg, they verify", || {
            let home = keys.join("gpg");
            files::make_dir(&home)?;
            fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).map_err(Failure::io("set mode of", &home))?;
            let gpg = |program: &str, words: &[&str]| {
                Child::new(program, &out, &log).args(words).env("GNUPGHOME", &home).read()
            };
            let address = "packages@spock.invalid";
            gpg("gpg", &["--batch", "--passphrase", "", "--quick-generate-key", address, "ed25519", "sign", "never"])?;
            let signed = publish::has_secret_key(self.cx, address, Some(&home))
                .and_then(|()| publish::sign(self.cx, &out, &Key::Gpg(address.to_owned()), Some(&home)))
                .and_then(|()| gpg("gpg", &["--batch", "--verify", &format!("{SUMS}.asc"), SUMS]));
            gpg("gpgconf", &["--kill", "all"])?;
            signed.map(drop)
        })?;
        files::remove_if_there(&keys)
    }
}

/// What is wrong with an SBOM.
fn faults(document: &Value, told: &Told<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |good: bool, fault: &str| {
        if !good {
            faults.push(fault.to_owned());
        }
    };
    let own = &document["metadata"]["component"];
    expect(document["bomFormat"] == "CycloneDX" && document["specVersion"] == "1.5", "it is no CycloneDX 1.5");
    expect(own["hashes"][0]["content"] == told.digest.as_str(), "it is of another artefact");
    expect(own["version"] == told.version, "it is of another version");
    let components = document["components"].as_array().cloned().unwrap_or_default();
    let purl = |component: &Value| component["purl"].as_str().unwrap_or_default().to_owned();
    let server = matches!(told.role, Role::Server | Role::Both);
    let postgresql = components.iter().find(|component| component["bom-ref"] == "postgresql");
    expect(postgresql.is_some() == server, "PostgreSQL is in it, or not, against its role");
    if let Some(pedigree) = postgresql.map(|component| &component["pedigree"]) {
        let patches = pedigree["patches"].as_array().cloned().unwrap_or_default();
        let texts: Vec<&str> = patches.iter().filter_map(|patch| patch["diff"]["text"]["content"].as_str()).collect();
        expect(!texts.is_empty() && texts == told.patches, "its patches are not those of the series");
        let explained =
            |patch: &Value| patch["resolves"][0]["description"].as_str().is_some_and(|text| !text.is_empty());
        expect(patches.iter().all(explained), "a patch of it does not say what it is for");
        let ancestor = &pedigree["ancestors"][0]["hashes"][0]["content"];
        expect(ancestor.as_str().is_some_and(|digest| digest.len() == 64), "it does not name PostgreSQL's tarball");
    }
    let crates: Vec<&Value> = components.iter().filter(|one| purl(one).starts_with("pkg:cargo/")).collect();
    let extension = matches!(told.role, Role::Extension | Role::Both);
    let named = |name: &str| crates.iter().any(|one| one["name"] == name);
    let right = named("spock") == extension && named("pgrx") == extension;
    expect(right && (told.role != Role::Tools || named(tools::NAME)), "its crates are not those of its role");
    let ours = |one: &Value| one["name"].as_str().is_some_and(|name| name.starts_with("spock"));
    expect(
        crates.iter().all(|one| one["hashes"][0]["content"].is_string() || ours(one)),
        "a crate of it has no digest",
    );
    let system = |one: &Value| ["pkg:deb/", "pkg:rpm/"].iter().any(|kind| purl(one).starts_with(kind));
    let libraries: Vec<&Value> = components.iter().filter(|one| system(one)).collect();
    expect(
        libraries.is_empty() == (told.role == Role::Debug),
        "the system's libraries are in it, or not, against its role",
    );
    let versioned = |one: &&Value| one["version"].as_str().is_some_and(|version| !version.is_empty());
    expect(libraries.iter().all(versioned), "a library of it has no version");
    let nobodys = components.iter().filter_map(|one| one["bom-ref"].as_str()).find(|name| name.starts_with("file:"));
    expect(nobodys.is_none(), "no package owns a library of it");
    faults
}

/// Each file of symbols belongs to an installed program, and in a release build each program has one.
pub(super) fn symbols_found(root: &Root, paths: &BTreeSet<String>) -> Result<()> {
    let mut symbols: BTreeSet<String> = paths
        .iter()
        .filter_map(|path| path.strip_prefix(DEBUG_DIR)?.strip_suffix(".debug"))
        .map(|id| id.replace('/', ""))
        .collect();
    let (mut without, mut programs) = (Vec::new(), 0);
    for path in paths.iter().filter(|path| !path.contains("usr/lib/debug/")) {
        let full = root.dir().join(path);
        if !fs::symlink_metadata(&full).is_ok_and(|meta| meta.is_file()) {
            continue;
        }
        let Some(id) = elf::read(&full)?.filter(|elf| elf.linked).and_then(|elf| elf.build_id) else { continue };
        programs += 1;
        if !symbols.remove(&id) {
            without.push(path.as_str());
        }
    }
    let complete = extension::profile_overrides().is_empty();
    if programs > 0 && symbols.is_empty() && (without.is_empty() || !complete) {
        return Ok(());
    }
    let what = format!(
        "{programs} programs and libraries; without symbols: {}; symbols of none of them: {}",
        without.join(", "),
        symbols.into_iter().collect::<Vec<_>>().join(", ")
    );
    Err(Failure::failed(what, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "bomFormat": "CycloneDX", "specVersion": "1.5",
            "metadata": { "component": { "version": "1-1", "hashes": [{ "content": "ab" }] } },
            "components": [
                { "bom-ref": "postgresql", "pedigree": {
                    "ancestors": [{ "hashes": [{ "content": "0".repeat(64) }] }],
                    "patches": [{ "diff": { "text": { "content": "p" } }, "resolves": [{ "description": "why" }] }] } },
                { "bom-ref": "a", "purl": "pkg:cargo/spock@7", "name": "spock" },
                { "bom-ref": "b", "purl": "pkg:cargo/pgrx@0", "name": "pgrx", "hashes": [{ "content": "cd" }] },
                { "bom-ref": "c", "purl": "pkg:deb/debian/libc6@2", "name": "libc6", "version": "2" },
            ],
        })
    }

    #[test]
    fn a_fault_of_an_sbom_is_named() {
        let told = |role| Told { role, digest: "ab".to_owned(), version: "1-1", patches: vec!["p".to_owned()] };
        assert_eq!(faults(&document(), &told(Role::Both)), Vec::<String>::new());
        let cases: [(&str, Value, &str); 7] = [
            ("/metadata/component/hashes/0/content", json!("ef"), "it is of another artefact"),
            ("/metadata/component/version", json!("2"), "it is of another version"),
            (
                "/components/0/pedigree/patches/0/diff/text/content",
                json!("q"),
                "its patches are not those of the series",
            ),
            ("/components/0/pedigree/ancestors/0/hashes/0/content", json!(""), "it does not name PostgreSQL's tarball"),
            ("/components/2/hashes", json!([]), "a crate of it has no digest"),
            ("/components/3/version", json!(""), "a library of it has no version"),
            ("/components/3/bom-ref", json!("file:libx.so"), "no package owns a library of it"),
        ];
        for (place, value, want) in cases {
            let mut other = document();
            *other.pointer_mut(place).unwrap() = value;
            assert_eq!(faults(&other, &told(Role::Both)), [want], "{place}");
        }
        assert!(faults(&document(), &told(Role::Server)).contains(&"its crates are not those of its role".to_owned()));
        assert_eq!(faults(&document(), &told(Role::Debug)).len(), 3);
    }
}
