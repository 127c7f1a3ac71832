//! The provider's side: options of START_REPLICATION to what this session sends, and the startup reply.

use super::{BuildFacts, identifiers};
use crate::filter::ForwardOrigins;
use crate::wire::row::{COMPLETION_OPTION, VERSIONS_OPTION};
use crate::wire::{ProtocolVersion, announcement};
use core::fmt;

/// What the provider knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderFacts {
    /// The build.
    pub build: BuildFacts,
    /// The server's version text, for example `17.11`.
    pub pg_version: String,
    /// The server's catalog version.
    pub catalog_version: u32,
    /// Largest alignment of a value, in bytes.
    pub max_align: u32,
    /// Encoding of the database, as the server spells it.
    pub encoding: String,
    /// Our version text.
    pub spock_version: String,
    /// Our version number.
    pub spock_version_num: u32,
}

/// Why a session is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionsError {
    /// A required option is not there.
    Missing {
        /// Its name.
        option: &'static str,
    },
    /// An option came without a value.
    NoValue {
        /// Its name.
        option: String,
    },
    /// A value that cannot be read.
    BadValue {
        /// Its name.
        option: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The peer's protocol versions and ours do not meet.
    NoCommonProtocol {
        /// The peer's lowest.
        min: u32,
        /// The peer's highest.
        max: u32,
    },
    /// A peer of protocol 4 must be version 5 or later.
    PeerTooOld {
        /// What it said.
        version: u32,
    },
    /// The startup message in another format than 1.
    StartupFormat {
        /// What it asked for.
        format: u32,
    },
    /// The peer's database has another encoding.
    Encoding {
        /// The peer's.
        peer: String,
        /// Ours.
        ours: String,
    },
    /// JSON or something unknown was asked for.
    Format {
        /// What it asked for.
        format: String,
    },
    /// A value for `spock.forward_origins` other than `all`.
    ForwardOrigin {
        /// What stands there.
        origin: String,
    },
    /// `spock.replicate_only_table` is not schema and table.
    OnlyTable,
}

impl OptionsError {
    /// The SQLSTATE.
    pub const fn sqlstate(&self) -> &'static str {
        match self {
            Self::Missing { .. }
            | Self::NoValue { .. }
            | Self::BadValue { .. }
            | Self::ForwardOrigin { .. }
            | Self::OnlyTable => "22023",
            Self::NoCommonProtocol { .. }
            | Self::PeerTooOld { .. }
            | Self::StartupFormat { .. }
            | Self::Encoding { .. }
            | Self::Format { .. } => "0A000",
        }
    }

    /// What to do.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } | Self::StartupFormat { .. } | Self::Format { .. } => {
                Some("Start the stream through a Spock subscription.")
            }
            Self::NoCommonProtocol { .. } | Self::PeerTooOld { .. } => {
                Some("Upgrade the older node to Spock 5.0 or later.")
            }
            Self::Encoding { .. } => Some("Create both databases with the same encoding."),
            Self::ForwardOrigin { .. } => Some("The only origin that can be named is \"all\"."),
            Self::OnlyTable => Some("Give a schema and a table, separated by a dot."),
            Self::NoValue { .. } | Self::BadValue { .. } => None,
        }
    }
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { option } => write!(f, "option \"{option}\" is required"),
            Self::NoValue { option } => write!(f, "option \"{option}\" needs a value"),
            Self::BadValue { option, expected } => write!(f, "value of option \"{option}\" must be {expected}"),
            Self::NoCommonProtocol { min, max } => write!(
                f,
                "subscriber speaks protocol {min} to {max}, this node {} to {}",
                ProtocolVersion::MIN.number(),
                ProtocolVersion::MAX.number()
            ),
            Self::PeerTooOld { version } => write!(f, "subscriber version {version} is too old for protocol 4"),
            Self::StartupFormat { format } => write!(f, "startup message format {format} is not supported"),
            Self::Encoding { peer, ours } => {
                write!(f, "subscriber expects encoding \"{peer}\", this database has \"{ours}\"")
            }
            Self::Format { format } => write!(f, "output format \"{format}\" is not supported"),
            Self::ForwardOrigin { origin } => write!(f, "cannot forward changes of origin \"{origin}\""),
            Self::OnlyTable => f.write_str("option \"spock.replicate_only_table\" does not name a table"),
        }
    }
}

impl std::error::Error for OptionsError {}

/// What one session sends, decided once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputOptions {
    /// The layout.
    pub version: ProtocolVersion,
    /// Memory images of built-in types may be sent.
    pub internal: bool,
    /// Send-function output may be sent.
    pub binary: bool,
    /// Whose transactions are sent.
    pub forward_origins: ForwardOrigins,
    /// The subscribed sets. Empty: none, or a catch-up of one table.
    pub replication_sets: Vec<String>,
    /// A catch-up of one table: schema and name.
    pub only_table: Option<(String, String)>,
    /// Encoding of the values, as the startup reply says it.
    pub encoding: String,
    /// Echoed in the startup reply.
    pub no_txinfo: bool,
    /// The peer's version number; 0 if it did not say.
    pub peer_version_num: u32,
    /// The peer takes announcements of how far this node has applied the others' changes. Never below protocol 6.
    pub announcements: bool,
    /// The peer wants UPDATEs with their unchanged out-of-line values. Never below protocol 6.
    pub completion: bool,
    /// The client takes versions of single rows, and displaces rows by itself.
    pub row_versions: bool,
}

