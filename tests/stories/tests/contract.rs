//! The SQL surface is the one that existing databases, scripts and peers rely on: `tests/contract` against a live server.

use std::collections::{BTreeMap, BTreeSet};

use spock_mesh::mesh::{MeshOptions, Stage};
use spock_mesh::session::Failure;
use spock_mesh::{Mesh, Node};

const FUNCTIONS: &str = include_str!("../../contract/functions.tsv");
const RELATIONS: &str = include_str!("../../contract/relations.tsv");
const SETTINGS: &str = include_str!("../../contract/settings.tsv");
const SYMBOLS: &str = include_str!("../../contract/symbols.tsv");
const DIFFERENCES: &str = include_str!("../../contract/differences.tsv");
const CALLS: &str = include_str!("../../contract/calls.tsv");

const LIVE_FUNCTIONS: &str = "select proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
    pg_get_function_arguments(p.oid), coalesce(pg_get_function_result(p.oid), ''), prokind, provolatile, proisstrict
    from pg_proc p where pronamespace = 'spock'::regnamespace";
const LIVE_RELATIONS: &str = "select c.relname || '.' || a.attname, c.relkind, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    coalesce((select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d where d.adrelid = a.attrelid and d.adnum = a.attnum), '')
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = 'spock'::regnamespace and c.relkind in ('r', 'v', 'S')";
const LIVE_SETTINGS: &str =
    "select name, vartype, context, coalesce(boot_val, ''), coalesce(min_val, ''), coalesce(max_val, ''),
    coalesce(enumvals::text, ''), coalesce(unit, '') from pg_settings where name like 'spock.%'";

const FUNCTION_FIELDS: [&str; 5] = ["arguments", "result", "kind", "volatility", "strict"];
const RELATION_FIELDS: [&str; 5] = ["kind", "number", "type", "not null", "default"];
const SETTING_FIELDS: [&str; 7] = ["type", "context", "boot value", "min", "max", "values", "unit"];

/// Name, and the fields behind it.
type Facts = BTreeMap<String, Vec<String>>;

fn rows(data: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    data.lines().map(|line| line.split('\t').collect())
}

fn live(node: &Node, sql: &str) -> Facts {
    let answer = spock_mesh::story::must(node.execute(sql));
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    answer.0.iter().map(|row| (text(&row[0]), row[1..].iter().map(text).collect())).collect()
}

fn owned(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|field| (*field).to_owned()).collect()
}

/// Compares each fact of the contract with the live one. Differences must be those of the list, each of which must be one.
fn compare(what: &str, fields: &[&str], contract: &Facts, live: &Facts) {
    let meant: BTreeMap<(&str, &str), &str> = rows(DIFFERENCES)
        .filter(|row| row[0] == what)
        .map(|row| {
            assert!(row.len() == 5 && row[4].len() > 10, "a difference has a reason: {row:?}");
            ((row[1], row[2]), row[3])
        })
        .collect();
    let (mut problems, mut used, mut equal) = (Vec::new(), BTreeSet::new(), 0);
    for (name, wanted) in contract {
        let Some(found) = live.get(name) else {
            problems.push(format!("{name}: not there"));
            continue;
        };
        for (n, field) in fields.iter().enumerate() {
            match (wanted[n] == found[n], meant.get(&(name, *field))) {
                (true, None) => equal += 1,
                (false, Some(ours)) if **ours == found[n] => {
                    used.insert((name.as_str(), *field));
                }
                (_, ours) => problems.push(format!(
                    "{name}, {field}: contract {:?}, here {:?}, listed as a difference {ours:?}",
                    wanted[n], found[n]
                )),
            }
        }
    }
    for entry in meant.keys().filter(|entry| !used.contains(*entry)) {
        problems.push(format!("{entry:?} is listed as a difference and is none"));
    }
    println!(
        "{what}: {} in the contract, {equal} facts equal, {} differ as meant, {} more here",
        contract.len(),
        used.len(),
        live.keys().filter(|name| !contract.contains_key(*name)).count()
    );
    assert!(problems.is_empty(), "{what}:\n{}", problems.join("\n"));
}

fn one_node() -> Mesh {
    Mesh::with(&MeshOptions { names: vec!["n1".into()], stage: Stage::Nodes, ..MeshOptions::default() })
}

/// Columns of ours behind those of the contract, by function or relation: clients name the columns that they read.
fn trailing(what: &str) -> Vec<(&'static str, &'static str, &'static str)> {
    let found: Vec<_> = rows(DIFFERENCES).filter(|row| row[0] == what).map(|row| (row[1], row[2], row[3])).collect();
    assert!(!found.is_empty(), "{what}");
    found
}

#[test]
fn functions_are_those_of_the_contract() {
    let mesh = one_node();
    let contract = rows(FUNCTIONS).map(|row| (format!("{}({})", row[0], row[1]), owned(&row[2..7]))).collect();
    let mut here = live(mesh.node("n1"), LIVE_FUNCTIONS);
    for (function, _, columns) in trailing("function column") {
        let (name, more) = (format!("{function}("), format!(", {columns}"));
        let key = here.keys().find(|key| key.starts_with(&name)).cloned();
        let mut facts =
            key.as_ref().and_then(|key| here.remove(key)).unwrap_or_else(|| panic!("{function} is not there"));
        let arguments =
            facts[0].strip_suffix(&more).unwrap_or_else(|| panic!("{function} does not end with {columns}"));
        facts[0] = arguments.to_owned();
        // Identities of functions name what they return, in some majors.
        here.insert(key.unwrap_or_default().replace(&more, ""), facts);
    }
    compare("function", &FUNCTION_FIELDS, &contract, &here);
}

