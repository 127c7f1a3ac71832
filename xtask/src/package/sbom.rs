//! What is in an artefact, as CycloneDX 1.5: PostgreSQL with each patch as pedigree, the linked crates, the system's libraries.
//!
//! **Invariant:** the same artefact gives the same document: serial number and time come from its digest and epoch.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cx::Cx;
use crate::digest::Digest;
use crate::exit::{Failure, Result};
use crate::extension::cargo;
use crate::package::deb::architecture;
use crate::package::licences::{self, Licensed};
use crate::package::plan::{Format, Package, Plan, Role};
use crate::package::relations;
use crate::package::texts::rfc3339;
use crate::package::tools;
use crate::symbols;
use crate::target::{Origin, Target};

/// A crate that is linked into the extension.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crate {
    name: String,
    version: String,
    licence: String,
    /// SHA-256 of the crate file; none for crates of this repository.
    checksum: Option<String>,
    /// Names and texts of its licence files.
    texts: Vec<(String, String)>,
}

/// Writes documents for the packages of a plan.
pub struct Sbom<'a> {
    cx: &'a Cx,
    plan: &'a Plan<'a>,
    /// Of the extension.
    crates: Vec<Crate>,
    /// Of the operator's program.
    tools: Vec<Crate>,
    owners: RefCell<BTreeMap<String, Value>>,
}

/// `patches/series.toml`, as far as it is told here.
#[derive(Deserialize)]
struct Series {
    patch: Vec<Patch>,
}

#[derive(Deserialize)]
struct Patch {
    file: String,
    id: String,
    purpose: String,
}

impl<'a> Sbom<'a> {
    /// For one plan.
    pub fn new(cx: &'a Cx, plan: &'a Plan<'a>, crates: Vec<Crate>, tools: Vec<Crate>) -> Self {
        Self { cx, plan, crates, tools, owners: RefCell::default() }
    }

    /// The document of one package.
    pub fn document(
        &self,
        format: Format,
        package: &Package,
        private: &BTreeSet<String>,
        digest: &Digest,
    ) -> Result<Value> {
        let mut components = Vec::new();
        if matches!(package.role, Role::Server | Role::Both) {
            components.push(self.postgresql()?);
        }
        let mut crates: BTreeSet<&Crate> = BTreeSet::new();
        if matches!(package.role, Role::Extension | Role::Both) {
            crates.extend(&self.crates);
        }
        if package.tree.files().any(|(path, _)| path.ends_with(tools::PROGRAM)) {
            crates.extend(&self.tools);
        }
        components.extend(crates.into_iter().map(Crate::component));
        if package.role != Role::Debug {
            components.extend(self.libraries(package, private)?);
        }
        let own = purl(format, package, &self.plan.machine.distribution);
        let refs: Vec<Value> = components.iter().map(|component| component["bom-ref"].clone()).collect();
        Ok(json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "serialNumber": serial(digest),
            "version": 1,
            "metadata": {
                "timestamp": rfc3339(self.plan.epoch),
                "tools": { "components": [{ "type": "application", "name": "spock xtask", "version": env!("CARGO_PKG_VERSION") }] },
                "component": {
                    "type": if format == Format::Oci { "container" } else { "application" },
                    "bom-ref": own,
                    "name": package.name,
                    "version": package.full_version(),
                    "description": package.summary,
                    "licenses": [{ "license": { "id": "PostgreSQL" } }],
                    "hashes": [{ "alg": "SHA-256", "content": digest.to_string() }],
                    "purl": own,
                    "properties": [
                        { "name": "spock:patch-set", "value": if self.plan.patch_set.is_empty() || package.role == Role::Tools { "none" } else { &self.plan.patch_set } },
                        { "name": "spock:role", "value": format!("{:?}", package.role).to_lowercase() },
                        { "name": "spock:profile", "value": profile() },
                    ],
                },
            },
            "components": components,
            "dependencies": [{ "ref": own, "dependsOn": refs }],
        }))
    }

    fn postgresql(&self) -> Result<Value> {
        let version = &self.plan.pg_version;
        let mut ancestor = json!({
            "type": "application", "name": "postgresql", "version": version,
            "purl": format!("pkg:generic/postgresql@{version}"),
            "cpe": format!("cpe:2.3:a:postgresql:postgresql:{version}:*:*:*:*:*:*:*"),
        });
        let mut patches = Vec::new();
        if let Origin::Compile(recipe) = &self.plan.target.origin {
            if let Some(digest) = recipe.code.digest() {
                ancestor["hashes"] = json!([{ "alg": "SHA-256", "content": digest.to_string() }]);
            }
            let path = self.cx.root.join("patches/series.toml");
            let text = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
            let series: Series =
                toml::from_str(&text).map_err(|e| Failure::failed(format!("patches/series.toml: {e}"), ""))?;
            for diff in &recipe.patches.diffs {
                patches.push(patch(diff, &series)?);
            }
        }
        Ok(json!({
            "type": "application", "bom-ref": "postgresql", "name": "postgresql",
            "version": format!("{version}-spock-{}", self.plan.patch_set),
            "licenses": [{ "license": { "id": "PostgreSQL" } }],
            "cpe": format!("cpe:2.3:a:postgresql:postgresql:{version}:*:*:*:*:*:*:*"),
            "pedigree": { "ancestors": [ancestor], "patches": patches,
                "notes": format!("patch set {}", self.plan.patch_set) },
        }))
    }

    /// Each library of the system that the package's programs name, under the package that owns it.
    fn libraries(&self, package: &Package, private: &BTreeSet<String>) -> Result<Vec<Value>> {
        let mut found: BTreeMap<String, Value> = BTreeMap::new();
        for name in relations::system_libraries(package, private)? {
            let known = self.owners.borrow().get(&name).cloned();
            let component = match known {
                Some(component) => component,
                None => self.owner(&name),
            };
            self.owners.borrow_mut().insert(name, component.clone());
            found.insert(component["bom-ref"].to_string(), component);
        }
        Ok(found.into_values().collect())
    }

    fn owner(&self, library: &str) -> Value {
        let owner = symbols::find(library, Path::new("/nowhere")).and_then(|path| owner_of(self.cx, &path));
        match owner {
            Some(owner) => owner.component(&self.plan.machine.distribution),
            // Honest where nobody owns it: a library that was installed by hand.
            None => json!({ "type": "library", "bom-ref": format!("file:{library}"), "name": library }),
        }
    }
}

