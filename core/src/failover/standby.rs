//! What the worker of a standby does: whether it works at all and how long it pauses, and the next step for each slot.
//!
//! ```text
//!              create            decoding was consistent, or
//! (no slot) ──────────► unproven ──snapshot at hand──────────► ready ──┐ follow: copy or decode
//!     ▲                    │ gone on the primary, promotion      │ ▲◄──┘
//!     └────────────────────┴──────────── gone on the primary ────┘
//! ```
//! An unproven slot is temporary: it goes with the worker's process, so a promotion leaves only slots from which decoding
//! is complete. Ready ones are on disk.

use crate::types::{Lsn, Xid};
use core::fmt;
use core::time::Duration;

/// What the worker sees of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings {
    /// The server is a standby.
    pub in_recovery: bool,
    /// The server copies slots itself.
    pub native: bool,
    /// Some slot is wanted.
    pub wanted: bool,
    /// WAL is being received.
    pub receiving: bool,
    /// `primary_slot_name` is set.
    pub has_slot: bool,
    /// `hot_standby_feedback` is on.
    pub feedback: bool,
}

/// What the worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Not a standby (any more): nothing is left to do.
    Primary,
    /// The server copies slots itself.
    Native,
    /// No slot is wanted.
    NoFilter,
    /// Without feedback the primary removes catalog rows that decoding here needs.
    NoFeedback,
    /// Without a slot of this standby the primary removes WAL and catalog rows.
    NoSlot,
    /// WAL does not arrive.
    NotReceiving,
    /// The primary does not answer.
    Unreachable,
    /// Slots are followed.
    Following,
}

impl Condition {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Primary,
        Self::Native,
        Self::NoFilter,
        Self::NoFeedback,
        Self::NoSlot,
        Self::NotReceiving,
        Self::Unreachable,
        Self::Following,
    ];

    /// Decides from what is there. The first thing that stands in the way is named.
    pub fn of(seen: Surroundings) -> Self {
        match seen {
            Surroundings { in_recovery: false, .. } => Self::Primary,
            Surroundings { native: true, .. } => Self::Native,
            Surroundings { wanted: false, .. } => Self::NoFilter,
            Surroundings { feedback: false, .. } => Self::NoFeedback,
            Surroundings { has_slot: false, .. } => Self::NoSlot,
            Surroundings { receiving: false, .. } => Self::NotReceiving,
            _ => Self::Following,
        }
    }

    /// Pause before the next look. What only a setting or a person changes is looked at less often; a change of settings
    /// wakes the worker anyway.
    pub fn pause(self, naptime: Duration, feedback_naptime: Duration) -> Duration {
        match self {
            Self::Following | Self::NotReceiving => naptime,
            Self::Primary | Self::Native | Self::NoFilter | Self::NoFeedback | Self::NoSlot | Self::Unreachable => {
                feedback_naptime
            }
        }
    }

    /// One word for views.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Native => "native",
            Self::NoFilter => "no_filter",
            Self::NoFeedback => "no_feedback",
            Self::NoSlot => "no_slot",
            Self::NotReceiving => "not_receiving",
            Self::Unreachable => "unreachable",
            Self::Following => "following",
        }
    }

    /// What the log says when the worker gets there.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Primary => "this server is not a standby, no slots are synchronized",
            Self::Native => "slots are synchronized by the server itself (\"sync_replication_slots\" is on)",
            Self::NoFilter => "no slots are synchronized, \"spock.synchronize_slot_names\" is empty",
            Self::NoFeedback => "slots cannot be synchronized while \"hot_standby_feedback\" is off",
            Self::NoSlot => {
                "slots cannot be synchronized without \"primary_slot_name\" and a slot of that name on the primary"
            }
            Self::NotReceiving => "slots wait to be synchronized until WAL is received from the primary",
            Self::Unreachable => "slots cannot be synchronized, the primary does not answer",
            Self::Following => "synchronizing slots of the primary",
        }
    }
}

/// A slot of the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSlot {
    /// Its name.
    pub name: String,
    /// Its output plugin.
    pub plugin: String,
    /// Its database.
    pub database: String,
    /// It decodes prepared transactions.
    pub two_phase: bool,
    /// It has the option FAILOVER.
    pub failover: bool,
    /// The oldest transaction whose catalog rows it needs.
    pub catalog_xmin: Option<Xid>,
    /// Where decoding starts.
    pub restart: Option<Lsn>,
    /// What its subscriber has confirmed.
    pub confirmed: Option<Lsn>,
    /// It lost what it needs.
    pub lost: bool,
}

