//! Which files and words each package has, format by format.

use std::path::Path;

use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::extension;
use crate::major::Kind;
use crate::manual;
use crate::package::layout::{Family, Layout};
use crate::package::plan::{Package, Plan, Relation, Role, Scripts};
use crate::package::strip::{self, Source, Stripped};
use crate::package::texts::{About, Texts};
use crate::package::tools::{self, Tools};
use crate::package::tree::{Content, Tree};
use crate::say::Progress;
use crate::server;

/// The build's directories stand in the headers of the server's build system; packages say this instead.
const BUILD_DIR: &str = "/usr/src/postgresql";

/// The built files of a target, parted from their debug symbols. Paths of the server are relative to its prefix, those of the
/// extension begin with `pkglib/` or `share/`.
#[derive(Debug)]
pub struct Built {
    /// None for a stock server: that is the distribution's.
    pub server: Option<Stripped>,
    /// The extension.
    pub extension: Stripped,
    /// The operator's program, where this repository has one.
    pub tools: Option<Tools>,
    /// Lines of crate, version and licence.
    pub third_party: String,
    /// Names and texts of the manual's pages.
    pub manual: Vec<(String, String)>,
    /// Does the built server know `output_plugin_libraries`? None: it is for the machine to say.
    pub lists_plugins: Option<bool>,
}

impl Built {
    /// Strips what the target's build left.
    pub fn collect(
        cx: &Cx,
        plan: &Plan<'_>,
        third_party: String,
        tools: Option<Tools>,
        progress: &Progress<'_>,
    ) -> Result<Self> {
        let target = plan.target;
        let (work, log) = (target.dirs.base.join("package"), target.dirs.log("package"));
        let extension: Vec<Source> =
            extension::library_files(target)?.into_iter().map(|(from, to)| Source { from, to }).collect();
        let mut extension = strip::strip(&extension, &work.join("strip-extension"), &log, progress)?;
        extension.tree.link("pkglib/spock_output.so", "spock.so");
        let (mut server, mut lists_plugins) = (None, None);
        if target.kind == Kind::Patched {
            let prefix = server::entry_dir(cx, &server::store_key(target)).join("prefix");
            let mut stripped =
                strip::strip(&strip::sources(&prefix, "p")?, &work.join("strip-server"), &log, progress)?;
            stripped.tree =
                without_build_paths(&stripped.tree.placed(|path| path.strip_prefix("p/").map(str::to_owned)))?;
            // The test programs of pgxs look for libpq in a directory beside their own.
            stripped.tree.link("lib/pgxs/src/test/lib", "../../..");
            server = Some(stripped);
            let said = cx.ask(&prefix.join("bin/postgres").to_string_lossy(), &["--describe-config"])?;
            lists_plugins = Some(said.lines().any(|line| line.starts_with("output_plugin_libraries\t")));
        }
        let manual = manual::html::pages(&cx.root)?;
        Ok(Self { server, extension, tools, third_party, manual, lists_plugins })
    }
}

/// pgxs files name the source and object trees, which are not there where the package is installed.
fn without_build_paths(tree: &Tree) -> Result<Tree> {
    let mut clean = tree.clone();
    let named = |path: &str| path.ends_with("pgxs/src/Makefile.global");
    for (path, content) in tree.files().filter(|(path, _)| named(path)) {
        let mut text = String::from_utf8_lossy(&content.read()?).into_owned();
        for variable in ["abs_top_builddir = ", "abs_top_srcdir = "] {
            let dir = text.lines().find_map(|line| line.strip_prefix(variable)).map(str::to_owned);
            if let Some(dir) = dir.filter(|dir| dir.starts_with('/')) {
                text = text.replace(&dir, BUILD_DIR);
            }
        }
        clean.text(path, 0o644, text);
    }
    Ok(clean)
}

/// Renders the packages of one target.
pub struct Payload<'a> {
    /// What is made.
    pub plan: &'a Plan<'a>,
    /// From what.
    pub built: &'a Built,
    /// With which texts.
    pub root: &'a Path,
}

