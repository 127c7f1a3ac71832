//! Connection strings as keywords, and where passwords and services are found as libpq finds them.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::secret::Secret;

/// Keywords with their values, the last of a name counts.
pub type Keywords = Vec<(String, String)>;

/// What this program's client understands.
const KNOWN: [&str; 13] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "dbname",
    "password",
    "options",
    "application_name",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "sslmode",
    "passfile",
];

/// `key=value key='quoted value'`, or an address `postgresql://...`.
pub fn parse(dsn: &str) -> Result<Keywords, String> {
    if dsn.starts_with("postgresql://") || dsn.starts_with("postgres://") {
        return address(dsn);
    }
    let bad = || "is no connection string; write key=value pairs or postgresql://...".to_owned();
    let mut found = Keywords::new();
    let mut rest = dsn.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(bad)?;
        let key = key.trim();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(bad());
        }
        let (value, after) = value(after.trim_start()).ok_or_else(bad)?;
        found.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(found)
}

/// A value and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let quoted = text.strip_prefix('\'');
    let text = quoted.unwrap_or(text);
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.push(chars.next()?.1),
            '\'' if quoted.is_some() => return Some((value, &text[at + 1..])),
            c if quoted.is_none() && c.is_whitespace() => return Some((value, &text[at..])),
            c => value.push(c),
        }
    }
    if quoted.is_some() { None } else { Some((value, "")) }
}

fn address(dsn: &str) -> Result<Keywords, String> {
    use postgres::config::{Host, SslMode};
    let config: postgres::Config = dsn
        .parse()
        .map_err(|_| "is no address postgresql://user@host:port/dbname that this program understands".to_owned())?;
    let mut found = Keywords::new();
    let mut put = |key: &str, value: String| found.push((key.to_owned(), value));
    if config.get_hosts().len() > 1 {
        return Err("names several hosts, which is not supported here".to_owned());
    }
    if let Some(host) = config.get_hosts().first() {
        put(
            "host",
            match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            },
        );
    }
    if let Some(port) = config.get_ports().first() {
        put("port", port.to_string());
    }
    let texts = [("user", config.get_user()), ("dbname", config.get_dbname()), ("options", config.get_options())];
    for (key, text) in texts {
        if let Some(text) = text {
            put(key, text.to_owned());
        }
    }
    if let Some(password) = config.get_password() {
        put("password", String::from_utf8_lossy(password).into_owned());
    }
    match config.get_ssl_mode() {
        SslMode::Disable => put("sslmode", "disable".to_owned()),
        SslMode::Require => put("sslmode", "require".to_owned()),
        _ => {}
    }
    Ok(found)
}

/// Refuses what this program's client cannot do: what is wrong, and what would help.
pub fn check(keywords: &Keywords) -> Result<(), (String, &'static str)> {
    for (key, value) in keywords {
        if !KNOWN.contains(&key.as_str()) {
            return Err((
                format!("keyword \"{key}\" is not supported here"),
                "put what only servers need into peer_dsn",
            ));
        }
        let plain = ["disable", "allow", "prefer"].contains(&value.as_str());
        if key == "sslmode" && !plain {
            let hint = "this program speaks no TLS: use a socket, a tunnel or a trusted network, and sslmode disable or prefer";
            return Err((format!("sslmode \"{value}\" is not supported here"), hint));
        }
        if key == "host" && value.contains(',') {
            return Err((format!("host \"{value}\": several hosts are not supported here"), "name one"));
        }
        if key == "port" && !value.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err((format!("port \"{value}\" is none"), "it must be a number from 1 to 65535"));
        }
        if key == "hostaddr" && value.parse::<std::net::IpAddr>().is_err() {
            return Err((format!("hostaddr \"{value}\" is no address"), "put a name into host"));
        }
        let number = ["connect_timeout", "keepalives", "keepalives_idle"].contains(&key.as_str());
        if number && value.parse::<u32>().is_err() {
            return Err((format!("keyword \"{key}\" must be a number"), ""));
        }
    }
    Ok(())
}

/// Takes all values of a keyword out; gives the last one.
pub fn take(keywords: &mut Keywords, name: &str) -> Option<String> {
    let found = keywords.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    keywords.retain(|(key, _)| key != name);
    found
}

