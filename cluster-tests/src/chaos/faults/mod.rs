//! What is broken, and mended again.

mod kill;
mod network;
mod pause;
mod power;
mod restart;

use std::time::Duration;

use super::Step;
use crate::Cluster;

/// A kind of fault. The codes are those of `docs/testing.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The leader's process is killed.
    KillLeader,
    /// A follower's process is killed.
    KillFollower,
    /// Two of three are killed.
    KillMost,
    /// All are killed in the same moment.
    KillAll,
    /// One node's power fails.
    PowerOne,
    /// The power of all fails in the same moment.
    PowerAll,
    /// The leader's process is stopped, and goes on later.
    PauseLeader,
    /// The leader is cut off from the others.
    IsolateLeader,
    /// A follower is cut off from the others.
    IsolateFollower,
    /// Every node is cut off from every other.
    IsolateAll,
    /// The leader hears nobody, but is heard.
    DeafLeader,
    /// The leader is heard by nobody, but hears.
    MuteLeader,
    /// All nodes are told to end and started again, one after the other.
    RollingRestart,
    /// A follower is killed while the leader is cut off.
    IsolateAndKill,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 14] = [
        Fault::KillLeader,
        Fault::KillFollower,
        Fault::KillMost,
        Fault::KillAll,
        Fault::PowerOne,
        Fault::PowerAll,
        Fault::PauseLeader,
        Fault::IsolateLeader,
        Fault::IsolateFollower,
        Fault::IsolateAll,
        Fault::DeafLeader,
        Fault::MuteLeader,
        Fault::RollingRestart,
        Fault::IsolateAndKill,
    ];

    /// Its code and name, as the command line and the report spell it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::KillLeader => "F1-kill-leader",
            Fault::KillFollower => "F1-kill-follower",
            Fault::KillMost => "F1-kill-most",
            Fault::KillAll => "F1-kill-all",
            Fault::PowerOne => "F2-power-one",
            Fault::PowerAll => "F2-power-all",
            Fault::PauseLeader => "F3-pause-leader",
            Fault::IsolateLeader => "F4-isolate-leader",
            Fault::IsolateFollower => "F4-isolate-follower",
            Fault::IsolateAll => "F4-isolate-all",
            Fault::DeafLeader => "F5-deaf-leader",
            Fault::MuteLeader => "F5-mute-leader",
            Fault::RollingRestart => "F14-rolling-restart",
            Fault::IsolateAndKill => "F20-isolate-and-kill",
        }
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
        Fault::ALL.into_iter().filter(wanted).collect()
    }

    /// May a quorum be gone while it lasts? Then nothing is answered meanwhile.
    pub fn stops_writes(self) -> bool {
        matches!(
            self,
            Fault::KillMost
                | Fault::KillAll
                | Fault::PowerAll
                | Fault::IsolateAll
                | Fault::IsolateAndKill
        )
    }

    /// About how long mending takes beyond the time it lasts; for planning only.
    pub fn mending(self) -> Duration {
        match self {
            Fault::RollingRestart => Duration::from_secs(12),
            Fault::PowerAll | Fault::KillAll | Fault::IsolateAll => Duration::from_secs(6),
            _ => Duration::from_secs(3),
        }
    }

    /// Breaks the cluster, keeps it broken for as long as the step says, and mends it. Panics if
    /// the fault took no effect: a run in which nothing broke shows nothing.
    pub async fn play(self, cluster: &mut Cluster, step: &Step) {
        match self {
            Fault::KillLeader => kill::leader(cluster, step).await,
            Fault::KillFollower => kill::follower(cluster, step).await,
            Fault::KillMost => kill::most(cluster, step).await,
            Fault::KillAll => kill::all(cluster, step).await,
            Fault::PowerOne => power::one(cluster, step).await,
            Fault::PowerAll => power::all(cluster, step).await,
            Fault::PauseLeader => pause::leader(cluster, step).await,
            Fault::IsolateLeader => network::isolate_leader(cluster, step).await,
            Fault::IsolateFollower => network::isolate_follower(cluster, step).await,
            Fault::IsolateAll => network::isolate_all(cluster, step).await,
            Fault::DeafLeader => network::deaf_leader(cluster, step).await,
            Fault::MuteLeader => network::mute_leader(cluster, step).await,
            Fault::RollingRestart => restart::rolling(cluster).await,
            Fault::IsolateAndKill => network::isolate_and_kill(cluster, step).await,
        }
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

/// A node's place in the lab's network.
fn host(node: usize) -> u8 {
    u8::try_from(node).expect("a lab has few hosts")
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
        assert_eq!(named(&[]).len(), Fault::ALL.len());
        assert_eq!(named(&["F1"]).len(), 4);
        assert_eq!(named(&["F2-power-all"]), [Fault::PowerAll]);
        assert_eq!(named(&["F14", "F3"]).len(), 2);
        assert_eq!(named(&["F99"]), []);
    }
}
