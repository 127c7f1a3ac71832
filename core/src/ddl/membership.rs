//! What a statement about a table does to the table's replication sets (`spock.include_ddl_repset`): new tables go into
//! `default` when their rows can be found again, into `default_insert_only` otherwise, and move when that changes.
//!
//! # Invariants
//! 1. A table that somebody put into a set of their own is not taken out of it, except where it could not be replicated there.
//! 2. After a statement no table is in a set for which it has no identity.
//! 3. A membership that stays keeps its column list and row filter.

/// The built-in set for tables with an identity.
pub const DEFAULT: &str = "default";
/// The built-in set for tables without.
pub const INSERT_ONLY: &str = "default_insert_only";

/// What happened to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// CREATE TABLE IF NOT EXISTS found it.
    Found,
    /// ALTER TABLE.
    Altered(Altered),
    /// It is in another schema now.
    Moved,
}

/// What of ALTER TABLE matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Altered {
    /// A primary key was added, or REPLICA IDENTITY FULL, USING INDEX or DEFAULT.
    pub may_gain_identity: bool,
    /// A constraint or column was dropped, or REPLICA IDENTITY NOTHING or DEFAULT.
    pub may_lose_identity: bool,
    /// SET LOGGED
    pub set_logged: bool,
}

/// The table as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Its schema or extension is kept out of replication sets.
    pub blocked: bool,
    /// Written to WAL, and of all sessions.
    pub permanent: bool,
    /// It has a primary key or index that identifies rows.
    pub identity: bool,
    /// REPLICA IDENTITY FULL
    pub full: bool,
}

/// A set that the table is in, or could be put into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// It replicates UPDATE or DELETE.
    pub needs_identity: bool,
}

impl Set {
    fn is_built_in(&self) -> bool {
        self.name == DEFAULT || self.name == INSERT_ONLY
    }
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Sets to take it out of.
    pub leave: Vec<String>,
    /// Set to put it into.
    pub join: Option<&'static str>,
    /// Somebody put it into a set of their own, and it cannot stay there.
    pub evicted: bool,
    /// It could go into a better set, but somebody put it where it is.
    pub kept: bool,
}

impl Plan {
    fn leave_all(sets: &[Set]) -> Self {
        Self { leave: sets.iter().map(|set| set.name.clone()).collect(), ..Self::default() }
    }
}

/// Decides. `sets`: where it is. `insert_only_needs_identity`: somebody made the set `default_insert_only` replicate more.
pub fn plan(change: Change, table: Table, sets: &[Set], insert_only_needs_identity: bool) -> Plan {
    if table.blocked || !table.permanent {
        return Plan::leave_all(sets);
    }
    let own = sets.iter().any(|set| !set.is_built_in());
    match change {
        Change::Found | Change::Moved => Plan::default(),
        Change::Created => place(table, sets, insert_only_needs_identity),
        Change::Altered(altered) if altered.set_logged && sets.is_empty() => {
            place(table, sets, insert_only_needs_identity)
        }
        Change::Altered(altered) => {
            let lost = altered.may_lose_identity && !table.identity && !table.full;
            // FULL has no index that sets with UPDATE or DELETE ask for.
            let homeless = !table.identity && sets.iter().any(|set| set.needs_identity);
            let gained = altered.may_gain_identity && table.identity;
            if lost || homeless {
                let mut plan = Plan {
                    evicted: sets.iter().any(|set| set.needs_identity && !set.is_built_in()),
                    ..Plan::default()
                };
                if homeless || !own {
                    let placed = place(table, sets, insert_only_needs_identity);
                    plan.leave = placed.leave;
                    plan.join = placed.join;
                }
                plan
            } else if gained && own {
                Plan { kept: true, ..Plan::default() }
            } else if gained {
                place(table, sets, insert_only_needs_identity)
            } else {
                Plan::default()
            }
        }
    }
}

