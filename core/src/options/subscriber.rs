//! The subscriber's side: the START_REPLICATION command, and the check of what the provider granted.

use super::provider::boolean;
use super::{BuildFacts, identifiers};
use crate::types::Lsn;
use crate::wire::control::Startup;
use crate::wire::row::{COMPLETION_OPTION, VERSIONS_OPTION};
use crate::wire::{ProtocolVersion, announcement};
use core::fmt;

/// What a subscription asks of its provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberOptions {
    /// The build.
    pub build: BuildFacts,
    /// Encoding of our database, as the server spells it.
    pub encoding: String,
    /// Everything as text.
    pub force_text: bool,
    /// The stored list: empty, or `all`.
    pub forward_origins: Vec<String>,
    /// The subscribed sets. `None`: they are not sent, as for a single table of a C provider, which takes one or the other.
    pub replication_sets: Option<Vec<String>>,
    /// A catch-up of one table, schema and name.
    pub only_table: Option<(String, String)>,
    /// The highest protocol to ask for: that of the C edition, unless the provider is known to speak more.
    pub max_version: ProtocolVersion,
    /// Announcements are wanted. Asked for from protocol 6 on.
    pub announcements: bool,
    /// Our version text.
    pub spock_version: String,
    /// Our version number, at least 50000.
    pub spock_version_num: u32,
}

/// Why no command can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// The replication grammar has no way to write a backslash in a value.
    Backslash {
        /// The option.
        option: &'static str,
    },
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backslash { option } => write!(f, "option \"{option}\" contains a backslash, which cannot be sent"),
        }
    }
}

impl std::error::Error for CommandError {}

impl SubscriberOptions {
    /// Names and values, in the order of the C edition.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let flag = |value: bool| if value { "1" } else { "0" }.to_owned();
        let build = &self.build;
        let mut pairs = vec![
            ("expected_encoding", self.encoding.clone()),
            ("min_proto_version", ProtocolVersion::MIN.number().to_string()),
            ("max_proto_version", self.max_version.number().to_string()),
            ("startup_params_format", "1".to_owned()),
            ("binary.want_internal_basetypes", flag(!self.force_text)),
            ("binary.want_binary_basetypes", flag(!self.force_text)),
            ("binary.basetypes_major_version", build.basetypes_version().to_string()),
            ("binary.sizeof_datum", build.size_of_datum.to_string()),
            ("binary.sizeof_int", build.size_of_int.to_string()),
            ("binary.sizeof_long", build.size_of_long.to_string()),
            ("binary.bigendian", flag(build.big_endian)),
            ("binary.float4_byval", flag(false)),
            ("binary.float8_byval", flag(build.float8_by_value)),
            ("binary.integer_datetimes", flag(false)),
            ("hooks.setup_function", "spock.spock_hooks_setup".to_owned()),
            ("spock.forward_origins", identifiers::join(&self.forward_origins)),
        ];
        if let Some((schema, table)) = &self.only_table {
            let name = format!("{}.{}", identifiers::quote(schema), identifiers::quote(table));
            pairs.push(("spock.replicate_only_table", name));
        }
        if let Some(sets) = &self.replication_sets {
            pairs.push(("spock.replication_set_names", identifiers::join(sets)));
        }
        pairs.push(("pg_version", build.pg_version_num.to_string()));
        pairs.push(("spock_version", self.spock_version.clone()));
        pairs.push(("spock_version_num", self.spock_version_num.to_string()));
        if self.announcements && self.max_version >= ProtocolVersion::V6 {
            pairs.push((announcement::OPTION, flag(true)));
        }
        if self.max_version >= ProtocolVersion::V6 {
            pairs.push((COMPLETION_OPTION, flag(true)));
            pairs.push((VERSIONS_OPTION, flag(true)));
        }
        pairs
    }
}

