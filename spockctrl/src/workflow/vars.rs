//! References in steps: `$node.column`, `$step[0].column`, `${node.dsn}`, `${env:NAME}`, `${file:PATH}`. (`@node` is for commands to replace.)

use std::collections::BTreeMap;

use serde_json::Value;

use super::lex::Lexer;
use crate::config::Config;
use crate::connect::Rows;
use crate::exit::{Failure, Result};
use crate::output::text_of;
use crate::secret::register;

/// Results of steps, by the names of nodes and of steps.
pub type Results = BTreeMap<String, Rows>;

/// What a reference becomes part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// A text of statements: a quoted constant, or a part of the constant or name that it stands in.
    Sql,
    /// A value, as it is.
    Value,
}

/// A reference and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Bytes of the text that are replaced.
    pub range: std::ops::Range<usize>,
    /// To what.
    pub to: To,
}

/// What a reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// A cell of a result: node or step, row, column.
    Cell(String, usize, String),
    /// The connection string of a node.
    Dsn(String),
    /// An environment variable.
    Env(String),
    /// A file's first line.
    File(String),
}

/// The references in a text, in order.
pub fn references(text: &str) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find('$').map(|at| from + at) {
        let rest = &text[at + 1..];
        match braced(rest).or_else(|| cell(rest)) {
            Some((to, length)) => {
                from = at + 1 + length;
                found.push(Reference { range: at..from, to });
            }
            None => from = at + 1,
        }
    }
    found
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn braced(rest: &str) -> Option<(To, usize)> {
    let inner = rest.strip_prefix('{')?.split_once('}')?.0;
    let to = if let Some(name) = inner.strip_prefix("env:") {
        To::Env(name.to_owned())
    } else if let Some(path) = inner.strip_prefix("file:") {
        To::File(path.to_owned())
    } else {
        To::Dsn(inner.strip_suffix(".dsn")?.to_owned())
    };
    Some((to, inner.len() + 2))
}

/// `name.column` or `name[row].column`; a name that begins with a digit is a parameter of SQL.
fn cell(rest: &str) -> Option<(To, usize)> {
    let word = |text: &str| text.find(|c| !is_word(c)).unwrap_or(text.len());
    let name = &rest[..word(rest)];
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return None;
    }
    let mut after = &rest[name.len()..];
    let mut row = 0;
    if let Some(indexed) = after.strip_prefix('[') {
        let (index, behind) = indexed.split_once(']')?;
        row = index.parse().ok()?;
        after = behind;
    }
    let column = after.strip_prefix('.')?;
    let mut length = word(column);
    // A column without a name is called `?column?`.
    if column.starts_with("?column?") {
        length = "?column?".len();
    }
    let column = &column[..length];
    if column.is_empty() {
        return None;
    }
    Some((To::Cell(name.to_owned(), row, column.to_owned()), rest.len() - after.len() + 1 + length))
}

/// The text with its references replaced.
pub fn substitute(text: &str, into: Into, results: &Results, config: &Config) -> Result<String> {
    let mut out = String::new();
    let mut from = 0;
    let mut lexer = Lexer::default();
    for reference in references(text) {
        let value = resolve(&reference.to, results, config)?;
        let range = reference.range;
        out.push_str(&text[from..range.start]);
        lexer.read(&text[from..range.start]);
        match into {
            Into::Value => out.push_str(&value.unwrap_or_default()),
            Into::Sql => out.push_str(&lexer.value(value.as_deref(), &text[range.clone()])?),
        }
        from = range.end;
    }
    out.push_str(&text[from..]);
    Ok(out)
}

