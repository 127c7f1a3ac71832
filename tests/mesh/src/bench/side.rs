//! One of the two pairs that are compared: how it is connected, paused and resumed, and which processes do its work.
//!
//! **Invariant:** everything that differs between the two sides is in this file.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::error::MeshError;
use crate::node::Node;
use crate::topology::{self, literal};
use crate::wait::{Deadline, Probe, wait_closely, wait_until};

/// Longest time for one workload to be applied.
const APPLY_LIMIT_S: u64 = 1800;
/// How often a subscription that should be applying is asked how it is: the question costs it time that is being measured.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(2);
/// Starting or ending a subscription takes well below a second on an idle machine.
const SWITCH_LIMIT_S: u64 = 120;

/// Who replicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The server's own publication and subscription, with default options.
    Native,
    /// The extension.
    Ours,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Native, Self::Ours];

    /// Name of its provider node.
    pub fn provider(self) -> &'static str {
        match self {
            Self::Native => "native_p",
            Self::Ours => "ours_p",
        }
    }

    /// Name of its subscriber node.
    pub fn subscriber(self) -> &'static str {
        match self {
            Self::Native => "native_s",
            Self::Ours => "ours_s",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Ours => "ours",
        })
    }
}

/// A provider and its subscriber.
pub struct Pair<'c> {
    /// Who replicates.
    pub side: Side,
    /// Where the rows are made.
    pub provider: &'c Node,
    /// Where they go.
    pub subscriber: &'c Node,
    /// Number of the last marker row.
    marker: u64,
}

/// What a resumed subscription took.
pub struct Drained {
    /// From the slot's first use to the visible marker.
    pub seconds: f64,
    /// Processor time of the worker and of the sender.
    pub worker_cpu_s: Option<f64>,
    /// See above.
    pub sender_cpu_s: Option<f64>,
}

impl<'c> Pair<'c> {
    /// The pair of that side.
    pub fn find(cluster: &'c Cluster, side: Side) -> Result<Self, MeshError> {
        let node = |name: &str| {
            cluster.find(name).ok_or_else(|| MeshError::Unexpected(format!("the cluster has no node {name:?}")))
        };
        Ok(Self { side, provider: node(side.provider())?, subscriber: node(side.subscriber())?, marker: 0 })
    }

