//! The script that upgrades to the current version ends with the functions, views and privileges of the install script.
//!
//! **Invariants.** The text is written once, in the install script, so an upgraded database cannot have other functions than
//! a new one. In an upgrade each object is replaced where it stands: what users built on it and granted on it stays.

/// The line of an upgrade script that stands for the end of the install script. No server would take it for SQL.
const PLACE: &str = "\\functions_and_views";
/// The line of the install script behind which everything can run again.
const MARKER: &str = "-- Functions, views and privileges:";
/// What can be created where it exists already.
const REPLACEABLE: [&str; 5] = ["FUNCTION", "PROCEDURE", "VIEW", "AGGREGATE", "TRIGGER"];
/// Statements that change tables or rows: they have no place there.
const CHANGES: [&str; 5] = ["INSERT ", "UPDATE ", "DELETE ", "ALTER ", "DROP "];

/// The upgrade script `upgrade` as it is installed beside the install script `base`. A script without the place is complete.
pub fn complete(upgrade: &str, base: &str) -> Result<String, String> {
    if !upgrade.lines().any(|line| line == PLACE) {
        return Ok(upgrade.to_owned());
    }
    let tail = repeatable_part(base)?;
    let lines = upgrade.lines().map(|line| if line == PLACE { tail.trim_end() } else { line });
    Ok(lines.collect::<Vec<_>>().join("\n") + "\n")
}

/// What stands behind the marker, with each CREATE as CREATE OR REPLACE.
fn repeatable_part(base: &str) -> Result<String, String> {
    let at = base.lines().position(|line| line.starts_with(MARKER));
    let at = at.ok_or_else(|| format!("the install script has no line that begins with \"{MARKER}\""))?;
    let mut out = String::new();
    let mut in_body = false;
    for (number, line) in base.lines().enumerate().skip(at) {
        let starts_a_statement = !in_body && line.starts_with(|c: char| c.is_ascii_uppercase());
        // A body is quoted with $$ and begins and ends on lines of its own, or on one line.
        in_body ^= line.matches("$$").count() % 2 == 1;
        let created = line.strip_prefix("CREATE ").filter(|_| starts_a_statement);
        match created {
            Some(rest) if REPLACEABLE.iter().any(|kind| rest.starts_with(kind)) => {
                out.push_str("CREATE OR REPLACE ");
                out.push_str(rest);
            }
            None if !(starts_a_statement && CHANGES.iter().any(|word| line.starts_with(word))) => out.push_str(line),
            _ => return Err(format!("line {} of the install script cannot run again: {line}", number + 1)),
        }
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "CREATE TABLE t ();\n-- Functions, views and privileges: x\nCREATE FUNCTION f() AS $$\nCREATE FUNCTION g()\n$$;\nCREATE VIEW v AS\n    SELECT 1;\nGRANT SELECT ON v TO r;\n";

    #[test]
    fn the_place_is_filled_with_statements_that_replace() {
        let got = complete("DROP TABLE old;\n\\functions_and_views\n", BASE);
        let want = "DROP TABLE old;\n-- Functions, views and privileges: x\nCREATE OR REPLACE FUNCTION f() AS $$\nCREATE FUNCTION g()\n$$;\nCREATE OR REPLACE VIEW v AS\n    SELECT 1;\nGRANT SELECT ON v TO r;\n";
        assert_eq!(got.as_deref(), Ok(want));
        assert_eq!(complete("SELECT 1;\n", BASE).as_deref(), Ok("SELECT 1;\n"));
    }

    #[test]
    fn what_cannot_run_again_is_refused() {
        for line in
            ["CREATE TABLE u ();", "CREATE INDEX ON t (a);", "ALTER TABLE t ADD a int;", "INSERT INTO t VALUES (1);"]
        {
            assert!(complete(PLACE, &format!("{BASE}{line}\n")).is_err(), "{line}");
        }
        assert!(complete(PLACE, "CREATE TABLE t ();\n").is_err(), "no marker");
    }

    /// The scripts as they are: what is added to the install script below the marker reaches upgraded databases.
    #[test]
    fn the_shipped_upgrade_is_complete() {
        let base = include_str!("../../extension/sql/spock--7.0.0.sql");
        let upgrade = include_str!("../../extension/sql/spock--6.0.0--7.0.0.sql");
        let script = complete(upgrade, base).unwrap();
        assert!(script.contains("\nCREATE OR REPLACE FUNCTION spock.node_create("));
        assert!(!script.contains("\nCREATE FUNCTION "));
    }
}
