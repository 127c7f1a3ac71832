//! The transactions: which tables there are, and the text of each transaction, which follows from the seed, the client and
//! the transaction's number alone.
//!
//! **Invariants.** Each transaction writes its number into `ledger` once, whatever else it does, so a ledger tells for all
//! of them whether they arrived, once, and whole. Each kind of transaction has a table of its own: a table that differs
//! names what made it differ.

use super::exercise::Exercise;
use super::random::Random;

/// Rows that all nodes write.
const HOT_ROWS: u64 = 20;
/// Keys that each node alone writes.
const OWN_KEYS: u64 = 60;
/// Keys of different nodes are so far apart.
const OWN_STRIDE: u64 = 1_000;
/// Accounts of each node.
const ACCOUNTS: u64 = 8;
/// What each of them holds in the beginning.
const BALANCE: u64 = 1_000;
/// Rows with a value out of line.
const LARGE_ROWS: u64 = 6;

/// A table, who writes it, and how its rows are found.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Columns, as `create table` takes them.
    pub columns: &'static str,
    /// What identifies a row.
    pub key: &'static str,
    /// The replication set.
    pub set: &'static str,
}

const fn keyed(name: &'static str, columns: &'static str) -> Table {
    Table { name, columns, key: "id", set: "default" }
}

/// All tables.
pub const TABLES: [Table; 11] = [
    keyed("hot", "id int primary key, n bigint, who text, note text"),
    keyed("fresh", "id bigint primary key, n bigint, who text"),
    keyed("own", "id int primary key, n bigint, who text"),
    keyed("own_large", "id int primary key, n bigint, body text"),
    keyed("bank", "id int primary key, home text, balance bigint"),
    keyed("large", "id int primary key, n bigint, who text, body text"),
    keyed("gone", "id int primary key, n bigint, who text"),
    keyed("moved", "id int primary key, n bigint, who text"),
    keyed("twokeys", "id bigint primary key, tag int unique, who text"),
    Table { name: "tally", columns: "who text primary key, n bigint", key: "who", set: "default" },
    Table { name: "ledger", columns: "number bigint, who text", key: "who, number", set: "default_insert_only" },
];

/// Statements that make the tables, and put them into their sets.
pub fn create() -> Vec<String> {
    let mut statements = Vec::new();
    for table in TABLES {
        statements.push(format!("create table {} ({})", table.name, table.columns));
        if table.columns.contains("body text") {
            statements.push(format!("alter table {} alter body set storage external", table.name));
        }
        statements.push(format!("select spock.repset_add_table('{}', '{}')", table.set, table.name));
    }
    statements
}

/// Statements that remove them.
pub fn remove() -> Vec<String> {
    TABLES.iter().map(|table| format!("drop table if exists {}", table.name)).collect()
}

/// What the tables hold when the load begins; run on one node of `nodes`.
pub fn fill(nodes: usize, clients: &[Client]) -> Vec<String> {
    let mut statements = vec![
        format!("insert into hot select i, 0, 'start', 'row ' || i from generate_series(1, {HOT_ROWS}) i"),
        format!("insert into gone select i, 0, 'start' from generate_series(1, {HOT_ROWS}) i"),
        format!("insert into moved select i, 0, 'start' from generate_series(1, {HOT_ROWS}) i"),
        format!("insert into large select i, 0, 'start', {} from generate_series(1, {LARGE_ROWS}) i", body("i::text")),
    ];
    for node in 0..nodes as u64 {
        statements.push(format!(
            "insert into bank select {} + i, 'n{}', {BALANCE} from generate_series(1, {ACCOUNTS}) i",
            node * OWN_STRIDE,
            node + 1
        ));
    }
    for client in clients {
        statements.push(format!("insert into tally values ('{}', 0)", client.name()));
    }
    statements
}

/// What the accounts of a node hold together, at any time and on any node.
pub const fn wealth() -> u64 {
    ACCOUNTS * BALANCE
}

/// A value of a few thousand characters that does not compress and follows from an SQL expression.
fn body(of: &str) -> String {
    format!("(select string_agg(md5({of} || ':' || j), '') from generate_series(1, 90) j)")
}

/// What a client sends at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// All of it, from BEGIN to its end.
    pub text: String,
    /// Does it end with COMMIT?
    pub commits: bool,
}

/// One connection that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Seed of the run.
    pub seed: u64,
    /// Its node, from 0.
    pub node: usize,
    /// Its number on that node, from 0.
    pub number: usize,
}

