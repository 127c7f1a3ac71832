//! SQL text for logs, errors and views: what follows the word `password` is left out, because it can be one.
//!
//! # Invariants
//! 1. Nothing behind the first `password`, in whatever case, gets through; a harmless rest is lost with it.

/// The word that secrets stand behind.
const WORD: &[u8] = b"password";

/// The text without what follows `password`.
pub fn without_passwords(sql: &str) -> String {
    match sql.as_bytes().windows(WORD.len()).position(|window| window.eq_ignore_ascii_case(WORD)) {
        Some(at) => format!("{} (left out)", &sql[..at + WORD.len()]),
        None => sql.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
