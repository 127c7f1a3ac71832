//! Connection strings. They may hold passwords, so the type refuses to print itself whole.
//!
//! # Invariants
//! 1. `Debug`, `Display` and [`Dsn::redacted`] never show anything but host, port, database and user.
//! 2. Both forms of libpq are understood: `keyword=value` pairs and `postgresql://` addresses. A string that is neither
//!    shows nothing.

use core::fmt;

/// What libpq is given to reach a node.
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn(String);

/// A connection string that libpq would not understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DsnError {
    /// Nothing in it.
    Empty,
    /// A keyword without `=`, an unfinished quote, or a broken address.
    Syntax,
}

impl fmt::Display for DsnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::Syntax => "it is neither a list of keyword=value pairs nor a postgresql:// address",
        })
    }
}

/// Keywords that may be shown to people.
const SHOWN: [&str; 5] = ["host", "hostaddr", "port", "dbname", "user"];

impl Dsn {
    /// Takes a string as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole string, passwords included. For libpq and for storing only.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks the form, without connecting.
    pub fn check(&self) -> Result<(), DsnError> {
        if self.0.trim().is_empty() {
            return Err(DsnError::Empty);
        }
        self.pairs().map(|_| ()).ok_or(DsnError::Syntax)
    }

    /// What may be shown: host, port, database and user as `keyword=value` pairs.
    pub fn redacted(&self) -> String {
        let Some(pairs) = self.pairs() else {
            return "(not shown)".to_owned();
        };
        // A value that is a connection string itself could hold a password.
        let plain = |value: &str| !value.is_empty() && !value.contains('=') && !value.contains("://");
        let shown = pairs.iter().filter(|(keyword, value)| SHOWN.contains(&keyword.as_str()) && plain(value));
        let shown = shown.map(|(keyword, value)| format!("{keyword}={}", quoted(value)));
        shown.collect::<Vec<_>>().join(" ")
    }

    /// The string itself when nothing in it is secret, else what may be shown of it.
    pub fn shown(&self) -> String {
        /// Keywords that hold, or lead to, a secret.
        const SECRET: [&str; 8] = [
            "scram_client_key",
            "scram_server_key",
            "password",
            "passfile",
            "sslpassword",
            "sslkey",
            "oauth_client_secret",
            "service",
        ];
        let harmless =
            self.pairs().is_some_and(|pairs| pairs.iter().all(|(keyword, _)| !SECRET.contains(&keyword.as_str())));
        if harmless { self.0.clone() } else { self.redacted() }
    }

    /// The same for ordinary sessions: a replication mode is left out, and `database` is used when none is named. `None`: it is
    /// not a connection string.
    pub fn for_queries(&self, database: &str) -> Option<Self> {
        let mut pairs = self.pairs()?;
        pairs.retain(|(keyword, _)| keyword != "replication");
        if !pairs.iter().any(|(keyword, value)| keyword == "dbname" && !value.is_empty()) {
            pairs.push(("dbname".to_owned(), database.to_owned()));
        }
        let text = |(keyword, value): &(String, String)| format!("{keyword}={}", quoted(value));
        Some(Self(pairs.iter().map(text).collect::<Vec<_>>().join(" ")))
    }

    fn pairs(&self) -> Option<Vec<(String, String)>> {
        let text = self.0.trim();
        if let Some(rest) = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
            return uri_pairs(rest);
        }
        if !text.contains('=') {
            // libpq takes a bare word as the database's name.
            return (!text.contains(char::is_whitespace)).then(|| vec![("dbname".to_owned(), text.to_owned())]);
        }
        keyword_pairs(text)
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({})", self.redacted())
    }
}

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

fn quoted(value: &str) -> String {
    if value.is_empty() || value.chars().any(|c| c.is_whitespace() || c == '\'' || c == '\\') {
        format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
    } else {
        value.to_owned()
    }
}

/// `keyword = 'va\'lue' other=value`, as libpq reads it.
fn keyword_pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Some(pairs);
        }
        let mut keyword = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            keyword.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        chars.next_if_eq(&'=')?;
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut value = String::new();
        if chars.next_if_eq(&'\'').is_some() {
            loop {
                match chars.next()? {
                    '\'' => break,
                    '\\' => value.push(chars.next()?),
                    c => value.push(c),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                value.push(if c == '\\' { chars.next()? } else { c });
            }
        }
        if keyword.is_empty() {
            return None;
        }
        pairs.push((keyword, value));
    }
}

/// `user:password@host:port,host:port/database?keyword=value&…`, the part behind `://`.
fn uri_pairs(rest: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    // As libpq: credentials end at the first `@`, if that comes before the first `/`.
    let (userinfo, rest) = match rest.find(['@', '/']) {
        Some(end) if rest[end..].starts_with('@') => (&rest[..end], &rest[end + 1..]),
        _ => ("", rest),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let mut push = |keyword: &str, value: String| {
        if !value.is_empty() {
            pairs.push((keyword.to_owned(), value));
        }
    };
    push("user", decoded(user)?);
    push("password", decoded(password)?);
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(v6) => {
                let (name, tail) = v6.split_once(']')?;
                (name.to_owned(), tail.strip_prefix(':').unwrap_or(""))
            }
            None => {
                let (name, port) = host.split_once(':').unwrap_or((host, ""));
                (decoded(name)?, port)
            }
        };
        // A stray `@` or a port that is no number is a password that was not percent-encoded.
        if name.contains('@') || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        names.push(name);
        ports.push(port);
    }
    push("host", names.join(","));
    if ports.iter().any(|port| !port.is_empty()) {
        push("port", ports.join(","));
    }
    push("dbname", decoded(database)?);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (keyword, value) = parameter.split_once('=')?;
        push(&decoded(keyword)?, decoded(value)?);
    }
    Some(pairs)
}

/// Percent-decoding.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
