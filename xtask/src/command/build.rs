//! `build`: from a major to a prefix with server and extension.

use std::path::PathBuf;

use crate::args::{Pick, ServerArgs};
use crate::cx::Cx;
use crate::exit::Result;
use crate::major::Major;
use crate::system::{self, Purpose};
use crate::target::{Origin, Target};
use crate::{extension, server, step};

/// Build and install server and extension; the last line on stdout is the prefix.
#[derive(Debug, clap::Args)]
pub struct BuildArgs {
    #[command(flatten)]
    pick: Pick,
}

impl BuildArgs {
    /// Builds each major in turn.
    pub fn run(self, cx: &Cx) -> Result<()> {
        for major in &self.pick.pg.0 {
            let target = prefix_with_extension(cx, *major, &self.pick.server)?;
            cx.say.result("prefix", &target.prefix().to_string_lossy());
        }
        Ok(())
    }
}

/// Makes sure that the server of a major is there and has the extension in it.
pub fn prefix_with_extension(cx: &Cx, major: Major, args: &ServerArgs) -> Result<Target> {
    let target = server_of(cx, major, args)?;
    let _lock = cx.lock(&target.dirs)?;
    step::perform(cx, extension::steps(cx, &target)?)?;
    note_for_editors(cx)?;
    Ok(target)
}

/// Makes sure that the extension's library and staged files are there; a server that others installed stays as it is.
pub fn library_of(cx: &Cx, major: Major, args: &ServerArgs) -> Result<Target> {
    let target = server_of(cx, major, args)?;
    if !matches!(target.origin, Origin::Installed(_)) {
        drop(target);
        return prefix_with_extension(cx, major, args);
    }
    let _lock = cx.lock(&target.dirs)?;
    step::perform(cx, extension::library_steps(cx, &target)?)?;
    Ok(target)
}

/// Makes sure that the server of a major is there.
pub fn server_of(cx: &Cx, major: Major, args: &ServerArgs) -> Result<Target> {
    require_for(cx, major, args)?;
    let target = Target::resolve(cx, major, args)?;
    let _lock = cx.lock(&target.dirs)?;
    // Whoever waited here finds the entry in the store.
    let entry = server::entry_dir(cx, &server::store_key(&target));
    let to_be_made = !matches!(target.origin, Origin::Installed(_)) && !entry.is_dir();
    let _entry_lock = if to_be_made { cx.lock_entry(&entry)? } else { None };
    step::perform(cx, server::steps(cx, &target, args.trust_new_digest))?;
    Ok(target)
}

/// Checks what the system has to provide for this kind of build.
fn require_for(cx: &Cx, major: Major, args: &ServerArgs) -> Result<()> {
    let mut purposes = vec![Purpose::Extension];
    if args.pg_config.is_none() {
        let prebuilt = Target::is_prebuilt(cx, major, args)?;
        purposes.push(if prebuilt { Purpose::Prebuilt } else { Purpose::Server });
    }
    system::require(cx, &purposes)
}

/// `.pgrx/config.toml` lets a plain `cargo check` and an editor find the headers of every server that is built here.
fn note_for_editors(cx: &Cx) -> Result<()> {
    if cx.flags.plan {
        return Ok(());
    }
    let found = Major::ALL.into_iter().filter_map(|major| {
        let kinds = [crate::major::Kind::Patched, crate::major::Kind::Stock];
        let installs = kinds.map(|kind| cx.dirs(major, kind).install().join("bin/pg_config"));
        installs.into_iter().find(|path: &PathBuf| path.is_file()).map(|path| (major.feature(), path))
    });
    let lines: String = found.map(|(feature, path)| format!("{feature} = {:?}\n", path.to_string_lossy())).collect();
    let (text, path) = (format!("[configs]\n{lines}"), cx.root.join(".pgrx/config.toml"));
    match std::fs::read_to_string(&path) {
        Ok(old) if old == text => Ok(()),
        _ => crate::files::write_whole(&path, text.as_bytes()),
    }
}