/// The command that starts the stream. `start`: progress of our origin, `None` for none.
///
/// # Errors
/// [`CommandError`] for a value that the replication grammar cannot carry.
pub fn start_replication_command(
    slot: &str,
    start: Option<Lsn>,
    pairs: &[(&'static str, String)],
) -> Result<String, CommandError> {
    let start = start.map_or_else(|| "0/0".to_owned(), |lsn| lsn.to_string());
    let mut options = Vec::with_capacity(pairs.len());
    for (option, value) in pairs {
        if value.contains('\\') {
            return Err(CommandError::Backslash { option });
        }
        let name = if option.contains('.') { identifiers::quote(option) } else { (*option).to_owned() };
        options.push(format!("{name} '{}'", value.replace('\'', "''")));
    }
    Ok(format!("START_REPLICATION SLOT {} LOGICAL {start} ({})", identifiers::quote(slot), options.join(", ")))
}

/// What the provider granted, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The layout of all that follows.
    pub version: ProtocolVersion,
    /// The provider's Spock version text, if it said.
    pub spock_version: Option<String>,
    /// The provider's server version number, if it said.
    pub pg_version_num: Option<u32>,
    /// The provider's byte order differs, so payloads in host order cannot be read.
    pub foreign_byte_order: bool,
    /// The provider announces how far it has applied the others' changes.
    pub announces: bool,
}

/// Why the provider's reply is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyError {
    /// Values would come in another encoding than our database's.
    Encoding {
        /// What it said.
        provider: String,
        /// Ours.
        ours: String,
    },
    /// A layout that we did not offer.
    Protocol {
        /// What it said.
        said: String,
    },
    /// A Boolean that is none.
    BadFlag {
        /// The key.
        key: &'static str,
    },
}

impl ReplyError {
    /// The SQLSTATE.
    pub const fn sqlstate(&self) -> &'static str {
        match self {
            Self::Encoding { .. } => "55000",
            Self::Protocol { .. } | Self::BadFlag { .. } => "22023",
        }
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding { provider, ours } => {
                write!(f, "provider sends encoding \"{provider}\", this database has \"{ours}\"")
            }
            Self::Protocol { said } => write!(f, "provider chose protocol \"{said}\", which was not offered"),
            Self::BadFlag { key } => write!(f, "provider sent no Boolean for \"{key}\""),
        }
    }
}

impl std::error::Error for ReplyError {}

impl Session {
    /// The layout until the startup message has come: a provider of version 5.0 never says which one it uses.
    pub const VERSION_BEFORE_STARTUP: ProtocolVersion = ProtocolVersion::V4;

    /// Checks the startup message against our database's encoding.
    ///
    /// # Errors
    /// [`ReplyError`] for what we cannot live with; keys that we do not know are ignored.
    pub fn accept(startup: &Startup<'_>, encoding: &str) -> Result<Self, ReplyError> {
        let text = |key: &str| startup.get(key).map(|value| String::from_utf8_lossy(value).into_owned());
        if let Some(provider) = text("encoding").filter(|provider| provider != encoding) {
            return Err(ReplyError::Encoding { provider, ours: encoding.to_owned() });
        }
        let flags =
            ["forward_changeset_origins", "binary.bigendian", announcement::OPTION, COMPLETION_OPTION, VERSIONS_OPTION];
        for key in flags {
            if text(key).is_some_and(|value| boolean(&value).is_none()) {
                return Err(ReplyError::BadFlag { key });
            }
        }
        let version = match text("proto_version") {
            None => Self::VERSION_BEFORE_STARTUP,
            Some(said) => match said.as_str() {
                "4" => ProtocolVersion::V4,
                "5" => ProtocolVersion::V5,
                "6" => ProtocolVersion::V6,
                _ => return Err(ReplyError::Protocol { said }),
            },
        };
        let big_endian = text("binary.bigendian").and_then(|value| boolean(&value));
        Ok(Self {
            version,
            spock_version: text("spock_version"),
            pg_version_num: text("pg_version_num").and_then(|value| value.parse().ok()),
            announces: text(announcement::OPTION).and_then(|value| boolean(&value)).unwrap_or(false),
            foreign_byte_order: big_endian.is_some_and(|theirs| theirs != cfg!(target_endian = "big")),
        })
    }
}
