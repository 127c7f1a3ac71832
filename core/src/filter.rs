//! May this transaction, and this change, go to this peer? Verdicts from facts that the output plugin collects.
//!
//! # Invariants
//! 1. A transaction never goes back to the node where it was made, and with `forward_origins` empty none that was applied
//!    from elsewhere leaves: no loops in a mesh.
//! 2. Memberships widen: an action is sent if any subscribed set sends it, and one membership without a column list means
//!    all columns, whatever the others list.

use crate::types::OriginId;
use std::collections::BTreeSet;

/// Which transactions a peer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ForwardOrigins {
    /// Those made on this node.
    #[default]
    None,
    /// Those that this node applied from others as well.
    All,
}

impl ForwardOrigins {
    /// Whether a transaction with this origin in its commit record is sent.
    pub fn sends(self, origin: OriginId) -> bool {
        origin == OriginId::LOCAL || self == Self::All
    }
}

/// Whether a subscriber applies a transaction with this id in its ORIGIN message. `own` is the subscriber's id.
pub fn accepts_origin(own: OriginId, origin: OriginId) -> bool {
    origin != own
}

/// What a row change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// TRUNCATE.
    Truncate,
}

/// The actions that a replication set sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Actions {
    /// `replicate_insert`.
    pub insert: bool,
    /// `replicate_update`.
    pub update: bool,
    /// `replicate_delete`.
    pub delete: bool,
    /// `replicate_truncate`.
    pub truncate: bool,
}

impl Actions {
    /// Whether `action` is sent.
    pub const fn contains(self, action: Action) -> bool {
        match action {
            Action::Insert => self.insert,
            Action::Update => self.update,
            Action::Delete => self.delete,
            Action::Truncate => self.truncate,
        }
    }

    /// What either sends.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self {
            insert: self.insert || other.insert,
            update: self.update || other.update,
            delete: self.delete || other.delete,
            truncate: self.truncate || other.truncate,
        }
    }
}

/// One table's membership in one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// What the set sends.
    pub actions: Actions,
    /// The columns that are sent; `None`: all.
    pub columns: Option<BTreeSet<String>>,
}

/// What a table's memberships in the subscribed sets come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TablePolicy {
    /// What is sent.
    pub actions: Actions,
    /// The columns that are sent; `None`: all.
    pub columns: Option<BTreeSet<String>>,
}

impl TablePolicy {
    /// `None`: the table is in none of the sets.
    pub fn of(memberships: &[Membership]) -> Option<Self> {
        let (first, others) = memberships.split_first()?;
        let start = Self { actions: first.actions, columns: first.columns.clone() };
        Some(others.iter().fold(start, |policy, next| Self {
            actions: policy.actions.union(next.actions),
            columns: policy.columns.zip(next.columns.as_ref()).map(|(mine, theirs)| &mine | theirs),
        }))
    }
}

/// What is sent for an UPDATE of a table that goes out only in part. `before`: the client has the old row, as far as that can
/// be told; `now`: it is to have the new one. `None`: nothing. As native publications do, except that an action which no set
/// replicates is not made up: a row that comes in is then an UPDATE, one that leaves stays.
pub const fn crossing(before: Option<bool>, now: bool, sent: Actions) -> Option<Action> {
    match (before, now) {
        (Some(false), true) if sent.insert => Some(Action::Insert),
        (_, true) => Some(Action::Update),
        (Some(true), false) if sent.delete => Some(Action::Delete),
        (_, false) => None,
    }
}

/// The same for a client that remembers deletes: whatever the client has, it is to have the new row or none. A client can hold a
/// row that the provider never sent, written by a third node, so nothing is left out because the provider knows better; what
/// the client need not have had is an upsert or the DELETE of an absent row there.
pub const fn crossing_remembered(before: Option<bool>, now: bool, sent: Actions) -> Option<Action> {
    match (before, now) {
        (_, false) if sent.delete => Some(Action::Delete),
        _ => crossing(before, now, sent),
    }
}

/// Whether a row of `spock.queue` goes to a peer with these sets. `None` as its sets: everybody.
pub fn sends_queue_row<S: AsRef<str>>(row_sets: Option<&[S]>, peer_sets: &[String]) -> bool {
    row_sets.is_none_or(|sets| sets.iter().any(|set| peer_sets.iter().any(|peer| peer == set.as_ref())))
}

