//! Rules about one file.

use super::Finding;
use super::source::Source;

/// A file longer than this is to be split along a noun of its domain.
const FILE_LINES_MAX: usize = 700;
/// A function longer than this does more than one thing.
const FUNCTION_LINES_MAX: usize = 70;

/// A rule about a Rust file.
pub type Rule = fn(&Source<'_>) -> Vec<Finding>;

/// Every rule about a Rust file.
pub const ALL: [Rule; 6] = [header, file_length, function_length, server_code, unfinished, sleeping_tests];

fn finding(path: &str, line: usize, rule: impl Into<String>) -> Finding {
    Finding { path: path.to_owned(), line, rule: rule.into() }
}

fn header(source: &Source<'_>) -> Vec<Finding> {
    let first = source.text.lines().next().unwrap_or_default();
    if first.starts_with("//! ") || first.starts_with("#!") {
        return Vec::new();
    }
    vec![finding(source.path, 1, "no `//!` header: say what the file is for and what always holds in it")]
}

fn file_length(source: &Source<'_>) -> Vec<Finding> {
    let lines = source.text.lines().count();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![finding(
        source.path,
        lines,
        format!("{lines} lines, more than {FILE_LINES_MAX}: split it along a noun of its domain"),
    )]
}

fn function_length(source: &Source<'_>) -> Vec<Finding> {
    let long = source.functions().into_iter().filter(|f| f.last - f.first + 1 > FUNCTION_LINES_MAX);
    let rule = |f: &super::source::Function| {
        format!("function {} has {} lines, more than {FUNCTION_LINES_MAX}: split it", f.name, f.last - f.first + 1)
    };
    long.map(|f| finding(source.path, f.first, rule(&f))).collect()
}

/// `unsafe` and `pg_sys` have two homes.
fn server_code(source: &Source<'_>) -> Vec<Finding> {
    if source.path.starts_with("extension/src/pg/") || source.path.starts_with("compat") {
        return Vec::new();
    }
    let words = ["unsafe", "pg_sys"].into_iter();
    let found = words.flat_map(|word| source.lines_with(word).into_iter().map(move |line| (word, line)));
    let rule = |word| format!("`{word}` outside extension/src/pg/ and compatNN/: put a safe wrapper there");
    found.map(|(word, line)| finding(source.path, line, rule(word))).collect()
}

fn unfinished(source: &Source<'_>) -> Vec<Finding> {
    let cases = [
        ("todo!", "write it, or leave it out"),
        ("unimplemented!", "write it, or leave it out"),
        ("dbg!", "remove it"),
        ("#[ignore", "assert today's result and say why it is wrong"),
    ];
    let found = cases.into_iter().flat_map(|case| source.lines_with(case.0).into_iter().map(move |line| (case, line)));
    found.map(|((word, instead), line)| finding(source.path, line, format!("`{word}`: {instead}"))).collect()
}

/// Tests wait for events. The one place that may sleep between two looks is the wait loop of the mesh.
fn sleeping_tests(source: &Source<'_>) -> Vec<Finding> {
    if source.path == "tests/mesh/src/wait.rs" {
        return Vec::new();
    }
    let from = match source.path.starts_with("tests/") {
        true => Some(1),
        false => source.first_test_line(),
    };
    let Some(from) = from else { return Vec::new() };
    let lines = source.lines_with("sleep(").into_iter().filter(|line| *line >= from);
    lines.map(|line| finding(source.path, line, "a test that sleeps: wait for an event with a deadline")).collect()
}

/// Rules about every text file.
pub fn any_text(path: &str, text: &str) -> Vec<Finding> {
    // Written in two halves so that this file does not find itself.
    let homes = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Use", "rs/")];
    let found = text.lines().enumerate().filter(|(_, line)| homes.iter().any(|home| names_a_home(line, home)));
    let home =
        found.map(|(i, _)| finding(path, i + 1, "path of a home directory: make it relative, or ask the environment"));
    home.chain(reloads_in_stories(path, text)).collect()
}

/// The function returns before anybody has read anything.
fn reloads_in_stories<'t>(path: &'t str, text: &'t str) -> impl Iterator<Item = Finding> + 't {
    let lines = text.lines().enumerate().filter(|(_, line)| line.contains("pg_reload_conf"));
    let lines = lines.filter(move |_| path.starts_with("tests/stories/"));
    lines.map(move |(i, _)| finding(path, i + 1, "a reload that nobody waits for: use Node::set and Node::reload"))
}

fn names_a_home(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + home.len()..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '.')
            && after.is_some_and(|c| c.is_alphanumeric() || c == '.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> Vec<(usize, String)> {
        let source = Source::read(path, text);
        let mut found: Vec<Finding> = ALL.iter().flat_map(|rule| rule(&source)).collect();
        found.extend(any_text(path, text));
        found.into_iter().map(|f| (f.line, f.rule.split([':', ',']).next().unwrap_or_default().to_owned())).collect()
    }

    #[test]
    fn each_rule_finds_its_case() {
        let long = format!("//! x\nfn long() {{\n{}}}\n", "\n".repeat(70));
        type Case = (&'static str, String, &'static [(usize, &'static str)]);
        let cases: [Case; 10] = [
            ("core/src/a.rs", "//! Fine.\nfn f() {}\n".into(), &[]),
            ("core/src/a.rs", "fn f() {}\n".into(), &[(1, "no `//!` header")]),
            ("core/src/a.rs", long, &[(2, "function long has 72 lines")]),
            (
                "core/src/a.rs",
                "//! x\nlet _ = unsafe { 1 };\n".into(),
                &[(2, "`unsafe` outside extension/src/pg/ and compatNN/")],
            ),
            ("extension/src/pg/a.rs", "//! x\nlet _ = unsafe { pg_sys::f() };\n".into(), &[]),
            ("core/src/a.rs", "//! unsafe\n#![forbid(unsafe_code)]\nlet s = \"todo!()\";\n".into(), &[]),
            ("core/src/a.rs", "//! x\nfn f() { todo!() }\n".into(), &[(2, "`todo!`")]),
            ("tests/stories/a.rs", "//! x\nthread::sleep(d);\n".into(), &[(2, "a test that sleeps")]),
            ("core/src/a.rs", format!("//! x\n// {}me/x/y\n", "/ho"), &[(2, "path of a home directory")]),
            (
                "tests/stories/a.rs",
                "//! x\nn1.sql(\"select pg_reload_conf()\");\n".into(),
                &[(2, "a reload that nobody waits for")],
            ),
        ];
        for (path, text, want) in cases {
            let want: Vec<(usize, String)> = want.iter().map(|(line, rule)| (*line, (*rule).to_owned())).collect();
            assert_eq!(check(path, &text), want, "{text}");
        }
    }

    #[test]
    fn only_the_test_module_of_a_program_may_not_sleep() {
        let text = "//! x\nfn f() { sleep(d) }\n#[cfg(test)]\nmod tests {\n fn g() { sleep(d) }\n}\n";
        assert_eq!(check("xtask/src/a.rs", text), [(5, "a test that sleeps".to_owned())]);
    }

    #[test]
    fn a_file_that_grew_too_long_is_named() {
        let text = format!("//! x\n{}", "\n".repeat(700));
        assert_eq!(check("core/src/a.rs", &text), [(701, "701 lines".to_owned())]);
    }
}
