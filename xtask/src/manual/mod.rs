//! The user manual, `manual/`: its generated chapters, and whether its links lead somewhere.
//!
//! [`script`] reads the objects of the install script, [`settings`] the definitions of settings, [`reference`] what
//! `manual/reference.toml` says about objects; [`render`] writes the chapters; [`links`] checks every Markdown file; [`html`] makes
//! the pages that packages carry.
//!
//! **Invariant:** an object, argument, column or setting without words, and words without an object, are errors: the chapters
//! cannot fall behind the code.

use std::fs;
use std::path::Path;

use crate::exit::{Failure, Result};

pub mod html;
pub mod links;
mod reference;
mod render;
mod script;
mod settings;

const SCRIPT: &str = "extension/sql/spock--7.0.0.sql";
const CALLS: &str = "tests/contract/calls.tsv";
const VIEWS: &str = "tests/contract/relations.tsv";
const DIFFERENCES: &str = "tests/contract/differences.tsv";
const WORDS: &str = "manual/reference.toml";
const SETTINGS: &str = "extension/src/settings";

/// The generated chapters: path from the root, and text.
pub fn chapters(root: &Path) -> Result<Vec<(&'static str, String)>> {
    let read = |path: &str| {
        let path = root.join(path);
        fs::read_to_string(&path).map_err(Failure::io("read", &path))
    };
    let wrong =
        |path: &'static str| move |why: String| Failure::failed(format!("{path}: {why}"), "see manual/reference.toml");
    let script = script::read(&read(SCRIPT)?).map_err(wrong(SCRIPT))?;
    let words = reference::read(&read(WORDS)?).map_err(wrong(WORDS))?;
    let rights = reference::rights(&read(CALLS)?);
    let views = reference::view_columns(&read(VIEWS)?, &read(DIFFERENCES)?);
    let functions = render::functions(&script, &words, &rights, &views).map_err(wrong(WORDS))?;
    let mut definitions = read("extension/src/settings.rs")?;
    let dir = root.join(SETTINGS);
    let mut files = Vec::new();
    for entry in fs::read_dir(&dir).map_err(Failure::io("read", &dir))? {
        files.push(entry.map_err(Failure::io("read", &dir))?.path());
    }
    files.sort();
    for path in files {
        definitions.push_str(&fs::read_to_string(&path).map_err(Failure::io("read", &path))?);
    }
    let settings = settings::read(&definitions).map_err(wrong(SETTINGS))?;
    Ok(vec![("manual/src/functions.md", functions), ("manual/src/settings.md", render::settings(&settings))])
}
