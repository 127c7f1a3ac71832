//! What rpms ask for, by rpm's own reckoning, in a root whose database knows no package at all.

use std::path::{Path, PathBuf};

use crate::child::Child;
use crate::cx::Cx;
use crate::exit::{Failure, Result};

/// Packages of Enterprise Linux that the scripts use.
const TOOLS: [&str; 4] = ["/bin/sh", "shadow-utils", "coreutils", "util-linux"];

/// What `rpm --test` says that is missing when these are installed together.
pub fn ask_rpm(cx: &Cx, root: &Path, files: &[PathBuf]) -> Result<String> {
    let log = cx.root.join("target/pg/log/package-suite.log");
    // It fails when something is missing, and something always is: the root has no library that rpm knows of.
    let script = "root=$1; shift; rpm --root \"$root\" --test --install --nosignature \"$@\" 2>&1 || :";
    Child::new("sh", Path::new("/"), &log).args(["-c", script, "sh"]).args([root]).args(files).read()
}

/// Fails when something is missing that is neither a library of the system, nor one of the tools, nor `also`.
pub fn only_the_systems(said: &str, also: &Option<String>) -> Result<()> {
    let missing: Vec<&str> =
        said.lines().filter_map(|line| line.split_once(" is needed by ")).map(|one| one.0.trim()).collect();
    let expected = |name: &&str| name.ends_with("(64bit)") || TOOLS.contains(name) || also.as_deref() == Some(*name);
    let unexpected: Vec<&str> = missing.iter().copied().filter(|name| !expected(name)).collect();
    let no_libc = !missing.iter().any(|name| name.starts_with("libc.so.6"));
    let conflict = said.lines().find(|line| line.contains("conflicts with"));
    match conflict {
        Some(line) => Err(Failure::failed(line.trim().to_owned(), "")),
        None if no_libc => Err(Failure::failed(format!("rpm does not say that libc is needed: {said}"), "")),
        None if unexpected.is_empty() => Ok(()),
        None => Err(Failure::failed(format!("nobody provides {}", unexpected.join(", ")), "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_tools_are_the_systems() {
        let said = "error: Failed dependencies:\n\tlibc.so.6(GLIBC_2.34)(64bit) is needed by a-1\n\t/bin/sh is needed by a-1\n";
        assert!(only_the_systems(said, &None).is_ok());
        let more = format!("{said}\tpostgresql17-server is needed by a-1\n");
        assert!(only_the_systems(&more, &Some("postgresql17-server".to_owned())).is_ok());
        let error = only_the_systems(&more, &None).unwrap_err().to_string();
        assert!(error.contains("nobody provides postgresql17-server"), "{error}");
        let both = format!("{said}\tb conflicts with a-1\n");
        assert!(only_the_systems(&both, &None).unwrap_err().to_string().contains("conflicts"));
        assert!(only_the_systems("rpm: no such file\n", &None).is_err());
    }
}
