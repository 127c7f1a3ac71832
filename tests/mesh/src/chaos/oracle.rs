//! The checkers: each answers one question about the mesh after it was healed, from what nodes hold, what clients were told,
//! and what was logged. None knows what the transactions were about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::client::{Book, Watch};
use super::difference::{self, Held};
use super::stage::Counts;
use super::workload::{TABLES, Table};
use crate::error::MeshError;
use crate::log;
use crate::node::Node;
use crate::topology::{self, literal};
use crate::wait::{Deadline, Probe, wait_until};

/// Faults of one kind that are shown; how many more there are is said.
const SHOWN_MAX: usize = 8;
/// Slots and origins of what was dropped go within this time.
const LEFTOVERS_LIMIT_S: u64 = 15;

/// Displaced rows that can come back do within this time.
const DISPLACED_LIMIT_S: u64 = 30;

/// What a run may log at WARNING or above because of what was done to it, beside what every story may.
const ALLOWED: [&str; 43] = [
    // Processes were killed, servers stopped.
    "terminating connection because of crash of another server process",
    "was terminated by signal 9",
    "database system was interrupted",
    "database system was not properly shut down",
    "terminating connection due to immediate shutdown command",
    "terminating autovacuum process due to administrator command",
    "terminating connection because of unexpected",
    "server closed the connection unexpectedly",
    "could not connect to provider",
    "could not connect to",
    "connection to provider",
    "could not receive data from client",
    "could not send data to client",
    "unexpected EOF on",
    "connection to client lost",
    "lost connection",
    "connection to server at",
    "terminating walsender process due to replication timeout",
    "terminating background worker",
    "recovery is in progress",
    "the connection that keeps the provider's snapshot was lost",
    "no more data from the provider",
    "the provider ended the stream",
    "could not read the provider's",
    // The server that kept it for a copy was stopped.
    "ERROR:  snapshot \"",
    "is active for PID",
    // A subscriber has more than its slot says: the slot moves on at its word, and a checkpoint takes what the sender still reads. The
    // next one begins later. A slot that lost something fails "settled".
    "requested WAL segment",
    "canceling statement due to user request",
    // Transactions of several clients met.
    "deadlock detected",
    "duplicate key value violates unique constraint",
    "could not serialize access",
    "current transaction is aborted",
    "could not obtain lock",
    "a key was removed here, or added to, while a row of it was being inserted",
    // A node left while a provider was away, or joins.
    "will be tried again",
    "is tried again",
    "initial copy",
    "apply workers go on although",
    "the provider's apply workers had gone on before its snapshot was taken",
    "there is no transaction in progress",
    // Clocks were moved by more than the limit.
    "the clock of node",
    // The server's own launcher, when the clock jumps or processes are frozen.
    "autovacuum worker took too long to start",
    // Vacuum gives way to a TRUNCATE.
    "canceling autovacuum task",
];

/// A checker's answer.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The checker.
    pub name: &'static str,
    /// What it checks, completed from "checks that".
    pub claim: &'static str,
    /// What is wrong; empty when all is well.
    pub faults: Vec<String>,
}

impl Verdict {
    fn of(name: &'static str, claim: &'static str, faults: Vec<String>) -> Self {
        Self { name, claim, faults }
    }

    /// Nothing is wrong.
    pub fn good(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<14} {}", self.name, if self.good() { "good" } else { "FAILED" })?;
        for fault in self.faults.iter().take(SHOWN_MAX) {
            write!(f, "\n    {}", fault.replace('\n', "\n    "))?;
        }
        match self.faults.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n    and {more} more"),
        }
    }
}

/// Everything that the checkers look at.
pub struct Evidence<'a> {
    /// The nodes that belong to the mesh at the end.
    pub members: Vec<&'a Node>,
    /// Those of them that began with a copy of another node.
    pub copies: Vec<&'a str>,
    /// All servers, whose logs are read.
    pub servers: Vec<&'a Node>,
    /// Each member's subscriptions: name and provider.
    pub subscriptions: Vec<(&'a Node, Vec<(String, &'a Node)>)>,
    /// What clients were told.
    pub books: &'a [Book],
    /// What watchers saw.
    pub watches: &'a [Watch],
    /// What went wrong with the node that joins.
    pub incidents: &'a [String],
    /// Why the mesh did not settle; none when it did.
    pub unsettled: Option<String>,
}