#[test]
fn relations_have_the_columns_of_the_contract() {
    let mesh = one_node();
    let contract: Facts = rows(RELATIONS)
        .map(|row| {
            let mut fields = owned(&[row[1], row[2], row[4], row[5]]);
            fields.push(row.get(6).copied().unwrap_or_default().to_owned());
            (format!("{}.{}", row[0], row[3]), fields)
        })
        .collect();
    let here = live(mesh.node("n1"), LIVE_RELATIONS);
    compare("relation", &RELATION_FIELDS, &contract, &here);
    let relation = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let of_contract: BTreeSet<String> = contract.keys().map(|name| relation(name)).collect();
    let more = here.keys().filter(|name| !contract.contains_key(*name) && of_contract.contains(&relation(name)));
    let meant: BTreeMap<String, &str> = trailing("relation column")
        .into_iter()
        .map(|(relation, kind, column)| (format!("{relation}.{column}"), kind))
        .collect();
    let names: BTreeSet<String> = meant.keys().cloned().collect();
    assert_eq!(more.cloned().collect::<BTreeSet<_>>(), names, "columns of ours in relations of the contract");
    for (name, kind) in &meant {
        assert_eq!(here[name][2], *kind, "type of {name}");
        let number = |facts: &[String]| facts[1].parse::<u32>().unwrap_or_default();
        let before = contract.iter().filter(|(other, _)| relation(other) == relation(name));
        assert!(before.map(|(_, facts)| number(facts)).max() < Some(number(&here[name])), "{name} is not behind them");
    }
}

#[test]
fn settings_are_those_of_the_contract() {
    let mesh = one_node();
    let contract = rows(SETTINGS)
        .map(|row| (row[0].to_owned(), (1..8).map(|n| row.get(n).copied().unwrap_or_default().to_owned()).collect()))
        .collect();
    compare("setting", &SETTING_FIELDS, &contract, &live(mesh.node("n1"), LIVE_SETTINGS));
}

/// Rows of `pg_proc` that an earlier version left name these, before any upgrade script has run.
#[test]
fn the_library_has_every_symbol_that_earlier_catalogs_name() {
    let mesh = one_node();
    let node = mesh.node("n1");
    let mut problems = Vec::new();
    let mut found = 0;
    for row in rows(SYMBOLS) {
        // The server looks the symbol up, and its calling convention, when it makes the function.
        for library in ["$libdir/spock", "spock"] {
            let made = node.execute(&format!(
                "create or replace function pg_temp.probe() returns void as '{library}', '{}' language c",
                row[0]
            ));
            match made {
                Ok(_) => found += 1,
                Err(error) => problems.push(error.to_string()),
            }
        }
    }
    println!("symbols: {} of {} found under both names of the library", found / 2, rows(SYMBOLS).count());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// One row of `calls.tsv`.
struct Trial {
    function: &'static str,
    call: &'static str,
    as_superuser: &'static str,
    as_monitor: &'static str,
}

fn trials() -> Vec<Trial> {
    let trial = |row: Vec<&'static str>| {
        let [function, call, as_superuser, as_monitor] = row[..] else { panic!("four columns: {row:?}") };
        Trial { function, call, as_superuser, as_monitor }
    };
    rows(CALLS).map(trial).collect()
}

/// SQLSTATE of a call; `00000` when it succeeds. What it changed is rolled back, except by a procedure, which may not be in
/// a transaction block.
fn outcome(node: &Node, role: &str, call: &str) -> String {
    let mut session = spock_mesh::story::must(node.connect("postgres"));
    let block = !call.starts_with("call ");
    let mut run = |sql: &str| match session.run(sql) {
        Ok(_) => "00000".to_owned(),
        Err(Failure::Sql(error)) => error.code,
        Err(Failure::Lost(why)) => panic!("{call}: the server went away: {why}"),
    };
    for preparation in [format!("set role {role}"), if block { "begin".to_owned() } else { String::new() }] {
        assert_eq!(run(&preparation), "00000", "{preparation}");
    }
    run(call)
}

#[test]
fn every_function_can_be_called_and_privileges_come_first() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("acct (id int primary key)");
    let node = mesh.node("n1");
    node.sql("create table part (id int primary key) partition by list (id); create table part_1 partition of part for values in (1)")
        .sql("create sequence ticket");
    let mut live: BTreeSet<String> = spock_mesh::story::must(
        node.execute("select p.oid::regprocedure::text from pg_proc p where pronamespace = 'spock'::regnamespace"),
    )
    .0
    .into_iter()
    .filter_map(|row| row.into_iter().next().flatten())
    .collect();
    let mut problems = Vec::new();
    let trials = trials();
    for trial in &trials {
        if !live.remove(trial.function) {
            problems.push(format!("{} is in the table and not in the catalogs", trial.function));
            continue;
        }
        for (role, wanted) in [("postgres", trial.as_superuser), ("spock_monitor", trial.as_monitor)] {
            let got = outcome(node, role, trial.call);
            if got != wanted {
                problems.push(format!("{} as {role}: wanted {wanted}, got {got}", trial.call));
            }
        }
    }
    problems.extend(live.iter().map(|function| format!("{function} has no row in tests/contract/calls.tsv")));
    println!("calls: {} functions, each as a superuser and as spock_monitor", trials.len());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
