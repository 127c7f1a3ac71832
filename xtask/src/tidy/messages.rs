//! Messages that the manual quotes are messages that the code has.
//!
//! A block `text` with lines such as `ERROR:  ...` is not run. So each of these lines must fit a string literal of the product: the
//! pieces of the literal between its placeholders stand in the line, in order, from its beginning to its end.

use super::Finding;
use super::source::Source;

/// Where messages come from.
const CODE: [&str; 2] = ["extension/src/", "core/src/"];
/// What begins a quoted message.
const SEVERITIES: [&str; 7] = ["ERROR:  ", "FATAL:  ", "WARNING:  ", "LOG:  ", "DETAIL:  ", "HINT:  ", "CONTEXT:  "];
/// A literal with fewer characters of its own fits too much to prove anything.
const OWN_CHARACTERS_MIN: usize = 12;

/// A literal, cut at its placeholders.
type Pieces = Vec<String>;

/// Quoted messages that no literal fits.
pub fn quoted(texts: &[(String, String)]) -> Vec<Finding> {
    let is_code = |path: &str| path.ends_with(".rs") && CODE.iter().any(|dir| path.starts_with(dir));
    let literals: Vec<Pieces> = texts
        .iter()
        .filter(|(path, _)| is_code(path))
        .filter_map(|(path, text)| Some((path, text.split("#[cfg(test)]").next()?)))
        .flat_map(|(path, text)| Source::read(path, text).strings())
        .map(|literal| pieces(&literal))
        .filter(|pieces| pieces.iter().map(String::len).sum::<usize>() >= OWN_CHARACTERS_MIN)
        .collect();
    let is_manual = |path: &str| path.ends_with(".md") && (path.starts_with("manual/") || path.starts_with("docs/"));
    let mut found = Vec::new();
    for (path, text) in texts.iter().filter(|(path, _)| is_manual(path)) {
        for (line, message) in messages(text) {
            if !literals.iter().any(|pieces| fits(pieces, message)) {
                let rule = format!("no string of the code can say {message:?}: quote what it says now");
                found.push(Finding { path: path.clone(), line, rule });
            }
        }
    }
    found
}

/// Messages in blocks that are not run, with their lines from 1.
fn messages(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (i, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(info) => inside = !inside && info == "text",
            None if inside => {
                let message = SEVERITIES.iter().find_map(|severity| line.trim_start().strip_prefix(severity));
                found.extend(message.map(|message| (i + 1, message)));
            }
            None => {}
        }
    }
    found
}

/// `a {x} b` is `a ` and ` b`; `{{` is a brace.
fn pieces(literal: &str) -> Pieces {
    let (mut pieces, mut piece) = (Vec::new(), String::new());
    let mut chars = literal.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' | '}' if chars.peek() == Some(&c) => {
                chars.next();
                piece.push(c);
            }
            '{' => {
                chars.by_ref().find(|c| *c == '}');
                pieces.push(std::mem::take(&mut piece));
            }
            _ => piece.push(c),
        }
    }
    pieces.push(piece);
    pieces
}

fn fits(pieces: &[String], message: &str) -> bool {
    let Some((first, rest)) = pieces.split_first() else { return false };
    let Some(mut left) = message.strip_prefix(first.as_str()) else { return false };
    let Some((last, middle)) = rest.split_last() else { return left.is_empty() };
    for piece in middle {
        let Some(at) = left.find(piece.as_str()) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_the_code_does_not_have_is_found() {
        let code = "fn f() { format!(\"node \\\"{name}\\\" has {} \\\n         rows too many\"); \"{}: {x}\" }";
        let said = |line: &str| {
            let texts = [
                ("extension/src/a.rs".to_owned(), code.to_owned()),
                ("manual/src/t.md".to_owned(), format!("text\n```text\n{line}\n```\n")),
            ];
            quoted(&texts).into_iter().map(|finding| finding.line).collect::<Vec<_>>()
        };
        assert_eq!(said("ERROR:  node \"n1\" has 3 rows too many"), [0; 0]);
        assert_eq!(said("ERROR:  node \"n1\" has 3 rows too few"), [3]);
        assert_eq!(said("ERROR:  the node \"n1\" has 3 rows too many"), [3]);
        assert_eq!(said("DETAIL:  this: that"), [3], "a literal that is all placeholders proves nothing");
        assert_eq!(said("some other line"), [0; 0]);
    }
}
