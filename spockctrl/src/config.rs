//! The cluster's configuration: files of the C edition's program as they are, and members of our own on top.
//!
//! **Invariant.** A [`NodeConfig`] is complete: where its connection comes from is decided here, and nothing of it prints a
//! password.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::conninfo::{self, Keywords};
use crate::exit::{Failure, Result};
use crate::json::{At, Document};
use crate::log::{Destination, Level};
use crate::secret::{Secret, register};

/// Names the file when `--config` does not.
pub const VARIABLE: &str = "SPOCKCTRL_CONFIG";
/// The file's usual name.
const NAME: &str = "spockctrl.json";
/// A host that does not answer in this time is taken for dead.
const CONNECT_TIMEOUT_S: u64 = 10;

const NODE_MEMBERS: [&str; 12] = [
    "node_name",
    "postgres",
    "dsn",
    "peer_dsn",
    "service",
    "passfile",
    "password_env",
    "password_file",
    "sslmode",
    "options",
    "connect_timeout",
    "statement_timeout",
];
const POSTGRES_MEMBERS: [&str; 5] =
    ["postgres_ip", "postgres_port", "postgres_user", "postgres_password", "postgres_db"];

/// A configuration that was read and is valid.
#[derive(Debug)]
pub struct Config {
    /// Where it was found.
    pub path: PathBuf,
    /// How much is said when `-v` does not say so.
    pub log_level: Option<Level>,
    /// Where to.
    pub log_destination: Destination,
    /// The nodes, in the file's order; their names are distinct.
    pub nodes: Vec<NodeConfig>,
    /// What is strange in it.
    pub warnings: Vec<String>,
}

/// One server.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its key: what `--node` names.
    pub name: String,
    /// How this program reaches it, without the password.
    pub keywords: Keywords,
    /// From its own members; without one the environment and the password file are asked.
    pub password: Option<Secret>,
    /// Seconds until a connection attempt is given up.
    pub connect_timeout_s: u64,
    /// Seconds until the server ends a statement; none: no limit.
    pub statement_timeout_s: Option<u64>,
    peer_dsn: Option<String>,
}

impl NodeConfig {
    /// The connection string that other nodes are given for this one. It can have a password in it: only for binding.
    pub fn peer_dsn(&self) -> String {
        if let Some(dsn) = &self.peer_dsn {
            return dsn.clone();
        }
        let own = ["application_name", "connect_timeout", "service", "passfile"];
        let mut keywords: Keywords =
            self.keywords.iter().filter(|(key, _)| !own.contains(&key.as_str())).cloned().collect();
        if let Some(password) = &self.password {
            keywords.push(("password".to_owned(), password.expose().to_owned()));
        }
        conninfo::render(&keywords)
    }

    /// Name of its database, as far as the configuration says.
    pub fn database(&self) -> String {
        let value = |key: &str| self.keywords.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.clone());
        value("dbname").or_else(|| value("user")).unwrap_or_else(|| "postgres".to_owned())
    }
}

