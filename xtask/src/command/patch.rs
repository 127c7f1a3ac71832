//! `patch`: the patched source; or the series tried on, or fitted to, pristine source.

use std::fs;

use crate::args::Pick;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::files;
use crate::major::{Kind, Major};
use crate::patchset::{self, OFFSET_LINES_MAX};
use crate::pins;
use crate::server;
use crate::step;
use crate::system::{self, Purpose};
use crate::target::{Origin, Recipe, Target};

/// Unpack and patch the source; check or refresh the patch series.
#[derive(Debug, clap::Args)]
pub struct PatchArgs {
    #[command(flatten)]
    pick: Pick,
    /// Try the series on pristine source: no fuzz, no reject, no offset above 200 lines
    #[arg(long)]
    check: bool,
    /// Rewrite the line numbers of the series, and its id in pg.lock
    #[arg(long, conflicts_with = "check")]
    refresh: bool,
    /// Only write the id of the series into pg.lock; needs no source
    #[arg(long, conflicts_with_all = ["check", "refresh"])]
    pin: bool,
}

impl PatchArgs {
    /// Does each major in turn; prints the source tree, or the patch-set id with `--check` and `--refresh`.
    pub fn run(self, cx: &Cx) -> Result<()> {
        if self.pin {
            return self.pick.pg.0.iter().try_for_each(|major| pin(cx, *major, 0));
        }
        system::require(cx, &[Purpose::Server])?;
        for major in &self.pick.pg.0 {
            let target = Target::resolve(cx, *major, &self.pick.server)?;
            let Origin::Compile(recipe) = &target.origin else {
                return Err(Failure::usage(
                    "only source code can be patched",
                    "leave out --source prebuilt and --pg-config",
                ));
            };
            if target.kind == Kind::Stock {
                return Err(Failure::usage("a stock server has no patches", "leave out --server stock"));
            }
            let _lock = cx.lock(&target.dirs)?;
            if self.check || self.refresh {
                self.on_pristine(cx, &target, recipe)?;
                continue;
            }
            let mut steps = server::object_steps(cx, &target, recipe, &target.dirs, self.pick.server.trust_new_digest);
            steps.retain(|step| step.name.ends_with(": fetch") || step.name.ends_with(": source"));
            step::perform(cx, steps)?;
            cx.say.result("source", &target.dirs.src().to_string_lossy());
        }
        Ok(())
    }

    fn on_pristine(&self, cx: &Cx, target: &Target, recipe: &Recipe) -> Result<()> {
        let (major, version) = (target.major, &recipe.version);
        if recipe.patches.diffs.is_empty() {
            return Err(Failure::usage(
                format!("patches/{major} holds no diffs"),
                "there is nothing to check or refresh",
            ));
        }
        let name = format!("{major}: {} on pristine {version}", if self.check { "patches" } else { "refresh" });
        if cx.flags.plan {
            cx.say.data(&format!("run  {name}: {} diffs", recipe.patches.diffs.len()));
            return Ok(());
        }
        let progress = cx.say.begin(&name, "");
        let scratch = files::beside(&target.dirs.base.join("pristine"));
        let log = target.dirs.log("patch");
        let result = (|| {
            let (one, two) = (scratch.join("a"), scratch.join("b"));
            files::make_dir(&one)?;
            server::unpack_pristine(cx, target, recipe, &one, &progress)?;
            if self.refresh {
                files::copy_tree(&one, &two)?;
                return refresh(cx, major, recipe, (&one, &two), &log);
            }
            let moved = recipe.patches.apply(&one, version, &log, &progress)?;
            if let Some(far) = moved.iter().find(|hunk| hunk.offset > OFFSET_LINES_MAX) {
                let detail = format!("{} is {} lines away from where the diff says", far.place, far.offset);
                return Err(Failure::Reject { patch: far.diff.clone(), version: version.clone(), detail });
            }
            let largest = moved.iter().map(|hunk| hunk.offset).max().unwrap_or(0);
            cx.say.data(&format!(
                "{major}: {} patches apply to {version}, {} hunks moved, by at most {largest} lines; patch set {}",
                recipe.patches.diffs.len(),
                moved.len(),
                recipe.patches.short()
            ));
            Ok(())
        })();
        files::remove_if_there(&scratch)?;
        result.map(|()| progress.done())
    }
}

type Trees<'a> = (&'a std::path::Path, &'a std::path::Path);

fn refresh(cx: &Cx, major: Major, recipe: &Recipe, trees: Trees<'_>, log: &std::path::Path) -> Result<()> {
    let rewritten = patchset::refresh(cx, &recipe.patches, trees.0, trees.1, &recipe.version, log)?;
    for diff in &rewritten {
        cx.say.note("Refreshed", diff);
    }
    pin(cx, major, rewritten.len())
}

/// Writes the id of a series into `pg.lock`.
fn pin(cx: &Cx, major: Major, rewritten: usize) -> Result<()> {
    let id = patchset::PatchSet::load(&cx.root, major)?.short();
    let path = cx.root.join("pg.lock");
    let text = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
    files::write_whole(&path, pins::with_patch_set(&text, major, &id).as_bytes())?;
    cx.say.data(&format!("{major}: {} diffs rewritten; patch set {id}", rewritten));
    Ok(())
}
