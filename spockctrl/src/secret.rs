//! Secrets: a type that does not print, and texts with their secrets left out.
//!
//! **Invariant.** Whatever this program writes for people or programs (stdout, stderr, journal, log file) and did not come from
//! the user's own query has gone through [`mask`].

use std::fmt;

use spock_core::redact::secret_at;

/// What stands in the place of a secret.
const MASK: &str = "****";

/// A password. Its text leaves through [`Secret::expose`] only.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for a connection.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// The text with the values of passwords replaced; what follows a value stays.
pub fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = secret_at(rest.as_bytes()) {
        let (before, secret) = rest.split_at(at);
        out.push_str(before);
        let address = before.ends_with("//");
        let end = if address { end_of_credentials(secret) } else { end_of_value(secret) };
        if !address && secret.trim_start().starts_with('=') {
            out.push('=');
        }
        out.push_str(MASK);
        rest = &secret[end..];
    }
    out.push_str(rest);
    out
}

/// Length of `user:password`, up to the last `@` before the address ends.
fn end_of_credentials(text: &str) -> usize {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"')).unwrap_or(text.len());
    text[..end].rfind('@').unwrap_or(end)
}

/// Length of `= value`, where a value is quoted (with `'` doubled or escaped inside) or ends with white space, a quote or an
/// ampersand.
fn end_of_value(text: &str) -> usize {
    let start = text.len() - text.trim_start_matches(|c: char| c.is_whitespace() || c == '=').len();
    let value = &text[start..];
    let quotes = value.len() - value.trim_start_matches('\'').len();
    if quotes == 0 {
        return start + value.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '&')).unwrap_or(value.len());
    }
    let mut escaped = false;
    let mut chars = value.char_indices().skip(quotes).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            // As many quotes as there were in front end it: a conninfo inside an SQL literal has them doubled.
            '\'' if value[at..].bytes().take_while(|byte| *byte == b'\'').count() % 2 == quotes % 2 || quotes > 1 => {
                let run = value[at..].bytes().take_while(|byte| *byte == b'\'').count();
                return start + at + run.min(quotes);
            }
            '\'' => {
                chars.next();
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_left_and_the_rest_stays() {
        let cases = [
            ("host=h password=s3cret dbname=d", "host=h password=**** dbname=d"),
            ("host=h password='s3 cret' dbname=d", "host=h password=**** dbname=d"),
            ("host=h password='s3''cret' dbname=d", "host=h password=**** dbname=d"),
            (r"host=h password='s3\'cret' dbname=d", "host=h password=**** dbname=d"),
            ("postgresql://u:s3cret@h:5432/d", "postgresql://****@h:5432/d"),
            ("postgresql://u:s3@cret@h/d x", "postgresql://****@h/d x"),
            (
                "select node_create('n', 'host=h password=''s3 cret'' x=y')",
                "select node_create('n', 'host=h password=**** x=y')",
            ),
            ("postgres://h/d?password=s3cret&sslmode=disable", "postgres://h/d?password=****&sslmode=disable"),
            ("a password=s3cret b password = s3cret", "a password=**** b password=****"),
            ("alter role r password 's3cret'", "alter role r password****"),
            ("password authentication failed", "password authentication failed"),
            ("password=", "password=****"),
            ("password='s3cret", "password=****"),
            ("", ""),
        ];
        for (text, want) in cases {
            assert_eq!(mask(text), want, "{text}");
            assert!(!mask(text).contains("s3") && !mask(text).contains("cret"), "{text}");
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Some(Secret::new("s3cret"))), "Some(****)");
    }
}
