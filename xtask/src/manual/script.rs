//! The objects of the install script. It is written by hand in one style, which is what this reads: a statement begins at
//! the start of a line, bodies stand between `$$`, columns have a line each.

use std::collections::BTreeMap;

/// A function, procedure or aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Without schema.
    pub name: String,
    /// `function`, `procedure` or `aggregate`.
    pub kind: &'static str,
    /// As in the script, on one line: `node_create(node_name name, ...) RETURNS oid`.
    pub signature: String,
    /// Names of what a caller gives.
    pub arguments: Vec<String>,
    /// Types of the input arguments, as `regprocedure` writes them after [`full_type`].
    pub types: Vec<String>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Name and type of each column.
    pub columns: Vec<(String, String)>,
}

/// What the script makes.
#[derive(Debug, Default)]
pub struct Script {
    /// In order, overloads one after another.
    pub functions: Vec<Function>,
    /// By name.
    pub tables: BTreeMap<String, Table>,
    /// Names.
    pub views: Vec<String>,
}

/// Reads it.
pub fn read(text: &str) -> Result<Script, String> {
    let mut script = Script::default();
    let lines: Vec<&str> = text.lines().collect();
    for (n, line) in lines.iter().enumerate() {
        if let Some(rest) = line.strip_prefix("CREATE TABLE spock.") {
            let name = rest.split([' ', '(']).next().unwrap_or_default();
            let columns =
                lines[n + 1..].iter().take_while(|line| !line.starts_with(')')).filter_map(|line| column(line));
            script.tables.insert(name.to_owned(), Table { columns: columns.collect() });
        } else if let Some(rest) = line.strip_prefix("CREATE VIEW spock.") {
            script.views.push(rest.split(' ').next().unwrap_or_default().to_owned());
        } else if let Some((kind, _)) = callable(line) {
            script.functions.push(function(kind, &lines[n..]).ok_or_else(|| format!("line {}: {line}", n + 1))?);
        }
    }
    if script.functions.is_empty() || script.tables.is_empty() {
        Err("it has no objects".to_owned())
    } else {
        Ok(script)
    }
}

fn callable(line: &str) -> Option<(&'static str, &str)> {
    let rest = line.strip_prefix("CREATE ")?;
    [("FUNCTION spock.", "function"), ("PROCEDURE spock.", "procedure"), ("AGGREGATE spock.", "aggregate")]
        .iter()
        .find_map(|(prefix, kind)| Some((*kind, rest.strip_prefix(prefix)?)))
}

fn column(line: &str) -> Option<(String, String)> {
    let line = line.trim().trim_end_matches(',');
    let (name, rest) = line.split_once(' ')?;
    if name.starts_with(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    let ends = [" NOT NULL", " REFERENCES", " DEFAULT", " CHECK", " PRIMARY", " UNIQUE", " GENERATED"];
    let end = ends.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
    Some((name.to_owned(), rest[..end].to_owned()))
}

fn function(kind: &'static str, lines: &[&str]) -> Option<Function> {
    let (_, first) = callable(lines.first()?)?;
    let mut text = first.to_owned();
    let ends = |text: &str| text.starts_with("AS ") || text.starts_with("LANGUAGE ") || text.starts_with("    STYPE");
    for line in lines[1..].iter().take_while(|line| !ends(line)) {
        text.push(' ');
        text.push_str(line.trim());
    }
    // An aggregate's definition, and the trigger's language, begin on the same line.
    let text = text.split(" LANGUAGE ").next().unwrap_or_default().trim_end_matches(" (").trim().to_owned();
    let open = text.find('(')?;
    let name = text[..open].trim().to_owned();
    let close = closing(&text, open)?;
    let (mut arguments, mut types) = (Vec::new(), Vec::new());
    for argument in split_arguments(&text[open + 1..close]) {
        if argument.starts_with("OUT ") {
            continue;
        }
        let argument = argument.strip_prefix("ORDER BY ").unwrap_or(argument);
        let argument = argument.split(" DEFAULT ").next().unwrap_or_default().trim();
        // A type of two words without a name: double precision.
        let (name, type_name) = match argument.split_once(' ') {
            Some(("double", _)) | None => ("", argument),
            Some((name, type_name)) => (name, type_name),
        };
        if !name.is_empty() {
            arguments.push(name.to_owned());
        }
        types.push(full_type(type_name));
    }
    Some(Function { name, kind, signature: text, arguments, types })
}

/// Where the bracket that opens at `open` closes.
fn closing(text: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (i, c) in text.char_indices().skip_while(|(i, _)| *i < open) {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return Some(i),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Arguments, split at commas that are neither in brackets nor in a string.
fn split_arguments(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0_i32, false);
    for (i, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// The server's own name of a type.
fn full_type(name: &str) -> String {
    let (name, array) = name.strip_suffix("[]").map_or((name, ""), |name| (name, "[]"));
    let full = match name {
        "timestamptz" => "timestamp with time zone",
        "int" => "integer",
        "bool" => "boolean",
        other => other,
    };
    format!("{full}{array}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_install_script_is_read() {
        let script = read(include_str!("../../../extension/sql/spock--7.0.0.sql")).unwrap();
        let create = script.functions.iter().find(|function| function.name == "node_create").unwrap();
        assert_eq!(create.arguments, ["node_name", "dsn", "location", "country", "info"]);
        assert!(create.signature.ends_with("info jsonb DEFAULT NULL) RETURNS oid"), "{}", create.signature);
        let wait: Vec<_> = script.functions.iter().filter(|one| one.name == "wait_for_sync_event").collect();
        assert_eq!((wait.len(), wait[0].kind), (2, "procedure"));
        assert_eq!(wait[0].types.join(","), "oid,pg_lsn,integer,boolean");
        let delta = script.functions.iter().filter(|one| one.name == "delta_apply").count();
        assert_eq!(delta, 8, "one for each of seven types, and the one that sets a column up");
        assert!(script.views.contains(&"progress".to_owned()));
        let node: Vec<_> = script.tables["node"].columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        assert_eq!(node, ["node_id oid", "node_name name", "location text", "country text", "info jsonb"]);
        for name in ["md5_agg", "replicate_ddl", "read_peer_progress", "diff"] {
            assert!(script.functions.iter().any(|one| one.name == name), "{name}");
        }
    }
}
