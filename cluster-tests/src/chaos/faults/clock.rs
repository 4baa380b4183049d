//! F15: a node's wall clock is set an hour forth or back, once or again and again. Leases go by the
//! log's own clock and must not notice.

use std::time::{Duration, Instant};

use super::{Kind, Seen, hold, other_than};
use crate::chaos::Step;
use crate::{Cluster, wait};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "F15-jump-leader",
        changes_leader: false,
        mending: Duration::from_secs(2),
        play: |cluster, step| Box::pin(jump_leader(cluster, step)),
    },
    Kind {
        name: "F15-jump-follower",
        changes_leader: false,
        mending: Duration::from_secs(2),
        play: |cluster, step| Box::pin(jump_follower(cluster, step)),
    },
    Kind {
        name: "F15-strobe-leader",
        changes_leader: false,
        mending: Duration::from_secs(2),
        play: |cluster, step| Box::pin(strobe_leader(cluster, step)),
    },
];

/// How far a clock is set, in seconds.
const JUMP: i64 = 3_600;
/// How long a strobing clock stays where it is.
const STROBE: Duration = Duration::from_millis(150);
/// How long the others may take to see that a clock is off.
const NOTICE_MAX: Duration = Duration::from_secs(20);

fn way(step: &Step) -> i64 {
    match step.pick(2) {
        0 => JUMP,
        _ => -JUMP,
    }
}

async fn jump_leader(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    jump(cluster, step, leader).await
}

async fn jump_follower(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    jump(cluster, step, follower).await
}

async fn jump(cluster: &Cluster, step: &Step, node: usize) -> Seen {
    let clock = cluster.nodes()[node].clock();
    clock.set(way(step));
    is_off(cluster, node).await;
    hold(step).await;
    clock.set(0);
    Seen {
        counted: vec![("clocks set", 1)],
        violations: Vec::new(),
    }
}

async fn strobe_leader(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let clock = cluster.nodes()[leader].clock();
    clock.set(way(step));
    is_off(cluster, leader).await;
    let (started, mut set) = (Instant::now(), 1);
    while started.elapsed() < step.hold {
        let odd = set % 2 == 1;
        clock.set(if odd { -way(step) } else { way(step) });
        set += 1;
        // sleep: how fast the clock strobes is part of the fault
        tokio::time::sleep(STROBE).await;
    }
    clock.set(0);
    Seen {
        counted: vec![("clocks set", set)],
        violations: Vec::new(),
    }
}

/// Waits until another node sees that this one's clock is off: a clock that nobody reads shows
/// nothing.
async fn is_off(cluster: &Cluster, node: usize) {
    let rpc = cluster.nodes()[node].rpc.to_string();
    let other = cluster.client().pinned_to(node + 1);
    wait::until("a clock is seen to be off", NOTICE_MAX, async || {
        let status = other.cluster_status().await.ok()?;
        let member = status.members.iter().find(|member| member.rpc == rpc)?;
        let ahead = member.clock_ahead_ms?;
        (ahead.unsigned_abs() > JUMP.unsigned_abs() * 500).then_some(())
    })
    .await;
}
