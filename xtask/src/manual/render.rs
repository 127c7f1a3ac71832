//! The generated chapters as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::reference::{self, Right, Words};
use super::script::{Function, Script};
use super::settings::{Kind, Setting};

type Views = BTreeMap<String, Vec<(String, String)>>;

const HEAD: &str = "<!-- Written by `cargo xtask manual` from the install script, the SQL contract, the settings' definitions and \
                    manual/reference.toml. -->\n";

/// The chapter of functions, views and tables.
pub fn functions(
    script: &Script,
    words: &Words,
    rights: &BTreeMap<String, Right>,
    views: &Views,
) -> Result<String, String> {
    complete(script, words)?;
    let mut out = format!(
        "# Functions, views and tables\n\n{HEAD}\n\
         All of them are in the schema `spock`. Each function says who may call it; nobody but superusers and members of\n\
         `spock_admin` and `spock_monitor` may use the schema unless you grant it. Functions that change something are refused\n\
         with 42501 to everybody else. Errors are listed by SQLSTATE; arguments that are NULL where they must not be give 22004.\n\
         Settings have [a chapter of their own](settings.md).\n"
    );
    for section in &words.section {
        let _ = write!(out, "\n## {}\n", section.title);
        for (name, about) in &section.function {
            let all: Vec<&Function> = script.functions.iter().filter(|function| function.name == *name).collect();
            one_function(&mut out, name, &all, about, rights)?;
        }
    }
    relations(&mut out, script, words, views)?;
    Ok(out)
}

/// Every object has words, and all words have an object.
fn complete(script: &Script, words: &Words) -> Result<(), String> {
    let said = |name: &str| words.section.iter().any(|section| section.function.contains_key(name));
    if let Some(function) = script.functions.iter().find(|function| !said(&function.name)) {
        return Err(format!("nothing is said about the function {}", function.name));
    }
    for (name, about) in words.section.iter().flat_map(|section| &section.function) {
        let all: Vec<&Function> = script.functions.iter().filter(|function| function.name == *name).collect();
        if all.is_empty() {
            return Err(format!("the install script has no function {name}"));
        }
        let has = |argument: &str| all.iter().any(|one| one.arguments.iter().any(|other| other == argument));
        if let Some(stale) = about.arguments.keys().find(|argument| !has(argument)) {
            return Err(format!("{name} has no argument {stale}"));
        }
        let silent =
            all.iter().flat_map(|one| &one.arguments).find(|argument| !about.arguments.contains_key(*argument));
        if let Some(silent) = silent {
            return Err(format!("nothing is said about the argument {silent} of {name}"));
        }
    }
    let relations = script.tables.keys().chain(&script.views);
    if let Some(name) = relations.into_iter().find(|name| !words.relation.contains_key(*name)) {
        return Err(format!("nothing is said about the relation {name}"));
    }
    match words.relation.keys().find(|name| !script.tables.contains_key(*name) && !script.views.contains(name)) {
        Some(name) => Err(format!("the install script has no relation {name}")),
        None => Ok(()),
    }
}

fn one_function(
    out: &mut String,
    name: &str,
    all: &[&Function],
    about: &reference::Function,
    rights: &BTreeMap<String, Right>,
) -> Result<(), String> {
    let _ = write!(out, "\n### {name}\n\n```text\n");
    for function in all {
        let _ = writeln!(out, "{}", wrapped(&function.signature));
    }
    let _ = write!(out, "```\n\n{}\n\n", about.does);
    let mut arguments: Vec<&String> = Vec::new();
    for argument in all.iter().flat_map(|function| &function.arguments) {
        if !arguments.contains(&argument) {
            arguments.push(argument);
        }
    }
    for argument in arguments {
        let _ = writeln!(out, "- `{argument}`: {}", about.arguments[argument]);
    }
    if !about.arguments.is_empty() {
        out.push('\n');
    }
    let first = all.first().ok_or("no function")?;
    let key = format!("spock.{name}({})", first.types.join(","));
    let right = rights.get(&key).ok_or_else(|| format!("tests/contract/calls.tsv has no call of {key}"))?;
    let who = about.who.as_deref().unwrap_or(match right {
        Right::Administrator => "Superusers and members of `spock_admin`.",
        Right::Monitor => "Whoever may use the schema, members of `spock_monitor` among them.",
    });
    let _ = writeln!(out, "Who: {who}");
    if !about.errors.is_empty() {
        let errors: Vec<String> = about.errors.iter().map(|(code, when)| format!("{code} {when}")).collect();
        let _ = writeln!(out, "\nErrors: {}.", errors.join("; "));
    }
    Ok(())
}

