//! `manual`: the generated chapters, and the manual as HTML.

use std::path::PathBuf;

use crate::child::Child;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::extension::cargo;
use crate::{files, manual};

/// mdBook of the version that the book was last looked at with.
const MDBOOK: &str = "0.5.4";

/// Write the generated chapters of the manual.
#[derive(Debug, clap::Args)]
pub struct ManualArgs {
    /// And make HTML of the manual, in target/manual/html; mdBook is installed to target/manual/tool
    #[arg(long)]
    build: bool,
}

impl ManualArgs {
    /// Writes the chapters; with `--build` prints the path of the first page last.
    pub fn run(self, cx: &Cx) -> Result<()> {
        for (path, text) in manual::chapters(&cx.root)? {
            if cx.flags.plan {
                cx.say.data(&format!("write {path}"));
                continue;
            }
            files::write_whole(&cx.root.join(path), text.as_bytes())?;
            cx.say.result("chapter", path);
        }
        if self.build { build(cx) } else { Ok(()) }
    }
}

fn build(cx: &Cx) -> Result<()> {
    let html = cx.root.join("target/manual/html");
    if cx.flags.plan {
        cx.say.data(&format!("run  mdbook {MDBOOK}, which writes {}", html.display()));
        return Ok(());
    }
    let program = mdbook(cx)?;
    let log = cx.root.join("target/manual/mdbook.log");
    let progress = cx.say.begin("mdbook", "");
    files::remove_if_there(&html)?;
    Child::new(&program, &cx.root, &log).args(["build", "manual", "--dest-dir"]).args([&html]).run(&progress)?;
    progress.done();
    cx.say.result("manual", &html.join("index.html").display().to_string());
    Ok(())
}

/// mdBook from the registry, installed once for this checkout.
fn mdbook(cx: &Cx) -> Result<PathBuf> {
    let dir = cx.root.join("target/manual/tool");
    let program = dir.join("bin/mdbook");
    let is_wanted =
        |cx: &Cx| cx.ask(&program.to_string_lossy(), &["--version"]).is_ok_and(|said| said.contains(MDBOOK));
    if program.is_file() && is_wanted(cx) && !cx.flags.force {
        return Ok(program);
    }
    if cx.flags.offline {
        return Err(Failure::failed(
            "mdBook is not installed",
            "run cargo xtask manual --build once without --offline",
        ));
    }
    let log = cx.root.join("target/manual/install.log");
    files::make_dir(&dir)?;
    let progress = cx.say.begin("install mdbook", "once for this checkout, a few minutes");
    // Its search and server are not needed.
    let words = [
        "install",
        "mdbook",
        "--version",
        MDBOOK,
        "--locked",
        "--no-default-features",
        "--features",
        "search",
        "--root",
    ];
    cargo(cx, &cx.root, &log).args(words).args([&dir]).env("CARGO_TARGET_DIR", dir.join("target")).run(&progress)?;
    progress.done();
    files::remove_if_there(&dir.join("target"))?;
    Ok(program)
}