/// One option as it came: name and value.
pub type OptionPair<'a> = (&'a str, Option<&'a str>);

struct Given<'a> {
    pairs: &'a [OptionPair<'a>],
}

impl<'a> Given<'a> {
    /// The last one of that name stands.
    fn text(&self, option: &str) -> Result<Option<&'a str>, OptionsError> {
        match self.pairs.iter().rev().find(|(name, _)| *name == option) {
            None => Ok(None),
            Some((_, Some(value))) => Ok(Some(value)),
            Some((name, None)) => Err(OptionsError::NoValue { option: (*name).to_owned() }),
        }
    }

    fn number(&self, option: &str) -> Result<Option<u32>, OptionsError> {
        let plain = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if digits { text.parse().ok() } else { None }
        };
        let bad = || OptionsError::BadValue { option: option.to_owned(), expected: "a number from 0 to 4294967295" };
        self.text(option)?.map(|text| plain(text).ok_or_else(bad)).transpose()
    }

    /// Required options are found whatever the case of their names.
    fn required(&self, option: &'static str) -> Result<u32, OptionsError> {
        let spelled = self.pairs.iter().rev().map(|(name, _)| *name).find(|name| name.eq_ignore_ascii_case(option));
        self.number(spelled.unwrap_or(option))?.ok_or(OptionsError::Missing { option })
    }

    fn switch(&self, option: &str) -> Result<Option<bool>, OptionsError> {
        let bad = || OptionsError::BadValue { option: option.to_owned(), expected: "a Boolean" };
        self.text(option)?.map(|text| boolean(text).ok_or_else(bad)).transpose()
    }

    fn names(&self, option: &str, separator: char) -> Result<Option<Vec<String>>, OptionsError> {
        let bad = |_| OptionsError::BadValue { option: option.to_owned(), expected: "a list of names" };
        self.text(option)?.map(|text| identifiers::split(text, separator).map_err(bad)).transpose()
    }
}

/// A Boolean in any of the server's spellings, unique prefixes of words included.
pub fn boolean(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    if text == "1" || begins("true", 1) || begins("yes", 1) || begins("on", 2) {
        Some(true)
    } else if text == "0" || begins("false", 1) || begins("no", 1) || begins("off", 2) {
        Some(false)
    } else {
        None
    }
}

