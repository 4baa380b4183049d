//! F19: a node's process gets a fifth of one processor.

use std::time::Duration;

use super::{Kind, Seen, hold, other_than};
use crate::Cluster;
use crate::chaos::Step;
use crate::lab::cgroup::CpuShare;

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "F19-slow-leader-cpu",
        changes_leader: false,
        mending: Duration::from_secs(2),
        play: |cluster, step| Box::pin(leader(cluster, step)),
    },
    Kind {
        name: "F19-slow-follower-cpu",
        changes_leader: false,
        mending: Duration::from_secs(2),
        play: |cluster, step| Box::pin(follower(cluster, step)),
    },
];

/// Of one processor.
const SHARE_PERCENT: u64 = 20;

async fn leader(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    starve(cluster, step, leader).await
}

async fn follower(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    starve(cluster, step, follower).await
}

async fn starve(cluster: &Cluster, step: &Step, node: usize) -> Seen {
    let process = cluster.nodes()[node].pid();
    let share = CpuShare::give(process, SHARE_PERCENT);
    let share = share.expect("root may make control groups");
    hold(step).await;
    let waits = share.waits();
    drop(share);
    assert!(waits > 0, "the process never waited for its share");
    Seen {
        counted: vec![("waits for the processor", waits)],
        violations: Vec::new(),
    }
}