impl Config {
    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&NodeConfig> {
        self.nodes.iter().find(|node| node.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            let what = format!("node \"{name}\" is not in {}", self.path.display());
            Failure::config(what, format!("it has: {}", names.join(", ")))
        })
    }

    /// Finds and reads the file: `given`, the environment, the working directory, the user's configuration directory, the
    /// directory of the installation.
    pub fn find(given: Option<&Path>, strict: bool) -> Result<Self> {
        if let Some(path) = given.map(Path::to_owned).or_else(|| env::var_os(VARIABLE).map(PathBuf::from)) {
            return Self::read(&path, strict);
        }
        let places = places();
        match places.iter().find(|path| path.is_file()) {
            Some(path) => Self::read(path, strict),
            None => {
                let list: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
                let hint = format!("name it with --config or {VARIABLE}; looked for: {}", list.join(", "));
                Err(Failure::config("there is no configuration file", hint))
            }
        }
    }

    fn read(path: &Path, strict: bool) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::config(format!("could not read {}: {error}", path.display()), "name another file with --config")
        })?;
        let mut config = Self::parse(path, &text)?;
        let mode = fs::metadata(path).map(|data| data.permissions().mode()).unwrap_or_default();
        if mode & 0o044 != 0 && has_clear_password(&text) {
            let what = format!("{} holds a password and others can read it", path.display());
            let hint = "chmod 600 it, or use password_file, password_env or a passfile";
            if strict {
                return Err(Failure::config(what, hint));
            }
            config.warnings.push(format!("{what}; {hint}"));
        }
        Ok(config)
    }

    /// Reads a configuration's text. Files that it names for passwords are read too.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let document = Document::parse(&path.display().to_string(), text)?;
        let root = document.root();
        root.knows(&["global", "spock-nodes"])?;
        let (log_level, log_destination) = match root.get("global")? {
            Some(global) => log_of(&global)?,
            None => (None, Destination::Console),
        };
        let mut nodes: Vec<NodeConfig> = Vec::new();
        for entry in root.need("spock-nodes")?.elements()? {
            let node = node_of(&entry)?;
            if nodes.iter().any(|other| other.name == node.name) {
                return Err(entry
                    .need("node_name")?
                    .error("there are two nodes of this name", "names must be distinct"));
            }
            nodes.push(node);
        }
        Ok(Self { path: path.to_owned(), log_level, log_destination, nodes, warnings: document.take_warnings() })
    }
}

/// Where a file is looked for that nobody names, in this order.
fn places() -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from(NAME)];
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    if let Some(dir) = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home) {
        places.push(dir.join("spockctrl").join(NAME));
    }
    let prefix = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.to_owned()));
    places.extend(prefix.map(|prefix| prefix.join("share/spock").join(NAME)));
    places
}

fn has_clear_password(text: &str) -> bool {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let nodes = value.get("spock-nodes").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    nodes.iter().any(|node| {
        let own = node.pointer("/postgres/postgres_password").and_then(serde_json::Value::as_str);
        let dsn = |key: &str| node.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let options = node.pointer("/options/password").is_some();
        let in_dsn = [dsn("dsn"), dsn("peer_dsn")].iter().any(|dsn| crate::secret::mask(dsn) != **dsn);
        own.is_some_and(|password| !password.is_empty()) || options || in_dsn
    })
}

fn log_of(global: &At<'_>) -> Result<(Option<Level>, Destination)> {
    global.knows(&["spock", "log"])?;
    if let Some(spock) = global.get("spock")? {
        spock.knows(&["cluster_name", "version"])?;
        spock.text_of("cluster_name")?;
        spock.text_of("version")?;
    }
    let Some(log) = global.get("log")? else { return Ok((None, Destination::Console)) };
    log.knows(&["log_level", "log_destination", "log_file"])?;
    let level = match log.get("log_level")? {
        None => None,
        Some(at) => {
            let word = at.value.as_str().map_or_else(|| at.value.to_string(), str::to_owned);
            let level = Level::parse(&word);
            Some(level.ok_or_else(|| at.error("must be 0 to 3, or error, warning, info or debug", ""))?)
        }
    };
    let file = log.text_of("log_file")?.filter(|file| !file.is_empty());
    let destination = match log.get("log_destination")? {
        None => Destination::Console,
        Some(at) => match at.text()?.to_ascii_lowercase().as_str() {
            "console" | "stderr" | "" => Destination::Console,
            "syslog" | "journal" => Destination::Syslog,
            "file" => match file {
                Some(file) => Destination::File(file.into()),
                None => return Err(at.error("needs the member \"log_file\"", "")),
            },
            _ => return Err(at.error("must be console, file, syslog or journal", "")),
        },
    };
    Ok((level, destination))
}