/// A package of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    version: String,
    arch: String,
    kind: &'static str,
}

impl Owner {
    fn component(&self, distribution: &str) -> Value {
        let (id, _) = distribution.split_once('-').unwrap_or((distribution, ""));
        let purl = format!(
            "pkg:{}/{id}/{}@{}?arch={}&distro={distribution}",
            self.kind,
            self.name,
            encoded(&self.version),
            self.arch
        );
        json!({ "type": "library", "bom-ref": purl, "name": self.name, "version": self.version, "purl": purl })
    }
}

/// The system's package that owns a file.
pub fn owner_of(cx: &Cx, path: &Path) -> Option<Owner> {
    let text = path.to_string_lossy().into_owned();
    // Where /lib is a link to /usr/lib, the database knows one of the two names.
    let real = fs::canonicalize(path).ok()?.to_string_lossy().into_owned();
    let other = real.strip_prefix("/usr").map(str::to_owned).unwrap_or_else(|| format!("/usr{real}"));
    for name in [&text, &real, &other] {
        if let Ok(said) = cx.ask("dpkg-query", &["--search", name]) {
            let package = said.split(": ").next()?.to_owned();
            let said = cx
                .ask("dpkg-query", &["--show", "--showformat=${Package}\t${Version}\t${Architecture}", &package])
                .ok()?;
            return fields(&said, "deb");
        }
        if let Ok(said) =
            cx.ask("rpm", &["--query", "--queryformat=%{NAME}\t%{VERSION}-%{RELEASE}\t%{ARCH}", "--file", name])
        {
            return fields(&said, "rpm");
        }
    }
    None
}

fn fields(said: &str, kind: &'static str) -> Option<Owner> {
    let mut words = said.trim().split('\t').map(str::to_owned);
    Some(Owner { name: words.next()?, version: words.next()?, arch: words.next()?, kind })
}

