//! This node's own announcements: when one is due, and what it says. Runs in the manager.
//!
//! # Invariants
//! 1. At most one in each [`INTERVAL`], and none that tells nobody anything new.
//! 2. What it says is in the WAL before it. So whoever reads it can rely on it though commits of the apply workers may not be
//!    on disk when they are announced: a crash that loses one of them loses the announcement as well, which has then not been
//!    sent, because only what is on disk is.
//! 3. Nothing follows it in the WAL whose commit time was taken before it was known what to say: a change that is older than
//!    what is announced would arrive after it. A patched server takes times in the order of the WAL; on a stock server those
//!    that are just committing are waited for.

use super::{Cause, Members, Sample, Stream, Verdict};
use crate::error::Report;
use crate::pg::attempt::attempt;
use crate::pg::commits::Committing;
use crate::pg::fault;
use crate::pg::raise::{self, Level};
use crate::pg::{latch, message, process};
use pgrx::PgSqlErrorCode;
use spock_core::merge::stability::Applied;
use spock_core::types::{Lsn, NodeId, SubId};
use spock_core::wire::announcement::{Announcement, POSITIONS_MAX};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Shortest time between two announcements: a tombstone lives for seconds, and each announcement is a flush of the WAL.
const INTERVAL: Duration = Duration::from_secs(1);
/// A question is asked again after so long: who was asked may have restarted and forgotten it.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// A question that was not asked again for so long has an answer, or nobody who wants one.
const ASKED_LAPSES_US: i64 = 120_000_000;
/// Pause between two looks at transactions that are committing. They hold up checkpoints, so none takes long.
const COMMITTING_POLL: Duration = Duration::from_millis(2);
/// If some still commit after so many looks, the next pass tries again.
const COMMITTING_POLLS_MAX: u32 = 100;

/// A question that is open.
struct Asked {
    /// What all others are to announce.
    applied: Applied,
    at: Instant,
}

/// What the manager of a database has announced.
pub struct Announcer {
    next_at: Instant,
    last: Applied,
    asked: Option<Asked>,
    /// Time of the last sample for which the others were asked.
    served: i64,
    probe: Probe,
    warned: bool,
}

impl Default for Announcer {
    fn default() -> Self {
        Self {
            next_at: Instant::now(),
            last: Applied::default(),
            asked: None,
            served: 0,
            probe: Probe::Off,
            warned: false,
        }
    }
}

/// One sample that a test asked for.
enum Probe {
    Off,
    Taken { sample: Sample, said: Option<Verdict> },
}

/// How much of what the stream's provider asked for `applied` covers, and how much there is.
fn answered(stream: &Stream, applied: &Applied) -> (usize, usize) {
    if process::now().micros().saturating_sub(stream.asked_when) > ASKED_LAPSES_US {
        return (0, 0);
    }
    let Some((provider, at)) = NodeId::new(stream.provider).zip(Lsn::new(stream.asked_at)) else { return (0, 0) };
    let mut wanted = stream.asked.applied();
    // Besides what it had applied: what it had written itself, up to the question.
    wanted.advance(provider, at);
    let covered = wanted.iter().filter(|(origin, at)| applied.of(*origin) >= Some(*at)).count();
    (covered, wanted.iter().count())
}

impl Announcer {
    /// Writes an announcement if one is due. Outside a transaction. Returns the time until the next look; the process is woken
    /// when something comes up meanwhile.
    pub fn tick(&mut self) -> Duration {
        if !self.is_called_for() {
            return Duration::MAX;
        }
        let now = Instant::now();
        if now < self.next_at {
            return self.next_at - now;
        }
        self.next_at = now + INTERVAL;
        match attempt(|| self.pass()) {
            Ok(Ok(())) => {}
            Ok(Err(report)) => crate::worker::complain(&report),
            Err(caught) if caught.report.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {}
            Err(caught) => crate::worker::complain(&caught.report),
        }
        INTERVAL
    }

    /// Whether a pass may have something to do: no catalog is read while nobody holds tombstones.
    fn is_called_for(&self) -> bool {
        if fault::is_armed(fault::ANNOUNCEMENT_PROBE) || !matches!(self.probe, Probe::Off) {
            return true;
        }
        let (holding, sampled) = super::holder(process::own_database()).unwrap_or_default();
        if holding && (self.served != sampled || self.asked.is_some()) {
            return true;
        }
        super::streams().values().any(|stream| {
            let (covered, wanted) = answered(stream, &self.last);
            covered < wanted
        })
    }

    fn pass(&mut self) -> Result<(), Report> {
        self.look_at_probe()?;
        let members = Members::read()?;
        let streams = super::streams();
        let (holding, sampled) = super::holder(process::own_database()).unwrap_or_default();
        let applied = super::position_now(&members);
        let mut committing = Committing::now();
        let asks = holding && self.asks(&members, &streams, sampled);
        let answers = members.readings.iter().filter_map(|reading| streams.get(&reading.sub)).any(|stream| {
            let ((before, _), (now, _)) = (answered(stream, &self.last), answered(stream, &applied));
            now > before
        });
        if !asks && !answers {
            return Ok(());
        }
        let Some(body) = Announcement::body(members.local, asks, &applied) else {
            self.warn_of_size();
            return Ok(());
        };
        let mut looks = 0;
        while !committing.are_done() {
            looks += 1;
            if looks > COMMITTING_POLLS_MAX {
                return Ok(());
            }
            latch::wait(COMMITTING_POLL);
            latch::check_interrupts();
        }
        message::write_announcement(&body);
        if asks {
            self.served = sampled;
            self.asked = Some(Asked { applied: applied.clone(), at: Instant::now() });
        }
        self.last = applied;
        Ok(())
    }

    /// Whether the others are to be asked: a sample was taken since the last time, or the last question has not been answered
    /// for long.
    fn asks(&mut self, members: &Members, streams: &BTreeMap<SubId, Stream>, sampled: i64) -> bool {
        if let Some(asked) = &self.asked {
            let open = super::judge(members, streams, &Sample(asked.applied.clone()), None) != Verdict::Stable;
            if open && asked.at.elapsed() > ASK_AGAIN {
                return true;
            }
            if !open {
                self.asked = None;
            }
        }
        self.served != sampled
    }

    fn warn_of_size(&mut self) {
        if core::mem::replace(&mut self.warned, true) {
            return;
        }
        raise::log(
            Level::Warning,
            &Report::new(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!("this node reads from {POSITIONS_MAX} nodes or more, and cannot announce how far it is"),
            )
            .hint("Tombstones are kept on all nodes until they are old enough."),
        );
    }

    /// What a test sees: one sample for each time that the point is armed, and each new verdict on it.
    fn look_at_probe(&mut self) -> Result<(), Report> {
        let armed = fault::is_armed(fault::ANNOUNCEMENT_PROBE);
        match &mut self.probe {
            Probe::Off if armed => {
                super::set_holding(true);
                let sample = super::sample()?;
                raise::log_line("announcement probe: sampled");
                self.probe = Probe::Taken { sample, said: None };
            }
            Probe::Off => {}
            Probe::Taken { .. } if !armed => {
                super::set_holding(false);
                self.probe = Probe::Off;
                raise::log_line("announcement probe: off");
            }
            Probe::Taken { sample, said } => {
                let verdict = super::verdict(sample)?;
                if matches!(verdict, Verdict::Unknown(_, Cause::NotSampled)) {
                    *sample = super::sample()?;
                } else if *said != Some(verdict) {
                    raise::log_line(format!("announcement probe: {verdict}"));
                    *said = Some(verdict);
                }
            }
        }
        Ok(())
    }
}
