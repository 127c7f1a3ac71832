//! What will be done to the mesh, and when: a list that follows from the seed alone.
//!
//! **Invariants.** The same seed, length, number of nodes and exercises give the same list. While a node is down or stands
//! still nothing else is done to it, so that each step can be carried out when those before it are. What is taken away is
//! given back before the list ends.

use std::fmt;

use super::exercise::Exercise;
use super::random::Random;

/// Time before the first fault, in which the load takes up.
const FIRST_MS: u64 = 1_000;
/// Shortest and longest time between two faults.
const GAP_MS: (u64, u64) = (300, 1_600);
/// How long a server stays down, stands still, or a line stays cut.
const AWAY_MS: (u64, u64) = (200, 4_000);
/// After a kill of one process its server starts all others again.
const RECOVERY_MS: u64 = 1_500;
/// Clocks are moved to these offsets from the real one, in seconds.
const OFFSETS_S: [i64; 6] = [-5, -2, 0, 1, 3, 6];

/// A process of the extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Applies what comes from one provider.
    Apply,
    /// Starts the apply workers of a database.
    Manager,
    /// Starts the managers.
    Supervisor,
    /// Sends to one subscriber.
    Walsender,
}

impl Role {
    const ALL: [Self; 4] = [Self::Apply, Self::Manager, Self::Supervisor, Self::Walsender];

    /// How `pg_stat_activity.backend_type` of such a process begins.
    pub fn backend_type(self) -> &'static str {
        match self {
            Self::Apply => "spock apply",
            Self::Manager => "spock manager",
            Self::Supervisor => "spock supervisor",
            Self::Walsender => "walsender",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apply => "apply worker",
            Self::Manager => "manager",
            Self::Supervisor => "supervisor",
            Self::Walsender => "walsender",
        })
    }
}

/// How a server goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// SIGKILL to all its processes.
    Killed,
    /// Immediate stop.
    Immediate,
    /// Fast stop.
    Fast,
}

/// How a connection is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It breaks, in both directions, and cannot be made again.
    Broken,
    /// It stands, and carries nothing.
    Stalled,
    /// The subscription is disabled.
    Disabled,
}

/// One thing to do. Nodes are numbered from 0; the one that joins comes after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL to one process; `pick` chooses among several of the role.
    Kill {
        /// On this node.
        node: usize,
        /// What it is.
        role: Role,
        /// Its number among those, modulo how many there are.
        pick: u64,
    },
    /// A server goes down.
    Stop {
        /// Which.
        node: usize,
        /// How.
        how: Down,
    },
    /// It comes up again.
    Start {
        /// Which.
        node: usize,
    },
    /// The line from a provider to a subscriber, and for `Broken` and `Stalled` the other direction too.
    Cut {
        /// One end, the subscriber for `Disabled`.
        one: usize,
        /// The other.
        other: usize,
        /// How.
        how: Cut,
    },
    /// What `Cut` took away comes back.
    Heal {
        /// One end.
        one: usize,
        /// The other.
        other: usize,
        /// How it was taken away.
        how: Cut,
    },
    /// A server restarts with its clock off by some seconds.
    Clock {
        /// Which.
        node: usize,
        /// From the real time.
        offset_s: i64,
    },
    /// All processes of a server stand still, or its apply workers alone.
    Pause {
        /// Which server.
        node: usize,
        /// The apply workers alone.
        workers_only: bool,
    },
    /// They go on.
    Resume {
        /// Which server.
        node: usize,
    },
    /// CHECKPOINT.
    Checkpoint {
        /// Where.
        node: usize,
    },
    /// VACUUM FREEZE.
    Freeze {
        /// Where.
        node: usize,
    },
    /// A further node subscribes to `source` with an initial copy.
    Join {
        /// Its first provider.
        source: usize,
    },
    /// When the copy is there, it subscribes to all others.
    Complete,
    /// It leaves.
    Leave,
}

