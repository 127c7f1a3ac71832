//! The process `spock_failover_slots worker`: on a standby it keeps copies of the primary's logical slots, so that after
//! promotion subscribers go on where they were. What it does with each slot decides `spock_core::failover::standby`.
//!
//! # Invariants
//! 1. Only slots in the [`marker`] file, or temporary ones of this very process, are changed or dropped.
//! 2. A slot that cannot be moved now is passed over: no slot waits for another one.
//! 3. The worker ends on a server that is no standby; unproven slots go with it.

pub mod marker;
mod primary;
pub mod state;

use crate::pg::latch;
use crate::pg::process::{self, WorkerSpec};
use crate::pg::raise::{self, Level};
use crate::pg::scope::Txn;
use crate::pg::slots::{self, Acquired, Found};
use crate::pg::standby;
use crate::settings::failover as settings;
use marker::Marker;
use primary::Primary;
use spock_core::failover::standby::{
    Condition, Here, LocalSlot, RemoteSlot, Step, Surroundings, Wait, is_extra, next_step,
};
use spock_core::types::Lsn;
use state::SlotState;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The postmaster starts the worker again so long after it failed outside of a round.
const RESTART: Duration = Duration::from_secs(60);

/// Registers the worker. Only while the server preloads libraries.
pub fn register() {
    WorkerSpec {
        name: "spock_failover_slots worker",
        entry: c"spock_failover_slots_main",
        argument: 0,
        on_standby: true,
        restart_after: Some(RESTART),
    }
    .register_static();
}

/// The process's life.
pub fn main() {
    if !standby::in_recovery() {
        leave();
    }
    process::connect_to_shared_catalogs();
    process::pin_setting(c"application_name", "spock_failover_slots worker");
    process::at_exit(state::clear);
    let mut worker = Worker { marker: Marker::load(), ..Worker::default() };
    loop {
        latch::reload_if_asked();
        let condition = worker.round();
        if condition == Condition::Primary {
            leave();
        }
        latch::wait(condition.pause(settings::naptime(), settings::feedback_naptime()));
    }
}

/// This server is no standby, so its slots are its own. Ends the process for good.
fn leave() -> ! {
    if let Err(error) = marker::remove() {
        raise::warn(format!("could not remove {}: {error}", marker::SHOWN));
    }
    process::exit(0)
}

/// What the worker knows between two rounds.
#[derive(Default)]
struct Worker {
    marker: Marker,
    primary: Option<Primary>,
    condition: Option<Condition>,
    /// Up to where unproven slots were decoded in vain.
    tried: HashMap<String, Lsn>,
    /// What was last said about a slot.
    said: HashMap<String, String>,
    /// Where each slot of the primary stands.
    shown: BTreeMap<String, Wait>,
}

impl Worker {
    fn round(&mut self) -> Condition {
        let mut condition = Condition::of(Surroundings {
            in_recovery: standby::in_recovery(),
            native: standby::copies_slots_natively(),
            wanted: !settings::synchronized_slots().is_empty(),
            receiving: standby::is_receiving(),
            has_slot: standby::primary_slot_name().is_some(),
            feedback: standby::sends_feedback(),
        });
        if condition == Condition::Following {
            condition = match self.ask_primary() {
                Ok(Some(remote)) => self.follow(&remote),
                Ok(None) => Condition::NoSlot,
                Err(why) => {
                    self.primary = None;
                    self.say("", Level::Warning, format!("{}: {why}", Condition::Unreachable.sentence()));
                    Condition::Unreachable
                }
            };
        } else {
            self.primary = None;
        }
        if self.condition.replace(condition) != Some(condition) && condition != Condition::Unreachable {
            self.said.remove("");
            raise::log_line(condition.sentence());
        }
        state::report(condition, &self.states());
        condition
    }

    /// The primary's slots that are wanted here. `None`: it has no slot for this standby.
    fn ask_primary(&mut self) -> Result<Option<Vec<RemoteSlot>>, String> {
        self.primary.take_if(|primary| !primary.is_wanted());
        let primary = match &mut self.primary {
            Some(primary) => primary,
            none => none.insert(Primary::connect()?),
        };
        if !primary.has_slot(&standby::primary_slot_name().unwrap_or_default())? {
            return Ok(None);
        }
        let filters = settings::synchronized_slots();
        let mut slots = primary.logical_slots()?;
        slots.retain(|slot| filters.wants(&slot.name, &slot.plugin));
        Ok(Some(slots))
    }

    fn follow(&mut self, remote: &[RemoteSlot]) -> Condition {
        let found = slots::logical_slots();
        self.prune(&found);
        self.drop_extra(&found, remote);
        self.shown.clear();
        for there in remote {
            latch::check_interrupts();
            if !standby::in_recovery() {
                return Condition::Primary;
            }
            let here = found.iter().find(|found| found.name == there.name);
            match self.step(there, here) {
                Ok(wait) => self.report_wait(there, wait),
                Err(why) => {
                    self.shown.insert(there.name.clone(), Wait::Failed);
                    let text = format!("could not synchronize replication slot \"{}\": {why}", there.name);
                    self.say(&there.name, Level::Warning, text);
                }
            }
        }
        Condition::Following
    }

    /// Forgets slots that are gone here, whoever dropped them.
    fn prune(&mut self, found: &[Found]) {
        let is_here = |name: &str| found.iter().any(|slot| slot.name == name);
        self.tried.retain(|name, _| is_here(name));
        if self.marker.retain(is_here) {
            self.save_marker();
        }
    }

    fn save_marker(&self) {
        if let Err(error) = self.marker.save() {
            raise::warn(format!("could not write {}: {error}", marker::SHOWN));
        }
    }