/// The value; none is NULL.
fn resolve(to: &To, results: &Results, config: &Config) -> Result<Option<String>> {
    let bad = |what: String, hint: &str| Failure::config(what, hint);
    match to {
        To::Dsn(node) => config.node(node).map(|node| Some(node.peer_dsn())),
        To::Env(name) => {
            let value = std::env::var(name).inspect(|value| register(value)).map(Some);
            value.map_err(|_| bad(format!("the environment has no variable {name}"), "set it, and resume or run again"))
        }
        To::File(path) => match std::fs::read_to_string(path) {
            Ok(text) => {
                let line = text.lines().next().unwrap_or_default();
                register(line);
                Ok(Some(line.to_owned()))
            }
            Err(error) => Err(bad(format!("could not read {path}: {error}"), "")),
        },
        To::Cell(name, row, column) => {
            let rows = results.get(name);
            let rows = rows.ok_or_else(|| bad(format!("${name}.{column}: no step gave a result for {name}"), ""))?;
            if rows.columns.iter().position(|name| name == column).is_some_and(|at| rows.hidden.contains(&(*row, at))) {
                let what =
                    format!("${name}[{row}].{column}: the journal does not keep it, because there is a secret in it");
                return Err(bad(what, "run again with --from and the number of the step that gives it"));
            }
            match rows.cell(*row, column) {
                Some(Value::Null) => Ok(None),
                Some(value) => Ok(Some(text_of(value))),
                None => {
                    let hint = format!("it has {} rows of: {}", rows.rows.len(), rows.columns.join(", "));
                    Err(bad(format!("${name}[{row}].{column}: the last result of {name} has no such value"), &hint))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn results() -> Results {
        let rows = Rows {
            columns: vec!["lsn".into(), "name".into(), "none".into(), "dollar".into()],
            rows: vec![
                vec![json!("0/1"), json!("it's"), Value::Null, json!("$$")],
                vec![json!("0/2"), json!(r"a\"), Value::Null, Value::Null],
            ],
            ..Rows::default()
        };
        BTreeMap::from([("n2".to_owned(), rows)])
    }

    fn config() -> Config {
        let text = r#"{"spock-nodes":[{"node_name":"n-3","dsn":"host=h password=s3cret"}]}"#;
        Config::parse(std::path::Path::new("c"), text).unwrap()
    }

    #[test]
    fn what_references_become() {
        let cases = [
            ("select $n2.lsn, '$n2.lsn'", Into::Sql, Ok("select '0/1', '0/1'")),
            ("'$n2.name' $n2.name", Into::Sql, Ok("'it''s' 'it''s'")),
            ("$n2[1].lsn $n2[1].name", Into::Sql, Ok(r"'0/2' E'a\\'")),
            (r"e'$n2[1].name', E'x\'$n2[1].name'", Into::Sql, Ok(r"e'a\\', E'x\'a\\'")),
            ("'x-$n2.name-y' \"$n2.name\" -- '$n2.name", Into::Sql, Ok("'x-it''s-y' \"it's\" -- '")),
            ("/* ' /* */ $n2.name */ $n2.lsn", Into::Sql, Ok("/* ' /* */  */ '0/1'")),
            (
                "do $a$ f('$n2.lsn', $n2.name) it's $a$; $n2.lsn",
                Into::Sql,
                Ok("do $a$ f('0/1', 'it''s') it's $a$; '0/1'"),
            ),
            ("'$n2[1].name'", Into::Sql, Err("$n2[1].name: its value has a backslash in it, which cannot stand there")),
            ("$$ $n2[1].none2 $$", Into::Sql, Err("$n2[1].none2: the last result of n2 has no such value")),
            (
                "$$ $n2.dollar $$",
                Into::Sql,
                Err("$n2.dollar: its value has a dollar sign in it, which cannot stand there"),
            ),
            ("f($n2.none, '$n2.none')", Into::Sql, Ok("f(NULL, '')")),
            ("a $1.x $$ $tag$ $ $n2", Into::Sql, Ok("a $1.x $$ $tag$ $ $n2")),
            ("--lsn=$n2.lsn", Into::Value, Ok("--lsn=0/1")),
            ("@n-3", Into::Value, Ok("@n-3")),
            ("'${n-3.dsn}'", Into::Sql, Ok("'host=h password=s3cret'")),
            ("user@host", Into::Value, Ok("user@host")),
            ("$n9.lsn", Into::Sql, Err("$n9.lsn: no step gave a result for n9")),
            ("$n2.other", Into::Sql, Err("$n2[0].other: the last result of n2 has no such value")),
            ("$n2[7].lsn", Into::Sql, Err("$n2[7].lsn: the last result of n2 has no such value")),
            ("${n9.dsn}", Into::Value, Err("node \"n9\" is not in c")),
            ("${env:SPOCKCTRL_NOT_SET}", Into::Value, Err("the environment has no variable SPOCKCTRL_NOT_SET")),
        ];
        for (text, into, want) in cases {
            let got = substitute(text, into, &results(), &config());
            assert_eq!(got.as_deref().map_err(|failure| failure.message.as_str()), want, "{text}");
        }
    }
}
