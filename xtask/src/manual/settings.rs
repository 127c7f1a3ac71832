//! The definitions of settings, read from the code that makes them: `define_...(c"spock.NAME", c"short", c"long", &STATIC,
//! MIN, MAX, GucContext::..., GucFlags::...)`. That this is what a server has is a test of the manual suite.

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// With prefix.
    pub name: String,
    /// What it is for.
    pub short: String,
    /// More; may be empty.
    pub long: String,
    /// `bool`, `integer`, `text`, or the values of an enumeration.
    pub kind: Kind,
    /// As in `postgresql.conf`.
    pub default: String,
    /// `s`, `ms`, `MB` or nothing.
    pub unit: &'static str,
    /// When it can be changed, in the word that `pg_settings.context` has.
    pub context: &'static str,
}

/// Its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// On or off.
    Switch,
    /// From, to.
    Number(i64, i64),
    /// Anything.
    Text,
    /// One of these.
    Words(Vec<String>),
}

/// A piece of Rust source, as far as definitions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// `c"..."`
    Text(String),
    /// A name or path: `GucContext::Suset`.
    Word(String),
    /// A number, without underscores.
    Number(i64),
    /// Anything else.
    Sign(char),
}

fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let (mut found, mut i) = (Vec::new(), 0);
    while i < chars.len() {
        let c = chars[i];
        let begins = |what: &str| chars[i..].iter().take(what.len()).collect::<String>() == what;
        if begins("//") {
            i += chars[i..].iter().position(|c| *c == '\n').unwrap_or(chars.len() - i);
        } else if c == '"' {
            let (text, end) = string(&chars, i + 1);
            found.push(Token::Text(text));
            i = end;
        } else if c.is_ascii_alphabetic() || c == '_' {
            let word: String =
                chars[i..].iter().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':')).collect();
            i += word.chars().count();
            // The c of c"...".
            if !(word == "c" && chars.get(i) == Some(&'"')) {
                found.push(Token::Word(word));
            }
        } else if c.is_ascii_digit() {
            let number: String = chars[i..].iter().take_while(|c| c.is_ascii_digit() || **c == '_').collect();
            i += number.len();
            found.extend(number.replace('_', "").parse().map(Token::Number));
        } else {
            if !c.is_whitespace() {
                found.push(Token::Sign(c));
            }
            i += 1;
        }
    }
    found
}

/// The string that begins at `i`, and where it ends. A backslash at the end of a line swallows the next line's indentation.
fn string(chars: &[char], mut i: usize) -> (String, usize) {
    let mut text = String::new();
    while i < chars.len() && chars[i] != '"' {
        if chars[i] == '\\' && chars.get(i + 1) == Some(&'\n') {
            i += 2;
            while chars.get(i).is_some_and(|c| c.is_whitespace()) {
                i += 1;
            }
            continue;
        }
        if chars[i] == '\\' {
            i += 1;
        }
        text.extend(chars.get(i));
        i += 1;
    }
    (text, i + 1)
}

/// Reads all definitions, sorted by name. Settings that tests arm and `SHOW ALL` hides are left out.
pub fn read(source: &str) -> Result<Vec<Setting>, String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let tokens = tokens(source);
    let mut settings = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let Token::Text(name) = token else { continue };
        let defines = i >= 2 && tokens[i - 1] == Token::Sign('(') && before_is_definition(&tokens[..i - 1]);
        if name.starts_with("spock.") && defines {
            settings.extend(definition(&tokens, i, name).map_err(|why| format!("{name}: {why}"))?);
        }
    }
    settings.sort_by(|one, other| one.name.cmp(&other.name));
    if settings.len() < 30 { Err(format!("only {} settings were found", settings.len())) } else { Ok(settings) }
}

/// `define_...(`, `define_...::<T>(`, or the closure `switch(`.
fn before_is_definition(tokens: &[Token]) -> bool {
    let words = tokens.iter().rev().take(5).filter_map(|token| match token {
        Token::Word(word) => Some(word),
        _ => None,
    });
    words.into_iter().any(|word| word == "switch" || word.contains("define_"))
}

fn definition(tokens: &[Token], at: usize, name: &str) -> Result<Option<Setting>, String> {
    let mut depth = 1;
    let (mut texts, mut numbers, mut statics) = (Vec::new(), Vec::new(), Vec::new());
    let (mut context, mut unit, mut hidden) = (None, "", false);
    for (i, token) in tokens.iter().enumerate().skip(at + 1) {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth -= 1,
            Token::Text(text) => texts.push(text.clone()),
            Token::Number(number) => {
                let minus = tokens[i - 1] == Token::Sign('-');
                numbers.push(if minus { -number } else { *number });
            }
            Token::Word(word) => match word.as_str() {
                "i32::MAX" => numbers.push(i64::from(i32::MAX)),
                "GucFlags::UNIT_S" => unit = "s",
                "GucFlags::UNIT_MS" => unit = "ms",
                "GucFlags::UNIT_MB" => unit = "MB",
                "GucFlags::NO_SHOW_ALL" => hidden = true,
                word if tokens[i - 1] == Token::Sign('&') => statics.push(word.to_owned()),
                word => context = word.strip_prefix("GucContext::").and_then(context_of).or(context),
            },
            Token::Sign(_) => {}
        }
        if depth == 0 {
            break;
        }
    }
    if hidden {
        return Ok(None);
    }
    let variable = statics.first().ok_or("no variable")?;
    let (kind, default) = variable_of(tokens, variable, &numbers)?;
    let mut texts = texts.into_iter();
    Ok(Some(Setting {
        name: name.to_owned(),
        short: texts.next().ok_or("no description")?,
        long: texts.next().unwrap_or_default(),
        kind,
        default,
        unit,
        // Lists and checked texts have no context of their own: they are read with the configuration.
        context: context.unwrap_or("sighup"),
    }))
}

