//! What is broken, and mended again. A file for each code; each names its kinds in `KINDS`.

mod answers;
mod clock;
mod consumers;
mod corrupt;
mod disk;
mod files;
mod full;
mod kill;
mod links;
mod members;
mod memory;
mod network;
mod overload;
mod pause;
mod power;
mod restart;
mod snapshots;
mod starve;
mod topology;

use std::fmt;
use std::time::Duration;

use super::{Setting, Step, Task};
use crate::{Cluster, lab};

/// All kinds, in the order of their codes.
const KINDS: [&[Kind]; 21] = [
    kill::KINDS,
    power::KINDS,
    pause::KINDS,
    network::KINDS,
    topology::KINDS,
    links::KINDS,
    disk::SLOW,
    disk::KINDS,
    disk::FAILING_SYNCS,
    full::KINDS,
    corrupt::KINDS,
    snapshots::KINDS,
    members::KINDS,
    restart::KINDS,
    clock::KINDS,
    answers::KINDS,
    consumers::KINDS,
    starve::KINDS,
    overload::KINDS,
    memory::KINDS,
    files::KINDS,
];

/// Those that break what lies between nodes.
const OF_NETWORKS: [&[Kind]; 3] = [network::KINDS, topology::KINDS, links::KINDS];

/// Those that need processes and connections and nothing else.
const WITHOUT_LAB: [&[Kind]; 5] = [
    kill::KINDS,
    pause::KINDS,
    restart::KINDS,
    answers::KINDS,
    consumers::KINDS,
];

