//! Makes the packages of a plan: built files in, artefacts with their SBOMs out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cx::Cx;
use crate::digest::Digest;
use crate::exit::{Failure, Result};
use crate::major::Kind;
use crate::package::layout::{Family, Layout};
use crate::package::payload::{Built, Payload};
use crate::package::plan::{Format, Package, Plan, Role};
use crate::package::publish::{self, Artefact};
use crate::package::sbom::{self, Sbom};
use crate::package::tools::Tools;
use crate::package::{deb, oci, relations, rpm, tarball};
use crate::say::Progress;
use crate::server;
use crate::target::Origin;
use crate::{extension, files};

/// Everything that making needs, beside the package itself.
struct Maker<'a> {
    cx: &'a Cx,
    plan: &'a Plan<'a>,
    sbom: Sbom<'a>,
    /// Libraries of our own server.
    private: BTreeSet<String>,
    /// Where those are.
    libdir: PathBuf,
    /// Which packages of Debian bring them.
    shlibs: String,
    log: PathBuf,
}

/// Writes every format of the plan.
pub fn make(cx: &Cx, plan: &Plan<'_>) -> Result<Vec<Artefact>> {
    let label = plan.target.label();
    let name = format!("{label}: strip");
    let progress = cx.say.begin(&name, "");
    let crates = sbom::crates(cx, plan.target)?;
    let tools = Tools::collect(cx, &progress)?;
    let of_tools = tools.as_ref().map(|tools| tools.crates.clone()).unwrap_or_default();
    let built = Built::collect(cx, plan, sbom::licence_list("spock.so", &crates)?, tools, &progress)?;
    progress.done();
    let overrides = extension::profile_overrides();
    if !overrides.is_empty() {
        cx.say.note("Note", &format!("not a release build: {overrides}"));
    }
    let libdir = server::entry_dir(cx, &server::store_key(plan.target)).join("prefix/lib");
    let private = match plan.target.kind {
        Kind::Patched => relations::private(&libdir)?,
        Kind::Stock => BTreeSet::new(),
    };
    let shlibs = match (plan.target.kind, &plan.target.origin) {
        (Kind::Patched, _) => relations::shlibs(&private),
        // The distribution's own libpq says itself what it asks for; no package owns the one beside another stock server.
        (Kind::Stock, Origin::Installed(_)) => String::new(),
        (Kind::Stock, _) => format!("libpq 5 libpq5 (>= {}~)\n", plan.major()),
    };
    files::make_dir(&plan.out)?;
    let log = plan.target.dirs.log("package");
    let maker = Maker { cx, plan, sbom: Sbom::new(cx, plan, crates, of_tools), private, libdir, shlibs, log };
    let payload = Payload { plan, built: &built, root: &cx.root };
    let mut artefacts = Vec::new();
    for format in &plan.formats {
        let name = format!("{label}: package {format}");
        let progress = cx.say.begin(&name, "");
        artefacts.extend(maker.format(*format, &payload, &progress)?);
        progress.done();
    }
    Ok(artefacts)
}

