//! F19: a node's process gets a tenth of one processor.

use std::time::Duration;

use super::{Kind, Seen, hold, other_than};
use crate::chaos::Step;
use crate::lab::cgroup::CpuShare;
use crate::{Cluster, wait};

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
const SHARE_PERCENT: u64 = 10;
/// How long a process may take to use up its share.
const WAIT_MAX: Duration = Duration::from_secs(30);

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
    // Where the whole machine is busy it may get less than that anyway, for a while.
    wait::until("a process waits for its share", WAIT_MAX, async || {
        (share.waits() > 0).then_some(())
    })
    .await;
    let waits = share.waits();
    drop(share);
    Seen {
        counted: vec![("waits for the processor", waits)],
        violations: Vec::new(),
    }
}