/// The keywords as a connection string; of several values of one keyword the last.
pub fn render(keywords: &Keywords) -> String {
    let last = |at: usize, key: &str| !keywords[at + 1..].iter().any(|(later, _)| later == key);
    let shown = keywords.iter().enumerate().filter(|(at, (key, _))| last(*at, key));
    let quote = |value: &str| {
        let plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || matches!(c, '\'' | '\\'));
        if plain { value.to_owned() } else { format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'")) }
    };
    shown.map(|(_, (key, value))| format!("{key}={}", quote(value))).collect::<Vec<_>>().join(" ")
}

/// The keywords of a service, from `PGSERVICEFILE`, `~/.pg_service.conf` or `PGSYSCONFDIR`.
pub fn service(name: &str) -> Result<Keywords, String> {
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".pg_service.conf"));
    let own = env::var_os("PGSERVICEFILE").map(PathBuf::from).or(home);
    let system = env::var_os("PGSYSCONFDIR").map(|dir| Path::new(&dir).join("pg_service.conf"));
    for path in [own, system].into_iter().flatten() {
        if let Some(found) = fs::read_to_string(path).ok().and_then(|text| section(&text, name)) {
            return Ok(found);
        }
    }
    Err(format!("service \"{name}\" is in no service file"))
}

fn section(text: &str, name: &str) -> Option<Keywords> {
    let heading = format!("[{name}]");
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != heading);
    lines.next()?;
    let own = lines.take_while(|line| !line.starts_with('['));
    let pairs = own.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    Some(pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect())
}

/// The password for a connection that brings none: `PGPASSWORD`, else the password file's first line that fits.
pub fn default_password(keywords: &Keywords) -> Option<Secret> {
    if let Ok(password) = env::var("PGPASSWORD") {
        return Some(Secret::new(password));
    }
    let value = |key: &str| keywords.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.clone());
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass"));
    let path = value("passfile").map(PathBuf::from);
    let path = path.or_else(|| env::var_os("PGPASSFILE").map(PathBuf::from)).or_else(home)?;
    // As libpq does: a password file that others can read is not used.
    if fs::metadata(&path).ok()?.permissions().mode() & 0o077 != 0 {
        return None;
    }
    let host = value("host").filter(|host| !host.starts_with('/')).unwrap_or_else(|| "localhost".to_owned());
    let user = value("user").unwrap_or_default();
    let database = value("dbname").unwrap_or_else(|| user.clone());
    let wanted = [host, value("port").unwrap_or_else(|| "5432".to_owned()), database, user];
    line_for(&fs::read_to_string(path).ok()?, &wanted).map(Secret::new)
}

fn line_for(text: &str, wanted: &[String; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = vec![String::new()];
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => fields.last_mut()?.extend(chars.next()),
                ':' if fields.len() < 5 => fields.push(String::new()),
                c => fields.last_mut()?.push(c),
            }
        }
        let fits = fields.len() == 5 && fields.iter().zip(wanted).all(|(has, want)| has == "*" || has == want);
        if fits { fields.pop() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_round_trip() {
        let cases = [
            ("host=h port=5", Some("host=h port=5")),
            (r"host = h password='a b\'c\\' x=", Some(r"host=h password='a b\'c\\' x=''")),
            ("host=a host=b", Some("host=b")),
            (
                "postgresql://u:p%20w@h:6/d?sslmode=disable",
                Some("host=h port=6 user=u dbname=d password='p w' sslmode=disable"),
            ),
            ("", Some("")),
            ("host", None),
            ("host='h", None),
            ("a b=c", None),
            ("postgres://h:x/d", None),
        ];
        for (dsn, want) in cases {
            assert_eq!(parse(dsn).ok().map(|found| render(&found)).as_deref(), want, "{dsn}");
        }
    }

    #[test]
    fn password_files_and_services() {
        let wanted = ["h", "5432", "d", "u"].map(str::to_owned);
        for (text, want) in [
            ("#c\nx:*:*:*:no\nh:5432:d:u:yes", Some("yes")),
            (r"*:*:*:*:a\:b", Some("a:b")),
            ("h:5432:d:u", None),
            ("", None),
        ] {
            assert_eq!(line_for(text, &wanted).as_deref(), want, "{text}");
        }
        let text = "[a]\nhost=x\n[b]\n# c\nhost = y\nport=1\n\n[c]\n";
        assert_eq!(section(text, "b").map(|found| render(&found)).as_deref(), Some("host=y port=1"));
        assert!(section(text, "z").is_none());
    }
}
