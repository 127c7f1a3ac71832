//! Secrets: a type that does not print, and texts with their secrets left out.
//!
//! **Invariant.** Whatever this program writes for people or programs (stdout, stderr, journal, log file) and did not come from
//! the user's own query has gone through [`mask`].

use std::fmt;
use std::sync::{Mutex, PoisonError};

use spock_core::redact::{address_end, secret_at};

/// What stands in the place of a secret.
const MASK: &str = "****";

/// A password. Its text leaves through [`Secret::expose`] only.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret, which is known from here on.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        register(&text);
        Self(text)
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

/// Secrets of this run as they can be written, the longest first.
static KNOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// A secret with fewer bytes is left out where the text says what it is, not wherever its letters are.
const KNOWN_MIN: usize = 4;

/// From here on this text is left out of all that is written.
pub fn register(secret: &str) {
    if secret.len() < KNOWN_MIN {
        return;
    }
    let escaped = secret.replace('\\', r"\\").replace('\'', r"\'");
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    for form in [secret, &escaped] {
        for form in [form.to_owned(), form.replace('\'', "''"), form.replace('\\', r"\\").replace('\'', "''")] {
            if !known.contains(&form) {
                known.push(form);
            }
        }
    }
    known.sort_by_key(|form| std::cmp::Reverse(form.len()));
}

/// The text with the values of passwords, and all secrets that are known, replaced; what follows a value stays.
pub fn mask(text: &str) -> String {
    let mut text = text.to_owned();
    for secret in KNOWN.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), MASK);
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = secret_at(rest.as_bytes()) {
        let (before, secret) = rest.split_at(at);
        out.push_str(before);
        let address = before.ends_with("//");
        let end = if address { end_of_credentials(secret) } else { end_of_value(secret, in_address(&out)) };
        if !address && secret.trim_start().starts_with('=') {
            out.push('=');
        }
        out.push_str(MASK);
        rest = &secret[end..];
    }
    out.push_str(rest);
    out
}

/// Does the text end with a parameter's name in an address?
fn in_address(text: &str) -> bool {
    let word = text.rsplit(char::is_whitespace).next().unwrap_or_default();
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    word.contains("://") && word.trim_end_matches(name).ends_with(['?', '&'])
}

/// Length of `user:password`, up to the last `@` before the address ends.
fn end_of_credentials(text: &str) -> usize {
    let end = address_end(text.as_bytes());
    text[..end].rfind('@').unwrap_or(end)
}

/// Length of `= value`, where a value is quoted (with `'` doubled or escaped inside) or ends with white space that no backslash
/// stands before; in an address also with an ampersand.
fn end_of_value(text: &str, in_address: bool) -> usize {
    let start = text.len() - text.trim_start_matches(|c: char| c.is_whitespace() || c == '=').len();
    let value = &text[start..];
    let quotes = value.len() - value.trim_start_matches('\'').len();
    let mut escaped = false;
    if quotes == 0 || in_address {
        let ends = |c: char| {
            let ends = !escaped && (c.is_whitespace() || (in_address && c == '&'));
            escaped = !escaped && c == '\\';
            ends
        };
        return start + value.find(ends).unwrap_or(value.len());
    }
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
            ("host=h password=s3\"cr'e&t dbname=d", "host=h password=**** dbname=d"),
            (r"host=h password=s3\ cret dbname=d", "host=h password=**** dbname=d"),
            ("postgresql://u:s3 w/cret@h/db", "postgresql://****@h/db"),
            ("select f('postgresql://u:s3''cret@h/db', 1)", "select f('postgresql://****@h/db', 1)"),
            ("'postgres://h/d?password=s3\"cret&x=y'", "'postgres://h/d?password=****&x=y'"),
            ("postgres://h/d,password=s3&cret x", "postgres://h/d,password=**** x"),
            ("", ""),
        ];
        for (text, want) in cases {
            assert_eq!(mask(text), want, "{text}");
            assert!(!mask(text).contains("s3") && !mask(text).contains("cret"), "{text}");
        }
    }

    #[test]
    fn known_secrets_are_left_out_wherever_they_are() {
        let secret = Secret::new(r"kn0wn'to\me");
        let escaped = r"kn0wn\'to\\me";
        for text in [secret.expose(), escaped, &crate::value::literal(secret.expose()), &crate::value::literal(escaped)]
        {
            let masked = mask(&format!("relation {text} is not there"));
            assert!(masked.contains(MASK) && !masked.contains("kn0wn") && !masked.contains("me"), "{text}: {masked}");
        }
        // Too short to be looked for.
        register("is");
        assert_eq!(mask("this is it"), "this is it");
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Some(Secret::new("s3cret"))), "Some(****)");
    }
}