/// Our slot of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSlot {
    /// The worker made it.
    pub ours: bool,
    /// Another process uses it.
    pub busy: bool,
    /// It is on disk: decoding from it is complete.
    pub ready: bool,
    /// It lost what it needs.
    pub lost: bool,
    /// Oid of its database.
    pub database: u32,
    /// Its output plugin.
    pub plugin: String,
    /// As for [`RemoteSlot`].
    pub catalog_xmin: Option<Xid>,
    /// As for [`RemoteSlot`].
    pub restart: Option<Lsn>,
    /// As for [`RemoteSlot`].
    pub confirmed: Option<Lsn>,
}

/// What else the decision about a slot needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Here {
    /// Oid of the slot's database; `None`: its creation has not been replayed.
    pub database: Option<u32>,
    /// How far WAL is replayed.
    pub replayed: Option<Lsn>,
    /// Decoding can start at once at the remote slot's restart position: its snapshot is on disk here.
    pub snapshot: bool,
    /// Up to where an unproven slot was decoded in vain.
    pub tried: Option<Lsn>,
}

/// Positions of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// The oldest transaction whose catalog rows it needs.
    pub catalog_xmin: Xid,
    /// Where decoding starts.
    pub restart: Lsn,
    /// What the subscriber has confirmed.
    pub confirmed: Lsn,
}

/// Why nothing is done with a slot now, or that nothing need be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It follows.
    Nothing,
    /// Someone else made a slot of that name here.
    NotOurs,
    /// Another process uses our slot.
    Busy,
    /// The primary's slot lost what it needs: ours stays where it is.
    LostThere,
    /// The primary's slot is being made.
    Incomplete,
    /// Slots for prepared transactions are not synchronized.
    TwoPhase,
    /// The database is not here yet.
    NoDatabase,
    /// Replay is not as far as the slot's restart position.
    Replay,
    /// The primary's slot needs what this standby had already removed when ours was made: its subscriber must come further.
    Subscriber,
    /// Decoding has not reached a consistent state yet: transactions that were open must end.
    Consistency,
    /// The last try failed; the log says why.
    Failed,
}

impl Wait {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Nothing,
        Self::NotOurs,
        Self::Busy,
        Self::LostThere,
        Self::Incomplete,
        Self::TwoPhase,
        Self::NoDatabase,
        Self::Replay,
        Self::Subscriber,
        Self::Consistency,
        Self::Failed,
    ];

    /// One word for views.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nothing => "synchronized",
            Self::NotOurs => "name_taken",
            Self::Busy => "in_use",
            Self::LostThere => "lost_on_primary",
            Self::Incomplete => "being_created",
            Self::TwoPhase => "two_phase",
            Self::NoDatabase => "waits_for_database",
            Self::Replay => "waits_for_replay",
            Self::Subscriber => "waits_for_subscriber",
            Self::Consistency => "waits_for_consistency",
            Self::Failed => "failed",
        }
    }

    /// Whether a person has to do something about it.
    pub const fn needs_attention(self) -> bool {
        matches!(self, Self::NotOurs | Self::LostThere | Self::TwoPhase | Self::Failed)
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "it follows the primary's slot",
            Self::NotOurs => "a slot of that name exists on this standby and was not made by synchronization",
            Self::Busy => "another process uses the slot on this standby",
            Self::LostThere => "the slot on the primary has lost WAL or rows that it needs",
            Self::Incomplete => "the slot on the primary is being created",
            Self::TwoPhase => "slots that decode prepared transactions are not synchronized",
            Self::NoDatabase => "its database has not been replayed on this standby",
            Self::Replay => "this standby has not replayed as far as the slot needs",
            Self::Subscriber => {
                "the slot on the primary needs more than this standby still has, until its subscriber confirms more"
            }
            Self::Consistency => {
                "decoding on this standby is not consistent until transactions that were open have ended"
            }
            Self::Failed => "the last try failed",
        })
    }
}

