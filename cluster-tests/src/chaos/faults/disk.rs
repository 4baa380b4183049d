//! F7 and F8: the disk under a running node is slow, stands still, or fails.

use std::time::Duration;

use super::{Kind, Seen, hold, other_than};
use crate::chaos::Step;
use crate::lab::syncs::FailingSyncs;
use crate::lab::throttle::Slow;
use crate::{Cluster, wait};

/// Kinds that need [`crate::lab::throttle`].
pub(super) const SLOW: &[Kind] = &[
    Kind {
        name: "F7-slow-leader-disk",
        changes_leader: false,
        mending: Duration::from_secs(2),
        play: |cluster, step| Box::pin(slow_leader(cluster, step)),
    },
    Kind {
        name: "F7-slow-follower-disk",
        changes_leader: false,
        mending: Duration::from_secs(2),
        play: |cluster, step| Box::pin(slow_follower(cluster, step)),
    },
];

/// Kinds that need no more than the lab.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "F8-stalled-leader-disk",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(stalled_leader(cluster, step)),
    },
    Kind {
        name: "F8-stalled-follower-disk",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(stalled_follower(cluster, step)),
    },
    Kind {
        name: "F8-dead-disk",
        changes_leader: false,
        mending: Duration::from_secs(4),
        play: |cluster, step| Box::pin(failing(cluster, step, Failure::Dead)),
    },
    Kind {
        name: "F8-read-only-disk",
        changes_leader: false,
        mending: Duration::from_secs(4),
        play: |cluster, step| Box::pin(failing(cluster, step, Failure::ReadOnly)),
    },
];

/// Kinds that need [`crate::lab::syncs`].
pub(super) const FAILING_SYNCS: &[Kind] = &[Kind {
    name: "F8-failing-syncs",
    changes_leader: false,
    mending: Duration::from_secs(4),
    play: |cluster, step| Box::pin(failing(cluster, step, Failure::Syncs)),
}];

/// Writes a second of a slow disk: from 20 to 49.
const SLOWEST: u32 = 20;
const SLOWNESS: u32 = 30;
/// What a disk may have taken beyond its rate: the limit counts in slices of time.
const BURST: u64 = 40;
/// A slow disk must not make the nodes elect leader after leader.
const TERMS_MAX: u64 = 3;
/// How long a leader may lead while its disk stands still.
const LEAVES_MAX: Duration = Duration::from_secs(6);
/// How long until the first thread of a node waits for a disk that stands still, and until a node
/// has ended whose disk fails.
const EFFECT_MAX: Duration = Duration::from_secs(20);

async fn slow_leader(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    slow(cluster, step, leader).await
}

async fn slow_follower(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    slow(cluster, step, follower).await
}

async fn slow(cluster: &Cluster, step: &Step, which: usize) -> Seen {
    let before = term(cluster).await;
    let rate = SLOWEST + step.choice % SLOWNESS;
    let slow = Slow::disk(&cluster.nodes()[which], rate);
    let started = std::time::Instant::now();
    hold(step).await;
    let (writes, most) = (
        slow.writes(),
        u64::from(rate) * (started.elapsed().as_secs() + 1) + BURST,
    );
    drop(slow);
    let writes = writes.expect("the machine counts what it limits");
    assert!(
        0 < writes && writes <= most,
        "{writes} writes in {:?} at {rate} a second",
        step.hold
    );
    let terms = term(cluster).await - before;
    let mut seen = counted("slow disks");
    seen.counted.push(("terms while a disk was slow", terms));
    if terms > TERMS_MAX {
        let what = format!("a slow disk: {terms} terms, more than {TERMS_MAX}");
        seen.violations.push(what);
    }
    seen
}

async fn stalled_leader(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let before = term(cluster).await;
    let mut seen = stalled(cluster, step, leader).await;
    if step.hold >= LEAVES_MAX && term(cluster).await == before {
        let what = format!(
            "liveness: a leader led {:?} with a disk that stood still",
            step.hold
        );
        seen.violations.push(what);
    }
    seen
}

async fn stalled_follower(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    stalled(cluster, step, follower).await
}

async fn stalled(cluster: &Cluster, step: &Step, which: usize) -> Seen {
    let node = &cluster.nodes()[which];
    let frozen = node.disk().freeze();
    wait::until("a thread waits for its disk", EFFECT_MAX, async || {
        node.waits_for_disk().then_some(())
    })
    .await;
    hold(step).await;
    drop(frozen);
    counted("disks that stood still")
}

/// How a disk fails.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// Every access.
    Dead,
    /// Every write.
    ReadOnly,
    /// Every sync of what was written.
    Syncs,
}

/// The disk of a node fails, so the node ends by itself; it comes back when the disk is as it was.
async fn failing(cluster: &mut Cluster, step: &Step, failure: Failure) -> Seen {
    let which = step.pick(cluster.nodes().len());
    let node = &mut cluster.nodes_mut()[which];
    let says = match failure {
        Failure::Dead | Failure::Syncs => "Input/output error",
        Failure::ReadOnly => "Read-only file system",
    };
    node.expect_failure(says);
    let mut syncs = None;
    match failure {
        Failure::Dead => node.disk().break_down(),
        Failure::ReadOnly => node.turn_disk_read_only().await,
        Failure::Syncs => syncs = Some(FailingSyncs::of(node)),
    }
    let status = node.ends(EFFECT_MAX).await;
    drop(syncs);
    let last = node.last_words();
    assert!(
        status.code() == Some(1) && last.contains("had to stop") && last.contains(says),
        "{failure:?}: {status}: {last}"
    );
    hold(step).await;
    cluster.nodes()[which].disk().power_on().await;
    cluster.restart(&[which]).await;
    counted("nodes that ended with their disk")
}

async fn term(cluster: &Cluster) -> u64 {
    let client = cluster.client();
    wait::until("the cluster says its term", EFFECT_MAX, async || {
        client.cluster_status().await.ok().map(|status| status.term)
    })
    .await
}

fn counted(what: &'static str) -> Seen {
    Seen {
        counted: vec![(what, 1)],
        violations: Vec::new(),
    }
}