/// Asks all checkers.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Verdict> {
    let founders = evidence.members.iter().filter(|node| !evidence.copies.contains(&node.name()));
    wait_for_displaced(&founders.copied().collect::<Vec<_>>());
    let held = evidence
        .members
        .iter()
        .map(|node| Ok((node.name(), everything(node, evidence.copies.contains(&node.name()))?)))
        .collect::<Result<Vec<_>, MeshError>>();
    let mut verdicts = vec![settled(evidence)];
    match held {
        Ok(held) => verdicts.extend([equal(&held), ledgers(&held, evidence, false), ledgers(&held, evidence, true)]),
        Err(error) => verdicts.push(Verdict::of("equal", "all nodes hold the same", vec![error.to_string()])),
    }
    verdicts.extend([whole(evidence), clients(evidence), workers(evidence), leftovers(evidence), logs(evidence)]);
    verdicts
}

type Tables = BTreeMap<&'static str, Held>;

/// All rows, those that others keep out of their tables included. A copy does not bring these along, see `docs/limits.md`, so
/// on a node that began with one, tables where rows keep others out tell nothing.
fn everything(node: &Node, copy: bool) -> Result<Tables, MeshError> {
    let told = TABLES.iter().filter(|table| !copy || !table.columns.contains(" unique"));
    let mut tables: Tables =
        told.map(|table| Ok((table.name, held(node, table)?))).collect::<Result<_, MeshError>>()?;
    if !copy {
        tables.insert("displaced rows", displaced(node)?);
    }
    Ok(tables)
}

fn held(node: &Node, table: &Table) -> Result<Held, MeshError> {
    read(node, &format!("select concat_ws('/', {}), t::text from {} t", table.key, table.name))
}

fn displaced(node: &Node) -> Result<Held, MeshError> {
    read(
        node,
        "select concat_ws('/', relation, row_values[1]), concat_ws(' ', row_values, version_time, version_origin)
           from spock.displaced_row",
    )
}

/// Rows come back a moment after what kept them out is gone. If they do not, the checker for that says so.
fn wait_for_displaced(members: &[&Node]) {
    let what = "the same rows to be displaced on all nodes";
    let outcome = wait_until(Deadline::in_seconds(DISPLACED_LIMIT_S), what, || {
        let all = members.iter().map(|node| displaced(node)).collect::<Result<Vec<_>, _>>()?;
        Ok(if all.windows(2).all(|two| two[0] == two[1]) {
            Probe::Ready(())
        } else {
            Probe::NotYet(format!("{:?} are", all.iter().map(Held::len).collect::<Vec<_>>()))
        })
    });
    drop(outcome);
}

fn read(node: &Node, ask: &str) -> Result<Held, MeshError> {
    let mut held = Held::new();
    for row in node.execute(ask)?.0 {
        if let [Some(key), Some(text)] = row.as_slice() {
            held.entry(key.clone()).or_default().push(text.clone());
        }
    }
    Ok(held)
}

fn settled(evidence: &Evidence<'_>) -> Verdict {
    Verdict::of("settled", "everything arrives everywhere in time", evidence.unsettled.iter().cloned().collect())
}

fn equal(held: &[(&str, Tables)]) -> Verdict {
    let mut faults = Vec::new();
    if let [(first, reference), others @ ..] = held {
        for (name, tables) in others {
            for (table, rows) in tables {
                let found = difference::between(table, (first, &reference[table]), (name, rows));
                // A few of each table say more than all of one.
                faults.extend(found.iter().take(3).map(ToString::to_string));
                if found.len() > 3 {
                    faults.push(format!("{table}: {} keys differ between {first} and {name}", found.len()));
                }
            }
        }
    }
    Verdict::of("equal", "all nodes hold the same", faults)
}

fn ledgers(held: &[(&str, Tables)], evidence: &Evidence<'_>, twice: bool) -> Verdict {
    let mut faults = Vec::new();
    for (node, tables) in held {
        let mut found: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for (key, rows) in &tables["ledger"] {
            if let Some((who, number)) = key.split_once('/')
                && let Ok(number) = number.parse::<i64>()
            {
                found.entry(who).or_default().extend(rows.iter().map(|_| number));
            }
        }
        for book in evidence.books {
            let numbers = found.remove(book.name.as_str()).unwrap_or_default();
            let audit = difference::audit(&numbers, &book.acknowledged, &book.in_doubt);
            let lists = match twice {
                false => vec![("acknowledged and not there", audit.lost)],
                true => vec![("there more than once", audit.twice), ("there and never committed", audit.invented)],
            };
            for (what, numbers) in lists.into_iter().filter(|(_, numbers)| !numbers.is_empty()) {
                let shown: Vec<String> = numbers.iter().take(5).map(ToString::to_string).collect();
                let (count, name) = (numbers.len(), &book.name);
                faults.push(format!("{node}: {count} of {name} {what}: {} …", shown.join(", ")));
            }
        }
        faults.extend(found.keys().map(|who| format!("{node}: rows of {who:?}, who never wrote")));
    }
    match twice {
        false => Verdict::of("nothing-lost", "each acknowledged transaction is on every node", faults),
        true => Verdict::of("nothing-twice", "each transaction is there once, and no other is", faults),
    }
}