/// The next thing to do with a slot of the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make an unproven slot that keeps WAL from this position on, or from the oldest that is still here.
    Create {
        /// Where the primary's slot starts.
        from: Lsn,
    },
    /// Drop ours, it belongs to another slot or is of no use, and make it anew in the next round.
    Replace,
    /// Take over the primary's positions.
    Copy(Positions),
    /// Decode up to here, which moves the slot's other positions along.
    Decode {
        /// What is confirmed afterwards.
        upto: Lsn,
    },
    /// Nothing.
    Wait(Wait),
}

/// Whether `one` is older than `other`, on the circle of transaction ids. Ids are unsigned: half of them lie above 2^31.
pub const fn xid_precedes(one: Xid, other: Xid) -> bool {
    (one.0.wrapping_sub(other.0)).cast_signed() < 0
}

/// Decides the next step for one slot.
pub fn next_step(remote: &RemoteSlot, local: Option<&LocalSlot>, here: Here) -> Step {
    if remote.two_phase {
        return Step::Wait(Wait::TwoPhase);
    }
    if local.is_some_and(|local| !local.ours) {
        return Step::Wait(Wait::NotOurs);
    }
    if remote.lost {
        return Step::Wait(Wait::LostThere);
    }
    let (Some(restart), Some(confirmed), Some(catalog_xmin)) = (remote.restart, remote.confirmed, remote.catalog_xmin)
    else {
        return Step::Wait(Wait::Incomplete);
    };
    let Some(database) = here.database else {
        return Step::Wait(Wait::NoDatabase);
    };
    let Some(local) = local else {
        return Step::Create { from: restart };
    };
    if local.busy {
        return Step::Wait(Wait::Busy);
    }
    if local.lost || local.plugin != remote.plugin || local.database != database {
        return Step::Replace;
    }
    let (Some(local_restart), Some(local_xmin)) = (local.restart, local.catalog_xmin) else {
        return Step::Replace;
    };
    follow(Positions { catalog_xmin, restart, confirmed }, local, (local_restart, local_xmin), here)
}

/// The step for a slot that is there and fits.
fn follow(remote: Positions, local: &LocalSlot, (restart, xmin): (Lsn, Xid), here: Here) -> Step {
    let behind = remote.restart < restart || xid_precedes(remote.catalog_xmin, xmin);
    if behind && !local.ready {
        return Step::Wait(Wait::Subscriber);
    }
    let Some(replayed) = here.replayed.filter(|replayed| *replayed >= restart) else {
        return Step::Wait(Wait::Replay);
    };
    let target = remote.confirmed.min(replayed).max(local.confirmed.unwrap_or(restart));
    let news = local.confirmed.is_none_or(|confirmed| target > confirmed);
    if here.snapshot && !behind && remote.restart <= target {
        let moved = news || remote.restart > restart || xid_precedes(xmin, remote.catalog_xmin) || !local.ready;
        let positions = Positions { confirmed: target, ..remote };
        return if moved { Step::Copy(positions) } else { Step::Wait(Wait::Nothing) };
    }
    if local.ready {
        return if news { Step::Decode { upto: target } } else { Step::Wait(Wait::Nothing) };
    }
    if target <= restart {
        return Step::Wait(Wait::Replay);
    }
    if here.tried.is_some_and(|tried| tried >= target) {
        return Step::Wait(Wait::Consistency);
    }
    Step::Decode { upto: target }
}