impl Maker<'_> {
    fn format(&self, format: Format, payload: &Payload<'_>, progress: &Progress<'_>) -> Result<Vec<Artefact>> {
        match format {
            Format::Deb => self.debs(payload, progress),
            Format::Rpm => self.rpms(payload),
            Format::Tar => self.tars(payload),
            Format::Oci => self.image(payload),
        }
    }

    fn debs(&self, payload: &Payload<'_>, progress: &Progress<'_>) -> Result<Vec<Artefact>> {
        let layout = Layout::of(self.cx, self.plan.target, Family::Debian)?;
        let mut made = Vec::new();
        for mut package in payload.packages(Family::Debian, &layout)? {
            let began = Instant::now();
            let root = self.plan.target.dirs.base.join("package").join(&package.name);
            if package.role != Role::Debug {
                files::remove_if_there(&root)?;
                package.tree.materialise(&root, self.plan.epoch)?;
                // The operator's program takes what it links from the system, whatever our server brings.
                let shlibs = if package.role == Role::Tools { "" } else { &self.shlibs };
                let needs = relations::deb(&root, &package.tree, &self.libdir, shlibs, &self.log)?;
                package.depends.extend(needs);
                if package.scripts.is_some() {
                    package.depends.push(super::plan::Relation::any("passwd"));
                }
                package.depends.sort();
            }
            let file = deb::write(&package, &root, self.plan.epoch, &self.plan.out, &self.log, progress)?;
            files::remove_if_there(&root)?;
            made.push(self.artefact(Format::Deb, &package, file, began)?);
        }
        Ok(made)
    }

    fn rpms(&self, payload: &Payload<'_>) -> Result<Vec<Artefact>> {
        let layout = Layout::of(self.cx, self.plan.target, Family::Enterprise)?;
        let mut made = Vec::new();
        for mut package in payload.packages(Family::Enterprise, &layout)? {
            let began = Instant::now();
            if package.role != Role::Debug {
                package.depends.extend(relations::rpm(&package.tree, self.private_of(&package))?);
            }
            let file = rpm::write(&package, self.plan.epoch, &self.plan.out)?;
            made.push(self.artefact(Format::Rpm, &package, file, began)?);
        }
        Ok(made)
    }

    fn tars(&self, payload: &Payload<'_>) -> Result<Vec<Artefact>> {
        let began = Instant::now();
        let (package, debug) = payload.bundle()?;
        let name = self.plan.bundle_name();
        let file = tarball::write(&name, &package.tree, self.plan.epoch, &self.plan.out)?;
        let mut made = vec![self.artefact(Format::Tar, &package, file, began)?];
        if !debug.is_empty() {
            let began = Instant::now();
            let debug_name = format!("{name}-debug");
            let file = tarball::write(&debug_name, &debug, self.plan.epoch, &self.plan.out)?;
            let package = Package { name: debug_name, role: Role::Debug, tree: debug, ..package };
            made.push(self.artefact(Format::Tar, &package, file, began)?);
        }
        Ok(made)
    }

    fn image(&self, payload: &Payload<'_>) -> Result<Vec<Artefact>> {
        let began = Instant::now();
        let package = payload.image()?;
        let runtime = oci::runtime(self.cx, &package, &self.private)?;
        let dir = oci::write(self.plan, &package, &runtime)?;
        // The SBOM tells of the runtime's libraries too.
        let mut whole = package;
        whole.tree.merge(runtime);
        Ok(vec![self.artefact(Format::Oci, &whole, dir, began)?])
    }

    /// The libraries that a package does not take from the system.
    fn private_of(&self, package: &Package) -> &BTreeSet<String> {
        const NONE: &BTreeSet<String> = &BTreeSet::new();
        if package.role == Role::Tools { NONE } else { &self.private }
    }

    fn artefact(&self, format: Format, package: &Package, path: PathBuf, began: Instant) -> Result<Artefact> {
        let digest = Digest::of_file(&publish::identity(&path))?;
        let document = self.sbom.document(format, package, self.private_of(package), &digest)?;
        let sbom = with_suffix(&path, ".cdx.json");
        let text = serde_json::to_string_pretty(&document).map_err(|e| Failure::failed(e.to_string(), ""))?;
        files::write_whole(&sbom, (text + "\n").as_bytes())?;
        let size = size_of(&path)?;
        let took = began.elapsed();
        self.cx.say.note(
            "Wrote",
            &format!("{} ({:.1} MB in {})", path.display(), size as f64 / 1e6, crate::say::in_words(took)),
        );
        let of_server = |text: String| if package.role == Role::Tools { String::new() } else { text };
        Ok(Artefact {
            format,
            role: package.role,
            package: package.name.clone(),
            version: package.full_version(),
            major: of_server(self.plan.major().to_string()),
            server: of_server(self.plan.target.kind.to_string()),
            patch_set: of_server(self.plan.patch_set.clone()),
            distribution: self.plan.machine.distribution.clone(),
            arch: package.arch.clone(),
            epoch: self.plan.epoch,
            size,
            digest: digest.to_string(),
            path,
            sbom,
        })
    }
}

/// `a/b` and `.c`: `a/b.c`.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}{suffix}"))
}

fn size_of(path: &Path) -> Result<u64> {
    let files = if path.is_dir() { crate::digest::files_below(path, &[])? } else { vec![path.to_owned()] };
    files.iter().try_fold(0, |sum, file| {
        let meta = std::fs::metadata(file).map_err(Failure::io("look at", file))?;
        Ok(sum + meta.len())
    })
}
