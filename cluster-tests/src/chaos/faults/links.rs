//! F6: links between nodes lose packets, are slow, reset connections, or leave one side believing
//! in a connection that the other side has forgotten.

use std::time::Duration;

use super::{Kind, Seen, hold, host, other_than};
use crate::Cluster;
use crate::chaos::Step;

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: LOSS,
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(loss(cluster, step)),
    },
    Kind {
        name: "F6-resets",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(resets(cluster, step)),
    },
    Kind {
        name: "F6-slow-leader",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(slow_leader(cluster, step)),
    },
    Kind {
        name: "F6-slow-follower",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(slow_follower(cluster, step)),
    },
    Kind {
        name: HALF_OPEN,
        changes_leader: false,
        mending: Duration::from_secs(5),
        play: |cluster, step| Box::pin(half_open(cluster, step)),
    },
];

/// The one that needs packets.
pub(super) const LOSS: &str = "F6-loss";
/// The one that needs no tools of its own.
pub(super) const HALF_OPEN: &str = "F6-half-open";
/// Of a hundred packets, how many a bad link loses.
const LOSS_PERCENT: [u8; 4] = [5, 10, 20, 30];
/// Of a thousand packets, how many end their connection.
const RESETS_PER_MILLE: u16 = 20;
/// A slow link, in kbit a second: a thousandth of the usual one.
const SLOW_KBIT: u32 = 1_000;

/// Every link loses packets.
async fn loss(cluster: &mut Cluster, step: &Step) -> Seen {
    let percent = LOSS_PERCENT[step.pick(LOSS_PERCENT.len())];
    for node in 0..cluster.nodes().len() {
        cluster.packets().lose(host(cluster, node), percent);
    }
    bad_links(cluster, step, "packets lost").await
}

/// Connections end all the time.
async fn resets(cluster: &mut Cluster, step: &Step) -> Seen {
    for node in 0..cluster.nodes().len() {
        cluster
            .network()
            .reset(host(cluster, node), RESETS_PER_MILLE);
    }
    bad_links(cluster, step, "connections reset").await
}

async fn slow_leader(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    cluster.network().slow(host(cluster, leader), SLOW_KBIT);
    bad_links(cluster, step, "packets delayed").await
}

async fn slow_follower(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    cluster.network().slow(host(cluster, follower), SLOW_KBIT);
    bad_links(cluster, step, "packets delayed").await
}

/// Keeps the links bad for a while. Panics if nothing met a bad link.
async fn bad_links(cluster: &Cluster, step: &Step, what: &'static str) -> Seen {
    hold(step).await;
    let hosts = 0..cluster.network().hosts();
    let hits = hosts.map(|host| cluster.network().hits(host)).sum();
    cluster.network().mend_links();
    assert!(hits > 0, "{what}: none");
    Seen {
        counted: vec![(what, hits)],
        violations: Vec::new(),
    }
}

/// A follower dies and comes back while nothing reaches it, so that nobody hears of it: the others
/// still believe in connections that it knows nothing of.
async fn half_open(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    cluster.network().isolate(host(cluster, follower));
    cluster.nodes_mut()[follower].kill9();
    hold(step).await;
    cluster.nodes_mut()[follower].spawn(&[]);
    cluster.network().heal();
    cluster.nodes_mut()[follower].ready().await;
    Seen::default()
}
