//! `update`: moves the pin of a major to the newest release that a source has.

use std::fs;

use crate::args::SourceArg;
use crate::cx::Cx;
use crate::exit::{Failure, Result};
use crate::files;
use crate::major::{Major, Majors};
use crate::obtain::{self, Newest};
use crate::pins::{self, Pin};

/// Fetch the newest minor release of a major and write its version and digest into pg.lock.
#[derive(Debug, clap::Args)]
pub struct UpdateArgs {
    /// PostgreSQL majors: 15, 16, 17, 18, a list with commas, or `all`
    #[arg(long, value_name = "MAJORS")]
    pg: Majors,
    /// Who is asked: official or debian (default: official, then debian)
    #[arg(long, value_name = "SOURCE")]
    source: Option<SourceArg>,
}

impl UpdateArgs {
    /// Asks for each major in turn; `pg.lock` is written once, after all of them.
    pub fn run(self, cx: &Cx) -> Result<()> {
        let order = match self.source {
            None => vec![SourceArg::Official, SourceArg::Debian],
            Some(source @ (SourceArg::Official | SourceArg::Debian)) => vec![source],
            Some(other) => {
                let what = format!("--source {} does not say which release is the newest", obtain::name_of(&other));
                return Err(Failure::usage(what, "use official or debian"));
            }
        };
        if cx.flags.offline {
            let what = "a source has to be asked for its newest release, and --offline opens no socket";
            return Err(Failure::usage(what, "leave out --offline"));
        }
        let path = cx.root.join("pg.lock");
        let old = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        let mut text = old.clone();
        let mut moved = Vec::new();
        for major in &self.pg.0 {
            let pin = cx.pins.of(*major)?;
            if cx.flags.plan {
                cx.say.data(&format!("run  {major}: look for a release after {}, pin it", pin.version));
                continue;
            }
            let name = format!("{major}: update");
            let progress = cx.say.begin(&name, "");
            let newest = obtain::newest(cx, *major, &order, &progress)?;
            progress.done();
            if is_news(*major, pin, &newest)? {
                text = pins::with_release(&text, *major, &newest.version, &newest.file, newest.digest);
                moved.push((*major, pin.version.as_str(), newest));
            } else {
                cx.say.data(&format!("{major}: stays at {}; {} has {}", pin.version, newest.source, newest.version));
            }
        }
        if text != old {
            files::write_whole(&path, text.as_bytes())?;
        }
        for (major, before, newest) in moved {
            let Newest { version, file, digest, source } = newest;
            cx.say.data(&format!("{major}: {before} -> {version}, {file} from {source}, sha256 {digest}"));
            cx.say.note(
                "Next",
                &format!("compare the digest with the project's site; cargo xtask patch --check --pg {major}"),
            );
        }
        Ok(())
    }
}

/// Is it to be pinned? Fails when the pinned release has got another content.
fn is_news(major: Major, pin: &Pin, newest: &Newest) -> Result<bool> {
    let minor = |version: &str| obtain::minor(major, version);
    match (minor(&newest.version).cmp(&minor(&pin.version)), pin.sha256) {
        (std::cmp::Ordering::Less, _) => Ok(false),
        (std::cmp::Ordering::Greater, _) | (_, None) => Ok(true),
        (_, Some(pinned)) if pinned == newest.digest => Ok(false),
        (_, Some(expected)) => Err(Failure::WrongDigest {
            expected,
            computed: newest.digest,
            file: newest.file.clone(),
            source_name: newest.source.to_owned(),
            hint: "pg.lock was left as it is; compare both digests with the project's site".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn a_pin_moves_forward_only_and_a_release_does_not_change() {
        let (cx, major): (Cx, Major) = (Cx::for_tests(), "17".parse().unwrap());
        let pin = cx.pins.of(major).unwrap();
        let found = |version: &str, digest: Digest| {
            let file = format!("postgresql-{version}.tar.bz2");
            is_news(major, pin, &Newest { version: version.to_owned(), file, digest, source: "debian" })
        };
        let (pinned, other) = (pin.sha256.unwrap(), Digest::of_bytes(b"other"));
        assert!(found("17.99", other).unwrap());
        assert!(!found("17.9", other).unwrap());
        assert!(!found(&pin.version, pinned).unwrap());
        assert_eq!(found(&pin.version, other).unwrap_err().exit() as u8, 5);
    }

    #[test]
    fn without_a_socket_nothing_is_updated() {
        let args = UpdateArgs { pg: "17".parse().unwrap(), source: None };
        assert_eq!(args.run(&Cx::for_tests()).unwrap_err().exit() as u8, 2);
    }
}