fn name(node: usize) -> String {
    format!("n{}", node + 1)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Kill { node, role, pick } => write!(f, "{}: SIGKILL to {role} {pick}", name(node)),
            Self::Stop { node, how: Down::Killed } => write!(f, "{}: SIGKILL to all processes", name(node)),
            Self::Stop { node, how: Down::Immediate } => write!(f, "{}: immediate stop", name(node)),
            Self::Stop { node, how: Down::Fast } => write!(f, "{}: fast stop", name(node)),
            Self::Start { node } => write!(f, "{}: start", name(node)),
            Self::Cut { one, other, how: Cut::Broken } => write!(f, "{}, {}: lines broken", name(one), name(other)),
            Self::Cut { one, other, how: Cut::Stalled } => write!(f, "{}, {}: lines stalled", name(one), name(other)),
            Self::Cut { one, other, how: Cut::Disabled } => {
                write!(f, "{}: subscription to {} disabled", name(one), name(other))
            }
            Self::Heal { one, other, how: Cut::Disabled } => {
                write!(f, "{}: subscription to {} enabled", name(one), name(other))
            }
            Self::Heal { one, other, .. } => write!(f, "{}, {}: lines whole", name(one), name(other)),
            Self::Clock { node, offset_s } => write!(f, "{}: restart with the clock at {offset_s:+} s", name(node)),
            Self::Pause { node, workers_only: true } => write!(f, "{}: apply workers stand still", name(node)),
            Self::Pause { node, workers_only: false } => write!(f, "{}: all processes stand still", name(node)),
            Self::Resume { node } => write!(f, "{}: goes on", name(node)),
            Self::Checkpoint { node } => write!(f, "{}: checkpoint", name(node)),
            Self::Freeze { node } => write!(f, "{}: vacuum freeze", name(node)),
            Self::Join { source } => write!(f, "a further node joins at {}", name(source)),
            Self::Complete => f.write_str("the further node subscribes to all others"),
            Self::Leave => f.write_str("the further node leaves"),
        }
    }
}

/// An action and when it is due, from the start of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Milliseconds after the load began.
    pub at_ms: u64,
    /// What to do.
    pub action: Action,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7.1} s  {}", self.at_ms as f64 / 1000.0, self.action)
    }
}

/// The list for a run of `seconds` with `nodes` nodes, beside the one that joins.
pub fn plan(seed: u64, seconds: u32, nodes: usize, exercises: &[Exercise]) -> Vec<Step> {
    let end_ms = u64::from(seconds) * 1000;
    let mut draft = Draft {
        random: Random::of(seed, &[0]),
        nodes,
        end_ms,
        joined: false,
        taken: Vec::new(),
        whole: Vec::new(),
        steps: Vec::new(),
    };
    let joins = exercises.contains(&Exercise::Join);
    if joins {
        draft.joining();
    }
    let faults: Vec<(Exercise, u64)> =
        exercises.iter().filter_map(|one| Some((*one, weight(*one)?))).filter(|(_, weight)| *weight > 0).collect();
    let mut now_ms = FIRST_MS;
    while now_ms < end_ms
        && let Some(fault) = draft.random.weighted(&faults)
    {
        draft.fault(fault, now_ms);
        now_ms += draft.random.between(GAP_MS.0, GAP_MS.1);
    }
    // Stable: of steps at one moment the one that was drawn first comes first.
    draft.steps.sort_by_key(|step| step.at_ms);
    draft.steps
}

/// How often each fault is drawn; none for what is no fault of a moment.
fn weight(exercise: Exercise) -> Option<u64> {
    match exercise {
        Exercise::KillWorker => Some(5),
        Exercise::KillServer => Some(3),
        Exercise::Restart => Some(2),
        Exercise::Cut => Some(5),
        Exercise::Clock => Some(2),
        Exercise::Pause => Some(3),
        Exercise::Checkpoint => Some(4),
        Exercise::Freeze => Some(4),
        _ => None,
    }
}

struct Draft {
    random: Random,
    nodes: usize,
    end_ms: u64,
    joined: bool,
    /// What is done to a node, from and until when.
    taken: Vec<(usize, u64, u64)>,
    /// When all lines have to be whole.
    whole: Vec<(u64, u64)>,
    steps: Vec<Step>,
}

