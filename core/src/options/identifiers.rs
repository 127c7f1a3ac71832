//! Lists of identifiers in one string, by the server's rules: unquoted names are folded to lower case, quotes keep them,
//! blanks around names are skipped.

/// Why a string is no list of identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadList;

/// Splits `text` at `separator`. An empty or blank string is an empty list.
///
/// # Errors
/// [`BadList`] for an empty name, an open quote or something between names that is no separator.
pub fn split(text: &str, separator: char) -> Result<Vec<String>, BadList> {
    let mut names = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    if rest.is_empty() {
        return Ok(names);
    }
    loop {
        let (name, after) = one(rest, separator)?;
        names.push(name);
        rest = after.trim_start_matches(is_blank);
        let Some(next) = rest.strip_prefix(separator) else { break };
        rest = next.trim_start_matches(is_blank);
    }
    if rest.is_empty() { Ok(names) } else { Err(BadList) }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

fn one(text: &str, separator: char) -> Result<(String, &str), BadList> {
    if let Some(mut rest) = text.strip_prefix('"') {
        let mut name = String::new();
        loop {
            let end = rest.find('"').ok_or(BadList)?;
            name.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            // A doubled quote stands for one.
            match rest.strip_prefix('"') {
                Some(after) => {
                    name.push('"');
                    rest = after;
                }
                None => return if name.is_empty() { Err(BadList) } else { Ok((name, rest)) },
            }
        }
    }
    let end = text.find(|c| c == separator || is_blank(c)).unwrap_or(text.len());
    if end == 0 { Err(BadList) } else { Ok((text[..end].to_ascii_lowercase(), &text[end..])) }
}

/// `name` as the server would write it: in quotes unless it is plain lower case. Keywords are quoted too by the server, and
/// quoting more than needed reads back as the same name, so everything that could be a keyword is quoted here: all names.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names as one list that [`split`] reads back.
pub fn join<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|name| quote(name.as_ref())).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_split_as_the_server_does() {
        let cases: [(&str, Result<&[&str], BadList>); 11] = [
            ("", Ok(&[])),
            ("  ", Ok(&[])),
            ("default", Ok(&["default"])),
            ("Default, DDL_sql", Ok(&["default", "ddl_sql"])),
            ("\"Default\" ,\"a\"\"b\"", Ok(&["Default", "a\"b"])),
            ("\"a,b\",c", Ok(&["a,b", "c"])),
            ("a,", Err(BadList)),
            (",a", Err(BadList)),
            ("a b", Err(BadList)),
            ("\"a", Err(BadList)),
            ("\"\"", Err(BadList)),
        ];
        for (text, want) in cases {
            let got = split(text, ',');
            assert_eq!(got, want.map(|names| names.iter().map(|name| (*name).to_owned()).collect()), "{text:?}");
        }
        assert_eq!(split("public.t1", '.'), Ok(vec!["public".to_owned(), "t1".to_owned()]));
    }

    proptest! {
        #[test]
        fn what_is_joined_is_split_again(names in proptest::collection::vec("[^\u{0}]{1,20}", 0..5)) {
            prop_assert_eq!(split(&join(&names), ','), Ok(names));
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = split(&text, ',');
        }
    }
}
