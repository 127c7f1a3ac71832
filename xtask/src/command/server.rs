//! `server`: the server alone, without the extension.

use crate::args::Pick;
use crate::command::build;
use crate::cx::Cx;
use crate::exit::Result;

/// Build and install the server alone.
#[derive(Debug, clap::Args)]
pub struct ServerCommandArgs {
    #[command(flatten)]
    pick: Pick,
}

impl ServerCommandArgs {
    /// Builds each major in turn; prints its prefix.
    pub fn run(self, cx: &Cx) -> Result<()> {
        for major in &self.pick.pg.0 {
            let target = build::server_of(cx, *major, &self.pick.server)?;
            cx.say.result("prefix", &target.prefix().to_string_lossy());
        }
        Ok(())
    }
}
