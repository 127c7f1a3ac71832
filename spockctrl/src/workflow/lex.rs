//! Where in a text of SQL a reference stands, so that its value cannot become more than a value.

use crate::exit::{Failure, Result};
use crate::value::literal;

/// What a reference stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Between tokens.
    Plain,
    /// `'...'`.
    Quoted,
    /// `E'...'` or `U&'...'`, where a backslash escapes.
    Escaped,
    /// `"..."`.
    Name,
    /// `-- ...`.
    LineComment,
    /// `/* ... */`, so deep.
    Comment(usize),
}

/// Reads a text of SQL piece by piece.
#[derive(Debug)]
pub struct Lexer {
    within: Within,
    /// The tag that ends a dollar-quoted body, which is read as SQL itself.
    tag: Option<String>,
    /// The last characters read: they tell what a quote begins.
    before: String,
}

impl Default for Lexer {
    fn default() -> Self {
        Self { within: Within::Plain, tag: None, before: String::new() }
    }
}

impl Lexer {
    /// Reads on.
    pub fn read(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let length = self.token(rest, c);
            self.before.push_str(&rest[..length]);
            let keep = self.before.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
            self.before.drain(..keep);
            rest = &rest[length..];
        }
    }

    /// Takes the token or character at the beginning; gives its length.
    fn token(&mut self, rest: &str, c: char) -> usize {
        if let Some(tag) = self.tag.as_ref().filter(|tag| rest.starts_with(tag.as_str())) {
            let length = tag.len();
            (self.tag, self.within) = (None, Within::Plain);
            return length;
        }
        let next = rest[c.len_utf8()..].chars().next();
        match (self.within, c, next) {
            (Within::Plain, '\'', _) => self.within = if self.escapes() { Within::Escaped } else { Within::Quoted },
            (Within::Plain, '"', _) => self.within = Within::Name,
            (Within::Plain, '-', Some('-')) => self.within = Within::LineComment,
            (Within::Plain, '/', Some('*')) => {
                self.within = Within::Comment(1);
                return 2;
            }
            (Within::Plain, '$', _) if self.tag.is_none() && !self.before.ends_with(is_word) => {
                if let Some(tag) = tag(rest) {
                    self.tag = Some(tag.to_owned());
                    return tag.len();
                }
            }
            (Within::Quoted | Within::Escaped, '\'', Some('\'')) | (Within::Name, '"', Some('"')) => return 2,
            (Within::Escaped, '\\', Some(escaped)) => return 1 + escaped.len_utf8(),
            (Within::Quoted | Within::Escaped, '\'', _) | (Within::Name, '"', _) | (Within::LineComment, '\n', _) => {
                self.within = Within::Plain;
            }
            (Within::Comment(depth), '/', Some('*')) => {
                self.within = Within::Comment(depth + 1);
                return 2;
            }
            (Within::Comment(depth), '*', Some('/')) => {
                self.within = if depth == 1 { Within::Plain } else { Within::Comment(depth - 1) };
                return 2;
            }
            _ => {}
        }
        c.len_utf8()
    }

    /// Does a quote here begin a constant with escapes?
    fn escapes(&self) -> bool {
        let lower = self.before.to_ascii_lowercase();
        let prefix = ["e", "u&"].into_iter().find_map(|prefix| lower.strip_suffix(prefix));
        prefix.is_some_and(|before| !before.ends_with(is_word))
    }

    /// The value as it can stand here; none is NULL. `label` is what messages call it.
    pub fn value(&self, value: Option<&str>, label: &str) -> Result<String> {
        let text = value.unwrap_or_default();
        let refused = |what: &str| {
            let hint = "let the reference stand for a whole value, without quotes around it";
            Err(Failure::config(format!("{label}: its value has {what} in it, which cannot stand there"), hint))
        };
        if self.tag.is_some() && text.contains('$') {
            return refused("a dollar sign");
        }
        match self.within {
            Within::Plain => Ok(value.map_or_else(|| "NULL".to_owned(), literal)),
            Within::Escaped => Ok(text.replace('\\', r"\\").replace('\'', "''")),
            // Whether it escapes is for standard_conforming_strings to say.
            Within::Quoted if text.contains('\\') => refused("a backslash"),
            Within::Quoted => Ok(text.replace('\'', "''")),
            Within::Name => Ok(text.replace('"', "\"\"")),
            Within::LineComment | Within::Comment(_) => Ok(String::new()),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

/// `$$` or `$word$` at the beginning.
fn tag(text: &str) -> Option<&str> {
    let word = text[1..].find('$')?;
    let name = &text[1..=word];
    let valid = !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c != '$' && is_word(c));
    valid.then(|| &text[..word + 2])
}

/// Functions that change nothing that could be undone.
const READERS: [&str; 24] = [
    "avg",
    "coalesce",
    "count",
    "current_database",
    "current_setting",
    "format",
    "json_agg",
    "json_build_object",
    "length",
    "max",
    "min",
    "node_info",
    "now",
    "pg_current_wal_flush_lsn",
    "pg_current_wal_lsn",
    "pg_get_expr",
    "replace",
    "string_agg",
    "sub_show_status",
    "sub_show_table",
    "sum",
    "sync_event",
    "to_regclass",
    "wait_for_sync_event",
];
/// Words that can stand in front of a parenthesis without being a function.
const SYNTAX: [&str; 18] = [
    "all", "and", "any", "as", "by", "case", "else", "exists", "from", "in", "not", "on", "or", "over", "select",
    "then", "using", "where",
];

/// Does the text change nothing, as far as one can tell without a server? Whatever it does not know may change something.
pub fn only_reads(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    let text = lower.trim().trim_end_matches(';');
    let begins =
        ["select ", "call spock.wait_for_sync_event", "show ", "values "].iter().any(|word| text.starts_with(word));
    let words = || text.split(|c: char| !is_word(c));
    let changes = text.contains([';', '"'])
        || text.contains("/*")
        || text.contains("--")
        || words().any(|word| matches!(word, "into" | "insert" | "update" | "delete" | "merge" | "for"));
    let calls = text.match_indices('(').map(|(at, _)| text[..at].trim_end());
    let mut names = calls.map(|before| before.rsplit(|c: char| !is_word(c)).next().unwrap_or_default());
    begins && !changes && names.all(|name| name.is_empty() || READERS.contains(&name) || SYNTAX.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_reads() {
        for (sql, want) in [
            ("SELECT spock.sync_event();", true),
            ("CALL spock.wait_for_sync_event(true, 'n1', '0/1'::pg_lsn, 60);", true),
            ("select count(*) from t where id in (1, 2)", true),
            ("select spock.sub_drop('s')", false),
            ("select spock . sub_drop ('s')", false),
            ("select spock.sub_drop/* */('s')", false),
            ("select \"count\"(1)", false),
            ("select 1; drop table t", false),
            ("select * into u from t", false),
            ("select 1 from t for update", false),
            ("insert into t values (1)", false),
            ("with x as (delete from t returning 1) select count(*) from x", false),
            ("vacuum", false),
            ("", false),
        ] {
            assert_eq!(only_reads(sql), want, "{sql}");
        }
    }
}