/// Encoding names are compared as the server does: letters and digits only, in any case.
fn same_encoding(left: &str, right: &str) -> bool {
    let plain = |name: &str| -> String {
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let known = |name: &str| match plain(name).as_str() {
        "unicode" => "utf8".to_owned(),
        other => other.to_owned(),
    };
    known(left) == known(right)
}

impl OutputOptions {
    /// Reads and checks what the subscriber sent.
    ///
    /// # Errors
    /// [`OptionsError`] says which option is wrong. Whether the sets exist is for the caller to check.
    pub fn parse(pairs: &[OptionPair<'_>], facts: &ProviderFacts) -> Result<Self, OptionsError> {
        let given = Given { pairs };
        let version = Self::negotiate(&given)?;
        let encoding = Self::check_encoding(&given, facts)?;
        if let Some(format) = given.text("proto_format")?.filter(|format| *format != "native") {
            return Err(OptionsError::Format { format: format.to_owned() });
        }
        let (internal, binary) = Self::grant(&given, &facts.build)?;
        let forward_origins = match given.names("spock.forward_origins", ',')? {
            Some(origins) if !origins.is_empty() => match origins.into_iter().find(|origin| origin != "all") {
                Some(origin) => return Err(OptionsError::ForwardOrigin { origin }),
                None => ForwardOrigins::All,
            },
            _ => ForwardOrigins::None,
        };
        let only_table = match given.names("spock.replicate_only_table", '.')? {
            None => None,
            Some(names) => match <[String; 2]>::try_from(names) {
                Ok([schema, table]) => Some((schema, table)),
                Err(_) => return Err(OptionsError::OnlyTable),
            },
        };
        Ok(Self {
            version,
            internal,
            binary,
            forward_origins,
            replication_sets: given.names("spock.replication_set_names", ',')?.unwrap_or_default(),
            only_table,
            encoding,
            no_txinfo: given.switch("no_txinfo")?.unwrap_or(false),
            peer_version_num: given.number("spock_version_num")?.unwrap_or(0),
            announcements: version >= ProtocolVersion::V6 && given.switch(announcement::OPTION)?.unwrap_or(false),
            completion: version >= ProtocolVersion::V6 && given.switch(COMPLETION_OPTION)?.unwrap_or(false),
            row_versions: version >= ProtocolVersion::V6 && given.switch(VERSIONS_OPTION)?.unwrap_or(false),
        })
    }

    fn negotiate(given: &Given<'_>) -> Result<ProtocolVersion, OptionsError> {
        let format = given.required("startup_params_format")?;
        if format != 1 {
            return Err(OptionsError::StartupFormat { format });
        }
        let (min, max) = (given.required("min_proto_version")?, given.required("max_proto_version")?);
        let chosen = max.min(ProtocolVersion::MAX.number());
        match ProtocolVersion::from_number(chosen) {
            Some(version) if min <= chosen => {
                let peer = given.number("spock_version_num")?.unwrap_or(0);
                if version == ProtocolVersion::V4 && peer < 50_000 {
                    return Err(OptionsError::PeerTooOld { version: peer });
                }
                Ok(version)
            }
            _ => Err(OptionsError::NoCommonProtocol { min, max }),
        }
    }

    fn check_encoding(given: &Given<'_>, facts: &ProviderFacts) -> Result<String, OptionsError> {
        match given.text("expected_encoding")? {
            None | Some("") => Ok("SQL_ASCII".to_owned()),
            Some(peer) if same_encoding(peer, &facts.encoding) => Ok(facts.encoding.clone()),
            Some(peer) => Err(OptionsError::Encoding { peer: peer.to_owned(), ours: facts.encoding.clone() }),
        }
    }

    /// Which formats may be used: internal needs the same major and the same machine, binary the same major.
    fn grant(given: &Given<'_>, build: &BuildFacts) -> Result<(bool, bool), OptionsError> {
        let same_major = given.number("binary.basetypes_major_version")? == Some(build.basetypes_version());
        let mut same_machine = true;
        let sizes = [
            ("binary.sizeof_datum", build.size_of_datum),
            ("binary.sizeof_int", build.size_of_int),
            ("binary.sizeof_long", build.size_of_long),
        ];
        for (option, ours) in sizes {
            // A zero says as little as a missing option.
            same_machine &= given.number(option)?.is_none_or(|theirs| theirs == 0 || theirs == ours);
        }
        let switches = [
            ("binary.bigendian", build.big_endian),
            ("binary.float4_byval", false),
            ("binary.float8_byval", build.float8_by_value),
            ("binary.integer_datetimes", false),
        ];
        for (option, ours) in switches {
            same_machine &= given.switch(option)?.is_none_or(|theirs| theirs == ours);
        }
        let internal = given.switch("binary.want_internal_basetypes")?.unwrap_or(false);
        let binary = given.switch("binary.want_binary_basetypes")?.unwrap_or(false);
        Ok((internal && same_major && same_machine, binary && same_major))
    }

    /// The startup reply's pairs, in the order of the C edition.
    pub fn startup_reply(&self, facts: &ProviderFacts, walsender_pid: i32) -> Vec<(&'static str, String)> {
        let flag = |value: bool| if value { "t" } else { "f" }.to_owned();
        let build = &facts.build;
        let major = build.basetypes_version().to_string();
        let mut reply = vec![
            // Peers of the C edition read what a C node would say.
            ("max_proto_version", self.version.max(ProtocolVersion::MAX_OF_C).number().to_string()),
            ("min_proto_version", ProtocolVersion::MIN.number().to_string()),
            ("proto_version", self.version.number().to_string()),
            ("coltypes", flag(false)),
            ("pg_version_num", build.pg_version_num.to_string()),
            ("pg_version", facts.pg_version.clone()),
            ("pg_catversion", facts.catalog_version.to_string()),
            ("database_encoding", facts.encoding.clone()),
            ("encoding", self.encoding.clone()),
            ("forward_changeset_origins", flag(true)),
            ("walsender_pid", walsender_pid.to_string()),
            ("spock_version", facts.spock_version.clone()),
            ("spock_version_num", facts.spock_version_num.to_string()),
            ("binary.internal_basetypes", flag(self.internal)),
            ("binary.binary_basetypes", flag(self.binary)),
            ("binary.basetypes_major_version", major.clone()),
            ("binary.sizeof_int", build.size_of_int.to_string()),
            ("binary.sizeof_long", build.size_of_long.to_string()),
            ("binary.sizeof_datum", build.size_of_datum.to_string()),
            ("binary.maxalign", facts.max_align.to_string()),
            ("binary.bigendian", flag(build.big_endian)),
            ("binary.float4_byval", flag(false)),
            ("binary.float8_byval", flag(build.float8_by_value)),
            ("binary.integer_datetimes", flag(false)),
            ("binary.binary_pg_version", major),
            ("no_txinfo", flag(self.no_txinfo)),
        ];
        // Who has not asked reads what it always read.
        if self.announcements {
            reply.push((announcement::OPTION, flag(true)));
        }
        if self.completion {
            reply.push((COMPLETION_OPTION, flag(true)));
        }
        if self.row_versions {
            reply.push((VERSIONS_OPTION, flag(true)));
        }
        reply
    }
}
