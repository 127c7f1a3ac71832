//! Values as they are typed: words, comma lists, array literals, and the constant SQL expressions that scripts for the C
//! edition's program have. They become values to bind; nothing typed becomes SQL.

/// `true`, `off`, `'t'`, `'1'::boolean` and the like.
pub fn boolean(text: &str) -> Result<bool, String> {
    match unquoted(text, &["boolean", "bool"]).to_ascii_lowercase().as_str() {
        "true" | "t" | "on" | "yes" | "y" | "1" => Ok(true),
        "false" | "f" | "off" | "no" | "n" | "0" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// `5s`, `'0'::interval`, `interval '1 min'`. The server reads the words inside.
pub fn interval(text: &str) -> Result<String, String> {
    let text = text.trim();
    let text = match text.get(..8) {
        Some(word) if word.eq_ignore_ascii_case("interval") => text[8..].trim_start(),
        _ => text,
    };
    let inner = unquoted(text, &["interval"]);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | ':' | '.' | '-' | '+');
    if inner.is_empty() || !inner.chars().all(plain) {
        return Err("must be an interval such as '10 s'".to_owned());
    }
    Ok(inner.to_owned())
}

/// A list of names, as an array literal of the server: from `a,b`, `{a,b}`, `ARRAY['a', 'b']`, `'{a}'::text[]`, `none`.
pub fn list(text: &str) -> Result<String, String> {
    let bad = || "must be a list such as a,b or {a,b} or ARRAY['a','b']".to_owned();
    let text = unquoted(text, &["text[]", "name[]", "text []"]);
    if text.is_empty() || text.eq_ignore_ascii_case("none") {
        return Ok("{}".to_owned());
    }
    let constructor = text.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("array"));
    let (inner, quote) = if constructor {
        let inner = uncast(text[5..].trim(), &["text[]", "name[]"]);
        (inner.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).ok_or_else(bad)?, '\'')
    } else if let Some(inner) = text.strip_prefix('{') {
        (inner.strip_suffix('}').ok_or_else(bad)?, '"')
    } else {
        (text, '"')
    };
    Ok(array_literal(&elements(inner, quote, constructor).ok_or_else(bad)?))
}

/// The elements between commas; inside `quote` a comma is a character. With `strict`, each must be quoted.
fn elements(text: &str, quote: char, strict: bool) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (element, after) = if let Some(quoted) = rest.strip_prefix(quote) {
            quoted_element(quoted, quote)?
        } else if strict {
            return None;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].trim().to_owned(), &rest[end..])
        };
        if element.is_empty() || (!strict && element.contains(['{', '}', '(', ')', '\'', ';'])) {
            return None;
        }
        found.push(element);
        let after = after.trim_start();
        if after.is_empty() {
            break;
        }
        rest = after.strip_prefix(',')?.trim_start();
        if rest.is_empty() {
            return None;
        }
    }
    Some(found)
}

/// The element whose opening quote was taken, and what follows it. A quote is doubled inside, or escaped when it is `"`.
fn quoted_element(text: &str, quote: char) -> Option<(String, &str)> {
    let mut element = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
            } else {
                return Some((element, &text[at + c.len_utf8()..]));
            }
        } else if c == '\\' && quote == '"' {
            element.push(chars.next()?.1);
            continue;
        }
        element.push(c);
    }
    None
}

/// An array literal of the server with every element quoted.
pub fn array_literal(elements: &[String]) -> String {
    let quoted = |element: &String| format!("\"{}\"", element.replace('\\', r"\\").replace('"', "\\\""));
    format!("{{{}}}", elements.iter().map(quoted).collect::<Vec<_>>().join(","))
}

/// The text without a cast to one of `types` at its end.
fn uncast<'a>(text: &'a str, types: &[&str]) -> &'a str {
    match text.rsplit_once("::") {
        Some((inner, cast)) if types.iter().any(|name| cast.trim().eq_ignore_ascii_case(name)) => inner.trim(),
        _ => text,
    }
}

/// The text without such a cast, and without the quotes around it.
fn unquoted<'a>(text: &'a str, types: &[&str]) -> &'a str {
    let text = uncast(text.trim(), types);
    match text.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\'')) {
        Some(inner) if !inner.contains('\'') => inner.trim(),
        _ => text,
    }
}

/// The text as a string constant of SQL, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", doubled.replace('\\', r"\\")) } else { format!("'{doubled}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let cases = [
            ("default,ddl_sql", Some(r#"{"default","ddl_sql"}"#)),
            ("default, ddl_sql", Some(r#"{"default","ddl_sql"}"#)),
            ("{a,\"b,c\"}", Some(r#"{"a","b,c"}"#)),
            ("ARRAY['default', 'ddl_sql']", Some(r#"{"default","ddl_sql"}"#)),
            ("array['a''b']::text[]", Some(r#"{"a'b"}"#)),
            ("'{}'::text[]", Some("{}")),
            ("'{a,b}'::text[]", Some(r#"{"a","b"}"#)),
            ("'{}'", Some("{}")),
            ("{}", Some("{}")),
            ("none", Some("{}")),
            ("", Some("{}")),
            ("a", Some(r#"{"a"}"#)),
            ("ARRAY[now()]", None),
            ("(select 1)", None),
            ("a,,b", None),
            ("a,", None),
            ("{a", None),
            ("ARRAY['a'", None),
            ("ARRAY['a') , ('b']", None),
            ("'a'); drop table x; --", None),
        ];
        for (typed, want) in cases {
            assert_eq!(list(typed).ok().as_deref(), want, "{typed}");
        }
    }

    #[test]
    fn truth() {
        for (typed, want) in [
            ("true", Some(true)),
            ("OFF", Some(false)),
            ("'t'", Some(true)),
            ("'f'::boolean", Some(false)),
            ("1", Some(true)),
            ("maybe", None),
            ("true or 1=1", None),
            ("", None),
        ] {
            assert_eq!(boolean(typed).ok(), want, "{typed}");
        }
    }

    #[test]
    fn intervals() {
        for (typed, want) in [
            ("'0'::interval", Some("0")),
            ("10 s", Some("10 s")),
            ("interval '1 min'", Some("1 min")),
            ("'5s'", Some("5s")),
            ("00:00:01.5", Some("00:00:01.5")),
            ("now()-x", None),
            ("'1'||'2'", None),
            ("", None),
        ] {
            assert_eq!(interval(typed).ok().as_deref(), want, "{typed}");
        }
    }

    #[test]
    fn literals() {
        for (text, want) in [("a", "'a'"), ("it's", "'it''s'"), (r"a\'b", r"E'a\\''b'"), ("", "''")] {
            assert_eq!(literal(text), want);
        }
    }
}