impl Payload<'_> {
    fn texts(&self, layout: &Layout) -> Texts {
        let plan = self.plan;
        let server = if layout.own { "the patched PostgreSQL" } else { "PostgreSQL" };
        let sample = if layout.own {
            "$dir/../share/spock.conf.sample".to_owned()
        } else {
            format!("{}/spock.conf.sample", layout.share)
        };
        let setting = "output_plugin_libraries = 'pgoutput, test_decoding, spock_output'";
        let setting = if self.built.lists_plugins == Some(true) { setting.to_owned() } else { format!("# {setting}") };
        Texts::of(self.root)
            .with("MAJOR", plan.major())
            .with("BIN", &layout.bin)
            .with("PREFIX", Layout::own_prefix(plan.major()))
            .with("SAMPLE", sample)
            .with("OUTPUT_PLUGIN_LIBRARIES", setting)
            .with("SERVER_NAME", server)
            .with("PATCH_SET", &plan.patch_set)
    }

    /// The packages of a family with their debug packages.
    pub fn packages(&self, family: Family, layout: &Layout) -> Result<Vec<Package>> {
        let mut packages = Vec::new();
        if let Some(server) = &self.built.server {
            packages.extend(self.with_debug(self.server(family, layout, server)?, &server.debug)?);
        }
        let extension = self.extension(family, layout)?;
        packages.extend(self.with_debug(extension, &self.built.extension.debug)?);
        if let Some(tools) = &self.built.tools {
            packages.extend(self.with_debug(self.tools(family, layout, tools)?, &tools.files.debug)?);
        }
        Ok(packages)
    }

    fn server(&self, family: Family, layout: &Layout, stripped: &Stripped) -> Result<Package> {
        let (plan, name) = (self.plan, self.plan.server_name(family));
        let texts = self.texts(layout).with("PACKAGE", &name).with("MANUAL", self.plan.extension_name(family));
        let prefix = Layout::own_prefix(plan.major());
        let mut tree = stripped.tree.placed(|path| Some(format!("{}/{path}", Layout::relative(&prefix))));
        let unit = texts.render("systemd/service.in")?;
        tree.text(&format!("usr/lib/systemd/system/{name}@.service"), 0o644, unit);
        tree.text(&format!("usr/lib/sysusers.d/{name}.conf"), 0o644, texts.render("systemd/sysusers.in")?);
        tree.text(&format!("usr/lib/tmpfiles.d/{name}.conf"), 0o644, texts.render("systemd/tmpfiles.in")?);
        // Debian's way to stop a service asks the administrator's policy first.
        let systemctl = if family == Family::Debian { "deb-systemd-invoke" } else { "systemctl" };
        let scripts = Scripts {
            configure: texts.render("scripts/configure.in")?,
            stop: texts.clone().with("SYSTEMCTL", systemctl).render("scripts/stop.in")?,
            remove: texts.render("scripts/remove.in")?,
        };
        let mut package =
            self.package(&name, &plan.server_version(), Role::Server, &plan.facts.server, &texts, tree)?;
        package.scripts = Some(scripts);
        package.provides = vec![Relation::any(self.patch_set_capability(family))];
        self.documents(family, &mut package)?;
        Ok(package)
    }

    /// Extension and patches of one series belong together; the capability's name says which.
    fn patch_set_capability(&self, family: Family) -> String {
        format!("{}-patch-set-{}", self.plan.server_name(family), self.plan.patch_set)
    }

    fn extension(&self, family: Family, layout: &Layout) -> Result<Package> {
        let (plan, name) = (self.plan, self.plan.extension_name(family));
        let texts = self.texts(layout).with("PACKAGE", &name);
        let tree = self.extension_tree(layout, &texts)?;
        let version = env!("CARGO_PKG_VERSION");
        let mut package = self.package(&name, version, Role::Extension, &plan.facts.extension, &texts, tree)?;
        package.depends = match plan.target.kind {
            Kind::Patched => vec![
                Relation::since(plan.server_name(family), plan.pg_version.clone()),
                Relation::any(self.patch_set_capability(family)),
            ],
            Kind::Stock => vec![Relation::any(plan.stock_server_name(family))],
        };
        // Whoever provides this owns the library's name in that server, so two of them exclude each other.
        let server = if layout.own { plan.server_name(family) } else { plan.stock_server_name(family) };
        let capability = Relation::any(format!("{server}-extension-spock"));
        package.provides = vec![capability.clone()];
        package.conflicts = vec![capability];
        self.documents(family, &mut package)?;
        Ok(package)
    }

    /// The operator's program belongs to no server, so its package names none.
    fn tools(&self, family: Family, layout: &Layout, tools: &Tools) -> Result<Package> {
        let texts = self.texts(layout).with("PACKAGE", tools::NAME);
        let tree = tools::below_usr(&tools.files.tree, family)?;
        let version = env!("CARGO_PKG_VERSION");
        let mut package = self.package(tools::NAME, version, Role::Tools, &self.plan.facts.tools, &texts, tree)?;
        self.documents(family, &mut package)?;
        Ok(package)
    }

    /// The extension's files where a layout has them, with the sample of its settings and the tool that puts it in place.
    fn extension_tree(&self, layout: &Layout, texts: &Texts) -> Result<Tree> {
        let mut tree = self.built.extension.tree.placed(|path| {
            let (dir, rest) = path.split_once('/')?;
            let dir = if dir == "pkglib" { &layout.pkglib } else { &layout.share };
            Some(format!("{}/{rest}", Layout::relative(dir)))
        });
        let (bin, share) = (Layout::relative(&layout.bin), Layout::relative(&layout.share));
        tree.text(&format!("{share}/spock.conf.sample"), 0o644, texts.render("spock.conf.in")?);
        tree.text(&format!("{bin}/spock-configure"), 0o755, texts.render("spock-configure.in")?);
        Ok(tree)
    }

    fn package(
        &self,
        name: &str,
        version: &str,
        role: Role,
        about: &About,
        texts: &Texts,
        tree: Tree,
    ) -> Result<Package> {
        let plan = self.plan;
        let fill = |text: &str| texts.fill(text).map_err(|why| Failure::failed(format!("package.toml: {why}"), ""));
        Ok(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            release: plan.release(),
            arch: plan.machine.arch.clone(),
            role,
            summary: fill(&about.summary)?,
            description: fill(about.description.trim())?,
            maintainer: plan.facts.maintainer.clone(),
            depends: Vec::new(),
            provides: Vec::new(),
            conflicts: Vec::new(),
            tree,
            scripts: None,
            changelog: plan.facts.release.clone(),
        })
    }

    fn with_debug(&self, package: Package, debug: &Tree) -> Result<Vec<Package>> {
        if debug.is_empty() {
            return Ok(vec![package]);
        }
        let debian = package.tree.entries().any(|(path, _)| path.ends_with("/copyright"));
        let family = if debian { Family::Debian } else { Family::Enterprise };
        let name = format!("{}-{}", package.name, if debian { "dbgsym" } else { "debuginfo" });
        let texts = Texts::of(self.root).with("PACKAGE", &package.name);
        let about = &self.plan.facts.debug;
        let mut other = self.package(&name, &package.version, Role::Debug, about, &texts, debug.clone())?;
        other.depends = vec![Relation::exactly(package.name.clone(), package.full_version())];
        self.documents(family, &mut other)?;
        Ok(vec![package, other])
    }

    /// Licences, and for deb the changelog; an rpm has that in its header.
    fn documents(&self, family: Family, package: &mut Package) -> Result<()> {
        let name = package.name.clone();
        let dir = match family {
            Family::Debian => format!("usr/share/doc/{name}"),
            Family::Enterprise => format!("usr/share/licenses/{name}"),
        };
        match family {
            Family::Debian => {
                let changelog = super::deb::changelog(package);
                package.tree.file(
                    &format!("{dir}/changelog.Debian.gz"),
                    0o644,
                    Content::Bytes(super::tarball::gzip(changelog.as_bytes())?),
                );
                package.tree.text(&format!("{dir}/copyright"), 0o644, self.copyright(package)?);
            }
            Family::Enterprise => self.licences(&dir, &mut package.tree)?,
        }
        if let Some(tools) = self.built.tools.as_ref().filter(|_| package.role == Role::Tools) {
            package.tree.text(&format!("{dir}/third-party.txt"), 0o644, tools.third_party.clone());
        }
        if package.role == Role::Extension {
            package.tree.text(&format!("{dir}/third-party.txt"), 0o644, self.built.third_party.clone());
            self.manual(&format!("usr/share/doc/{name}"), &mut package.tree);
        }
        // Where Debian's help systems look for what a package has to read.
        if package.role == Role::Extension && family == Family::Debian {
            let texts = Texts::of(self.root).with("PACKAGE", &name).with("MAJOR", self.plan.major());
            package.tree.text(&format!("usr/share/doc-base/{name}.manual"), 0o644, texts.render("doc-base.in")?);
        }
        Ok(())
    }

    fn manual(&self, dir: &str, tree: &mut Tree) {
        for (name, text) in &self.built.manual {
            tree.text(&format!("{dir}/html/{name}"), 0o644, text.clone());
        }
    }

    fn copyright(&self, package: &Package) -> Result<String> {
        // Debug symbols come with the package that they are for.
        let of = package.name.strip_suffix("-dbgsym").unwrap_or(&package.name);
        let crates = match of == self.plan.server_name(Family::Debian) {
            true => String::new(),
            false => format!(
                "\n The crates that are linked in, with their licences, are listed in\n /usr/share/doc/{of}/third-party.txt"
            ),
        };
        let license = read(&self.root.join("LICENSE"))?;
        let paragraphs =
            license.lines().skip(4).map(|line| if line.is_empty() { " .\n".into() } else { format!(" {line}\n") });
        let license: String = paragraphs.collect();
        let texts = Texts::of(self.root).with("LICENSE", license.trim_end_matches('\n')).with("CRATES", crates);
        texts.render("copyright.in")
    }

    fn licences(&self, dir: &str, tree: &mut Tree) -> Result<()> {
        tree.text(&format!("{dir}/LICENSE"), 0o644, read(&self.root.join("LICENSE"))?);
        tree.text(
            &format!("{dir}/COPYRIGHT.postgresql"),
            0o644,
            read(&self.root.join("packaging/COPYRIGHT.postgresql"))?,
        );
        Ok(())
    }

    /// Server and extension, or the extension alone, relative to a prefix that may be anywhere; and the debug symbols.
    pub fn bundle(&self) -> Result<(Package, Tree)> {
        let plan = self.plan;
        let layout = Layout { bin: "/bin".into(), pkglib: "/lib".into(), share: "/share".into(), own: true };
        let texts = self.texts(&layout).with("PACKAGE", plan.bundle_name());
        let (role, about, version) = match &self.built.server {
            Some(_) => (Role::Both, &plan.facts.server, plan.server_version()),
            None => (Role::Extension, &plan.facts.extension, env!("CARGO_PKG_VERSION").to_owned()),
        };
        let name = match role {
            Role::Extension => plan.extension_name(Family::Debian),
            Role::Server | Role::Tools | Role::Both | Role::Debug => plan.server_name(Family::Debian),
        };
        let mut debug = self.built.extension.debug.clone();
        let mut package = self.package(&name, &version, role, about, &texts, Tree::default())?;
        if let Some(server) = &self.built.server {
            package.tree.merge(server.tree.placed(|path| Some(path.to_owned())));
            debug.merge(server.debug.clone());
        }
        package.tree.merge(self.extension_tree(&layout, &texts)?);
        self.licences("share/doc/spock", &mut package.tree)?;
        package.tree.text("share/doc/spock/third-party.txt", 0o644, self.built.third_party.clone());
        self.manual("share/doc/spock", &mut package.tree);
        if let Some(tools) = &self.built.tools {
            package.tree.merge(tools.files.tree.clone());
            debug.merge(tools.files.debug.clone());
            let text = tools.third_party.clone();
            package.tree.text("share/doc/spock/third-party-spockctrl.txt", 0o644, text);
        }
        Ok((package, debug))
    }

    /// The same below our own prefix, as an image has it, with its first program.
    pub fn image(&self) -> Result<Package> {
        let layout = Layout::own(self.plan.major());
        let (mut package, _) = self.bundle()?;
        let prefix = Layout::own_prefix(self.plan.major());
        package.tree = package.tree.placed(|path| Some(format!("{}/{path}", Layout::relative(&prefix))));
        let entrypoint = self.texts(&layout).render("oci/entrypoint.in")?;
        package.tree.text(&format!("{}/spock-entrypoint", Layout::relative(&layout.bin)), 0o755, entrypoint);
        Ok(package)
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(Failure::io("read", path))
}