/// A kind of fault. Whoever has one may copy it.
#[derive(Clone, Copy)]
pub struct Fault(&'static Kind);

/// What there is to know of a kind of fault.
struct Kind {
    /// Code and name, as the command line and the report spell them. The codes are those of
    /// `docs/testing.md`.
    name: &'static str,
    /// Must another leader come, if it lasts long enough?
    changes_leader: bool,
    /// About how long mending takes beyond the time it lasts; for planning only.
    mending: Duration,
    /// Breaks the cluster, keeps it broken for as long as the step says, and mends it. Panics if
    /// the fault took no effect.
    play: for<'a> fn(&'a mut Cluster, &'a Step) -> Task<'a, Seen>,
}

/// What a fault saw while it was played.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What it counted, for the report: name and count.
    pub counted: Vec<(&'static str, u64)>,
    /// Promises that were broken meanwhile.
    pub violations: Vec<String>,
}

impl Fault {
    /// All of them.
    pub fn all() -> Vec<Fault> {
        KINDS.into_iter().flatten().map(Fault).collect()
    }

    /// The fault of this name.
    #[cfg(test)]
    pub(super) fn of(name: &str) -> Fault {
        let found = Fault::all().into_iter().find(|fault| fault.name() == name);
        found.expect("there is such a fault")
    }

    /// Its code and name, as the command line and the report spell it.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The faults whose names begin with one of these; all for none.
    pub fn named(prefixes: &[String]) -> Vec<Fault> {
        let wanted = |fault: &Fault| {
            let name = fault.name();
            // "F1" must not mean F14 as well.
            let begins = |prefix: &String| {
                name == prefix.as_str() || name.starts_with(&format!("{prefix}-"))
            };
            prefixes.is_empty() || prefixes.iter().any(begins)
        };
        Fault::all().into_iter().filter(wanted).collect()
    }

    /// Must another leader come, if it lasts long enough?
    pub fn changes_leader(self) -> bool {
        self.0.changes_leader
    }

    /// About how long mending takes beyond the time it lasts; for planning only.
    pub fn mending(self) -> Duration {
        self.0.mending
    }

    /// Why it cannot be played on this machine in such a setting; none: it can.
    pub fn missing(self, setting: Setting) -> Option<String> {
        if self.needs_lab() && !setting.in_lab {
            return Some("it needs the lab".into());
        }
        if self.needs_network() && !setting.in_lab && lab::relays::missing().is_some() {
            return lab::relays::missing();
        }
        if self.is_of(topology::KINDS) && setting.nodes < topology::NODES_MIN {
            return Some(format!("it needs {} nodes", topology::NODES_MIN));
        }
        let needs_tools = setting.in_lab && self.name() != links::HALF_OPEN;
        if self.is_of(links::KINDS) && needs_tools {
            return lab::links::missing();
        }
        if self.needs_clocks() {
            return lab::clock::missing();
        }
        if self.is_of(disk::SLOW) {
            return lab::throttle::missing();
        }
        if self.is_of(disk::FAILING_SYNCS) {
            return lab::syncs::missing();
        }
        if self.is_of(starve::KINDS) {
            return lab::cgroup::missing();
        }
        if self.is_of(memory::KINDS) {
            return lab::memory::missing();
        }
        None
    }

    /// Must each node have a disk or a network of its own?
    fn needs_lab(self) -> bool {
        let without = WITHOUT_LAB.iter().any(|kinds| self.is_of(kinds));
        !without && (!self.needs_network() || self.name() == links::LOSS)
    }

    /// Must what lies between nodes be such that it can be broken: the lab, or relays?
    pub fn needs_network(self) -> bool {
        OF_NETWORKS.iter().any(|kinds| self.is_of(kinds))
    }

    /// Must the nodes have wall clocks of their own?
    pub fn needs_clocks(self) -> bool {
        self.is_of(clock::KINDS)
    }

    /// Must there be doors before the nodes?
    pub fn needs_doors(self) -> bool {
        self.is_of(answers::KINDS)
    }

    fn is_of(self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|kind| kind.name == self.name())
    }

    /// Breaks the cluster, keeps it broken for as long as the step says, and mends it. Panics if
    /// the fault took no effect: a run in which nothing broke shows nothing.
    pub async fn play(self, cluster: &mut Cluster, step: &Step) -> Seen {
        (self.0.play)(cluster, step).await
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for Fault {
    fn eq(&self, other: &Fault) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Fault {}

impl PartialOrd for Fault {
    fn partial_cmp(&self, other: &Fault) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Fault {
    fn cmp(&self, other: &Fault) -> std::cmp::Ordering {
        self.name().cmp(other.name())
    }
}

/// Keeps things as they are for a while.
async fn hold(step: &Step) {
    // sleep: how long a fault lasts is part of the schedule
    tokio::time::sleep(step.hold).await;
}

/// A node other than `leader`.
fn other_than(leader: usize, cluster: &Cluster, step: &Step) -> usize {
    let count = cluster.nodes().len();
    (leader + 1 + step.pick(count - 1)) % count
}

/// A node's place in the network between the nodes.
fn host(cluster: &Cluster, node: usize) -> u8 {
    cluster.nodes()[node].host()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_chosen_by_code_or_name() {
        let named = |names: &[&str]| {
            Fault::named(
                &names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(named(&[]), Fault::all());
        assert_eq!(named(&["F1"]).len(), 4);
        assert_eq!(named(&["F2-power-all"]), [Fault::of("F2-power-all")]);
        assert_eq!(named(&["F14", "F3"]).len(), 2);
        assert_eq!(named(&["F99"]), []);
    }

    #[test]
    fn without_the_lab_networks_are_broken_and_packets_and_disks_are_not() {
        let setting = Setting {
            nodes: 5,
            in_lab: false,
        };
        for (name, possible) in [
            ("F1-kill-leader", true),
            ("F2-power-all", false),
            ("F4-isolate-leader", true),
            ("F5-mute-leader", true),
            ("F5-ring", true),
            ("F6-loss", false),
            ("F6-resets", true),
            ("F6-slow-leader", true),
            ("F6-half-open", true),
            ("F20-isolate-and-kill", true),
        ] {
            assert_eq!(
                Fault::of(name).missing(setting).is_none(),
                possible,
                "{name}"
            );
        }
    }

    #[test]
    fn no_two_faults_have_one_name() {
        let names: std::collections::BTreeSet<_> = Fault::all().into_iter().collect();
        assert_eq!(names.len(), Fault::all().len());
    }
}