fn patch(diff: &Path, series: &Series) -> Result<Value> {
    let text = fs::read(diff).map_err(Failure::io("read", diff))?;
    let name = diff.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entry = series.patch.iter().find(|patch| patch.file.ends_with(&name));
    let entry = entry.ok_or_else(|| Failure::failed(format!("patches/series.toml does not list {name}"), ""))?;
    Ok(json!({
        "type": "unofficial",
        "diff": {
            "text": { "contentType": "text/x-diff", "content": String::from_utf8_lossy(&text) },
            "url": format!("patches/{}", entry.file),
        },
        "resolves": [{
            "type": "enhancement", "id": entry.id, "name": name, "description": entry.purpose,
        }],
    }))
}

fn profile() -> String {
    let overrides = crate::extension::profile_overrides();
    if overrides.is_empty() { "release".to_owned() } else { overrides }
}

fn purl(format: Format, package: &Package, distribution: &str) -> String {
    let (name, version) = (&package.name, encoded(&package.full_version()));
    match format {
        Format::Deb => {
            format!("pkg:deb/spock/{name}@{version}?arch={}&distro={distribution}", architecture(&package.arch))
        }
        Format::Rpm => format!("pkg:rpm/spock/{name}@{version}?arch={}&distro={distribution}", package.arch),
        Format::Tar | Format::Oci => format!("pkg:generic/{name}@{version}?arch={}&type={format}", package.arch),
    }
}

fn encoded(version: &str) -> String {
    version.replace('+', "%2B").replace(':', "%3A").replace('~', "%7E")
}