impl Draft {
    fn push(&mut self, at_ms: u64, action: Action) {
        self.steps.push(Step { at_ms, action });
    }

    fn is_free(&self, node: usize, from_ms: u64, until_ms: u64) -> bool {
        !self.taken.iter().any(|(its, from, until)| *its == node && *from <= until_ms && from_ms <= *until)
    }

    /// Takes the nodes for that time if all of them are free.
    fn take(&mut self, nodes: &[usize], from_ms: u64, until_ms: u64) -> bool {
        let free = nodes.iter().all(|node| self.is_free(*node, from_ms, until_ms));
        if free {
            self.taken.extend(nodes.iter().map(|node| (*node, from_ms, until_ms)));
        }
        free
    }

    /// Joins early, leaves in the middle, and joins again, to be compared with the others at the end. What the further node
    /// says to the others needs all of them.
    fn joining(&mut self) {
        self.joined = true;
        let all: Vec<usize> = (0..=self.nodes).collect();
        let mut join = || Action::Join { source: self.random.below(self.nodes as u64) as usize };
        let (first, second) = (join(), join());
        let steps = [(8, first), (25, Action::Complete), (45, Action::Leave), (60, second), (80, Action::Complete)];
        for (percent, action) in steps {
            let at = self.end_ms * percent / 100;
            self.take(&all, at, at + RECOVERY_MS);
            self.whole.push((at, at + RECOVERY_MS));
            self.push(at, action);
        }
    }

    fn any_node(&mut self) -> usize {
        let count = self.nodes + usize::from(self.joined);
        self.random.below(count as u64) as usize
    }

    fn away(&mut self, now_ms: u64) -> u64 {
        let until = now_ms + self.random.between(AWAY_MS.0, AWAY_MS.1);
        until.min(self.end_ms)
    }

    /// Draws the same numbers whether or not the fault finds its place.
    fn fault(&mut self, fault: Exercise, now_ms: u64) {
        let node = self.any_node();
        let until = self.away(now_ms);
        let choice = self.random.number();
        let recovered = now_ms + RECOVERY_MS;
        match fault {
            Exercise::KillWorker => {
                // The supervisor and the manager are one each: an apply worker or a walsender is the likelier victim.
                let weights =
                    Role::ALL.map(|role| (role, if matches!(role, Role::Apply | Role::Walsender) { 3 } else { 1 }));
                let role = Random::new(choice).weighted(&weights).unwrap_or(Role::Apply);
                if self.take(&[node], now_ms, recovered) {
                    self.push(now_ms, Action::Kill { node, role, pick: choice % 4 });
                }
            }
            Exercise::KillServer => self.down(node, Down::Killed, now_ms, until),
            Exercise::Restart => {
                let how = if choice.is_multiple_of(2) { Down::Immediate } else { Down::Fast };
                self.down(node, how, now_ms, until);
            }
            Exercise::Cut => self.cut(choice, now_ms, until),
            Exercise::Clock => {
                let offset_s = OFFSETS_S[(choice % OFFSETS_S.len() as u64) as usize];
                if self.take(&[node], now_ms, recovered) {
                    self.push(now_ms, Action::Clock { node, offset_s });
                }
            }
            Exercise::Pause if self.take(&[node], now_ms, until) => {
                self.push(now_ms, Action::Pause { node, workers_only: choice.is_multiple_of(2) });
                self.push(until, Action::Resume { node });
            }
            Exercise::Checkpoint if self.is_free(node, now_ms, now_ms) => {
                self.push(now_ms, Action::Checkpoint { node })
            }
            Exercise::Freeze if self.is_free(node, now_ms, now_ms) => self.push(now_ms, Action::Freeze { node }),
            _ => {}
        }
    }

    fn down(&mut self, node: usize, how: Down, now_ms: u64, until_ms: u64) {
        if self.take(&[node], now_ms, until_ms + RECOVERY_MS) {
            self.push(now_ms, Action::Stop { node, how });
            self.push(until_ms, Action::Start { node });
        }
    }

