//! Writes a container image as an OCI layout directory: files, no daemon, no registry.
//!
//! Two layers: a runtime (a shell, the C library and the libraries that the server links, of this machine), and the server
//! with the extension in its prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cx::Cx;
use crate::digest::Digest;
use crate::elf;
use crate::exit::{Failure, Result};
use crate::files;
use crate::package::layout::Layout;
use crate::package::plan::{Package, Plan};
use crate::package::texts::rfc3339;
use crate::package::tree::{Content, Tree};
use crate::package::{relations, sbom, tarball};
use crate::symbols;

/// The account in the image; the same numbers as other PostgreSQL images on Debian use.
const OWNER: u32 = 999;

/// The architecture as OCI calls it.
fn architecture(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Everything outside the prefix that the package's programs and scripts need.
pub fn runtime(cx: &Cx, package: &Package, private: &BTreeSet<String>) -> Result<Tree> {
    let mut tree = Tree::default();
    let shell = std::fs::canonicalize("/bin/sh").map_err(Failure::io("find", "/bin/sh"))?;
    tree.file("bin/sh", 0o755, Content::From(shell.clone()));
    let mut todo: Vec<String> = relations::system_libraries(package, private)?.into_iter().collect();
    todo.extend(elf::read(&shell)?.map(|elf| elf.needed).unwrap_or_default());
    todo.push(loader(&package.arch)?.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    while let Some(name) = todo.pop() {
        if found.contains_key(&name) || private.contains(&name) {
            continue;
        }
        let none = || Failure::failed(format!("{name} is nowhere on this machine"), "the server links it");
        let path = symbols::find(&name, Path::new("/nowhere")).ok_or_else(none)?;
        todo.extend(elf::read(&path)?.map(|elf| elf.needed).unwrap_or_default());
        found.insert(name, path);
    }
    let mut owners = BTreeSet::new();
    for path in found.values().chain([&shell]) {
        owners.extend(sbom::owner_of(cx, path).map(|owner| owner.name));
    }
    for path in found.values() {
        let real = std::fs::canonicalize(path).map_err(Failure::io("find", path))?;
        tree.file(Layout::relative(&path.to_string_lossy()), 0o755, Content::From(real));
    }
    let loader = loader(&package.arch)?;
    let real = std::fs::canonicalize(&loader).map_err(Failure::io("find", &loader))?;
    tree.file(Layout::relative(&loader.to_string_lossy()), 0o755, Content::From(real));
    for owner in owners {
        let copyright = PathBuf::from(format!("/usr/share/doc/{owner}/copyright"));
        if let Ok(real) = std::fs::canonicalize(&copyright) {
            tree.file(Layout::relative(&copyright.to_string_lossy()), 0o644, Content::From(real));
        }
    }
    let text = |name: &str| {
        let path = cx.root.join("packaging/oci").join(name);
        std::fs::read_to_string(&path).map_err(Failure::io("read", path))
    };
    tree.text("etc/passwd", 0o644, text("passwd")?);
    tree.text("etc/group", 0o644, text("group")?);
    tree.dir("tmp", 0o1777, 0);
    Ok(tree)
}

/// The program that loads programs.
fn loader(arch: &str) -> Result<PathBuf> {
    match arch {
        "x86_64" => Ok("/lib64/ld-linux-x86-64.so.2".into()),
        "aarch64" => Ok("/lib/ld-linux-aarch64.so.1".into()),
        other => Err(Failure::usage(format!("images for {other} are not made here"), "leave oci out")),
    }
}

/// Makes the layout directory in the plan's output.
pub fn write(plan: &Plan<'_>, package: &Package, runtime: &Tree) -> Result<PathBuf> {
    let mut product = package.tree.clone();
    let data = format!("var/lib/spock-postgresql/{}", plan.major());
    product.dir(&data, 0o700, OWNER);
    let dir = plan.out.join(format!("{}.oci", plan.bundle_name()));
    files::replace_dir(&dir, |part| {
        let mut layers = Vec::new();
        for (tree, made_by) in [(runtime, "runtime"), (&product, "server and extension")] {
            let bytes = tarball::archive(None, tree, plan.epoch)?;
            let packed = blob(part, &tarball::gzip(&bytes)?, "application/vnd.oci.image.layer.v1.tar+gzip")?;
            layers.push((packed, Digest::of_bytes(&bytes), made_by));
        }
        let config = blob(part, &text(&config(plan, package, &layers))?, "application/vnd.oci.image.config.v1+json")?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
            "layers": layers.iter().map(|(descriptor, _, _)| descriptor).collect::<Vec<_>>(),
            "annotations": annotations(plan, package),
        });
        let mut manifest = blob(part, &text(&manifest)?, "application/vnd.oci.image.manifest.v1+json")?;
        manifest["platform"] = json!({ "architecture": architecture(&package.arch), "os": "linux" });
        let tag = package.full_version().replace('+', "-");
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest],
        });
        files::write_whole(&part.join("index.json"), &text(&index)?)?;
        files::write_whole(&part.join("oci-layout"), &text(&json!({ "imageLayoutVersion": "1.0.0" }))?)
    })?;
    Ok(dir)
}

/// Writes a blob under its digest; its descriptor.
fn blob(dir: &Path, bytes: &[u8], media_type: &str) -> Result<Value> {
    let digest = Digest::of_bytes(bytes);
    files::write_whole(&dir.join("blobs/sha256").join(digest.to_string()), bytes)?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
}

fn text(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Failure::failed(e.to_string(), ""))
}

fn annotations(plan: &Plan<'_>, package: &Package) -> Value {
    json!({
        "org.opencontainers.image.title": package.name,
        "org.opencontainers.image.description": package.summary,
        "org.opencontainers.image.version": package.full_version(),
        "org.opencontainers.image.licenses": "PostgreSQL",
        "org.opencontainers.image.created": rfc3339(plan.epoch),
        "spock.patch-set": plan.patch_set,
    })
}

fn config(plan: &Plan<'_>, package: &Package, layers: &[(Value, Digest, &str)]) -> Value {
    let layout = Layout::own(plan.major());
    let data = format!("/var/lib/spock-postgresql/{}", plan.major());
    let history = layers.iter().map(|(_, _, made_by)| json!({ "created": rfc3339(plan.epoch), "created_by": made_by }));
    json!({
        "created": rfc3339(plan.epoch),
        "architecture": architecture(&package.arch),
        "os": "linux",
        "config": {
            "User": format!("{OWNER}:{OWNER}"),
            "Env": [
                format!("PATH={}:/bin", layout.bin),
                format!("PGDATA={data}/main"),
                "LANG=C.UTF-8",
            ],
            "Entrypoint": [format!("{}/spock-entrypoint", layout.bin)],
            "ExposedPorts": { "5432/tcp": {} },
            "Volumes": { data: {} },
            "StopSignal": "SIGINT",
            "Labels": annotations(plan, package),
        },
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|(_, id, _)| format!("sha256:{id}")).collect::<Vec<_>>() },
        "history": history.collect::<Vec<_>>(),
    })
}