fn whole(evidence: &Evidence<'_>) -> Verdict {
    let faults = evidence.watches.iter().flat_map(|watch| watch.torn.iter().chain(&watch.failure).cloned()).collect();
    Verdict::of("whole", "no part of a transaction was ever seen alone", faults)
}

fn clients(evidence: &Evidence<'_>) -> Verdict {
    let failed = evidence.books.iter().filter_map(|book| Some(format!("{}: {}", book.name, book.failure.as_ref()?)));
    let idle = evidence.books.iter().filter(|book| book.acknowledged.is_empty());
    let idle = idle.map(|book| format!("{}: no transaction was acknowledged", book.name));
    Verdict::of("clients", "clients run into nothing but collisions and outages", failed.chain(idle).collect())
}

fn workers(evidence: &Evidence<'_>) -> Verdict {
    let mut faults: Vec<String> = evidence.incidents.to_vec();
    for (node, wanted) in &evidence.subscriptions {
        match topology::subscriptions(node) {
            Ok(found) => {
                for (name, _) in wanted {
                    let status = found.iter().find(|one| one.name == *name).map_or("missing", |one| &one.status);
                    if status != "replicating" {
                        faults.push(format!("{}: subscription {name} is {status}", node.name()));
                    }
                }
            }
            Err(error) => faults.push(error.to_string()),
        }
        let left_out = "select count(*) from spock.exception_log";
        match node.execute(left_out).map(|rows| rows.to_string()) {
            Ok(count) if count == "0" => {}
            Ok(count) => {
                let ask =
                    "select concat_ws(' ', operation, table_name, error_message) from spock.exception_log limit 3";
                let rows = node.execute(ask).map_or_else(|error| error.to_string(), |rows| rows.to_string());
                faults.push(format!("{}: {count} rows in spock.exception_log:\n{rows}", node.name()));
            }
            Err(error) => faults.push(error.to_string()),
        }
    }
    Verdict::of("workers", "no subscription was disabled, and nothing was left out", faults)
}

/// Slots that the members' subscriptions do not explain, and origins.
fn leftovers(evidence: &Evidence<'_>) -> Verdict {
    let mut slots: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut origins: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut faults = Vec::new();
    for (node, wanted) in &evidence.subscriptions {
        for (name, provider) in wanted {
            let ask = format!("select slot_name from spock.sub_show_status({})", literal(name));
            match node.execute(&ask).map(|rows| rows.to_string()) {
                Ok(slot) => {
                    slots.entry(provider.name()).or_default().insert(slot.clone());
                    origins.entry(node.name()).or_default().insert(slot);
                }
                Err(error) => faults.push(error.to_string()),
            }
        }
    }
    for node in &evidence.servers {
        let lists = [
            ("slots", "select slot_name from pg_replication_slots where slot_type = 'logical' order by 1", &slots),
            ("origins", "select roname from pg_replication_origin order by 1", &origins),
        ];
        for (what, ask, expected) in lists {
            let expected = expected.get(node.name()).cloned().unwrap_or_default();
            let same = wait_until(Deadline::in_seconds(LEFTOVERS_LIMIT_S), &format!("the {what} to be gone"), || {
                let found: BTreeSet<String> =
                    node.execute(ask)?.0.iter().filter_map(|row| row.first().cloned().flatten()).collect();
                Ok(if found == expected { Probe::Ready(()) } else { Probe::NotYet(format!("{found:?}")) })
            });
            if let Err(error) = same {
                faults.push(format!("{}: {what} should be {expected:?}: {error}", node.name()));
            }
        }
    }
    Verdict::of("leftovers", "slots and origins are those of the subscriptions", faults)
}

fn logs(evidence: &Evidence<'_>) -> Verdict {
    let mut faults = Vec::new();
    for node in &evidence.servers {
        let text = node.log();
        for line in text.lines().filter(|line| is_fatal(line)) {
            faults.push(format!("{}: {line}", node.name()));
        }
        for (line, count) in alike(&log::unexpected_lines(&text, &ALLOWED)) {
            let times = if count > 1 { format!(" ({count} like it)") } else { String::new() };
            faults.push(format!("{}: {line}{times}", node.name()));
        }
        faults.extend(cores(&node.data()).into_iter().map(|path| format!("core file {}", path.display())));
    }
    Verdict::of("logs", "no crash, no core, no unexpected warning", faults)
}

/// Crashes that nobody ordered.
fn is_fatal(line: &str) -> bool {
    line.contains(" PANIC:  ")
        || line.contains("TRAP: ")
        || (line.contains("was terminated by signal") && !line.contains("signal 9"))
        || line.contains("panicked at")
}