fn node_of(entry: &At<'_>) -> Result<NodeConfig> {
    entry.knows(&NODE_MEMBERS)?;
    let name_at = entry.need("node_name")?;
    let name = name_at.text()?;
    if name.is_empty() {
        return Err(name_at.error("must not be empty", ""));
    }
    let mut keywords = Keywords::new();
    let mut password = None;
    if let Some(service) = entry.text_of("service")? {
        keywords.extend(conninfo::service(&service).map_err(|why| entry.error(&why, ""))?);
    }
    if let Some(postgres) = entry.get("postgres")? {
        postgres.knows(&POSTGRES_MEMBERS)?;
        for (member, keyword) in [("postgres_ip", "host"), ("postgres_user", "user"), ("postgres_db", "dbname")] {
            keywords.extend(postgres.text_of(member)?.map(|value| (keyword.to_owned(), value)));
        }
        let port = postgres.number_of("postgres_port")?.filter(|port| *port != 0);
        keywords.extend(port.map(|port| ("port".to_owned(), port.to_string())));
        password = postgres.text_of("postgres_password")?.filter(|text| !text.is_empty());
    } else if entry.get("dsn")?.is_none() && entry.get("service")?.is_none() {
        return Err(entry.error("has none of the members postgres, dsn and service", "say how the server is reached"));
    }
    if let Some(dsn) = entry.get("dsn")? {
        keywords.extend(conninfo::parse(&dsn.text()?).map_err(|why| dsn.error(&why, ""))?);
    }
    for member in ["passfile", "sslmode"] {
        keywords.extend(entry.text_of(member)?.map(|value| (member.to_owned(), value)));
    }
    if let Some(options) = entry.get("options")? {
        for (name, value) in options.members()? {
            let text = value.value.as_str().map_or_else(|| value.value.to_string(), str::to_owned);
            keywords.push((name, text));
        }
    }
    conninfo::check(&keywords).map_err(|(why, hint)| entry.error(&why, hint))?;
    let own = conninfo::take(&mut keywords, "password");
    let password = match password.or(own) {
        Some(password) => Some(password),
        None => password_elsewhere(entry)?,
    };
    let connect_timeout = conninfo::take(&mut keywords, "connect_timeout").and_then(|text| text.parse().ok());
    Ok(NodeConfig {
        name,
        keywords,
        password: password.map(Secret::new),
        connect_timeout_s: entry.number_of("connect_timeout")?.or(connect_timeout).unwrap_or(CONNECT_TIMEOUT_S),
        statement_timeout_s: entry.number_of("statement_timeout")?.filter(|limit| *limit != 0),
        peer_dsn: peer_dsn_of(entry)?,
    })
}

/// Checked as far as servers take what this program does not; its password becomes known.
fn peer_dsn_of(entry: &At<'_>) -> Result<Option<String>> {
    let Some(at) = entry.get("peer_dsn")? else { return Ok(None) };
    let dsn = at.text()?;
    // Parameters of an address are for libpq to understand.
    let (address, parameters) = match dsn.split_once('?') {
        Some((address, parameters)) if address.contains("://") => (address, parameters),
        _ => (dsn.as_str(), ""),
    };
    let mut keywords = conninfo::parse(address).map_err(|why| at.error(&why, ""))?;
    if let Some(password) = conninfo::take(&mut keywords, "password") {
        register(&password);
    }
    parameters.split('&').filter_map(|parameter| parameter.strip_prefix("password=")).for_each(register);
    Ok(Some(dsn))
}