/// Whether a slot of ours is dropped because the primary's list lacks it. An unproven one always: nobody can use it.
pub fn is_extra(local: &LocalSlot, listed: bool, drop_extra: bool) -> bool {
    local.ours && !local.busy && !listed && (drop_extra || !local.ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(raw: u64) -> Lsn {
        Lsn::new(raw).expect("a position")
    }

    fn remote(xmin: u32, restart: u64, confirmed: u64) -> RemoteSlot {
        RemoteSlot {
            name: "s".into(),
            plugin: "spock_output".into(),
            database: "d".into(),
            two_phase: false,
            failover: false,
            catalog_xmin: (xmin != 0).then_some(Xid(xmin)),
            restart: Lsn::new(restart),
            confirmed: Lsn::new(confirmed),
            lost: false,
        }
    }

    fn local(ready: bool, xmin: u32, restart: u64, confirmed: u64) -> LocalSlot {
        LocalSlot {
            ours: true,
            busy: false,
            ready,
            lost: false,
            database: 5,
            plugin: "spock_output".into(),
            catalog_xmin: (xmin != 0).then_some(Xid(xmin)),
            restart: Lsn::new(restart),
            confirmed: Lsn::new(confirmed),
        }
    }

    fn here(replayed: u64) -> Here {
        Here { database: Some(5), replayed: Lsn::new(replayed), snapshot: false, tried: None }
    }

    fn with_snapshot(replayed: u64) -> Here {
        Here { snapshot: true, ..here(replayed) }
    }

    fn copy(xmin: u32, restart: u64, confirmed: u64) -> Step {
        Step::Copy(Positions { catalog_xmin: Xid(xmin), restart: lsn(restart), confirmed: lsn(confirmed) })
    }

    fn decode(upto: u64) -> Step {
        Step::Decode { upto: lsn(upto) }
    }

    #[test]
    fn an_unproven_slot_becomes_ready_only_where_decoding_is_complete() {
        let unproven = local(false, 700, 100, 0);
        let cases = [
            ("the primary needs older WAL", remote(700, 90, 150), here(200), Step::Wait(Wait::Subscriber)),
            ("the primary needs older rows", remote(699, 100, 150), here(200), Step::Wait(Wait::Subscriber)),
            ("caught up: try to decode", remote(700, 100, 150), here(200), decode(150)),
            ("caught up, replay is not so far", remote(700, 100, 150), here(120), decode(120)),
            ("nothing is replayed beyond its start", remote(700, 100, 150), here(100), Step::Wait(Wait::Replay)),
            ("replay is before its start", remote(700, 100, 150), here(99), Step::Wait(Wait::Replay)),
            ("replay is not known", remote(700, 100, 150), here(0), Step::Wait(Wait::Replay)),
            ("a snapshot is at hand", remote(701, 120, 150), with_snapshot(200), copy(701, 120, 150)),
            (
                "a snapshot does not help a slot that is behind",
                remote(701, 90, 150),
                with_snapshot(200),
                Step::Wait(Wait::Subscriber),
            ),
        ];
        for (name, remote, here, expected) in cases {
            assert_eq!(next_step(&remote, Some(&unproven), here), expected, "{name}");
        }
        let tried = |upto| Here { tried: Lsn::new(upto), ..here(200) };
        assert_eq!(next_step(&remote(700, 100, 150), Some(&unproven), tried(150)), Step::Wait(Wait::Consistency));
        assert_eq!(next_step(&remote(700, 100, 160), Some(&unproven), tried(150)), decode(160));
    }

    #[test]
    fn a_ready_slot_follows_and_never_goes_back() {
        let ready = local(true, 700, 100, 150);
        let cases = [
            ("nothing new", remote(700, 100, 150), here(200), Step::Wait(Wait::Nothing)),
            ("confirmed more", remote(700, 100, 160), here(200), decode(160)),
            ("confirmed more than is replayed", remote(700, 100, 300), here(200), decode(200)),
            ("replay waits", remote(700, 100, 300), here(150), Step::Wait(Wait::Nothing)),
            ("the primary confirmed less", remote(700, 100, 140), here(200), Step::Wait(Wait::Nothing)),
            ("its restart is older: confirmed still follows", remote(700, 90, 160), with_snapshot(200), decode(160)),
            ("its rows are older: confirmed still follows", remote(690, 100, 160), with_snapshot(200), decode(160)),
            ("a snapshot is at hand", remote(705, 155, 160), with_snapshot(200), copy(705, 155, 160)),
            ("a snapshot, nothing new", remote(700, 100, 150), with_snapshot(200), Step::Wait(Wait::Nothing)),
            ("a snapshot, only rows moved", remote(701, 100, 150), with_snapshot(200), copy(701, 100, 150)),
            ("a snapshot beyond what is replayed", remote(705, 250, 300), with_snapshot(200), decode(200)),
        ];
        for (name, remote, here, expected) in cases {
            assert_eq!(next_step(&remote, Some(&ready), here), expected, "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_alone_or_replaced() {
        let fine = remote(700, 100, 150);
        let ready = local(true, 700, 100, 150);
        let step = |remote: &RemoteSlot, local: &LocalSlot| next_step(remote, Some(local), here(200));
        assert_eq!(next_step(&fine, None, here(200)), Step::Create { from: lsn(100) });
        assert_eq!(next_step(&fine, None, Here { database: None, ..here(200) }), Step::Wait(Wait::NoDatabase));
        assert_eq!(step(&fine, &LocalSlot { ours: false, ..ready.clone() }), Step::Wait(Wait::NotOurs));
        assert_eq!(step(&fine, &LocalSlot { busy: true, ..ready.clone() }), Step::Wait(Wait::Busy));
        assert_eq!(step(&fine, &LocalSlot { lost: true, ..ready.clone() }), Step::Replace);
        assert_eq!(step(&fine, &LocalSlot { database: 6, ..ready.clone() }), Step::Replace);
        assert_eq!(step(&fine, &LocalSlot { plugin: "other".into(), ..ready.clone() }), Step::Replace);
        assert_eq!(step(&fine, &LocalSlot { restart: None, ..ready.clone() }), Step::Replace);
        assert_eq!(step(&RemoteSlot { lost: true, ..fine.clone() }, &ready), Step::Wait(Wait::LostThere));
        assert_eq!(step(&RemoteSlot { two_phase: true, ..fine.clone() }, &ready), Step::Wait(Wait::TwoPhase));
        assert_eq!(step(&RemoteSlot { restart: None, ..fine.clone() }, &ready), Step::Wait(Wait::Incomplete));
        assert_eq!(step(&RemoteSlot { confirmed: None, ..fine.clone() }, &ready), Step::Wait(Wait::Incomplete));
    }

    #[test]
    fn transaction_ids_are_unsigned_and_go_round() {
        let cases = [
            (700, 701, true),
            (701, 700, false),
            (700, 700, false),
            (0x7fff_ffff, 0x8000_0000, true),
            (0x9000_0000, 0x9000_0001, true),
            (0xffff_fff0, 3, true),
            (3, 0xffff_fff0, false),
        ];
        for (one, other, precedes) in cases {
            assert_eq!(xid_precedes(Xid(one), Xid(other)), precedes, "{one} {other}");
        }
        let ready = local(true, 0x9000_0000, 100, 150);
        assert_eq!(
            next_step(&remote(0x9000_0001, 120, 150), Some(&ready), with_snapshot(200)),
            copy(0x9000_0001, 120, 150)
        );
    }

    #[test]
    fn only_slots_that_the_worker_made_are_dropped() {
        let ready = local(true, 700, 100, 150);
        let unproven = local(false, 700, 100, 0);
        assert!(is_extra(&ready, false, true));
        assert!(!is_extra(&ready, true, true));
        assert!(!is_extra(&ready, false, false), "spock.drop_extra_slots is off");
        assert!(is_extra(&unproven, false, false), "nobody can use an unproven slot");
        assert!(!is_extra(&LocalSlot { ours: false, ..ready.clone() }, false, true));
        assert!(!is_extra(&LocalSlot { busy: true, ..ready }, false, true));
    }

    #[test]
    fn the_first_obstacle_is_named_and_sets_the_pause() {
        let (nap, feedback_nap) = (Duration::from_secs(1), Duration::from_secs(10));
        let all = Surroundings {
            in_recovery: true,
            native: false,
            wanted: true,
            receiving: true,
            has_slot: true,
            feedback: true,
        };
        let cases = [
            (all, Condition::Following, nap),
            (Surroundings { receiving: false, ..all }, Condition::NotReceiving, nap),
            (Surroundings { has_slot: false, receiving: false, ..all }, Condition::NoSlot, feedback_nap),
            (Surroundings { feedback: false, has_slot: false, ..all }, Condition::NoFeedback, feedback_nap),
            (Surroundings { wanted: false, feedback: false, ..all }, Condition::NoFilter, feedback_nap),
            (Surroundings { native: true, wanted: false, ..all }, Condition::Native, feedback_nap),
            (Surroundings { in_recovery: false, native: true, ..all }, Condition::Primary, feedback_nap),
        ];
        for (seen, condition, pause) in cases {
            assert_eq!(Condition::of(seen), condition, "{seen:?}");
            assert_eq!(condition.pause(nap, feedback_nap), pause, "{condition:?}");
        }
        assert_eq!(Condition::Unreachable.pause(nap, feedback_nap), feedback_nap);
    }
}
