//! `extension`: staged, built and installed into a server that is there.

use crate::args::Pick;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::system::{self, Purpose};
use crate::target::Target;
use crate::{extension, step};

/// Stage, build and install the extension.
#[derive(Debug, clap::Args)]
pub struct ExtensionArgs {
    #[command(flatten)]
    pick: Pick,
}

impl ExtensionArgs {
    /// Builds it for each major in turn; prints the staged tree.
    pub fn run(self, cx: &Cx) -> Result<()> {
        system::require(cx, &[Purpose::Extension])?;
        for major in &self.pick.pg.0 {
            let target = Target::resolve(cx, *major, &self.pick.server)?;
            if !target.pg_config().is_file() && !cx.flags.plan {
                let what = format!("there is no {} server here yet", target.label());
                let hint = format!("run: cargo xtask server --pg {major} --server {}", target.kind);
                return Err(Failure::failed(what, hint));
            }
            let _lock = cx.lock(&target.dirs)?;
            step::perform(cx, extension::steps(cx, &target)?)?;
            cx.say.result("stage", &target.dirs.stage().to_string_lossy());
        }
        Ok(())
    }
}