/// From `password_file`, else from the variable that `password_env` names.
fn password_elsewhere(entry: &At<'_>) -> Result<Option<String>> {
    if let Some(at) = entry.get("password_file")? {
        let path = at.text()?;
        let text = fs::read_to_string(&path).map_err(|error| at.error(&format!("could not read it: {error}"), ""))?;
        return Ok(Some(text.lines().next().unwrap_or_default().to_owned()));
    }
    let variable = entry.text_of("password_env")?;
    Ok(variable.and_then(|name| env::var(name).ok()).filter(|password| !password.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(Path::new("c.json"), text)
    }

    #[test]
    fn a_file_of_the_former_program_is_read_as_it_is() {
        let config = parse(include_str!("../share/spockctrl.json")).unwrap();
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        assert_eq!(config.log_level, Some(Level::Warning));
        let node = config.node("n2").unwrap();
        assert_eq!(node.database(), "app");
        assert_eq!(node.peer_dsn(), "host=127.0.0.1 user=postgres dbname=app port=5433");
        assert!(parse(r#"{"global":{},"spock-nodes":[]}"#).unwrap().nodes.is_empty());
    }

    #[test]
    fn further_members() {
        let config = parse(
            r#"{"spock-nodes":[{"node_name":"n1","dsn":"host=h port=6 password='s 3'","sslmode":"disable","connect_timeout":3,
                "options":{"user":"u","keepalives":0}},
              {"node_name":"n2","dsn":"host=h","peer_dsn":"service=n2"}]}"#,
        )
        .unwrap();
        let node = &config.nodes[0];
        assert_eq!(node.connect_timeout_s, 3);
        assert_eq!(node.peer_dsn(), "host=h port=6 sslmode=disable keepalives=0 user=u password='s 3'");
        assert!(!format!("{config:?}").contains("s 3"));
        assert_eq!(config.nodes[1].peer_dsn(), "service=n2");
        let text = r#"{"spock-nodes":[{"node_name":"n","dsn":"host=h","peer_dsn":"postgresql://a/d?sslrootcert=c"}]}"#;
        assert!(parse(text).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let cases = [
            (r#"{}"#, "c.json:1:1: the file: member \"spock-nodes\" is missing"),
            (r#"{"spock-nodes": 1}"#, "c.json:1:17: spock-nodes: must be an array"),
            (r#"{"spock-nodes": [{}]}"#, "c.json:1:18: spock-nodes[0]: member \"node_name\" is missing"),
            (
                r#"{"spock-nodes": [{"node_name":"a"}]}"#,
                "spock-nodes[0]: has none of the members postgres, dsn and service",
            ),
            (r#"{"spock-nodes": [{"node_name":"a","dsn":"host"}]}"#, "spock-nodes[0].dsn: is no connection string"),
            (r#"{"spock-nodes": [{"node_name":"a","dsn":"sslmode=verify-full"}]}"#, "sslmode \"verify-full\""),
            (
                r#"{"spock-nodes": [{"node_name":"a","dsn":"host=h"}, {"node_name":"a","dsn":"host=h"}]}"#,
                "spock-nodes[1].node_name: there are two nodes of this name",
            ),
            (r#"{"spock-nodes": [{"node_name":"a","dsn":"port=65536"}]}"#, "port \"65536\" is none"),
            (r#"{"spock-nodes": [{"node_name":"a","postgres":{"postgres_port":70000}}]}"#, "port \"70000\" is none"),
            (r#"{"spock-nodes": [{"node_name":"a","dsn":"hostaddr=h"}]}"#, "hostaddr \"h\" is no address"),
            (r#"{"spock-nodes": [{"node_name":"a","dsn":"host=a,b"}]}"#, "several hosts"),
            (r#"{"spock-nodes": [{"node_name":"a","dsn":"postgresql://a,b/d"}]}"#, "several hosts"),
            (
                r#"{"spock-nodes": [{"node_name":"a","dsn":"host=h","peer_dsn":"h"}]}"#,
                "spock-nodes[0].peer_dsn: is no connection",
            ),
            (r#"{"global":{"log":{"log_level":"loud"}},"spock-nodes":[]}"#, "global.log.log_level: must be 0 to 3"),
        ];
        for (text, want) in cases {
            let failure = parse(text).err().unwrap();
            assert!(failure.message.contains(want), "{text}: {}", failure.message);
            assert_eq!(failure.exit, crate::exit::Exit::Config);
        }
        let config = parse(r#"{"spock-nodes": [{"node_name":"a","dsn":"host=h","colour":1}]}"#).unwrap();
        assert_eq!(config.warnings, ["c.json:1:59: spock-nodes[0].colour: unknown member, ignored"]);
    }
}