/// Lines that differ in numbers only, counted under the first of them.
fn alike<'l>(lines: &[&'l str]) -> Vec<(&'l str, usize)> {
    let shape = |line: &str| {
        let message = line.split_once("]").map_or(line, |(_, rest)| rest);
        message.chars().filter(|c| !c.is_ascii_hexdigit()).collect::<String>()
    };
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for line in lines {
        match seen.get(&shape(line)) {
            Some(at) => kinds[*at].1 += 1,
            None => {
                seen.insert(shape(line), kinds.len());
                kinds.push((line, 1));
            }
        }
    }
    kinds
}

fn cores(dir: &Path) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(dir) else { return Vec::new() };
    let paths = listing.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core"))).collect()
}

/// Conflicts by kind and outcome, as the logs have them: counters in shared memory do not outlive a crash.
pub fn conflicts(servers: &[&Node]) -> Counts {
    let mut counts = Counts::new();
    for node in servers {
        count_conflicts(&node.log(), &mut counts);
    }
    counts
}

fn count_conflicts(log: &str, counts: &mut Counts) {
    for line in log.lines() {
        if let Some((_, conflict)) = line.split_once("CONFLICT: ")
            && let (Some(kind), Some((_, outcome))) = (conflict.split_whitespace().next(), conflict.rsplit_once(": "))
        {
            *counts.entry(format!("{kind}: {outcome}")).or_insert(0) += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_counted_by_kind_and_outcome() {
        let log = "t [1] spock apply: LOG:  CONFLICT: insert_exists on relation public.hot: keep_local\n\
                   t [1] spock apply: LOG:  CONFLICT: insert_exists on relation public.hot: keep_local\n\
                   t [1] spock apply: LOG:  CONFLICT: update_missing on relation public.hot: apply_remote\n\
                   t [1] spock apply: LOG:  all is well\n";
        let mut counts = Counts::new();
        count_conflicts(log, &mut counts);
        let want = [("insert_exists: keep_local".to_owned(), 2), ("update_missing: apply_remote".to_owned(), 1)];
        assert_eq!(counts, Counts::from(want));
    }

    #[test]
    fn crashes_that_nobody_ordered_are_told_from_kills() {
        assert!(!is_fatal("LOG:  background worker \"spock\" (PID 7) was terminated by signal 9: Killed"));
        assert!(is_fatal("LOG:  background worker \"spock\" (PID 7) was terminated by signal 11: Segmentation fault"));
        assert!(is_fatal("t [1] startup PANIC:  could not find it"));
        assert!(is_fatal("TRAP: failed Assert(\"a\")"));
    }

    #[test]
    fn lines_that_differ_in_numbers_are_shown_once() {
        let lines =
            ["t [1] a: WARNING:  slot 12 is lost", "t [22] a: WARNING:  slot 7 is lost", "t [3] a: ERROR:  other"];
        assert_eq!(alike(&lines), [(lines[0], 2), (lines[2], 1)]);
    }

    #[test]
    fn tables_that_differ_are_named() {
        let table = |row: &str| Tables::from([("hot", Held::from([("1".to_owned(), vec![row.to_owned()])]))]);
        let held = [("n1", table("(1,a)")), ("n2", table("(1,b)")), ("n3", table("(1,a)"))];
        let verdict = equal(&held);
        assert_eq!(verdict.faults, ["hot key 1: n1 has (1,a); n2 has (1,b);"]);
        assert!(!verdict.good() && equal(&held[..1]).good());
    }

    #[test]
    fn a_transaction_lost_or_applied_twice_is_found() {
        let row = |number: i64| (format!("n1.1/{number}"), vec![format!("({number},n1.1)")]);
        let mut ledger = Held::from([row(1), row(3)]);
        ledger.insert("n1.1/4".to_owned(), vec!["(4,n1.1)".to_owned(); 2]);
        let held = [("n2", Tables::from([("ledger", ledger)]))];
        let book = Book { name: "n1.1".to_owned(), acknowledged: [1, 2, 4].into(), ..Book::default() };
        let evidence = Evidence {
            members: Vec::new(),
            copies: Vec::new(),
            servers: Vec::new(),
            subscriptions: Vec::new(),
            books: &[book],
            watches: &[],
            incidents: &[],
            unsettled: None,
        };
        assert_eq!(ledgers(&held, &evidence, false).faults, ["n2: 1 of n1.1 acknowledged and not there: 2 …"]);
        assert_eq!(
            ledgers(&held, &evidence, true).faults,
            ["n2: 1 of n1.1 there more than once: 4 …", "n2: 1 of n1.1 there and never committed: 3 …"]
        );
    }
}
