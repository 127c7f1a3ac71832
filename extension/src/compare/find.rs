//! Finding the rows that differ: buckets, then rows, then a cut and the rows that still differ.

use super::cut::{Budget, cut};
use super::plan::Plan;
use super::side::{Here, Peer, Reading, Readings, Side, Texts, parsed, readings, required};
use crate::error::Report;
use crate::pg::raise::{Level, debug};
use spock_core::compare::narrow::{self, FIRST_BITS, Group, Step};
use spock_core::compare::text::{Buckets, Shape};
use spock_core::compare::verdict::{Pair, Seen, Settled, settle};
use std::collections::BTreeSet;
use std::time::Duration;

/// Rows that are looked at again in one cut.
const RECHECKED_MAX: usize = 1_000;

/// A row that differs; on one side there may be none.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The key's columns as text.
    pub key: Vec<String>,
    /// Here and there.
    pub rows: Pair<Reading>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Rows that differ, in no order that means anything.
    pub rows: Vec<Difference>,
    /// There may be more.
    pub cut_off: bool,
}

/// What has been looked at, for the server log.
#[derive(Debug, Default)]
struct Effort {
    differing: usize,
    of_bits: u32,
    fetched: usize,
    rechecked: usize,
}

/// Searches for at most `max_rows` rows that differ, waiting at most `timeout` for what is under way.
pub fn find(plan: &Plan, peer: &mut Peer, max_rows: usize, timeout: Duration) -> Result<Found, Report> {
    let mut search = Search {
        plan,
        peer,
        budget: Budget::new(timeout),
        max_rows,
        found: Found::default(),
        effort: Effort::default(),
    };
    search.run()?;
    let Effort { differing, of_bits, fetched, rechecked } = search.effort;
    debug(Level::Debug, || {
        format!(
            "compared table {} with node \"{}\": {differing} of {} buckets differed, {fetched} rows fetched, {rechecked} looked at again",
            plan.name,
            plan.node.name,
            1_u64 << of_bits
        )
    });
    Ok(search.found)
}

struct Search<'s> {
    plan: &'s Plan,
    peer: &'s mut Peer,
    budget: Budget,
    max_rows: usize,
    found: Found,
    effort: Effort,
}

fn groups(rows: &Texts) -> Result<Vec<Group>, Report> {
    let group = |row: &Vec<Option<String>>| {
        Ok(Group {
            bucket: parsed(row, 0)?,
            rows: parsed(row, 1)?,
            sums: (required(row, 2)?.to_owned(), required(row, 3)?.to_owned()),
        })
    };
    rows.iter().map(group).collect()
}

fn pair<'r>(key: &[String], here: &'r Readings, there: &'r Readings) -> Pair<&'r Reading> {
    Pair { local: here.get(key), remote: there.get(key) }
}

fn seen(pair: &Pair<&Reading>) -> Pair<Seen> {
    let seen = |reading: Option<&Reading>| reading.map(|reading| reading.seen.clone());
    Pair { local: seen(pair.local), remote: seen(pair.remote) }
}

/// A row that looked different.
struct Candidate {
    key: Vec<String>,
    before: Pair<Seen>,
    /// Cuts at which it differed.
    confirmed: u32,
}

impl Search<'_> {
    fn run(&mut self) -> Result<(), Report> {
        let (mut bits, mut within, mut parent) = (FIRST_BITS, Vec::new(), None);
        let lists = loop {
            let outer = parent.map(|bits| Buckets { values: &within, bits });
            let (here, there) = self.both(|shape| shape.groups(bits, outer))?;
            let differing = narrow::differing(groups(&here)?, groups(&there)?);
            (self.effort.differing, self.effort.of_bits) = (differing.len(), bits);
            match narrow::next(&differing, bits) {
                Step::Done => return Ok(()),
                Step::Fetch(lists) => break lists,
                Step::Split(finer) => {
                    within = differing.iter().map(|differing| differing.bucket).collect();
                    parent = Some(bits);
                    bits = finer;
                }
            }
        };
        'lists: for values in &lists {
            let buckets = Buckets { values, bits };
            let (here, there) = self.both_readings(|shape| shape.rows(buckets))?;
            self.effort.fetched += here.len() + there.len();
            let mut candidates = candidates(&here, &there);
            drop((here, there));
            while !candidates.is_empty() {
                if self.found.rows.len() > self.max_rows {
                    break 'lists;
                }
                let rest = candidates.split_off(candidates.len().min(RECHECKED_MAX));
                self.settle(candidates)?;
                candidates = rest;
            }
        }
        if self.found.rows.len() > self.max_rows {
            self.found.rows.truncate(self.max_rows);
            self.found.cut_off = true;
        }
        Ok(())
    }

    /// Asks both nodes. The peer first: it is the one that can be away.
    fn both(&mut self, sql: impl Fn(&Shape) -> String) -> Result<(Texts, Texts), Report> {
        let there = self.peer.ask("compare a table on the other node", &sql(&self.plan.there))?;
        Ok((Here.ask("compare a table", &sql(&self.plan.here))?, there))
    }

    fn both_readings(&mut self, sql: impl Fn(&Shape) -> String) -> Result<(Readings, Readings), Report> {
        let (here, there) = self.both(sql)?;
        let (plan, nodes) = (self.plan, &self.plan.nodes);
        Ok((readings(here, &plan.here, plan.local.node.id, nodes)?, readings(there, &plan.there, plan.node.id, nodes)?))
    }

    /// Looks at the candidates again, behind as many cuts as it takes, and keeps those that differ.
    fn settle(&mut self, mut candidates: Vec<Candidate>) -> Result<(), Report> {
        while !candidates.is_empty() {
            self.effort.rechecked += candidates.len();
            let others = cut(self.plan, self.peer, &mut self.budget)
                .map_err(|report| report.detail(format!("{} rows look different.", candidates.len())))?;
            let keys: Vec<&[String]> = candidates.iter().map(|candidate| candidate.key.as_slice()).collect();
            let (here, there) = self.both_readings(|shape| shape.rows_of(&keys))?;
            let mut open = Vec::new();
            for mut candidate in candidates {
                let after = pair(&candidate.key, &here, &there);
                let now = seen(&after);
                match settle(&candidate.before, &now) {
                    Settled::Equal | Settled::Superseded => {}
                    Settled::Differs if candidate.confirmed > 0 || !others => self.found.rows.push(Difference {
                        key: candidate.key,
                        rows: Pair { local: after.local.cloned(), remote: after.remote.cloned() },
                    }),
                    verdict => {
                        candidate.confirmed += u32::from(verdict == Settled::Differs);
                        candidate.before = now;
                        open.push(candidate);
                    }
                }
            }
            if !open.is_empty() && self.budget.is_spent() {
                let what = format!("{} rows of table {} did not stand still", open.len(), self.plan.name);
                return Err(self.budget.exceeded(&what));
            }
            candidates = open;
        }
        Ok(())
    }
}

fn candidates(here: &Readings, there: &Readings) -> Vec<Candidate> {
    let keys: BTreeSet<&Vec<String>> = here.keys().chain(there.keys()).collect();
    keys.into_iter()
        .filter_map(|key| {
            let before = seen(&pair(key, here, there));
            let same = before.local.as_ref().map(|seen| &seen.hash) == before.remote.as_ref().map(|seen| &seen.hash);
            (!same).then(|| Candidate { key: key.clone(), before, confirmed: 0 })
        })
        .collect()
}
