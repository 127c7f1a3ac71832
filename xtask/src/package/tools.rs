//! `spockctrl`, the operator's program: one package for a machine, whatever the majors of its servers are.
//!
//! **Invariant:** where the repository has no such crate, nothing of it is built, and no package names it.

use std::path::{Path, PathBuf};

use crate::cx::{Cx, Dirs};
use crate::digest::{Digest, files_below};
use crate::exit::Result;
use crate::extension::{self, cargo};
use crate::package::layout::Family;
use crate::package::sbom::{self, Crate};
use crate::package::strip::{self, Source, Stripped};
use crate::package::tarball;
use crate::package::tree::{Content, Tree};
use crate::say::Progress;
use crate::stamp::{Inputs, stamp_of};
use crate::step::{self, Step};

/// The crate, its program and the package.
pub const NAME: &str = "spockctrl";
/// Where the program stands in a prefix.
pub const PROGRAM: &str = "bin/spockctrl";
/// Directories below the root of the repository that the program is made of.
const SOURCES: [&str; 2] = ["core", NAME];

/// The program and what goes along with it, with paths below a prefix.
#[derive(Debug)]
pub struct Tools {
    /// Program, samples, manual page, completions; and debug symbols.
    pub files: Stripped,
    /// What is linked into it.
    pub crates: Vec<Crate>,
    /// Their licences.
    pub third_party: String,
}

/// Has this repository the crate?
pub fn is_there(root: &Path) -> bool {
    root.join(NAME).join("Cargo.toml").is_file()
}

/// Its directories in this clone: no major shares them.
fn dirs(cx: &Cx) -> Dirs {
    Dirs { base: cx.root.join("target/tools") }
}

/// Builds the program where the repository has it.
pub fn build(cx: &Cx) -> Result<()> {
    if !is_there(&cx.root) {
        return Ok(());
    }
    let dirs = dirs(cx);
    let _lock = cx.lock(&dirs)?;
    let mut inputs = Inputs::default();
    for tree in SOURCES.iter().filter(|tree| cx.root.join(tree).is_dir()) {
        inputs = inputs.with(tree, Digest::of_tree(&cx.root.join(tree), &["target", "fuzz"])?);
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        inputs = inputs.with(file, Digest::of_file(&cx.root.join(file))?);
    }
    let rustc = cx.ask("rustc", &["--version"])?;
    let inputs = inputs.with("rustc", rustc.trim()).with("profile", extension::profile_overrides());
    let step = Step {
        name: NAME.to_owned(),
        inputs,
        outputs: vec![program(&dirs)],
        stamp: stamp_of(&dirs.base, NAME),
        work: Box::new(|progress| compile(cx, &dirs, progress)),
    };
    step::perform(cx, vec![step])
}

fn program(dirs: &Dirs) -> PathBuf {
    dirs.cargo().join("release").join(NAME)
}

fn compile(cx: &Cx, dirs: &Dirs, progress: &Progress<'_>) -> Result<()> {
    let flags = extension::remaps(cx, &[(cx.root.clone(), "/spock"), (dirs.cargo(), "/build")]);
    cargo(cx, &cx.root, &dirs.log(NAME))
        .args(["build", "--release", "--locked", "-p", NAME])
        .args(["--target-dir".into(), dirs.cargo().into_os_string()])
        .args(["--jobs".to_owned(), cx.jobs().to_string()])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .run(progress)
}

impl Tools {
    /// Strips what [`build`] left, and asks the program for its manual page and completions.
    pub fn collect(cx: &Cx, progress: &Progress<'_>) -> Result<Option<Self>> {
        if !is_there(&cx.root) {
            return Ok(None);
        }
        let dirs = dirs(cx);
        let mut sources = vec![Source { from: program(&dirs), to: PROGRAM.to_owned() }];
        let share = cx.root.join(NAME).join("share");
        for from in files_below(&share, &[])? {
            let name = from.strip_prefix(&share).unwrap_or(&from).to_string_lossy().into_owned();
            sources.push(Source { from, to: format!("share/spock/{name}") });
        }
        let mut files = strip::strip(&sources, &dirs.base.join("strip"), &dirs.log("package"), progress)?;
        let ask = |words: &[&str]| cx.ask(&program(&dirs).to_string_lossy(), words);
        files.tree.text("share/man/man1/spockctrl.1", 0o644, ask(&["man"])?);
        for (shell, to) in COMPLETIONS {
            files.tree.text(to, 0o644, ask(&["completions", shell])?);
        }
        let crates = sbom::crates_of_program(cx, NAME, &dirs.log("package"))?;
        let third_party = sbom::licence_list(NAME, &crates)?;
        Ok(Some(Self { files, crates, third_party }))
    }
}

/// Each shell, and where it looks in a prefix.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/spockctrl"),
    ("zsh", "share/zsh/site-functions/_spockctrl"),
    ("fish", "share/fish/vendor_completions.d/spockctrl.fish"),
];

/// The files of a prefix as a system has them below `/usr`.
pub fn below_usr(tree: &Tree, family: Family) -> Result<Tree> {
    let mut placed = tree.placed(|path| {
        let path = match family {
            // Debian keeps its own completions apart from the administrator's.
            Family::Debian => path.replace("zsh/site-functions/", "zsh/vendor-completions/"),
            Family::Enterprise => path.to_owned(),
        };
        (!path.starts_with("share/man/")).then(|| format!("usr/{path}"))
    });
    for (path, content) in tree.files().filter(|(path, _)| path.starts_with("share/man/")) {
        placed.file(&format!("usr/{path}.gz"), 0o644, Content::Bytes(tarball::gzip(&content.read()?)?));
    }
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_has_the_program_and_its_pages_where_it_looks_for_them() {
        let mut tree = Tree::default();
        for path in [PROGRAM, "share/spock/spockctrl.json", "share/man/man1/spockctrl.1", COMPLETIONS[1].1] {
            tree.text(path, 0o644, "x");
        }
        let paths = |family| -> Vec<String> {
            below_usr(&tree, family).unwrap().files().map(|(path, _)| path.to_owned()).collect()
        };
        let want = |zsh: &str| {
            ["usr/bin/spockctrl", "usr/share/man/man1/spockctrl.1.gz", "usr/share/spock/spockctrl.json", zsh]
                .map(str::to_owned)
        };
        assert_eq!(paths(Family::Debian), want("usr/share/zsh/vendor-completions/_spockctrl"));
        assert_eq!(paths(Family::Enterprise), want("usr/share/zsh/site-functions/_spockctrl"));
    }
}
