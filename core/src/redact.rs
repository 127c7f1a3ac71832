//! Text for logs, errors and views: what follows the word `password` is left out, because it can be one.
//!
//! # Invariants
//! 1. [`without_passwords`]: nothing behind the first `password`, in whatever case, gets through; a harmless rest is lost with
//!    it.
//! 2. [`secret_at`] finds only what has a value behind it, so that texts which merely speak of passwords stay whole.

/// The word that secrets stand behind.
const WORD: &[u8] = b"password";
/// Words of connection strings and statements whose value is a secret; `sslpassword` ends like the first.
const WORDS: [&[u8]; 4] = [WORD, b"client_secret", b"scram_client_key", b"scram_server_key"];
/// A password can stand between these and an `@`.
const SCHEMES: [&[u8]; 2] = [b"postgresql://", b"postgres://"];

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window.eq_ignore_ascii_case(word))
}

/// The SQL text without what follows `password`.
pub fn without_passwords(sql: &str) -> String {
    match find(sql.as_bytes(), WORD) {
        Some(at) => format!("{} (left out)", &sql[..at + WORD.len()]),
        None => sql.to_owned(),
    }
}

/// Where the first secret of a connection string or a statement begins, in bytes: behind `password` and the like, if `=` or a
/// quoted value follows, or behind the scheme of an address that has a password. What is in front of it may be shown.
pub fn secret_at(text: &[u8]) -> Option<usize> {
    let words = WORDS.iter().filter_map(|word| assigned(text, word));
    let addresses = SCHEMES.iter().filter_map(|scheme| address_with_password(text, scheme));
    words.chain(addresses).min()
}

/// The end of the first `word` that a value follows.
fn assigned(text: &[u8], word: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = find(text.get(from..)?, word) {
        let end = from + at + word.len();
        let next = text[end..].iter().find(|byte| !byte.is_ascii_whitespace());
        if matches!(next, Some(b'=' | b'\'')) {
            return Some(end);
        }
        from = end;
    }
    None
}

/// The end of the first `scheme` behind which `user:password@` stands.
fn address_with_password(text: &[u8], scheme: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = find(text.get(from..)?, scheme) {
        let end = from + at + scheme.len();
        let address = &text[end..][..address_end(&text[end..])];
        let credentials = address.iter().position(|byte| *byte == b'@').map(|to| &address[..to]);
        if credentials.is_some_and(|credentials| credentials.contains(&b':')) {
            return Some(end);
        }
        from = end;
    }
    None
}

/// Where an address that stands in a text ends, in bytes: at the quote that closes it. Its password can have white space and
/// quotes in it that should have been encoded, so neither ends it where more of a word follows a quote.
pub fn address_end(text: &[u8]) -> usize {
    let closes = |next: Option<&u8>| {
        next.is_none_or(|byte| byte.is_ascii_whitespace() || matches!(byte, b')' | b',' | b';' | b':' | b']' | b'}'))
    };
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\'' | b'"' if text.get(at + 1) == Some(byte) && !closes(text.get(at + 2)) => at += 1,
            b'\'' | b'"' if text.get(at + 1) == Some(byte) || closes(text.get(at + 1)) => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts() {
        let cases = [
            ("create table t (id int)", "create table t (id int)"),
            ("create role r PassWord 'x' login", "create role r PassWord (left out)"),
            (
                "é create subscription s connection 'password=x'",
                "é create subscription s connection 'password (left out)",
            ),
            ("password", "password (left out)"),
            ("", ""),
        ];
        for (sql, want) in cases {
            assert_eq!(without_passwords(sql), want);
        }
    }

    #[test]
    fn secrets() {
        // What stands in front of the bar may be shown; no bar: all of it.
        let cases = [
            "select 1",
            "password authentication failed for user \"u\"",
            "the password was wrong; user has no password",
            "select spock.node_create('n', 'host=h password|=x dbname=d')",
            "select spock.node_create('n', 'host=h PassWord| = ''x y''')",
            "no password given, host=h sslpassword|=x",
            "alter role r password| 'x'",
            "alter role r encrypted password|\n 'x'",
            "alter role r password null",
            "select spock.sub_create('s', 'postgresql://|u:x@h/d')",
            "select spock.sub_create('s', 'POSTGRES://|u:x@h/d')",
            "select spock.sub_create('s', 'postgresql://u@h:5432/d')",
            "select spock.sub_create('s', 'postgresql://h:5432/d'), 'a@b'",
            "postgresql://|u:p w/RIGHT@h/db",
            "postgresql://|u:p'w@h/db",
            "select spock.sub_create('s', 'postgresql://|u:p''w@h/db')",
            "'postgresql://h:5432/d', 'a@b'",
            "select f(''postgresql://h:5432/d'', 'a@b')",
            "{\"dsn\":\"postgresql://h:5432/d\",\"who\":\"a@b\"}",
            "postgres://h/d?password|=x",
            "oauth_client_secret|=x scram_client_key=y",
            "scram_server_key|=x",
            "password",
            "",
        ];
        for case in cases {
            let text = case.replace('|', "");
            assert_eq!(secret_at(text.as_bytes()), case.find('|'), "{case}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer_inside_them(text: Vec<u8>) {
            prop_assert!(secret_at(&text).is_none_or(|at| at <= text.len()));
        }

        #[test]
        fn what_is_shown_of_a_connection_string_has_no_password(
            before in "[a-z ]{0,12}", secret in "[0-9]{6,12}", after in "[a-z= ]{0,12}"
        ) {
            for text in [format!("{before} password={secret} {after}"), format!("{before} postgres://u:{secret}@h {after}")] {
                let shown = secret_at(text.as_bytes()).map(|at| &text[..at]);
                prop_assert!(shown.is_some_and(|shown| !shown.contains(&secret)), "{text}");
            }
        }
    }
}