    fn cut(&mut self, choice: u64, now_ms: u64, until_ms: u64) {
        let nodes = self.nodes as u64;
        let one = (choice % nodes) as usize;
        let other = ((choice % nodes + 1 + (choice / nodes) % (nodes - 1)) % nodes) as usize;
        let how = [Cut::Broken, Cut::Stalled, Cut::Disabled][(choice / 64 % 3) as usize];
        // A line is cut while its ends come and go; a subscription can be disabled and enabled on a running node only.
        let joining = self.whole.iter().any(|(from, until)| *from <= until_ms && now_ms <= *until);
        let taken = !joining
            && match how {
                Cut::Disabled => self.take(&[one], now_ms, until_ms),
                Cut::Broken | Cut::Stalled => true,
            };
        if taken {
            self.push(now_ms, Action::Cut { one, other, how });
            self.push(until_ms, Action::Heal { one, other, how });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(seed: u64) -> Vec<Step> {
        plan(seed, 120, 3, &Exercise::ALL)
    }

    #[test]
    fn a_seed_gives_one_plan() {
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
        assert!(all(7).len() > 60, "{}", all(7).len());
    }

    #[test]
    fn every_action_comes_up_and_what_was_left_out_does_not() {
        let text: String = (0..20).flat_map(all).map(|step| format!("{step}\n")).collect();
        let words = [
            "apply worker",
            "manager",
            "supervisor",
            "walsender",
            "all processes\n",
            "immediate",
            "fast stop",
            "broken",
            "stalled",
            "disabled",
            "clock at -2 s",
            "stand still",
            "goes on",
            "checkpoint",
            "freeze",
            "joins",
            "subscribes",
            "leaves",
        ];
        for word in words {
            assert!(text.contains(word), "{word}");
        }
        let quiet = plan(7, 120, 3, &[Exercise::Update, Exercise::Checkpoint]);
        assert!(!quiet.is_empty());
        assert!(quiet.iter().all(|step| matches!(step.action, Action::Checkpoint { .. })));
        assert_eq!(plan(7, 120, 3, &[Exercise::Update]), []);
    }

    /// Goes through the list as the one who carries it out does.
    #[test]
    fn nothing_is_asked_of_a_server_that_is_down_and_all_is_given_back() {
        for seed in 0..200 {
            let (mut down, mut paused) = (Vec::new(), Vec::new());
            let mut cuts = 0_i64;
            // A node joins when the others have caught up with each other.
            for step in plan(seed, 60, 2 + (seed % 3) as usize, &Exercise::ALL) {
                let away = |node: &usize| down.contains(node) || paused.contains(node);
                match step.action {
                    Action::Stop { node, .. } => {
                        assert!(!away(&node), "seed {seed}: {step}");
                        down.push(node);
                    }
                    Action::Start { node } => down.retain(|one| *one != node),
                    Action::Pause { node, .. } => {
                        assert!(!away(&node), "seed {seed}: {step}");
                        paused.push(node);
                    }
                    Action::Resume { node } => paused.retain(|one| *one != node),
                    Action::Kill { node, .. }
                    | Action::Clock { node, .. }
                    | Action::Checkpoint { node }
                    | Action::Freeze { node } => assert!(!away(&node), "seed {seed}: {step}"),
                    Action::Join { .. } | Action::Complete | Action::Leave => {
                        assert!(down.is_empty() && paused.is_empty() && cuts == 0, "seed {seed}: {step}");
                    }
                    Action::Cut { one, other, how } => {
                        assert!(one != other && (how != Cut::Disabled || !away(&one)), "seed {seed}: {step}");
                        cuts += 1;
                    }
                    Action::Heal { one, how, .. } => {
                        assert!(how != Cut::Disabled || !away(&one), "seed {seed}: {step}");
                        cuts -= 1;
                    }
                }
            }
            assert!(down.is_empty() && paused.is_empty() && cuts == 0, "seed {seed}");
        }
    }
}