/// A UUID of version 8 (RFC 9562) with the digest's digits.
fn serial(digest: &Digest) -> String {
    let hex = digest.to_string();
    format!("urn:uuid:{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

impl Crate {
    fn component(&self) -> Value {
        let purl = format!("pkg:cargo/{}@{}", self.name, encoded(&self.version));
        let mut component = json!({
            "type": "library", "bom-ref": purl, "name": self.name, "version": self.version, "purl": purl,
            "licenses": [{ "expression": self.licence }],
        });
        if let Some(checksum) = &self.checksum {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        component
    }
}

/// Crates of others that are linked into something, with their licences.
pub fn licence_list(into: &str, crates: &[Crate]) -> Result<String> {
    let others = crates.iter().filter(|one| one.checksum.is_some());
    let licensed: Vec<Licensed<'_>> = others
        .map(|one| Licensed {
            title: format!("{} {}", one.name, one.version),
            expression: &one.licence,
            texts: &one.texts,
        })
        .collect();
    licences::document(into, &licensed)
}

/// The crates that are linked into the extension of a target: normal dependencies, without procedural macros.
pub fn crates(cx: &Cx, target: &Target) -> Result<Vec<Crate>> {
    let (dir, log) = (target.dirs.stage().join("extension"), target.dirs.log("package"));
    let features = ["--no-default-features".to_owned(), "--features".to_owned(), target.major.feature()];
    let said = metadata(cx, &dir, &log, &[&["--locked".to_owned()], &features[..]].concat())
        // The staged workspace has fewer members than the lock file has, so a check would fail; its versions hold.
        .or_else(|_| metadata(cx, &dir, &log, &features))?;
    with_texts(cx, linked(&said, "spock").ok_or_else(|| unknown("spock"))?)
}

/// The same of a program of this repository.
pub fn crates_of_program(cx: &Cx, name: &str, log: &Path) -> Result<Vec<Crate>> {
    let said = metadata(cx, &cx.root, log, &["--locked".to_owned()])?;
    // Metadata has the features of all members; what one of them really has is in the tree.
    let words = ["tree", "--locked", "--package", name, "--edges", "normal,no-proc-macro", "--prefix", "none"];
    let tree = cargo(cx, &cx.root, log).args(words).args(["--target", &triple(), "--format", "{p}"]).read()?;
    let built: BTreeSet<(&str, &str)> = tree.lines().filter_map(name_and_version).collect();
    let found = linked(&said, name).ok_or_else(|| unknown(name))?;
    with_texts(cx, found.into_iter().filter(|one| built.contains(&(&one.name, &one.version))).collect())
}

/// `serde v1.0.228 (/some/where)`: name and version.
fn name_and_version(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    Some((words.next()?, words.next()?.strip_prefix('v')?))
}

/// This machine, as cargo calls it.
pub fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

fn unknown(name: &str) -> Failure {
    Failure::failed(format!("cargo metadata has no package {name}"), "")
}

fn metadata(cx: &Cx, dir: &Path, log: &Path, words: &[String]) -> Result<Metadata> {
    let child = cargo(cx, dir, log).args(["metadata", "--format-version=1", "--filter-platform", &triple()]);
    let said = child.args(words).read()?;
    serde_json::from_str(&said).map_err(|e| Failure::failed(format!("cargo metadata: {e}"), ""))
}

fn with_texts(cx: &Cx, found: Vec<&Listed>) -> Result<Vec<Crate>> {
    let lock = cx.root.join("Cargo.lock");
    let text = fs::read_to_string(&lock).map_err(Failure::io("read", &lock))?;
    let lock: Lock = toml::from_str(&text).map_err(|e| Failure::failed(format!("Cargo.lock: {e}"), ""))?;
    let of = |package: &Listed| -> Result<Crate> {
        Ok(Crate {
            checksum: lock.checksum(&package.name, &package.version),
            name: package.name.clone(),
            version: package.version.clone(),
            licence: package.license.clone().unwrap_or_else(|| "NOASSERTION".to_owned()).replace('/', " OR "),
            texts: package.manifest_path.parent().map_or(Ok(Vec::new()), licences::texts)?,
        })
    };
    found.into_iter().map(of).collect()
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

impl Lock {
    fn checksum(&self, name: &str, version: &str) -> Option<String> {
        self.package.iter().find(|one| one.name == name && one.version == version)?.checksum.clone()
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Listed>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Built>,
}

#[derive(Deserialize)]
struct Built {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dep>,
}

#[derive(Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

/// The package called `root` and all it links, sorted by name.
fn linked<'m>(metadata: &'m Metadata, root: &str) -> Option<Vec<&'m Listed>> {
    let package = |id: &str| metadata.packages.iter().find(|package| package.id == id);
    let start = metadata.packages.iter().find(|package| package.name == root)?;
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut todo = vec![start.id.as_str()];
    while let Some(id) = todo.pop() {
        let proc_macro = package(id)?.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "proc-macro"));
        if proc_macro || !seen.insert(id) {
            continue;
        }
        let node = metadata.resolve.nodes.iter().find(|node| node.id == id)?;
        let normal = node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()));
        todo.extend(normal.map(|dep| dep.pkg.as_str()));
    }
    let mut found: Vec<&Listed> = seen.into_iter().filter_map(package).collect();
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_tree_are_read() {
        assert_eq!(name_and_version("serde v1.0.228"), Some(("serde", "1.0.228")));
        assert_eq!(name_and_version("spock-core v7.0.0 (/a/core) (*)"), Some(("spock-core", "7.0.0")));
        assert_eq!(name_and_version(""), None);
    }

    #[test]
    fn only_what_is_linked_counts() {
        let text = r#"{"packages": [
            {"id": "a", "manifest_path": "/a/Cargo.toml", "name": "spock", "version": "7.0.0", "license": null, "targets": [{"kind": ["cdylib"]}]},
            {"id": "b", "manifest_path": "/b/Cargo.toml", "name": "b", "version": "1.0.0", "license": "MIT", "targets": [{"kind": ["lib"]}]},
            {"id": "m", "manifest_path": "/m/Cargo.toml", "name": "m", "version": "1.0.0", "license": "MIT", "targets": [{"kind": ["proc-macro"]}]},
            {"id": "c", "manifest_path": "/c/Cargo.toml", "name": "c", "version": "1.0.0", "license": "MIT", "targets": [{"kind": ["lib"]}]}],
          "resolve": {"nodes": [
            {"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]}, {"pkg": "c", "dep_kinds": [{"kind": "build"}]}]},
            {"id": "b", "deps": [{"pkg": "m", "dep_kinds": [{"kind": null}]}]},
            {"id": "m", "deps": []}, {"id": "c", "deps": []}]}}"#;
        let metadata: Metadata = serde_json::from_str(text).unwrap();
        let names: Vec<&str> = linked(&metadata, "spock").unwrap().iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["b", "spock"]);
    }

    #[test]
    fn a_serial_number_is_a_uuid_of_the_digest() {
        let serial = serial(&Digest::of_bytes(b"abc"));
        assert_eq!(serial, "urn:uuid:ba7816bf-8f01-8fea-8141-40de5dae2223");
    }
}
