//! Is what was printed what a chapter shows? Widths of columns and empty lines do not count; `...` stands for anything, on a
//! line of its own for any number of lines.

use similar::TextDiff;

/// What stands for anything.
const ANYTHING: &str = "...";

/// `Err`: how they differ.
pub fn compare(shown: &str, printed: &str) -> Result<(), String> {
    let (want, got) = (lines(shown), lines(printed));
    if fits(&want, &got) {
        return Ok(());
    }
    let (want, got) = (want.join("\n") + "\n", got.join("\n") + "\n");
    let diff = TextDiff::from_lines(&want, &got);
    Err(diff.unified_diff().header("shown", "printed").context_radius(10).to_string())
}

/// Lines as they are compared: without space at the ends and more than one inside, rules as one dash.
fn lines(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let mut out = String::new();
        for word in line.split_whitespace() {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(word);
        }
        if !out.is_empty() && out.chars().all(|c| matches!(c, '-' | '+')) {
            let columns = out.split('+').count();
            out = vec!["-"; columns].join("+");
        }
        out
    };
    text.lines().map(line).filter(|line| !line.is_empty()).collect()
}

fn fits(want: &[String], got: &[String]) -> bool {
    match want.split_first() {
        None => got.is_empty(),
        Some((first, rest)) if first == ANYTHING => (0..=got.len()).any(|skip| fits(rest, &got[skip..])),
        Some((first, rest)) => got.split_first().is_some_and(|(line, more)| line_fits(first, line) && fits(rest, more)),
    }
}

fn line_fits(want: &str, got: &str) -> bool {
    let mut parts = want.split(ANYTHING);
    let first = parts.next().unwrap_or_default().trim_end();
    let Some(mut rest) = got.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts.map(str::trim) {
        if let Some(part) = last.replace(part) {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |part| rest.ends_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_do_not_count_and_dots_stand_for_anything() {
        let printed = " id |  name \n----+-------\n  1 | a\n(1 row)\n\n";
        for (shown, fits) in [
            (" id | name\n----+------\n 1 | a\n(1 row)\n", true),
            ("id | name\n---+---\n...\n", true),
            ("...\n 1 | ...\n(1 row)\n", true),
            ("...\n ... | b\n...\n", false),
            ("id | name\n---\n...\n", false),
            ("", false),
            ("...", true),
        ] {
            assert_eq!(compare(shown, printed).is_ok(), fits, "{shown}");
        }
        assert!(compare("a ... b ... c", "a 1 b 2 c").is_ok());
        assert!(compare("a ... b ... c", "a 1 c").is_err());
    }
}
