//! Stamps: what a step was made from, kept beside what it made, so that the next run knows what to skip and why not.
//!
//! **Invariant:** a stamp is written after the outputs are in place and removed before they are touched, so a stamp that
//! matches means outputs that are whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::exit::{Failure, Result};
use crate::files;

/// The named inputs of a step: digests, versions, options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs(BTreeMap<String, String>);

impl Inputs {
    /// Adds an input.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.0.insert(name.to_owned(), value.to_string());
        self
    }

    /// One digest over all of them.
    pub fn digest(&self) -> Digest {
        let text: String = self.0.iter().map(|(name, value)| format!("{name}\0{value}\n")).collect();
        Digest::of_bytes(text.as_bytes())
    }
}

/// A stamp file.
#[derive(Debug, Clone)]
pub struct Stamp(pub PathBuf);

/// Must a step run?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is as it was.
    Fresh,
    /// It must, and why.
    Run(String),
}

impl Stamp {
    /// Compares the stamp with the inputs of now, and looks whether the outputs are there.
    pub fn verdict(&self, inputs: &Inputs, outputs: &[PathBuf]) -> Verdict {
        let Some(old) = self.read() else {
            return Verdict::Run("not done yet".to_owned());
        };
        if let Some(missing) = outputs.iter().find(|path| fs::symlink_metadata(path).is_err()) {
            return Verdict::Run(format!("{} is gone", missing.display()));
        }
        let changed: Vec<&str> = old
            .keys()
            .chain(inputs.0.keys())
            .filter(|name| old.get(*name) != inputs.0.get(*name))
            .map(String::as_str)
            .collect();
        match changed.first() {
            None => Verdict::Fresh,
            Some(_) => Verdict::Run(format!("changed: {}", unique(changed).join(", "))),
        }
    }

    /// Remembers the inputs.
    pub fn write(&self, inputs: &Inputs) -> Result<()> {
        let text = toml::to_string(&inputs.0).map_err(|e| Failure::failed(e.to_string(), ""))?;
        files::write_whole(&self.0, text.as_bytes())
    }

    /// Forgets them: the outputs are about to change.
    pub fn remove(&self) -> Result<()> {
        files::remove_if_there(&self.0)
    }

    fn read(&self) -> Option<BTreeMap<String, String>> {
        toml::from_str(&fs::read_to_string(&self.0).ok()?).ok()
    }
}

fn unique(mut names: Vec<&str>) -> Vec<&str> {
    names.sort_unstable();
    names.dedup();
    names
}

/// Where the stamp of a step lives.
pub fn stamp_of(dir: &Path, step: &str) -> Stamp {
    Stamp(dir.join("stamps").join(format!("{step}.toml")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_says_which_input_changed() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let stamp = stamp_of(dir.path(), "compile");
        let inputs = Inputs::default().with("source", "aaa").with("compiler", "gcc 12");
        assert_eq!(stamp.verdict(&inputs, &[]), Verdict::Run("not done yet".into()));
        stamp.write(&inputs).unwrap();
        assert_eq!(stamp.verdict(&inputs, &[]), Verdict::Fresh);
        assert_eq!(
            stamp.verdict(&inputs, std::slice::from_ref(&out)),
            Verdict::Run(format!("{} is gone", out.display()))
        );
        fs::write(&out, "").unwrap();
        assert_eq!(stamp.verdict(&inputs, &[out]), Verdict::Fresh);
        let newer = inputs.clone().with("compiler", "gcc 13").with("options", "-O2");
        assert_eq!(stamp.verdict(&newer, &[]), Verdict::Run("changed: compiler, options".into()));
        stamp.remove().unwrap();
        assert_eq!(stamp.verdict(&inputs, &[]), Verdict::Run("not done yet".into()));
    }

    #[test]
    fn the_digest_of_inputs_ignores_their_order() {
        let a = Inputs::default().with("a", 1).with("b", 2);
        let b = Inputs::default().with("b", 2).with("a", 1);
        assert_eq!(a.digest(), b.digest());
        assert_ne!(a.digest(), a.clone().with("b", 3).digest());
    }
}
