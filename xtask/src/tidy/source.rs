//! A Rust file without its comments and strings, so that rules see code only; and where its functions begin and end.

/// A Rust file.
#[derive(Debug)]
pub struct Source<'a> {
    /// Path relative to the repository.
    pub path: &'a str,
    /// As written.
    pub text: &'a str,
    /// Comments, strings and character literals blanked; the same lines.
    pub code: String,
}

/// A function: its name and lines, both from 1.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of `fn`.
    pub first: usize,
    /// The line of the closing brace.
    pub last: usize,
}

impl<'a> Source<'a> {
    /// Reads a file.
    pub fn read(path: &'a str, text: &'a str) -> Self {
        Self { path, text, code: blanked(text) }
    }

    /// Lines that hold `word` as a whole word of code, from 1.
    pub fn lines_with(&self, word: &str) -> Vec<usize> {
        let holds = |line: &str| {
            line.match_indices(word).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + word.len()..].chars().next();
                let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                !(inside(before) || word.ends_with(|c: char| c.is_alphanumeric()) && inside(after))
            })
        };
        self.code.lines().enumerate().filter(|(_, line)| holds(line)).map(|(i, _)| i + 1).collect()
    }

    /// The first line of the test module at the end of the file, if there is one.
    pub fn first_test_line(&self) -> Option<usize> {
        self.code.lines().position(|line| line.trim() == "#[cfg(test)]").map(|i| i + 1)
    }

    /// Contents of all string literals, escapes read; comments do not count.
    pub fn strings(&self) -> Vec<String> {
        let chars: Vec<char> = self.text.chars().collect();
        let (mut found, mut i) = (Vec::new(), 0);
        while i < chars.len() {
            let end = blank_end(&chars, i);
            if chars[i] == '"' {
                found.push(unescaped(chars.get(i + 1..end - 1).unwrap_or_default()));
            } else if chars[i] == 'r' && end > i {
                let text: String = chars[i + 1..end].iter().collect();
                let bare = text.trim_matches('#');
                found.push(bare[1..bare.len() - 1].to_owned());
            }
            i = end.max(i + 1);
        }
        found
    }

    /// All functions that have a body.
    pub fn functions(&self) -> Vec<Function> {
        let code = &self.code;
        let starts = code
            .match_indices("fn ")
            .filter(|(at, _)| !code[..*at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_'));
        starts.filter_map(|(at, _)| function_at(code, at)).collect()
    }
}

fn function_at(code: &str, at: usize) -> Option<Function> {
    let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        return None;
    }
    let line_of = |position: usize| code[..position].matches('\n').count() + 1;
    let (mut braces, mut brackets) = (0_i32, 0_i32);
    for (i, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces <= 0 {
                    return Some(Function { name, first: line_of(at), last: line_of(at + i) });
                }
            }
            _ => {}
        }
    }
    None
}

/// Replaces what is no code with blanks, keeping line ends.
fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = blank_end(&chars, i);
        if end == i {
            out.push(chars[i]);
            i += 1;
        } else {
            out.extend(chars[i..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            i = end;
        }
    }
    out
}

/// Where a comment, string or character literal that begins at `i` ends; `i` where none does.
fn blank_end(chars: &[char], i: usize) -> usize {
    match (chars[i], chars.get(i + 1)) {
        ('/', Some('/')) => line_end(chars, i),
        ('/', Some('*')) => comment_end(chars, i),
        ('"', _) => string_end(chars, i),
        ('r', Some('"' | '#')) if !word_before(chars, i) => raw_string_end(chars, i).unwrap_or(i),
        ('\'', _) => char_end(chars, i).unwrap_or(i),
        _ => i,
    }
}

/// What a literal stands for: a backslash at the end of a line takes the next line's indentation away.
fn unescaped(chars: &[char]) -> String {
    let (mut text, mut i) = (String::new(), 0);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('\\', Some('\n')) => i += chars[i + 1..].iter().take_while(|c| c.is_whitespace()).count() + 1,
            ('\\', Some(escaped)) => {
                text.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    other => *other,
                });
                i += 2;
            }
            (c, _) => {
                text.push(c);
                i += 1;
            }
        }
    }
    text
}

fn word_before(chars: &[char], i: usize) -> bool {
    // `br"..."` and `cr"..."` are raw strings too; their prefix stays behind as one harmless letter.
    let before = i.checked_sub(1).map(|at| chars[at]);
    before.is_some_and(|c| (c.is_alphanumeric() || c == '_') && c != 'b' && c != 'c')
}

fn line_end(chars: &[char], from: usize) -> usize {
    (from..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len())
}

fn comment_end(chars: &[char], from: usize) -> usize {
    let (mut depth, mut i) = (0, from);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => {
                (depth, i) = (depth - 1, i + 2);
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut i = from + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(from + 1 + hashes) != Some(&'"') {
        return None;
    }
    let start = from + 2 + hashes;
    let closes =
        |i: usize| chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    Some((start..chars.len()).find(|i| closes(*i)).map_or(chars.len(), |i| i + 1 + hashes))
}

/// The end of a character literal; none for a lifetime.
fn char_end(chars: &[char], from: usize) -> Option<usize> {
    match chars.get(from + 1)? {
        '\\' => {
            let last = (from + 12).min(chars.len());
            (from + 3..last).find(|i| chars[*i] == '\'').map(|i| i + 1)
        }
        _ => (chars.get(from + 2) == Some(&'\'')).then_some(from + 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        let cases = [
            ("a // unsafe\nb", "a          \nb"),
            ("\"unsafe {\" x", "           x"),
            ("r#\"a\"b\"# y", "         y"),
            ("/* /* } */ } */ z", "                z"),
            ("'{' '\\'' 'a lifetime<'b>", "         'a lifetime<'b>"),
            ("for r in \"x\" {}", "for r in     {}"),
        ];
        for (text, want) in cases {
            assert_eq!(blanked(text), want, "{text}");
        }
    }

    #[test]
    fn strings_are_read_as_the_compiler_reads_them() {
        let text = "f(\"a \\\"b\\\" \\\n    c\"); // \"no\"\nr#\"d \"e\"#; \'\"\'; \"\"";
        assert_eq!(Source::read("a.rs", text).strings(), ["a \"b\" c", "d \"e", ""]);
    }

    #[test]
    fn functions_are_measured() {
        let text = "trait T { fn no_body(&self); }\nfn one() -> [u8; 3] {\n  if x { \"}\" }\n}\nimpl X {\n fn two<F>(f: F) where F: Fn() {\n }\n}\n";
        let source = Source::read("a.rs", text);
        let found: Vec<_> = source.functions().into_iter().map(|f| (f.name, f.first, f.last)).collect();
        assert_eq!(found, [("one".to_owned(), 2, 4), ("two".to_owned(), 6, 7)]);
    }
}
