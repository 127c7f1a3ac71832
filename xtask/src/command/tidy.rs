//! `tidy`: the rules that no linter knows.

use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::tidy;

/// Check the rules that no linter knows.
#[derive(Debug, clap::Args)]
pub struct TidyArgs {}

impl TidyArgs {
    /// Prints `path:line: rule, what to do instead` for each line that breaks one.
    pub fn run(self, cx: &Cx) -> Result<()> {
        let found = tidy::findings(&cx.root)?;
        for one in &found {
            cx.say.result("finding", &one.to_string());
        }
        match found.len() {
            0 => Ok(()),
            n => Err(Failure::failed(format!("{n} findings"), "each line says what to do instead")),
        }
    }
}
