//! The cases of `docs/convergence.md` and the stories whose names begin with their ids belong together; and each word of
//! `ci/matrix.toml` chooses a story, so that none drops out of the cells when it is renamed.

use std::collections::BTreeSet;

use super::Finding;
use crate::matrix::Matrix;

const LIST: &str = "docs/convergence.md";
const MATRIX: &str = "ci/matrix.toml";
/// Where stories are; the second are programs of their own.
const STORIES: &str = "tests/stories/tests/";
const NO_STORIES: [&str; 3] = ["stories", "regress", "manual"];
/// Cases are D0 to this.
const LAST: u32 = 26;

/// The id that a name such as `d13_a_key_...` begins with.
fn id_of(name: &str) -> Option<u32> {
    let (id, rest) = name.strip_prefix('d')?.split_once('_')?;
    (!rest.is_empty()).then(|| id.parse().ok())?
}

/// Names of functions in the stories that begin with an id.
fn stories(texts: &[(String, String)]) -> BTreeSet<&str> {
    texts
        .iter()
        .filter(|(path, _)| path.starts_with(STORIES) && path.ends_with(".rs"))
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| line.strip_prefix("fn ")?.split('(').next())
        .filter(|name| id_of(name).is_some())
        .collect()
}

/// Names of all stories, as the test program prints them: `cases::keys::d1_...`.
fn names(texts: &[(String, String)]) -> Vec<String> {
    let mut names = Vec::new();
    for (path, text) in texts {
        let Some(file) = path.strip_prefix(STORIES).and_then(|rest| rest.strip_suffix(".rs")) else { continue };
        if NO_STORIES.contains(&file) {
            continue;
        }
        let module = file.strip_suffix("/mod").unwrap_or(file).replace('/', "::");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let tests = lines.windows(2).filter(|pair| pair[0] == "#[test]");
        let functions = tests.filter_map(|pair| pair[1].strip_prefix("fn ")?.split('(').next());
        names.extend(functions.map(|name| format!("{module}::{name}")));
    }
    names
}

/// Words of the matrix that choose nothing.
pub fn words(matrix: &Matrix, texts: &[(String, String)]) -> Vec<Finding> {
    let names = names(texts);
    let lists = [("smoke", &matrix.smoke), ("cases", &matrix.cases)];
    let all = lists.into_iter().flat_map(|(list, words)| words.iter().map(move |word| (list, word)));
    let idle = all.filter(|(_, word)| !names.iter().any(|name| name.contains(word.as_str())));
    let rule =
        |list, word| format!("no story is called like {word:?} in {list}: write its new name, or remove the word");
    idle.map(|(list, word)| Finding { path: MATRIX.to_owned(), line: 0, rule: rule(list, word) }).collect()
}

/// Every case has a story, and every story that the list names exists.
pub fn cases(texts: &[(String, String)]) -> Vec<Finding> {
    let finding = |line, rule| Finding { path: LIST.to_owned(), line, rule };
    let Some((_, list)) = texts.iter().find(|(path, _)| path == LIST) else {
        return vec![finding(0, "the list of cases is missing".to_owned())];
    };
    let there = stories(texts);
    let mut found = Vec::new();
    let mut listed = BTreeSet::new();
    for (i, line) in list.lines().enumerate() {
        let id = line.strip_prefix("| D").and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
        let Some(id) = id else { continue };
        listed.insert(id);
        let names: Vec<&str> = line.split('`').skip(1).step_by(2).filter(|name| id_of(name).is_some()).collect();
        if names.is_empty() {
            found.push(finding(i + 1, format!("case D{id} names no story")));
        }
        // `d11_*` stands for all that begin so.
        let exists = |name: &str| match name.strip_suffix('*') {
            Some(start) => there.iter().any(|story| story.starts_with(start)),
            None => there.contains(name),
        };
        let wrong = |name: &&&str| id_of(name) != Some(id) || !exists(name);
        for name in names.iter().filter(wrong) {
            found.push(finding(i + 1, format!("there is no story {name} for case D{id}")));
        }
    }
    let missing = (0..=LAST).filter(|id| !listed.contains(id));
    found.extend(missing.map(|id| finding(0, format!("case D{id} has no row"))));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_chooses_no_story_is_found() {
        let matrix = Matrix::load(&crate::cx::Cx::for_tests().root).unwrap();
        let idle = |keep: &dyn Fn(&str) -> bool| {
            let kept = matrix.smoke.iter().chain(&matrix.cases).filter(|word| keep(word));
            let texts: Vec<(String, String)> = kept
                .map(|word| {
                    // `a::b::c` is the beginning of a function in a/b.rs, `::d0_` one in any file.
                    let (module, function) = word.rsplit_once("::").unwrap();
                    let module = if module.is_empty() { "cases/mod".to_owned() } else { module.replace("::", "/") };
                    (format!("{STORIES}{module}.rs"), format!("#[test]\nfn {function}x() {{\n}}\n"))
                })
                .collect();
            let found = words(&matrix, &texts).into_iter();
            found.map(|finding| finding.rule.split_once(": ").unwrap().0.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(idle(&|_| true), [""; 0]);
        assert_eq!(
            idle(&|word| word != "ddl::a_table" && word != "::d8_"),
            ["no story is called like \"ddl::a_table\" in smoke", "no story is called like \"::d8_\" in cases"]
        );
    }

    #[test]
    fn a_case_without_a_story_and_a_story_that_is_gone_are_found() {
        let rows = |first: &str| {
            let others = (1..=LAST).map(|id| format!("| D{id} | x | y | `d{id}_x` |"));
            [first.to_owned()].into_iter().chain(others).collect::<Vec<_>>().join("\n")
        };
        let code: String = (0..=LAST).map(|id| format!("#[test]\nfn d{id}_x() {{}}\n")).collect();
        let found = |first: &str| {
            let texts = [(LIST.to_owned(), rows(first)), ("tests/stories/tests/a.rs".to_owned(), code.clone())];
            cases(&texts).into_iter().map(|finding| finding.rule).collect::<Vec<_>>()
        };
        assert_eq!(found("| D0 | x | y | `d0_x` |"), [""; 0]);
        assert_eq!(found("| D0 | x | y | `d0_*` |"), [""; 0]);
        assert_eq!(found("| D0 | x | y | |"), ["case D0 names no story"]);
        assert_eq!(found("| D0 | x | y | `d0_y` |"), ["there is no story d0_y for case D0"]);
        assert_eq!(found("| D0 | x | y | `d1_x` |"), ["there is no story d1_x for case D0"]);
        assert_eq!(found(""), ["case D0 has no row"]);
    }
}