fn context_of(context: &str) -> Option<&'static str> {
    Some(match context {
        "Internal" => "internal",
        "Postmaster" => "postmaster",
        "Sighup" => "sighup",
        "Backend" => "backend",
        "Suset" => "superuser",
        "Userset" => "user",
        _ => return None,
    })
}

/// `static NAME: GucSetting<T> = GucSetting::<T>::new(DEFAULT);`
fn variable_of(tokens: &[Token], name: &str, numbers: &[i64]) -> Result<(Kind, String), String> {
    let is_here = |window: &[Token]| {
        window[0] == Token::Word("static".to_owned())
            && matches!(&window[1], Token::Word(word) if word.trim_end_matches(':') == name)
    };
    let at = tokens.windows(2).position(is_here).ok_or_else(|| format!("no static {name}"))?;
    let end = tokens[at..].iter().position(|token| *token == Token::Sign(';')).ok_or("an open static")?;
    let declaration = &tokens[at..at + end];
    let word = |text: &str| declaration.iter().any(|token| *token == Token::Word(text.to_owned()));
    let value = declaration.iter().rev().find(|token| !matches!(token, Token::Sign(_)));
    Ok(match value {
        Some(Token::Number(number)) => {
            let before = declaration.iter().rev().skip_while(|token| !matches!(token, Token::Number(_))).nth(1);
            let number = if before == Some(&Token::Sign('-')) { -number } else { *number };
            let [.., min, max] = numbers else { return Err("no range".to_owned()) };
            (Kind::Number(*min, *max), number.to_string())
        }
        Some(Token::Text(text)) => (Kind::Text, text.clone()),
        Some(Token::Word(value)) if value == "true" || value == "false" => {
            (Kind::Switch, if value == "true" { "on" } else { "off" }.to_owned())
        }
        Some(Token::Word(value)) if value.contains("::") && !word("CString") => {
            let (of, variant) = value.split_once("::").unwrap_or_default();
            let words = enumeration(tokens, of)?;
            let default = words.iter().find(|(name, _)| name == variant).map(|(_, word)| word.clone());
            (
                Kind::Words(words.iter().map(|(_, word)| word.clone()).collect()),
                default.ok_or_else(|| format!("{of} has no {variant}"))?,
            )
        }
        other => return Err(format!("its default is {other:?}")),
    })
}

/// Variants and words of an enumeration, without hidden ones.
fn enumeration(tokens: &[Token], name: &str) -> Result<Vec<(String, String)>, String> {
    let is_here =
        |window: &[Token]| window[0] == Token::Word("enum".to_owned()) && window[1] == Token::Word(name.to_owned());
    let at = tokens.windows(2).position(is_here).ok_or_else(|| format!("no enum {name}"))?;
    let end = tokens[at..].iter().position(|token| *token == Token::Sign('}')).ok_or("an open enum")?;
    let mut words: Vec<(String, String)> = Vec::new();
    let (mut word, mut hidden) = (None, false);
    for token in &tokens[at..at + end] {
        match token {
            Token::Text(text) => word = Some(text.clone()),
            Token::Word(text) if text == "hidden" => hidden = true,
            Token::Sign(',') => hidden = false,
            Token::Word(variant) if variant.starts_with(|c: char| c.is_ascii_uppercase()) => {
                if let Some(word) = word.take().filter(|_| !hidden) {
                    words.push((variant.clone(), word));
                }
            }
            _ => {}
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
        enum Mode { #[name = c"a"] First, #[name = c"old"] #[hidden = true] Old, #[name = c"b"] Second, }
        static MODE: GucSetting<Mode> = GucSetting::<Mode>::new(Mode::Second);
        static LIMIT: GucSetting<i32> = GucSetting::<i32>::new(-1);
        static DIR: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
        fn define() {
            GucRegistry::define_enum_guc(c"spock.mode", c"How.", c"a: \"first\". b: \
                second.", &MODE, GucContext::Suset, GucFlags::default());
            GucRegistry::define_int_guc(c"spock.limit", c"Most.", where_it_counts(c"-1: none.", X), &LIMIT, -1, 60_000,
                GucContext::Sighup, GucFlags::UNIT_MS);
            define_checked_text::<Dir>(c"spock.dir", c"Where.", c"", &DIR, LIST);
            say(c"spock.other is no definition");
        }
    "#;

    #[test]
    fn definitions_are_read() {
        let tokens = tokens(SOURCE);
        let get = |name: &str| {
            let at = tokens.iter().position(|token| *token == Token::Text(name.to_owned())).unwrap();
            definition(&tokens, at, name).unwrap().unwrap()
        };
        let mode = get("spock.mode");
        assert_eq!(mode.kind, Kind::Words(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!((mode.default.as_str(), mode.long.as_str()), ("b", "a: \"first\". b: second."));
        let limit = get("spock.limit");
        assert_eq!((limit.kind, limit.default.as_str(), limit.unit), (Kind::Number(-1, 60_000), "-1", "ms"));
        assert_eq!((get("spock.dir").kind, get("spock.dir").context), (Kind::Text, "sighup"));
    }
}
