//! `spock.synchronize_slot_names`: a list of filters, any of which lets a slot in. Also the lists of slot names.

use core::fmt;

/// One filter of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    /// `name:` or no key: the slot of that name.
    Name(String),
    /// `name_like:`, a pattern of SQL's LIKE for the name.
    NameLike(Vec<Token>),
    /// `plugin:`, the output plugin.
    Plugin(String),
}

/// A part of a LIKE pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// `%`
    Any,
    /// `_`
    One,
    /// That character.
    This(char),
}

/// All filters. None of them: no slot is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters(Vec<Filter>);

/// Why a list of filters is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterError {
    /// Not a comma-separated list.
    List,
    /// The key in front of the colon is not known.
    Key(String),
    /// More than one colon.
    Colons(String),
    /// Nothing behind the colon.
    Empty(String),
    /// A LIKE pattern that ends in its escape character.
    Escape(String),
}

/// What helps against every [`FilterError`].
pub const FILTER_HINT: &str =
    "Give a list of \"name:NAME\", \"name_like:PATTERN\" and \"plugin:NAME\", separated by commas.";

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List => f.write_str("the list is not well formed"),
            Self::Key(key) => write!(f, "filter key \"{key}\" is not known"),
            Self::Colons(item) => write!(f, "filter \"{item}\" has more than one colon"),
            Self::Empty(item) => write!(f, "filter \"{item}\" has no value"),
            Self::Escape(item) => write!(f, "the pattern of filter \"{item}\" ends in a backslash"),
        }
    }
}

impl Filters {
    /// Reads the setting.
    ///
    /// # Errors
    /// The first item that is not a filter.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        split_list(text)
            .ok_or(FilterError::List)?
            .iter()
            .map(|item| Filter::parse(item))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a slot of the primary is to be copied.
    pub fn wants(&self, name: &str, plugin: &str) -> bool {
        self.0.iter().any(|filter| match filter {
            Filter::Name(wanted) => wanted == name,
            Filter::NameLike(pattern) => like(pattern, &name.chars().collect::<Vec<_>>()),
            Filter::Plugin(wanted) => wanted == plugin,
        })
    }
}

impl Filter {
    fn parse(item: &str) -> Result<Self, FilterError> {
        let Some((key, value)) = item.split_once(':') else {
            return Ok(Self::Name(item.to_owned()));
        };
        if value.contains(':') {
            return Err(FilterError::Colons(item.to_owned()));
        }
        let known = matches!(key, "name" | "name_like" | "plugin");
        if known && value.is_empty() {
            return Err(FilterError::Empty(item.to_owned()));
        }
        match key {
            "name" => Ok(Self::Name(value.to_owned())),
            "name_like" => tokens(value).map(Self::NameLike).ok_or_else(|| FilterError::Escape(item.to_owned())),
            "plugin" => Ok(Self::Plugin(value.to_owned())),
            _ => Err(FilterError::Key(key.to_owned())),
        }
    }
}

fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '%' => Token::Any,
            '_' => Token::One,
            '\\' => Token::This(chars.next()?),
            c => Token::This(c),
        });
    }
    Some(tokens)
}

/// LIKE, without recursion: on a mismatch the last `%` takes one character more.
fn like(pattern: &[Token], text: &[char]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut last_any: Option<(usize, usize)> = None;
    while at_text < text.len() {
        let matches = match pattern.get(at_pattern) {
            Some(Token::Any) => {
                last_any = Some((at_pattern, at_text));
                at_pattern += 1;
                continue;
            }
            Some(Token::One) => true,
            Some(Token::This(c)) => *c == text[at_text],
            None => false,
        };
        if matches {
            at_pattern += 1;
            at_text += 1;
        } else if let Some((any, taken)) = last_any {
            last_any = Some((any, taken + 1));
            at_pattern = any + 1;
            at_text = taken + 1;
        } else {
            return false;
        }
    }
    pattern[at_pattern..].iter().all(|token| *token == Token::Any)
}

/// The items of a list of identifiers, as the server reads its own lists: separated by commas, lower case unless in double
/// quotes. `None`: not such a list.
pub fn split_list(text: &str) -> Option<Vec<String>> {
    let mut items = Vec::new();
    let mut chars = text.trim().chars().peekable();
    if chars.peek().is_none() {
        return Some(items);
    }
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut item = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next()? {
                    '"' if chars.next_if_eq(&'"').is_some() => item.push('"'),
                    '"' => break,
                    c => item.push(c),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',' && !c.is_whitespace()) {
                item.push(c.to_ascii_lowercase());
            }
        }
        if item.is_empty() {
            return None;
        }
        items.push(item);
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        match chars.next() {
            None => return Some(items),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_wanted_when_any_filter_lets_it_in() {
        let cases = [
            ("name_like:%%", "anything", "spock_output", true),
            ("name_like:%%", "", "spock_output", true),
            ("", "anything", "spock_output", false),
            ("slot_a", "slot_a", "x", true),
            ("SLOT_A", "slot_a", "x", true),
            ("name:slot_a", "slot_b", "x", false),
            ("name:slot_a, name:slot_b", "slot_b", "x", true),
            ("name_like:spk_%", "spk_db_n1", "x", true),
            ("name_like:spk_%", "spk", "x", false),
            ("name_like:%_n1", "a_n1", "x", true),
            ("name_like:%a%b%", "xxaxxbxx", "x", true),
            ("name_like:%ab%ab", "abab", "x", true),
            ("name_like:%ab%ab", "ab", "x", false),
            ("name_like:s__t", "slot", "x", true),
            ("name_like:a\\_b", "axb", "x", false),
            ("name_like:a\\_b", "a_b", "x", true),
            ("plugin:spock_output", "any", "spock_output", true),
            ("plugin:spock_output", "any", "pgoutput", false),
            ("\"plugin:MyPlugin\"", "any", "MyPlugin", true),
            ("name:other,plugin:pgoutput", "any", "pgoutput", true),
        ];
        for (list, name, plugin, wanted) in cases {
            let filters = Filters::parse(list).unwrap_or_else(|error| panic!("{list}: {error}"));
            assert_eq!(filters.wants(name, plugin), wanted, "{list} for {name}, {plugin}");
        }
        assert!(Filters::parse("  ").unwrap().is_empty());
    }

    #[test]
    fn a_list_that_is_none_is_refused_with_its_reason() {
        let cases = [
            ("nmae:a", FilterError::Key("nmae".into())),
            ("name:a:b", FilterError::Colons("name:a:b".into())),
            ("ok, plugin:", FilterError::Empty("plugin:".into())),
            ("name_like:a\\", FilterError::Escape("name_like:a\\".into())),
            ("a,,b", FilterError::List),
            ("a b", FilterError::List),
            ("a,", FilterError::List),
            ("\"a", FilterError::List),
        ];
        for (list, error) in cases {
            assert_eq!(Filters::parse(list), Err(error), "{list}");
        }
    }

    #[test]
    fn lists_are_read_as_the_server_reads_them() {
        let cases: [(&str, Option<&[&str]>); 6] = [
            ("", Some(&[])),
            ("a", Some(&["a"])),
            (" A , b\t", Some(&["a", "b"])),
            ("\"A \"\" b\"", Some(&["A \" b"])),
            ("\"\"", None),
            (",a", None),
        ];
        for (text, items) in cases {
            let items = items.map(|items| items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>());
            assert_eq!(split_list(text), items, "{text:?}");
        }
    }
}