    /// Makes the subscription of all tables.
    pub fn connect(&self) -> Result<(), MeshError> {
        match self.side {
            Side::Native => {
                self.provider.execute("create publication bench for all tables")?;
                let dsn = literal(&self.provider.dsn());
                self.subscriber.execute(&format!(
                    "create subscription bench connection {dsn} publication bench with (copy_data = false)"
                ))?;
            }
            Side::Ours => {
                for node in [self.provider, self.subscriber] {
                    topology::create_node(node)?;
                }
                // A table without a key can only be inserted into.
                self.provider.execute(
                    "select spock.repset_add_table(case when exists (select from pg_index where indrelid = c.oid and
                         indisprimary) then 'default' else 'default_insert_only' end, c.oid::regclass)
                     from pg_class c where relkind = 'r' and relnamespace = 'public'::regnamespace",
                )?;
                let dsn = literal(&self.provider.dsn());
                self.subscriber.execute(&format!("select spock.sub_create('bench', {dsn})"))?;
            }
        }
        self.wait_active(true)
    }

    fn slot(&self) -> Result<String, MeshError> {
        Ok(match self.side {
            Side::Native => "bench".to_owned(),
            Side::Ours => self.subscriber.execute("select slot_name from spock.sub_show_status('bench')")?.to_string(),
        })
    }

    /// Ends the stream; what is committed from now on is a backlog.
    pub fn pause(&self) -> Result<(), MeshError> {
        self.subscriber.execute(match self.side {
            Side::Native => "alter subscription bench disable",
            Side::Ours => "select spock.sub_disable('bench')",
        })?;
        self.wait_active(false)
    }

    fn resume(&self) -> Result<(), MeshError> {
        self.subscriber.execute(match self.side {
            Side::Native => "alter subscription bench enable",
            Side::Ours => "select spock.sub_enable('bench')",
        })?;
        self.wait_active(true)
    }

    fn wait_active(&self, active: bool) -> Result<(), MeshError> {
        let what = format!("the slot of {} to be {}", self.side, if active { "in use" } else { "free" });
        let ask = "select coalesce(bool_or(active), false) from pg_replication_slots where not temporary";
        let want = if active { "t" } else { "f" };
        wait_closely(Deadline::in_seconds(SWITCH_LIMIT_S), &what, || {
            let got = self.provider.execute(ask)?.to_string();
            Ok(if got == want { Probe::Ready(()) } else { Probe::NotYet(got) })
        })
    }

    /// Commits a row behind everything else.
    pub fn mark(&mut self) -> Result<(), MeshError> {
        self.marker += 1;
        self.provider.execute(&format!("insert into bench_marker values ({})", self.marker)).map(drop)
    }

    /// Waits until the last marker is visible on the subscriber.
    pub fn wait_marker(&self) -> Result<(), MeshError> {
        let ask = format!("select count(*) from bench_marker where id = {}", self.marker);
        let mut asked_at = Instant::now();
        wait_closely(Deadline::in_seconds(APPLY_LIMIT_S), &format!("{} to apply everything", self.side), || {
            let got = self.subscriber.execute(&ask)?.to_string();
            if got == "1" {
                return Ok(Probe::Ready(()));
            }
            if asked_at.elapsed() > TROUBLE_INTERVAL {
                self.refuse_trouble()?;
                asked_at = Instant::now();
            }
            Ok(Probe::NotYet("not there".to_owned()))
        })
    }

    /// A subscription that was disabled will not go on.
    fn refuse_trouble(&self) -> Result<(), MeshError> {
        if self.side == Side::Ours {
            let status = self.subscriber.execute("select status from spock.sub_show_status('bench')")?.to_string();
            if status == "disabled" {
                let why = self.subscriber.execute("select last_error from spock.sub_worker_status('bench')")?;
                return Err(MeshError::Unexpected(format!("the subscription was disabled: {why}")));
            }
        }
        Ok(())
    }

    /// Makes a second subscription that copies `tables`, which are empty on the subscriber, waits until they are in sync and
    /// drops it again. Gives the seconds from the first statement to the last table.
    pub fn copy(&self, tables: &[&str]) -> Result<f64, MeshError> {
        let dsn = literal(&self.provider.dsn());
        let list = tables.join(", ");
        let (make, done, drop) = match self.side {
            Side::Native => {
                self.provider.execute("drop publication if exists bench_copy")?;
                self.provider.execute(&format!("create publication bench_copy for table {list}"))?;
                (
                    format!("create subscription bench_copy connection {dsn} publication bench_copy"),
                    "select bool_and(srsubstate = 'r') from pg_subscription_rel
                      where srsubid = (select oid from pg_subscription where subname = 'bench_copy')",
                    "drop subscription bench_copy",
                )
            }
            Side::Ours => {
                self.provider.execute("select spock.repset_drop('bench_copy', true)")?;
                self.provider.execute("select spock.repset_create('bench_copy')")?;
                for table in tables {
                    self.provider
                        .execute(&format!("select spock.repset_add_table('bench_copy', {})", literal(table)))?;
                }
                (
                    format!("select spock.sub_create('bench_copy', {dsn}, '{{bench_copy}}', synchronize_data := true)"),
                    "select bool_and(sync_status = 'r') and count(*) > 1 from spock.local_sync_status
                      where sync_subid = (select sub_id from spock.subscription where sub_name = 'bench_copy')",
                    "select spock.sub_drop('bench_copy')",
                )
            }
        };
        let began = Instant::now();
        self.subscriber.execute(&make)?;
        wait_closely(Deadline::in_seconds(APPLY_LIMIT_S), &format!("{} to copy {list}", self.side), || {
            let got = self.subscriber.execute(done)?.to_string();
            Ok(if got == "t" { Probe::Ready(()) } else { Probe::NotYet(got) })
        })?;
        let seconds = began.elapsed().as_secs_f64();
        self.subscriber.execute(drop)?;
        Ok(seconds)
    }

    /// Does something on the provider while replication runs, and waits until it has arrived.
    pub fn arrive(&mut self, sql: &[&str]) -> Result<(), MeshError> {
        for one in sql {
            self.provider.execute(one)?;
        }
        self.mark()?;
        self.wait_marker()
    }

    /// Lets the backlog go, up to its marker, and measures. `look` is called with the worker's id while it works.
    pub fn drain(&mut self, look: &mut dyn FnMut(&Self, u32) -> Result<(), MeshError>) -> Result<Drained, MeshError> {
        self.mark()?;
        for node in [self.provider, self.subscriber] {
            node.execute("checkpoint")?;
        }
        self.resume()?;
        let began = Instant::now();
        let (worker, sender) = self.processes()?;
        look(self, worker)?;
        self.wait_marker()?;
        Ok(Drained {
            seconds: began.elapsed().as_secs_f64(),
            worker_cpu_s: processor_seconds(worker),
            sender_cpu_s: processor_seconds(sender),
        })
    }

    /// Process ids of the apply worker and of the sender. Both are new after each pause.
    fn processes(&self) -> Result<(u32, u32), MeshError> {
        let slot = literal(&self.slot()?);
        let worker = match self.side {
            Side::Native => "select pid from pg_stat_subscription where subname = 'bench' and relid is null",
            Side::Ours => "select pid from pg_stat_activity where backend_type like 'spock apply%'",
        };
        let sender = format!("select active_pid from pg_replication_slots where slot_name = {slot}");
        Ok((pid_of(self.subscriber, worker)?, pid_of(self.provider, &sender)?))
    }
}

fn pid_of(node: &Node, ask: &str) -> Result<u32, MeshError> {
    wait_until(Deadline::in_seconds(SWITCH_LIMIT_S), &format!("a process of {}", node.name()), || {
        let got = node.execute(ask)?.to_string();
        Ok(got.parse().map_or(Probe::NotYet(got), Probe::Ready))
    })
}

/// Time that a process has spent on a processor.
fn processor_seconds(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let nanoseconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

/// Private memory of a process in kB: neither shared buffers nor program text.
pub fn private_kb(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?.trim().trim_end_matches(" kB").parse().ok()
}
