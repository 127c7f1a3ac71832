//! What is said about each object, and what the SQL contract knows of it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `manual/reference.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// Groups of functions, in order.
    pub section: Vec<Section>,
    /// Tables and views by name.
    pub relation: BTreeMap<String, Relation>,
}

/// A group of functions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// By name; overloads share an entry.
    pub function: BTreeMap<String, Function>,
}

/// A function.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// What it does.
    pub does: String,
    /// What each argument is, with its unit.
    #[serde(default)]
    pub arguments: BTreeMap<String, String>,
    /// Who may call it, where the contract does not tell.
    pub who: Option<String>,
    /// SQLSTATE, and when.
    #[serde(default)]
    pub errors: BTreeMap<String, String>,
}

/// A table or view.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relation {
    /// What it holds.
    pub does: String,
    /// What each column is.
    pub columns: BTreeMap<String, String>,
}

/// Reads `manual/reference.toml`.
pub fn read(text: &str) -> Result<Words, String> {
    toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
}

/// Who may call a function, as the contract's test has seen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Superusers and members of `spock_admin`.
    Administrator,
    /// Everybody who may use the schema.
    Monitor,
}

/// By `name(types)`: whether a member of `spock_monitor` is refused with 42501.
pub fn rights(calls: &str) -> BTreeMap<String, Right> {
    calls
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [function, _, _, monitor] = fields.as_slice() else { return None };
            let right = if *monitor == "42501" { Right::Administrator } else { Right::Monitor };
            Some(((*function).to_owned(), right))
        })
        .collect()
}

/// Columns of views: name and type, in order. `relations`: as the contract has them; `differences`: those of ours behind them.
pub fn view_columns(relations: &str, differences: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut views: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for line in relations.lines().chain(differences.lines()) {
        let fields: Vec<&str> = line.split('\t').collect();
        let ([name, "v", _, column, kind, ..] | ["relation column", name, kind, column, _]) = fields.as_slice() else {
            continue;
        };
        views.entry((*name).to_owned()).or_default().push(((*column).to_owned(), (*kind).to_owned()));
    }
    views
}
