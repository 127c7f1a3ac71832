//! What a build needs from the system: each thing, how to see that it is there, and the package that brings it.

use std::path::Path;

use nix::unistd::geteuid;

use crate::child::Child;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::symbols;

/// A tool or library.
#[derive(Debug)]
pub struct Need {
    /// What people call it.
    pub name: &'static str,
    /// How to see that it is there.
    pub seen_by: Probe,
    /// Package on Debian and Ubuntu.
    pub deb: &'static str,
    /// Package on Fedora and Enterprise Linux.
    pub rpm: &'static str,
    /// For what.
    pub purpose: Purpose,
}

/// How to see that something is there.
#[derive(Debug, Clone, Copy)]
pub enum Probe {
    /// A program in PATH.
    Program(&'static str),
    /// A program that can say its version: rustup leaves a stand-in for components that are not installed.
    Runs(&'static str),
    /// A header below the system's include directories (also those of the architecture).
    Header(&'static str),
    /// A library by its file name.
    Library(&'static str),
    /// A Perl module.
    Perl(&'static str),
    /// A Python module.
    Python(&'static str),
    /// The C library of clang, wherever the distribution keeps it.
    LibClang,
}

/// Who needs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Compiling a server.
    Server,
    /// Compiling the extension.
    Extension,
    /// The lint suite.
    Lint,
    /// `--source prebuilt`.
    Prebuilt,
    /// Test suites: PostgreSQL's own, and stories that set the clock.
    ServerTests,
    /// `cargo xtask package`.
    Packages,
    /// `cargo xtask package --format deb`.
    DebPackages,
    /// The package suite.
    PackageTests,
    /// Nothing fails without it.
    Comfort,
}

const NEEDS: [Need; 34] = [
    need("C compiler", Probe::Program("cc"), "gcc", "gcc", Purpose::Extension),
    need("libclang", Probe::LibClang, "libclang-dev", "clang-devel", Purpose::Extension),
    need("rustfmt", Probe::Runs("rustfmt"), "rustfmt", "rustfmt", Purpose::Extension),
    need("OpenSSL headers", Probe::Header("openssl/ssl.h"), "libssl-dev", "openssl-devel", Purpose::Extension),
    need("clippy", Probe::Runs("cargo-clippy"), "rust-clippy", "clippy", Purpose::Lint),
    need("make", Probe::Program("make"), "make", "make", Purpose::Server),
    need("patch", Probe::Program("patch"), "patch", "patch", Purpose::Server),
    need("bison", Probe::Program("bison"), "bison", "bison", Purpose::Server),
    need("flex", Probe::Program("flex"), "flex", "flex", Purpose::Server),
    // A minimal system has the interpreter without its modules, which the server's build uses.
    need("Perl", Probe::Perl("FindBin"), "perl", "perl-core", Purpose::Server),
    need("pkg-config", Probe::Program("pkg-config"), "pkg-config", "pkgconf-pkg-config", Purpose::Server),
    need("ICU", Probe::Header("unicode/ucol.h"), "libicu-dev", "libicu-devel", Purpose::Server),
    need("zlib", Probe::Header("zlib.h"), "zlib1g-dev", "zlib-devel", Purpose::Server),
    need("lz4", Probe::Header("lz4.h"), "liblz4-dev", "lz4-devel", Purpose::Server),
    need("zstd", Probe::Header("zstd.h"), "libzstd-dev", "libzstd-devel", Purpose::Server),
    need("libxml2", Probe::Header("libxml2/libxml/parser.h"), "libxml2-dev", "libxml2-devel", Purpose::Server),
    need("libuuid", Probe::Header("uuid/uuid.h"), "uuid-dev", "libuuid-devel", Purpose::Server),
    need("readline", Probe::Header("readline/readline.h"), "libreadline-dev", "readline-devel", Purpose::Server),
    need("pip", Probe::Python("pip"), "python3-pip", "python3-pip", Purpose::Prebuilt),
    need("GSSAPI headers", Probe::Header("gssapi/gssapi.h"), "libkrb5-dev", "krb5-devel", Purpose::Prebuilt),
    need("libreadline", Probe::Library("libreadline.so.8"), "libreadline8", "readline", Purpose::Prebuilt),
    need("faketime", Probe::Program("faketime"), "faketime", "libfaketime", Purpose::ServerTests),
    need("IPC::Run", Probe::Perl("IPC::Run"), "libipc-run-perl", "perl-IPC-Run", Purpose::ServerTests),
    need("objcopy", Probe::Program("objcopy"), "binutils", "binutils", Purpose::Packages),
    need("dpkg-deb", Probe::Program("dpkg-deb"), "dpkg", "dpkg", Purpose::DebPackages),
    need("dpkg-shlibdeps", Probe::Program("dpkg-shlibdeps"), "dpkg-dev", "dpkg-dev", Purpose::DebPackages),
    need("debootstrap", Probe::Program("debootstrap"), "debootstrap", "debootstrap", Purpose::PackageTests),
    need("rpm", Probe::Program("rpm"), "rpm", "rpm", Purpose::PackageTests),
    need("lintian", Probe::Program("lintian"), "lintian", "lintian", Purpose::PackageTests),
    need("minisign", Probe::Program("minisign"), "minisign", "minisign", Purpose::PackageTests),
    need("gpg", Probe::Program("gpg"), "gnupg", "gnupg2", Purpose::PackageTests),
    need("useradd", Probe::Program("useradd"), "passwd", "shadow-utils", Purpose::Extension),
    need("ccache", Probe::Program("ccache"), "ccache", "ccache", Purpose::Comfort),
    need("ps", Probe::Program("ps"), "procps", "procps-ng", Purpose::Comfort),
];

const fn need(name: &'static str, seen_by: Probe, deb: &'static str, rpm: &'static str, purpose: Purpose) -> Need {
    Need { name, seen_by, deb, rpm, purpose }
}

/// Everything that any of `purposes` needs, with the answer whether it is there.
pub fn look(cx: &Cx, purposes: &[Purpose]) -> Vec<(&'static Need, bool)> {
    NEEDS
        .iter()
        .filter(|need| purposes.contains(&need.purpose))
        .map(|need| (need, is_there(cx, need.seen_by)))
        .collect()
}

fn is_there(cx: &Cx, probe: Probe) -> bool {
    match probe {
        Probe::Program(name) => program(name).is_some(),
        Probe::Runs(name) => program(name).is_some() && cx.ask(name, &["--version"]).is_ok(),
        Probe::Header(name) => {
            let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
            let dirs =
                ["/usr/include".to_owned(), format!("/usr/include/{multiarch}"), "/usr/local/include".to_owned()];
            dirs.iter().any(|dir| Path::new(dir).join(name).exists())
        }
        Probe::Library(name) => symbols::find(name, Path::new("/usr/local/lib")).is_some(),
        Probe::Perl(module) => program("perl").is_some() && cx.ask("perl", &[&format!("-M{module}"), "-e1"]).is_ok(),
        Probe::Python(module) => {
            program("python3").is_some() && cx.ask("python3", &["-c", &format!("import {module}")]).is_ok()
        }
        Probe::LibClang => libclang(),
    }
}

/// A program in PATH.
pub fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Is it the C library that bindings are made with? Its C++ sister `libclang-cpp.so` and the sanitizers' runtime are not.
fn is_libclang(file: &str) -> bool {
    file.strip_prefix("libclang")
        .and_then(|rest| rest.split_once(".so"))
        .is_some_and(|(version, _)| version.chars().all(|c| c == '-' || c == '.' || c.is_ascii_digit()))
}

fn libclang() -> bool {
    let has = |dir: &Path| {
        let names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.into_iter().any(|name| is_libclang(&name.to_string_lossy()))
    };
    let fixed = ["/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"].map(Path::new);
    let llvm = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let llvm = llvm.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm-")));
    std::env::var_os("LIBCLANG_PATH").is_some()
        || fixed.iter().any(|dir| has(dir))
        || llvm.map(|dir| dir.join("lib")).any(|dir| has(&dir))
}

/// Fails with the one command that helps when something that `purposes` need is missing; with `--yes` runs it instead.
pub fn require(cx: &Cx, purposes: &[Purpose]) -> Result<()> {
    require_these(cx, look(cx, purposes).into_iter().filter(|(_, there)| !there).map(|(need, _)| need).collect())
}

/// The same for one thing, by its name: what a flag needs that is no purpose of its own.
pub fn require_named(cx: &Cx, name: &str) -> Result<()> {
    let need = NEEDS.iter().find(|need| need.name == name);
    let need = need.ok_or_else(|| Failure::failed(format!("{name} is not in the list of what builds need"), ""))?;
    require_these(cx, if is_there(cx, need.seen_by) { Vec::new() } else { vec![need] })
}

fn require_these(cx: &Cx, missing: Vec<&Need>) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    if cx.flags.yes && !cx.flags.plan && !cx.flags.offline {
        install(cx, &missing)?;
        let still: Vec<&Need> = missing.into_iter().filter(|need| !is_there(cx, need.seen_by)).collect();
        return if still.is_empty() { Ok(()) } else { Err(missing_failure(&still)) };
    }
    Err(missing_failure(&missing))
}

/// The failure that names each missing thing and the command that installs all of them.
pub fn missing_failure(missing: &[&Need]) -> Failure {
    let manager = Manager::of_this_machine();
    let package = |need: &Need| manager.map_or(need.deb, |manager| manager.package(need));
    let named = missing.iter().map(|need| match package(need) {
        package if package == need.name => package.to_owned(),
        package => format!("{} ({package})", need.name),
    });
    let fix = match manager {
        Some(manager) => {
            let commands: Vec<String> = commands(manager, missing).iter().map(|words| words.join(" ")).collect();
            format!("run: {}   (or: cargo xtask doctor --install, or --yes)", commands.join(" && "))
        }
        None => "install them; the packages are named as on Debian".to_owned(),
    };
    Failure::Missing { missing: named.collect(), fix }
}

/// Installs packages with the system's package manager.
pub fn install(cx: &Cx, missing: &[&Need]) -> Result<()> {
    let manager = Manager::of_this_machine().ok_or_else(|| missing_failure(missing))?;
    if !geteuid().is_root() && program("sudo").is_none() {
        return Err(missing_failure(missing));
    }
    let log = cx.root.join("target/pg/log/packages.log");
    for words in commands(manager, missing) {
        let name = words.join(" ");
        let progress = cx.say.begin(&name, "missing packages");
        Child::new(&words[0], &cx.root, &log)
            .args(&words[1..])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .run(&progress)?;
        progress.done();
    }
    Ok(())
}

/// What brings the missing things: rustup its components, the system's package manager the rest.
fn commands(manager: Manager, missing: &[&Need]) -> Vec<Vec<String>> {
    let by_rustup = |need: &&&Need| matches!(need.seen_by, Probe::Runs(_)) && program("rustup").is_some();
    let packages: Vec<&Need> = missing.iter().filter(|need| !by_rustup(need)).copied().collect();
    let components = missing.iter().filter(by_rustup).map(|need| need.name);
    let mut all: Vec<Vec<String>> =
        components.map(|name| ["rustup", "component", "add", name].map(str::to_owned).to_vec()).collect();
    if !packages.is_empty() {
        if manager == Manager::Apt {
            // A fresh image has no lists of packages.
            all.push(as_root(["apt-get", "update"].map(str::to_owned).to_vec()));
        }
        all.push(as_root(manager.words(&packages)));
    }
    all
}

fn as_root(mut words: Vec<String>) -> Vec<String> {
    if !geteuid().is_root() {
        words.insert(0, "sudo".to_owned());
    }
    words
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    Apt,
    Dnf,
}

impl Manager {
    fn of_this_machine() -> Option<Self> {
        match (program("apt-get"), program("dnf")) {
            (Some(_), _) => Some(Self::Apt),
            (None, Some(_)) => Some(Self::Dnf),
            (None, None) => None,
        }
    }

    fn package(self, need: &Need) -> &'static str {
        match self {
            Self::Apt => need.deb,
            Self::Dnf => need.rpm,
        }
    }

    fn words(self, missing: &[&Need]) -> Vec<String> {
        let start: &[&str] = match self {
            Self::Apt => &["apt-get", "install", "-y", "--no-install-recommends"],
            Self::Dnf => &["dnf", "install", "-y"],
        };
        let mut packages: Vec<&str> = missing.iter().map(|need| self.package(need)).collect();
        packages.sort_unstable();
        packages.dedup();
        start.iter().chain(&packages).map(|word| (*word).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libclang_is_not_any_library_of_that_beginning() {
        for (file, is) in [
            ("libclang.so", true),
            ("libclang-14.so.1", true),
            ("libclang-14.0.6.so", true),
            ("libclang.so.13", true),
            ("libclang-cpp.so.14", false),
            ("libclang_rt.asan.so", false),
            ("libclang.a", false),
        ] {
            assert_eq!(is_libclang(file), is, "{file}");
        }
    }

    #[test]
    fn one_command_installs_everything_that_is_missing() {
        let missing: Vec<&Need> = NEEDS.iter().filter(|need| ["bison", "ICU"].contains(&need.name)).collect();
        assert_eq!(
            Manager::Apt.words(&missing).join(" "),
            "apt-get install -y --no-install-recommends bison libicu-dev"
        );
        assert_eq!(Manager::Dnf.words(&missing).join(" "), "dnf install -y bison libicu-devel");
        let all: Vec<String> = commands(Manager::Apt, &missing).iter().map(|words| words.join(" ")).collect();
        assert!(all[0].ends_with("apt-get update") && all[1].contains("apt-get install"), "{all:?}");
        let failure = missing_failure(&missing);
        assert_eq!(failure.exit() as u8, 3);
        assert!(failure.to_string().contains("bison") && failure.hint().contains("run: "));
    }
}
