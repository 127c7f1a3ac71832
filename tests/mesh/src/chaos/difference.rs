//! Comparing what nodes hold, and what they should hold. Values in, differences out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One table of one node: each key with its row, both as text. A key that is there several times has several rows.
pub type Held = BTreeMap<String, Vec<String>>;

/// A key whose rows are not the same on two nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The table.
    pub table: String,
    /// The key.
    pub key: String,
    /// A node, and its rows.
    pub one: (String, Vec<String>),
    /// Another node, and its rows.
    pub other: (String, Vec<String>),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {}:", self.table, self.key)?;
        for (node, rows) in [&self.one, &self.other] {
            let shown = if rows.is_empty() { "no row".to_owned() } else { rows.join(" and ") };
            write!(f, " {node} has {};", shortened(&shown))?;
        }
        Ok(())
    }
}

/// Rows with out-of-line values are long.
fn shortened(text: &str) -> String {
    const CHARACTERS_MAX: usize = 160;
    if text.chars().count() <= CHARACTERS_MAX {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(CHARACTERS_MAX).collect::<String>())
}

/// All keys whose rows differ between two nodes, in the order of the keys.
pub fn between(table: &str, one: (&str, &Held), other: (&str, &Held)) -> Vec<Difference> {
    let keys: BTreeSet<&String> = one.1.keys().chain(other.1.keys()).collect();
    let rows = |held: &Held, key: &String| {
        let mut rows = held.get(key).cloned().unwrap_or_default();
        rows.sort();
        rows
    };
    keys.into_iter()
        .map(|key| Difference {
            table: table.to_owned(),
            key: key.clone(),
            one: (one.0.to_owned(), rows(one.1, key)),
            other: (other.0.to_owned(), rows(other.1, key)),
        })
        .filter(|found| found.one.1 != found.other.1)
        .collect()
}

/// What is wrong with the numbers that a node holds of one client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Acknowledged, and not there.
    pub lost: Vec<i64>,
    /// There more than once.
    pub twice: Vec<i64>,
    /// There, and neither acknowledged nor in doubt.
    pub invented: Vec<i64>,
}

/// Compares the numbers that were found with those that were acknowledged or are in doubt.
pub fn audit(found: &[i64], acknowledged: &BTreeSet<i64>, in_doubt: &BTreeSet<i64>) -> Audit {
    let mut seen = BTreeSet::new();
    let twice = found.iter().copied().filter(|number| !seen.insert(*number)).collect::<BTreeSet<_>>();
    Audit {
        lost: acknowledged.difference(&seen).copied().collect(),
        twice: twice.into_iter().collect(),
        invented: seen.iter().copied().filter(|n| !acknowledged.contains(n) && !in_doubt.contains(n)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(rows: &[(&str, &str)]) -> Held {
        let mut held = Held::new();
        for (key, row) in rows {
            held.entry((*key).to_owned()).or_default().push((*row).to_owned());
        }
        held
    }

    #[test]
    fn only_other_rows_differ() {
        let one = held(&[("1", "a"), ("2", "b"), ("3", "c"), ("5", "x"), ("5", "y")]);
        let other = held(&[("1", "a"), ("2", "B"), ("4", "d"), ("5", "y"), ("5", "x")]);
        let found = between("t", ("n1", &one), ("n2", &other));
        assert_eq!(found.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["2", "3", "4"]);
        assert_eq!(found[1].to_string(), "t key 3: n1 has c; n2 has no row;");
        assert_eq!(between("t", ("n1", &one), ("n2", &one)), []);
    }

    #[test]
    fn a_row_that_is_there_twice_differs_from_one() {
        let found = between("t", ("n1", &held(&[("1", "a"), ("1", "a")])), ("n2", &held(&[("1", "a")])));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn long_rows_are_shortened() {
        let long = "x".repeat(5000);
        let found = between("t", ("n1", &held(&[("1", &long)])), ("n2", &Held::new()));
        assert!(found[0].to_string().len() < 300);
    }

    #[test]
    fn a_ledger_names_what_is_lost_twice_and_invented() {
        let set = |numbers: &[i64]| numbers.iter().copied().collect::<BTreeSet<i64>>();
        let cases = [
            (vec![1, 2, 3], set(&[1, 2, 3]), set(&[]), Audit::default()),
            (vec![1, 3, 4], set(&[1, 3]), set(&[4, 5]), Audit::default()),
            (vec![1], set(&[1, 2]), set(&[]), Audit { lost: vec![2], ..Audit::default() }),
            (vec![1, 2, 2, 2], set(&[1, 2]), set(&[]), Audit { twice: vec![2], ..Audit::default() }),
            (vec![1, 9], set(&[1]), set(&[8]), Audit { invented: vec![9], ..Audit::default() }),
        ];
        for (found, acknowledged, in_doubt, want) in cases {
            assert_eq!(audit(&found, &acknowledged, &in_doubt), want, "{found:?}");
        }
    }
}