/// A signature with an argument a line where it is long.
fn wrapped(signature: &str) -> String {
    const WIDTH: usize = 100;
    if signature.len() <= WIDTH {
        return signature.to_owned();
    }
    let mut out = String::new();
    let mut width = 0;
    for word in signature.split_inclusive(", ") {
        if width + word.len() > WIDTH {
            out.truncate(out.trim_end().len());
            out.push_str("\n    ");
            width = 4;
        }
        out.push_str(word);
        width += word.len();
    }
    out
}

fn relations(out: &mut String, script: &Script, words: &Words, views: &Views) -> Result<(), String> {
    out.push_str(
        "\n## Views and tables\n\nTables are the extension's own: read them, and change them with functions. Members of\n\
         `spock_monitor` and `spock_admin` may read those without secrets or values of rows.\n",
    );
    for (name, about) in &words.relation {
        let known = script.tables.get(name).map(|table| &table.columns).or_else(|| views.get(name));
        let _ = write!(out, "\n### spock.{name}\n\n{}\n\n| column | type | |\n|---|---|---|\n", about.does);
        let columns: Vec<(String, String)> = match known {
            Some(columns) => columns.clone(),
            // A view that the C edition does not have: its columns are those that are said something about.
            None => about.columns.keys().map(|column| (column.clone(), String::new())).collect(),
        };
        for (column, kind) in &columns {
            let text = about.columns.get(column).ok_or_else(|| format!("nothing is said about {name}.{column}"))?;
            let kind = if kind.is_empty() { String::new() } else { format!("`{kind}`") };
            let _ = writeln!(out, "| `{column}` | {kind} | {text} |");
        }
        if let Some(stale) = about.columns.keys().find(|column| !columns.iter().any(|(name, _)| name == *column)) {
            return Err(format!("{name} has no column {stale}"));
        }
    }
    Ok(())
}

/// The chapter of settings.
pub fn settings(settings: &[Setting]) -> String {
    let mut out = format!(
        "# Settings\n\n{HEAD}{}\n\
         Those of the C edition have the same names, types and ranges. A misspelt one is reported when the server starts.\n\
         \"Changes with\" says what makes a new value count: a `restart`, a `reload` of the configuration, or `SET` at any time.\n\n\
         What the server itself needs is in [Basic configuration and usage](usage.md#settings-of-the-server).\n",
        compared_with_a_server(settings)
    );
    for setting in settings {
        let values = match &setting.kind {
            Kind::Switch => "on, off".to_owned(),
            Kind::Text => "text".to_owned(),
            Kind::Words(words) => words.join(", "),
            Kind::Number(min, max) => match *max == i64::from(i32::MAX) {
                true => format!("{min} or more"),
                false => format!("{min} to {max}"),
            },
        };
        let unit = if setting.unit.is_empty() { String::new() } else { format!(", in {}", setting.unit) };
        let default = if setting.default.is_empty() { "empty".to_owned() } else { format!("`{}`", setting.default) };
        let long = if setting.long.is_empty() { String::new() } else { format!(" {}", setting.long) };
        let _ = write!(
            out,
            "\n### {}\n\n{}{long}\n\nValues: {values}{unit}. Default: {default}. Changes with: {}.\n",
            setting.name,
            setting.short,
            changes_with(setting.context)
        );
    }
    out
}

fn changes_with(context: &str) -> &'static str {
    match context {
        "internal" => "nothing, it only shows something",
        "postmaster" => "restart",
        "sighup" => "reload",
        "backend" => "new connections",
        "superuser" => "`SET`, by superusers",
        _ => "`SET`, by everybody",
    }
}

/// A block that readers do not see: a server has these settings, and no others.
fn compared_with_a_server(settings: &[Setting]) -> String {
    let row = |setting: &Setting| {
        let (min, max) = match setting.kind {
            Kind::Number(min, max) => (min.to_string(), max.to_string()),
            _ => (String::new(), String::new()),
        };
        let fields = [&setting.name, setting.context, setting.unit, &min, &max, &setting.default];
        format!("('{}')", fields.map(|field| field.replace('\'', "''")).join("', '"))
    };
    let rows: Vec<String> = settings.iter().map(row).collect();
    format!(
        "<!-- cluster: n1 -->\n<!-- run sql node=n1\n\
         create temp table written (name text, context text, unit text, min text, max text, boot text);\n\
         insert into written values\n{};\n\
         create temp view there as\n    \
             select name, context, coalesce(unit, '') as unit, case when vartype = 'integer' then min_val else '' end as min,\n           \
                    case when vartype = 'integer' then max_val else '' end as max, coalesce(boot_val, '') as boot\n      \
               from pg_settings where name like 'spock.%';\n\
         do $$\nbegin\n    \
             if exists (table written except table there) or exists (table there except table written) then\n        \
                 raise exception 'the server has other settings: %',\n            \
                     (select json_agg(d) from ((table written except table there) union all (table there except table written)) d);\n    \
             end if;\nend\n$$;\n-->\n",
        rows.join(",\n")
    )
}