impl Client {
    /// As it signs its rows.
    pub fn name(&self) -> String {
        format!("n{}.{}", self.node + 1, self.number + 1)
    }

    /// Its transaction of that number, counted from 1.
    pub fn transaction(&self, number: u64, exercises: &[Exercise]) -> Transaction {
        let mut random = Random::of(self.seed, &[1, self.node as u64, self.number as u64, number]);
        let kinds: Vec<(Exercise, u64)> =
            exercises.iter().filter(|one| one.is_workload()).map(|one| (*one, share(*one))).collect();
        let me = self.name();
        let mut text = format!("begin; insert into ledger values ({number}, '{me}'); ");
        match random.weighted(&kinds) {
            Some(kind) => text.push_str(&self.body(kind, number, &mut random)),
            None => text.push_str(&format!("update tally set n = n + 1 where who = '{me}'")),
        }
        // A transaction that is rolled back must not be seen anywhere.
        let commits = random.below(40) != 0;
        text.push_str(if commits { "; commit" } else { "; rollback" });
        Transaction { text, commits }
    }

    fn body(&self, kind: Exercise, number: u64, random: &mut Random) -> String {
        let me = self.name();
        let hot = random.between(1, HOT_ROWS);
        match kind {
            Exercise::Update => format!(
                "update hot set n = {number}, who = '{me}' where id = {hot}; \
                 update tally set n = n + 1 where who = '{me}'"
            ),
            // Clients count at about the same pace, so their numbers meet.
            Exercise::Insert => format!(
                "insert into fresh values ({}, {number}, '{me}') on conflict do nothing; \
                 update fresh set n = {number}, who = '{me}' where id = {}",
                number,
                number.saturating_sub(random.below(6))
            ),
            Exercise::MultiRow => multi_row(&me, number, hot, random),
            Exercise::Own => self.own(number, random),
            Exercise::Transfer => self.transfer(random),
            Exercise::Large => large("large", random.between(1, LARGE_ROWS), number, &me, random),
            Exercise::Delete => match random.below(3) {
                0 => format!("delete from gone where id = {hot}"),
                1 => format!("update gone set n = {number}, who = '{me}' where id = {hot}"),
                _ => format!(
                    "insert into gone values ({hot}, {number}, '{me}') \
                     on conflict (id) do update set n = excluded.n, who = excluded.who"
                ),
            },
            Exercise::KeyChange => format!(
                "update moved set id = {to}, n = {number}, who = '{me}' where id = {hot} \
                 and not exists (select from moved where id = {to})",
                to = random.between(1, 2 * HOT_ROWS)
            ),
            Exercise::Unique => self.unique(number, random),
            _ => String::new(),
        }
    }

    /// Few values for many keys; each is given up again, by its client alone.
    fn unique(&self, number: u64, random: &mut Random) -> String {
        let (me, key) = (self.name(), number * OWN_STRIDE + (self.node * 10 + self.number) as u64);
        let (tag, other) = (random.below(HOT_ROWS), random.below(HOT_ROWS));
        let gives_up = match random.below(3) {
            0 => format!(
                "update twokeys set tag = {other} where who = '{me}' and tag = {} \
                 and not exists (select from twokeys where tag = {other})",
                random.below(HOT_ROWS)
            ),
            _ => format!("delete from twokeys where who = '{me}' and tag = {other}"),
        };
        format!("insert into twokeys values ({key}, {tag}, '{me}') on conflict do nothing; {gives_up}")
    }

    fn own(&self, number: u64, random: &mut Random) -> String {
        let me = self.name();
        let base = self.node as u64 * OWN_STRIDE;
        let (key, to) = (base + random.below(OWN_KEYS), base + random.below(OWN_KEYS));
        match random.below(7) {
            0 | 1 => format!("insert into own values ({key}, {number}, '{me}') on conflict do nothing"),
            2 => format!("update own set n = {number}, who = '{me}' where id = {key}"),
            3 => format!("delete from own where id = {key}"),
            4 => format!(
                "update own set id = {to}, n = {number} where id = {key} and not exists (select from own where id = {to})"
            ),
            5 => format!(
                "insert into own_large values ({key}, {number}, {}) on conflict (id) do update set n = excluded.n",
                body(&format!("'{me} {number}'"))
            ),
            _ => format!(
                "update own_large set id = {to} where id = {key} and not exists (select from own_large where id = {to}); \
                 update own_large set n = {number} where id = {to}; delete from own_large where id = {}",
                base + random.below(OWN_KEYS)
            ),
        }
    }