    fn local(&self, found: &Found) -> LocalSlot {
        let own = process::own_pid();
        LocalSlot {
            ours: self.marker.has(&found.name) || (found.temporary && found.user_pid == own),
            busy: found.user_pid != 0 && found.user_pid != own,
            ready: !found.temporary,
            lost: found.lost,
            database: found.database,
            plugin: found.plugin.clone(),
            catalog_xmin: found.catalog_xmin,
            restart: found.restart,
            confirmed: found.confirmed,
        }
    }

    fn drop_extra(&mut self, found: &[Found], remote: &[RemoteSlot]) {
        let drop_extra = settings::drop_extra_slots();
        for slot in found {
            let listed = remote.iter().any(|remote| remote.name == slot.name);
            if is_extra(&self.local(slot), listed, drop_extra) {
                match self.drop_slot(&slot.name) {
                    Ok(()) => raise::log_line(format!(
                        "dropped replication slot \"{}\", which the primary does not have or which is not wanted any more",
                        slot.name
                    )),
                    Err(why) => {
                        let text = format!("could not drop replication slot \"{}\": {why}", slot.name);
                        self.say(&slot.name, Level::Warning, text);
                    }
                }
            }
        }
    }

    fn drop_slot(&mut self, name: &str) -> Result<(), String> {
        slots::attempt(|| {
            let txn = Txn::begin();
            slots::drop(name);
            txn.commit();
        })
        .map_err(|caught| caught.report.message)?;
        self.tried.remove(name);
        if self.marker.remove(name) {
            self.save_marker();
        }
        Ok(())
    }

    /// Does the next step for one slot and says how it stands afterwards.
    fn step(&mut self, remote: &RemoteSlot, found: Option<&Found>) -> Result<Wait, String> {
        let local = found.map(|found| self.local(found));
        let tried = self.tried.get(&remote.name).copied();
        let done = slots::attempt(|| {
            let txn = Txn::begin();
            let here = Here {
                database: slots::lock_database(&remote.database),
                replayed: standby::replayed(),
                snapshot: remote.restart.is_some_and(slots::has_snapshot),
                tried,
            };
            let step = next_step(remote, local.as_ref(), here);
            let done = act(remote, step, here.database.unwrap_or_default());
            txn.commit();
            done
        })
        .map_err(|caught| caught.report.message)?;
        match done {
            Done::Waits(wait) => Ok(wait),
            Done::Moved { .. } if local.is_some_and(|local| local.ready) => Ok(Wait::Nothing),
            Done::Moved { complete: true, .. } => self.persist(remote).map(|()| Wait::Nothing),
            Done::Moved { complete: false, upto } => {
                self.tried.insert(remote.name.clone(), upto);
                Ok(Wait::Consistency)
            }
            Done::Created => self.step(remote, slots::find(&remote.name).as_ref()),
            Done::Replace => {
                self.drop_slot(&remote.name)?;
                self.step(remote, None)
            }
        }
    }

    /// From now on the slot outlives this process: the marker first, so that a crash leaves no slot that nobody knows.
    fn persist(&mut self, remote: &RemoteSlot) -> Result<(), String> {
        self.marker.add(&remote.name);
        self.marker.save().map_err(|error| format!("could not write {}: {error}", marker::SHOWN))?;
        slots::attempt(|| {
            let txn = Txn::begin();
            Acquired::open(&remote.name).persist(remote.failover);
            txn.commit();
        })
        .map_err(|caught| caught.report.message)?;
        self.tried.remove(&remote.name);
        raise::log_line(format!("replication slot \"{}\" is synchronized and ready for a promotion", remote.name));
        Ok(())
    }

    fn report_wait(&mut self, remote: &RemoteSlot, wait: Wait) {
        self.shown.insert(remote.name.clone(), wait);
        if wait == Wait::Nothing {
            self.said.remove(&remote.name);
            return;
        }
        let level = if wait.needs_attention() { Level::Warning } else { Level::Log };
        self.say(&remote.name, level, format!("replication slot \"{}\" is not synchronized: {wait}", remote.name));
    }

    /// Writes what was not written last about `slot`.
    fn say(&mut self, slot: &str, level: Level, text: String) {
        if self.said.get(slot) != Some(&text) {
            match level {
                Level::Warning => raise::warn(text.clone()),
                _ => raise::log_line(text.clone()),
            }
            self.said.insert(slot.to_owned(), text);
        }
    }

    fn states(&self) -> Vec<SlotState> {
        let found = slots::logical_slots();
        self.shown
            .iter()
            .map(|(name, wait)| {
                let here = found.iter().find(|found| found.name == *name);
                SlotState {
                    name: name.clone(),
                    wait: *wait,
                    ready: here.is_some_and(|found| !found.temporary && self.marker.has(name)),
                    restart: here.and_then(|found| found.restart),
                    confirmed: here.and_then(|found| found.confirmed),
                }
            })
            .collect()
    }
}

/// What became of a step.
enum Done {
    Waits(Wait),
    Moved { complete: bool, upto: Lsn },
    Created,
    Replace,
}

fn act(remote: &RemoteSlot, step: Step, database: u32) -> Done {
    match step {
        Step::Wait(wait) => Done::Waits(wait),
        Step::Replace => Done::Replace,
        Step::Create { from } => {
            drop(Acquired::create(&remote.name, &remote.plugin, database, from));
            Done::Created
        }
        Step::Copy(positions) => {
            Acquired::open(&remote.name).copy(positions);
            Done::Moved { complete: true, upto: positions.confirmed }
        }
        Step::Decode { upto } => {
            let complete = Acquired::open(&remote.name).decode(database, upto);
            Done::Moved { complete, upto }
        }
    }
}
