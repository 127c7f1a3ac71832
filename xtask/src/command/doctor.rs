//! `doctor`: what a build needs from the system, and what of it is missing.

use crate::cx::Cx;
use crate::exit::Result;
use crate::system::{self, Need, Purpose};

/// List what a build needs from the system.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Install what is missing with the system's package manager
    #[arg(long)]
    install: bool,
}

impl DoctorArgs {
    /// Prints one line per need; fails when one that a build cannot do without is missing.
    pub fn run(self, cx: &Cx) -> Result<()> {
        let all = [
            Purpose::Extension,
            Purpose::Server,
            Purpose::ServerTests,
            Purpose::Lint,
            Purpose::Prebuilt,
            Purpose::Packages,
            Purpose::DebPackages,
            Purpose::PackageTests,
            Purpose::Comfort,
        ];
        let seen = system::look(cx, &all);
        for (need, there) in &seen {
            let state = if *there { "ok     " } else { "missing" };
            cx.say.data(&format!(
                "{state} {:<16} for {:<26} deb {:<16} rpm {}",
                need.name,
                words(need.purpose),
                need.deb,
                need.rpm
            ));
        }
        let missing: Vec<&Need> = seen.iter().filter(|(_, there)| !there).map(|(need, _)| *need).collect();
        if self.install && !missing.is_empty() && !cx.flags.plan {
            system::install(cx, &missing)?;
            return system::require(cx, &[Purpose::Extension, Purpose::Server]);
        }
        let needed: Vec<&Need> =
            missing.into_iter().filter(|need| matches!(need.purpose, Purpose::Extension | Purpose::Server)).collect();
        if needed.is_empty() { Ok(()) } else { Err(system::missing_failure(&needed)) }
    }
}

fn words(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Server => "the server",
        Purpose::Extension => "the extension",
        Purpose::Lint => "lint suite",
        Purpose::Prebuilt => "--source prebuilt",
        Purpose::ServerTests => "tests",
        Purpose::Packages => "packages",
        Purpose::DebPackages => "packages as deb",
        Purpose::PackageTests => "tests of packages",
        Purpose::Comfort => "comfort (optional)",
    }
}
