//! JSON files read with their positions: every complaint says file, line and column.
//!
//! **Invariant.** A value is asked for by its path; a wrong type is an error at that value, a member nobody knows a warning.

use std::cell::RefCell;
use std::fmt::Write as _;

use serde_json::Value;

use crate::exit::{Failure, Result};

/// A file that was read.
pub struct Document {
    /// As it is named in messages.
    pub name: String,
    text: String,
    value: Value,
    warnings: RefCell<Vec<String>>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Member(String),
    Element(usize),
}

/// A value in a document.
#[derive(Clone)]
pub struct At<'a> {
    document: &'a Document,
    path: Vec<Part>,
    /// The value itself.
    pub value: &'a Value,
}

impl Document {
    /// Parses `text`; `name` is what messages call it.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let value = serde_json::from_str(text).map_err(|error| {
            let why = error.to_string();
            let why = why.split(" at line ").next().unwrap_or_default();
            let at = format!("{name}:{}:{}", error.line(), error.column());
            Failure::config(format!("{at}: this is no JSON: {why}"), "")
        })?;
        Ok(Self { name: name.to_owned(), text: text.to_owned(), value, warnings: RefCell::default() })
    }

    /// The value of the whole file.
    pub fn root(&self) -> At<'_> {
        At { document: self, path: Vec::new(), value: &self.value }
    }

    /// What is strange but does no harm.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.borrow_mut())
    }
}

impl<'a> At<'a> {
    /// `file:line:column` of the value.
    pub fn position(&self) -> String {
        let offset = locate(&self.document.text, &self.path);
        let before = &self.document.text[..offset];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.document.name)
    }

    /// The value as it is called in messages: `steps[2].sql.command`.
    pub fn label(&self) -> String {
        let mut label = String::new();
        for part in &self.path {
            match part {
                Part::Member(name) if label.is_empty() => label.push_str(name),
                Part::Member(name) => label = label + "." + name,
                Part::Element(index) => drop(write!(label, "[{index}]")),
            }
        }
        if label.is_empty() { "the file".to_owned() } else { label }
    }

    /// An error at this value.
    pub fn error(&self, what: &str, hint: &str) -> Failure {
        Failure::config(format!("{}: {}: {what}", self.position(), self.label()), hint)
    }

    /// A warning at this value.
    pub fn warn(&self, what: &str) {
        self.document.warnings.borrow_mut().push(format!("{}: {}: {what}", self.position(), self.label()));
    }

    /// Warns of members that are not among `known`. The value must be an object.
    pub fn knows(&self, known: &[&str]) -> Result<()> {
        for (name, _) in self.members()? {
            if !known.contains(&name.as_str())
                && !name.starts_with('$')
                && let Some(strange) = self.get(&name)?
            {
                strange.warn("unknown member, ignored");
            }
        }
        Ok(())
    }

    /// Names and values of an object.
    pub fn members(&self) -> Result<Vec<(String, At<'a>)>> {
        let object = self.value.as_object().ok_or_else(|| self.error("must be an object", ""))?;
        Ok(object.iter().map(|(name, value)| (name.clone(), self.child(Part::Member(name.clone()), value))).collect())
    }

    /// A member that may be missing; null is missing.
    pub fn get(&self, name: &str) -> Result<Option<At<'a>>> {
        let object = self.value.as_object().ok_or_else(|| self.error("must be an object", ""))?;
        let found = object.get(name).filter(|value| !value.is_null());
        Ok(found.map(|value| self.child(Part::Member(name.to_owned()), value)))
    }

    /// A member that must be there.
    pub fn need(&self, name: &str) -> Result<At<'a>> {
        self.get(name)?.ok_or_else(|| self.error(&format!("member \"{name}\" is missing"), ""))
    }

    fn child(&self, part: Part, value: &'a Value) -> Self {
        let mut path = self.path.clone();
        path.push(part);
        Self { document: self.document, path, value }
    }

    /// The elements of an array.
    pub fn elements(&self) -> Result<Vec<At<'a>>> {
        let array = self.value.as_array().ok_or_else(|| self.error("must be an array", ""))?;
        Ok(array.iter().enumerate().map(|(index, value)| self.child(Part::Element(index), value)).collect())
    }

    /// A string.
    pub fn text(&self) -> Result<String> {
        self.value.as_str().map(str::to_owned).ok_or_else(|| self.error("must be a string", ""))
    }

    /// A number that is not negative.
    pub fn number(&self) -> Result<u64> {
        self.value.as_u64().ok_or_else(|| self.error("must be a whole number, 0 or more", ""))
    }

    /// A truth value.
    pub fn truth(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.error("must be true or false", ""))
    }

    /// A string member that may be missing.
    pub fn text_of(&self, name: &str) -> Result<Option<String>> {
        self.get(name)?.map(|at| at.text()).transpose()
    }

    /// A number member that may be missing.
    pub fn number_of(&self, name: &str) -> Result<Option<u64>> {
        self.get(name)?.map(|at| at.number()).transpose()
    }

    /// A truth member that may be missing.
    pub fn truth_of(&self, name: &str) -> Result<Option<bool>> {
        self.get(name)?.map(|at| at.truth()).transpose()
    }
}

