//! The user manual and the README: their command blocks are run, and print what they show. Words given as arguments choose chapters.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use spock_mesh::manual::run;
use spock_mesh::story::{must, prefix_under_test};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let below = |dir: &str| -> Vec<PathBuf> { must(run::chapters(&root.join(dir), &words)) };
    let readme = (words.is_empty() || words.iter().any(|word| word == "README")).then(|| root.join("README.md"));
    let chapters: Vec<PathBuf> = [below("manual/src"), below("docs")].concat().into_iter().chain(readme).collect();
    if run::all(&prefix_under_test(), chapters).print() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