/// Which rows of a table an initial copy takes, from the row filter of each subscribed membership: `None` for every row, else
/// those for which any of the filters is true. The stream sends inserts by the same rule: a membership without a filter wins.
/// A table without any membership is copied whole: that it is copied at all was somebody else's decision.
pub fn copied_rows<T>(filters: impl IntoIterator<Item = Option<T>>) -> Option<Vec<T>> {
    let filters: Option<Vec<T>> = filters.into_iter().collect();
    filters.filter(|filters| !filters.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_do_not_loop() {
        let (own, other) = (OriginId(7), OriginId(9));
        let cases = [
            ("made here", ForwardOrigins::None, OriginId::LOCAL, true),
            ("applied here, not forwarded", ForwardOrigins::None, other, false),
            ("applied here, forwarded", ForwardOrigins::All, other, true),
        ];
        for (name, forward, origin, want) in cases {
            assert_eq!(forward.sends(origin), want, "{name}");
        }
        assert!(!accepts_origin(own, own), "what came from the subscriber");
        assert!(accepts_origin(own, other));
    }

    #[test]
    fn memberships_widen() {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let member =
            |update, columns| Membership { actions: Actions { insert: true, update, ..Actions::default() }, columns };
        assert_eq!(TablePolicy::of(&[]), None);
        let united = TablePolicy::of(&[member(false, list(&["id", "a"])), member(true, list(&["id", "b"]))]);
        let want = TablePolicy {
            actions: Actions { insert: true, update: true, ..Actions::default() },
            columns: list(&["id", "a", "b"]),
        };
        assert_eq!(united, Some(want));
        let whole = TablePolicy::of(&[member(false, list(&["id"])), member(false, None)]);
        assert_eq!(whole.map(|policy| policy.columns), Some(None), "one membership without a list means all columns");
        for action in [Action::Insert, Action::Update, Action::Delete, Action::Truncate] {
            assert_eq!(Actions { insert: true, ..Actions::default() }.contains(action), action == Action::Insert);
        }
    }

    #[test]
    fn updates_cross_row_filters() {
        let all = Actions { insert: true, update: true, delete: true, truncate: true };
        let updates = Actions { update: true, ..Actions::default() };
        let cases = [
            ("stays in", Some(true), true, all, Some(Action::Update)),
            ("comes in", Some(false), true, all, Some(Action::Insert)),
            ("leaves", Some(true), false, all, Some(Action::Delete)),
            ("stays out", Some(false), false, all, None),
            ("is in, from where is not known", None, true, all, Some(Action::Update)),
            ("is out, from where is not known", None, false, all, None),
            ("comes in where inserts are not sent", Some(false), true, updates, Some(Action::Update)),
            ("leaves where deletes are not sent", Some(true), false, updates, None),
        ];
        for (name, before, now, sent, want) in cases {
            assert_eq!(crossing(before, now, sent), want, "{name}");
            let remembered = if !now && sent.delete { Some(Action::Delete) } else { want };
            assert_eq!(
                crossing_remembered(before, now, sent),
                remembered,
                "{name}, to a client that remembers deletes"
            );
        }
    }

    #[test]
    fn a_copy_takes_what_any_membership_sends() {
        let cases = [
            ("no membership", vec![], None),
            ("one without a filter", vec![None], None),
            ("one filter", vec![Some("a")], Some(vec!["a"])),
            ("two filters", vec![Some("a"), Some("b")], Some(vec!["a", "b"])),
            ("an unfiltered one wins", vec![Some("a"), None, Some("b")], None),
        ];
        for (name, filters, want) in cases {
            assert_eq!(copied_rows(filters), want, "{name}");
        }
    }

    #[test]
    fn queue_rows_go_to_their_sets() {
        let peer = ["default".to_owned(), "ddl_sql".to_owned()];
        assert!(sends_queue_row::<&str>(None, &peer), "addressed to everybody");
        assert!(sends_queue_row(Some(&["ddl_sql"]), &peer));
        assert!(!sends_queue_row(Some(&["other"]), &peer));
        assert!(!sends_queue_row::<&str>(Some(&[]), &peer), "addressed to nobody");
    }
}