/// Byte offset of the value at `path` in a text that is valid JSON; of the nearest value around it when it is not found.
fn locate(text: &str, path: &[Part]) -> usize {
    let bytes = text.as_bytes();
    let mut at = blanks(bytes, 0);
    for part in path {
        let Some(next) = enter(text, at, part) else { break };
        at = next;
    }
    at
}

fn blanks(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Where the member or element of the object or array at `at` begins.
fn enter(text: &str, at: usize, part: &Part) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut next = blanks(bytes, at + 1);
    let mut index = 0;
    let mut found = None;
    while !matches!(bytes.get(next)?, b'}' | b']') {
        let wanted = match part {
            Part::Element(wanted) => *wanted == index,
            Part::Member(wanted) => {
                let end = skip(bytes, next);
                let name: Option<String> = serde_json::from_str(&text[next..end]).ok();
                next = blanks(bytes, blanks(bytes, end) + 1);
                name.as_ref() == Some(wanted)
            }
        };
        // Of several members with one name the last one counts.
        if wanted {
            found = Some(next);
        }
        next = blanks(bytes, skip(bytes, next));
        if bytes.get(next) == Some(&b',') {
            next = blanks(bytes, next + 1);
        }
        index += 1;
    }
    found
}

/// The end of the value at `at`.
fn skip(bytes: &[u8], mut at: usize) -> usize {
    let (mut depth, mut quoted) = (0_usize, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => {
                quoted = !quoted;
                if !quoted && depth == 0 {
                    return at + 1;
                }
            }
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b':' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        let text = "{\n  \"a}\": \"x\\\"{\",\n  \"steps\": [1, {\"é\": true,\n    \"node\": 7}]\n}";
        let document = Document::parse("w.json", text).unwrap();
        let steps = document.root().need("steps").unwrap();
        assert_eq!(steps.position(), "w.json:3:12");
        let step = steps.elements().unwrap().remove(1);
        assert_eq!(step.position(), "w.json:3:16");
        let failure = step.need("node").unwrap().text().unwrap_err();
        assert_eq!(failure.message, "w.json:4:13: steps[1].node: must be a string");
        assert_eq!(step.need("no").err().unwrap().message, "w.json:3:16: steps[1]: member \"no\" is missing");
        step.knows(&["node"]).unwrap();
        assert_eq!(document.take_warnings(), ["w.json:3:22: steps[1].é: unknown member, ignored"]);
    }

    #[test]
    fn broken_files_say_where() {
        let failure = Document::parse("w.json", "{\n \"a\": }").err().unwrap();
        assert!(failure.message.starts_with("w.json:2:7: this is no JSON: expected value"), "{failure:?}");
    }
}
