//! F4 and F5: the network between nodes is cut, in both directions or in one. Clients still reach
//! every node.

use std::time::Duration;

use super::{Kind, Seen, hold, host, other_than};
use crate::Cluster;
use crate::chaos::Step;

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "F4-isolate-leader",
        changes_leader: true,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(isolate_leader(cluster, step)),
    },
    Kind {
        name: "F4-isolate-follower",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(isolate_follower(cluster, step)),
    },
    Kind {
        name: "F4-isolate-all",
        changes_leader: false,
        mending: Duration::from_secs(6),
        play: |cluster, step| Box::pin(isolate_all(cluster, step)),
    },
    Kind {
        name: "F5-deaf-leader",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(deaf_leader(cluster, step)),
    },
    Kind {
        name: "F5-mute-leader",
        changes_leader: true,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(mute_leader(cluster, step)),
    },
    Kind {
        name: "F20-isolate-and-kill",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(isolate_and_kill(cluster, step)),
    },
];

async fn isolate_leader(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    isolate(cluster, step, &[leader]).await
}

async fn isolate_follower(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    isolate(cluster, step, &[follower]).await
}

async fn isolate_all(cluster: &mut Cluster, step: &Step) -> Seen {
    let all: Vec<usize> = (0..cluster.nodes().len()).collect();
    isolate(cluster, step, &all).await
}

async fn isolate(cluster: &Cluster, step: &Step, which: &[usize]) -> Seen {
    for node in which {
        cluster.network().isolate(host(cluster, *node));
    }
    hold(step).await;
    cluster.network().heal();
    Seen::default()
}

async fn deaf_leader(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    for other in others(cluster, leader) {
        cluster
            .network()
            .deafen(host(cluster, other), host(cluster, leader));
    }
    hold(step).await;
    cluster.network().heal();
    Seen::default()
}

async fn mute_leader(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    for other in others(cluster, leader) {
        cluster
            .network()
            .deafen(host(cluster, leader), host(cluster, other));
    }
    hold(step).await;
    cluster.network().heal();
    Seen::default()
}

/// F20: with the leader cut off, a follower dies, so that nobody has a quorum.
async fn isolate_and_kill(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    cluster.network().isolate(host(cluster, leader));
    cluster.nodes_mut()[follower].kill9();
    hold(step).await;
    cluster.network().heal();
    cluster.restart(&[follower]).await;
    Seen::default()
}

fn others(cluster: &Cluster, node: usize) -> impl Iterator<Item = usize> + use<> {
    (0..cluster.nodes().len()).filter(move |other| *other != node)
}
