//! All histories of up to four statements on two and three nodes, one and two rows: every order of delivery ends equal. And
//! rules that were broken on purpose are found, by their shortest histories.
//!
//! `cargo test -p spock-core --release -- model --nocapture` prints what was tried.

use spock_sim::model::{Failure, Kind, Scope, check, shortest_failure};
use spock_sim::replica::{Key, Row};
use spock_sim::rule::{Rule, last_arrival_wins, without_tombstones};

const FIRST: Row = Row { plain: 99, large: 99, unique: 0, counter: 10 };
const INSERT: Kind = Kind::Insert { claims: false };
/// A table without columns that count.
const PLAIN: Rule = Rule { counts: false, ..Rule::SHIPPED };
const CLAIM: Kind = Kind::Insert { claims: true };

fn scope(nodes: usize, rows: Key, statements: usize, kinds: &[Kind]) -> Scope {
    Scope {
        nodes,
        joiners: 0,
        rows,
        statements,
        kinds: kinds.to_vec(),
        first_row: Some(FIRST),
        patient: false,
        rule: PLAIN,
    }
}

/// Without optimisation one statement less, so that plain `cargo test` stays short.
fn at_most(statements: usize) -> usize {
    if cfg!(debug_assertions) { statements - 1 } else { statements }
}

fn holds(name: &str, scope: &Scope) {
    match check(scope) {
        Ok(tried) => println!(
            "{name}: {} nodes, {} rows, {} statements: {} histories, {} deliveries at their ends",
            scope.nodes + scope.joiners,
            scope.rows,
            scope.statements,
            tried.histories,
            tried.deliveries
        ),
        Err(failure) => panic!("{name}: nodes differ after\n{}", failure.story),
    }
}

fn fails(name: &str, scope: &Scope, statements: usize) {
    match shortest_failure(scope) {
        None => panic!("{name}: nothing was found"),
        Some(Failure { statements: found, story }) => {
            println!("{name}: found, {found} statements:\n{story}");
            assert_eq!(found, statements, "{name}: the shortest history\n{story}");
        }
    }
}

mod model {
    use super::*;

    const ROWS: [Kind; 4] = [INSERT, Kind::Plain, Kind::Delete, Kind::Truncate];

    #[test]
    fn rows_on_two_nodes() {
        for rows in [1, 2] {
            for first_row in [Some(FIRST), None] {
                holds("rows", &Scope { first_row, ..scope(2, rows, at_most(4), &ROWS) });
            }
        }
    }

    #[test]
    fn rows_on_three_nodes() {
        for rows in [1, 2] {
            for first_row in [Some(FIRST), None] {
                holds("rows", &Scope { first_row, ..scope(3, rows, at_most(4), &ROWS) });
            }
        }
    }

    #[test]
    fn out_of_line_values() {
        let kinds = [INSERT, Kind::Plain, Kind::Large, Kind::Delete];
        holds("out-of-line values", &scope(2, 1, at_most(4), &kinds));
        holds("out-of-line values", &scope(3, 1, at_most(4), &kinds));
        holds("out-of-line values", &scope(2, 2, at_most(4), &kinds));
    }

    #[test]
    fn counters() {
        let rule = Rule::SHIPPED;
        let kinds = [Kind::Count(4), Kind::Count(-3), Kind::Plain, Kind::Large];
        holds("sums", &Scope { rule, ..scope(2, 1, at_most(4), &kinds) });
        holds("sums", &Scope { rule, ..scope(3, 1, at_most(3), &kinds) });
        let first_row = Some(Row { counter: i16::MAX - 5, ..FIRST });
        holds("sums near the limit", &Scope { rule, first_row, ..scope(3, 1, at_most(4), &kinds[..2]) });
        let kinds = [INSERT, Kind::Count(4), Kind::Plain];
        holds("sums and INSERT", &Scope { rule, first_row: None, ..scope(3, 1, at_most(4), &kinds) });
        let kinds = [INSERT, Kind::Count(4), Kind::Large];
        holds("sums beside out-of-line values", &Scope { rule, first_row: None, ..scope(2, 1, at_most(4), &kinds) });
        holds("sums beside out-of-line values", &Scope { rule, first_row: None, ..scope(3, 1, at_most(4), &kinds) });
    }

