//! The cases of `docs/convergence.md` and the stories whose names begin with their ids belong together.

use std::collections::BTreeSet;

use super::Finding;

const LIST: &str = "docs/convergence.md";
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
        .filter(|(path, _)| path.starts_with("tests/stories/") && path.ends_with(".rs"))
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| line.strip_prefix("fn ")?.split('(').next())
        .filter(|name| id_of(name).is_some())
        .collect()
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