/// The built-in set for a table of users who have made no choice.
fn place(table: Table, sets: &[Set], insert_only_needs_identity: bool) -> Plan {
    let (wanted, leave): (&'static str, Vec<String>) = if table.identity {
        (DEFAULT, sets.iter().filter(|set| set.name == INSERT_ONLY).map(|set| set.name.clone()).collect())
    } else {
        (INSERT_ONLY, sets.iter().filter(|set| set.needs_identity).map(|set| set.name.clone()).collect())
    };
    let there = sets.iter().any(|set| set.name == wanted);
    // A set of somebody's own in which it stays is enough.
    let elsewhere = sets.iter().any(|set| !set.is_built_in() && !leave.contains(&set.name));
    let possible = wanted == DEFAULT || !insert_only_needs_identity;
    Plan { leave, join: (possible && !there && !elsewhere).then_some(wanted), ..Plan::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYED: Table = Table { blocked: false, permanent: true, identity: true, full: false };
    const BARE: Table = Table { identity: false, ..KEYED };
    const FULL: Table = Table { full: true, ..BARE };
    const UNLOGGED: Table = Table { permanent: false, ..KEYED };
    const BLOCKED: Table = Table { blocked: true, ..KEYED };

    fn sets(names: &[&str]) -> Vec<Set> {
        let needs = |name: &str| matches!(name, DEFAULT | "mine");
        names.iter().map(|name| Set { name: (*name).to_owned(), needs_identity: needs(name) }).collect()
    }

    #[test]
    fn plans() {
        let gain = Change::Altered(Altered { may_gain_identity: true, ..Altered::default() });
        let lose = Change::Altered(Altered { may_lose_identity: true, ..Altered::default() });
        let both = Change::Altered(Altered { may_gain_identity: true, may_lose_identity: true, ..Altered::default() });
        let logged = Change::Altered(Altered { set_logged: true, ..Altered::default() });
        let other = Change::Altered(Altered::default());
        // name, change, table, in sets; then: leaves, joins
        type Case =
            (&'static str, Change, Table, &'static [&'static str], &'static [&'static str], Option<&'static str>);
        let cases: [Case; 21] = [
            ("new, with a key", Change::Created, KEYED, &[], &[], Some(DEFAULT)),
            ("new, without", Change::Created, BARE, &[], &[], Some(INSERT_ONLY)),
            ("new, full identity", Change::Created, FULL, &[], &[], Some(INSERT_ONLY)),
            ("new, unlogged", Change::Created, UNLOGGED, &[], &[], None),
            ("new, in a blocked schema", Change::Created, BLOCKED, &[], &[], None),
            ("found by IF NOT EXISTS", Change::Found, KEYED, &["mine"], &[], None),
            ("altered otherwise", other, KEYED, &["mine"], &[], None),
            ("altered otherwise, in none", other, KEYED, &[], &[], None),
            ("gets a key", gain, KEYED, &[INSERT_ONLY], &[INSERT_ONLY], Some(DEFAULT)),
            ("gets a key in a set of its own", gain, KEYED, &["inserts"], &[], None),
            ("loses its key", lose, BARE, &[DEFAULT], &[DEFAULT], Some(INSERT_ONLY)),
            ("loses a column", lose, KEYED, &[DEFAULT], &[], None),
            ("loses its key in a set of its own", lose, BARE, &["mine"], &["mine"], Some(INSERT_ONLY)),
            ("loses its key in one that needs none", lose, BARE, &["inserts"], &[], None),
            ("loses its key in two", lose, BARE, &["inserts", "mine"], &["mine"], None),
            ("becomes full", gain, FULL, &[DEFAULT], &[DEFAULT], Some(INSERT_ONLY)),
            ("another key", both, KEYED, &[DEFAULT], &[], None),
            ("becomes unlogged", other, UNLOGGED, &[DEFAULT, "mine"], &[DEFAULT, "mine"], None),
            ("becomes logged", logged, KEYED, &[], &[], Some(DEFAULT)),
            ("moves", Change::Moved, KEYED, &["mine"], &[], None),
            ("moves to a blocked schema", Change::Moved, BLOCKED, &["mine"], &["mine"], None),
        ];
        for (name, change, table, within, leaves, joins) in cases {
            let plan = plan(change, table, &sets(within), false);
            assert_eq!(
                (plan.leave.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), plan.join),
                (leaves, joins),
                "{name}"
            );
        }
        assert!(plan(lose, BARE, &sets(&["mine"]), false).evicted);
        assert!(plan(gain, KEYED, &sets(&["inserts"]), false).kept);
        assert_eq!(plan(Change::Created, BARE, &[], true), Plan::default());
    }
}
