//! `package`: deb, rpm, tar and OCI artefacts of server and extension, with SBOMs, sums and, given a key, a signature.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::args::{Pick, ServerArgs};
use crate::command::build;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::files::{self, Room};
use crate::major::{Kind, Major};
use crate::matrix::Machine;
use crate::package::layout::Family;
use crate::package::plan::{self, Format, Plan, Wish};
use crate::package::publish::{self, Artefact, Key};
use crate::package::{make, tools, verify};
use crate::system::{self, Purpose};

/// Room for stripped copies, unpacked trees and artefacts of one major.
const PACKAGE_MB: u64 = 1500;

/// Make packages of server and extension; `--server stock` makes the extension for the distribution's server.
#[derive(Debug, clap::Args)]
pub struct PackageArgs {
    #[command(flatten)]
    pick: Pick,
    /// Which formats: deb, rpm, tar, oci (stock: all but oci)
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', default_value = "deb,tar")]
    format: Vec<Format>,
    /// Where the artefacts go
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
    /// Counts the packagings of one version
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    revision: u32,
    /// Sign SHA256SUMS: minisign:SECRET_KEY_FILE (without a password) or gpg:KEY_ID
    #[arg(long, value_name = "KEY")]
    sign: Option<Key>,
    /// Build extension and packages twice, elsewhere and as others, and compare every byte; leaves no artefact
    #[arg(long, conflicts_with_all = ["sign", "out", "revision"])]
    verify: bool,
    /// With --verify: compile the server twice as well
    #[arg(long, requires = "verify")]
    verify_server: bool,
}

impl PackageArgs {
    /// Packages each major in turn, then writes manifest, sums and signature.
    pub fn run(self, cx: &Cx) -> Result<()> {
        if self.verify {
            return verify::run(cx, &self.pick, &self.format, self.verify_server);
        }
        self.sign.as_ref().map_or(Ok(()), |key| publish::can_sign(cx, key))?;
        let out = std::path::absolute(&self.out).map_err(Failure::io("find", &self.out))?;
        publish::Earlier::read(&out)?;
        let wish = Wish { formats: self.format, out: out.clone(), revision: self.revision };
        let mut artefacts = Vec::new();
        for major in &self.pick.pg.0 {
            artefacts.extend(of_major(cx, *major, &self.pick.server, &wish)?);
        }
        if cx.flags.plan {
            return Ok(());
        }
        // The operator's program is made with each major, and is the same.
        let mut seen = BTreeSet::new();
        artefacts.retain(|artefact| seen.insert(artefact.path.clone()));
        publish::publish(cx, &out, &artefacts, self.sign.as_ref())?;
        for artefact in &artefacts {
            cx.say.result("artefact", &artefact.path.to_string_lossy());
        }
        Ok(())
    }
}

/// The packages of one major in `out`, with manifest and sums.
pub fn make_packages(cx: &Cx, major: Major, args: &ServerArgs, formats: &[Format], out: &Path) -> Result<()> {
    let out = std::path::absolute(out).map_err(Failure::io("find", out))?;
    let wish = Wish { formats: formats.to_vec(), out: out.clone(), revision: 1 };
    let artefacts = of_major(cx, major, args, &wish)?;
    publish::publish(cx, &out, &artefacts, None)
}

/// Builds what is missing and packages it.
pub fn of_major(cx: &Cx, major: Major, args: &ServerArgs, wish: &Wish) -> Result<Vec<Artefact>> {
    plan::given_epoch()?;
    if args.server == Some(Kind::Stock) {
        plan::refuse_image(&wish.formats)?;
    }
    let args = distribution_server(cx, major, args);
    plan::refuse_server(cx, major, &args)?;
    require(cx, &wish.formats)?;
    let target = build::library_of(cx, major, &args)?;
    tools::build(cx)?;
    let plan = Plan::of(cx, &target, wish)?;
    if cx.flags.plan {
        plan.lines().iter().for_each(|line| cx.say.data(line));
        return Ok(Vec::new());
    }
    let what = format!("packaging {}", target.label());
    files::need_space(&plan.out, Room::Out, PACKAGE_MB, &what)?;
    files::need_space(&target.dirs.base, Room::Clone, PACKAGE_MB, &what)?;
    let _lock = cx.lock(&target.dirs)?;
    make::make(cx, &plan)
}

/// A package for a stock server is built with the distribution's own, where that is installed.
pub fn distribution_server(cx: &Cx, major: Major, args: &ServerArgs) -> ServerArgs {
    let mut args = args.clone();
    if args.server == Some(Kind::Stock) && args.source.is_none() && args.pg_config.is_none() {
        args.pg_config = Family::of(&Machine::this()).installed_pg_config(cx, major);
    }
    args
}

fn require(cx: &Cx, formats: &[Format]) -> Result<()> {
    let mut purposes = vec![Purpose::Packages];
    if formats.contains(&Format::Deb) {
        purposes.push(Purpose::DebPackages);
    }
    system::require(cx, &purposes)
}
