//! A copy of an installation whose extension directory also holds scripts that make the catalogs of earlier versions.
//!
//! **Invariants.** The installation under test is never written to. The copy is gone when it is dropped; servers that run
//! from it must be gone before.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::MeshError;
use crate::prefix::{Prefix, link_tree};
use crate::process;

/// The copy.
pub struct FormerPrefix {
    dir: PathBuf,
    prefix: Arc<Prefix>,
}

impl FormerPrefix {
    /// Copies `original` and writes `scripts` (names and texts) into the copy's extension directory.
    pub fn create(original: &Prefix, scripts: &[(String, String)]) -> Result<Self, MeshError> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("spock-former-{}-{number}", std::process::id()));
        if dir.exists() {
            // Left by an earlier process of the same id.
            fs::remove_dir_all(&dir).map_err(MeshError::io("remove", &dir))?;
        }
        link_tree(original.root(), &dir)?;
        let copy = Self { prefix: Arc::new(Prefix::open(&dir)?), dir };
        let said = process::output_of(copy.prefix.command("pg_config").arg("--sharedir"))?;
        let extension = Path::new(said.trim()).join("extension");
        if !extension.starts_with(&copy.dir) {
            return Err(MeshError::Unexpected(format!("{} is outside {}", extension.display(), copy.dir.display())));
        }
        for (name, text) in scripts {
            let path = extension.join(name);
            // What stands there may be a link to the original's file: replaced, not written into.
            let beside = path.with_extension("new");
            fs::write(&beside, text).map_err(MeshError::io("write", &beside))?;
            fs::rename(&beside, &path).map_err(MeshError::io("write", &path))?;
        }
        Ok(copy)
    }

    /// The installation to start servers from.
    pub fn prefix(&self) -> &Arc<Prefix> {
        &self.prefix
    }
}

impl Drop for FormerPrefix {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("could not remove {}: {error}", self.dir.display());
        }
    }
}

/// The lines of a script that belong to `version`. A line may end in `-- since V`, `-- until V` or `-- between V W`.
pub fn of_version(script: &str, version: &str) -> String {
    let wanted = numbers(version);
    let belongs = |line: &&str| {
        let Some((_, tag)) = line.rsplit_once(" -- ") else { return true };
        match tag.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["since", from] => numbers(from) <= wanted,
            ["until", to] => wanted <= numbers(to),
            ["between", from, to] => numbers(from) <= wanted && wanted <= numbers(to),
            _ => true,
        }
    };
    script.lines().filter(belongs).map(|line| format!("{line}\n")).collect()
}

/// `5.0.11` as numbers that compare.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_says_to_which_versions_a_line_belongs() {
        let script = "a;\nb; -- since 5.0.7\nc; -- until 5.0.6\nd; -- between 5.0.2 5.0.10\n-- a comment\n";
        for (version, left) in
            [("5.0.0", "acC"), ("5.0.2", "acdC"), ("5.0.7", "abdC"), ("5.0.10", "abdC"), ("5.0.11", "abC")]
        {
            let got = of_version(script, version);
            let names: String =
                got.lines().map(|line| if line.starts_with('-') { 'C' } else { line.as_bytes()[0] as char }).collect();
            assert_eq!(names, left, "{version}");
        }
    }
}