    #[test]
    fn counters_survive_removals() {
        let rule = Rule::SHIPPED;
        let near_the_limit = Some(Row { counter: i16::MAX - 5, ..FIRST });
        let kinds = [Kind::Count(4), Kind::Count(-3), Kind::Plain, Kind::Delete];
        for first_row in [Some(FIRST), near_the_limit] {
            holds("sums and DELETE", &Scope { rule, first_row, ..scope(2, 1, at_most(4), &kinds) });
        }
        let first_row = near_the_limit;
        holds("sums and DELETE", &Scope { rule, first_row, ..scope(3, 1, at_most(4), &[kinds[0], kinds[3]]) });
        let kinds = [INSERT, Kind::Count(4), Kind::Delete];
        for nodes in [2, 3] {
            let again = Scope { rule, patient: true, ..scope(nodes, 1, at_most(4), &kinds) };
            holds("sums, DELETE, INSERT once it is let go", &again);
        }
        // What docs/limits.md says of them.
        let scope = Scope { rule, ..scope(2, 1, 4, &kinds) };
        fails("sums, DELETE and INSERT", &scope, 3);
    }

    #[test]
    fn unique_keys() {
        let kinds = [CLAIM, Kind::Unique, Kind::Plain, Kind::Delete];
        holds("unique keys", &scope(2, 2, at_most(4), &kinds));
        holds("unique keys", &scope(3, 2, at_most(3), &[CLAIM, Kind::Unique, Kind::Delete]));
        holds("unique keys", &scope(3, 3, at_most(3), &kinds));
    }

    #[test]
    fn changed_keys() {
        let kinds = [INSERT, Kind::Rekey, Kind::Plain, Kind::Delete];
        holds("changed keys", &scope(2, 2, at_most(4), &kinds));
        holds("changed keys", &scope(3, 2, at_most(3), &kinds));
        holds(
            "changed keys",
            &Scope {
                rule: Rule::SHIPPED,
                patient: true,
                ..scope(2, 2, at_most(4), &[Kind::Rekey, Kind::Count(4), Kind::Large])
            },
        );
    }

    #[test]
    fn a_node_joins() {
        let joining = |kinds: &[Kind]| Scope { joiners: 1, ..scope(2, 1, at_most(4), kinds) };
        holds("a node joins", &joining(&[INSERT, Kind::Plain, Kind::Delete, Kind::Truncate, Kind::Join]));
        holds(
            "a node joins, counters",
            &Scope { rule: Rule::SHIPPED, ..joining(&[Kind::Count(4), Kind::Plain, Kind::Delete, Kind::Join]) },
        );
        holds("a node joins, unique keys", &Scope { rows: 2, ..joining(&[CLAIM, Kind::Delete, Kind::Join]) });
    }

    #[test]
    fn broken_rules_are_found() {
        let rows = |rule| Scope { rule, ..scope(2, 1, 4, &ROWS) };
        let shipped = PLAIN;
        fails("no tombstones", &rows(Rule { decide: without_tombstones, ..shipped }), 2);
        fails("the last to arrive wins", &rows(Rule { decide: last_arrival_wins, ..shipped }), 2);
        fails("tombstones go at once", &rows(Rule { releases_at_once: true, freezes: false, ..shipped }), 2);
        let large = scope(2, 1, 4, &[Kind::Plain, Kind::Large]);
        fails(
            "what did not change is not sent",
            &Scope { rule: Rule { unchanged_is_never_sent: true, ..shipped }, ..large },
            2,
        );
        let unique = scope(2, 2, 4, &[CLAIM, Kind::Unique, Kind::Delete]);
        fails(
            "displaced rows are deleted",
            &Scope { rule: Rule { displaced_are_deleted: true, ..shipped }, ..unique },
            3,
        );
        let join = Scope { joiners: 1, ..scope(2, 1, 4, &[Kind::Plain, Kind::Delete, Kind::Join]) };
        fails(
            "a copy without tombstones",
            &Scope { rule: Rule { joins_without_tombstones: true, ..shipped }, ..join },
            3,
        );
    }
}