    fn transfer(&self, random: &mut Random) -> String {
        let account = |random: &mut Random| self.node as u64 * OWN_STRIDE + random.between(1, ACCOUNTS);
        let (one, other) = (account(random), account(random));
        let amount = random.between(1, 20);
        format!(
            "update bank set balance = balance - {amount} where id = {one}; \
             update bank set balance = balance + {amount} where id = {other}"
        )
    }
}

fn multi_row(me: &str, number: u64, hot: u64, random: &mut Random) -> String {
    let other = random.between(1, HOT_ROWS);
    match random.below(3) {
        0 => format!("update hot set n = {number}, who = '{me}' where id between {hot} and {}", hot + 4),
        1 => format!(
            "update hot set note = 'one {number}' where id = {hot}; savepoint a; \
             update hot set n = -1, who = 'nobody' where id = {other}; insert into ledger values (-{number}, '{me}'); \
             rollback to a; update hot set n = {number}, who = '{me}' where id = {other}"
        ),
        _ => format!(
            "update hot set note = 'first {number}' where id = {hot}; savepoint a; \
             update hot set note = 'second {number}' where id = {hot}; release a; update hot set n = {number}, who = '{me}' \
             where id = {other}"
        ),
    }
}

/// Mostly an update that leaves the large value as it is.
fn large(table: &str, key: u64, number: u64, me: &str, random: &mut Random) -> String {
    if random.below(4) == 0 {
        let value = body(&format!("'{me} {number}'"));
        return format!("update {table} set n = {number}, who = '{me}', body = {value} where id = {key}");
    }
    format!("update {table} set n = {number}, who = '{me}' where id = {key}")
}

/// How often each kind comes.
fn share(kind: Exercise) -> u64 {
    match kind {
        Exercise::Update => 6,
        Exercise::Insert | Exercise::Own => 4,
        Exercise::MultiRow | Exercise::Transfer => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Client = Client { seed: 11, node: 1, number: 0 };

    fn texts(client: Client, exercises: &[Exercise]) -> Vec<String> {
        (1..=400).map(|number| client.transaction(number, exercises).text).collect()
    }

    #[test]
    fn transactions_follow_from_seed_client_and_number() {
        let all = texts(CLIENT, &Exercise::ALL);
        assert_eq!(all, texts(CLIENT, &Exercise::ALL));
        assert_ne!(all, texts(Client { seed: 12, ..CLIENT }, &Exercise::ALL));
        assert_ne!(all, texts(Client { number: 1, ..CLIENT }, &Exercise::ALL));
    }

    #[test]
    fn each_writes_its_number_once() {
        for (index, text) in texts(CLIENT, &Exercise::ALL).iter().enumerate() {
            let entry = format!("insert into ledger values ({}, 'n2.1')", index + 1);
            assert_eq!(text.matches(&entry).count(), 1, "{text}");
            assert!(
                text.starts_with("begin; ") && (text.ends_with("; commit") || text.ends_with("; rollback")),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_left_out_is_not_written() {
        let tables = [(Exercise::Delete, "gone"), (Exercise::KeyChange, "moved"), (Exercise::Unique, "twokeys")];
        for (left_out, table) in tables {
            let rest: Vec<Exercise> = Exercise::ALL.into_iter().filter(|one| *one != left_out).collect();
            assert!(!texts(CLIENT, &rest).iter().any(|text| text.contains(table)), "{table}");
            assert!(texts(CLIENT, &Exercise::ALL).iter().any(|text| text.contains(table)), "{table}");
        }
        assert!(texts(CLIENT, &[]).iter().all(|text| text.contains("ledger")));
    }

    #[test]
    fn nodes_keep_to_their_own_keys() {
        let keys = |node: usize| -> Vec<u64> {
            let texts = texts(Client { node, ..CLIENT }, &[Exercise::Transfer]);
            let ids = texts.iter().flat_map(|text| text.split("id = ").skip(1).map(str::to_owned).collect::<Vec<_>>());
            ids.filter_map(|text| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).collect()
        };
        assert!(keys(0).iter().all(|key| (1..=ACCOUNTS).contains(key)));
        assert!(keys(2).iter().all(|key| (2 * OWN_STRIDE + 1..=2 * OWN_STRIDE + ACCOUNTS).contains(key)));
    }
}
